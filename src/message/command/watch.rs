//! Watching a message from outside: how far its recipients are added, and how far they are sent to.

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{End, Watch};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    message::{Counts, counts, order::Order, preview},
};

/// Watches the recipients being added; false where nobody adds any.
pub(super) async fn queue(app: &App, order: &Order, id: &str, watch: Watch) -> Result<bool> {
    let bar = bar(
        u64::try_from(preview::size(&mut *app.db.conn().await?, app, &order.channel, &order.to).await?).unwrap_or(0),
        "queued",
    );
    let (mut before, mut since) = (None, Instant::now());
    loop {
        let now = find_expansion(&mut *app.db.conn().await?, id).await?;
        bar.set_position(u64::try_from(now.0).unwrap_or(0));
        if now.2.is_some() {
            bar.finish_and_clear();
            return Ok(true);
        }
        if before.as_ref() != Some(&now) {
            (before, since) = (Some(now), Instant::now());
        } else if since.elapsed() >= watch.patience {
            bar.abandon();
            return Ok(false);
        }
        sleep(watch.every).await;
    }
}

/// Watches the deliveries until none is open.
pub(super) async fn deliver(app: &App, id: &str, watch: Watch, say: &mut (dyn FnMut(&str) + Send)) -> Result<End> {
    let mut before = look(app, id).await?;
    let bar = bar(u64::try_from(before.accepted).unwrap_or(0), "sent");
    if let Some(due_at) = find_due(&mut *app.db.conn().await?, id).await?.filter(|due_at| *due_at > app.now()) {
        let due_at = Timestamp::from_millisecond(due_at.0).unwrap_or_default().to_zoned(app.zone.clone());
        say(&format!("the first is due at {}", due_at.strftime("%F %H:%M %:Q")));
    }
    let mut since = Instant::now();
    loop {
        let asked = Instant::now();
        let now = look(app, id).await?;
        bar.set_position(u64::try_from(now.accepted - now.waiting - now.sending).unwrap_or(0));
        if now.waiting + now.sending == 0 {
            bar.finish_and_clear();
            return Ok(if now.sent == now.accepted { End::Sent } else { End::Unsent });
        }
        let is_due = find_due(&mut *app.db.conn().await?, id).await?.is_none_or(|due_at| due_at <= app.now());
        if now != before || !is_due {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= watch.patience {
            bar.abandon();
            return Ok(End::Idle);
        }
        // Counting a million takes its time: the database has better things to do.
        sleep(watch.every.max(asked.elapsed() * 10)).await;
    }
}

pub(super) async fn look(app: &App, id: &str) -> Result<Counts> {
    Ok(counts(&mut *app.db.conn().await?, id).await?.unwrap_or_default())
}

/// How many recipients a message has, how far its audience was gone through, and since when that is over.
async fn find_expansion(conn: &mut Conn, id: &str) -> Result<(i64, Option<String>, Option<Millis>)> {
    let found = sqlx::query_as("SELECT accepted, expanded_to, expanded_at FROM messages WHERE id = $1")
        .bind(id)
        .fetch_one(conn)
        .await?;
    Ok(found)
}

async fn find_due(conn: &mut Conn, id: &str) -> Result<Option<Millis>> {
    let found = sqlx::query_scalar(
        "SELECT MIN(due_at) FROM deliveries WHERE message_id = $1 AND state IN ('waiting', 'sending')",
    )
    .bind(id)
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// Drawn on a terminal only.
fn bar(most: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}");
    let bar = ProgressBar::new(most).with_message(what);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style.progress_chars("=> ")))
}
