//! Takes content out of stored bodies: what a person took back, or everything of a person who is erased. What is left
//! of an event says that it was, not what it said.

use serde_json::{Map, Value, json};

use crate::{
    app::App,
    db::{Conn, Db, Locking, Millis, with_lock},
    error::Result,
    hook_event,
    line::webhook::Envelope,
};

/// What is kept of an erased event.
const KEPT: [&str; 6] = ["type", "mode", "timestamp", "webhookEventId", "deliveryContext", "source"];

/// Erases what an event said, in every body that brought it, in the order of [`list_bodies`]; of an erased person's
/// event also who it was.
pub async fn event(conn: &mut Conn, app: &App, channel: &str, event_id: &str) -> Result<()> {
    let chat: Option<String> =
        sqlx::query_scalar("UPDATE events SET erased_at = $1 WHERE id = $2 AND channel = $3 RETURNING chat")
            .bind(app.now())
            .bind(event_id)
            .bind(channel)
            .fetch_optional(&mut *conn)
            .await?;
    hook_event::erase::source(conn, app, event_id).await?;
    let is_nobodys = chat.as_deref() == Some(event_id);
    let bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body_id FROM events WHERE id = $1 AND channel = $2
         UNION SELECT body_id FROM event_copies WHERE event_id = $1 AND channel = $2
         ORDER BY body_id",
    )
    .bind(event_id)
    .bind(channel)
    .fetch_all(&mut *conn)
    .await?;
    for id in bodies {
        rewrite(conn, &app.db, &id, |event| {
            if event.get("webhookEventId").and_then(Value::as_str) == Some(event_id) {
                event.retain(|name, _| KEPT.contains(&name.as_str()) && !(is_nobodys && name == "source"));
            }
        })
        .await?;
        set_copy_erased(conn, app.now(), channel, event_id, &id).await?;
    }
    Ok(())
}

async fn set_copy_erased(conn: &mut Conn, now: Millis, channel: &str, event_id: &str, body_id: &str) -> Result<()> {
    sqlx::query("UPDATE event_copies SET erased_at = $1 WHERE event_id = $2 AND channel = $3 AND body_id = $4")
        .bind(now)
        .bind(event_id)
        .bind(channel)
        .bind(body_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Erases what was erased already in the bodies that brought it again since then, some at a time; gives the number of
/// events.
pub async fn copies(app: &App) -> Result<u64> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT c.event_id, c.channel FROM event_copies c
         JOIN events e ON e.id = c.event_id AND e.channel = c.channel
         WHERE c.erased_at IS NULL AND e.erased_at IS NOT NULL ORDER BY c.event_id, c.channel LIMIT 100",
    )
    .fetch_all(&mut *app.db.conn().await?)
    .await?;
    for (event_id, channel) in &found {
        let mut tx = app.db.begin().await?;
        event(&mut tx, app, channel, event_id).await?;
        tx.commit().await?;
    }
    Ok(found.len() as u64)
}

/// Erases a person from the bodies of their events: what they said, and who it was.
pub async fn person(conn: &mut Conn, db: &Db, user_id: &str, bodies: &[String]) -> Result<()> {
    for id in bodies {
        rewrite(conn, db, id, |event| {
            let source = event.get("source").and_then(|source| source.get("userId")).and_then(Value::as_str);
            if source == Some(user_id) {
                event.retain(|name, _| KEPT.contains(&name.as_str()) && name != "source");
            }
        })
        .await?;
    }
    Ok(())
}

/// The bodies that hold events of a person's own chat, in the order in which all who hold several take them.
pub async fn list_bodies(conn: &mut Conn, user_id: &str) -> Result<Vec<String>> {
    let bodies = sqlx::query_scalar(
        "SELECT body_id FROM events WHERE chat = $1
         UNION SELECT c.body_id FROM event_copies c JOIN events e ON e.id = c.event_id AND e.channel = c.channel
           WHERE e.chat = $1
         UNION SELECT e.body_id FROM events e JOIN chat_messages m ON m.event_id = e.id AND m.channel = e.channel
           JOIN line_users u ON u.id = m.line_user_id WHERE u.user_id = $1
         UNION SELECT e.body_id FROM events e JOIN chat_messages m ON m.chat = e.chat AND m.channel = e.channel
           JOIN line_users u ON u.id = m.line_user_id
           WHERE u.user_id = $1 AND m.edited_at IS NOT NULL AND e.kind = 'messageEdited'
         ORDER BY body_id",
    )
    .bind(user_id)
    .fetch_all(conn)
    .await?;
    Ok(bodies)
}

/// Changes the events of a body. Its signature fits no longer, and goes.
async fn rewrite(conn: &mut Conn, db: &Db, id: &str, edit: impl Fn(&mut Map<String, Value>)) -> Result<()> {
    let body: Option<Vec<u8>> = sqlx::query_scalar(db.locking(BODY)).bind(id).fetch_optional(&mut *conn).await?;
    let Some(body) = body else { return Ok(()) };
    sqlx::query("UPDATE webhook_bodies SET body = $1, signature = '' WHERE id = $2")
        .bind(rewritten(&body, edit)?.into_bytes())
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The body with each event edited in its place: events are known by their place. One that cannot be read was of no
/// effect, and goes.
fn rewritten(body: &[u8], edit: impl Fn(&mut Map<String, Value>)) -> Result<String> {
    let Ok(envelope) = Envelope::read(body) else { return Ok(r#"{"events":[]}"#.to_owned()) };
    let mut events = Vec::new();
    for event in &envelope.events {
        let mut event: Map<String, Value> = serde_json::from_str(event.get()).unwrap_or_default();
        edit(&mut event);
        events.push(event);
    }
    Ok(json!({ "destination": envelope.destination, "events": events }).to_string())
}

const BODY: Locking = with_lock!("SELECT body FROM webhook_bodies WHERE id = $1", "FOR UPDATE");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_places() {
        let body = r#"{"destination":"U","events":[{"webhookEventId":"1","a":1},{"x":"\ud800"},{"webhookEventId":"2","a":2}]}"#;
        let edited = rewritten(body.as_bytes(), |event| {
            if event.get("webhookEventId").and_then(Value::as_str) == Some("2") {
                event.retain(|name, _| KEPT.contains(&name.as_str()));
            }
        })
        .unwrap();
        let edited: Value = serde_json::from_str(&edited).unwrap();
        let expected = json!([{ "webhookEventId": "1", "a": 1 }, {}, { "webhookEventId": "2" }]);
        assert_eq!(edited, json!({ "destination": "U", "events": expected }));
        assert_eq!(rewritten(b"\xff", |_| ()).unwrap(), r#"{"events":[]}"#);
    }
}
