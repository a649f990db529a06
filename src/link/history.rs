//! All links a member ever had: since when, until when, what was agreed to, and how the end was carried out.

use askama::Template;
use axum::{extract::State, response::Response};

use super::account::Step;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    member::guard::SignedIn,
    web::{
        moment,
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/history.html")]
struct History {
    page: Page,
    links: Vec<Past>,
}

struct Past {
    label: String,
    line_name: String,
    since: String,
    /// Until when and how it ended.
    until: Option<(String, String)>,
    suspended: bool,
    /// Version and day.
    consents: Vec<(String, String)>,
    steps: Vec<Step>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    provider: String,
    line_name: String,
    created_at: Millis,
    suspended_at: Option<Millis>,
    ended_at: Option<Millis>,
    end_reason: Option<String>,
}

/// `GET /account/history`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let page = Page::new(&app, &visit);
    let mut conn = app.db.conn().await?;
    let rows = list(&mut conn, &session.member_id).await?;
    let consents = list_consents(&mut conn, &session.member_id).await?;
    let steps = list_steps(&mut conn, &session.member_id).await?;
    drop(conn);
    let day = |at: Millis| moment::day(&app, visit.locale, at).words;
    let past = |row: Row| Past {
        label: app.config.label_of(&row.provider),
        line_name: row.line_name,
        since: day(row.created_at),
        until: row.ended_at.map(|at| (day(at), how(&page, row.end_reason.as_deref()).to_owned())),
        suspended: row.ended_at.is_none() && row.suspended_at.is_some(),
        consents: consents
            .iter()
            .filter(|(link_id, ..)| *link_id == row.id)
            .map(|(_, version, at)| (version.clone(), day(*at)))
            .collect(),
        steps: steps
            .iter()
            .filter(|(link_id, ..)| *link_id == row.id)
            .map(|(_, step, state)| Step::new(&page, step, state))
            .collect(),
    };
    let links = rows.into_iter().map(past).collect();
    html(&History { page, links })
}

fn how<'a>(page: &'a Page, reason: Option<&str>) -> &'a str {
    page.t(match reason {
        Some("undone") => "history.ended_undone",
        Some("chat") => "history.ended_chat",
        Some("member") => "history.ended_member",
        Some("declined") => "history.ended_declined",
        Some("company") => "history.ended_company",
        _ => "history.ended_other",
    })
}

async fn list(conn: &mut Conn, member_id: &str) -> Result<Vec<Row>> {
    let rows = sqlx::query_as(
        "SELECT l.id, l.provider, COALESCE(l.line_name, u.display_name) AS line_name, l.created_at, l.suspended_at,
           l.ended_at, l.end_reason
         FROM links l JOIN line_users u ON u.id = l.line_user_id
         WHERE l.member_id = $1 ORDER BY l.created_at DESC, l.id DESC",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn list_consents(conn: &mut Conn, member_id: &str) -> Result<Vec<(String, String, Millis)>> {
    let rows = sqlx::query_as(
        "SELECT c.link_id, c.version, c.accepted_at FROM consents c JOIN links l ON l.id = c.link_id
         WHERE l.member_id = $1 ORDER BY c.accepted_at, c.id",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn list_steps(conn: &mut Conn, member_id: &str) -> Result<Vec<(String, String, String)>> {
    let rows = sqlx::query_as(
        "SELECT s.link_id, s.step, s.state FROM unlink_steps s JOIN links l ON l.id = s.link_id
         WHERE l.member_id = $1 ORDER BY s.step",
    )
    .bind(member_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
