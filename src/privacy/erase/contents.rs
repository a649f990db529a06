//! What is erased of a LINE user, and of a member.
//!
//! A request whose outcome is open is left alone: LINE may be asked again, with the very same body. Whoever erases waits
//! for its end first.

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    hook_event, line_user, webhook,
};

/// The row stays, so that what refers to it keeps its meaning; it names nobody any more. Whoever comes back from LINE
/// later is a new LINE user here.
pub(super) async fn line_user(conn: &mut Conn, app: &App, line_user_id: &str) -> Result<()> {
    let Some(user) = line_user::find(conn, line_user_id).await? else { return Ok(()) };
    let bodies = webhook::erase::list_bodies(conn, &user.user_id).await?;
    // Events before bodies, as whoever handles an event holds them.
    sqlx::query("UPDATE events SET chat = id, erased_at = $1 WHERE chat = $2")
        .bind(app.now())
        .bind(&user.user_id)
        .execute(&mut *conn)
        .await?;
    webhook::erase::person(conn, &app.db, &user.user_id, &bodies).await?;
    take_out_of_requests(conn, &user).await?;
    hook_event::erase::line_user(conn, app, line_user_id).await?;
    for statement in [
        "UPDATE line_users SET user_id = 'erased:' || id, display_name = '', picture_url = NULL, language = NULL
         WHERE id = $1",
        "DELETE FROM friends WHERE line_user_id = $1",
        "DELETE FROM media WHERE (channel, message_id) IN
           (SELECT channel, id FROM chat_messages WHERE line_user_id = $1)",
        "DELETE FROM chat_messages WHERE line_user_id = $1",
        "UPDATE requests SET body = '' WHERE body <> '' AND state <> 'open' AND id IN (
           SELECT request_id FROM deliveries WHERE line_user_id = $1 AND link_id IS NULL)",
        "UPDATE deliveries SET content = '[]' WHERE line_user_id = $1 AND link_id IS NULL",
        "DELETE FROM answers WHERE line_user_id = $1",
        "DELETE FROM user_menus WHERE line_user_id = $1",
        "DELETE FROM menu_changes WHERE line_user_id = $1",
        "DELETE FROM menu_checks WHERE line_user_id = $1",
        "DELETE FROM account_links WHERE line_user_id = $1",
        "UPDATE attempts SET address = '', user_agent = NULL, returned_agent = NULL
         WHERE line_user_id = $1 AND member_id IS NULL",
    ] {
        sqlx::query(statement).bind(line_user_id).execute(&mut *conn).await?;
    }
    Ok(())
}

/// What said the same to many at once says nothing of one of them but the LINE user ID.
async fn take_out_of_requests(conn: &mut Conn, user: &line_user::LineUser) -> Result<()> {
    sqlx::query(
        "UPDATE requests SET body = REPLACE(body, $1, 'erased') WHERE body <> '' AND state <> 'open' AND id IN (
           SELECT d.request_id FROM links l JOIN deliveries d ON d.link_id = l.id WHERE l.line_user_id = $2)",
    )
    .bind(&user.user_id)
    .bind(&user.id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Said to a LINE user while this member's link to it was the last one that had begun: their name may be in it.
macro_rules! said {
    ($before:literal, $table:literal, $more:literal) => {
        concat!(
            $before,
            " FROM links l CROSS JOIN ",
            $table,
            " s WHERE l.member_id = $1 AND s.line_user_id = l.line_user_id AND s.created_at >= l.created_at
                AND NOT EXISTS (SELECT 1 FROM links n WHERE n.line_user_id = l.line_user_id
                  AND n.created_at > l.created_at AND n.created_at <= s.created_at)",
            $more
        )
    };
}

/// Cancels what of that still waits to be sent.
pub(super) async fn cancel_said(conn: &mut Conn, now: Millis, member_id: &str) -> Result<()> {
    sqlx::query(said!(
        "UPDATE deliveries SET state = 'cancelled', reason = 'erased', updated_at = $2
         WHERE state = 'waiting' AND message_id IN (SELECT s.message_id",
        "answers",
        ")"
    ))
    .bind(member_id)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// What names a member, also where the LINE user stays, who is somebody else's by now.
pub(super) async fn member(conn: &mut Conn, app: &App, member_id: &str) -> Result<()> {
    hook_event::erase::member(conn, app, member_id).await?;
    for statement in [
        said!(
            "UPDATE answers SET content = '[]', reply_token = NULL,
               state = CASE WHEN state IN ('waiting', 'replying') THEN 'failed' ELSE state END WHERE id IN (SELECT s.id",
            "answers",
            ")"
        ),
        // A push may have come after the next link; without the answer, its own time tells.
        said!("UPDATE deliveries SET content = '[]' WHERE message_id IN (SELECT s.message_id", "answers", ")"),
        said!(
            "UPDATE deliveries SET content = '[]' WHERE message_id IN (SELECT s.message_id",
            "deliveries",
            " AND s.link_id IS NULL)"
        ),
        "UPDATE requests SET body = '' WHERE body <> '' AND state <> 'open' AND id IN (
           SELECT d.request_id FROM links l JOIN deliveries d ON d.line_user_id = l.line_user_id
           WHERE l.member_id = $1 AND d.link_id IS NULL AND d.content = '[]')",
        "UPDATE links SET line_name = '' WHERE member_id = $1",
        "DELETE FROM attempts WHERE member_id = $1",
        "DELETE FROM tickets WHERE member_id = $1",
        "DELETE FROM account_links WHERE member_id = $1",
        "UPDATE requests SET body = '' WHERE body <> '' AND state <> 'open' AND id IN (
             SELECT d.request_id FROM links l JOIN deliveries d ON d.link_id = l.id WHERE l.member_id = $1)
           AND NOT EXISTS (SELECT 1 FROM deliveries o
             WHERE o.request_id = requests.id AND (o.member_id IS NULL OR o.member_id <> $1))",
        "UPDATE deliveries SET content = '[]' WHERE link_id IN (SELECT id FROM links WHERE member_id = $1)",
        "UPDATE messages SET data = NULL WHERE audience IS NULL AND data IS NOT NULL AND id IN (
           SELECT d.message_id FROM links l JOIN deliveries d ON d.link_id = l.id WHERE l.member_id = $1)",
        "DELETE FROM member_tags WHERE member_id = $1",
        "DELETE FROM topic_opt_outs WHERE member_id = $1",
        "UPDATE mails SET recipient = '', recipient_key = '', mail = '{}' WHERE member_id = $1",
    ] {
        sqlx::query(statement).bind(member_id).execute(&mut *conn).await?;
    }
    Ok(())
}
