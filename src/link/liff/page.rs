//! `GET /liff/{provider}` and every path below: the page that LINE opens as a LIFF app.
//!
//! It is the same for everybody: it asks no database and leads nowhere, since LINE puts the person's tokens behind its
//! address, and LIFF's SDK returns to it and to what is below. What comes then is its script's part (`static/liff.js`),
//! which knows what can go wrong by the names of [`PROBLEMS`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    error::{Error, Result},
    web::{
        assets, cookie,
        locale::{self, Locale},
        page,
        texts::Texts,
    },
};

/// Hosts that LINE's SDK asks besides those of the configuration.
const ASKED_BY_SDK: &str = "https://liffsdk.line-scdn.net https://uts-front.line-apps.com";

/// Where the SDK and what it loads are, seen from its address: its extensions, also of a fixed version, and the words of LINE's
/// that an Android browser shows which the LINE app came back to.
const LOADED_BY_SDK: [&str; 3] = [".", "/liff/edge/2/", "/lui/edge/"];

/// What can be wrong, and what its button does: `reload` the page, forget what LIFF keeps in this browser and `reopen` the
/// page by LINE, or `sign_in` without LIFF.
pub(super) const PROBLEMS: [(&str, &str); 11] = [
    ("expired", "reopen"),
    ("replayed", "reopen"),
    ("clock", "reload"),
    ("scope", "sign_in"),
    ("storage", "reopen"),
    ("outside", "reload"),
    ("sdk", "reload"),
    ("unavailable", "reload"),
    ("busy", "reload"),
    ("account", "sign_in"),
    ("failed", "reopen"),
];

#[derive(Template)]
#[template(path = "link/liff.html")]
struct Liff {
    locale: Locale,
    texts: Arc<Texts>,
    company: String,
    css: String,
    /// The company's colours.
    style: Option<String>,
    icon: String,
    script: String,
    sdk: String,
    liff_id: String,
    session: String,
    /// Our clock, by which a wrong one of the device is seen.
    now: i64,
    problems: Vec<Problem>,
}

/// What can be wrong, with its one next step.
struct Problem {
    name: &'static str,
    title: String,
    text: String,
    next: String,
    /// What the script does before it follows `href`.
    act: &'static str,
    href: String,
}

impl Liff {
    fn t(&self, key: &str) -> &str {
        self.texts.get(self.locale, key)
    }
}

/// The LIFF app of a provider; where there is none there is no page either.
pub(super) fn liff_id<'a>(app: &'a App, provider: &str) -> Result<&'a str> {
    let login = app.config.provider.get(provider).and_then(|found| found.login.as_ref());
    login.and_then(|login| login.liff_id.as_deref()).ok_or(Error::NotFound)
}

/// `GET /liff/{provider}…`
pub async fn show(
    State(app): State<App>,
    Path(path): Path<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response> {
    let provider = path.get("provider").map(String::as_str).unwrap_or_default();
    let liff_id = liff_id(&app, provider)?;
    let form_key = cookie::get(&app.config, &headers, cookie::FORM);
    let switch = cookie::get(&app.config, &headers, cookie::LOCALE);
    let locale = locale::choose(&headers, switch.as_deref(), None, &app.config.default_locale);
    let endpoint = format!("/liff/{provider}");
    let in_line = format!("{}/{liff_id}", app.config.line.liff.as_str().trim_end_matches('/'));
    let href = |act: &str| match act {
        "reopen" => in_line.clone(),
        "sign_in" => "/sign-in".to_owned(),
        _ => endpoint.clone(),
    };
    let text = |name: &str, part: &str| app.texts.get(locale, &format!("liff.{name}_{part}")).to_owned();
    let problem = |(name, act): &(&'static str, &'static str)| Problem {
        name,
        title: text(name, "title"),
        text: text(name, "text"),
        next: text(name, "next"),
        act,
        href: href(act),
    };
    let page = page::html(&Liff {
        locale,
        texts: app.texts.clone(),
        company: app.config.company.clone(),
        css: assets::url("app.css"),
        style: app.brand.style.as_ref().map(|file| file.url.clone()),
        icon: assets::url("icon.svg"),
        script: assets::url("liff.js"),
        sdk: app.config.line.liff_sdk.to_string(),
        liff_id: liff_id.to_owned(),
        session: format!("/liff/{provider}/session"),
        now: app.now().0,
        problems: PROBLEMS.iter().map(problem).collect(),
    })?;
    // On Android the SDK may load the page anew while the tokens are being shown, and our answer is lost with its cookies:
    // the browser that shows them is known before.
    let binding = match form_key.filter(|key| key.len() == 43) {
        Some(_) => None,
        None => Some(cookie::set(&app.config, cookie::FORM, &app.random_token()?, None)),
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy(&app)),
        // Its address may hold what is meant for its script alone.
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::VARY, "accept-language, cookie".to_owned()),
    ];
    Ok((headers, binding, page).into_response())
}

/// What the page may load and ask: ours, and what LIFF's SDK needs.
fn policy(app: &App) -> String {
    let line = &app.config.line;
    let origins: Vec<String> =
        [&line.access, &line.api, &line.liff].iter().map(|url| url.origin().ascii_serialization()).collect();
    let scripts: BTreeSet<String> =
        LOADED_BY_SDK.iter().filter_map(|path| line.liff_sdk.join(path).ok()).map(|url| url.to_string()).collect();
    let scripts: Vec<String> = scripts.into_iter().collect();
    format!(
        "default-src 'none'; script-src 'self' {}; style-src 'self'; img-src 'self'; \
         connect-src 'self' {} {ASKED_BY_SDK}; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        scripts.join(" "),
        origins.join(" ")
    )
}
