//! `/.well-known/security.txt` (RFC 9116): where to report a weakness.

use std::time::Duration;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    error::{Error, Result},
};

const PATH: &str = "/.well-known/security.txt";
/// It is made anew for each reader, so that it is never out of date; the RFC asks for less than a year.
const LIFE: Duration = Duration::from_secs(180 * 24 * 3600);

/// `GET /.well-known/security.txt`; there is none where nobody is named.
pub async fn show(State(app): State<App>) -> Result<Response> {
    let contact = app.config.security_contact.as_ref().ok_or(Error::NotFound)?;
    let expires = jiff::Timestamp::from_second(app.now().plus(LIFE).seconds()).map_err(Error::internal)?;
    let languages = match app.config.default_locale.as_str() {
        "en" => "en".to_owned(),
        own => format!("{own}, en"),
    };
    let canonical = app.config.url(PATH);
    let text =
        format!("Contact: {contact}\nExpires: {expires}\nPreferred-Languages: {languages}\nCanonical: {canonical}\n");
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
