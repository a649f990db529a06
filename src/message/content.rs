//! What an order says, as a person would get it, held against LINE's limits.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::{
    addressee::Person,
    order::{Mistake, Order, What},
    template,
};
use crate::{app::App, line::message::check};

/// Mistakes that are told of one message.
const TOLD: usize = 5;

/// LINE's limits for what one message says to many: what says the same is looked at once.
#[derive(Default)]
pub(super) struct Limits {
    passed: Mutex<String>,
}

/// The contents as somebody would get them; a template for many is tried in each of its languages.
pub(super) fn check_contents(app: &App, order: &Order, person: Option<&Person>) -> Vec<Mistake> {
    let updates = order.collapse_key.is_some().then(Vec::new);
    let render = |person: &Person| content(app, &order.what, person, updates.clone()).err().unwrap_or_default();
    match (&order.what, person) {
        (_, Some(person)) => render(person),
        (What::Messages(list), None) => check_messages("messages", list),
        (What::Template { name, .. }, None) => {
            let Some(Value::Object(source)) = app.templates.source(name) else {
                return render(&Person::sample(&app.config.default_locale));
            };
            let mut found = Vec::new();
            for language in source.keys() {
                let locale = if language.is_empty() { &app.config.default_locale } else { language };
                for mistake in render(&Person::sample(locale)) {
                    if !found.contains(&mistake) {
                        found.push(mistake);
                    }
                }
            }
            found
        }
    }
}

/// The list of message objects for a person, as JSON.
pub(super) fn content(
    app: &App,
    what: &What,
    person: &Person,
    updates: Option<Vec<Value>>,
) -> Result<String, Vec<Mistake>> {
    let (name, data) = match what {
        What::Messages(list) => {
            let mistakes = check_messages("messages", list);
            return if mistakes.is_empty() { Ok(Value::from(list.clone()).to_string()) } else { Err(mistakes) };
        }
        What::Template { name, data } => (name, data),
    };
    let text = match template::render_for(app, name, person, &person.fill(data, updates)) {
        Ok(text) => text,
        Err(template::Unsendable::NoTemplate(name)) => {
            return Err(vec![Mistake::new("template", format!("there is no message template {name:?}"))]);
        }
        Err(template::Unsendable::Render { error, .. }) => {
            return Err(vec![Mistake::new("data", format!("the template {name:?}: {error}"))]);
        }
    };
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let mistakes = check_messages(&format!("template {name:?}, rendered"), &list);
    if mistakes.is_empty() { Ok(text) } else { Err(mistakes) }
}

/// Why LINE would not take a JSON list of message objects, in words; none where it would.
pub(super) fn refused(content: &str) -> Option<String> {
    let mistakes = match serde_json::from_str::<Vec<Value>>(content) {
        Ok(list) => check::check(&list),
        Err(error) => return Some(error.to_string()),
    };
    let words: Vec<String> = mistakes.iter().take(TOLD).map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

impl Limits {
    /// The content where it keeps them, else why not.
    pub fn keeps(&self, content: String) -> Result<String, String> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if *passed != content {
            refused(&content).map_or(Ok(()), Err)?;
            passed.clone_from(&content);
        }
        Ok(content)
    }
}

fn check_messages(path: &str, list: &[Value]) -> Vec<Mistake> {
    let place = |mistake: check::Mistake| {
        let rest = mistake.path.strip_prefix('$').unwrap_or(&mistake.path).to_owned();
        Mistake::new(format!("{path}{rest}"), mistake.text)
    };
    check::check(list).into_iter().map(place).collect()
}
