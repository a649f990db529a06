//! A walk over all people of a channel (table `menu_sweeps`): after another set was applied, and when a rule's time opens
//! or closes. How far it came is kept, so that it goes on after a crash; what was told already is not told again.
//!
//! A step walks some thousands of people in pages and fills requests over all of them, so that there are hardly more
//! requests than there must be.

mod batch;
mod store;

use std::time::Duration;

use super::{
    change,
    choice::Choices,
    fact,
    set::{self, Set},
    tell::{self, Move, Moves, Trouble, Work},
};
use crate::{
    db::{Conn, Millis},
    error::Result,
    kill,
    line::rich_menu::DefaultMenu,
};

pub use self::store::{Progress, progress};
pub(super) use self::store::{Sweep, end_rest, find, set_fine, set_rest};

/// People of a step, and of a page of it.
const STEP: usize = 50_000;
const PAGE: i64 = 2_500;
/// Between two pages: SQLite has one writer, and who waits for it looks now and then only.
const BREATH: Duration = Duration::from_millis(4);

/// The set's ids at LINE in one text: a menu that was made anew is another one.
pub(super) fn ids(set: &Set) -> String {
    set.menus.iter().map(|menu| menu.rich_menu_id.as_str()).collect::<Vec<_>>().join(" ")
}

/// Why all people are to be walked anew; none where they are as they should be, or the walk is under way.
pub(super) fn reason(sweep: Option<&Sweep>, set: &Set, now: Millis) -> Option<&'static str> {
    match sweep {
        Some(sweep) if sweep.version == set.version && sweep.menus == ids(set) => {
            sweep.boundary_at.is_some_and(|at| at <= now).then_some("time")
        }
        _ => Some("set"),
    }
}

/// Whether everybody was brought to the channel's set.
pub(super) async fn is_over(conn: &mut Conn, now: Millis, channel: &str) -> Result<bool> {
    let Some(set) = set::current(conn, channel).await? else { return Ok(true) };
    let sweep = find(conn, channel).await?;
    Ok(reason(sweep.as_ref(), &set, now).is_none() && sweep.is_some_and(|sweep| sweep.ended_at.is_some()))
}

/// Begins a walk; one that was under way is over.
pub(super) async fn begin(
    conn: &mut Conn,
    now: Millis,
    channel: &str,
    choices: &Choices,
    reason: &str,
) -> Result<Sweep> {
    let moves = if reason == "set" { batch::list_moves(conn, channel, &choices.set).await? } else { Vec::new() };
    let moves = (!moves.is_empty()).then(|| serde_json::to_string(&moves)).transpose()?;
    let new = store::New {
        version: choices.set.version,
        menus: ids(&choices.set),
        reason,
        boundary_at: choices.boundary_at,
        batch_moves: moves.as_deref(),
    };
    store::insert(conn, now, channel, &new).await?;
    find(conn, channel).await?.ok_or(crate::error::Error::NotFound)
}

/// Walks on; gives how many people were looked at, or 1 where something else was done, or 0 where there is nothing to do
/// now.
pub(super) async fn step(work: &Work<'_>, sweep: &Sweep) -> Result<usize, Trouble> {
    if sweep.batch_moves.is_some() {
        return batch::step(work, sweep).await;
    }
    if sweep.seen == 0 && sweep.reason == "time" {
        align_default(work).await?;
    }
    walk(work, sweep).await
}

async fn walk(work: &Work<'_>, sweep: &Sweep) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let (mut moves, mut after) = (Moves::default(), sweep.cursor.clone());
    let (mut seen, mut moved, mut is_end) = (0, 0, false);
    while seen < STEP && !is_end {
        work.keep_lease().await?;
        let mut conn = app.db.conn().await?;
        let people = fact::page(&mut conn, app, channel, &after, PAGE, work.choices.asks_member).await?;
        seen += people.len();
        is_end = i64::try_from(people.len()).unwrap_or(PAGE) < PAGE;
        let mut strangers = Vec::new();
        for person in &people {
            match (person.is_reached(), &person.told.rich_menu_id) {
                (false, Some(_)) => strangers.push(person.id.clone()),
                (false, None) => {}
                (true, _) if change::is_other(work, person) => moves.add(work.choices.own(person), Move::new(person)),
                (true, _) => {}
            }
        }
        tell::forget(&mut conn, &app.db, channel, &strangers).await?;
        drop(conn);
        after = people.last().map_or(after, |person| person.id.clone());
        moved += work.tell(&mut moves, false).await?;
        // Whoever changed meanwhile does not wait for all others.
        change::take(work).await?;
        tokio::time::sleep(BREATH).await;
    }
    moved += work.tell(&mut moves, true).await?;
    kill::point("menus.walked");
    store::advance(&mut *app.db.conn().await?, app.now(), channel, sweep, &after, (seen, moved), is_end).await?;
    Ok(seen.max(1))
}

/// What a stranger sees has changed with the time. A default that is not ours is left alone.
async fn align_default(work: &Work<'_>) -> Result<(), Trouble> {
    let remote = &work.remote;
    let Some(menu) = work.choices.default() else {
        let found = remote.call(|line, token| async move { line.default_rich_menu(&token).await }).await;
        let DefaultMenu::Menu(id) = found.map_err(|error| Trouble::of(&error))? else { return Ok(()) };
        if !super::store::is_ours(&mut *work.app().db.conn().await?, work.channel(), &id).await? {
            return Ok(());
        }
        let cleared = remote.call(|line, token| async move { line.clear_default_rich_menu(&token).await }).await;
        return cleared.map_err(|error| Trouble::of(&error));
    };
    let id = menu.rich_menu_id.as_str();
    let set = remote.call(|line, token| async move { line.set_default_rich_menu(&token, id).await }).await;
    set.map_err(|error| match &error {
        crate::line::Error::Refused { status: 400 | 404, .. } => {
            Trouble::Vanished { rich_menu_id: id.to_owned(), why: error.to_string() }
        }
        _ => Trouble::of(&error),
    })
}
