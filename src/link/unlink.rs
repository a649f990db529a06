//! Unlinking: at once here, then step by step at LINE ([`cleanup`]).

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Active, cleanup, find_active};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    kill,
    member::{
        self,
        guard::SignedIn,
        password::{self, Verdict},
        session::{self, Method, Session},
    },
    message,
    queue::{self, Job},
    web::{
        cookie,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/unlink.html")]
struct Unlink {
    page: Page,
    provider: String,
    label: String,
    line_name: String,
    picture: Option<String>,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    provider: Option<String>,
}

#[derive(Deserialize)]
pub struct Fields {
    provider: String,
    password: String,
}

/// `GET /account/unlink`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    // The rich menu leads here without naming the provider: with one provider there is no question.
    let Some(provider) = asked.provider.or_else(|| app.config.provider.keys().next().cloned()) else {
        return Ok(Redirect::to("/account").into_response());
    };
    check_provider(&app, &provider)?;
    let active = find_active(&mut *app.db.conn().await?, &session.member_id, &provider).await?;
    match active {
        Some(active) => html(&form(&app, &visit, provider, active, None)),
        None => Ok(Redirect::to("/account").into_response()),
    }
}

/// `POST /account/unlink`. Repeating it changes nothing more.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    check_provider(&app, &fields.provider)?;
    let mut conn = app.db.conn().await?;
    let active = find_active(&mut conn, &session.member_id, &fields.provider).await?;
    let Some(active) = active else { return Ok(Redirect::to("/account").into_response()) };
    let member = member::find(&mut conn, &session.member_id).await?.ok_or(Error::NotFound)?;
    drop(conn);
    let verdict = password::verify(&app, member.password_hash.as_deref(), &fields.password).await?;
    if verdict == Verdict::Wrong {
        record_wrong_password(&app, &visit, &session, &active).await?;
        let page = html(&form(&app, &visit, fields.provider, active, Some("problem.wrong_password")))?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }

    let mut tx = app.db.begin().await?;
    end(&mut tx, &app, &visit, &session, &fields.provider, &active).await?;
    // What this browser may do has changed, so its session gets a new id, if it lives still. One that came by this
    // link ends with it; the password just given makes a new one of it.
    let token = match session.method.as_str() {
        "line" => session::rotate(&mut tx, &app, &visit, &session, &Method::Password).await?,
        _ => session::renew(&mut tx, &app, &session).await?,
    };
    session::end_by_link(&mut tx, &active.link_id).await?;
    kill::point("unlink.recorded");
    tx.commit().await?;
    kill::point("unlink.committed");
    app.wake();

    let answer = Redirect::to("/account?done=unlinked");
    Ok(match token {
        Some(token) => (cookie::set(&app.config, cookie::SESSION, &token, None), answer).into_response(),
        None => answer.into_response(),
    })
}

/// A name from outside reaches the database only where it is one of ours.
fn check_provider(app: &App, provider: &str) -> Result<()> {
    if app.config.provider.contains_key(provider) { Ok(()) } else { Err(Error::NotFound) }
}

/// Ends the link with all that hangs on it but its sessions, unless somebody was quicker.
async fn end(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    provider: &str,
    active: &Active,
) -> Result<()> {
    let now = app.now();
    if !end_link(conn, now, &active.link_id, "member").await? {
        return Ok(());
    }
    message::cancel_waiting(conn, now, &active.link_id).await?;
    let has_menu = app.config.channels_of(provider).next().is_some();
    cleanup::begin(conn, now, &active.link_id, has_menu).await?;
    for channel in app.config.channels_of(provider) {
        let menu = Job::UserMenu { line_user_id: active.line_user_id.clone(), channel: channel.clone() };
        queue::enqueue(conn, now, now, &menu).await?;
    }
    let entry = audit::Entry {
        action: "unlinked",
        member_id: Some(&session.member_id),
        subject: Some(&active.link_id),
        provider: Some(provider),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await
}

async fn end_link(conn: &mut Conn, now: Millis, link_id: &str, reason: &str) -> Result<bool> {
    let ended = sqlx::query("UPDATE links SET ended_at = $1, end_reason = $2 WHERE id = $3 AND ended_at IS NULL")
        .bind(now)
        .bind(reason)
        .bind(link_id)
        .execute(conn)
        .await?;
    Ok(ended.rows_affected() == 1)
}

async fn record_wrong_password(app: &App, visit: &Visit, session: &Session, active: &Active) -> Result<()> {
    let entry = audit::Entry {
        action: "unlink_refused",
        reason: Some("credentials"),
        member_id: Some(&session.member_id),
        subject: Some(&active.link_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, app.now(), entry).await
}

fn form(app: &App, visit: &Visit, provider: String, active: Active, problem: Option<&str>) -> Unlink {
    let page = Page::new(app, visit);
    Unlink {
        label: app.config.label_of(&provider),
        provider,
        line_name: active.display_name,
        picture: picture::allowed(app, active.picture_url.as_deref()),
        problem: problem.map(|key| page.t(key).to_owned()),
        page,
    }
}
