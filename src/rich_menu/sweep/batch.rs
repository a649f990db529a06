//! Menus whose picture or content changed: LINE moves everybody from the old one to the new one, also those who came to
//! it by a tab and of whom only LINE knows. Where LINE does not, people are told as they are walked.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        set::Set,
        tell::{Trouble, Work},
    },
    store::{self, Sweep},
};
use crate::{
    channel::hourly::{self, Spend},
    db::{Conn, Millis},
    error::Result,
    kill,
    line::rich_menu::bulk::Phase,
};

/// Between two questions, at first; each waits for twice as long as the batch has taken, so that the hour's are enough.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_EVERY_AT_MOST: Duration = Duration::from_secs(60);
/// Operations of one batch.
const AT_MOST: usize = 1_000;

/// From which former menus people move to which of the set: of the same file and language, where anybody may be on it.
pub(super) async fn list_moves(conn: &mut Conn, channel: &str, set: &Set) -> Result<Vec<(String, String)>> {
    let has_tabs = set.menus.iter().any(|menu| menu.alias.is_some());
    if !has_tabs && !is_anybody_on(conn, channel).await? {
        return Ok(Vec::new());
    }
    let former: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT name, language, rich_menu_id FROM rich_menus
         WHERE channel = $1 AND gone_at IS NULL AND image_at IS NOT NULL AND retired_at IS NOT NULL
         ORDER BY created_at DESC",
    )
    .bind(channel)
    .fetch_all(conn)
    .await?;
    let now: BTreeMap<(&str, &str), &str> = set
        .menus
        .iter()
        .map(|menu| ((menu.name.as_str(), menu.language.as_str()), menu.rich_menu_id.as_str()))
        .collect();
    let moves = former.iter().filter_map(|(name, language, from)| {
        let to = *now.get(&(name.as_str(), language.as_str()))?;
        // Of a menu that came back by a former content there is no move.
        let is_former = !set.menus.iter().any(|menu| menu.rich_menu_id == *from);
        is_former.then(|| (from.clone(), to.to_owned()))
    });
    Ok(moves.take(AT_MOST).collect())
}

/// Has LINE do it, then asks how far it is; gives 0 where it is under way.
pub(super) async fn step(work: &Work<'_>, sweep: &Sweep) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let now = app.now();
    if sweep.batch_at.is_some_and(|at| at > now) {
        return Ok(0);
    }
    let moves: Vec<(String, String)> = serde_json::from_str(sweep.batch_moves.as_deref().unwrap_or("[]"))
        .map_err(|error| Trouble::Stuck { why: error.to_string() })?;
    let Some(request_id) = &sweep.batch_line else {
        return ask(work, sweep, &moves).await;
    };
    let request_id = request_id.as_str();
    let progress = work.remote.call(|line, token| async move { line.rich_menu_batch(&token, request_id).await }).await;
    match progress {
        Ok(Phase::Ongoing) => {
            let taken = u64::try_from(now.0.saturating_sub(sweep.started_at.0)).unwrap_or(0);
            let wait = Duration::from_millis(taken).clamp(ASK_EVERY, ASK_EVERY_AT_MOST);
            let (id, line) = (sweep.batch_id.as_deref(), Some(request_id));
            store::set_batch(&mut *app.db.conn().await?, channel, sweep, id, line, now.plus(wait)).await?;
            Ok(0)
        }
        Ok(Phase::Succeeded) => {
            let mut tx = app.db.begin().await?;
            let mut moved = 0;
            for (from, to) in &moves {
                moved += set_moved(&mut tx, now, channel, from, to).await?;
            }
            store::end_batch(&mut tx, channel, sweep, i64::try_from(moved).unwrap_or(i64::MAX)).await?;
            tx.commit().await?;
            Ok(1)
        }
        Ok(Phase::Failed) => give_up(work, sweep, "LINE says that the batch failed").await,
        Err(error) if error.is_passing() => Err(Trouble::of(&error)),
        Err(error) => give_up(work, sweep, &error.to_string()).await,
    }
}

/// Asks LINE for it: with the same key again where the answer was lost, so that it is one batch.
async fn ask(work: &Work<'_>, sweep: &Sweep, moves: &[(String, String)]) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let key = match &sweep.batch_id {
        Some(key) => key.clone(),
        None => {
            if let Spend::Wait(_) = hourly::take(app, channel, hourly::BATCH_RICH_MENU).await? {
                return give_up(work, sweep, "this hour's batches are used up").await;
            }
            let key = app.new_id();
            let now = app.now();
            store::set_batch(&mut *app.db.conn().await?, channel, sweep, Some(&key), None, now).await?;
            key
        }
    };
    let key = key.as_str();
    let taken = work.remote.call(|line, token| async move { line.batch_rich_menus(&token, moves, key).await }).await;
    kill::point("menus.batched");
    match taken {
        Ok(request_id) => {
            let at = app.now().plus(ASK_EVERY);
            let line = Some(request_id.as_str());
            store::set_batch(&mut *app.db.conn().await?, channel, sweep, Some(key), line, at).await?;
            Ok(1)
        }
        // LINE counts by the hour too, and knows better.
        Err(error) if error.is_passing() && !matches!(error, crate::line::Error::Refused { status: 429, .. }) => {
            Err(Trouble::of(&error))
        }
        Err(error) => give_up(work, sweep, &error.to_string()).await,
    }
}

/// People are told as they are walked instead.
async fn give_up(work: &Work<'_>, sweep: &Sweep, why: &str) -> Result<usize, Trouble> {
    tracing::warn!(channel = work.channel(), why, "people are moved some hundreds at a time");
    store::end_batch(&mut *work.app().db.conn().await?, work.channel(), sweep, 0).await?;
    Ok(1)
}

async fn is_anybody_on(conn: &mut Conn, channel: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT menu FROM user_menus WHERE channel = $1 AND rich_menu_id IS NOT NULL LIMIT 1")
            .bind(channel)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

async fn set_moved(conn: &mut Conn, now: Millis, channel: &str, from: &str, to: &str) -> Result<u64> {
    let moved = sqlx::query(
        "UPDATE user_menus SET rich_menu_id = $1, applied_at = $2, checked_at = $2, request = NULL
         WHERE channel = $3 AND rich_menu_id = $4",
    )
    .bind(to)
    .bind(now)
    .bind(channel)
    .bind(from)
    .execute(conn)
    .await?;
    Ok(moved.rows_affected())
}
