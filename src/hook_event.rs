//! What the company's systems hear of (tables `hook_events`, `hook_deliveries`, `hook_watches`): written in the
//! transaction of what it tells of, one delivery for each endpoint that wants it at that moment. `hook` carries it out.
//!
//! - Where nobody wants a type nothing is written, and the price is a look at a table of some rows. No memory of it is
//!   kept: it would miss what happens just after somebody subscribed.
//! - People are named by the company's id and by ours, never by LINE's.
//!
//! - [`link`], [`person`] and [`delivery`] say what an event holds; [`erase`] takes it out again

pub mod delivery;
pub mod erase;
pub mod link;
pub mod person;

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{
    app::App,
    db::{Conn, Millis, Rows, new_id},
    error::Result,
};

/// What an endpoint may hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    LinkCreated,
    LinkEnded,
    ConsentWithdrawn,
    UserFollowed,
    UserBlocked,
    MessageReceived,
    PostbackReceived,
    DeliveryFailed,
    MessageFinished,
    /// A body of LINE's, passed on as it came; only to endpoints made for that.
    LineWebhook,
    /// Asked for by the company, to see that it arrives.
    Test,
}

impl Kind {
    /// Those that an endpoint may choose.
    pub const CHOSEN: [Self; 9] = [
        Self::LinkCreated,
        Self::LinkEnded,
        Self::ConsentWithdrawn,
        Self::UserFollowed,
        Self::UserBlocked,
        Self::MessageReceived,
        Self::PostbackReceived,
        Self::DeliveryFailed,
        Self::MessageFinished,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::LinkCreated => "link.created",
            Self::LinkEnded => "link.ended",
            Self::ConsentWithdrawn => "link.consent_withdrawn",
            Self::UserFollowed => "user.followed",
            Self::UserBlocked => "user.blocked",
            Self::MessageReceived => "message.received",
            Self::PostbackReceived => "postback.received",
            Self::DeliveryFailed => "delivery.failed",
            Self::MessageFinished => "message.finished",
            Self::LineWebhook => "line.webhook",
            Self::Test => "hook.test",
        }
    }

    /// The subscription to everything, where this is part of it.
    fn all(self) -> &'static str {
        if Self::CHOSEN.contains(&self) { "*" } else { self.word() }
    }
}

/// Where something happened.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub provider: &'a str,
    /// None where it is no one channel's matter.
    pub channel: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub fn provider(provider: &'a str) -> Self {
        Self { provider, channel: None }
    }

    pub fn channel(app: &'a App, channel: &'a str) -> Self {
        let provider = app.config.channel.get(channel).map(|channel| channel.provider.as_str()).unwrap_or_default();
        Self { provider, channel: Some(channel) }
    }
}

/// An event to be.
#[derive(Debug)]
pub struct New<'a> {
    pub at: Millis,
    pub member_id: Option<String>,
    pub line_user_id: Option<String>,
    /// LINE's event, or the body that is passed on: what is taken back there goes here too.
    pub source: Option<&'a str>,
    pub data: Value,
}

/// The endpoints that want to hear of a kind of thing in a place, in the order of their making.
pub async fn wanting(conn: &mut Conn, kind: Kind, place: Place<'_>) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT e.id FROM hook_subscriptions s JOIN hook_endpoints e ON e.id = s.endpoint_id
         WHERE s.type IN ($1, $2) AND e.disabled_at IS NULL AND (e.provider IS NULL OR e.provider = $3)
           AND (e.channel IS NULL OR $4 = '' OR e.channel = $4) ORDER BY e.id",
    )
    .bind(kind.word())
    .bind(kind.all())
    .bind(place.provider)
    .bind(place.channel.unwrap_or_default())
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Writes events, and a delivery of each to each of these endpoints.
pub async fn insert(
    conn: &mut Conn,
    app: &App,
    kind: Kind,
    place: Place<'_>,
    endpoints: &[String],
    events: &[New<'_>],
) -> Result<()> {
    let now = app.now();
    let events: Vec<(String, &New<'_>)> = events.iter().map(|event| (new_id(now), event)).collect();
    for (text, rows) in EVENTS.pieces(&app.db, &events) {
        let mut insert = sqlx::query(text);
        for (id, new) in rows {
            insert = insert.bind(id).bind(kind.word()).bind(new.at).bind(place.provider).bind(place.channel);
            insert = insert.bind(&new.member_id).bind(&new.line_user_id).bind(new.source).bind(new.data.to_string());
        }
        insert.execute(&mut *conn).await?;
    }
    let pairs =
        endpoints.iter().flat_map(|endpoint| events.iter().map(move |(id, _)| (endpoint.as_str(), id.as_str())));
    insert_deliveries(conn, app, &pairs.collect::<Vec<_>>()).await
}

static EVENTS: LazyLock<Rows> = LazyLock::new(|| {
    Rows::new(
        "INSERT INTO hook_events (id, type, at, provider, channel, member_id, line_user_id, source, data) VALUES",
        9,
        "ON CONFLICT DO NOTHING",
    )
});

/// By endpoint and event.
async fn insert_deliveries(conn: &mut Conn, app: &App, pairs: &[(&str, &str)]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO hook_deliveries (endpoint_id, event_id, due_at, created_at, updated_at, state, attempts, tries)
             SELECT column1, column2, column3, column3, column3, 'waiting', 0, 0 FROM (VALUES",
            3,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    let now = app.now();
    for (text, rows) in INSERT.pieces(&app.db, pairs) {
        let mut insert = sqlx::query(text);
        for (endpoint_id, event_id) in rows {
            insert = insert.bind(endpoint_id).bind(event_id).bind(now);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Writes an event to one endpoint, whatever it wants to hear of; gives the event's id.
pub async fn insert_for(conn: &mut Conn, app: &App, kind: Kind, endpoint_id: &str, data: &Value) -> Result<String> {
    let now = app.now();
    let id = new_id(now);
    sqlx::query("INSERT INTO hook_events (id, type, at, data) VALUES ($1, $2, $3, $4)")
        .bind(&id)
        .bind(kind.word())
        .bind(now)
        .bind(data.to_string())
        .execute(&mut *conn)
        .await?;
    insert_deliveries(conn, app, &[(endpoint_id, &id)]).await?;
    Ok(id)
}

/// A body of LINE's, to those who want it as it came.
pub async fn line_webhooks(
    conn: &mut Conn,
    app: &App,
    channel: &str,
    endpoints: &[String],
    bodies: &[(String, Millis)],
) -> Result<()> {
    let events: Vec<New<'_>> = bodies
        .iter()
        .map(|(id, at)| New { at: *at, member_id: None, line_user_id: None, source: Some(id), data: json!({}) })
        .collect();
    insert(conn, app, Kind::LineWebhook, Place::channel(app, channel), endpoints, &events).await
}

/// A member as an event names them.
fn member(id: Option<&str>, external_id: Option<&str>) -> Value {
    id.map_or(Value::Null, |id| json!({ "id": id, "external_id": external_id }))
}

/// RFC 3339, in UTC.
pub fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}
