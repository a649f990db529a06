//! One request of a person: language, form token, where they are, who they are.

use std::net::IpAddr;

use axum::{
    extract::{FromRequestParts, Request},
    http::{Method, request::Parts},
};

use super::{
    cookie,
    locale::{self, Locale},
    return_to,
};
use crate::{
    app::App,
    error::{Error, Result},
};

/// Made by the door (`member::guard`) for every page; handlers take it as an argument.
#[derive(Debug, Clone)]
pub struct Visit {
    pub locale: Locale,
    /// Value of the form cookie; the token in each form is its signature.
    pub form_key: String,
    /// True where the browser does not hold the form cookie yet.
    pub is_new: bool,
    /// Path and query of this request, without secrets.
    pub here: String,
    pub viewer: Option<Viewer>,
    /// The caller's address, as far as it can be trusted.
    pub address: String,
    pub user_agent: String,
}

/// What the shell says of a signed-in member.
#[derive(Debug, Clone)]
pub struct Viewer {
    pub name: String,
    pub locale: Option<String>,
}

impl Visit {
    pub fn new(app: &App, request: &Request, address: String, viewer: Option<Viewer>) -> Result<Self> {
        let headers = request.headers();
        let kept = cookie::get(&app.config, headers, cookie::FORM).filter(|key| key.len() == 43);
        let switch = cookie::get(&app.config, headers, cookie::LOCALE);
        let member = viewer.as_ref().and_then(|viewer| viewer.locale.as_deref());
        let agent = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Self {
            locale: locale::choose(headers, switch.as_deref(), member, &app.config.default_locale),
            is_new: kept.is_none(),
            form_key: kept.map_or_else(|| app.random_token(), Ok)?,
            here: here(app, request),
            viewer,
            address,
            user_agent: agent.chars().filter(|c| !c.is_control()).take(256).collect(),
        })
    }
}

/// Where LINE and the company's provider send people back to.
fn is_callback(path: &str) -> bool {
    path.starts_with("/line/callback/") || path.starts_with("/company/callback")
}

/// The page a person is on: for a form the one it stood on, for a callback none, since its query holds a code.
fn here(app: &App, request: &Request) -> String {
    let asked = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let public_url = &app.config.public_url;
    match *request.method() {
        Method::GET | Method::HEAD if is_callback(&asked) => "/".to_owned(),
        Method::GET | Method::HEAD => return_to::path(&asked, public_url),
        _ => {
            let referer = request.headers().get("referer").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let own = public_url.origin().ascii_serialization();
            let page = return_to::path(referer.strip_prefix(&own).unwrap_or_default(), public_url);
            if is_callback(&page) { "/".to_owned() } else { page }
        }
    }
}

/// What is counted as one address: an IPv4 address, or the /64 that one holder of IPv6 has to himself.
pub fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => String::new(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal("the route has no door"))
    }
}
