//! The OpenID configuration, with LINE's two peculiarities: it lists ES256 only although web logins get HS256, and it
//! says nothing of client authentication although only the form body is accepted.

use axum::{
    http::{HeaderMap, header},
    response::Response,
};
use serde_json::json;

use crate::simulator::answer;

/// The issuer is LINE's, always; the endpoints are where this simulator was reached.
pub(super) async fn configuration(headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let at = |path: &str| format!("http://{host}{path}");
    answer::ok(json!({
        "issuer": super::id_token::ISSUER,
        "authorization_endpoint": at("/oauth2/v2.1/authorize"),
        "token_endpoint": at("/oauth2/v2.1/token"),
        "revocation_endpoint": at("/oauth2/v2.1/revoke"),
        "userinfo_endpoint": at("/oauth2/v2.1/userinfo"),
        "scopes_supported": ["openid", "profile", "email"],
        "jwks_uri": at("/oauth2/v2.1/certs"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
    }))
}
