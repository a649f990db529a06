//! Making and changing members, many at a time: each statement takes all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::json;
use sqlx::Connection;

use super::{By, Change, Email, Kept, Refusal, Wanted};
use crate::{
    app::App,
    audit,
    db::{Conn, Db, Rows, new_id},
    error::{Error, Result},
    mail::{self, Mail},
    member::{
        attribute::{self, Attribute},
        tag, token,
    },
    menu_change,
};

/// A member as they are, held until the transaction ends.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Known {
    id: String,
    external_id: String,
    email: String,
    email_key: String,
    name: String,
    locale: Option<String>,
    time_zone: Option<String>,
    quiet_hours: Option<String>,
}

/// Makes or changes members, each with its audit row; gives what became of each, in their order. No two of `list` have
/// the same id or the same address. The caller commits, also where some were refused: of those nothing was changed.
pub async fn upsert(conn: &mut Conn, app: &App, list: &[Wanted], by: By<'_>) -> Result<Vec<Result<Kept, Refusal>>> {
    let ids: Vec<&str> = list.iter().map(|wanted| wanted.external_id.as_str()).collect();
    let mut known = list_known(conn, &app.db, &ids).await?;
    let fresh: Vec<&Wanted> = list.iter().filter(|wanted| !known.contains_key(&wanted.external_id)).collect();
    let mut made = insert(conn, app, &fresh).await?;
    // Not made: the address is somebody's, or another one made the same member just now.
    let lost: Vec<&str> =
        fresh.iter().map(|wanted| wanted.external_id.as_str()).filter(|id| !made.contains_key(*id)).collect();
    if !lost.is_empty() {
        known.extend(list_known(conn, &app.db, &lost).await?);
    }
    let mut round = Round { changes: Changes::default(), kept: Vec::new() };
    let members: Vec<String> = known.values().map(|known| known.id.clone()).collect();
    let has = Has {
        attributes: attribute::list(conn, &app.db, &members).await?,
        tags: tag::list(conn, &app.db, &members).await?,
    };
    for wanted in list {
        let kept = match (made.remove(&wanted.external_id), known.get(&wanted.external_id)) {
            (Some(id), _) => round.fill(id, wanted),
            (None, Some(known)) => round.change(conn, app, known, wanted, &has).await?,
            (None, None) => Err(Refusal::EmailTaken),
        };
        round.kept.push(kept);
    }
    round.changes.write(conn, app, by).await?;
    Ok(round.kept)
}

/// What is known already of some members.
struct Has {
    attributes: BTreeMap<String, BTreeMap<String, Attribute>>,
    tags: BTreeMap<String, Vec<String>>,
}

struct Round {
    changes: Changes,
    kept: Vec<Result<Kept, Refusal>>,
}

/// What is to be written of all.
#[derive(Default)]
struct Changes {
    profiles: Vec<Known>,
    attributes: attribute::Changes,
    tags: tag::Changes,
    told: Vec<(&'static str, String, Vec<&'static str>)>,
}

impl Round {
    /// A member who was just made gets the rest.
    fn fill(&mut self, id: String, wanted: &Wanted) -> Result<Kept, Refusal> {
        for (name, value) in &wanted.attributes {
            if let Some(value) = value {
                self.changes.attributes.new.push((id.clone(), name.clone(), value.clone()));
            }
        }
        self.changes.tags.new.extend(wanted.tags.iter().flatten().map(|tag| (id.clone(), tag.clone())));
        self.changes.told.push(("member_created", id.clone(), Vec::new()));
        Ok(Kept { member_id: id, change: Change::Created })
    }

    /// What differs from what is known.
    async fn change(
        &mut self,
        conn: &mut Conn,
        app: &App,
        known: &Known,
        wanted: &Wanted,
        has: &Has,
    ) -> Result<Result<Kept, Refusal>> {
        let empty = BTreeMap::new();
        let attributes = has.attributes.get(&known.id).unwrap_or(&empty);
        if count_after(attributes, wanted) > attribute::AT_MOST {
            return Ok(Err(Refusal::TooManyAttributes));
        }
        let mut fields = Vec::new();
        if let Some(email) = &wanted.email
            && email.as_ref().map_or("", |email| email.text.as_str()) != known.email
        {
            if !set_email(conn, app, known, email.as_ref()).await? {
                return Ok(Err(Refusal::EmailTaken));
            }
            fields.push("email");
        }
        self.change_profile(known, wanted, &mut fields);
        self.change_attributes(&known.id, attributes, wanted, &mut fields);
        self.change_tags(&known.id, has.tags.get(&known.id).map_or(&[], Vec::as_slice), wanted, &mut fields);
        let change = if fields.is_empty() { Change::None } else { Change::Updated };
        if change == Change::Updated {
            self.changes.told.push(("member_updated", known.id.clone(), fields));
        }
        Ok(Ok(Kept { member_id: known.id.clone(), change }))
    }

    fn change_profile(&mut self, known: &Known, wanted: &Wanted, fields: &mut Vec<&'static str>) {
        let name = wanted.name.clone().unwrap_or_else(|| known.name.clone());
        let locale = wanted.language.clone().unwrap_or_else(|| known.locale.clone());
        let time_zone = wanted.time_zone.clone().unwrap_or_else(|| known.time_zone.clone());
        let quiet_hours = wanted.quiet_hours.clone().unwrap_or_else(|| known.quiet_hours.clone());
        let before = fields.len();
        fields.extend((name != known.name).then_some("name"));
        fields.extend((locale != known.locale).then_some("language"));
        fields.extend((time_zone != known.time_zone).then_some("time_zone"));
        fields.extend((quiet_hours != known.quiet_hours).then_some("quiet_hours"));
        if fields.len() > before {
            self.changes.profiles.push(Known { name, locale, time_zone, quiet_hours, ..known.clone() });
        }
    }

    fn change_attributes(
        &mut self,
        id: &str,
        has: &BTreeMap<String, Attribute>,
        wanted: &Wanted,
        fields: &mut Vec<&'static str>,
    ) {
        let mut is_new = false;
        for (name, value) in &wanted.attributes {
            let changes = &mut self.changes.attributes;
            match (has.get(name), value) {
                (None, Some(value)) => changes.new.push((id.to_owned(), name.clone(), value.clone())),
                (Some(had), Some(value)) if had != value => {
                    changes.other.push((id.to_owned(), name.clone(), value.clone()));
                }
                (Some(_), None) => changes.gone.push((id.to_owned(), name.clone())),
                (None, None) | (Some(_), Some(_)) => continue,
            }
            is_new = true;
        }
        fields.extend(is_new.then_some("attributes"));
    }

    fn change_tags(&mut self, id: &str, has: &[String], wanted: &Wanted, fields: &mut Vec<&'static str>) {
        let Some(tags) = &wanted.tags else { return };
        let (has, tags): (BTreeSet<_>, BTreeSet<_>) = (has.iter().collect(), tags.iter().collect());
        let pair = |tag: &&String| (id.to_owned(), (*tag).clone());
        self.changes.tags.new.extend(tags.difference(&has).map(pair));
        self.changes.tags.gone.extend(has.difference(&tags).map(pair));
        fields.extend((has != tags).then_some("tags"));
    }
}

/// How many attributes a member has afterwards.
fn count_after(has: &BTreeMap<String, Attribute>, wanted: &Wanted) -> usize {
    let others = has.keys().filter(|name| !wanted.attributes.contains_key(*name)).count();
    others + wanted.attributes.values().flatten().count()
}

impl Changes {
    async fn write(&self, conn: &mut Conn, app: &App, by: By<'_>) -> Result<()> {
        update(conn, &app.db, &self.profiles).await?;
        attribute::write(conn, &app.db, &self.attributes).await?;
        tag::write(conn, &app.db, &self.tags).await?;
        let entry = |(action, member_id, fields): &(&'static str, String, Vec<&'static str>)| {
            let data = json!({ "by": by.what, "by_id": by.id, "fields": fields });
            audit::Row { action, member_id: member_id.clone(), subject: None, provider: None, data: data.to_string() }
        };
        let told: Vec<audit::Row> = self.told.iter().map(entry).collect();
        audit::insert_many(conn, &app.db, app.now(), &told).await?;
        // Who was just made is linked to nobody.
        let is_seen = |fields: &[&str]| fields.iter().any(|field| ["language", "attributes", "tags"].contains(field));
        let seen = self.told.iter().filter(|(_, _, fields)| is_seen(fields)).map(|(_, id, _)| id.clone());
        menu_change::of_members(conn, app, &seen.collect::<Vec<_>>()).await
    }
}

/// The members of some of the company's ids, held; not those who are deleted.
async fn list_known(conn: &mut Conn, db: &Db, ids: &[&str]) -> Result<BTreeMap<String, Known>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        // One after the other by their ids, so that two who hold many never wait for each other.
        Rows::locking(
            "SELECT id, external_id, email, email_key, name, locale, time_zone, quiet_hours FROM members
             WHERE deleted_at IS NULL AND external_id IN (VALUES",
            1,
            ") ORDER BY id",
            "FOR NO KEY UPDATE",
        )
    });
    let mut known = BTreeMap::new();
    for (text, rows) in SELECT.pieces(db, ids) {
        let mut select = sqlx::query_as::<_, Known>(text);
        for id in rows {
            select = select.bind(*id);
        }
        known.extend(select.fetch_all(&mut *conn).await?.into_iter().map(|known| (known.external_id.clone(), known)));
    }
    Ok(known)
}

/// Makes members; gives the ids of those that were made, by the company's. The unique indexes decide, also between two
/// at one moment.
async fn insert(conn: &mut Conn, app: &App, list: &[&Wanted]) -> Result<BTreeMap<String, String>> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO members (id, external_id, email, email_key, name, locale, time_zone, quiet_hours, created_at,
               source)
             SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, 'company'
             FROM (VALUES",
            9,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING RETURNING external_id, id",
        )
    });
    let now = app.now();
    let named: Vec<(String, &Wanted)> = list.iter().map(|wanted| (new_id(now), *wanted)).collect();
    let mut made = BTreeMap::new();
    for (text, rows) in INSERT.pieces(&app.db, &named) {
        let mut insert = sqlx::query_as::<_, (String, String)>(text);
        for (id, wanted) in rows {
            let email = wanted.email.as_ref().and_then(Option::as_ref);
            insert = insert.bind(id).bind(&wanted.external_id).bind(email.map_or("", |email| email.text.as_str()));
            insert = insert.bind(key_of(id, email)).bind(wanted.name.as_ref().unwrap_or(&wanted.external_id));
            insert = insert.bind(wanted.language.as_ref().and_then(Option::as_ref));
            insert = insert.bind(wanted.time_zone.as_ref().and_then(Option::as_ref));
            insert = insert.bind(wanted.quiet_hours.as_ref().and_then(Option::as_ref)).bind(now);
        }
        made.extend(insert.fetch_all(&mut *conn).await?);
    }
    Ok(made)
}

fn key_of(id: &str, email: Option<&Email>) -> String {
    email.map_or_else(|| format!("id:{id}"), |email| email.key.clone())
}

async fn update(conn: &mut Conn, db: &Db, list: &[Known]) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE members SET name = v.column2, locale = v.column3, time_zone = v.column4, quiet_hours = v.column5
             FROM (VALUES",
            5,
            ") AS v WHERE members.id = v.column1",
        )
    });
    for (text, rows) in UPDATE.pieces(db, list) {
        let mut update = sqlx::query(text);
        for known in rows {
            update = update.bind(&known.id).bind(&known.name).bind(&known.locale).bind(&known.time_zone);
            update = update.bind(&known.quiet_hours);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Gives a member another address, or none; false where it is somebody's. What was mailed to the former one proves
/// nothing any more, and its reader is told.
async fn set_email(conn: &mut Conn, app: &App, known: &Known, email: Option<&Email>) -> Result<bool> {
    let (now, key) = (app.now(), key_of(&known.id, email));
    let is_other = key != known.email_key;
    // PostgreSQL ends a transaction in which a statement failed: this one may.
    let mut part = conn.begin().await?;
    let updated = sqlx::query(
        "UPDATE members SET email = $1, email_key = $2,
           email_verified_at = CASE WHEN email_key = $2 THEN email_verified_at END WHERE id = $3",
    )
    .bind(email.map_or("", |email| email.text.as_str()))
    .bind(key)
    .bind(&known.id)
    .execute(&mut *part)
    .await;
    match updated {
        Ok(_) => part.commit().await?,
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            part.rollback().await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    if is_other {
        mail::call_off(conn, now, &known.id).await?;
        token::void_of_member(conn, now, &known.id).await?;
        tell_former(conn, app, known, email).await?;
    }
    Ok(true)
}

async fn tell_former(conn: &mut Conn, app: &App, known: &Known, email: Option<&Email>) -> Result<(), Error> {
    let locale = known.locale.as_deref().unwrap_or(&app.config.default_locale);
    let to = mail::To { email: &known.email, member_id: Some(&known.id), locale };
    let new_email = email.map(|email| email.text.clone()).unwrap_or_default();
    mail::queue(conn, app, to, &Mail::EmailChanged { new_email }).await
}
