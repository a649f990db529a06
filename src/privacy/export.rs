//! "Download my data": all that is kept about a member, as JSON. No secret, no token, no hash, nobody else.

use askama::Template;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    app::App,
    audit,
    db::{Conn, Db, Millis},
    error::{Error, Result},
    member::{
        self, company,
        guard::SignedIn,
        session::{self, Session},
        step_up::{self, Proof},
    },
    message::topic,
    rich_menu::overrule::{self, Overrule},
    web::{
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const HERE: &str = "/account/data";

#[derive(Template)]
#[template(path = "privacy/data.html")]
struct Data {
    page: Page,
    has_password: bool,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Fields {
    /// Not asked of a member who has none.
    #[serde(default)]
    password: String,
}

/// `GET /account/data`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let has_password = step_up::asks_password(&mut *app.db.conn().await?, &app, &session, HERE).await?;
    html(&Data { page: Page::new(&app, &visit), has_password, problem: None })
}

/// `POST /account/data`: the copy, as a file.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let proof = step_up::prove(&app, &session, &fields.password, HERE).await?;
    let mut tx = app.db.begin().await?;
    record(&mut tx, &app, &visit, &session, proof).await?;
    if proof != Proof::Given {
        tx.commit().await?;
        let page = Page::new(&app, &visit);
        let problem = Some(page.t("problem.wrong_password").to_owned());
        let page = html(&Data { page, has_password: true, problem })?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    member::hold(&mut tx, &app.db, &session.member_id).await?;
    if !session::is_live(&mut tx, &session).await? {
        return Err(Error::SignIn { return_to: HERE.to_owned() });
    }
    let copy = collect(&mut tx, &app.db, &session.member_id).await?;
    tx.commit().await?;
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"account-data.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, serde_json::to_string_pretty(&copy)?).into_response())
}

async fn record(conn: &mut Conn, app: &App, visit: &Visit, session: &Session, proof: Proof) -> Result<()> {
    let is_given = proof == Proof::Given;
    let entry = audit::Entry {
        action: if is_given { "data_given" } else { "data_refused" },
        reason: (!is_given).then_some("credentials"),
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

/// All of it, by table.
async fn collect(conn: &mut Conn, db: &Db, member_id: &str) -> Result<Value> {
    Ok(json!({
        "account": account(conn, db, member_id).await?,
        "sessions": sessions(conn, member_id).await?,
        "known_browsers": browsers(conn, member_id).await?,
        "line_links": links(conn, member_id).await?,
        "line_friends": friends(conn, member_id).await?,
        "line_menus": menus(conn, member_id).await?,
        "line_attempts": attempts(conn, member_id).await?,
        "account_links": account_links(conn, member_id).await?,
        "link_tickets": tickets(conn, member_id).await?,
        "consents": consents(conn, member_id).await?,
        "line_messages": messages(conn, member_id).await?,
        "line_chat": chat(conn, member_id).await?,
        "line_answers": answers(conn, member_id).await?,
        "mails": mails(conn, member_id).await?,
        "told_to_company_systems": hook_events(conn, member_id).await?,
        "events": events(conn, member_id).await?,
    }))
}

async fn account(conn: &mut Conn, db: &Db, member_id: &str) -> Result<Value> {
    let known = [member_id.to_owned()];
    let member = company::details(conn, db, &known).await?.pop().ok_or(Error::NotFound)?;
    let (verified, password_changed): (Option<Millis>, Option<Millis>) =
        sqlx::query_as("SELECT email_verified_at, password_changed_at FROM members WHERE id = $1")
            .bind(member_id)
            .fetch_one(&mut *conn)
            .await?;
    Ok(json!({
        "id": member.id, "external_id": member.external_id, "name": member.name, "email": member.email,
        "email_verified_at": when(verified), "language": member.language, "time_zone": member.time_zone,
        "password_changed_at": when(password_changed), "source": member.source, "created_at": time(member.created_at),
        "attributes": member.attributes, "tags": member.tags,
        "unwanted_topics": topic::list(conn, db, &known).await?.remove(member_id).unwrap_or_default(),
    }))
}

async fn sessions(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, Millis, Millis, Millis, String, String)> = sqlx::query_as(
        "SELECT method, created_at, last_seen_at, expires_at, user_agent, address FROM sessions
         WHERE member_id = $1 ORDER BY created_at",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(method, created, seen, expires, user_agent, address)| {
        json!({ "method": method, "created_at": time(created), "last_seen_at": time(seen),
            "expires_at": time(expires), "browser": user_agent, "address": address })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn browsers(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(Millis, Millis)> =
        sqlx::query_as("SELECT created_at, last_used_at FROM devices WHERE member_id = $1 ORDER BY created_at")
            .bind(member_id)
            .fetch_all(conn)
            .await?;
    let row = |(created, used)| json!({ "created_at": time(created), "last_used_at": time(used) });
    Ok(rows.into_iter().map(row).collect())
}

/// A LINE user who is no longer linked may be somebody else's by now: of those only what was known at the end.
async fn links(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: String,
        provider: String,
        user_id: String,
        line_name: String,
        picture_url: Option<String>,
        language: Option<String>,
        source: String,
        permission: String,
        created_at: Millis,
        suspended_at: Option<Millis>,
        unconfirmed_at: Option<Millis>,
        ended_at: Option<Millis>,
        end_reason: Option<String>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT l.id, l.provider, u.user_id, COALESCE(l.line_name, u.display_name) AS line_name,
           CASE WHEN l.ended_at IS NULL THEN u.picture_url END AS picture_url,
           CASE WHEN l.ended_at IS NULL THEN u.language END AS language,
           l.source, l.permission, l.created_at, l.suspended_at, l.unconfirmed_at, l.ended_at, l.end_reason
         FROM links l JOIN line_users u ON u.id = l.line_user_id WHERE l.member_id = $1 ORDER BY l.created_at, l.id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "id": row.id, "provider": row.provider, "line_user_id": row.user_id, "line_name": row.line_name,
            "line_picture": row.picture_url, "line_language": row.language, "source": row.source,
            "line_permission": row.permission, "linked_at": time(row.created_at), "suspended_at": when(row.suspended_at),
            "unconfirmed_since": when(row.unconfirmed_at),
            "ended_at": when(row.ended_at), "ended_by": row.end_reason })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn friends(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, String, String, Millis)> = sqlx::query_as(
        "SELECT l.id, f.channel, f.friend, f.changed_at FROM friends f JOIN links l ON l.line_user_id = f.line_user_id
         WHERE l.member_id = $1 AND l.ended_at IS NULL ORDER BY f.channel",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(link, channel, friend, changed)| json!({ "link": link, "official_account": channel, "friend": friend, "changed_at": time(changed) });
    Ok(rows.into_iter().map(row).collect())
}

/// The menus that LINE was told to show them, and those that the company chose for them.
async fn menus(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, Option<String>, Millis)> = sqlx::query_as(
        "SELECT s.channel, s.menu, s.applied_at FROM user_menus s JOIN links l ON l.line_user_id = s.line_user_id
         WHERE l.member_id = $1 AND l.ended_at IS NULL ORDER BY s.channel",
    )
    .bind(member_id)
    .fetch_all(&mut *conn)
    .await?;
    let given = |(channel, menu, at)| json!({ "official_account": channel, "menu": menu, "given_at": time(at) });
    let chosen = |chosen: Overrule| json!({ "official_account": chosen.channel, "menu": chosen.menu, "chosen_until": when(chosen.until) });
    let chosen = overrule::list(conn, member_id).await?.into_iter().map(chosen);
    Ok(rows.into_iter().map(given).chain(chosen).collect())
}

/// Their tries to sign in or link through LINE.
async fn attempts(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        provider: String,
        purpose: String,
        created_at: Millis,
        returned_at: Option<Millis>,
        shown_at: Option<Millis>,
        confirmed_at: Option<Millis>,
        outcome: Option<String>,
        address: String,
        user_agent: Option<String>,
        returned_agent: Option<String>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT provider, purpose, created_at, returned_at, shown_at, confirmed_at, outcome, address, user_agent,
           returned_agent
         FROM attempts WHERE member_id = $1 ORDER BY created_at, id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "provider": row.provider, "purpose": row.purpose, "started_at": time(row.created_at),
            "returned_at": when(row.returned_at), "shown_at": when(row.shown_at),
            "confirmed_at": when(row.confirmed_at), "outcome": row.outcome, "address": row.address,
            "browser": row.user_agent, "browser_of_return": row.returned_agent })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Links begun in a chat, from the yes on.
async fn account_links(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    type Row = (String, Option<String>, Option<Millis>, Option<Millis>, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT channel, consent_version, agreed_at, ended_at, outcome, address, user_agent FROM account_links
         WHERE member_id = $1 ORDER BY agreed_at, id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(channel, version, agreed, ended, outcome, address, browser)| {
        json!({ "official_account": channel, "consent_version": version, "agreed_at": when(agreed),
            "ended_at": when(ended), "outcome": outcome, "address": address, "browser": browser })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Addresses by which somebody was to link as them.
async fn tickets(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        provider: String,
        return_url: Option<String>,
        created_at: Millis,
        expires_at: Millis,
        opened_at: Option<Millis>,
        revoked_at: Option<Millis>,
        used_at: Option<Millis>,
        link_id: Option<String>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT provider, return_url, created_at, expires_at, opened_at, revoked_at, used_at, link_id FROM tickets
         WHERE member_id = $1 ORDER BY created_at, id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "provider": row.provider, "return_url": row.return_url, "created_at": time(row.created_at),
            "expires_at": time(row.expires_at), "opened_at": when(row.opened_at), "revoked_at": when(row.revoked_at),
            "used_at": when(row.used_at), "link": row.link_id })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn consents(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, String, String, Millis, Option<String>)> = sqlx::query_as(
        "SELECT c.link_id, c.version, c.locale, c.accepted_at, t.text
         FROM consents c JOIN links l ON l.id = c.link_id
         LEFT JOIN consent_texts t ON t.version = c.version AND t.locale = c.locale
         WHERE l.member_id = $1 ORDER BY c.accepted_at, c.id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(link, version, language, accepted, text)| json!({ "link": link, "version": version, "language": language, "accepted_at": time(accepted), "text": text });
    Ok(rows.into_iter().map(row).collect())
}

async fn messages(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        channel: String,
        cause: String,
        /// Of one to many the message's own, or the data that fills its template.
        content: String,
        state: String,
        reason: Option<String>,
        created_at: Millis,
        updated_at: Millis,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT d.channel, m.cause, COALESCE(d.content, m.content, m.data, '[]') AS content, d.state, d.reason,
           d.created_at, d.updated_at
         FROM links l JOIN deliveries d ON d.link_id = l.id JOIN messages m ON m.id = d.message_id
         WHERE l.member_id = $1 ORDER BY d.created_at, d.message_id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "official_account": row.channel, "cause": row.cause, "content": parsed(&row.content),
            "state": row.state, "reason": row.reason, "created_at": time(row.created_at),
            "updated_at": time(row.updated_at) })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What they wrote to the official accounts since they linked: before, it may have been somebody else's LINE account. Of
/// a suspended link nobody knows whose it is, nor of one that the person has not confirmed.
async fn chat(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        link: String,
        channel: String,
        kind: String,
        text: String,
        at: Millis,
        edited_at: Option<Millis>,
        unsent_at: Option<Millis>,
        media: Option<String>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT l.id AS link, c.channel, c.kind, c.text, c.at, c.edited_at, c.unsent_at, f.state AS media
         FROM chat_messages c JOIN links l ON l.line_user_id = c.line_user_id
         LEFT JOIN media f ON f.channel = c.channel AND f.message_id = c.id
         WHERE l.member_id = $1 AND l.ended_at IS NULL AND l.suspended_at IS NULL AND l.unconfirmed_at IS NULL
           AND c.at >= l.created_at
         ORDER BY c.at, c.id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "link": row.link, "official_account": row.channel, "kind": row.kind, "text": row.text,
            "written_at": time(row.at), "edited_at": when(row.edited_at), "unsent_at": when(row.unsent_at),
            "media": row.media })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What the official accounts answered to that.
async fn answers(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    type Row = (String, String, String, Option<String>, String, Millis, Millis);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT l.id, a.channel, a.cause, a.content, a.state, a.created_at, a.updated_at
         FROM answers a JOIN links l ON l.line_user_id = a.line_user_id
         WHERE l.member_id = $1 AND l.ended_at IS NULL AND l.suspended_at IS NULL AND l.unconfirmed_at IS NULL
           AND a.created_at >= l.created_at
         ORDER BY a.created_at, a.id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(link, channel, cause, content, state, created, updated): Row| {
        json!({ "link": link, "official_account": channel, "cause": cause,
            "content": content.as_deref().map(parsed), "state": state, "created_at": time(created),
            "updated_at": time(updated) })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn mails(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, String, String, Millis, Option<Millis>)> = sqlx::query_as(
        "SELECT kind, recipient, state, created_at, ended_at FROM mails WHERE member_id = $1 ORDER BY created_at, id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |(kind, recipient, state, created, ended)| json!({ "kind": kind, "to": recipient, "state": state, "created_at": time(created), "ended_at": when(ended) });
    Ok(rows.into_iter().map(row).collect())
}

/// What the company's own systems were told.
async fn hook_events(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    let rows: Vec<(String, Millis, String)> =
        sqlx::query_as("SELECT type, at, data FROM hook_events WHERE member_id = $1 ORDER BY id")
            .bind(member_id)
            .fetch_all(conn)
            .await?;
    let row =
        |(kind, at, data): (String, Millis, String)| json!({ "type": kind, "at": time(at), "data": parsed(&data) });
    Ok(rows.into_iter().map(row).collect())
}

async fn events(conn: &mut Conn, member_id: &str) -> Result<Vec<Value>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        at: Millis,
        action: String,
        reason: Option<String>,
        provider: Option<String>,
        address: Option<String>,
        data: String,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT at, action, reason, provider, address, data FROM audit WHERE member_id = $1 ORDER BY at, id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    let row = |row: Row| {
        json!({ "at": time(row.at), "action": row.action, "reason": row.reason, "provider": row.provider,
            "address": row.address, "data": parsed(&row.data) })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// JSON that is kept as text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// RFC 3339, in UTC.
fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

fn when(at: Option<Millis>) -> Option<String> {
    at.map(time)
}
