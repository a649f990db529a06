//! The end of tries, written down: only by the try that was claimed last.

use std::{sync::LazyLock, time::Duration};

use super::{
    after::{self, After},
    claim::{Target, Try},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis, Rows},
    egress::{Answer, Failure},
    error::Result,
};

/// An endpoint that took nothing for so long is disabled.
const HOPELESS: Duration = Duration::from_secs(5 * 24 * 3600);

/// A try that came to its end; none where there was nothing to be told.
pub(super) struct Ended {
    pub tried: Try,
    pub result: Option<Result<Answer, Failure>>,
}

/// A delivery's next state.
struct Next {
    state: &'static str,
    due_at: Millis,
    /// 0 where nobody answered.
    status: i64,
    error: String,
}

/// Records what became of tries at an endpoint, in the caller's transaction; true where the endpoint is told nothing more
/// for now.
pub(super) async fn settle(
    conn: &mut Conn,
    app: &App,
    endpoint_id: &str,
    target: &Target,
    ended: &[Ended],
) -> Result<bool> {
    let now = app.now();
    let rows: Vec<(&Try, Next, After)> = ended.iter().map(|one| next(app, now, one)).collect();
    write(conn, app, endpoint_id, &rows).await?;
    for (_, next, _) in &rows {
        app.metrics.hook(next.state);
    }
    learn(conn, app, endpoint_id, target, ended, &rows).await
}

fn next<'e>(app: &App, now: Millis, ended: &'e Ended) -> (&'e Try, Next, After) {
    let tried = &ended.tried;
    let Some(result) = &ended.result else {
        let next = Next { state: "cancelled", due_at: now, status: 0, error: "erased".to_owned() };
        return (tried, next, After::Delivered);
    };
    let after = after::after(result, tried.tries, app.jitter());
    let (status, error) = after::words(result);
    let (state, due_at) = match after {
        After::Delivered => ("delivered", now),
        After::Again(wait) => ("waiting", now.plus(wait)),
        After::Failed | After::Gone => ("failed", now),
    };
    (tried, Next { state, due_at, status, error }, after)
}

async fn write(conn: &mut Conn, app: &App, endpoint_id: &str, rows: &[(&Try, Next, After)]) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE hook_deliveries SET state = v.column4, due_at = v.column5, status = NULLIF(v.column6, 0),
               error = NULLIF(v.column7, ''), updated_at = v.column8, leased_until = NULL
             FROM (VALUES",
            8,
            ") AS v WHERE hook_deliveries.endpoint_id = v.column1 AND hook_deliveries.event_id = v.column2
               AND hook_deliveries.attempts = v.column3 AND hook_deliveries.state = 'waiting'",
        )
    });
    let now = app.now();
    for (text, rows) in UPDATE.pieces(&app.db, rows) {
        let mut update = sqlx::query(text);
        for (tried, next, _) in rows {
            update = update.bind(endpoint_id).bind(&tried.event_id).bind(tried.attempt).bind(next.state);
            update = update.bind(next.due_at).bind(next.status).bind(&next.error).bind(now);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Keeps how the endpoint is, as far as these tries tell; true where it is to be left alone.
async fn learn(
    conn: &mut Conn,
    app: &App,
    endpoint_id: &str,
    target: &Target,
    ended: &[Ended],
    rows: &[(&Try, Next, After)],
) -> Result<bool> {
    let now = app.now();
    if rows.iter().any(|(_, _, after)| *after == After::Gone) {
        return disable(conn, app, endpoint_id, "gone", None).await.map(|_| true);
    }
    let asked = ended.iter().filter_map(|one| after::asked(one.result.as_ref()?)).max();
    let has_failed = rows.iter().any(|(_, _, after)| *after != After::Delivered);
    if rows.iter().any(|(_, next, _)| next.state == "delivered") {
        if target.failing_since.is_some() || target.failures > 0 {
            set_well(conn, endpoint_id).await?;
        }
    } else if has_failed {
        if target.failing_since.is_none() {
            set_failing(conn, now, endpoint_id).await?;
        }
        if disable(conn, app, endpoint_id, "failing", Some(now.minus(HOPELESS))).await? {
            return Ok(true);
        }
    }
    if let Some(wait) = asked {
        set_rest(conn, endpoint_id, now.plus(wait), target.failures).await?;
    }
    Ok(asked.is_some())
}

async fn set_well(conn: &mut Conn, endpoint_id: &str) -> Result<()> {
    sqlx::query("UPDATE hook_endpoints SET failing_since = NULL, failures = 0, rest_until = NULL WHERE id = $1")
        .bind(endpoint_id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn set_failing(conn: &mut Conn, now: Millis, endpoint_id: &str) -> Result<()> {
    sqlx::query("UPDATE hook_endpoints SET failing_since = $1 WHERE id = $2 AND failing_since IS NULL")
        .bind(now)
        .bind(endpoint_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets an endpoint rest.
pub(super) async fn set_rest(conn: &mut Conn, endpoint_id: &str, until: Millis, failures: i64) -> Result<()> {
    sqlx::query("UPDATE hook_endpoints SET rest_until = $1, failures = $2 WHERE id = $3")
        .bind(until)
        .bind(failures)
        .bind(endpoint_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Disables an endpoint, where given only one that is failing since before a time; false where it was not done.
async fn disable(
    conn: &mut Conn,
    app: &App,
    endpoint_id: &str,
    why: &'static str,
    failing_before: Option<Millis>,
) -> Result<bool> {
    let now = app.now();
    let disabled = sqlx::query(
        "UPDATE hook_endpoints SET disabled_at = $1, disabled_why = $2, updated_at = $1
         WHERE id = $3 AND disabled_at IS NULL AND ($4 = 0 OR failing_since <= $4)",
    )
    .bind(now)
    .bind(why)
    .bind(endpoint_id)
    .bind(failing_before.unwrap_or(Millis(0)))
    .execute(&mut *conn)
    .await?;
    if disabled.rows_affected() == 0 {
        return Ok(false);
    }
    tracing::warn!(endpoint = endpoint_id, why, "a hook endpoint is disabled: it is told nothing more");
    app.metrics.hook_disabled(why);
    let entry =
        audit::Entry { action: "hook_disabled", reason: Some(why), subject: Some(endpoint_id), ..Default::default() };
    audit::insert(conn, now, entry).await?;
    Ok(true)
}
