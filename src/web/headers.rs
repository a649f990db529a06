//! Security headers, on every answer.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use crate::app::App;

/// Adds the headers that keep a page from being framed, sniffed, cached or scripted by others.
pub async fn add(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.entry(name).or_insert(value);
        }
    };
    set(header::CONTENT_SECURITY_POLICY, &policy(&app));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with it Chromium sends `Origin: null` on form posts.
    set(header::REFERRER_POLICY, "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()");
    set(header::CACHE_CONTROL, "no-store");
    if !app.config.is_plain_http() {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

/// `form-action` also governs the redirect after a POST, so it lists LINE's access host.
fn policy(app: &App) -> String {
    let line = &app.config.line;
    let access = line.access.origin().ascii_serialization();
    let pictures = line.pictures.origin().ascii_serialization();
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' {pictures}; \
         form-action 'self' {access}; base-uri 'none'; frame-ancestors 'none'"
    )
}
