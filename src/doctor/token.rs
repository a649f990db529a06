//! What `musubi doctor` says of a channel's access token.

use crate::{
    app::App,
    channel::{self, Kind, Status},
    config::TokenKind,
    db::Millis,
    line::{self, token::MOST},
};

/// From so many tokens v2.1 on, the next ones may be refused soon.
const NEARLY_MOST: usize = MOST - 5;

/// The kind, its end, and what to mend. The token was asked for before.
pub(super) async fn of_bot(app: &App, name: &str) -> Result<String, String> {
    let status = channel::status(app, Kind::Bot(name)).await.map_err(|error| error.to_string())?;
    let Some(status) = status else { return Err("it is not in the configuration".to_owned()) };
    if let Some((since, error)) = &status.alarm {
        return Err(format!("refused since {}: {error}; {}", moment(*since), mend(name, status.kind)));
    }
    let kind = status.kind.word();
    match status.kind {
        TokenKind::Stateless => Ok(format!("{kind}: 15 minutes, one for each process")),
        TokenKind::ShortLived => Ok(format!("{kind}, {}", end(&status))),
        TokenKind::V21 => v21(name, &status),
        TokenKind::LongLived => long_lived(app, name, &status),
    }
}

fn v21(name: &str, status: &Status) -> Result<String, String> {
    let text = format!("v2.1, {}", end(status));
    match &status.at_line {
        Some(Ok((all, foreign))) if *all >= NEARLY_MOST => Err(format!(
            "{text}; LINE counts {all} valid ones of {MOST} at most, {foreign} of them not of this database: revoke what \
             others of channel.{name} issued, or set a shorter channel.{name}.token_lifetime"
        )),
        Some(Ok((all, foreign))) => Ok(format!(
            "{text}; LINE counts {all} valid ones of {MOST} at most, {foreign} of them not of this database"
        )),
        Some(Err(error)) => Err(format!("{text}; LINE does not list them: {error}; {}", mend(name, status.kind))),
        None => Ok(text),
    }
}

fn long_lived(app: &App, name: &str, status: &Status) -> Result<String, String> {
    let own = app.config.channel.get(name).map(|channel| channel.channel_id.as_str());
    match &status.verified {
        Some(Ok(verified)) if own == Some(verified.client_id.as_str()) => Ok(
            "long-lived, as the configuration has it: never refreshed or revoked here; if it leaks, issue another one in \
             LINE's console"
                .to_owned(),
        ),
        Some(Ok(verified)) => Err(format!(
            "channel.{name}.channel_access_token is one of channel {}; copy the one of this channel",
            verified.client_id
        )),
        Some(Err(error @ line::Error::Refused { .. })) => Err(format!("{error}; {}", mend(name, status.kind))),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("channel_access_token is missing".to_owned()),
    }
}

fn end(status: &Status) -> String {
    match status.expires_at {
        Some(expires_at) => format!("until {}, one for all processes", moment(expires_at)),
        None => "not issued yet".to_owned(),
    }
}

/// The next step where LINE refuses the channel.
pub(super) fn mend(name: &str, kind: TokenKind) -> String {
    match kind {
        TokenKind::Stateless | TokenKind::ShortLived => {
            format!("compare channel.{name}.channel_id and channel_secret with LINE's console")
        }
        TokenKind::V21 => format!(
            "compare channel.{name}.channel_id, assertion_key and assertion_key_id with \"Assertion signing key\" in \
             LINE's console"
        ),
        TokenKind::LongLived => {
            format!("issue a token in LINE's console, as channel.{name}.channel_access_token")
        }
    }
}

fn moment(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
