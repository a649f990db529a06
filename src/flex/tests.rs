use proptest::prelude::*;
use serde_json::json;

use super::*;

fn data() -> Data<'static> {
    BTreeMap::from([
        ("name", "Aiko \"A\" {{url}}"),
        ("evil", "x@evil.example/?a=b#c"),
        ("url", "https://members.example.jp/"),
        ("script", "javascript:alert(1)"),
        ("spaced", "https://a.example/ b"),
    ])
}

#[test]
fn fills_texts_once() {
    for (template, expected) in [
        (json!("Hello {{name}}!"), json!("Hello Aiko \"A\" {{url}}!")),
        (json!("{{ name }}"), json!("Aiko \"A\" {{url}}")),
        (json!("no placeholder, one { brace }"), json!("no placeholder, one { brace }")),
        (
            json!({"{{name}}": [1, true, null, "{{url}}"]}),
            json!({"{{name}}": [1, true, null, "https://members.example.jp/"]}),
        ),
        (json!(""), json!("")),
    ] {
        assert_eq!(render(&template, &data()), Ok(expected), "{template}");
    }
}

#[test]
fn a_value_never_chooses_where_a_link_leads() {
    let encoded = "x%40evil.example%2F%3Fa%3Db%23c";
    for (link, expected) in [
        ("https://a.example/{{evil}}", Ok(format!("https://a.example/{encoded}"))),
        ("https://a.example?q={{evil}}", Ok(format!("https://a.example?q={encoded}"))),
        ("{{url}}", Ok("https://members.example.jp/".to_owned())),
        ("{{url}}/account?x={{evil}}", Ok(format!("https://members.example.jp/account?x={encoded}"))),
        ("tel:0312345678", Ok("tel:0312345678".to_owned())),
        ("https://a.example{{evil}}", Err(RenderError::OpenHost("https://a.example{{evil}}".into()))),
        ("https:///{{evil}}", Err(RenderError::OpenHost("https:///{{evil}}".into()))),
        ("https://{{evil}}/x", Err(RenderError::OpenHost("https://{{evil}}/x".into()))),
        ("{{url}}{{evil}}", Err(RenderError::OpenHost("{{url}}{{evil}}".into()))),
        ("{{url}}.evil.example", Err(RenderError::OpenHost("{{url}}.evil.example".into()))),
        ("{{script}}", Err(RenderError::NotALink("script".into()))),
        ("{{evil}}", Err(RenderError::NotALink("evil".into()))),
        ("{{spaced}}", Err(RenderError::NotALink("spaced".into()))),
    ] {
        for key in ["uri", "url", "linkUri", "previewImageUrl"] {
            let rendered = render(&json!({ key: link }), &data());
            assert_eq!(rendered, expected.clone().map(|link| json!({ key: link })), "{link}");
        }
    }
}

#[test]
fn names_what_is_missing() {
    assert_eq!(render(&json!("{{nobody}}"), &data()), Err(RenderError::Unknown("nobody".into())));
    for broken in ["{{", "{{}}", "{{a b}}", "{{name}", "{{{name}}}"] {
        assert_eq!(render(&json!(broken), &data()), Err(RenderError::Braces(broken.into())), "{broken}");
    }
    assert_eq!(RenderError::Unknown("x".into()).to_string(), "the placeholder {{x}} has no value");
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

proptest! {
    #[test]
    fn a_name_never_changes_the_shape(name in "[\"{}\\\\\n\r\t:,\\[\\]a-z\u{3042}]{0,40}") {
        let template = json!({
            "type": "flex",
            "altText": "Welcome, {{name}}",
            "contents": { "body": [{ "text": "{{name}}{{name}}", "action": { "uri": "https://a.example/?n={{name}}" } }] },
        });
        let rendered = render(&template, &BTreeMap::from([("name", name.as_str())])).unwrap();
        prop_assert_eq!(shape(&rendered), shape(&template));
        prop_assert_eq!(rendered["altText"].as_str().unwrap(), format!("Welcome, {name}"));
        let text = rendered.to_string();
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), rendered.clone(), "as JSON text and back");
        let link = rendered["contents"]["body"][0]["action"]["uri"].as_str().unwrap();
        let link = Url::parse(link).unwrap();
        prop_assert_eq!(link.host_str(), Some("a.example"));
        prop_assert_eq!(link.query_pairs().next().map(|(_, value)| value.into_owned()), Some(name));
    }
}
