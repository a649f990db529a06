//! LINE Login v2.1: the authorize pages, for the web and for LIFF apps, and everything that is done with what they hand
//! out.
//!
//! - `request`: reading an authorize request; `authorize`: its answer; `screen`: the pages a person walks through
//! - `token`: codes and refresh tokens into access tokens; `tokens`: verify, revoke, deauthorize
//! - `id_token`: making and checking ID tokens, and the key of the JWKS; `profile`: what an access token shows

mod authorize;
mod discovery;
mod id_token;
mod profile;
mod request;
mod screen;
mod token;
mod tokens;

use axum::{
    Router,
    routing::{get, post},
};

use super::Simulator;
pub(super) use id_token::{SigningKey, jws};
pub(super) use screen::open;
pub(super) use token::{liff_tokens, opaque_token, secret_text};
pub(super) use tokens::is_jws;

pub(super) fn access_routes() -> Router<Simulator> {
    Router::new()
        .route("/oauth2/v2.1/authorize", get(authorize::authorize))
        .route("/.well-known/openid-configuration", get(discovery::configuration))
}

/// Where the forms of the authorize pages go. LINE has no such paths, so they are not among its faces.
pub(super) fn page_routes() -> Router<Simulator> {
    Router::new().route("/_sim/authorize", post(screen::step)).route("/_sim/keys/rotate", post(id_token::rotate))
}

pub(super) fn api_routes() -> Router<Simulator> {
    Router::new()
        .route("/oauth2/v2.1/token", post(token::token))
        .route("/oauth2/v2.1/verify", get(tokens::verify_access).post(id_token::verify))
        .route("/oauth2/v2.1/revoke", post(tokens::revoke))
        .route("/oauth2/v2.1/userinfo", get(profile::userinfo).post(profile::userinfo))
        .route("/oauth2/v2.1/certs", get(id_token::certs))
        .route("/v2/profile", get(profile::profile))
        .route("/friendship/v1/status", get(profile::friendship))
        .route("/user/v1/deauthorize", post(tokens::deauthorize))
}
