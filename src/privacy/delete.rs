//! Deleting the account: one transaction ends all that hangs on it, and erases who it was. What the clean-up at LINE
//! still needs goes when that is over ([`erase`](super::erase)).

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    link::{
        end::{self, Ending},
        grant, list_active,
    },
    mail::{self, Mail},
    member::{
        self, Member, attribute,
        company::{self, By},
        guard::SignedIn,
        session::{self, Session},
        step_up::{self, Proof},
    },
    queue::{self, Job},
    rich_menu::overrule,
    web::{
        cookie,
        form::Form,
        locale::Locale,
        page::{Page, html},
        visit::Visit,
    },
};

const HERE: &str = "/account/delete";

#[derive(Template)]
#[template(path = "privacy/delete.html")]
struct Delete {
    page: Page,
    /// The address, or the name where there is none.
    account: String,
    has_password: bool,
    problem: Option<String>,
    /// Whether the problem is with the word, and not with the password.
    is_word: bool,
}

#[derive(Template)]
#[template(path = "privacy/deleted.html")]
struct Deleted {
    page: Page,
}

#[derive(Deserialize)]
pub struct Fields {
    /// Not asked of a member who has none.
    #[serde(default)]
    password: String,
    /// The word that the page asks for, so that no slip of a finger ends an account.
    #[serde(default)]
    word: String,
}

/// `GET /account/delete`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let has_password = step_up::asks_password(&mut conn, &app, &session, HERE).await?;
    html(&form(&app, &visit, &session, has_password, None))
}

/// `POST /account/delete`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    if !is_word(&app, &fields.word) {
        let mut conn = app.db.conn().await?;
        let has_password = step_up::asks_password(&mut conn, &app, &session, HERE).await?;
        let page = html(&form(&app, &visit, &session, has_password, Some("delete.problem_word")))?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    if step_up::prove(&app, &session, &fields.password, HERE).await? != Proof::Given {
        record_refusal(&app, &visit, &session).await?;
        let page = html(&form(&app, &visit, &session, true, Some("problem.wrong_password")))?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    delete(&app, &visit, &session).await?;
    app.wake();
    let page = html(&Deleted { page: Page::new(&app, &Visit { viewer: None, ..visit }) })?;
    Ok((cookie::remove(&app.config, cookie::SESSION), cookie::remove(&app.config, cookie::DEVICE), page)
        .into_response())
}

/// By the member, who just proved to be there.
async fn delete(app: &App, visit: &Visit, session: &Session) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let member = member::hold(&mut tx, &app.db, &session.member_id).await?;
    let ended = || Error::SignIn { return_to: HERE.to_owned() };
    let member = member.ok_or_else(ended)?;
    // Not by a session that ended meanwhile, as by a reset: its proof was of the former password.
    if !session::is_live(&mut tx, session).await? {
        return Err(ended());
    }
    end_account(&mut tx, app, &member, visit.locale.tag(), serde_json::Value::Null).await?;
    tx.commit().await?;
    Ok(())
}

/// By the company, as where a person ended their membership there; false where there is no such member. The same id
/// may be a new member's from now on.
pub async fn by_company(app: &App, external_id: &str, by: By<'_>) -> Result<bool> {
    let mut tx = app.db.begin().await?;
    let Some(member) = company::hold(&mut tx, &app.db, external_id).await? else { return Ok(false) };
    let data = serde_json::json!({ "by": by.what, "by_id": by.id });
    end_account(&mut tx, app, &member, &app.config.default_locale, data).await?;
    tx.commit().await?;
    app.wake();
    Ok(true)
}

/// The whole of it, of a member who is held. `locale` is the last mail's where the member chose none.
async fn end_account(conn: &mut Conn, app: &App, member: &Member, locale: &str, data: serde_json::Value) -> Result<()> {
    let (now, member_id) = (app.now(), member.id.as_str());
    for active in list_active(conn, member_id).await? {
        let ending = Ending { reason: "deleted", action: "unlinked", address: None };
        end::end(conn, app, &active, ending).await?;
    }
    give_up_attempts(conn, now, member_id).await?;
    session::end_all(conn, member_id, None).await?;
    erase_mails(conn, now, member).await?;
    forget(conn, member_id).await?;
    attribute::erase(conn, member_id).await?;
    overrule::erase(conn, member_id).await?;
    // After the others were dropped: this one still goes to the former address, and is erased when it went.
    let locale = member.locale.as_deref().unwrap_or(locale);
    let to = mail::To { email: &member.email, member_id: Some(member_id), locale };
    mail::queue(conn, app, to, &Mail::AccountDeleted { name: member.name.clone() }).await?;
    let entry = audit::Entry { action: "deleted", member_id: Some(member_id), data, ..Default::default() };
    audit::insert(conn, app.now(), entry).await?;
    let erase = Job::EraseMember { member_id: member_id.to_owned() };
    queue::enqueue(conn, now, now, &erase).await?;
    erase_member(conn, now, member_id).await
}

/// Links that were only begun: their tokens go back to LINE now.
async fn give_up_attempts(conn: &mut Conn, now: Millis, member_id: &str) -> Result<()> {
    let begun: Vec<String> = sqlx::query_scalar("SELECT id FROM attempts WHERE member_id = $1 ORDER BY id")
        .bind(member_id)
        .fetch_all(&mut *conn)
        .await?;
    for attempt_id in begun {
        for grant_id in grant::list_of_attempt(conn, &attempt_id).await? {
            queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id }).await?;
        }
    }
    Ok(())
}

/// What would prove that somebody is this member, and from where they came.
pub(super) async fn forget(conn: &mut Conn, member_id: &str) -> Result<()> {
    for statement in [
        "DELETE FROM tokens WHERE member_id = $1",
        "DELETE FROM devices WHERE member_id = $1",
        "DELETE FROM oidc_attempts WHERE member_id = $1",
        "DELETE FROM sign_ups WHERE email_key = (SELECT email_key FROM members WHERE id = $1)",
        "UPDATE audit SET address = NULL WHERE member_id = $1 AND address IS NOT NULL",
    ] {
        sqlx::query(statement).bind(member_id).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Drops the mails that wait, and erases whom all went to and what they named.
async fn erase_mails(conn: &mut Conn, now: Millis, member: &Member) -> Result<()> {
    let email_key = member::email_key(&member.email);
    sqlx::query(
        "UPDATE mails SET note = CASE WHEN state = 'waiting' THEN 'account_deleted' ELSE note END,
           ended_at = COALESCE(ended_at, $1), state = CASE WHEN state = 'waiting' THEN 'dropped' ELSE state END,
           recipient = '', recipient_key = '', mail = '{}'
         WHERE member_id = $2 OR recipient_key = $3",
    )
    .bind(now)
    .bind(&member.id)
    .bind(email_key)
    .execute(conn)
    .await?;
    Ok(())
}

/// The row stays, so that what refers to it keeps its meaning; it names nobody any more, and frees the address. It is
/// disabled too: whatever asks for that refuses a deleted member as well.
async fn erase_member(conn: &mut Conn, now: Millis, member_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE members SET deleted_at = $1, disabled_at = $1, external_id = NULL, email = '',
           email_key = 'deleted:' || id, email_verified_at = NULL, name = '', password_hash = NULL,
           password_changed_at = $1, locale = NULL, time_zone = NULL, quiet_hours = NULL, oidc_at = NULL
         WHERE id = $2 AND deleted_at IS NULL",
    )
    .bind(now)
    .bind(member_id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn record_refusal(app: &App, visit: &Visit, session: &Session) -> Result<()> {
    let entry = audit::Entry {
        action: "delete_refused",
        reason: Some("credentials"),
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, app.now(), entry).await
}

/// The word of any language: the page may have been switched meanwhile.
fn is_word(app: &App, text: &str) -> bool {
    Locale::ALL.iter().any(|locale| app.texts.get(*locale, "delete.word").eq_ignore_ascii_case(text.trim()))
}

fn form(app: &App, visit: &Visit, session: &Session, has_password: bool, problem: Option<&str>) -> Delete {
    let page = Page::new(app, visit);
    Delete {
        account: if session.email.is_empty() { session.name.clone() } else { session.email.clone() },
        has_password,
        problem: problem.map(|key| page.t(key).to_owned()),
        is_word: problem == Some("delete.problem_word"),
        page,
    }
}
