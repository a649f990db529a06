//! The account page with its link cards, and the page for a LINE account that is nobody's yet.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;

use super::{
    Active,
    consent::{self, Shown},
    find_active, friend,
    liff::elsewhere,
    start::is_inside_liff,
};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    line_user::{self, Friend},
    member::{guard::SignedIn, other_app::OtherApp},
    web::{
        browser,
        locale::Locale,
        moment::{self, Moment},
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/account.html")]
struct Account {
    page: Page,
    name: String,
    email: String,
    done: Option<String>,
    /// The text that holds now, and the links whose members have not answered to it.
    consent: Shown,
    asks: Vec<Ask>,
    cards: Vec<Card>,
    fresh: bool,
    /// Where the page is open in another app, in which LINE may not come back.
    other_app: Option<OtherApp>,
}

struct Ask {
    provider: String,
    line_name: String,
}

struct Card {
    provider: String,
    label: String,
    state: CardState,
}

enum CardState {
    Unlinked,
    Linked {
        line_name: String,
        picture: Option<String>,
        friend: Friend,
        since: Moment,
        can_add_friend: bool,
        suspended: bool,
        withdrawn: bool,
        unconfirmed: bool,
    },
    /// The link is over; LINE's end of it is not yet.
    Unlinking {
        line_name: String,
        steps: Vec<Step>,
    },
}

/// A step of a clean-up, as `templates/link/steps.html` shows it.
pub struct Step {
    pub label: String,
    pub state: String,
    pub note: String,
}

#[derive(Template)]
#[template(path = "link/not_linked.html")]
struct NotLinked {
    page: Page,
    label: String,
    provider: String,
    /// This page, to which the sign-in returns: there the link is one press away.
    here: String,
    signed_in: bool,
    /// Inside of LINE, what the company's sign-in is called that wants the person's own browser.
    elsewhere: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    done: Option<String>,
    /// LINE's auto login came back in another browser before.
    fresh: Option<String>,
}

#[derive(Deserialize)]
pub struct OfProvider {
    provider: String,
}

/// `GET /account`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let page = Page::new(&app, &visit);
    let mut conn = app.db.conn().await?;
    let (mut cards, mut asks) = (Vec::new(), Vec::new());
    for (provider, found) in app.config.provider.iter().filter(|(_, provider)| provider.login.is_some()) {
        let state = match find_active(&mut conn, &session.member_id, provider).await? {
            Some(active) => {
                if consent::is_asked(&app, &active) {
                    asks.push(Ask { provider: provider.clone(), line_name: active.display_name.clone() });
                }
                linked(&mut conn, &app, visit.locale, provider, active).await?
            }
            None => unlinked(&mut conn, &app, &page, &session.member_id, provider).await?,
        };
        cards.push(Card { provider: provider.clone(), label: found.label(provider).to_owned(), state });
    }
    // Only what the cards say too: anybody can write a URL.
    let is_linked = cards.iter().any(|card| matches!(card.state, CardState::Linked { .. }));
    let done = match asked.done.as_deref() {
        Some("linked") if is_linked => Some("done.linked"),
        Some("unlinked") if cards.iter().any(|card| !matches!(card.state, CardState::Linked { .. })) => {
            Some("done.unlinked")
        }
        Some("consented") if is_linked && asks.is_empty() => Some("done.consented"),
        Some("signed_up") => Some("done.signed_up"),
        Some("password_changed") => Some("done.password_changed"),
        Some("email_changed") => Some("done.email_changed"),
        _ => None,
    };
    let done = done.map(|key| page.t(key).to_owned());
    let consent = Shown::new(&app, &visit);
    let other_app = OtherApp::of(&page, &app, &visit);
    let (name, email, fresh) = (session.name, session.email, asked.fresh.is_some());
    html(&Account { page, name, email, done, consent, asks, cards, fresh, other_app })
}

/// `GET /line/not-linked`: a LINE account proved itself, and belongs to nobody here.
pub async fn not_linked(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Query(asked): Query<OfProvider>,
) -> Result<Response> {
    let found = app.config.provider.get(&asked.provider).ok_or(Error::NotFound)?;
    let elsewhere = match elsewhere::label(&app) {
        Some(label) => {
            let browser = browser::of(&app, &visit, &headers);
            is_inside_liff(&app, &headers, &browser).await?.then_some(label)
        }
        None => None,
    };
    html(&NotLinked {
        label: found.label(&asked.provider).to_owned(),
        here: format!("/line/not-linked?provider={}", asked.provider),
        provider: asked.provider,
        signed_in: visit.viewer.is_some(),
        elsewhere,
        page: Page::new(&app, &visit),
    })
}

async fn linked(conn: &mut Conn, app: &App, locale: Locale, provider: &str, active: Active) -> Result<CardState> {
    let friend = match app.config.linked_channel(provider) {
        Some((channel, _)) => line_user::find_friend(conn, &active.line_user_id, channel).await?,
        None => Friend::Unknown,
    };
    let since = moment::day(app, locale, active.created_at);
    Ok(CardState::Linked {
        line_name: active.display_name,
        picture: picture::allowed(app, active.picture_url.as_deref()),
        friend,
        since,
        can_add_friend: friend != Friend::Yes && friend::page_in_line(app, provider).is_some(),
        suspended: active.suspended_at.is_some(),
        unconfirmed: active.suspended_at.is_none() && active.unconfirmed_at.is_some(),
        withdrawn: active.suspended_at.is_none() && active.permission == "withdrawn",
    })
}

/// How far the clean-up is of the last link of which something is still open.
async fn unlinked(conn: &mut Conn, app: &App, page: &Page, member_id: &str, provider: &str) -> Result<CardState> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT l.id, COALESCE(l.line_name, u.display_name), s.step, s.state
         FROM links l JOIN line_users u ON u.id = l.line_user_id JOIN unlink_steps s ON s.link_id = l.id
         WHERE l.member_id = $1 AND l.provider = $2 AND l.ended_at > $3
         ORDER BY l.created_at DESC, s.step",
    )
    .bind(member_id)
    .bind(provider)
    .bind(app.now().minus(std::time::Duration::from_secs(30 * 24 * 3600)))
    .fetch_all(conn)
    .await?;
    let is_open = |state: &str| state == "pending" || state == "needs_user";
    let open = rows.iter().find(|(.., state)| is_open(state)).cloned();
    let Some((link_id, line_name, ..)) = open else { return Ok(CardState::Unlinked) };
    let last: Vec<_> = rows.into_iter().filter(|(id, ..)| *id == link_id).collect();
    let shown = last.iter().filter(|(.., state)| state != "cancelled");
    let steps = shown.map(|(_, _, step, state)| Step::new(page, step, state)).collect();
    Ok(CardState::Unlinking { line_name, steps })
}

impl Step {
    pub fn new(page: &Page, step: &str, state: &str) -> Self {
        Self {
            label: page.t(&format!("step.{step}")).to_owned(),
            note: page.t(&format!("step_state.{state}")).to_owned(),
            state: state.to_owned(),
        }
    }
}
