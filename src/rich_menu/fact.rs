//! What is known of people, as rules see it: read for a page of them at a time, never one by one.

use std::{collections::BTreeMap, sync::LazyLock};

use minijinja::{
    Value,
    value::{Enumerator, Object},
};
use serde_json::Map;
use std::sync::Arc;

use crate::{
    app::App,
    db::{Conn, Millis, Rows},
    error::Result,
    flex, line,
    line_user::Friend,
    member::{attribute, tag},
};

/// What is known of a person.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    /// An active link, not suspended, to a member who is not disabled.
    pub linked: bool,
    pub friend: Friend,
    /// The member's, else LINE's, else the company's.
    pub language: String,
    /// Of the linked member.
    pub attributes: Map<String, serde_json::Value>,
    pub tags: Vec<String>,
}

/// Somebody on a channel, with what they were told last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Person {
    pub id: String,
    /// LINE's.
    pub user_id: String,
    pub facts: Facts,
    /// Their languages: the member's, LINE's.
    pub languages: Vec<String>,
    /// Ours, where they are linked.
    pub member_id: Option<String>,
    /// The menu that the company's system chose for the member.
    pub overrule: Option<String>,
    pub told: Told,
}

/// What LINE was last told of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// None: no menu of their own, or nothing ever.
    pub rich_menu_id: Option<String>,
    pub menu: Option<String>,
    pub applied_at: Option<Millis>,
    pub checked_at: Option<Millis>,
    pub request: Option<String>,
    pub refused: Option<String>,
}

impl Facts {
    /// Of whom nothing is known.
    pub fn nobody() -> Self {
        Self {
            linked: false,
            friend: Friend::Unknown,
            language: String::new(),
            attributes: Map::new(),
            tags: Vec::new(),
        }
    }

    /// A stranger to the company: the channel's default menu is theirs.
    pub fn stranger(app: &App) -> Self {
        Self { language: app.config.default_locale.clone(), ..Self::nobody() }
    }

    pub fn has(&self, attribute: &str) -> bool {
        self.attributes.contains_key(attribute)
    }

    /// What an expression is worked out over.
    pub fn value(&self) -> Value {
        Value::from_object(Seen(Arc::new(self.clone())))
    }
}

impl Person {
    /// Whether LINE may be told of them: an id of LINE's, and no word that they are no friend.
    pub fn is_reached(&self) -> bool {
        self.facts.friend != Friend::No && line::is_user_id(&self.user_id)
    }
}

/// Facts as minijinja reads them: what an expression does not ask for costs nothing.
#[derive(Debug)]
struct Seen(Arc<Facts>);

#[derive(Debug)]
struct SeenMember(Arc<Facts>);

#[derive(Debug)]
struct SeenUser(Arc<Facts>);

impl Object for Seen {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "linked" => Some(self.0.linked.into()),
            "friend" => Some((self.0.friend == Friend::Yes).into()),
            "member" => Some(Value::from_object(SeenMember(self.0.clone()))),
            "user" => Some(Value::from_object(SeenUser(self.0.clone()))),
            _ => None,
        }
    }
}

impl Object for SeenMember {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "tags" => Some(self.0.tags.iter().map(String::as_str).collect()),
            name => self.0.attributes.get(name).map(value_of),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

impl Object for SeenUser {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str()? == "language").then(|| Value::from(self.0.language.as_str()))
    }
}

/// An attribute: a text, a number or a flag.
fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Bool(flag) => (*flag).into(),
        other => other.as_i64().map_or_else(|| other.as_f64().into(), Value::from),
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    user_id: String,
    language: Option<String>,
    friend: Option<String>,
    member_id: Option<String>,
    locale: Option<String>,
    overrule: Option<String>,
    menu: Option<String>,
    rich_menu_id: Option<String>,
    applied_at: Option<Millis>,
    checked_at: Option<Millis>,
    request: Option<String>,
    refused: Option<String>,
}

/// A person with all that one row can tell: of a channel, at a time.
macro_rules! people {
    ($channel:literal, $now:literal) => {
        concat!(
            " LEFT JOIN friends f ON f.line_user_id = u.id AND f.channel = ",
            $channel,
            " LEFT JOIN links l ON l.line_user_id = u.id AND l.ended_at IS NULL AND l.suspended_at IS NULL
             LEFT JOIN members m ON m.id = l.member_id AND m.disabled_at IS NULL
             LEFT JOIN menu_overrides o ON o.member_id = m.id AND o.channel = ",
            $channel,
            " AND (o.until IS NULL OR o.until > ",
            $now,
            ") LEFT JOIN user_menus s ON s.line_user_id = u.id AND s.channel = ",
            $channel,
        )
    };
}

macro_rules! columns {
    () => {
        "u.id, u.user_id, u.language, f.friend, m.id AS member_id, m.locale, o.menu AS overrule, s.menu, s.rich_menu_id,
         s.applied_at, s.checked_at, s.request, s.refused"
    };
}

/// The next people of a channel's provider after one, in the order of their ids.
pub(super) async fn page(
    conn: &mut Conn,
    app: &App,
    channel: &str,
    after: &str,
    most: i64,
    asks_member: bool,
) -> Result<Vec<Person>> {
    let provider = app.config.channel.get(channel).map_or("", |known| known.provider.as_str());
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT id, user_id, language FROM line_users WHERE provider = $2 AND id > $3 ORDER BY id LIMIT $5) u",
        people!("$1", "$4"),
        " ORDER BY u.id"
    ))
    .bind(channel)
    .bind(provider)
    .bind(after)
    .bind(app.now())
    .bind(most)
    .fetch_all(&mut *conn)
    .await?;
    people(conn, app, rows, asks_member).await
}

/// Some people on a channel, in the order of their ids; those who are not there are left out.
pub(super) async fn list(
    conn: &mut Conn,
    app: &App,
    channel: &str,
    ids: &[String],
    asks_member: bool,
) -> Result<Vec<Person>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            concat!("SELECT ", columns!(), " FROM (SELECT DISTINCT column1, column2, column3 FROM (VALUES"),
            3,
            concat!(
                ") AS w) v JOIN line_users u ON u.id = v.column1",
                people!("v.column2", "v.column3"),
                " ORDER BY u.id"
            ),
        )
    });
    let (now, mut rows) = (app.now(), Vec::new());
    for (text, piece) in SELECT.pieces(&app.db, ids) {
        let mut select = sqlx::query_as::<_, Row>(text);
        for id in piece {
            select = select.bind(id).bind(channel).bind(now);
        }
        rows.extend(select.fetch_all(&mut *conn).await?);
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    people(conn, app, rows, asks_member).await
}

/// One person on a channel.
pub(super) async fn find(conn: &mut Conn, app: &App, channel: &str, id: &str) -> Result<Option<Person>> {
    Ok(list(conn, app, channel, &[id.to_owned()], true).await?.pop())
}

async fn people(conn: &mut Conn, app: &App, rows: Vec<Row>, asks_member: bool) -> Result<Vec<Person>> {
    let members: Vec<String> = rows.iter().filter_map(|row| row.member_id.clone()).collect();
    let (mut attributes, mut tags) = (BTreeMap::new(), BTreeMap::new());
    if asks_member && !members.is_empty() {
        attributes = attribute::values(conn, &app.db, &members).await?;
        tags = tag::list(conn, &app.db, &members).await?;
    }
    let person = |row: Row| {
        let languages: Vec<String> = [row.locale, row.language].into_iter().flatten().collect();
        let known = languages.first().unwrap_or(&app.config.default_locale);
        let member = row.member_id.as_ref();
        Person {
            facts: Facts {
                linked: member.is_some(),
                friend: Friend::of_word(row.friend.as_deref()),
                language: flex::language(known).unwrap_or(known).to_owned(),
                attributes: member.and_then(|id| attributes.remove(id)).unwrap_or_default(),
                tags: member.and_then(|id| tags.remove(id)).unwrap_or_default(),
            },
            id: row.id,
            user_id: row.user_id,
            languages,
            member_id: row.member_id,
            overrule: row.overrule,
            told: Told {
                rich_menu_id: row.rich_menu_id,
                menu: row.menu,
                applied_at: row.applied_at,
                checked_at: row.checked_at,
                request: row.request,
                refused: row.refused,
            },
        }
    };
    Ok(rows.into_iter().map(person).collect())
}
