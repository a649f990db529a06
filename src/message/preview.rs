//! An order as it would be carried out now: who would get it, and what it would look like. Nothing is stored.

use std::collections::BTreeMap;

use super::{
    accept::addressee,
    addressee::{self, Addressee, Person},
    audience::{self, Target},
    content::{check_contents, content},
    listed,
    order::{Audience, Order, Refusal},
    quota::{self, Outlook},
};
use crate::{app::App, db::Conn, error::Result};

const AT_ONCE: i64 = 20_000;

/// What would become of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub recipients: i64,
    /// Who would be left out, by reason.
    pub left_out: BTreeMap<String, i64>,
    /// One recipient's name, and the JSON list of message objects for them.
    pub example: Option<(String, String)>,
    /// Of a message to many: how the month's quota stands.
    pub outlook: Option<Outlook>,
}

/// Looks at an order as acceptance does, and counts its recipients.
pub async fn preview(app: &App, order: &Order) -> Result<Preview, Refusal> {
    let mut conn = app.db.conn().await?;
    let mut mistakes = order.check_words(app);
    let to = addressee(&mut conn, app, order, &mut mistakes).await?;
    // What is no id is not looked up.
    let listed =
        if mistakes.is_empty() { listed::find(&mut conn, app, order, &mut mistakes).await? } else { Vec::new() };
    mistakes.extend(check_contents(app, order, to.as_ref().map(|to| &to.person)));
    if !mistakes.is_empty() {
        return Err(Refusal::Mistakes(mistakes));
    }
    let mut found = Preview { recipients: 0, left_out: BTreeMap::new(), example: None, outlook: None };
    let person = match to {
        Some(to) => {
            match to.left_out() {
                Some(reason) => drop(found.left_out.insert(reason.to_owned(), 1)),
                None => found.recipients = 1,
            }
            (found.recipients > 0).then_some(to.person)
        }
        None if matches!(order.to, Audience::Members(_)) => count_listed(listed, &mut found),
        None => count_many(&mut conn, app, order, &mut found).await?,
    };
    if let Some(person) = person {
        let updates = order.collapse_key.is_some().then(Vec::new);
        let content = content(app, &order.what, &person, updates).map_err(Refusal::Mistakes)?;
        found.example = Some((person.name, content));
    }
    drop(conn);
    if !matches!(order.to, Audience::Member(_)) {
        found.outlook = Some(quota::outlook(app, &order.channel).await?);
    }
    Ok(found)
}

/// How many an audience has by now, those who will be left out too.
pub(super) async fn size(conn: &mut Conn, app: &App, channel: &str, to: &Audience) -> Result<i64> {
    let (statement, of) = match to {
        Audience::Member(_) => return Ok(1),
        Audience::Members(ids) => return Ok(i64::try_from(ids.len()).unwrap_or(i64::MAX)),
        Audience::Tag(tag) => ("SELECT CAST(COUNT(*) AS BIGINT) FROM member_tags WHERE tag = $1", tag.as_str()),
        Audience::All => (
            "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL AND provider = $1",
            app.config.channel.get(channel).map_or("", |channel| channel.provider.as_str()),
        ),
    };
    Ok(sqlx::query_scalar(statement).bind(of).fetch_one(conn).await?)
}

/// How many of an audience would get it.
pub(super) async fn count(app: &App, order: &Order) -> Result<i64> {
    if matches!(order.to, Audience::Members(_)) {
        let mut conn = app.db.conn().await?;
        let listed = listed::find(&mut conn, app, order, &mut Vec::new()).await?;
        let recipients = listed.iter().filter(|(_, to)| to.left_out().is_none()).count();
        return Ok(i64::try_from(recipients).unwrap_or(i64::MAX));
    }
    let target = Target::new(app, &order.channel, order.topic.clone(), order.to.clone(), app.now());
    let mut conn = app.db.conn().await?;
    let (mut after, mut recipients) = (String::new(), 0);
    while let Some(batch) = audience::next(&mut conn, &target, &after, AT_ONCE).await? {
        recipients += audience::count(&mut conn, &target, &batch).await?.0;
        after = batch.to;
    }
    Ok(recipients)
}

/// Counts those who are named, and gives one who would get it.
fn count_listed(listed: Vec<(String, Addressee)>, found: &mut Preview) -> Option<Person> {
    let mut first = None;
    for (_, to) in listed {
        match to.left_out() {
            Some(reason) => *found.left_out.entry(reason.to_owned()).or_default() += 1,
            None => {
                found.recipients += 1;
                first = first.or(Some(to.person));
            }
        }
    }
    first
}

/// Counts, and gives one who would get it.
async fn count_many(conn: &mut Conn, app: &App, order: &Order, found: &mut Preview) -> Result<Option<Person>> {
    let target = Target::new(app, &order.channel, order.topic.clone(), order.to.clone(), app.now());
    let (mut after, mut member_id) = (String::new(), None);
    while let Some(batch) = audience::next(conn, &target, &after, AT_ONCE).await? {
        let (recipients, left_out) = audience::count(conn, &target, &batch).await?;
        if member_id.is_none() && recipients > 0 {
            member_id = audience::find_first(conn, &target, &batch).await?;
        }
        found.recipients += recipients;
        for (reason, count) in left_out {
            *found.left_out.entry(reason).or_default() += count;
        }
        after = batch.to;
    }
    let Some(member_id) = member_id else { return Ok(None) };
    let first = addressee::find(conn, app, &member_id, &order.channel, order.topic.as_deref()).await?;
    Ok(first.map(|first| first.person))
}
