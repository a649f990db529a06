//! Acceptance: an order becomes a message, or nothing at all and every mistake in it is told.
//!
//! A message to one member commits with its delivery, rendered; one to some who are named with theirs (`listed`). One to
//! many commits alone; `expand` adds the recipients. The latter two keep their template as it is at that moment.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    addressee::{self, Addressee, Person},
    collapse::{self, Added},
    content::{check_contents, content},
    listed,
    order::{Audience, Mistake, Order, Refusal, What},
    quota,
};
use crate::{
    app::App,
    db::{Conn, Millis, new_id},
    error::{Error, Result},
    hook_event, member,
};

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub message_id: String,
    /// False where the same order was accepted before, under the same idempotency key.
    pub is_new: bool,
    /// Who of the members that the order names gets nothing; nobody is told anew where it is not new.
    pub left_out: Vec<LeftOut>,
}

/// A member who gets nothing, by the id that the order names them by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub member: String,
    /// A machine word.
    pub reason: &'static str,
}

/// Whom a message is for, as far as it is known when it is accepted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Recipients<'a> {
    /// This person, and whether they get it.
    One(&'a Person, bool),
    /// So many, all of them.
    Listed(i64),
    /// They are added later.
    Later,
}

/// Accepts an order whole or not at all.
pub async fn accept(app: &App, order: &Order) -> Result<Accepted, Refusal> {
    let mut conn = app.db.conn().await?;
    let mut mistakes = order.check_words(app);
    if mistakes.is_empty()
        && let Some(known) = find_known(&mut conn, order).await?
    {
        return Ok(known);
    }
    let to = addressee(&mut conn, app, order, &mut mistakes).await?;
    if mistakes.is_empty() {
        listed::find(&mut conn, app, order, &mut mistakes).await?;
    }
    drop(conn);
    mistakes.extend(check_contents(app, order, to.as_ref().map(|to| &to.person)));
    if !mistakes.is_empty() {
        return Err(Refusal::Mistakes(mistakes));
    }
    if to.is_none()
        && let Some(mistake) = quota::misfit(app, order).await?
    {
        return Err(Refusal::Mistakes(vec![mistake]));
    }
    let inserted = match (&to, &order.to) {
        (Some(to), _) => accept_one(app, order, &to.member_id).await?,
        (None, Audience::Members(_)) => listed::accept(app, order).await?,
        (None, _) => accept_many(app, order).await?.map(|id| (id, Vec::new())),
    };
    app.wake();
    if let Some((message_id, left_out)) = inserted {
        return Ok(Accepted { message_id, is_new: true, left_out });
    }
    // Somebody with the same key was quicker, and has committed.
    let known = find_known(&mut *app.db.conn().await?, order).await?;
    known.ok_or_else(|| Error::internal("a message that was there is gone").into())
}

/// The one member that an order is for; none of an order for many.
pub(super) async fn addressee(
    conn: &mut Conn,
    app: &App,
    order: &Order,
    mistakes: &mut Vec<Mistake>,
) -> Result<Option<Addressee>> {
    let Audience::Member(id) = &order.to else { return Ok(None) };
    if mistakes.iter().any(|mistake| mistake.path == "to.member") {
        return Ok(None);
    }
    let found = match addressee::find_member(conn, id).await? {
        Some(id) => addressee::find(conn, app, &id, &order.channel, order.topic.as_deref()).await?,
        None => None,
    };
    if found.is_none() {
        mistakes.push(Mistake::new("to.member", format!("there is no member {id:?}, by the company's id or ours")));
    }
    Ok(found)
}

/// The message that was accepted under this order's key.
async fn find_known(conn: &mut Conn, order: &Order) -> Result<Option<Accepted>, Refusal> {
    let Some(key) = &order.idempotency_key else { return Ok(None) };
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT id, fingerprint FROM messages WHERE idempotency_key = $1")
            .bind(key)
            .fetch_optional(conn)
            .await?;
    match found {
        Some((message_id, fingerprint)) if fingerprint == order.fingerprint()? => {
            Ok(Some(Accepted { message_id, is_new: false, left_out: Vec::new() }))
        }
        Some((message_id, _)) => Err(Refusal::KeyTaken { message_id }),
        None => Ok(None),
    }
}

/// None where the key is taken already.
async fn accept_one(app: &App, order: &Order, member_id: &str) -> Result<Option<(String, Vec<LeftOut>)>, Refusal> {
    let mut tx = app.db.begin().await?;
    member::hold(&mut tx, &app.db, member_id).await?;
    // From here on: messages to one person stand in the order of their ids.
    let now = app.now();
    let found = addressee::find(&mut tx, app, member_id, &order.channel, order.topic.as_deref()).await?;
    let to = found.ok_or(Error::NotFound)?;
    let left_out = to.left_out();
    let id = new_id(now);
    if !insert_message(&mut tx, app, now, &id, order, Recipients::One(&to.person, left_out.is_none())).await? {
        return Ok(None);
    }
    match left_out {
        Some(reason) => count_left_out(&mut tx, &id, &BTreeMap::from([(reason.to_owned(), 1)])).await?,
        None => deliver_to_one(&mut tx, app, now, &id, order, &to).await?,
    }
    tx.commit().await?;
    let named = || if let Audience::Member(id) = &order.to { id.clone() } else { String::new() };
    Ok(Some((id, left_out.map(|reason| LeftOut { member: named(), reason }).into_iter().collect())))
}

/// Adds the delivery, rendered with what it takes the place of.
async fn deliver_to_one(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    message_id: &str,
    order: &Order,
    to: &Addressee,
) -> Result<(), Refusal> {
    insert_delivery(conn, app, now, message_id, order, to).await?;
    let mut updates = None;
    if let (Some(key), Some(link_id)) = (&order.collapse_key, &to.link_id) {
        let added = Added { message_id, channel: &order.channel, key, seqs: (0, 1) };
        collapse::supersede(conn, &app.db, now, added).await?;
        updates = Some(collapse::updates(conn, message_id, link_id).await?);
    }
    let content = content(app, &order.what, &to.person, updates).map_err(Refusal::Mistakes)?;
    sqlx::query("UPDATE deliveries SET content = $1 WHERE message_id = $2 AND seq = 0")
        .bind(content)
        .bind(message_id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn accept_many(app: &App, order: &Order) -> Result<Option<String>, Refusal> {
    let now = app.now();
    let id = new_id(now);
    let mut tx = app.db.begin().await?;
    if !insert_message(&mut tx, app, now, &id, order, Recipients::Later).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(id))
}

/// Adds the message; false where its key is taken.
pub(super) async fn insert_message(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    id: &str,
    order: &Order,
    to: Recipients<'_>,
) -> Result<bool, Refusal> {
    let fingerprint = order.idempotency_key.as_ref().map(|_| order.fingerprint()).transpose()?;
    let (template, data, content) = match &order.what {
        What::Template { name, data } => (name.as_str(), Some(data.to_string()), None),
        What::Messages(list) => ("", None, Some(Value::from(list.clone()).to_string())),
    };
    let (locale, accepted, is_one) = match to {
        Recipients::One(person, gets_it) => (person.locale(app), i64::from(gets_it), true),
        Recipients::Listed(count) => (app.config.default_locale.as_str(), count, false),
        Recipients::Later => (app.config.default_locale.as_str(), 0, false),
    };
    let is_later = matches!(to, Recipients::Later);
    let is_frozen = !is_one && !template.is_empty();
    let source = is_frozen.then(|| app.templates.source(template)).flatten().map(|source| source.to_string());
    // Nothing is kept of what nobody is sent. Nor is who was named: the deliveries tell it, and are erased with people.
    let data = data.filter(|_| is_later || accepted > 0);
    let audience = is_later.then(|| serde_json::to_string(&order.to)).transpose()?;
    let inserted = sqlx::query(
        "INSERT INTO messages (id, channel, lane, cause, topic, template, locale, accepted, created_at, source, data,
           content, audience, send_at, collapse_key, idempotency_key, fingerprint, expanded_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(id)
    .bind(&order.channel)
    .bind(order.lane().word())
    .bind(order.cause)
    .bind(&order.topic)
    .bind(template)
    .bind(locale)
    .bind(accepted)
    .bind(now)
    .bind(source)
    .bind(data)
    .bind(content.filter(|_| !is_one))
    .bind(audience)
    .bind(order.send_at)
    .bind(&order.collapse_key)
    .bind(&order.idempotency_key)
    .bind(fingerprint)
    .bind((!is_later).then_some(now))
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    let from = order.send_at.map_or(now, |send_at| send_at.max(now));
    hook_event::delivery::watch(conn, app, &order.channel, id, from).await?;
    Ok(true)
}

async fn insert_delivery(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    message_id: &str,
    order: &Order,
    to: &Addressee,
) -> Result<()> {
    let order_at = order.send_at.map_or(now, |send_at| send_at.max(now));
    let due_at = super::expand::due_at(app, order.lane().word(), order_at, &to.person);
    sqlx::query(
        "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts,
           order_at, due_at, created_at, updated_at)
         VALUES ($1, 0, $2, $3, $4, $5, $6, 'waiting', 0, $7, $8, $9, $9)",
    )
    .bind(message_id)
    .bind(&order.channel)
    .bind(order.lane().word())
    .bind(&to.member_id)
    .bind(&to.line_user_id)
    .bind(&to.link_id)
    .bind(order_at)
    .bind(due_at)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds to the numbers of those who are left out of a message.
pub(super) async fn count_left_out(conn: &mut Conn, message_id: &str, left_out: &BTreeMap<String, i64>) -> Result<()> {
    for (reason, recipients) in left_out {
        sqlx::query(
            "INSERT INTO message_exclusions (message_id, reason, recipients) VALUES ($1, $2, $3)
             ON CONFLICT (message_id, reason)
             DO UPDATE SET recipients = message_exclusions.recipients + excluded.recipients",
        )
        .bind(message_id)
        .bind(reason)
        .bind(recipients)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
