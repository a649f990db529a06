//! Security headers, on every answer.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use crate::app::App;

/// The headers that keep a page from being framed, sniffed, cached or scripted by others.
pub type Headers = Arc<[(HeaderName, HeaderValue)]>;

/// The headers of an installation's pages.
pub fn of(app: &App) -> Headers {
    let policy = policy(app, "");
    let mut headers = vec![
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
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

/// Adds them where the page has no other.
pub async fn add(State(ours): State<Headers>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in ours.iter() {
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    response
}

/// The content security policy, with what one page needs more. `form-action` also governs the redirect after a POST, so
/// it lists LINE's access host, and where people go who linked by a ticket.
pub fn policy(app: &App, more: &str) -> String {
    let line = &app.config.line;
    let access = line.access.origin().ascii_serialization();
    let pictures = line.pictures.origin().ascii_serialization();
    let origins = app.config.tickets.return_urls.iter().map(|url| url.origin().ascii_serialization());
    let ways_back: String = origins.map(|origin| format!(" {origin}")).collect();
    format!(
        "default-src 'none'; {more}style-src 'self'; script-src 'self'; img-src 'self' {pictures}; \
         form-action 'self' {access}{ways_back}; base-uri 'none'; frame-ancestors 'none'"
    )
}
