//! The face of an [`Error`] for a person: plain words and one next step.

use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::Response,
};

use super::{
    page::{Page, html},
    visit::Visit,
};
use crate::{
    app::App,
    error::{Error, NextStep},
};

#[derive(Template)]
#[template(path = "web/error.html")]
struct ErrorPage {
    page: Page,
    title: String,
    text: String,
    request_id: String,
    next: Option<Next>,
}

enum Next {
    Link { label: String, href: String },
    Post { label: String, action: String, fields: Vec<(String, String)>, line: bool },
}

/// Replaces the empty answer that an error left by its page; keeps the status.
pub fn render(app: &App, visit: &Visit, request_id: &str, error: &Error, response: Response) -> Response {
    let page = Page::new(app, visit);
    let (key, next) = match error {
        Error::Refused(refusal) => (refusal.key, refusal.next.clone()),
        Error::Busy | Error::Unavailable(_) => ("unavailable", NextStep::Link(visit.here.clone())),
        Error::NotFound => ("not_found", NextStep::Link("/".into())),
        // Every page of ours leaves that cookie.
        Error::Csrf if visit.is_new => ("cookies", NextStep::Link(visit.here.clone())),
        Error::Csrf => ("csrf", NextStep::Link("/".into())),
        Error::BadRequest(_) => ("bad_request", NextStep::Link("/".into())),
        Error::TooSlow => ("too_slow", NextStep::Link("/".into())),
        Error::TooLarge | Error::HeadTooLarge => ("too_large", NextStep::Link("/".into())),
        Error::TooMany { .. } => ("too_many", NextStep::Link("/".into())),
        Error::SignIn { return_to } | Error::Reauth { return_to } => {
            ("reauth", NextStep::Link(sign_in_url(return_to, matches!(error, Error::Reauth { .. }))))
        }
        Error::Problem(_) | Error::Internal(_) => ("internal", NextStep::Link("/".into())),
    };
    let company = app.config.member.oidc.as_ref().map_or("", |oidc| oidc.label.trim());
    let text = |part: &str| page.with(&format!("error.{key}_{part}"), &[company]);
    let label = text("next");
    let next = match next {
        NextStep::Link(href) => Next::Link { label, href },
        NextStep::Onward(href) => Next::Link { label: page.t("error.onward").to_owned(), href },
        NextStep::Line(fields) => post(label, "/line/start", fields, true),
        NextStep::Company(fields) => post(label, "/company/start", fields, false),
    };
    let request_id = request_id.to_owned();
    let (title, text) = (text("title"), text("text"));
    match html(&ErrorPage { page, title, text, request_id, next: Some(next) }) {
        Ok(mut page) => {
            *page.status_mut() = response.status();
            if let Some(seconds) = error.retry_after() {
                page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            if let Some(methods) = response.headers().get(header::ALLOW) {
                page.headers_mut().insert(header::ALLOW, methods.clone());
            }
            page
        }
        Err(_) => response,
    }
}

fn post(label: String, action: &str, fields: Vec<(&str, String)>, line: bool) -> Next {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Next::Post { label, action: action.to_owned(), fields, line }
}

/// The sign-in page that returns to `return_to`; `reauth` asks for the password again.
pub fn sign_in_url(return_to: &str, reauth: bool) -> String {
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", return_to).finish();
    format!("/sign-in?{query}{}", if reauth { "&reauth=1" } else { "" })
}
