//! Where a member is signed in, and ending that: `/account/sessions`. Ending asks for no proof, for somebody who sees
//! a stranger there must be quick.

use std::net::IpAddr;

use askama::Template;
use axum::{
    Form,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    guard::SignedIn,
    oidc,
    session::{self, Listed, Session},
    user_agent,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    web::{
        cookie,
        moment::{self, Moment},
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "member/sessions.html")]
struct Sessions {
    page: Page,
    sessions: Vec<Shown>,
}

struct Shown {
    handle: String,
    device: String,
    network: Option<String>,
    method: String,
    since: Moment,
    last_seen: Moment,
    is_this: bool,
}

#[derive(Deserialize)]
pub struct Fields {
    session: String,
}

/// `GET /account/sessions`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let page = Page::new(&app, &visit);
    let listed = session::list(&mut *app.db.conn().await?, app.now(), &session.member_id).await?;
    let sessions = listed.into_iter().map(|listed| shown(&app, &visit, &page, &session, listed)).collect();
    html(&Sessions { page, sessions })
}

/// `POST /account/sessions/end`. The browser's own session may be the one.
pub async fn end(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    // What is not one of our ids is not asked for: PostgreSQL takes no NUL at all.
    if fields.session.len() != 36 || !fields.session.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::NotFound);
    }
    let mut tx = app.db.begin().await?;
    if !session::end_of_lineage(&mut tx, &app.db, &session.member_id, &fields.session).await? {
        return Err(Error::NotFound);
    }
    let data = serde_json::json!({ "sessions": 1 });
    record(&mut tx, &app, &visit, &session, Some(&fields.session), data).await?;
    tx.commit().await?;
    Ok(if fields.session == session.lineage_id {
        (cookie::remove(&app.config, cookie::SESSION), Redirect::to("/")).into_response()
    } else {
        Redirect::to("/account/sessions").into_response()
    })
}

/// `POST /account/sessions/end-others`
pub async fn end_others(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    let ended = session::end_others(&mut tx, &app.db, &session).await?;
    if ended > 0 {
        record(&mut tx, &app, &visit, &session, None, serde_json::json!({ "sessions": ended })).await?;
    }
    tx.commit().await?;
    Ok(Redirect::to("/account/sessions").into_response())
}

async fn record(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    subject: Option<&str>,
    data: serde_json::Value,
) -> Result<()> {
    let entry = audit::Entry {
        action: "session_ended",
        member_id: Some(&session.member_id),
        subject,
        address: Some(&visit.address),
        data,
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

fn shown(app: &App, visit: &Visit, page: &Page, own: &Session, listed: Listed) -> Shown {
    let (browser, system) = user_agent::read(&listed.user_agent);
    let browser = browser.unwrap_or_else(|| page.t("sessions.unknown_browser"));
    Shown {
        device: match system {
            Some(system) => page.with("sessions.device", &[browser, system]),
            None => browser.to_owned(),
        },
        network: network(&listed.address),
        method: match (listed.method.as_str(), oidc::label(app)) {
            ("oidc", Some(label)) => label,
            (method, _) => page.t(&format!("sessions.method_{method}")).to_owned(),
        },
        since: moment::show(app, visit.locale, listed.created_at),
        last_seen: moment::show(app, visit.locale, listed.last_seen_at),
        is_this: listed.lineage_id == own.lineage_id,
        handle: listed.lineage_id,
    }
}

/// The range that an address is of: enough to know one's own, and no more of anybody's way of life than that.
fn network(address: &str) -> Option<String> {
    match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some(format!("{a}.{b}.{c}.x"))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Some(format!("{a:x}:{b:x}:{c:x}::/48"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_by_range() {
        for (address, expected) in [
            ("192.0.2.77", Some("192.0.2.x")),
            ("::ffff:192.0.2.77", Some("192.0.2.x")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1::/48")),
            ("", None),
            ("nonsense", None),
        ] {
            assert_eq!(network(address).as_deref(), expected, "{address}");
        }
    }
}
