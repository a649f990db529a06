//! Calls that LINE counts by the hour (table `hourly_spends`), over all nodes.
//!
//! LINE's bucket holds an hour's calls and refills evenly. So it is told whole by the moment at which it would be full
//! again: each call moves that on by its share of an hour, and it may never be more than an hour away.

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

const HOUR: i64 = 3_600_000;

/// An endpoint that LINE counts by the hour ("Rate limits" in its reference).
#[derive(Debug, Clone, Copy)]
pub struct Hourly {
    word: &'static str,
    calls: i64,
}

pub const CREATE_RICH_MENU: Hourly = Hourly { word: "create_rich_menu", calls: 100 };
pub const BATCH_RICH_MENU: Hourly = Hourly { word: "batch_rich_menu", calls: 3 };
pub const DELETE_RICH_MENU: Hourly = Hourly { word: "delete_rich_menu", calls: 100 };
pub const DELETE_RICH_MENU_ALIAS: Hourly = Hourly { word: "delete_rich_menu_alias", calls: 100 };

impl Hourly {
    /// How many calls LINE takes in an hour.
    pub fn calls(self) -> i64 {
        self.calls
    }
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    Taken,
    /// Not before this.
    Wait(Millis),
}

/// Takes a call of this hour's, to be made at once.
pub async fn take(app: &App, channel: &str, hourly: Hourly) -> Result<Spend> {
    let (now, share) = (app.now(), HOUR / hourly.calls);
    let mut conn = app.db.conn().await?;
    if spend(&mut conn, now, channel, hourly.word, share).await? {
        return Ok(Spend::Taken);
    }
    let full_at = find(&mut conn, channel, hourly.word).await?;
    Ok(Spend::Wait(full_at.unwrap_or(now).plus_signed(share - HOUR).max(now)))
}

/// How many calls may be made at this moment.
pub async fn left(conn: &mut Conn, now: Millis, channel: &str, hourly: Hourly) -> Result<i64> {
    let full_at = find(conn, channel, hourly.word).await?;
    let spent = full_at.map_or(0, |full_at| full_at.0.saturating_sub(now.0).clamp(0, HOUR));
    Ok((HOUR - spent) / (HOUR / hourly.calls))
}

/// False where the bucket is empty. A moment further away than a bucket can be is one of a clock that went wrong.
async fn spend(conn: &mut Conn, now: Millis, channel: &str, endpoint: &str, share: i64) -> Result<bool> {
    let spent = sqlx::query(
        "INSERT INTO hourly_spends (channel, endpoint, full_at) VALUES ($1, $2, $3)
         ON CONFLICT (channel, endpoint) DO UPDATE SET
           full_at = CASE WHEN hourly_spends.full_at BETWEEN $4 AND $5 THEN hourly_spends.full_at + $6
             ELSE excluded.full_at END
         WHERE hourly_spends.full_at <= $7 OR hourly_spends.full_at > $5",
    )
    .bind(channel)
    .bind(endpoint)
    .bind(now.plus_signed(share))
    .bind(now)
    .bind(now.plus_signed(2 * HOUR))
    .bind(share)
    .bind(now.plus_signed(HOUR - share))
    .execute(conn)
    .await?;
    Ok(spent.rows_affected() == 1)
}

async fn find(conn: &mut Conn, channel: &str, endpoint: &str) -> Result<Option<Millis>> {
    let found = sqlx::query_scalar("SELECT full_at FROM hourly_spends WHERE channel = $1 AND endpoint = $2")
        .bind(channel)
        .bind(endpoint)
        .fetch_optional(conn)
        .await?;
    Ok(found)
}
