//! Message templates: the shipped ones, the company's, the commands; and how messages are drawn on the phone.

#![allow(clippy::panic, clippy::too_many_lines, reason = "tables and a gallery; a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::Path,
};

use axum::http::StatusCode;
use jiff::tz::TimeZone;
use musubi::flex::{self, Catalogue, Context, LANGUAGES, preview};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    simulator::Line,
    support::{
        Engine,
        browser::{Browser, Screen},
        process::{Place, Process, run},
    },
};

/// What the shipped templates ask for, with a name that is no easy one.
fn data() -> Value {
    json!({
        "name": "愛子 \"A\"\n", "company": "Tsubaki Coffee", "email": "a***@example.jp", "link_id": "019f",
        "account_url": "https://members.example.jp/account",
        "password_url": "https://members.example.jp/password/change",
        "link_url": "https://members.example.jp/account-link?linkToken=x",
        "title": "Water drips from the ceiling", "at": "2026-11-20T09:30:00Z", "place": "Meguro", "note": "By the door",
        "url": "https://desk.example.jp/issues/1042", "number": "A-1042", "currency": "¥", "total": 3380,
        "items": [{ "label": "Drip bag", "quantity": 2, "price": 2400 }, { "label": "Cake", "price": 980 }],
        "paid_by": "LINE Pay", "urgency": "high", "unit": "Building B, 302", "contact": "Taro Suzuki",
        "phone": "03-1234-5678", "date": "2026-11-20T09:30:00Z", "reporter": "Jiro Sato", "status": "In progress",
    })
}

fn render(templates: &Catalogue, name: &str, language: &str, data: &Value) -> Value {
    let zone = TimeZone::get("Asia/Tokyo").unwrap();
    let template = templates.find(name, language, "en").unwrap();
    let text = template.render(data, &Context { zone: &zone, locale: language });
    serde_json::from_str(&text.unwrap_or_else(|error| panic!("{name}.{language}: {error}"))).unwrap()
}

/// A folder of templates.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

#[tokio::test]
async fn every_shipped_template_is_taken_by_line() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let files = flex::list(None).unwrap();
    let mut languages = BTreeMap::<String, BTreeSet<&str>>::new();
    for file in &files {
        assert!(file.compiled.is_ok(), "{file:?}");
        languages.entry(file.name.clone()).or_default().insert(file.language.unwrap());
    }
    let desk = BTreeSet::from(["en", "zh-TW"]);
    for (name, found) in &languages {
        let expected = if name.starts_with("issue_") { desk.clone() } else { LANGUAGES.into() };
        assert_eq!(*found, expected, "{name}");
    }
    assert!(languages.len() >= 27, "{languages:?}");
    let templates = Catalogue::load(None).unwrap();
    let mut few = data();
    for name in ["place", "note", "paid_by", "unit", "contact", "phone", "date", "reporter", "items"] {
        few.as_object_mut().unwrap().remove(name);
    }
    few["items"] = json!([]);
    few["urgency"] = json!("whatever");
    for (name, language) in languages.iter().flat_map(|(name, found)| found.iter().map(move |one| (name, *one))) {
        for data in [data(), few.clone()] {
            let messages = render(&templates, name, language, &data);
            let token = line.bot_token().await;
            let pushed = line.post("/v2/bot/message/push", &token, json!({ "to": user, "messages": messages })).await;
            assert_eq!(pushed.status, StatusCode::OK, "{name}.{language}: {}\n{messages:#}", pushed.text());
            line.pass(1000);
        }
    }
}

#[test]
fn an_issue_desk_is_told_what_it_needs() {
    let templates = Catalogue::load(None).unwrap();
    for (urgency, word, colour) in
        [("high", "緊急", "#C0262D"), ("normal", "一般", "#9A5B00"), ("low", "低", "#1F6B45"), ("P1", "P1", "#4B576D")]
    {
        let mut data = data();
        data["urgency"] = json!(urgency);
        for name in ["issue_new", "issue_reassigned"] {
            let message = &render(&templates, name, "zh-TW", &data)[0];
            let told = message["contents"].to_string();
            assert!(
                told.contains(&format!("\"color\":\"{colour}\"")) && told.contains(&format!("\"text\":\"{word}\"")),
                "{told}"
            );
            assert!(told.contains("A-1042") && told.contains("https://desk.example.jp/issues/1042"), "{told}");
            assert!(message["altText"].as_str().unwrap().contains("A-1042"), "{message}");
        }
    }
    let new = render(&templates, "issue_new", "zh-TW", &data())[0]["contents"]["body"].to_string();
    for told in ["Building B, 302", "Taro Suzuki", "03-1234-5678", "2026/11/20（五）18:30", "Jiro Sato", "separator"]
    {
        assert!(new.contains(told), "{told} in {new}");
    }
    let status = &render(&templates, "issue_status", "en", &data())[0];
    assert_eq!(status["type"], "text");
    let expected = "Issue A-1042: Water drips from the ceiling\n\nThe status is now: In progress\n\nhttps://desk.example.jp/issues/1042";
    assert_eq!(status["text"], expected);
}

#[test]
fn the_language_is_the_recipients_else_the_next_best() {
    let everybody = folder(&[("a.ja.json", text("ja")), ("a.json", text("all")), ("a.en.json", text("en"))]);
    let languages = folder(&[("a.ja.json", text("ja")), ("a.th.json", text("th")), ("welcome.th.json", text("own"))]);
    let (everybody, languages) =
        (Catalogue::load(Some(everybody.path())).unwrap(), Catalogue::load(Some(languages.path())).unwrap());
    for (templates, name, locale, default, expected) in [
        (&everybody, "a", "ja-JP", "en", "ja"),
        (&everybody, "a", "th", "en", "all"),
        (&everybody, "a", "fr", "ja", "all"),
        (&languages, "a", "th", "ja", "th"),
        (&languages, "a", "en", "ja", "ja"),
        (&languages, "a", "zh-Hant-TW", "en", "ja"),
        (&languages, "welcome", "ja", "ja", "own"),
    ] {
        let context = Context { zone: &TimeZone::UTC, locale };
        let found = templates.find(name, locale, default).unwrap().render(&json!({}), &context).unwrap();
        assert_eq!(found, json!([text(expected)]).to_string(), "{name} {locale} {default}");
    }
    assert!(everybody.find("b", "ja", "ja").is_none());
    assert!(languages.find("reminder", "ja", "ja").is_some(), "the other shipped ones stay");
}

#[tokio::test]
async fn a_broken_template_keeps_the_server_from_starting() {
    let place = Place::new(Engine::Sqlite).await;
    let templates = folder(&[
        ("good.json", text("{{name}}")),
        ("bad.ja.json", json!([{ "type": "text", "text": "{{name" }, { "type": "flex", "contents": { "$while": 1 } }])),
        ("bad.fr.json", text("x")),
    ]);
    fs::write(templates.path().join("worse.json"), "{").unwrap();
    let more = format!("listen = \"127.0.0.1:0\"\nmessages = {{ templates = {:?} }}", templates.path());
    let config = place.config("musubi.toml", "http://127.0.0.1:9", &more);
    let (code, told) = run(&["serve", "--config", &config]);
    assert_eq!(code, Some(1), "{told}");
    for mistake in [
        "bad.ja.json: [0].text: \"{{name\" has a {{ without its }}",
        "bad.ja.json: [1]: needs altText",
        "bad.ja.json: [1].contents: $while stands",
        "bad.fr.json: \"fr\" is no language",
        "worse.json: is not JSON",
    ] {
        assert!(told.contains(mistake), "{mistake} in {told}");
    }
    let (code, checked) = run(&["template", "check", "--config", &config]);
    assert_eq!(code, Some(1));
    assert!(checked.contains("✗ ") && checked.contains("bad.ja.json: [1]: needs altText"), "{checked}");
    assert!(checked.contains("good.json") && checked.contains("✓ welcome.ja.json (shipped)"), "{checked}");
    let folder = templates.path().to_str().unwrap();
    let (code, checked) = run(&["template", "check", "good", "--folder", folder]);
    assert_eq!((code, checked.lines().count()), (Some(0), 1), "{checked}");
    assert_eq!(run(&["template", "check", "nothing", "--folder", folder]).0, Some(1));
    place.end().await;
}

#[test]
fn the_commands_show_what_is_sent() {
    let templates = folder(&[(
        "hi.json",
        json!({ "$data": { "name": "text", "at": "date" },
        "messages": [text("Hi {{name}}"), text("{{at | date: datetime}}")] }),
    )]);
    let folder = templates.path().to_str().unwrap();
    let file = templates.path().join("data");
    let shown = |data: Value, more: &[&str]| {
        fs::write(&file, data.to_string()).unwrap();
        let data = file.to_str().unwrap();
        run(&[&["template", "render", "hi", "--folder", folder, "--data", data], more].concat())
    };
    let (code, told) = shown(json!({ "name": "\"愛\"", "at": "2026-11-20T09:30:00+09:00" }), &["--locale", "ja"]);
    assert_eq!(code, Some(0), "{told}");
    let limits = "within LINE's limits";
    let (note, told): (Vec<_>, Vec<_>) = told.lines().partition(|line| *line == limits);
    let messages: Value = serde_json::from_str(&told.concat()).unwrap();
    assert_eq!(messages, json!([text("Hi \"愛\""), text("2026年11月20日(金) 00:30")]));
    assert_eq!(note, [limits]);

    // What LINE would not take is shown all the same, with what is wrong.
    let (code, told) = shown(json!({ "name": "x".repeat(5000), "at": "2026-11-20" }), &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("LINE would not take this:") && told.contains("✗ $[0].text: "), "{told}");
    assert!(told.contains("Hi xxx") && !told.contains(limits), "{told}");

    // The folder counts, whatever configuration the environment names.
    let elsewhere = [("MUSUBI_CONFIG", "/nowhere/musubi.toml")];
    let data = file.to_str().unwrap();
    fs::write(&file, json!({ "name": "a", "at": "2026-11-20" }).to_string()).unwrap();
    for arguments in [
        &["template", "check", "hi", "--folder", folder][..],
        &["template", "render", "hi", "--folder", folder, "--data", data],
    ] {
        let (code, told) = Process::start_with(arguments, &elsewhere).end();
        assert_eq!(code, Some(0), "{told}");
    }
    for (data, more, wrong) in [
        (json!({ "at": "2026-11-20" }), &[][..], "{{name}} has no value"),
        (json!({ "name": "a", "at": 1 }), &[], "{{at}} must be a date"),
        (json!({ "name": "a", "at": "2026-11-20" }), &["--locale", "fr"], "\"fr\" is no language"),
    ] {
        let (code, told) = shown(data, more);
        assert!(code == Some(1) && told.contains(wrong), "{wrong} in {told}");
    }
}

/// What is logged of a failure names places, never what a person is called.
#[test]
fn j11_an_error_of_rendering_holds_no_value() {
    let templates = folder(&[
        ("number.json", text("{{v | number}}")),
        ("date.json", text("{{v | date}}")),
        ("link.json", json!({ "type": "text", "text": "x", "sender": { "iconUrl": "{{v}}" } })),
        ("declared.json", json!({ "$data": { "v": "url" }, "messages": [text("{{v}}")] })),
    ]);
    let templates = Catalogue::load(Some(templates.path())).unwrap();
    for name in ["number", "date", "link", "declared"] {
        let context = Context { zone: &TimeZone::UTC, locale: "en" };
        let data = json!({ "v": "Hanako\nlevel=ERROR" });
        let error = templates.find(name, "en", "en").unwrap().render(&data, &context).unwrap_err().to_string();
        assert!(error.contains("{{v}}") && !error.contains("Hanako") && !error.contains('\n'), "{error}");
    }
}

fn drawn(contents: &Value) -> String {
    preview::draw(contents, &|action| match action["type"].as_str() {
        Some("uri") => preview::Tap::Open(action["uri"].as_str().unwrap_or_default().to_owned()),
        _ => preview::Tap::Act { action: action.to_string(), what: "does".to_owned() },
    })
}

/// The elements of a drawing: each with the names of its attributes, whose values are quoted.
fn tags(html: &str) -> Vec<(String, Vec<String>)> {
    let opened = html.split('<').skip(1).filter(|rest| !rest.starts_with('/'));
    opened
        .map(|rest| {
            let inside = rest.split('>').next().unwrap();
            let unquoted: String = inside.split('"').step_by(2).collect();
            let mut words = unquoted.split_whitespace().map(|word| word.trim_end_matches('=').to_owned());
            (words.next().unwrap_or_default(), words.collect())
        })
        .collect()
}

/// Every value of a Flex message that could leave its place in the page: an attribute, a style, an element.
#[test]
fn j06_a_drawn_flex_message_is_text_and_known_styles() {
    let evil = [
        "\"><script>alert(1)</script>",
        "red;}</style><img src=x onerror=alert(1)>",
        "1px;background:url(//evil)",
        "javascript:alert(1)",
    ];
    let properties = [
        "text",
        "color",
        "backgroundColor",
        "borderColor",
        "borderWidth",
        "cornerRadius",
        "width",
        "height",
        "maxWidth",
        "paddingAll",
        "paddingStart",
        "margin",
        "spacing",
        "offsetTop",
        "position",
        "size",
        "align",
        "gravity",
        "weight",
        "style",
        "decoration",
        "aspectRatio",
        "aspectMode",
        "url",
        "previewUrl",
        "layout",
        "lineSpacing",
        "justifyContent",
        "alignItems",
        "type",
        "direction",
        "flex",
        "maxLines",
    ];
    for evil in evil {
        for kind in ["box", "text", "span", "button", "image", "icon", "video", "separator", "filler", "nothing"] {
            let mut part = json!({ "type": kind, "contents": [{ "type": "span", "text": evil, "color": evil }],
                "action": { "type": "postback", "label": evil, "data": evil },
                "background": { "type": "linearGradient", "angle": evil, "startColor": evil, "endColor": "#000000" } });
            for property in properties.into_iter().filter(|name| *name != "type") {
                part[property] = json!(evil);
            }
            let column = json!({ "type": "box", "layout": "baseline", "spacing": evil, "contents": [part, part] });
            let bubble = json!({ "type": "bubble", "size": evil, "direction": evil, "hero": part, "body": column,
                "styles": { "body": { "backgroundColor": evil, "separator": true, "separatorColor": evil } } });
            let html = drawn(&json!({ "type": "carousel", "contents": [bubble] }));
            for (tag, names) in tags(&html) {
                assert!(
                    ["div", "p", "span", "button", "a", "img", "video"].contains(&tag.as_str()),
                    "<{tag} in {html}"
                );
                // No value of these is a URL of the web, so nothing has one.
                let known = [
                    "class",
                    "style",
                    "dir",
                    "tabindex",
                    "role",
                    "form",
                    "name",
                    "value",
                    "title",
                    "controls",
                    "preload",
                    "playsinline",
                ];
                assert!(names.iter().all(|name| known.contains(&name.as_str())), "{tag} {names:?} in {html}");
            }
            for style in html.split(" style=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(!style.contains("evil") && !style.contains('<') && !style.contains('&'), "{style}");
            }
        }
    }
}

/// Pictures and links of a message are for the reader's own browser.
#[tokio::test]
async fn j08_drawing_a_message_fetches_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x.png", listener.local_addr().unwrap());
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let image = json!({ "type": "image", "url": url, "action": { "type": "uri", "label": "a", "uri": url } });
    let body = json!({ "to": user, "messages": [
        { "type": "flex", "altText": "a", "contents": { "type": "bubble", "hero": image } },
        { "type": "image", "originalContentUrl": url, "previewImageUrl": url },
        { "type": "text", "text": url, "sender": { "name": "Desk", "iconUrl": url } },
    ] });
    let token = line.bot_token().await;
    let pushed = line.post("/v2/bot/message/push", &token, body).await;
    assert_eq!(pushed.status, StatusCode::OK, "{}", pushed.text());
    let page = line.get(&format!("/_sim/phone/{user}"), "").await;
    assert!(page.text().matches(&url).count() >= 4, "{}", page.text());
    assert!(page.header("content-security-policy").contains("script-src 'self'"));
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

/// A Flex message with what most of them use.
fn gallery(base: &str) -> Vec<Value> {
    let picture = format!("{base}/_sim/static/person-1.svg");
    let text = |text: &str| json!({ "type": "text", "text": text });
    let go = json!({ "type": "uri", "label": "Website", "uri": "https://app.test/" });
    let star = json!({ "type": "icon", "url": picture, "size": "sm" });
    let cafe = json!({ "type": "bubble",
        "hero": { "type": "image", "url": picture, "size": "full", "aspectRatio": "20:13", "aspectMode": "cover", "backgroundColor": "#DDE6F5", "action": go },
        "body": { "type": "box", "layout": "vertical", "contents": [
            { "type": "text", "text": "Brown Cafe", "weight": "bold", "size": "xl" },
            { "type": "box", "layout": "baseline", "margin": "md", "contents": [star, star, star, star,
                { "type": "text", "text": "4.0", "size": "sm", "color": "#999999", "margin": "md", "flex": 0 }] },
            { "type": "box", "layout": "vertical", "margin": "lg", "spacing": "sm", "contents": [
                { "type": "box", "layout": "baseline", "spacing": "sm", "contents": [
                    { "type": "text", "text": "Place", "color": "#aaaaaa", "size": "sm", "flex": 1 },
                    { "type": "text", "text": "Miraina Tower, 4-1-6 Shinjuku, Tokyo", "wrap": true, "color": "#666666", "size": "sm", "flex": 5 }] },
                { "type": "box", "layout": "baseline", "spacing": "sm", "contents": [
                    { "type": "text", "text": "Time", "color": "#aaaaaa", "size": "sm", "flex": 1 },
                    { "type": "text", "text": "10:00 - 23:00", "wrap": true, "color": "#666666", "size": "sm", "flex": 5 }] }] }] },
        "footer": { "type": "box", "layout": "vertical", "spacing": "sm", "flex": 0, "contents": [
            { "type": "button", "style": "link", "height": "sm", "action": { "type": "message", "label": "CALL", "text": "call" } },
            { "type": "button", "style": "link", "height": "sm", "action": go },
            { "type": "box", "layout": "vertical", "margin": "sm", "contents": [] }] } });
    let card = |percent: &str, title: &str, colour: &str| {
        json!({ "type": "bubble", "size": "nano",
        "header": { "type": "box", "layout": "vertical", "backgroundColor": colour, "paddingTop": "19px", "paddingAll": "12px", "paddingBottom": "16px", "contents": [
            { "type": "text", "text": title, "color": "#ffffff", "size": "md" },
            { "type": "text", "text": percent, "color": "#ffffff", "size": "xs", "margin": "lg" },
            { "type": "box", "layout": "vertical", "backgroundColor": "#9FD8E36E", "height": "6px", "margin": "sm", "contents": [
                { "type": "box", "layout": "vertical", "width": percent, "height": "6px", "backgroundColor": "#0D8186", "contents": [{ "type": "filler" }] }] }] },
        "body": { "type": "box", "layout": "vertical", "spacing": "md", "paddingAll": "12px", "contents": [
            { "type": "text", "text": "Buy milk and lettuce before class", "color": "#8C8C8C", "size": "sm", "wrap": true }] },
        "styles": { "footer": { "separator": false } } })
    };
    let layered = json!({ "type": "bubble", "size": "kilo", "body": { "type": "box", "layout": "vertical", "paddingAll": "0px", "contents": [
        { "type": "image", "url": picture, "size": "full", "aspectMode": "cover", "aspectRatio": "2:2", "gravity": "top" },
        { "type": "box", "layout": "vertical", "position": "absolute", "offsetBottom": "0px", "offsetStart": "0px", "offsetEnd": "0px", "paddingAll": "20px", "paddingTop": "18px",
          "background": { "type": "linearGradient", "angle": "0deg", "startColor": "#03303AEE", "endColor": "#03303A33" }, "contents": [
            { "type": "text", "size": "xl", "color": "#ffffff", "weight": "bold", "text": "Brown's T-shirts" },
            { "type": "box", "layout": "baseline", "spacing": "lg", "contents": [
                { "type": "text", "text": "¥35,800", "color": "#ebebeb", "size": "sm", "flex": 0 },
                { "type": "text", "text": "¥75,000", "color": "#ffffffcc", "decoration": "line-through", "gravity": "bottom", "flex": 0, "size": "sm" }] },
            { "type": "box", "layout": "vertical", "borderWidth": "1px", "cornerRadius": "4px", "spacing": "sm", "borderColor": "#ffffff", "margin": "xxl", "height": "40px",
              "action": { "type": "postback", "label": "Add to cart", "data": "cart" }, "contents": [
                { "type": "filler" }, { "type": "text", "text": "Add to cart", "color": "#ffffff", "align": "center" }, { "type": "filler" }] }] },
        { "type": "box", "layout": "vertical", "position": "absolute", "cornerRadius": "20px", "offsetTop": "18px", "backgroundColor": "#ff334b", "offsetStart": "18px", "height": "25px", "width": "53px", "contents": [
            { "type": "text", "text": "SALE", "color": "#ffffff", "align": "center", "size": "xs", "offsetTop": "3px" }] }] } });
    let spans = json!({ "type": "bubble", "body": { "type": "box", "layout": "vertical", "spacing": "md", "contents": [
        { "type": "text", "wrap": true, "lineSpacing": "8px", "contents": [
            { "type": "span", "text": "Spans", "weight": "bold", "size": "xl", "color": "#C0262D" },
            { "type": "span", "text": " may be " }, { "type": "span", "text": "under", "decoration": "underline" },
            { "type": "span", "text": " or " }, { "type": "span", "text": "through", "decoration": "line-through" },
            { "type": "span", "text": ", or lean", "style": "italic" }] },
        { "type": "text", "text": "Three lines at most, however much was written here; the rest of this long text is cut off, and an ellipsis tells that it was so, as it does in LINE itself.", "wrap": true, "maxLines": 3, "size": "sm" },
        { "type": "text", "text": "One line only, cut where the room ends, for it does not wrap", "size": "sm" },
        { "type": "separator" },
        { "type": "box", "layout": "horizontal", "justifyContent": "space-between", "alignItems": "center", "contents": [
            { "type": "text", "text": "left", "flex": 0 }, { "type": "text", "text": "right", "flex": 0, "size": "xs" }] },
        { "type": "box", "layout": "horizontal", "spacing": "md", "contents": [
            { "type": "button", "style": "primary", "height": "sm", "action": { "type": "postback", "label": "Yes", "data": "y" } },
            { "type": "separator" },
            { "type": "button", "style": "secondary", "height": "sm", "action": { "type": "postback", "label": "No", "data": "n" } }] }] } });
    let flex = |contents: Value| json!({ "type": "flex", "altText": "Flex", "contents": contents });
    vec![
        flex(cafe),
        flex(
            json!({ "type": "carousel", "contents": [card("70%", "In Progress", "#27ACB2"), card("30%", "Pending", "#FF6B6E"), card("100%", "Done", "#A17DF5")] }),
        ),
        flex(layered),
        flex(spans),
        json!({ "type": "text", "text": "Hello $ and thank you", "emojis": [{ "index": 6, "productId": "5ac1bfd5040ab15980c9b435", "emojiId": "001" }], "sender": { "name": "Shop Ginza", "iconUrl": picture } }),
        json!({ "type": "textV2", "text": "Welcome, {user1}! {{braces}} {smile}", "substitution": {
            "user1": { "type": "mention", "mentionee": { "type": "user", "userId": "U0123456789abcdef0123456789abcdef" } }, "smile": { "type": "emoji", "productId": "p", "emojiId": "1" } } }),
        json!({ "type": "sticker", "packageId": "446", "stickerId": "1988" }),
        json!({ "type": "image", "originalContentUrl": picture, "previewImageUrl": picture }),
        json!({ "type": "video", "originalContentUrl": picture, "previewImageUrl": picture }),
        json!({ "type": "audio", "originalContentUrl": picture, "duration": 65000 }),
        json!({ "type": "location", "title": "Tokyo Station", "address": "1-9 Marunouchi, Chiyoda", "latitude": 35.6812, "longitude": 139.7671 }),
        json!({ "type": "imagemap", "baseUrl": picture, "altText": "Map", "baseSize": { "width": 1040, "height": 520 }, "actions": [
            { "type": "uri", "label": "West", "linkUri": "https://app.test/west", "area": { "x": 0, "y": 0, "width": 520, "height": 520 } },
            { "type": "message", "label": "East", "text": "east", "area": { "x": 520, "y": 0, "width": 520, "height": 520 } }] }),
        json!({ "type": "template", "altText": "Buttons", "template": { "type": "buttons", "thumbnailImageUrl": picture, "imageSize": "contain", "title": "Menu", "text": "Please choose", "defaultAction": go, "actions": [
            { "type": "postback", "label": "Buy", "data": "buy" }, go] } }),
        json!({ "type": "template", "altText": "Sure?", "template": { "type": "confirm", "text": "Are you sure?", "actions": [
            { "type": "message", "label": "Sure", "text": "yes" }, { "type": "message", "label": "Not yet", "text": "no" }] } }),
        json!({ "type": "template", "altText": "Carousel", "template": { "type": "carousel", "columns": [
            { "title": "One", "text": "The first", "thumbnailImageUrl": picture, "actions": [{ "type": "message", "label": "Take one", "text": "1" }] },
            { "title": "Two", "text": "The second", "thumbnailImageUrl": picture, "actions": [{ "type": "message", "label": "Take two", "text": "2" }] }] } }),
        json!({ "type": "template", "altText": "Pictures", "template": { "type": "image_carousel", "columns": [
            { "imageUrl": picture, "action": { "type": "message", "label": "This one", "text": "this" } },
            { "imageUrl": picture, "action": { "type": "message", "label": "That one", "text": "that" } }] } }),
        json!({ "type": "text", "text": "What next?", "quickReply": { "items": [
            { "type": "action", "imageUrl": picture, "action": { "type": "message", "label": "More", "text": "more" } },
            { "type": "action", "action": { "type": "location", "label": "Where I am" } }] } }),
        text("The end"),
    ]
}

/// A phone with every kind of message, at both widths; what can be pressed does what it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_draws_every_kind_of_message() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = line.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let push = async |messages: &[Value]| {
        line.pass(1000);
        let token = line.bot_token().await;
        let pushed = line.post("/v2/bot/message/push", &token, json!({ "to": user, "messages": messages })).await;
        assert_eq!(pushed.status, StatusCode::OK, "{}", pushed.text());
    };
    let templates = Catalogue::load(None).unwrap();
    let shipped = [
        ("welcome", "ja"),
        ("issue_new", "zh-TW"),
        ("issue_status", "zh-TW"),
        ("issue_reassigned", "en"),
        ("receipt", "en"),
        ("reminder", "th"),
        ("farewell", "ja"),
    ];
    let mut all: Vec<Value> = shipped
        .iter()
        .flat_map(|(name, language)| render(&templates, name, language, &data()).as_array().unwrap().clone())
        .collect();
    all.extend(gallery(&base));
    for (screen, name) in [(Screen::Phone, "phone"), (Screen::Desktop, "desktop")] {
        for messages in all.chunks(5) {
            push(messages).await;
        }
        let browser = Browser::start(screen).await;
        browser.goto(&format!("{base}/_sim/phone/{user}")).await;
        browser.wait_for_text("The end").await;
        // No element is wider than the phone, or runs out of its bubble.
        let wide = "const list = document.querySelector('.messages'); const most = list.getBoundingClientRect().right; \
            return [...list.querySelectorAll('.fx-bubble, .card, .balloon')].filter(e => !e.closest('.fx-carousel, .cards') \
            && (e.getBoundingClientRect().right > most + 1 || e.scrollWidth > e.clientWidth + 1)).map(e => e.outerHTML)";
        assert_eq!(browser.client.execute(wide, Vec::new()).await.unwrap(), json!([]));
        let styles = "return getComputedStyle([...document.querySelectorAll('.fx-text > p')].find(e => e.textContent === 'Brown Cafe')).fontWeight";
        assert_eq!(
            browser.client.execute(styles, Vec::new()).await.unwrap(),
            json!("700"),
            "styles hold under the policy"
        );
        let line = "return getComputedStyle(document.querySelector('.cards.buttons')).borderTopWidth";
        let line = browser.client.execute(line, Vec::new()).await.unwrap();
        assert_eq!(line, json!("0px"), "the line above the buttons is the card's, not the list's");
        // The list grows to its whole height, so that one picture shows it all.
        let grow = "const list = document.querySelector('.messages'); list.style.cssText = 'overflow:visible;flex:none'; \
            document.querySelector('.phone').style.height = 'auto'; return list.scrollHeight";
        let height = browser.client.execute(grow, Vec::new()).await.unwrap().as_u64().unwrap();
        if screen == Screen::Desktop {
            browser.client.set_window_size(1280, u32::try_from(height).unwrap_or(9000) + 500).await.unwrap();
            browser.client.execute(grow, Vec::new()).await.unwrap();
        }
        browser.screenshot(&format!("messages-{name}")).await;
        for (button, said) in [("Not yet", "no"), ("Take two", "2"), ("That one", "that"), ("East", "east")] {
            browser.goto(&format!("{base}/_sim/phone/{user}")).await;
            browser.click_text(button).await;
            browser.wait_for_text(&format!("{said} Unsend")).await;
        }
        browser.close().await;
    }
}

#[test]
fn the_documents_examples_are_templates() {
    let text = fs::read_to_string(Path::new("docs/templates.md")).unwrap();
    let examples: Vec<&str> = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let tree: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}"));
        flex::Template::compile(&tree).unwrap_or_else(|mistakes| panic!("{mistakes:?} in {example}"));
    }
}
