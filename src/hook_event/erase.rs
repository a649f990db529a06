//! Takes out of events what a person took back, or who a person was. What was not told yet is told no more: it would say
//! nothing.

use crate::{app::App, db::Conn, error::Result};

macro_rules! erase {
    ($which:literal) => {
        [
            concat!(
                "UPDATE hook_deliveries SET state = 'cancelled', error = 'erased', leased_until = NULL, updated_at = $2
                 WHERE state = 'waiting' AND event_id IN (SELECT id FROM hook_events WHERE ",
                $which,
                ")"
            ),
            concat!(
                "UPDATE hook_events SET data = '{}', source = NULL, member_id = NULL, line_user_id = NULL, erased_at = $2 WHERE ",
                $which
            ),
        ]
    };
}

/// What an event or a body of LINE's brought.
pub async fn source(conn: &mut Conn, app: &App, source: &str) -> Result<()> {
    run(conn, app, erase!("source = $1"), source).await
}

/// All that was told of a member.
pub async fn member(conn: &mut Conn, app: &App, member_id: &str) -> Result<()> {
    run(conn, app, erase!("member_id = $1"), member_id).await
}

/// All that was told of a LINE user.
pub async fn line_user(conn: &mut Conn, app: &App, line_user_id: &str) -> Result<()> {
    run(conn, app, erase!("line_user_id = $1"), line_user_id).await
}

async fn run(conn: &mut Conn, app: &App, statements: [&'static str; 2], which: &str) -> Result<()> {
    for statement in statements {
        sqlx::query(statement).bind(which).bind(app.now()).execute(&mut *conn).await?;
    }
    Ok(())
}
