//! A token that all nodes share: one of them asks LINE, by a lease, and the others read the table.
//!
//! LINE is never asked in a loop. A row is written before each question, so that a process killed before it could
//! keep the answer leaves a trace; from the second lost or refused token of a day on, the next is waited for, longer and
//! longer ([`hold`]). Meanwhile the newest token is kept and tried, in case that LINE itself was at fault.

use std::time::Duration;

use secrecy::SecretString;

use super::{Own, alarm, store};
use crate::{
    app::App,
    config::TokenKind,
    db::Millis,
    error,
    line::{
        Error,
        token::{Assertion, Issued, Kept, Slot},
    },
    queue,
};

/// Longer than the question to LINE takes at the client's time limits.
const LEASE: Duration = Duration::from_secs(30);
/// How often, and after how long, it is looked whether the other node has the token.
const LOOKS: (u32, Duration) = (40, Duration::from_millis(100));
/// The waits before the third token of a day and the later ones: the first of them, and the longest.
const HOLDS: (i64, i64) = (60_000, 3_600_000);

/// The channel's token out of the table; where it ages or is none, a new one.
pub(super) async fn obtain(app: &App, own: &Own<'_>) -> Result<Kept, Error> {
    let (lease, holder) = (format!("token:{}", own.id), app.new_id());
    for _ in 0..LOOKS.0 {
        let stored = stored(app, own).await.map_err(away)?;
        if let Some(kept) = stored.as_ref().filter(|kept| kept.is_fresh(app.now().0)) {
            return Ok(kept.clone());
        }
        if queue::lease(app, &lease, &holder, LEASE).await.map_err(away)? {
            let renewed = renew(app, own).await;
            if let Err(error) = queue::release(app, &lease, &holder).await {
                tracing::warn!(channel = own.name(), %error, "the lease of a token runs out by itself");
            }
            return renewed;
        }
        // Another node asks LINE at this moment: an ageing token is used on.
        if let Some(kept) = stored {
            return Ok(kept);
        }
        tokio::time::sleep(LOOKS.1).await;
    }
    Err(Error::Unreached("another node gets the channel's token".to_owned()))
}

/// After a 401: true where the next call gets another token.
pub(super) async fn forget(app: &App, own: &Own<'_>, slot: &Slot, token: &SecretString) -> error::Result<bool> {
    let Some(id) = slot.find(token).and_then(|kept| kept.id) else { return Ok(true) };
    let is_refused = refuse(app, own, &id).await?;
    if is_refused {
        slot.drop_token(token);
    }
    Ok(is_refused)
}

/// Keeps that LINE refused the token, for every node, unless a new one may not be asked for yet.
async fn refuse(app: &App, own: &Own<'_>, id: &str) -> error::Result<bool> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let used = store::hold_used(&mut tx, app, own).await?;
    // Another node was quicker.
    let Some(used) = used.filter(|row| row.id == id && row.refused_at.is_none()) else { return Ok(true) };
    let (wasted, _) = store::count_wasted(&mut tx, own, now).await?;
    if now < hold(wasted + 1, used.asked_at) {
        return Ok(false);
    }
    store::set_refused(&mut tx, now, id).await?;
    tx.commit().await?;
    tracing::warn!(channel = own.name(), "LINE refuses the channel access token; another one is asked for");
    Ok(true)
}

/// The token in use that LINE has not refused and that is not over.
async fn stored(app: &App, own: &Own<'_>) -> error::Result<Option<Kept>> {
    let row = store::find_used(&mut *app.db.conn().await?, own).await?;
    let Some(row) = row.filter(|row| row.refused_at.is_none()) else { return Ok(None) };
    let kept = row.kept(app)?;
    Ok((!kept.is_over(app.now().0)).then_some(kept))
}

/// Asks LINE, unless another node just did or it is too soon. Only under the lease.
async fn renew(app: &App, own: &Own<'_>) -> Result<Kept, Error> {
    let now = app.now();
    let stored = stored(app, own).await.map_err(away)?;
    if let Some(kept) = stored.as_ref().filter(|kept| kept.is_fresh(now.0)) {
        return Ok(kept.clone());
    }
    let known = alarm::find(app, own).await;
    if let Some(alarm) = known.as_ref().filter(|alarm| alarm.holds(now)) {
        return stored.ok_or_else(|| alarm.error());
    }
    let wasted = async { store::count_wasted(&mut *app.db.conn().await?, own, now).await };
    let (wasted, last) = wasted.await.map_err(away)?;
    if now < hold(wasted, last) {
        let why = format!("{wasted} tokens were lost or refused within a day; the next is not asked for yet");
        return stored.ok_or(Error::Unreached(why));
    }
    let issued = issue(app, own, now).await;
    alarm::note(app, own, known.as_ref(), issued.as_ref().err()).await;
    issued
}

/// Asks LINE for a token, and has every node use it.
async fn issue(app: &App, own: &Own<'_>, now: Millis) -> Result<Kept, Error> {
    let id = app.new_id();
    let begun = async { store::insert(&mut *app.db.conn().await?, own, &id, now).await };
    begun.await.map_err(away)?;
    let issued = match ask(app, own, now).await {
        Ok(issued) => issued,
        Err(error) => {
            if is_surely_none(&error) {
                let deleted = async { store::delete(&mut *app.db.conn().await?, &id).await };
                deleted.await.map_err(away)?;
            }
            return Err(error);
        }
    };
    store::begin_use(app, own, &id, now, &issued).await.map_err(away)?;
    tracing::info!(channel = own.name(), kind = own.kind().word(), "a new channel access token is used");
    Ok(Kept { id: Some(id), token: issued.token, from: now.0, until: now.plus(issued.life).0 })
}

async fn ask(app: &App, own: &Own<'_>, now: Millis) -> Result<Issued, Error> {
    match own.bot.filter(|bot| bot.token == TokenKind::V21) {
        Some(bot) => {
            let key = bot.assertion_key().map_err(Error::Client)?;
            let assertion = Assertion { channel_id: own.id, key_id: &key.id, key: &key.pair, now: now.seconds() };
            app.line.token_v21(&assertion, bot.token_life()).await
        }
        None => app.line.short_lived_token(own.id, own.secret).await,
    }
}

/// Whether LINE surely issued nothing.
fn is_surely_none(error: &Error) -> bool {
    match error {
        Error::Unreached(_) | Error::Client(_) => true,
        Error::Refused { status, .. } => *status < 500,
        Error::Lost(_) | Error::Malformed(_) => false,
    }
}

/// When the next token may be asked for: at once after the first that was lost or refused within a day, then later and
/// later.
fn hold(wasted: i64, last: Millis) -> Millis {
    let Ok(doublings) = u32::try_from(wasted - 2) else { return Millis(0) };
    let wait = HOLDS.0.saturating_mul(2_i64.saturating_pow(doublings)).min(HOLDS.1);
    last.plus_signed(wait)
}

/// Without the table no token is asked for: it passes, as LINE's absence does.
fn away(error: impl std::fmt::Display) -> Error {
    Error::Unreached(format!("the channel's token could not be looked up: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_fewer_tokens_than_a_channel_may_have() {
        for (wasted, minutes) in
            [(0, None), (1, None), (2, Some(1)), (3, Some(2)), (7, Some(32)), (8, Some(60)), (90, Some(60))]
        {
            let expected = minutes.map_or(0, |minutes| 1_000 + minutes * 60_000);
            assert_eq!(hold(wasted, Millis(1_000)), Millis(expected), "{wasted}");
        }
        let (mut now, mut asked) = (0, 0);
        while now < 24 * 3_600_000 {
            asked += 1;
            now = hold(asked, Millis(now)).0.max(now);
        }
        assert!(asked <= 30, "{asked}");
    }
}
