//! The addressee of an order: what is true of them when a message is accepted, and what a template sees of them.

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    config::QuietHours,
    db::{Conn, Db, Millis},
    error::Result,
    flex,
    member::attribute,
};

/// A member, and their link to the channel's provider where there is one.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Addressee {
    pub member_id: String,
    #[sqlx(flatten)]
    pub person: Person,
    pub link_id: Option<String>,
    pub line_user_id: Option<String>,
    disabled_at: Option<Millis>,
    suspended_at: Option<Millis>,
    permission: Option<String>,
    friend: Option<String>,
    opted_out_at: Option<Millis>,
}

/// What a message says to somebody, and how.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub struct Person {
    pub name: String,
    pub external_id: Option<String>,
    /// What they chose here.
    pub locale: Option<String>,
    /// What LINE says.
    pub language: Option<String>,
    pub time_zone: Option<String>,
    /// Their own, in place of the company's.
    pub quiet_hours: Option<String>,
    /// Ours, where they are a member.
    #[sqlx(default)]
    pub member_id: Option<String>,
    /// What the company says of them besides; read where a template may ask for it.
    #[sqlx(skip)]
    pub attributes: Map<String, Value>,
}

impl Addressee {
    /// Why nothing may be sent to them.
    pub fn left_out(&self) -> Option<&'static str> {
        if self.link_id.is_none() {
            Some("not_linked")
        } else if self.suspended_at.is_some() {
            Some("suspended")
        } else if self.disabled_at.is_some() {
            Some("member_disabled")
        } else if self.permission.as_deref() == Some("withdrawn") {
            Some("consent_withdrawn")
        } else if self.friend.as_deref() == Some("no") {
            Some("not_reachable")
        } else if self.opted_out_at.is_some() {
            Some("opted_out")
        } else {
            None
        }
    }
}

impl Person {
    /// Nobody, to try a template with.
    pub fn sample(locale: &str) -> Self {
        let (name, external_id) = ("はなこ".to_owned(), Some("1001".to_owned()));
        Self { name, external_id, locale: Some(locale.to_owned()), ..Self::default() }
    }

    /// The language they are written to in: their own choice, else what LINE says, else the company's.
    pub fn locale<'a>(&self, app: &'a App) -> &'a str {
        let known = [&self.locale, &self.language].into_iter().flatten().find_map(|tag| flex::language(tag));
        known.unwrap_or(&app.config.default_locale)
    }

    /// In which times are told to them.
    pub fn zone(&self, app: &App) -> TimeZone {
        self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(|| app.zone.clone())
    }

    /// When they are left in peace by what is in bulk: as they chose, else as the company did.
    pub fn quiet_hours(&self, app: &App) -> Option<QuietHours> {
        self.quiet_hours.as_deref().and_then(QuietHours::parse).or(app.config.sending.quiet_hours)
    }

    /// What a template is filled with: the order's data, who it is for, and what this message collapsed where it has
    /// a collapse key.
    pub fn fill(&self, data: &Value, updates: Option<Vec<Value>>) -> Value {
        let mut all = data.as_object().cloned().unwrap_or_else(Map::new);
        let mut member = self.attributes.clone();
        member.insert("name".to_owned(), json!(self.name));
        member.insert("external_id".to_owned(), json!(self.external_id));
        all.insert("member".to_owned(), Value::Object(member));
        if let Some(updates) = updates {
            all.insert("updates".to_owned(), Value::Array(updates));
        }
        Value::Object(all)
    }
}

/// Reads what the company says of some people besides their names.
pub(super) async fn read_attributes<'a>(
    conn: &mut Conn,
    db: &Db,
    people: impl Iterator<Item = &'a mut Person>,
) -> Result<()> {
    let people: Vec<&mut Person> = people.filter(|person| person.member_id.is_some()).collect();
    let ids: Vec<String> = people.iter().filter_map(|person| person.member_id.clone()).collect();
    let found = attribute::values(conn, db, &ids).await?;
    for person in people {
        let attributes = person.member_id.as_ref().and_then(|id| found.get(id));
        person.attributes = attributes.cloned().unwrap_or_default();
    }
    Ok(())
}

/// The member of the company's id, else of ours; none who is deleted.
pub(super) async fn find_member(conn: &mut Conn, id: &str) -> Result<Option<String>> {
    let found = sqlx::query_scalar(
        "SELECT id FROM members WHERE (external_id = $1 OR id = $1) AND deleted_at IS NULL
         ORDER BY CASE WHEN external_id = $1 THEN 0 ELSE 1 END LIMIT 1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Whoever is written to in LINE, by what the member chose that they are linked to, where there is one. `page` is the
/// language of the page they are on, which is told where neither they nor LINE says one.
pub(super) async fn of_line_user(conn: &mut Conn, line_user_id: &str, page: Option<&str>) -> Result<Person> {
    let found: Option<Person> = sqlx::query_as(
        "SELECT COALESCE(m.name, '') AS name, m.external_id, m.locale, u.language, m.time_zone, m.quiet_hours,
           m.id AS member_id
         FROM line_users u
         LEFT JOIN links l ON l.line_user_id = u.id AND l.ended_at IS NULL
         LEFT JOIN members m ON m.id = l.member_id WHERE u.id = $1",
    )
    .bind(line_user_id)
    .fetch_optional(conn)
    .await?;
    let mut person = found.unwrap_or_default();
    if person.language.as_deref().and_then(flex::language).is_none() {
        person.language = page.map(str::to_owned);
    }
    Ok(person)
}

pub(super) async fn find(
    conn: &mut Conn,
    app: &App,
    member_id: &str,
    channel: &str,
    topic: Option<&str>,
) -> Result<Option<Addressee>> {
    let provider = app.config.channel.get(channel).map_or("", |channel| channel.provider.as_str());
    let mut found: Option<Addressee> = sqlx::query_as(
        "SELECT m.id AS member_id, m.name, m.external_id, m.locale, m.time_zone, m.quiet_hours, m.disabled_at,
           l.id AS link_id, l.line_user_id, l.suspended_at, l.permission, u.language, f.friend, o.created_at AS opted_out_at
         FROM members m
         LEFT JOIN links l ON l.member_id = m.id AND l.provider = $2 AND l.ended_at IS NULL
         LEFT JOIN line_users u ON u.id = l.line_user_id
         LEFT JOIN friends f ON f.line_user_id = l.line_user_id AND f.channel = $3
         LEFT JOIN topic_opt_outs o ON o.member_id = m.id AND o.topic = $4
         WHERE m.id = $1",
    )
    .bind(member_id)
    .bind(provider)
    .bind(channel)
    .bind(topic)
    .fetch_optional(&mut *conn)
    .await?;
    read_attributes(conn, &app.db, found.iter_mut().map(|found| &mut found.person)).await?;
    Ok(found)
}
