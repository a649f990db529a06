//! Security headers, on every answer.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use url::Url;

use crate::app::App;

/// The headers that keep a page from being framed, sniffed, cached or scripted by others.
pub type Headers = Arc<[(HeaderName, HeaderValue)]>;

/// The headers of an installation's pages that never change.
pub fn of(app: &App) -> Headers {
    let mut headers = vec![
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with it Chromium sends `Origin: null` on form posts.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    if !app.config.is_plain_http() {
        headers.push((header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    }
    headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?))).collect()
}

/// Adds them, and the policy, where the page has no other.
pub async fn add(State((app, ours)): State<(App, Headers)>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(oidc) = &app.oidc {
        oidc.keep_fresh(app.now().0);
    }
    for (name, value) in ours.iter() {
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    if !response.headers().contains_key(header::CONTENT_SECURITY_POLICY)
        && let Ok(policy) = HeaderValue::from_str(&policy(&app, ""))
    {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The content security policy, with what one page needs more. `form-action` also governs the redirect after a POST, so
/// it lists LINE's access host, where people go who linked by a ticket, and the company's own sign-in.
pub fn policy(app: &App, more: &str) -> String {
    let line = &app.config.line;
    let access = line.access.origin().ascii_serialization();
    let pictures = line.pictures.origin().ascii_serialization();
    let origins = app.config.tickets.return_urls.iter().map(|url| url.origin().ascii_serialization());
    let ways: String = origins.chain(company(app)).map(|origin| format!(" {origin}")).collect();
    format!(
        "default-src 'none'; {more}style-src 'self'; script-src 'self'; img-src 'self' {pictures}; \
         form-action 'self' {access}{ways}; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// The origins of the company's provider that a browser is sent to, as far as they are known.
fn company(app: &App) -> impl Iterator<Item = String> {
    let of = |text: &str| Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
    let mut origins: Vec<String> = app.oidc.iter().filter_map(|oidc| of(oidc.issuer())).collect();
    if let Some(known) = app.oidc.as_ref().and_then(|oidc| oidc.known()) {
        let urls = [Some(&known.authorization_endpoint), known.end_session_endpoint.as_ref()];
        origins.extend(urls.into_iter().flatten().map(|url| url.origin().ascii_serialization()));
    }
    origins.sort();
    origins.dedup();
    origins.into_iter()
}
