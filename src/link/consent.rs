//! What people agreed to (tables `consents`, `consent_texts`): the text itself, its version, and when.
//!
//! A text is kept once for each version and language and never changes: who wants to say something else gives it a
//! new version, and everybody is asked again at their next visit. Until they answer, all goes on as before.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Active, find_active};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis, new_id},
    error::{Error, Result},
    member::{self, guard::SignedIn, session},
    web::{form::Form, visit::Visit},
};

/// A consent text as a person reads it.
#[derive(Debug, Clone, Copy)]
pub struct Consent<'a> {
    pub version: &'a str,
    pub locale: &'a str,
    pub text: &'a str,
}

/// The text with what must be told beside it, for `templates/link/consent.html`.
pub struct Shown {
    pub version: String,
    pub locale: String,
    pub text: String,
    pub notice: String,
}

#[derive(Deserialize)]
pub struct Fields {
    provider: String,
    /// Version and language of the text that the page showed.
    consent: String,
}

/// `POST /account/consent`: the yes to a new version.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    if !app.config.provider.contains_key(&fields.provider) {
        return Err(Error::NotFound);
    }
    // Another text holds by now: the account page shows that one.
    let again = || Ok(Redirect::to("/account").into_response());
    let Some(consent) = Consent::named(&app, &fields.consent) else { return again() };
    let mut tx = app.db.begin().await?;
    // Not by a session that ended meanwhile.
    member::hold(&mut tx, &app.db, &session.member_id).await?;
    if !session::is_live(&mut tx, &session).await? {
        return again();
    }
    let active = find_active(&mut tx, &session.member_id, &fields.provider).await?;
    let Some(active) = active.filter(|active| is_asked(&app, active)) else { return again() };
    if !renew(&mut tx, app.now(), &active.link_id, consent).await? {
        return again();
    }
    let entry = audit::Entry {
        action: "consented",
        member_id: Some(&session.member_id),
        subject: Some(&active.link_id),
        provider: Some(&active.provider),
        address: Some(&visit.address),
        data: serde_json::json!({ "consent": consent.version }),
        ..Default::default()
    };
    audit::insert(&mut tx, app.now(), entry).await?;
    tx.commit().await?;
    Ok(Redirect::to("/account?done=consented").into_response())
}

/// Whether the member of this link has not yet answered to the text that holds now. A suspended link asks when it
/// is resumed, an imported one when it is confirmed.
pub fn is_asked(app: &App, active: &Active) -> bool {
    active.suspended_at.is_none()
        && active.unconfirmed_at.is_none()
        && active.consent_version != app.config.consent.version
}

impl<'a> Consent<'a> {
    /// The text that holds now, in this language or in the company's.
    pub fn in_language(app: &'a App, locale: &str) -> Self {
        let (version, texts) = (&app.config.consent.version, &app.config.consent.text);
        let (locale, text) = in_language(app, texts, locale);
        Self { version, locale, text }
    }

    /// The text that a form names as `version:locale`, if it holds still.
    pub fn named(app: &'a App, named: &str) -> Option<Self> {
        let (version, locale) = named.rsplit_once(':')?;
        let shown = Self::in_language(app, locale);
        (shown.version == version && shown.locale == locale).then_some(shown)
    }
}

impl Shown {
    pub fn new(app: &App, visit: &Visit) -> Self {
        let consent = Consent::in_language(app, visit.locale.tag());
        Self {
            version: consent.version.to_owned(),
            locale: consent.locale.to_owned(),
            text: consent.text.to_owned(),
            notice: in_language(app, &app.config.consent.notice, consent.locale).1.to_owned(),
        }
    }
}

fn in_language<'a>(
    app: &'a App,
    texts: &'a std::collections::BTreeMap<String, String>,
    locale: &str,
) -> (&'a str, &'a str) {
    let found = texts.get_key_value(locale).or_else(|| texts.get_key_value(&app.config.default_locale));
    found.map(|(locale, text)| (locale.as_str(), text.as_str())).unwrap_or_default()
}

/// Keeps the evidence of a yes: who (by the link), to which text, when.
pub async fn record(conn: &mut Conn, now: Millis, link_id: &str, consent: Consent<'_>) -> Result<()> {
    keep_text(conn, now, consent).await?;
    insert(conn, now, link_id, consent.version, consent.locale).await
}

/// Keeps that somebody agreed to a text that is kept already.
pub(super) async fn insert(conn: &mut Conn, at: Millis, link_id: &str, version: &str, locale: &str) -> Result<()> {
    sqlx::query("INSERT INTO consents (id, link_id, version, locale, accepted_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(new_id(at))
        .bind(link_id)
        .bind(version)
        .bind(locale)
        .bind(at)
        .execute(conn)
        .await?;
    Ok(())
}

/// A yes to a new version; false where this version was agreed to already, or the link ended meanwhile.
async fn renew(conn: &mut Conn, now: Millis, link_id: &str, consent: Consent<'_>) -> Result<bool> {
    let renewed = sqlx::query(
        "UPDATE links SET consent_version = $1, consent_locale = $2
         WHERE id = $3 AND ended_at IS NULL AND consent_version <> $1",
    )
    .bind(consent.version)
    .bind(consent.locale)
    .bind(link_id)
    .execute(&mut *conn)
    .await?;
    if renewed.rows_affected() == 0 {
        return Ok(false);
    }
    record(conn, now, link_id, consent).await?;
    Ok(true)
}

/// Keeps the text itself, once for each version and language. Another one under the same name is no evidence: then
/// nobody agrees to anything until the configuration is mended.
pub(super) async fn keep_text(conn: &mut Conn, now: Millis, consent: Consent<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO consent_texts (version, locale, text, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(consent.version)
    .bind(consent.locale)
    .bind(consent.text)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    match find_text(conn, consent.version, consent.locale).await? {
        Some(kept) if kept != consent.text => Err(Error::internal(changed(consent.version, consent.locale))),
        Some(_) | None => Ok(()),
    }
}

async fn find_text(conn: &mut Conn, version: &str, locale: &str) -> Result<Option<String>> {
    let text = sqlx::query_scalar("SELECT text FROM consent_texts WHERE version = $1 AND locale = $2")
        .bind(version)
        .bind(locale)
        .fetch_optional(conn)
        .await?;
    Ok(text)
}

/// The configured texts that differ from what people agreed to under the same version, in words for whoever mends
/// them: with these the application does not start.
pub async fn list_changed(app: &App) -> Result<Vec<String>> {
    let mut conn = app.db.conn().await?;
    let version = &app.config.consent.version;
    let mut found = Vec::new();
    for (locale, text) in &app.config.consent.text {
        if find_text(&mut conn, version, locale).await?.is_some_and(|kept| &kept != text) {
            found.push(changed(version, locale));
        }
    }
    Ok(found)
}

fn changed(version: &str, locale: &str) -> String {
    format!(
        "consent.text.{locale}: people agreed to another text as version {version:?}; give this one a new version \
         (consent.version)"
    )
}
