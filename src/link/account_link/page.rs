//! The page that the chat's button leads to: both accounts, the consent text, and the proof of the member, always.
//!
//! Whoever was sent here by somebody else is signed in perhaps, and would link a stranger's LINE account. So the page
//! never goes on by itself, names the LINE account that the button was made for, and asks for the password each time.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Begun, LIFE, Yes, agree, end, find_by_link_token, record_refusal};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, NextStep, Refusal, Result},
    line::message::url,
    line_user,
    link::{
        Decision, Purpose,
        consent::{self, Consent, Shown},
        decide, find_active, find_owner,
        refusal::{Cause, Restart},
        tell,
    },
    member::{
        self,
        guard::MaybeSession,
        session::{self, Session},
        step_up::{self, Proof},
    },
    queue::{self, Job},
    web::{
        form::Form,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/account_link.html")]
struct AccountLink {
    page: Page,
    link_token: String,
    line_name: String,
    line_detail: String,
    line_picture: Option<String>,
    member_name: String,
    member_email: String,
    consent: Shown,
    has_password: bool,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(rename = "linkToken", default)]
    link_token: String,
}

#[derive(Deserialize)]
pub struct Fields {
    link_token: String,
    /// Version and language of the consent text that the page showed.
    consent: String,
    /// Not asked of a member who has none.
    #[serde(default)]
    password: String,
}

/// `GET /account-link`: shows only. LINE and others open links to preview them.
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let session = admit(session, &asked.link_token)?;
    let mut conn = app.db.conn().await?;
    let begun = find_by_link_token(&mut conn, &asked.link_token).await?;
    if begun.as_ref().is_some_and(|begun| is_done(begun, &session)) {
        return Ok(Redirect::to("/account?done=linked").into_response());
    }
    let open = open_to(&app, &session, begun, asked.link_token)?;
    if let Err(cause) = judge(&mut conn, &session, &open).await? {
        return Err(refuse(&open, cause));
    }
    let has_password = step_up::asks_password(&mut conn, &app, &session, &here(&open.link_token)).await?;
    html(&page(&mut conn, &app, &visit, &session, open, has_password, None).await?)
}

/// `POST /account-link`: the yes. From here the browser goes to LINE's dialog with a nonce of this member's.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let session = admit(session, &fields.link_token)?;
    let begun = find_by_link_token(&mut *app.db.conn().await?, &fields.link_token).await?;
    let open = open_to(&app, &session, begun, fields.link_token)?;
    let here = here(&open.link_token);
    // Another text holds by now: the person reads that one first.
    let Some(consent) = Consent::named(&app, &fields.consent) else { return Ok(Redirect::to(&here).into_response()) };
    if step_up::prove(&app, &session, &fields.password, &here).await? != Proof::Given {
        let mut conn = app.db.conn().await?;
        let (member_id, address) = (Some(session.member_id.as_str()), Some(visit.address.as_str()));
        record_refusal(&mut conn, &app, Some(&open.begun), member_id, "credentials", address).await?;
        let problem = Some("problem.wrong_password");
        let page = page(&mut conn, &app, &visit, &session, open, true, problem).await?;
        return Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response());
    }
    let nonce = say_yes(&app, &visit, &session, &open, consent).await?;
    app.wake();
    let dialog = app.line.account_link_url(&open.link_token, &nonce).map_err(Error::internal)?;
    Ok(Redirect::to(dialog.as_str()).into_response())
}

/// An account link to which this member may say yes, and the provider of its channel.
struct Open {
    begun: Begun,
    provider: String,
    link_token: String,
}

/// A member with a link token of the right shape. Anything else reaches neither the database nor LINE.
fn admit(session: Option<Session>, link_token: &str) -> Result<Session> {
    if !is_link_token(link_token) {
        return Err(Error::BadRequest("not a link token"));
    }
    session.ok_or_else(|| Error::SignIn { return_to: here(link_token) })
}

/// The shape of the tokens that LINE makes, with room to change.
fn is_link_token(text: &str) -> bool {
    (10..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn open_to(app: &App, session: &Session, begun: Option<Begun>, link_token: String) -> Result<Open> {
    let open = begun.filter(|begun| begun.is_open_to(app.now(), &session.member_id));
    let provided = open.and_then(|begun| {
        let provider = app.config.channel.get(&begun.channel)?.provider.clone();
        Some(Open { begun, provider, link_token })
    });
    provided.ok_or_else(|| gone(app))
}

/// Linked already by this very button: somebody went back, or opened it once more.
fn is_done(begun: &Begun, session: &Session) -> bool {
    begun.outcome.as_deref() == Some("linked") && begun.member_id.as_ref() == Some(&session.member_id)
}

/// Whether the two accounts are free, or tied to each other by a suspended or imported link.
async fn judge(conn: &mut Conn, session: &Session, open: &Open) -> Result<Result<(), Cause>> {
    let owner = find_owner(conn, &open.begun.line_user_id).await?;
    let has_other = find_active(conn, &session.member_id, &open.provider).await?.is_some();
    Ok(match decide(Purpose::Link, Some(&session.member_id), owner, has_other) {
        Decision::Confirm => Ok(()),
        Decision::AlreadyYours => Err(Cause::AlreadyYours),
        Decision::OwnedByAnother(_) => Err(Cause::ConflictLine),
        Decision::MemberHasAnother => Err(Cause::ConflictMember),
        Decision::SignIn(_)
        | Decision::ConfirmImported(_)
        | Decision::Unavailable
        | Decision::OfferToLink
        | Decision::OfferToSignUp => Err(Cause::Unavailable),
    })
}

/// Keeps the yes; gives the nonce.
async fn say_yes(app: &App, visit: &Visit, session: &Session, open: &Open, consent: Consent<'_>) -> Result<String> {
    let (now, begun) = (app.now(), &open.begun);
    let mut tx = app.db.begin().await?;
    let member = member::hold(&mut tx, &app.db, &session.member_id).await?;
    // Not by a session that ended meanwhile, as by a reset: its proof was of the former password.
    if member.is_none() || !session::is_live(&mut tx, session).await? {
        return Err(Error::SignIn { return_to: "/account".into() });
    }
    if let Err(cause) = judge(&mut tx, session, open).await? {
        record_conflict(&mut tx, app, visit, session, open, cause).await?;
        tx.commit().await?;
        app.wake();
        return Err(refuse(open, cause));
    }
    let nonce = begun.nonce(app, session);
    let yes = Yes {
        nonce: &nonce,
        session,
        visit,
        locale: visit.locale.tag(),
        consent_version: consent.version,
        consent_locale: consent.locale,
    };
    if !agree(&mut tx, now, &begun.id, &yes).await? {
        return Err(gone(app));
    }
    consent::keep_text(&mut tx, now, consent).await?;
    let expire = Job::ExpireLink { account_link_id: begun.id.clone() };
    queue::enqueue(&mut tx, now, now.plus(LIFE), &expire).await?;
    let entry = audit::Entry {
        action: "account_link_agreed",
        member_id: Some(&session.member_id),
        subject: Some(&begun.id),
        provider: Some(&open.provider),
        address: Some(&visit.address),
        data: serde_json::json!({ "line_user": begun.line_user_id, "consent": consent.version }),
        ..Default::default()
    };
    audit::insert(&mut tx, now, entry).await?;
    tx.commit().await?;
    Ok(nonce)
}

/// A conflict uses the button up, so that the present owner is told once.
async fn record_conflict(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    open: &Open,
    cause: Cause,
) -> Result<()> {
    let begun = &open.begun;
    let (member_id, address) = (Some(session.member_id.as_str()), Some(visit.address.as_str()));
    record_refusal(conn, app, Some(begun), member_id, cause.reason(), address).await?;
    if end(conn, app.now(), &begun.id, cause.reason()).await?
        && let (Cause::ConflictLine, Some(owner)) = (cause, find_owner(conn, &begun.line_user_id).await?)
    {
        tell::owner(conn, app, &open.provider, &begun.line_user_id, &owner, None).await?;
    }
    Ok(())
}

fn refuse(open: &Open, cause: Cause) -> Error {
    cause.refuse(&Restart::new(&open.provider, Purpose::Link, "/account"))
}

/// Unknown, used, too old or somebody else's: nothing tells which. A new one is had in the chat.
fn gone(app: &App) -> Error {
    let mut named = app.config.channel.values().filter_map(|channel| channel.basic_id.as_deref());
    let next = match (named.next(), named.next()) {
        (Some(basic_id), None) => url::profile(basic_id),
        _ => "/account".to_owned(),
    };
    Error::Refused(Box::new(Refusal {
        status: StatusCode::NOT_FOUND,
        key: "account_link_gone",
        reason: "account_link_gone",
        next: NextStep::Link(next),
    }))
}

fn here(link_token: &str) -> String {
    format!("/account-link?linkToken={link_token}")
}

async fn page(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    open: Open,
    has_password: bool,
    problem: Option<&str>,
) -> Result<AccountLink> {
    let line_user = line_user::find(conn, &open.begun.line_user_id).await?.ok_or(Error::NotFound)?;
    // After a form too: switching the language shows the page again.
    let visit = Visit { here: here(&open.link_token), ..visit.clone() };
    let page = Page::new(app, &visit);
    let line_detail = match line_user.display_name.as_str() {
        "" => page.t("account_link.name_unknown").to_owned(),
        _ => page.with("account_link.line_detail", &[&app.config.label_of(&open.provider)]),
    };
    Ok(AccountLink {
        link_token: open.link_token,
        line_detail,
        line_name: line_user.display_name,
        line_picture: picture::allowed(app, line_user.picture_url.as_deref()),
        member_name: session.name.clone(),
        member_email: member::masked_email(&session.email),
        consent: Shown::new(app, &visit),
        has_password,
        problem: problem.map(|key| page.t(key).to_owned()),
        page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n08_a_link_token_has_its_shape() {
        for (text, good) in [
            ("NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EY", true),
            ("abc-DEF_0123", true),
            ("short", false),
            ("", false),
            ("NMZTNuVrPTqlr2IF&nonce=evil", false),
            ("NMZTNuVrPTqlr2IF\r\nLocation: x", false),
            ("NMZTNuVrPTqlr2IF\0", false),
            ("NMZTNuVrPTqlr2IF%26", false),
        ] {
            assert_eq!(is_link_token(text), good, "{text:?}");
        }
        assert!(is_link_token(&"a".repeat(255)) && !is_link_token(&"a".repeat(10 * 1024)));
    }
}
