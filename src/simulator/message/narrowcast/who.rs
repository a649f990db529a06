//! Whom a narrowcast is for: recipient objects, and demographic filters.

use std::collections::BTreeSet;

use axum::{http::StatusCode, response::Response};
use serde_json::Value;

use crate::simulator::{
    answer,
    state::{Account, PersonId},
};

const MOST_PARTS: usize = 10;

/// What recipients are chosen from.
pub(super) struct Known<'a> {
    pub account: Option<&'a Account>,
    pub friends: &'a BTreeSet<PersonId>,
    pub now: i64,
}

fn bad(text: &str) -> Response {
    answer::message(StatusCode::BAD_REQUEST, text)
}

#[expect(clippy::result_large_err, reason = "the errors are the answers themselves")]
impl Known<'_> {
    pub fn choose(&self, recipient: &Value) -> Result<BTreeSet<PersonId>, Response> {
        if count(recipient) > MOST_PARTS {
            return Err(answer::invalid_property("recipient"));
        }
        let people = self.chosen(recipient)?;
        Ok(people.intersection(self.friends).cloned().collect())
    }

    fn chosen(&self, recipient: &Value) -> Result<BTreeSet<PersonId>, Response> {
        match recipient.get("type").and_then(Value::as_str) {
            Some("audience") => {
                let id = recipient.get("audienceGroupId").cloned().unwrap_or_default();
                Err(bad(&format!("Invalid audience group id: {id}")))
            }
            Some("redelivery") => {
                let id = recipient.get("requestId").and_then(Value::as_str).unwrap_or_default();
                let earlier = self.account.and_then(|account| account.narrowcasts.get(id));
                let earlier =
                    earlier.filter(|job| job.is_known(self.now) && job.is_over(self.now) && job.failure.is_none());
                earlier.map(|job| job.people.clone()).ok_or_else(|| bad(&format!("Invalid request id: {id}")))
            }
            Some("operator") => {
                let (word, parts) = operands(recipient).ok_or_else(|| answer::invalid_property("recipient"))?;
                let mut sets = parts.iter().map(|part| self.chosen(part));
                let first = sets.next().transpose()?.unwrap_or_default();
                let all = sets.try_fold(first, |all, next| {
                    let next = next?;
                    Ok(if word == "and" { &all & &next } else { &all | &next })
                })?;
                Ok(if word == "not" { self.friends - &all } else { all })
            }
            _ => Err(answer::invalid_property("recipient.type")),
        }
    }
}

/// The one operator of an object and what it holds.
fn operands(part: &Value) -> Option<(&'static str, Vec<&Value>)> {
    let mut found = ["and", "or", "not"].into_iter().filter_map(|word| Some((word, part.get(word)?)));
    let (word, operand) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    let parts = match (word, operand) {
        ("not", Value::Object(_)) => vec![operand],
        ("and" | "or", Value::Array(parts)) => parts.iter().collect(),
        _ => return None,
    };
    (!parts.is_empty()).then_some((word, parts))
}

/// The parts that are no operators.
fn count(part: &Value) -> usize {
    if part.get("type").and_then(Value::as_str) != Some("operator") {
        return 1;
    }
    operands(part).map_or(0, |(_, parts)| parts.into_iter().map(count).sum())
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn check_filter(filter: &Value) -> Result<(), Response> {
    if count(filter) <= MOST_PARTS && is_filter(filter) {
        return Ok(());
    }
    Err(answer::invalid_property("filter.demographic"))
}

fn is_filter(filter: &Value) -> bool {
    let one_of = |fits: fn(&str) -> bool| {
        let list = filter.get("oneOf").and_then(Value::as_array);
        list.is_some_and(|list| !list.is_empty() && list.iter().all(|word| word.as_str().is_some_and(fits)))
    };
    let bounds = |words: &[&str]| {
        let found: Vec<&Value> = ["gte", "lt"].iter().filter_map(|name| filter.get(*name)).collect();
        !found.is_empty() && found.iter().all(|word| word.as_str().is_some_and(|word| words.contains(&word)))
    };
    match filter.get("type").and_then(Value::as_str) {
        Some("gender") => one_of(|word| matches!(word, "male" | "female")),
        Some("appType") => one_of(|word| matches!(word, "ios" | "android")),
        Some("area") => one_of(is_area),
        Some("age") => bounds(&[
            "age_15", "age_20", "age_25", "age_30", "age_35", "age_40", "age_45", "age_50", "age_55", "age_60",
            "age_65", "age_70",
        ]),
        Some("subscriptionPeriod") => bounds(&["day_7", "day_30", "day_90", "day_180", "day_365"]),
        Some("operator") => operands(filter).is_some_and(|(_, parts)| parts.into_iter().all(is_filter)),
        _ => false,
    }
}

/// `jp_01` to `jp_47`, `tw_01` to `tw_22`, `th_01` to `th_08`.
fn is_area(word: &str) -> bool {
    let most = match word.get(..3) {
        Some("jp_") => 47,
        Some("tw_") => 22,
        Some("th_") => 8,
        _ => return false,
    };
    let number = &word[3..];
    number.len() == 2 && number.parse::<u8>().is_ok_and(|number| (1..=most).contains(&number))
}
