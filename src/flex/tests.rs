use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use super::*;

fn tokyo() -> TimeZone {
    TimeZone::get("Asia/Tokyo").unwrap()
}

fn in_locale(tree: &Value, data: &Value, locale: &str) -> Result<Value, String> {
    let template = Template::tree(tree).map_err(|mistakes| mistakes[0].to_string())?;
    let text = template.render(data, &Context { zone: &tokyo(), locale }).map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
}

fn render(tree: &Value, data: &Value) -> Result<Value, String> {
    in_locale(tree, data, "en")
}

fn mistakes(file: &Value) -> Vec<String> {
    Template::compile(file).err().unwrap_or_default().iter().map(Mistake::to_string).collect()
}

fn data() -> Value {
    json!({
        "name": "Aiko \"A\" {{url}}",
        "evil": "x@evil.example/?a=b#c",
        "url": "https://members.example.jp/",
        "script": "javascript:alert(1)",
        "spaced": "https://a.example/ b",
        "line": "line://ti/p/@evil",
        "relative": "//evil.example",
        "user": "https://good.example@evil.example/",
        "password": "https://:x@evil.example/",
        "back": "https://good.example\\@evil.example",
        "at": "https://@evil.example/",
        "mail": "user@evil.example",
        "open": "http://evil.example/",
        "here": "http://localhost:8080/account",
        "opaque": "https:evil.example",
        "empty_host": "https:///evil.example",
        "data": "data:text/html,x",
        "member": { "name": "https://evil.example/" },
        "empty": "",
        "nothing": null,
        "count": 3,
        "paid": true,
        "items": [{ "label": "Tea", "price": 1200 }, { "label": "Cake", "price": 980 }],
        "none": [],
    })
}

#[test]
fn fills_texts_once() {
    for (template, expected) in [
        (json!("Hello {{name}}!"), json!("Hello Aiko \"A\" {{url}}!")),
        (json!("{{ name }}"), json!("Aiko \"A\" {{url}}")),
        (json!("no placeholder, one { brace }, }}"), json!("no placeholder, one { brace }, }}")),
        (json!({"a": [1, true, null, "{{url}}"]}), json!({"a": [1, true, null, "https://members.example.jp/"]})),
        (json!(""), json!("")),
        (json!("{{count}}"), json!("3")),
        (json!("a\"\\\n\u{1}é{{empty}}"), json!("a\"\\\n\u{1}é")),
        (
            json!("{{url}} {{count}} {{name}} {{evil}} {{url}}"),
            json!("https://members.example.jp/ 3 Aiko \"A\" {{url}} x@evil.example/?a=b#c https://members.example.jp/"),
        ),
    ] {
        assert_eq!(render(&template, &data()), Ok(expected), "{template}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn j02_a_value_never_chooses_where_a_link_leads() {
    let encoded = "x%40evil.example%2F%3Fa%3Db%23c";
    let open = |link: &str| Err(format!("must fix the scheme and host of its link: {link}"));
    let no_link = |name: &str| Err(format!("{{{{{name}}}}} begins a link and must be a whole https URL"));
    for (link, expected) in [
        ("https://a.example/{{evil}}", Ok(format!("https://a.example/{encoded}"))),
        ("https://a.example?q={{evil}}", Ok(format!("https://a.example?q={encoded}"))),
        ("https://a.example/{{script}}", Ok("https://a.example/javascript%3Aalert%281%29".to_owned())),
        ("{{url}}", Ok("https://members.example.jp/".to_owned())),
        ("{{url}}/account?x={{evil}}", Ok(format!("https://members.example.jp/account?x={encoded}"))),
        ("tel:0312345678", Ok("tel:0312345678".to_owned())),
        ("https://a.example{{evil}}", open("https://a.example{{evil}}")),
        ("https:///{{evil}}", open("https:///{{evil}}")),
        ("https://{{evil}}/x", open("https://{{evil}}/x")),
        ("{{url}}{{evil}}", open("{{url}}{{evil}}")),
        ("{{url}}.evil.example", open("{{url}}.evil.example")),
        ("tel:{{evil}}", open("tel:{{evil}}")),
        ("javascript://a/{{evil}}", open("javascript://a/{{evil}}")),
        ("line://app/{{evil}}", Ok(format!("line://app/{encoded}"))),
        ("{{script}}", no_link("script")),
        ("{{evil}}", no_link("evil")),
        ("{{spaced}}", no_link("spaced")),
        ("{{line}}", no_link("line")),
        ("{{relative}}", no_link("relative")),
        ("{{user}}", no_link("user")),
        ("{{password}}", no_link("password")),
        ("{{back}}", no_link("back")),
        ("{{at}}", no_link("at")),
        ("{{mail}}", no_link("mail")),
        ("{{open}}", no_link("open")),
        ("{{opaque}}", no_link("opaque")),
        ("{{empty_host}}", no_link("empty_host")),
        ("{{data}}", no_link("data")),
        ("{{script}}/x", no_link("script")),
        ("{{user}}?x=1", no_link("user")),
        ("{{nothing | default: 'javascript:alert(1)'}}", no_link("nothing")),
        ("{{here}}", Ok("http://localhost:8080/account".to_owned())),
        ("https://a.example/?n={{member.name}}", Ok("https://a.example/?n=https%3A%2F%2Fevil.example%2F".to_owned())),
        ("{{member.name}}", open("{{member.name}}")),
        ("{{member.name}}/x", open("{{member.name}}/x")),
    ] {
        for key in [
            "uri",
            "url",
            "linkUri",
            "previewImageUrl",
            "previewUrl",
            "originalContentUrl",
            "thumbnailImageUrl",
            "imageUrl",
            "iconUrl",
            "baseUrl",
        ] {
            let rendered = render(&json!({ key: link }), &data());
            match &expected {
                Err(text) if text.starts_with("must fix") => {
                    let error = rendered.unwrap_err();
                    assert!(error.starts_with(&format!("{key}: ")) && error.contains("must fix the scheme"), "{error}");
                }
                expected => assert_eq!(rendered, expected.clone().map(|link| json!({ key: link })), "{link}"),
            }
        }
    }
    let desktop = json!({ "altUri": { "desktop": { "$if": "paid", "$then": "{{script}}", "$else": "x" } } });
    assert!(render(&desktop, &data()).is_err(), "also behind a condition");
    let shops = json!([{ "$for": "member in shops", "$do": { "uri": "{{member.url}}" } }]);
    let data = json!({ "shops": [{ "url": "https://a.example" }] });
    assert_eq!(render(&shops, &data), Ok(json!([{ "uri": "https://a.example" }])), "a member of a list is nobody");
}

/// Every byte at every place of a text of every length that is looked at in another way.
#[test]
fn escapes_wherever_it_stands() {
    for length in 1..40 {
        for place in 0..length {
            for special in [
                "\"",
                "\\",
                "\u{1f}",
                "\n",
                "\u{0}",
                "\u{7f}",
                "!",
                "#",
                " ",
                "[",
                "]",
                "¢",
                "\u{a0}",
                "あ",
                "\u{20001}",
            ] {
                let mut text = "x".repeat(length);
                text.replace_range(place..=place, special);
                assert_eq!(render(&json!("{{text}}"), &json!({ "text": text })), Ok(json!(text)), "{text:?}");
            }
        }
    }
}

#[test]
fn names_what_is_missing() {
    for (text, error) in [
        ("{{nobody}}", "{{nobody}} has no value"),
        ("{{nothing}}", "{{nothing}} has no value"),
        ("{{name.first}}", "{{name.first}} has no value"),
        ("{{items}}", "{{items}} must be a text"),
        ("{{paid}}", "{{paid}} must be a text"),
        ("{{name | number}}", "{{name}} must be a number"),
        ("{{name | date}}", "{{name}} must be a date"),
    ] {
        assert_eq!(render(&json!(text), &data()), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn filters_write_numbers_dates_and_cuts() {
    let data = json!({
        "n": 1234567, "neg": -1234, "f": 1234.5, "text": "98765.4", "zero": 0, "small": 999,
        "at": "2026-11-20T09:30:00Z", "day": "2026-11-20", "civil": "2026-11-20T18:30",
        "long": "👨‍👩‍👧か\u{3099}ABC", "empty": "",
    });
    for (locale, text, expected) in [
        ("en", "{{n | number}}", "1,234,567"),
        ("en", "{{neg | number}}", "-1,234"),
        ("en", "{{f | number: 2}}", "1,234.50"),
        ("en", "{{f | number}}", "1,234.5"),
        ("en", "{{n | number: 2}}", "1,234,567.00"),
        ("en", "{{text | number: 2}}", "98,765.40"),
        ("en", "{{text | number: 0}}", "98,765"),
        ("en", "{{small | number}} {{zero | number}}", "999 0"),
        ("en", "{{at | date: '%Y-%m-%d %H:%M'}}", "2026-11-20 18:30"),
        ("en", "{{at | date}}", "20 November 2026"),
        ("en", "{{at | date: datetime}}", "Fri, 20 Nov 2026, 18:30"),
        ("ja", "{{at | date}}", "2026年11月20日"),
        ("ja", "{{at | date: datetime}}", "2026年11月20日(金) 18:30"),
        ("zh-TW", "{{at | date: datetime}}", "2026/11/20（五）18:30"),
        ("th", "{{at | date}}", "20 พฤศจิกายน 2569"),
        ("th", "{{at | date: datetime}}", "ศ. 20 พ.ย. 2569 18:30 น."),
        ("en", "{{at | date: time}}", "18:30"),
        ("en", "{{day | date}}", "20 November 2026"),
        ("en", "{{civil | date: time}}", "18:30"),
        ("en", "{{long | cut: 3}}", "👨‍👩‍👧か\u{3099}…"),
        ("en", "{{long | cut: 5}}", "👨‍👩‍👧か\u{3099}ABC"),
        ("en", "{{empty | cut: 1}}", ""),
        ("en", "{{gone | default: 'a }} | b'}}", "a }} | b"),
        ("en", "{{empty | default: x}}", "x"),
        ("en", "{{gone | cut: 3 | default: \"no one\"}}", "no one"),
        ("en", "{{gone | default: 'Somebody' | cut: 4}}", "Som…"),
    ] {
        assert_eq!(in_locale(&json!(text), &data, locale), Ok(json!(expected)), "{text}");
    }
}

#[test]
fn repeats_and_chooses() {
    let item = json!({ "$for": "item in items", "$do": { "t": "{{item.label}} {{count}}" } });
    for (tree, expected) in [
        (json!([item]), json!([{ "t": "Tea 3" }, { "t": "Cake 3" }])),
        (json!([item, 1]), json!([{ "t": "Tea 3" }, { "t": "Cake 3" }, 1])),
        (json!([1, item]), json!([1, { "t": "Tea 3" }, { "t": "Cake 3" }])),
        (json!([{ "$for": "x in none", "$do": 1 }]), json!([])),
        (json!([{ "$for": "x in none", "$do": 1 }, 2, { "$for": "x in none", "$do": 1 }]), json!([2])),
        (json!([{ "$for": "x in items", "$do": ["{{x.label}}", "-"] }]), json!(["Tea", "-", "Cake", "-"])),
        (
            json!([{ "$for": "x in items", "$do": [{ "$for": "y in items", "$do": "{{x.label}}{{y.label}}" }] }]),
            json!(["TeaTea", "TeaCake", "CakeTea", "CakeCake"]),
        ),
        (json!([{ "$if": "paid", "$then": "a" }, "b"]), json!(["a", "b"])),
        (json!([{ "$if": "not paid", "$then": "a" }, "b"]), json!(["b"])),
        (json!([{ "$if": "empty", "$then": "a", "$else": ["c", "d"] }]), json!(["c", "d"])),
        (json!({ "a": { "$if": "none", "$then": 1 } }), json!({})),
        (
            json!({ "a": { "$if": "none", "$then": 1 }, "b": { "$if": "items", "$then": [1] }, "c": 2 }),
            json!({ "b": [1], "c": 2 }),
        ),
        (json!({ "a": { "$if": "count == 3", "$then": "x", "$else": "y" } }), json!({ "a": "x" })),
        (json!({ "a": { "$if": "count != 3", "$then": "x", "$else": "y" } }), json!({ "a": "y" })),
        (
            json!({ "a": { "$if": "evil == 'no'", "$then": 1, "$else": { "$if": "paid == true", "$then": 2 } } }),
            json!({ "a": 2 }),
        ),
        (json!({ "a": { "$if": "gone == 'x'", "$then": 1, "$else": 2 } }), json!({ "a": 2 })),
        (
            json!([{ "$for": "x in items", "$do": { "$if": "x.price == 980", "$then": "{{x.label}}" } }]),
            json!(["Cake"]),
        ),
    ] {
        assert_eq!(render(&tree, &data()), Ok(expected), "{tree}");
    }
    assert_eq!(render(&json!([{ "$for": "x in gone", "$do": 1 }]), &data()), Err("{{gone}} has no value".into()));
    assert_eq!(render(&json!([{ "$for": "x in name", "$do": 1 }]), &data()), Err("{{name}} must be a list".into()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_mistake_has_its_path() {
    let bubble = |inner: Value| json!({ "type": "flex", "altText": "a", "contents": { "body": inner } });
    for (file, expected) in [
        (json!("text"), ": must be a LINE message object, or a list of one to five"),
        (json!([]), ": must be a LINE message object, or a list of one to five"),
        (json!({ "text": "a" }), ": is no LINE message object: it has no type"),
        (json!([{ "type": "flex", "contents": {} }]), "[0]: needs altText"),
        (json!([{ "type": "template", "altText": " " }]), "[0]: needs altText"),
        (json!([{ "type": "imagemap", "altText": 1 }]), "[0]: needs altText"),
        (bubble(json!("{{")), "contents.body: \"{{\" has a {{ without its }}"),
        (bubble(json!("{{}}")), "contents.body: {{}} is no placeholder"),
        (bubble(json!("{{a b}}")), "contents.body: {{a b}} is no placeholder"),
        (bubble(json!("{{{a}}}")), "contents.body: {{{a}} is no placeholder"),
        (bubble(json!("{{a..b}}")), "contents.body: {{a..b}} is no placeholder"),
        (bubble(json!("{{7*7}}")), "contents.body: {{7*7}} is no placeholder"),
        (bubble(json!("{{a | shout}}")), "contents.body: \"shout\" is no filter"),
        (bubble(json!("{{a | cut: 0}}")), "contents.body: cut: \"0\" is no count"),
        (bubble(json!("{{a | cut: 99999999999}}")), "contents.body: cut: "),
        (bubble(json!("{{a | number: 99}}")), "contents.body: number: \"99\""),
        (bubble(json!("{{a | date: '%Q!'}}")), "contents.body: date: "),
        (bubble(json!("{{a | date: '%99999Y'}}")), "contents.body: date: "),
        (bubble(json!("{{a | default}}")), "contents.body: default needs"),
        (bubble(json!("{{a | default: 'x}}")), "contents.body: \"{{a | default: 'x}}\" has a {{ without"),
        (bubble(json!({ "type": "{{a}}" })), "contents.body.type: a type is fixed"),
        (bubble(json!({ "{{a}}": 1 })), "contents.body.{{a}}: a name holds no placeholders"),
        (bubble(json!({ "$while": 1 })), "contents.body: $while stands in a list"),
        (bubble(json!({ "$for": "a in b", "$do": 1 })), "contents.body: $for stands in a list"),
        (bubble(json!([{ "$include": "x" }])), "contents.body[0]: $include stands"),
        (bubble(json!([{ "$for": "a of b", "$do": 1 }])), "contents.body[0].$for: \"a of b\" is no repetition"),
        (bubble(json!([{ "$for": "a in b" }])), "contents.body[0]: $for needs $do"),
        (bubble(json!([{ "$for": "a in b", "$do": 1, "x": 2 }])), "contents.body[0].x: stands beside $for"),
        (bubble(json!([{ "$if": "a" }])), "contents.body[0]: $if needs $then"),
        (bubble(json!([{ "$if": "a", "$then": 1, "$elif": 2 }])), "contents.body[0].$elif: stands beside $if"),
        (bubble(json!([{ "$if": "a == b", "$then": 1 }])), "contents.body[0].$if: \"a == b\" is no condition"),
        (bubble(json!([{ "$if": 1, "$then": 1 }])), "contents.body[0].$if: \"\" is no condition"),
        (bubble(json!({ "a": { "$if": "a", "$then": { "uri": "{{a}}b" } } })), "contents.body.a.$then.uri: "),
        (json!({ "$data": {}, "messages": { "type": "text", "text": "{{a}}" } }), "messages.text: a is not declared"),
        (
            json!({ "$data": { "a?": "text" }, "messages": { "type": "text", "text": "{{a}}" } }),
            "messages.text: a is optional",
        ),
        (
            json!({ "$data": { "a": "number" }, "messages": { "type": "text", "text": "{{a | date}}" } }),
            "messages.text: a is declared as a number, not as a date",
        ),
        (
            json!({ "$data": { "a": ["text"] }, "messages": { "type": "text", "text": "{{a}}" } }),
            "messages.text: a is declared as a list, which is no text",
        ),
        (
            json!({ "$data": { "a": "string" }, "messages": { "type": "text", "text": "x" } }),
            "$data.a: must be text, number",
        ),
        (
            json!({ "$data": { "a b": "text" }, "messages": { "type": "text", "text": "x" } }),
            "$data.a b: \"a b\" is no name",
        ),
        (json!({ "$data": [], "messages": { "type": "text", "text": "x" } }), "$data: must be an object"),
        (json!({ "$data": {}, "messages": [{ "type": "text", "text": "x" }], "more": 1 }), "more: stands beside $data"),
        (json!({ "$data": {} }), "messages: must be a LINE message object"),
    ] {
        let found = mistakes(&file);
        let expected = expected.strip_prefix(": ").unwrap_or(expected);
        assert!(found.iter().any(|mistake| mistake.starts_with(expected)), "{file}: {found:?}");
    }
}

/// Whoever writes templates has placeholders, conditions and repetitions, and each of them ends.
#[test]
fn j04_a_hostile_template_ends() {
    let deep = |levels: usize| (0..levels).fold(json!("x"), |tree, _| json!([tree]));
    let message = |text: Value| json!({ "type": "text", "text": text });
    assert!(mistakes(&message(deep(60))).iter().any(|mistake| mistake.contains("deeper than")));
    assert_eq!(mistakes(&message(deep(20))), Vec::<String>::new());
    let nested = |levels: usize| {
        (0..levels).fold(json!("x"), |inner, level| json!([{ "$for": format!("v{level} in list"), "$do": inner }]))
    };
    assert!(mistakes(&message(nested(4))).iter().any(|mistake| mistake.contains("at most 3 deep")));
    // Three lists within each other, with enough items to fill any memory.
    let list: Vec<Value> = (0..1000).map(Value::from).collect();
    let started = std::time::Instant::now();
    for inner in [json!("long ".repeat(1000)), json!({ "$if": "no", "$then": 1 })] {
        let tree = (0..3).fold(inner, |inner, level| json!([{ "$for": format!("v{level} in list"), "$do": inner }]));
        assert!(render(&tree, &json!({ "list": list })).is_err());
    }
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    let six = json!([{ "$for": "x in list", "$do": { "type": "text", "text": "a" } }]);
    let template = Template::compile(&six).unwrap();
    let context = Context { zone: &TimeZone::UTC, locale: "en" };
    for (count, expected) in [(0, false), (1, true), (5, true), (6, false)] {
        let data = json!({ "list": vec![1; count] });
        assert_eq!(template.render(&data, &context).is_ok(), expected, "{count} messages");
    }
    for expression in ["{{7*7}}", "{{env.HOME()}}", "{{ ''.__class__ }}", "{{a|safe}}", "{{include 'x'}}"] {
        assert!(!mistakes(&message(json!(expression))).is_empty(), "{expression}");
    }
}

/// What looks like a template in a value is text, also where LINE has placeholders of its own.
#[test]
fn j03_values_are_rendered_once() {
    for name in ["{{7*7}}", "{{name}}", "{% include 'x' %}", "{user}", "${x}", "{{url | cut: 3}}", "$if"] {
        let data = json!({ "name": name, "url": "https://a.example" });
        assert_eq!(render(&json!({ "type": "text", "text": "{{name}}" }), &data).unwrap()["text"], json!(name));
        let v2 = json!({ "type": "textV2", "text": "{user}: {{name}}", "substitution": { "user": {} } });
        let rendered = render(&v2, &data).unwrap();
        let doubled = name.replace('{', "{{").replace('}', "}}");
        assert_eq!(rendered["text"], json!(format!("{{user}}: {doubled}")), "{name}");
    }
}

#[test]
fn data_is_as_declared() {
    let file = json!({
        "$data": {
            "name": "text", "count": "number", "paid": "bool", "at": "date", "url": "url", "note?": "text",
            "shop?": { "name": "text", "phone?": "text" },
            "items": [{ "label": "text" }],
        },
        "messages": [{ "type": "text", "text": "{{name}} {{count | number}} {{at | date}} {{note | default: '-'}}" },
            { "$if": "shop", "$then": { "type": "text", "text": "{{shop.name}} {{shop.phone | default: ''}}" } },
            { "$for": "item in items", "$do": { "type": "text", "text": "{{item.label}}" } }],
    });
    let template = Template::compile(&file).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let good = json!({ "name": "A", "count": 1, "paid": false, "at": "2026-01-02", "url": "https://a.example",
        "items": [{ "label": "x" }], "more": "is not looked at" });
    let context = Context { zone: &TimeZone::UTC, locale: "en" };
    let text = template.render(&good, &context).unwrap();
    assert_eq!(text, r#"[{"text":"A 1 2 January 2026 -","type":"text"},{"text":"x","type":"text"}]"#);
    for (name, value, error) in [
        ("name", Value::Null, "{{name}} has no value"),
        ("name", json!(["A"]), "{{name}} must be a text"),
        ("count", json!("1"), "{{count}} must be a number"),
        ("paid", json!("yes"), "{{paid}} must be true or false"),
        ("at", json!("tomorrow"), "{{at}} must be a date"),
        ("url", json!("javascript:x"), "{{url}} must be a whole https URL"),
        ("shop", json!({}), "{{shop.name}} has no value"),
        ("shop", json!("x"), "{{shop}} must be an object"),
        ("items", json!({}), "{{items}} must be a list"),
        ("items", json!([{ "label": true }]), "{{items.label}} must be a text"),
    ] {
        let mut data = good.clone();
        data[name] = value;
        assert_eq!(template.render(&data, &context).unwrap_err().to_string(), error);
    }
}

/// The tree with every text emptied.
fn shape(tree: &Value) -> Value {
    match tree {
        Value::String(_) => Value::String(String::new()),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::Object(object) => Value::Object(object.iter().map(|(key, item)| (key.clone(), shape(item))).collect()),
        other => other.clone(),
    }
}

/// The tree with the plain placeholders replaced in its leaves: what rendering must give, in the simplest words.
fn substituted(tree: &Value, name: &str) -> Value {
    match tree {
        Value::String(text) => Value::String(text.replace("{{name}}", name)),
        Value::Array(list) => list.iter().map(|item| substituted(item, name)).collect(),
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, item)| (key.clone(), substituted(item, name))).collect())
        }
        other => other.clone(),
    }
}

/// The one template that all names are tried in.
fn compiled(file: &Value) -> &'static Template {
    static ONCE: std::sync::OnceLock<Template> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| Template::compile(file).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn j01_a_name_never_changes_the_shape(name in "([\"{}\\\\\n\r\t:,\\[\\]a-z\u{3042}\u{2028}\u{0}-\u{1f}]|\\PC|\",\"type\":\"uri\",\"uri\":\"https://evil){0,20}") {
        let tree = json!({
            "type": "flex",
            "altText": "Welcome, {{name}}",
            "contents": { "body": [{ "text": "{{name}}{{name}}" }, 1, null, { "{": "a\\\"{{name}}\n" }] },
        });
        let file = json!([tree, { "type": "text", "text": "{{name}}", "quickReply": { "uri": "https://a.example/?n={{name}}" } }]);
        let context = Context { zone: &TimeZone::UTC, locale: "en" };
        let text = compiled(&file).render(&json!({ "name": name }), &context).unwrap();
        let rendered: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(shape(&rendered), shape(&file));
        prop_assert_eq!(&rendered[0], &substituted(&tree, &name));
        prop_assert_eq!(rendered[1]["text"].as_str(), Some(&*name));
        let link = Url::parse(rendered[1]["quickReply"]["uri"].as_str().unwrap()).unwrap();
        prop_assert_eq!(link.host_str(), Some("a.example"));
        prop_assert_eq!(link.query_pairs().next().map(|(_, value)| value.into_owned()), Some(name));
    }
}

#[test]
fn finds_by_language() {
    for (tag, expected) in [
        ("ja", Some("ja")),
        ("ja-JP", Some("ja")),
        ("en_US", Some("en")),
        ("th", Some("th")),
        ("zh-Hant", Some("zh-TW")),
        ("zh-TW", Some("zh-TW")),
        ("zh-hant-HK", Some("zh-TW")),
        ("zh-HK", Some("zh-TW")),
        ("zh-Hans-HK", None),
        ("zh-CN", None),
        ("zh-SG", None),
        ("zh-Hant-CN", Some("zh-TW")),
        ("zh", Some("zh-TW")),
        ("fr", None),
        ("", None),
    ] {
        assert_eq!(language(tag), expected, "{tag}");
    }
    let shipped = Catalogue::load(None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(shipped.find("welcome", "ja-JP", "en").is_some());
    assert!(shipped.find("welcome", "fr", "fr").is_some(), "any is better than none");
    assert!(shipped.find("nothing", "ja", "en").is_none());
}
