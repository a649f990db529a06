//! Our cookies: names, flags, and reading them safely.
//!
//! On https every name has the `__Host-` prefix, so that no sibling domain can plant one. A name that
//! comes twice is taken for none.

use axum::http::{HeaderMap, HeaderName, header::SET_COOKIE};
use axum_extra::extract::cookie::{Cookie, SameSite};

use crate::config::Config;

/// Name of a cookie, without the prefix.
#[derive(Debug, Clone, Copy)]
pub struct Name(&'static str);

/// Whose session this is.
pub const SESSION: Name = Name("musubi_session");
/// Binds the attempts to sign in by LINE to this browser.
pub const ATTEMPT: Name = Name("musubi_attempt");
/// Binds the forms to this browser.
pub const FORM: Name = Name("musubi_form");
/// A browser in which a member signed in before.
pub const DEVICE: Name = Name("musubi_device");
/// The language that the visitor chose.
pub const LOCALE: Name = Name("musubi_locale");

/// The header that sets a cookie; for this browser session where `max_age` (seconds) is none.
pub type SetCookie = axum::response::AppendHeaders<[(HeaderName, String); 1]>;

pub fn set(config: &Config, name: Name, value: &str, max_age: Option<i64>) -> SetCookie {
    let age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let cookie = Cookie::build((full_name(config, name), value.to_owned()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(!config.is_plain_http());
    axum::response::AppendHeaders([(SET_COOKIE, format!("{}{age}", cookie.build()))])
}

pub fn remove(config: &Config, name: Name) -> SetCookie {
    set(config, name, "", Some(0))
}

/// The cookie's value, where there is exactly one of that name.
pub fn get(config: &Config, headers: &HeaderMap, name: Name) -> Option<String> {
    let full = full_name(config, name);
    let mut values = headers
        .get_all("cookie")
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == full)
        .map(|(_, value)| value.to_owned());
    let first = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() { None } else { first }
}

fn full_name(config: &Config, name: Name) -> String {
    let prefix = if config.is_plain_http() { "" } else { "__Host-" };
    format!("{prefix}{}", name.0)
}
