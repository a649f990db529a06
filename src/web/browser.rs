//! What binds an attempt to sign in elsewhere to the browser that began it.

use axum::http::HeaderMap;

use super::{cookie, visit::Visit};
use crate::app::App;

/// The attempt cookie's value. Made of the form cookie where there is none, so that two tabs which start at one moment are
/// given the same.
pub fn of(app: &App, visit: &Visit, headers: &HeaderMap) -> String {
    let kept = cookie::get(&app.config, headers, cookie::ATTEMPT).filter(|value| value.len() == 43);
    kept.unwrap_or_else(|| app.sealer.sign(&format!("attempt {}", visit.form_key)))
}
