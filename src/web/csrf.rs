//! Forms come from our own pages only: a signed token in the form, bound to a cookie of the browser, and
//! the browser's own word about where the request comes from.

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use url::form_urlencoded;

use super::{body, visit::Visit};
use crate::{
    app::App,
    error::{Error, Result},
};

/// The token for the forms of this visit.
pub fn token(app: &App, visit: &Visit) -> String {
    app.sealer.sign(&visit.form_key)
}

/// Lets a form through, or refuses it. The body is read here and handed on whole.
pub async fn check(app: &App, visit: &Visit, request: Request<Body>) -> Result<Request<Body>> {
    if visit.is_new || !is_same_origin(app, request.headers()) {
        return Err(Error::Csrf);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(Error::BadRequest("not a form"));
    }
    let (parts, form) = request.into_parts();
    let bytes = body::read(form).await?;
    let mut tokens = form_urlencoded::parse(&bytes).filter(|(name, _)| name == "csrf").map(|(_, value)| value);
    let token = tokens.next().ok_or(Error::Csrf)?;
    if tokens.next().is_some() || !app.sealer.is_signed(&visit.form_key, &token) {
        return Err(Error::Csrf);
    }
    drop(tokens);
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Lets a script's request through, or refuses it: JSON with a header that makes browsers ask us first where it comes from
/// another origin, which we never allow.
pub fn check_script(app: &App, headers: &HeaderMap) -> Result<()> {
    let is = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value.as_bytes() == wanted.as_bytes());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    let is_ours = headers.contains_key(header::ORIGIN) && is_same_origin(app, headers);
    if is_ours && is_json && is("x-musubi-liff", "1") { Ok(()) } else { Err(Error::Csrf) }
}

/// What is sent must fit, and one of the two must be sent: a browser that sends neither is not one we know.
fn is_same_origin(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site").map(|site| site == "same-origin");
    let origin = text("origin").map(|origin| origin == app.config.public_url.origin().ascii_serialization());
    match (site, origin) {
        (None, None) => false,
        (site, origin) => site.unwrap_or(true) && origin.unwrap_or(true),
    }
}
