//! How many messages one core renders a second, beside minijinja rendering the same JSON as text.
//! `cargo bench --bench template`
//!
//! minijinja is given every advantage: nothing is escaped, and its data is made once; with the data made for each
//! person, as it would be in a sending, it is the second figure.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use musubi::flex::{Catalogue, Context};
use serde_json::{Value, json};

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
        // The same tree with the same values in the same places, as text.
        let source = as_text(&text, &data);
        let mut environment = minijinja::Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_template("t", &source).unwrap();
        let theirs = environment.get_template("t").unwrap();
        let made = minijinja::Value::from_serialize(&data);
        assert_eq!(
            serde_json::from_str::<Value>(&theirs.render(&made).unwrap()).unwrap(),
            serde_json::from_str::<Value>(&text).unwrap()
        );
        let plain = best(|| black_box(theirs.render(black_box(&made)).unwrap()).len());
        let with_data = best(|| black_box(theirs.render(black_box(&data)).unwrap()).len());
        println!(
            "{name:<16}{:>8}{ours:>14.0}{plain:>14.0}{:>8.1}{with_data:>14.0}{:>8.1}",
            text.len(),
            ours / plain,
            ours / with_data
        );
    }
}

/// The rendered text with each value replaced by its placeholder, in the order of their lengths.
fn as_text(rendered: &str, data: &Value) -> String {
    let mut values: Vec<(&String, &str)> =
        data.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, value.as_str()?))).collect();
    values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    values.iter().fold(rendered.to_owned(), |text, (name, value)| text.replace(value, &format!("{{{{{name}}}}}")))
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
