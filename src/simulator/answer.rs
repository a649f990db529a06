//! The shapes of LINE's answers: two error bodies, one for OAuth endpoints and one for the Messaging API.
//!
//! Texts are LINE's own where they are documented. Programs must branch on the status, people read the text.

use axum::{
    Json,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The id of one call, in `x-line-request-id` and in the ledger.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub String);

/// What a call was about, left on the response for the ledger.
#[derive(Clone, Debug)]
pub(super) struct About(pub String);

/// One entry of `details` in a Messaging API error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detail {
    pub message: String,
    pub property: String,
}

pub(super) fn json(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}

pub(super) fn ok(body: Value) -> Response {
    json(StatusCode::OK, body)
}

/// `{"error", "error_description"}` with status 400.
pub(super) fn oauth(error: &str, description: &str) -> Response {
    oauth_status(StatusCode::BAD_REQUEST, error, description)
}

pub(super) fn oauth_status(status: StatusCode, error: &str, description: &str) -> Response {
    json(status, json!({ "error": error, "error_description": description }))
}

/// What LINE says of absent or unusable parameters of an OAuth endpoint.
pub(super) fn oauth_missing() -> Response {
    oauth("invalid_request", "some parameters missed or invalid")
}

/// `{"message"}`: the Messaging API leaves empty `details` out.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    json(status, json!({ "message": text }))
}

/// `{"message", "details": []}`: the rich menu endpoints do send empty `details`.
pub(super) fn menu_error(status: StatusCode, text: &str) -> Response {
    json(status, json!({ "message": text, "details": [] }))
}

/// The answer to a body that breaks rules, with each breach named.
pub(super) fn details(found: &[Detail]) -> Response {
    let list: Vec<Value> = found.iter().map(|d| json!({ "message": d.message, "property": d.property })).collect();
    let text = format!("The request body has {} error(s)", list.len());
    json(StatusCode::BAD_REQUEST, json!({ "message": text, "details": list }))
}

pub(super) fn invalid_property(name: &str) -> Response {
    let text = format!("The property, {name}, in the request body is invalid (line: -, column: -)");
    message(StatusCode::BAD_REQUEST, &text)
}

pub(super) fn unauthenticated() -> Response {
    let reason = "invalid token. Confirm that the access token in the authorization header is valid.";
    let text = format!("Authentication failed due to the following reason: {reason}");
    message(StatusCode::UNAUTHORIZED, &text)
}

pub(super) fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not found")
}

/// What LIFF's SDK asks for in a page of somebody's.
const SHARED: [&str; 6] = [
    "/liff/v2/apps/",
    "/oauth2/v2.1/certs",
    "/oauth2/v2.1/token",
    "/oauth2/v2.1/verify",
    "/v2/profile",
    "/friendship/v1/status",
];

/// Lets pages of other origins read what LIFF's SDK asks for, and answers what browsers ask before.
pub(super) async fn shared(request: Request, next: Next) -> Response {
    if !SHARED.iter().any(|path| request.uri().path().starts_with(path)) {
        return next.run(request).await;
    }
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Notes whose call this was, for the ledger.
pub(super) fn about(mut response: Response, user_id: &str) -> Response {
    response.extensions_mut().insert(About(user_id.to_owned()));
    response
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Reads a JSON body as the Messaging API does: the content type first, then the syntax.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("null");
    let bare = kind.split(';').next().unwrap_or("").trim();
    if !bare.eq_ignore_ascii_case("application/json") {
        let text = format!("The content type, {kind}, is not supported");
        return Err(message(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = format!(
            "The request body could not be parsed as JSON (line: {}, column: {})",
            error.line(),
            error.column()
        );
        message(StatusCode::BAD_REQUEST, &text)
    })
}
