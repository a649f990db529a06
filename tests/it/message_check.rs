//! Messages: what is made of typed parts is right by LINE's rules, and what breaks a rule is told by our check and by
//! the simulator's, which know nothing of each other, at the same place.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use musubi::line::message::{
    Action, Emoji, Imagemap, Message, QuickReplyItem, Sender, Template, TextV2,
    action::{InputOption, Picker},
    check,
    imagemap::{Area, Spot},
    template::{Card, Picture},
    text::escape,
    url,
};
use serde_json::{Value, json};

use crate::simulator::Line;

const USER: &str = "U0123456789abcdef0123456789abcdef";
const PICTURE: &str = "https://app.test/picture.png";

/// The places at which the simulator finds fault, as paths of ours; and that it answers so for all ways of sending.
async fn lines_objections(line: &Line, token: &str, messages: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for way in ["reply", "push", "multicast", "narrowcast", "broadcast"] {
        let path = format!("/v2/bot/message/validate/{way}");
        let answer = line.post(&path, token, json!({ "messages": messages })).await;
        let found = answer.json();
        let details = found["details"].as_array().cloned().unwrap_or_default();
        if details.is_empty() {
            assert_eq!((answer.status, found), (StatusCode::OK, json!({})));
        } else {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert_eq!(found["message"], format!("The request body has {} error(s)", details.len()));
        }
        let places = details.iter().map(|detail| detail["property"].as_str().unwrap().replacen("messages", "$", 1));
        let places: BTreeSet<String> = places.collect();
        assert!(all.is_empty() || all == places);
        all = places;
    }
    all
}

fn our_objections(messages: &[Value]) -> BTreeSet<String> {
    let mistakes = check(messages);
    assert!(mistakes.iter().all(|mistake| !mistake.text.is_empty()));
    mistakes.into_iter().map(|mistake| mistake.path).collect()
}

/// Each message with the places where it is wrong.
async fn wrong(cases: Vec<(Value, &[&str])>) {
    let line = Line::open(None);
    let token = line.bot_token().await;
    for (message, places) in cases {
        let places: BTreeSet<String> = places.iter().map(|place| format!("$[0].{place}")).collect();
        let messages = [message];
        assert_eq!(our_objections(&messages), places, "our check of {}", messages[0]);
        assert_eq!(lines_objections(&line, &token, &messages).await, places, "LINE's of {}", messages[0]);
    }
}

fn buttons(actions: &Value) -> Value {
    json!({ "type": "template", "altText": "a", "template": { "type": "buttons", "text": "t", "actions": actions } })
}

fn flex(contents: &Value) -> Value {
    json!({ "type": "flex", "altText": "a", "contents": contents })
}

fn body(parts: &Value) -> Value {
    flex(&json!({ "type": "bubble", "body": { "type": "box", "layout": "vertical", "contents": parts } }))
}

/// One of each; the first five stand anywhere.
fn all_actions() -> [Action; 9] {
    [
        Action::uri("Open", url::in_external_browser("https://app.test/a?b=c").unwrap()),
        Action::message("Say", "hello"),
        Action::postback_saying("Book", "a=b", "Booked"),
        Action::pick("When?", "when", Picker::Datetime),
        Action::copy("Copy", "1234"),
        Action::Postback {
            label: Some("Write".to_owned()),
            data: String::new(),
            display_text: None,
            input_option: Some(InputOption::OpenKeyboard),
            fill_in_text: Some("Name:".to_owned()),
        },
        Action::Camera { label: "Photo".to_owned() },
        Action::CameraRoll { label: "Album".to_owned() },
        Action::Location { label: "Here".to_owned() },
    ]
}

fn a_bubble() -> Value {
    json!({
        "type": "bubble", "size": "giga", "direction": "ltr",
        "hero": { "type": "image", "url": PICTURE, "size": "full", "aspectRatio": "20:13", "aspectMode": "cover" },
        "body": { "type": "box", "layout": "vertical", "spacing": "md", "paddingAll": "10%", "contents": [
            { "type": "text", "text": "a", "size": "15px", "color": "#112233", "wrap": true, "flex": 0 },
            { "type": "text", "contents": [{ "type": "span", "text": "b", "weight": "bold" }] },
            { "type": "separator", "margin": "10px", "color": "#11223344" },
            { "type": "box", "layout": "baseline", "contents": [{ "type": "icon", "url": PICTURE }] },
        ] },
        "footer": { "type": "box", "layout": "horizontal", "contents": [
            { "type": "button", "style": "primary", "action": Action::uri("Open", "https://app.test") },
        ] },
    })
}

/// One of each, with everything on it.
fn one_of_each() -> Vec<Message> {
    let all_actions = all_actions();
    let quick = all_actions.clone().map(|action| QuickReplyItem::from(action).with_picture(PICTURE));
    let sender = Sender { name: Some("Desk".to_owned()), icon_url: Some(PICTURE.to_owned()) };
    let card = || Card {
        thumbnail_image_url: Some(PICTURE.to_owned()),
        title: Some("Title".to_owned()),
        text: "Text".to_owned(),
        default_action: Some(Action::uri("Open", "https://app.test")),
        actions: all_actions[..3].to_vec(),
    };
    let area = Area { x: 0, y: 0, width: 1040, height: 520 };
    let spots = vec![
        Spot::Uri { link_uri: "tel:0312345678".to_owned(), area },
        Spot::Message { text: "hi".to_owned(), area },
        Spot::Clipboard { clipboard_text: "1".to_owned(), area },
    ];
    let picture = Picture { image_url: PICTURE.to_owned(), action: Action::postback("Yes", "y") };
    let bubble = a_bubble();
    let text = "😀 $ and $";
    vec![
        Message::text("花子さん").quick_replies(quick).sent_by(sender),
        Message::text_with_emoji(text, Emoji::for_dollars(text, [("5ac1bfd5040ab15980c9b435", "001"); 2])),
        Message::text_quoting("yes", "q"),
        TextV2::new(format!("{{who}} {} {{smile}}", escape("{a}")))
            .mention("who", USER)
            .emoji("smile", "p", "1")
            .into(),
        TextV2::new("{all}").mention_all("all").into(),
        Message::sticker("446", "1988"),
        Message::image(PICTURE, PICTURE),
        Message::video("https://app.test/v.mp4", PICTURE, Some("track".to_owned())),
        Message::audio("https://app.test/a.m4a", 1000),
        Message::location("Desk", "1-2-3", 35.6, 139.7),
        Imagemap::new("https://app.test/map", "Map", 520, spots).into(),
        Message::template("Choose", Template::buttons("Which?", &all_actions[1..5])),
        Message::template("Choose", Template::Buttons(card())),
        Message::template(
            "Sure?",
            Template::confirm("Sure?", [Action::postback("Yes", "y"), Action::postback("No", "n")]),
        ),
        Message::template("Choose", Template::Carousel { columns: vec![card(), card()] }),
        Message::template("Look", Template::ImageCarousel { columns: vec![picture] }),
        Message::flex("Points", bubble.clone()),
        Message::flex("Points", json!({ "type": "carousel", "contents": [bubble.clone(), bubble] })),
        Message::coupon("01JYNW8JMQVFBNWF1APF8Z3FS7"),
    ]
}

#[tokio::test]
async fn what_is_made_of_typed_parts_is_right() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    for message in one_of_each() {
        let messages = [message.to_json()];
        assert_eq!(check(&messages), [], "{}", messages[0]);
        assert_eq!(lines_objections(&line, &token, &messages).await, BTreeSet::new(), "{}", messages[0]);
    }
}

#[tokio::test]
async fn a_request_holds_one_to_five_messages_of_two_megabytes() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    let text = json!({ "type": "text", "text": "a" });
    for count in [0, 6] {
        let messages = vec![text.clone(); count];
        assert_eq!(our_objections(&messages), BTreeSet::from(["$".to_owned()]));
        assert_eq!(lines_objections(&line, &token, &messages).await, BTreeSet::from(["$".to_owned()]));
    }
    assert_eq!(check(&vec![text; 5]), []);
    let long = body(&json!([{ "type": "text", "text": "a".repeat(2_100_000) }]));
    assert_eq!(our_objections(&[long]), BTreeSet::from(["$".to_owned(), "$[0].contents".to_owned()]));
    assert_eq!(check(&[json!("text")])[0].path, "$[0]");
}

#[tokio::test]
async fn what_is_wrong_with_texts() {
    let long = "😀".repeat(2501);
    let emoji = |index: i64| json!({ "index": index, "productId": "p", "emojiId": "e" });
    wrong(vec![
        (json!({ "type": "text" }), &["text"]),
        (json!({ "type": "text", "text": "" }), &["text"]),
        (json!({ "type": "text", "text": 1 }), &["text"]),
        (json!({ "type": "text", "text": "a".repeat(5000) }), &[]),
        (json!({ "type": "text", "text": long }), &["text"]),
        (json!({ "type": "text", "text": "a $", "emojis": [emoji(2), emoji(1)] }), &["emojis[1].index"]),
        (json!({ "type": "text", "text": "😀$", "emojis": [emoji(2)] }), &[]),
        (
            json!({ "type": "text", "text": "$", "emojis": [{ "index": 0 }] }),
            &["emojis[0].productId", "emojis[0].emojiId"],
        ),
        (json!({ "type": "textV2", "text": "{a}" }), &["text"]),
        (json!({ "type": "textV2", "text": "a } b" }), &["text"]),
        (json!({ "type": "textV2", "text": "{{a}}" }), &[]),
        (
            json!({ "type": "textV2", "text": "{a}", "substitution": { "a": { "type": "mention" } } }),
            &["substitution.a.mentionee"],
        ),
        (
            json!({ "type": "textV2", "text": "{a}", "substitution": {
                "a": { "type": "mention", "mentionee": { "type": "user", "userId": "hanako" } },
                "b": { "type": "none" }, "not a key": { "type": "emoji", "productId": "p", "emojiId": "e" },
            } }),
            &["substitution.a.mentionee.userId", "substitution.b.type", "substitution.not a key"],
        ),
        (json!({ "type": "telepathy" }), &["type"]),
        (json!({}), &["type"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_pictures_sounds_and_places() {
    let long = format!("https://app.test/{}", "a".repeat(2000));
    wrong(vec![
        (json!({ "type": "sticker", "packageId": "1" }), &["stickerId"]),
        (json!({ "type": "image", "originalContentUrl": PICTURE }), &["previewImageUrl"]),
        (
            json!({ "type": "image", "originalContentUrl": "http://app.test/a", "previewImageUrl": long }),
            &["originalContentUrl", "previewImageUrl"],
        ),
        (json!({ "type": "image", "originalContentUrl": PICTURE, "previewImageUrl": "http://localhost:8080/a" }), &[]),
        (
            json!({ "type": "image", "originalContentUrl": PICTURE, "previewImageUrl": "https://app.test/花" }),
            &["previewImageUrl"],
        ),
        (json!({ "type": "audio", "originalContentUrl": PICTURE, "duration": "1" }), &["duration"]),
        (
            json!({ "type": "location", "title": "", "address": "a".repeat(101), "latitude": 91, "longitude": null }),
            &["title", "address", "latitude", "longitude"],
        ),
        (
            json!({ "type": "imagemap", "baseUrl": PICTURE, "altText": "a".repeat(1501),
                "baseSize": { "width": 1041, "height": 1 }, "actions": [{ "type": "uri", "linkUri": "app.test", "area": {} }] }),
            &[
                "altText",
                "baseSize.width",
                "actions[0].linkUri",
                "actions[0].area.x",
                "actions[0].area.y",
                "actions[0].area.width",
                "actions[0].area.height",
            ],
        ),
        (json!({ "type": "coupon" }), &["couponId"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_templates_and_actions() {
    let family = "👨\u{200d}👩\u{200d}👧".repeat(20);
    let post = |label: &str| json!({ "type": "postback", "label": label, "data": "a" });
    let one = |action: Value| buttons(&json!([action]));
    let at = |name: &str| format!("template.actions[0].{name}");
    let (kind, label, uri, max) = (at("type"), at("label"), at("uri"), at("max"));
    let (initial, min, data, mode) = (at("initial"), at("min"), at("data"), at("mode"));
    let (option, fill, text) = (at("inputOption"), at("fillInText"), at("text"));
    let pick = |mode: &str, initial: &str, min: &str, max: &str| {
        one(
            json!({ "type": "datetimepicker", "label": "a", "data": "a", "mode": mode, "initial": initial, "min": min, "max": max }),
        )
    };
    wrong(vec![
        (one(post(&family)), &[]),
        (one(post(&format!("{family}a"))), &[&label]),
        (one(post("")), &[&label]),
        (one(json!({ "label": "a" })), &[&kind]),
        (one(json!({ "type": "camera", "label": "a" })), &[&kind]),
        (one(json!({ "type": "richmenuswitch", "label": "a", "richMenuAliasId": "a", "data": "a" })), &[&kind]),
        (one(json!({ "type": "uri", "label": "a", "uri": "javascript:alert(1)" })), &[&uri]),
        (one(json!({ "type": "uri", "label": "a", "uri": "https://app.test/a b" })), &[&uri]),
        (one(json!({ "type": "uri", "label": "a", "uri": format!("https://a.test/{}", "a".repeat(1000)) })), &[&uri]),
        (one(json!({ "type": "postback", "label": "a" })), &[&data]),
        (one(json!({ "type": "postback", "label": "a", "data": "a".repeat(301) })), &[&data]),
        (
            one(json!({ "type": "postback", "label": "a", "data": "", "inputOption": "openEars", "fillInText": "a" })),
            &[&option, &fill],
        ),
        (one(json!({ "type": "postback", "label": "a", "data": "", "displayText": "a", "text": "b" })), &[&text]),
        (one(json!({ "type": "datetimepicker", "label": "a", "data": "a", "mode": "year" })), &[&mode]),
        (pick("date", "2026-02-30", "2026-01-01", "2026-12-31"), &[&initial]),
        (pick("time", "09:30", "23:59", "00:00"), &[&max]),
        (pick("datetime", "2026-01-31T09:30", "2026-01-31t09:30", "2026-01-31 10:00"), &[&max]),
        (pick("datetime", "2026-01-31T09:30", "1899-01-31T09:30", "2026-01-31T10:00"), &[&min]),
        (buttons(&json!([post("1"), post("2"), post("3"), post("4"), post("5")])), &["template.actions"]),
        (
            json!({ "type": "template", "altText": "", "template": { "type": "buttons", "title": "a".repeat(41),
                "text": "a".repeat(61), "imageSize": "huge", "thumbnailImageUrl": "ftp://a.test", "actions": [post("a")] } }),
            &["altText", "template.title", "template.text", "template.imageSize", "template.thumbnailImageUrl"],
        ),
        (
            json!({ "type": "template", "altText": "a", "template": { "type": "confirm", "text": "a", "actions": [post("a")] } }),
            &["template.actions"],
        ),
        (
            json!({ "type": "template", "altText": "a", "template": { "type": "carousel", "columns": [
                { "text": "a", "actions": [post("a")] }, { "text": "a", "actions": [post("a"), post("b")] },
            ] } }),
            &["template.columns[1].actions"],
        ),
        (
            json!({ "type": "template", "altText": "a", "template": { "type": "image_carousel", "columns": [
                { "imageUrl": PICTURE, "action": post("13 letters it") }, { "imageUrl": PICTURE },
            ] } }),
            &["template.columns[0].action.label", "template.columns[1].action"],
        ),
        (json!({ "type": "template", "altText": "a", "template": { "type": "form" } }), &["template.type"]),
        (json!({ "type": "template", "altText": "a" }), &["template"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_quick_replies_and_senders() {
    let item = json!({ "type": "action", "action": { "type": "camera", "label": "a" } });
    let text = |more: Value| {
        let mut message = json!({ "type": "text", "text": "a" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    wrong(vec![
        (text(json!({ "quickReply": { "items": vec![item.clone(); 13] } })), &[]),
        (text(json!({ "quickReply": { "items": vec![item; 14] } })), &["quickReply.items"]),
        (text(json!({ "quickReply": { "items": [] } })), &["quickReply.items"]),
        (text(json!({ "quickReply": { "items": [{ "type": "action" }] } })), &["quickReply.items[0].action"]),
        (
            text(json!({ "quickReply": { "items": [{ "imageUrl": "a", "action": { "type": "location" } }] } })),
            &["quickReply.items[0].imageUrl", "quickReply.items[0].action.label"],
        ),
        (
            text(json!({ "sender": { "name": "a".repeat(21), "iconUrl": "http://a.test/a" } })),
            &["sender.name", "sender.iconUrl"],
        ),
        (text(json!({ "sender": { "name": "LINE" } })), &["sender.name"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_flex_messages() {
    let text = json!({ "type": "text", "text": "a" });
    let at = |place: usize, name: &str| format!("contents.body.contents[{place}].{name}");
    let bubble = |more: Value| {
        let mut bubble = json!({ "type": "bubble", "body": { "type": "box", "layout": "vertical", "contents": [] } });
        bubble.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bubble
    };
    let many = vec![bubble(json!({})); 13];
    wrong(vec![
        (json!({ "type": "flex", "altText": "a" }), &["contents"]),
        (flex(&json!({ "type": "balloon" })), &["contents.type"]),
        (flex(&json!({ "type": "bubble" })), &[]),
        (flex(&bubble(json!({ "size": "tera", "direction": "up" }))), &["contents.size", "contents.direction"]),
        (flex(&bubble(json!({ "header": { "type": "text", "text": "a" } }))), &["contents.header.type"]),
        (flex(&bubble(json!({ "styles": { "body": { "backgroundColor": "red" } } }))), &["contents.styles.body.backgroundColor"]),
        (flex(&bubble(json!({ "hero": { "type": "video", "url": PICTURE, "previewUrl": PICTURE } }))), &["contents.hero.altContent"]),
        (flex(&json!({ "type": "carousel", "contents": [] })), &["contents.contents"]),
        (
            flex(&json!({ "type": "carousel", "contents": [bubble(json!({ "size": "kilo" })), bubble(json!({}))] })),
            &["contents.contents[1].size"],
        ),
        (body(&json!([{ "type": "box", "contents": [] }])), &[&at(0, "layout")]),
        (body(&json!([{ "type": "box", "layout": "horizontal" }])), &[&at(0, "contents")]),
        (
            body(&json!([{ "type": "box", "layout": "baseline", "contents": [{ "type": "button", "action": { "type": "uri" , "label": "a", "uri": "https://a.test" } }] }])),
            &[&at(0, "contents[0].type")],
        ),
        (body(&json!([text, { "type": "text", "text": "" }])), &[&at(1, "text")]),
        (
            body(&json!([{ "type": "text", "text": "a", "size": "huge", "weight": "fat", "color": "#12", "flex": -1, "wrap": "yes" }])),
            &[&at(0, "size"), &at(0, "weight"), &at(0, "color"), &at(0, "flex"), &at(0, "wrap")],
        ),
        (body(&json!([{ "type": "text", "contents": [{ "type": "span" }] }])), &[&at(0, "contents[0].text")]),
        (body(&json!([{ "type": "button" }])), &[&at(0, "action")]),
        (
            body(&json!([{ "type": "button", "action": { "type": "uri", "uri": "https://a.test" } }])),
            &[&at(0, "action.label")],
        ),
        (
            body(&json!([{ "type": "image", "url": "http://a.test", "aspectRatio": "1:4", "size": "10em" }])),
            &[&at(0, "url"), &at(0, "aspectRatio"), &at(0, "size")],
        ),
        (
            body(&json!([{ "type": "box", "layout": "vertical", "contents": [], "background": { "type": "linearGradient" } }])),
            &[&at(0, "background.angle"), &at(0, "background.startColor"), &at(0, "background.endColor")],
        ),
    ])
    .await;
    let places = our_objections(&[flex(&json!({ "type": "carousel", "contents": many }))]);
    assert_eq!(places, BTreeSet::from(["$[0].contents.contents".to_owned()]));
    let long = vec![json!({ "type": "text", "text": "a".repeat(1000) }); 30];
    wrong(vec![(body(&json!(long)), &["contents"])]).await;
    let moving = vec![json!({ "type": "image", "url": PICTURE, "animated": true }); 11];
    assert_eq!(our_objections(&[body(&json!(moving))]), BTreeSet::from(["$[0].contents".to_owned()]));
}
