//! What a batch asks for: its operations, checked, and whom they concern.

#![expect(clippy::result_large_err, reason = "the error is the answer itself")]

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::Value;

use super::super::{is_menu_id, menu_not_found, not_showable, pending::Link};
use crate::simulator::{answer, message::found::Found, state::Account};

const MAX_OPERATIONS: usize = 1000;

pub(super) struct Request {
    pub resume_key: Option<String>,
    asks: Asks,
}

enum Asks {
    /// By the menu people have: the one they are to have; none: no menu of their own.
    Each(BTreeMap<String, Option<String>>),
    UnlinkAll,
}

/// Reads a request as LINE does: its form first, then whether its menus exist and can be shown.
pub(super) fn read(body: &Value, account: &Account) -> Result<Request, Response> {
    let mut found = Found::default();
    let operations = found.list(body, "", "operations", 1, MAX_OPERATIONS);
    let resume_key = resume_key(&mut found, body);
    let asks = asks(&mut found, operations);
    if !found.0.is_empty() {
        return Err(answer::details(&found.0));
    }
    if let Asks::Each(each) = &asks {
        for (from, to) in each {
            if !account.menus.contains_key(from) {
                return Err(menu_not_found());
            }
            if let Some(refusal) = to.as_deref().and_then(|to| not_showable(account, to, menu_not_found)) {
                return Err(refusal);
            }
        }
    }
    Ok(Request { resume_key, asks })
}

fn resume_key(found: &mut Found, body: &Value) -> Option<String> {
    let key = body.get("resumeRequestKey").filter(|key| !key.is_null())?;
    let is_key = |key: &str| {
        (1..=100).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let key = key.as_str().filter(|key| is_key(key)).map(str::to_owned);
    if key.is_none() {
        found.add("resumeRequestKey", "invalid resumeRequestKey");
    }
    key
}

fn asks(found: &mut Found, operations: &[Value]) -> Asks {
    let mut each = BTreeMap::new();
    let mut unlink_all = 0;
    for (place, operation) in operations.iter().enumerate() {
        let mut menu = |name: &str| {
            let id = operation.get(name).and_then(Value::as_str).unwrap_or_default();
            if !is_menu_id(id) {
                found.add(format!("operations[{place}].{name}"), "invalid richMenuId");
            }
            id.to_owned()
        };
        let (from, to) = match operation.get("type").and_then(Value::as_str) {
            Some("link") => (menu("from"), Some(menu("to"))),
            Some("unlink") => (menu("from"), None),
            Some("unlinkAll") => {
                unlink_all += 1;
                continue;
            }
            _ => {
                let text = "Must be one of the following values: [link, unlink, unlinkAll]";
                found.add(format!("operations[{place}].type"), text);
                continue;
            }
        };
        if each.insert(from.clone(), to).is_some() && is_menu_id(&from) {
            found.add("operations[].from", format!("from richmenu ({from}) is duplicated"));
        }
    }
    if unlink_all == 0 {
        return Asks::Each(each);
    }
    if unlink_all < operations.len() {
        found.add("operations[].type", "'unlinkAll' type can't be combined with other type");
    }
    Asks::UnlinkAll
}

impl Request {
    /// Whom it concerns of those who have menus now.
    pub fn links(&self, account: &Account) -> Vec<Link> {
        let link = |(person, has): (&String, &String)| match &self.asks {
            Asks::UnlinkAll => Some((person.clone(), None)),
            Asks::Each(each) => Some((person.clone(), each.get(has)?.clone())),
        };
        account.linked_menus.iter().filter_map(link).collect()
    }
}
