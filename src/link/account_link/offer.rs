//! The beginning: somebody asked in the chat to be linked, and gets a button that leads to our page.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::insert;
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    line,
    link::{
        find_owner,
        say::{self, Chat},
    },
    message::answer,
    queue::{self, Job, Outcome},
};

/// How long somebody who asked is taken to wait for the button.
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// Seconds of the loading indicator; it ends with the answer.
const LOADING: u8 = 10;
/// Between two tries while they wait.
const PAUSE: Duration = Duration::from_secs(5);

/// Begins: a person asked in the chat to be linked.
pub async fn offer(conn: &mut Conn, app: &App, chat: &Chat<'_>) -> Result<()> {
    match find_owner(conn, chat.line_user_id).await? {
        Some(owner) if owner.suspended_at.is_none() && owner.unconfirmed_at.is_none() => {
            say::about_owner(conn, app, chat, "link", "link_already", &owner).await
        }
        // A suspended or imported link is confirmed on the same page.
        Some(_) | None => {
            let Some(answer_id) = answer::queue(conn, app, chat.answer("link"), None).await? else { return Ok(()) };
            let now = app.now();
            queue::enqueue(conn, now, now, &Job::OfferLink { answer_id }).await
        }
    }
}

/// An offer that has no content yet.
#[derive(sqlx::FromRow)]
struct Waiting {
    channel: String,
    line_user_id: String,
    created_at: Millis,
    user_id: String,
}

/// [`Job::OfferLink`]. A process that dies before its commit leaves a link token at LINE that nobody knows.
pub async fn obtain(app: &App, answer_id: &str) -> Result<Outcome> {
    let waiting = find_waiting(&mut *app.db.conn().await?, answer_id).await?;
    let Some(waiting) = waiting else { return Ok(Outcome::Done) };
    let link_token = match link_token(app, &waiting).await {
        Ok(link_token) => link_token,
        Err(error) if error.is_passing() && app.now() < waiting.created_at.plus(PATIENCE) => {
            return Ok(Outcome::Retry { why: error.to_string(), after: Some(PAUSE) });
        }
        Err(error) => {
            tracing::warn!(%error, "no link token");
            let mut tx = app.db.begin().await?;
            let text = say::content(&mut tx, app, &waiting.line_user_id, "link_unavailable", &[]).await?;
            answer::fill(&mut tx, app, answer_id, &text).await?;
            tx.commit().await?;
            app.wake();
            return Ok(Outcome::Done);
        }
    };
    let page = page_url(app, link_token.expose_secret());
    let mut tx = app.db.begin().await?;
    insert(&mut tx, app, &waiting.channel, &waiting.line_user_id, link_token.expose_secret()).await?;
    let button = say::content(&mut tx, app, &waiting.line_user_id, "link_offer", &[("link_url", &page)]).await?;
    answer::fill(&mut tx, app, answer_id, &button).await?;
    tx.commit().await?;
    app.wake();
    Ok(Outcome::Done)
}

/// Our page, with the token encoded whatever LINE puts in it.
fn page_url(app: &App, link_token: &str) -> String {
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("linkToken", link_token).finish();
    app.config.url(&format!("/account-link?{query}"))
}

async fn link_token(app: &App, waiting: &Waiting) -> Result<SecretString, line::Error> {
    let user_id = waiting.user_id.as_str();
    let kind = Kind::Bot(&waiting.channel);
    // It says that something is coming; nothing depends on it.
    if let Err(error) =
        channel::call(app, kind, |token| async move { app.line.start_loading(&token, user_id, LOADING).await }).await
    {
        tracing::debug!(%error, "no loading indicator");
    }
    channel::call(app, kind, |token| async move { app.line.link_token(&token, user_id).await }).await
}

async fn find_waiting(conn: &mut Conn, answer_id: &str) -> Result<Option<Waiting>> {
    let found = sqlx::query_as(
        "SELECT a.channel, a.line_user_id, a.created_at, u.user_id
         FROM answers a JOIN line_users u ON u.id = a.line_user_id
         WHERE a.id = $1 AND a.content IS NULL AND a.state = 'waiting'",
    )
    .bind(answer_id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}
