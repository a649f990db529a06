//! How many messages one core renders a second, beside minijinja rendering the same JSON as text.
//! `cargo bench --bench template`
//!
//! minijinja renders the same tree, with the same conditions, as text with its JSON escaping and with the filters that the
//! templates use: `date` (jiff, in the same zone) and `cut` (whole letters). It is given an advantage: links and data are
//! not checked. The second figure is with its data made for each person, as a sending does: people differ.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use musubi::flex::{Catalogue, Context};
use serde_json::{Value, json};
use unicode_segmentation::UnicodeSegmentation;

const TIME: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

fn main() {
    let templates = Catalogue::load(None).expect("the shipped templates");
    let zone = TimeZone::get("Asia/Tokyo").unwrap();
    let context = Context { zone: &zone, locale: "en" };
    let data = json!({
        "name": "Hanako Yamada", "company": "Example Company", "account_url": "https://members.example.jp/account",
        "number": "A-1042", "title": "Water drips from the ceiling of room 302", "urgency": "high",
        "urgency_text": "Urgent", "status": "In progress", "unit": "Building B, 302", "contact": "Taro Suzuki",
        "phone": "03-1234-5678", "date": "2026-11-20T09:30:00Z", "reporter": "Jiro Sato",
        "url": "https://issues.example.jp/1042",
    });
    println!(
        "{:<16}{:>8}{:>14}{:>14}{:>8}{:>14}{:>8}",
        "", "bytes", "flex /s", "minijinja /s", "times", "with data /s", "times"
    );
    for name in ["welcome", "issue_new"] {
        let template = templates.find(name, "en", "en").unwrap();
        let text = template.render(&data, &context).expect("it renders");
        let ours = best(|| black_box(template.render(black_box(&data), &context).unwrap()).len());
        let source = as_text(name);
        let mut environment = minijinja::Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::Json);
        let there = zone.clone();
        environment.add_filter("date", move |text: &str| {
            let at = text.parse::<Timestamp>().unwrap().to_zoned(there.clone());
            at.strftime("%a, %-d %b %Y, %H:%M").to_string()
        });
        environment.add_filter("cut", |text: &str, letters: usize| {
            if text.len() <= letters || text.graphemes(true).nth(letters).is_none() {
                return text.to_owned();
            }
            format!("{}…", text.graphemes(true).take(letters - 1).collect::<String>())
        });
        environment.add_template("t", &source).unwrap();
        let theirs = environment.get_template("t").unwrap();
        let made = minijinja::Value::from(minijinja::value::Serde(&data));
        assert_eq!(
            serde_json::from_str::<Value>(&theirs.render(made.clone()).unwrap()).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap()
        );
        let plain = best(|| black_box(theirs.render(black_box(made.clone())).unwrap()).len());
        let with_data = best(|| black_box(theirs.render(minijinja::value::Serde(black_box(&data))).unwrap()).len());
        println!(
            "{name:<16}{:>8}{ours:>14.0}{plain:>14.0}{:>8.1}{with_data:>14.0}{:>8.1}",
            text.len(),
            ours / plain,
            ours / with_data
        );
    }
}

/// A template file as minijinja's text.
fn as_text(name: &str) -> String {
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("templates/messages/{name}.en.json")).unwrap()).unwrap();
    let messages = file.get("messages").unwrap_or(&file);
    let list = if messages.is_array() { messages.clone() } else { json!([messages]) };
    tree(&list)
}

fn tree(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains("{{") => leaf(text),
        Value::Array(list) => format!("[{}]", items(list.iter().map(|item| (String::new(), item)))),
        Value::Object(object) if object.contains_key("$if") => choice(object, ""),
        Value::Object(object) => {
            format!("{{ {}}}", items(object.iter().map(|(name, item)| (format!("{}:", json!(name)), item))))
        }
        other => other.to_string(),
    }
}

/// Items with the commas between: those that may be missing are the last ones, or others follow.
fn items<'a>(list: impl Iterator<Item = (String, &'a Value)>) -> String {
    let parts = list.enumerate().map(|(number, (name, item))| {
        let comma = if number > 0 { "," } else { "" };
        match item.get("$if") {
            Some(_) => choice(item.as_object().unwrap(), &format!("{comma}{name}")),
            None => format!("{comma}{name}{}", tree(item)),
        }
    });
    parts.collect()
}

fn choice(object: &serde_json::Map<String, Value>, before: &str) -> String {
    let condition = object["$if"].as_str().unwrap();
    let branch = |name: &str| object.get(name).map_or_else(String::new, |value| format!("{before}{}", tree(value)));
    format!("{{% if {condition} %}}{}{{% else %}}{}{{% endif %}}", branch("$then"), branch("$else"))
}

/// A text as an expression: its words and values joined, then escaped as a whole.
fn leaf(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").unwrap();
        parts.push(json!(before).to_string());
        parts.push(match inside.split_once('|') {
            None => inside.trim().to_owned(),
            Some((name, filter)) => match filter.trim().split_once(": ").unwrap() {
                ("date", "datetime") => format!("({}|date)", name.trim()),
                ("cut", letters) => format!("({}|cut({letters}))", name.trim()),
                other => panic!("{other:?} is not known here"),
            },
        });
        rest = after;
    }
    parts.push(json!(rest).to_string());
    parts.retain(|part| part != "\"\"");
    format!("{{{{ {} }}}}", parts.join(" ~ "))
}

/// Runs a second in the best of the rounds.
fn best(mut render: impl FnMut() -> usize) -> f64 {
    let round = |_| {
        let start = Instant::now();
        let mut count = 0_u32;
        while start.elapsed() < TIME {
            for _ in 0..100 {
                render();
            }
            count += 100;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}
