//! How many attempts there may be: anybody may start one.

use super::LIFE;
use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// Starts from one address within [`LIFE`].
pub const PER_ADDRESS: i64 = 30;
/// Attempts that wait for their answer, in all.
pub const UNUSED_AT_MOST: i64 = 10_000;

/// What an address started within [`LIFE`]. What LINE proved by LIFF is no start.
pub(super) async fn count_of_address(conn: &mut Conn, now: Millis, address: &str) -> Result<i64> {
    let count = sqlx::query_scalar(COUNT_OF_ADDRESS).bind(address).bind(now.minus(LIFE)).fetch_one(conn).await?;
    Ok(count)
}

/// Keeps the attempts that wait for their answer below their number. The oldest of the address that holds most go first: a
/// flood makes room for itself, and one person's attempt is among the last to go.
pub(super) async fn make_room(conn: &mut Conn, now: Millis) -> Result<()> {
    let begun = now.minus(LIFE);
    let unused: i64 = sqlx::query_scalar(COUNT_UNUSED).bind(begun).fetch_one(&mut *conn).await?;
    if unused < UNUSED_AT_MOST {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM attempts WHERE id IN (
           SELECT id FROM (
             SELECT id, created_at,
               ROW_NUMBER() OVER (PARTITION BY address ORDER BY created_at DESC, id DESC) AS place
             FROM attempts WHERE used_at IS NULL AND created_at > $1) AS ranked
           ORDER BY place DESC, created_at, id LIMIT $2) AND used_at IS NULL",
    )
    .bind(begun)
    .bind(unused - UNUSED_AT_MOST + UNUSED_AT_MOST / 20)
    .execute(conn)
    .await?;
    Ok(())
}

pub const COUNT_OF_ADDRESS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts
     WHERE address = $1 AND created_at > $2 AND purpose <> 'liff'";

pub const COUNT_UNUSED: &str =
    "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE used_at IS NULL AND created_at > $1";
