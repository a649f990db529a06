//! Revokes the tokens that nobody uses any more, and finds those whose answer was lost.

use std::time::Duration;

use super::{Kind, Own, alarm, store};
use crate::{
    app::App,
    config::TokenKind,
    error::Result,
    line::{Error, token::Assertion},
};

/// A question that was not answered by then has no answer.
const LOST: Duration = Duration::from_secs(2 * 60);
/// Between two tries to revoke a token.
const AGAIN: Duration = Duration::from_secs(3600);

/// One step, for one node at a time; gives the number of tokens that were revoked.
pub async fn tidy(app: &App) -> Result<usize> {
    let now = app.now();
    let mut conn = app.db.conn().await?;
    for channel in app.config.channel.values() {
        store::set_idle(&mut conn, now, &channel.channel_id, channel.token.word()).await?;
    }
    store::prune(&mut conn, now).await?;
    alarm::prune(&mut conn, now).await?;
    drop(conn);
    for name in app.config.channel.iter().filter(|(_, channel)| channel.token == TokenKind::V21).map(|(name, _)| name) {
        find_lost(app, name).await?;
    }
    revoke_idle(app).await
}

async fn revoke_idle(app: &App) -> Result<usize> {
    let idle = store::list_idle(&mut *app.db.conn().await?, app.now()).await?;
    let mut revoked = 0;
    for token in idle {
        let result = revoke(app, &token).await?;
        let mut conn = app.db.conn().await?;
        match result {
            Ok(()) => {
                store::set_revoked(&mut conn, app.now(), &token.id).await?;
                revoked += 1;
            }
            Err(error) => {
                tracing::warn!(channel_id = token.channel_id, %error, "a former channel access token is not revoked yet");
                store::put_off(&mut conn, app.now().plus(AGAIN), &token.id).await?;
            }
        }
    }
    Ok(revoked)
}

async fn revoke(app: &App, idle: &store::Idle) -> Result<Result<(), Error>> {
    let token = store::open(app, &idle.id, &idle.sealed)?;
    if idle.kind == TokenKind::ShortLived.word() {
        return Ok(app.line.revoke_short_lived_token(&token).await);
    }
    let channel = app.config.channel.values().find(|channel| channel.channel_id == idle.channel_id);
    Ok(match channel {
        Some(channel) => app.line.revoke_token_v21(&channel.channel_id, &channel.channel_secret, &token).await,
        None => Err(Error::Client("the channel is not in the configuration any more".to_owned())),
    })
}

/// Asks LINE for the key ids of the valid tokens: one that is not ours may be the one whose answer was lost. It cannot
/// be revoked, since nobody has it; it ends by itself. Where there is none, nothing was lost.
async fn find_lost(app: &App, name: &str) -> Result<()> {
    let Ok(own) = Own::find(app, Kind::Bot(name)) else { return Ok(()) };
    let lost = store::list_lost(&mut *app.db.conn().await?, own.id, app.now().minus(LOST)).await?;
    if lost.is_empty() {
        return Ok(());
    }
    let at_line = match list_key_ids(app, &own).await {
        Ok(key_ids) => key_ids,
        Err(error) => {
            tracing::warn!(channel = name, %error, "LINE's list of tokens is not known");
            return Ok(());
        }
    };
    let mut tx = app.db.begin().await?;
    let ours = store::list_key_ids(&mut tx, own.id).await?;
    let mut strangers = at_line.iter().filter(|key_id| !ours.contains(key_id));
    for id in &lost {
        match strangers.next() {
            Some(key_id) => {
                tracing::warn!(channel = name, key_id, "a token whose answer was lost is at LINE until its end");
                store::set_key_id(&mut tx, id, key_id).await?;
            }
            None => store::delete(&mut tx, id).await?,
        }
    }
    tx.commit().await?;
    Ok(())
}

/// The key ids of the channel's valid tokens v2.1.
pub(super) async fn list_key_ids(app: &App, own: &Own<'_>) -> Result<Vec<String>, Error> {
    let Some(bot) = own.bot else { return Ok(Vec::new()) };
    let key = bot.assertion_key().map_err(Error::Client)?;
    let now = app.now().seconds();
    let assertion = Assertion { channel_id: own.id, key_id: &key.id, key: &key.pair, now };
    app.line.token_key_ids(&assertion).await
}
