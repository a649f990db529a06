//! The statements of a link import: each takes all of a batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::json;

use super::{Fate, Pair, check::Checked};
use crate::{
    app::App,
    audit,
    db::{Conn, Db, Rows, new_id},
    error::Result,
    line_user::storable,
    link::cleanup,
    menu_change::{self, Change},
};

/// A link to be.
pub(super) struct New<'a> {
    pub user_id: &'a str,
    pub member_id: &'a str,
    /// What LINE said, where it was asked.
    pub checked: Option<&'a Checked>,
}

/// Where the links go.
pub(super) struct Into<'a> {
    pub provider: &'a str,
    pub channels: &'a [String],
    pub import_id: &'a str,
}

/// What may become of each pair. In a transaction the members are held.
pub(super) async fn judge(conn: &mut Conn, app: &App, provider: &str, pairs: &[Pair]) -> Result<Vec<Fate>> {
    let members = list_members(conn, &app.db, pairs).await?;
    let user_ids: Vec<&str> = pairs.iter().map(|pair| pair.user_id.as_str()).collect();
    let users = list_line_users(conn, &app.db, provider, &user_ids).await?;
    let owners = list_owners(conn, &app.db, &users).await?;
    let linked = list_linked(conn, &app.db, provider, members.values()).await?;
    let fate = |pair: &Pair| {
        let Some(member_id) = members.get(&pair.external_id) else {
            return Fate::Refused("there is no member with this external_id");
        };
        match users.get(&pair.user_id).and_then(|user| owners.get(user)) {
            Some(owner) if owner == member_id => Fate::AsBefore,
            Some(_) => Fate::Refused("conflict: this LINE user is linked to another member"),
            None if linked.contains(member_id) => Fate::Refused("conflict: this member is linked to another LINE user"),
            None => Fate::Link { member_id: member_id.clone() },
        }
    };
    Ok(pairs.iter().map(fate).collect())
}

/// Makes the links, with their audit and their menus; gives LINE's ids of those that were made.
pub(super) async fn link(conn: &mut Conn, app: &App, into: &Into<'_>, list: &[New<'_>]) -> Result<BTreeSet<String>> {
    let user_ids: Vec<&str> = list.iter().map(|new| new.user_id).collect();
    let known = list_line_users(conn, &app.db, into.provider, &user_ids).await?;
    let strangers: Vec<&New<'_>> = list.iter().filter(|new| !known.contains_key(new.user_id)).collect();
    insert_line_users(conn, app, into.provider, &strangers).await?;
    let users = list_line_users(conn, &app.db, into.provider, &user_ids).await?;
    let made = insert_links(conn, app, into.provider, list, &users).await?;
    insert_friends(conn, app, list.iter().filter(|new| made.contains_key(new.user_id)), &users).await?;
    for user_id in made.keys().filter(|user_id| known.contains_key(*user_id)) {
        // They were linked before: the menu is this link's.
        cleanup::close_menus(conn, app.now(), &users[user_id]).await?;
    }
    tell(conn, app, into, list, &users, &made).await?;
    Ok(made.into_keys().collect())
}

async fn tell(
    conn: &mut Conn,
    app: &App,
    into: &Into<'_>,
    list: &[New<'_>],
    users: &BTreeMap<String, String>,
    made: &BTreeMap<String, String>,
) -> Result<()> {
    let (now, mut rows, mut changes) = (app.now(), Vec::new(), Vec::new());
    for new in list {
        let (Some(link_id), Some(line_user_id)) = (made.get(new.user_id), users.get(new.user_id)) else { continue };
        let data = json!({ "by": "import", "by_id": into.import_id, "line_user": line_user_id });
        rows.push(audit::Row {
            action: "link_imported",
            member_id: new.member_id.to_owned(),
            subject: Some(link_id.clone()),
            provider: Some(into.provider.to_owned()),
            data: data.to_string(),
        });
        let change = |channel: &String| Change {
            channel: channel.clone(),
            line_user_id: line_user_id.clone(),
            due_at: now,
            tries: 0,
        };
        changes.extend(into.channels.iter().map(change));
    }
    audit::insert_many(conn, &app.db, now, &rows).await?;
    menu_change::insert(conn, &app.db, now, &changes).await
}

/// Our ids of the members, by the company's.
async fn list_members(conn: &mut Conn, db: &Db, pairs: &[Pair]) -> Result<BTreeMap<String, String>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::locking(
            "SELECT external_id, id FROM members WHERE deleted_at IS NULL AND external_id IN (VALUES",
            1,
            ") ORDER BY id",
            "FOR NO KEY UPDATE",
        )
    });
    let mut found = BTreeMap::new();
    for (text, rows) in SELECT.pieces(db, pairs) {
        let mut select = sqlx::query_as::<_, (String, String)>(text);
        for pair in rows {
            select = select.bind(&pair.external_id);
        }
        found.extend(select.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

/// Our ids of the LINE users that are known, by LINE's.
async fn list_line_users(
    conn: &mut Conn,
    db: &Db,
    provider: &str,
    user_ids: &[&str],
) -> Result<BTreeMap<String, String>> {
    static SELECT: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("SELECT user_id, id FROM line_users WHERE (provider, user_id) IN (VALUES", 2, ")"));
    let mut found = BTreeMap::new();
    for (text, rows) in SELECT.pieces(db, user_ids) {
        let mut select = sqlx::query_as::<_, (String, String)>(text);
        for user_id in rows {
            select = select.bind(provider).bind(*user_id);
        }
        found.extend(select.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

/// The members that LINE users are linked to, by our ids.
async fn list_owners(conn: &mut Conn, db: &Db, users: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "SELECT line_user_id, member_id FROM links WHERE ended_at IS NULL AND line_user_id IN (VALUES",
            1,
            ")",
        )
    });
    let ids: Vec<&String> = users.values().collect();
    let mut found = BTreeMap::new();
    for (text, rows) in SELECT.pieces(db, &ids) {
        let mut select = sqlx::query_as::<_, (String, String)>(text);
        for id in rows {
            select = select.bind(*id);
        }
        found.extend(select.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

/// Which of these members are linked in the provider.
async fn list_linked(
    conn: &mut Conn,
    db: &Db,
    provider: &str,
    members: impl Iterator<Item = &String>,
) -> Result<BTreeSet<String>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new("SELECT member_id FROM links WHERE ended_at IS NULL AND (member_id, provider) IN (VALUES", 2, ")")
    });
    let members: Vec<&String> = members.collect();
    let mut found = BTreeSet::new();
    for (text, rows) in SELECT.pieces(db, &members) {
        let mut select = sqlx::query_scalar::<_, String>(text);
        for id in rows {
            select = select.bind(*id).bind(provider);
        }
        found.extend(select.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

/// Whoever comes in between is theirs already: the unique index decides.
async fn insert_line_users(conn: &mut Conn, app: &App, provider: &str, list: &[&New<'_>]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO line_users (id, provider, user_id, display_name, picture_url, language, profile_at, created_at)
             SELECT column1, column2, column3, column4, column5, column6, column7, column8 FROM (VALUES",
            8,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    let now = app.now();
    let list: Vec<(String, &&New<'_>)> = list.iter().map(|new| (new_id(now), new)).collect();
    for (text, rows) in INSERT.pieces(&app.db, &list) {
        let mut insert = sqlx::query(text);
        for (id, new) in rows {
            let profile = new.checked.and_then(|checked| checked.profile.as_ref());
            insert = insert.bind(id).bind(provider).bind(new.user_id);
            insert = insert.bind(profile.map(|profile| storable(&profile.display_name)).unwrap_or_default());
            insert = insert.bind(profile.and_then(|profile| profile.picture_url.as_deref()).map(storable));
            insert = insert.bind(profile.and_then(|profile| profile.language.as_deref()).map(storable));
            // Without a profile the routine reads it soon.
            insert = insert.bind(profile.map_or(0, |_| now.0)).bind(now);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Gives the ids of the links that were made, by LINE's user id.
async fn insert_links(
    conn: &mut Conn,
    app: &App,
    provider: &str,
    list: &[New<'_>],
    users: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO links (id, provider, line_user_id, member_id, created_at, unconfirmed_at, source, permission,
               consent_version, consent_locale)
             SELECT column1, column2, column3, column4, column5, column5, 'imported', 'none', '', '' FROM (VALUES",
            5,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING RETURNING line_user_id, id",
        )
    });
    let now = app.now();
    let named: Vec<(String, &String, &New<'_>)> =
        list.iter().filter_map(|new| Some((new_id(now), users.get(new.user_id)?, new))).collect();
    let mut made = BTreeMap::new();
    for (text, rows) in INSERT.pieces(&app.db, &named) {
        let mut insert = sqlx::query_as::<_, (String, String)>(text);
        for (id, line_user_id, new) in rows {
            insert = insert.bind(id).bind(provider).bind(*line_user_id).bind(new.member_id).bind(now);
        }
        made.extend(insert.fetch_all(&mut *conn).await?);
    }
    let user_id = |(_, line_user_id, new): &(String, &String, &New<'_>)| {
        made.get(*line_user_id).map(|link_id| (new.user_id.to_owned(), link_id.clone()))
    };
    Ok(named.iter().filter_map(user_id).collect())
}

/// What LINE said of friendship, where nothing is known: an event, or a sign-in, is better word.
async fn insert_friends<'a>(
    conn: &mut Conn,
    app: &App,
    list: impl Iterator<Item = &'a New<'a>>,
    users: &BTreeMap<String, String>,
) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new("INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES", 4, "ON CONFLICT DO NOTHING")
    });
    let mut facts: Vec<(&String, &String, &str)> = Vec::new();
    for new in list {
        let (Some(checked), Some(line_user_id)) = (new.checked, users.get(new.user_id)) else { continue };
        let word = |is_friend: bool| if is_friend { "yes" } else { "no" };
        facts.extend(checked.friends.iter().map(|(channel, is_friend)| (line_user_id, channel, word(*is_friend))));
    }
    for (text, rows) in INSERT.pieces(&app.db, &facts) {
        let mut insert = sqlx::query(text);
        for (line_user_id, channel, friend) in rows {
            insert = insert.bind(*line_user_id).bind(*channel).bind(*friend).bind(app.now());
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}
