//! Telling LINE what many people should see, some hundreds in a request, and recording what was told (table
//! `user_menus`).
//!
//! - The same may be told twice: whoever is killed between LINE's answer and the record tells it again.
//! - LINE takes a request for many and does it a moment later. So who changed while it was under way is looked at again
//!   after that moment, and one of each request is read back (table `menu_checks`).

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use super::{Remote, choice::Choices, fact, fact::Person, set::Applied};
use crate::{
    app::App,
    db::{Conn, Db, Millis, Rows},
    error::{self, Result},
    kill,
    line::{self, rich_menu::bulk::AT_MOST},
    line_user::Friend,
    menu_change::{self, Change},
    queue,
};

/// In which LINE has done what it took.
pub(super) const SETTLED: Duration = Duration::from_secs(8);
/// One node at a time brings a channel's people to their menus; it goes on within this.
const LEASE: Duration = Duration::from_secs(60);

/// Bringing the people of one channel to their menus, under the channel's lease.
pub(super) struct Work<'a> {
    pub remote: Remote<'a>,
    pub choices: &'a Choices,
    pub holder: &'a str,
}

/// Why the work stops for now.
#[derive(Debug)]
pub(super) enum Trouble {
    /// LINE or the database is in no state for it; after this long, or some time.
    Passing { why: String, after: Option<Duration> },
    /// LINE does not have this menu any more.
    Vanished { rich_menu_id: String, why: String },
    /// LINE refuses, and will again.
    Stuck { why: String },
    /// Another node has the lease.
    Taken,
}

/// A person to be told.
#[derive(Debug, Clone)]
pub(super) struct Move {
    line_user_id: String,
    user_id: String,
    is_friend: bool,
    /// The change that is done by it.
    mark: Option<String>,
    /// How often it was told before, in vain.
    tries: i64,
}

/// People to be told, by what.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Option<String>, Vec<Move>>);

impl Move {
    pub fn new(person: &Person) -> Self {
        let is_friend = person.facts.friend == Friend::Yes;
        Self { line_user_id: person.id.clone(), user_id: person.user_id.clone(), is_friend, mark: None, tries: 0 }
    }

    pub fn of_change(person: &Person, mark: &str, tries: i64) -> Self {
        Self { mark: Some(mark.to_owned()), tries, ..Self::new(person) }
    }
}

impl Moves {
    pub fn add(&mut self, own: Option<&Applied>, one: Move) {
        self.0.entry(own.map(|menu| menu.rich_menu_id.clone())).or_default().push(one);
    }

    /// A full request, or at the end whatever is left of one.
    fn next(&mut self, is_end: bool) -> Option<(Option<String>, Vec<Move>)> {
        let least = if is_end { 1 } else { AT_MOST };
        let (own, list) = self.0.iter_mut().find(|(_, list)| list.len() >= least)?;
        let rest = list.split_off(list.len().min(AT_MOST));
        Some((own.clone(), std::mem::replace(list, rest)))
    }
}

impl From<error::Error> for Trouble {
    fn from(error: error::Error) -> Self {
        Self::Passing { why: error.to_string(), after: None }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        error::Error::from(error).into()
    }
}

impl Trouble {
    /// What a call about no menu in particular failed by.
    pub fn of(error: &line::Error) -> Self {
        let why = error.to_string();
        match judge(error) {
            Verdict::Passing => Self::Passing { why, after: error.retry_after() },
            Verdict::Bad(_) | Verdict::Vanished | Verdict::Stuck => Self::Stuck { why },
        }
    }
}

impl Work<'_> {
    pub fn app(&self) -> &App {
        self.remote.app
    }

    pub fn channel(&self) -> &str {
        self.remote.channel
    }

    /// Keeps the lease; whoever lost it tells LINE nothing more.
    pub async fn keep_lease(&self) -> Result<(), Trouble> {
        let is_held = lease(self.app(), self.channel(), self.holder).await?;
        if is_held { Ok(()) } else { Err(Trouble::Taken) }
    }

    /// Tells LINE of all who fill a request, and at the end of the rest; gives their number.
    pub async fn tell(&self, moves: &mut Moves, is_end: bool) -> Result<usize, Trouble> {
        let mut told = 0;
        while let Some((own, people)) = moves.next(is_end) {
            told += people.len();
            self.tell_some(own.as_deref(), people).await?;
        }
        Ok(told)
    }

    /// One request, once more for each id in it that LINE takes for none.
    async fn tell_some(&self, own: Option<&str>, mut people: Vec<Move>) -> Result<(), Trouble> {
        let mut refused = Vec::new();
        while !people.is_empty() {
            self.keep_lease().await?;
            let Err(error) = self.send(own, &people).await else { break };
            let why = error.to_string();
            match (judge(&error), own) {
                (Verdict::Bad(place), _) if place < people.len() => {
                    tracing::warn!(line_user = people[place].line_user_id, why, "LINE takes no menu for this person");
                    refused.push((people.remove(place), why));
                }
                (Verdict::Passing, _) => return Err(Trouble::Passing { why, after: error.retry_after() }),
                (Verdict::Vanished, Some(own)) => return Err(Trouble::Vanished { rich_menu_id: own.to_owned(), why }),
                (Verdict::Bad(_) | Verdict::Vanished | Verdict::Stuck, _) => return Err(Trouble::Stuck { why }),
            }
        }
        kill::point("menus.told");
        self.record(own, &people, &refused).await
    }

    /// One person alone sees it at once.
    async fn send(&self, own: Option<&str>, people: &[Move]) -> Result<(), line::Error> {
        let ids: Vec<&str> = people.iter().map(|one| one.user_id.as_str()).collect();
        let ids = ids.as_slice();
        self.remote
            .call(|line, token| async move {
                match (ids, own) {
                    ([one], Some(own)) => line.link_rich_menu(&token, one, own).await,
                    ([one], None) => line.unlink_rich_menu(&token, one).await,
                    (_, Some(own)) => line.link_rich_menus(&token, ids, own).await,
                    (_, None) => line.unlink_rich_menus(&token, ids).await,
                }
            })
            .await
    }

    async fn record(&self, own: Option<&str>, people: &[Move], refused: &[(Move, String)]) -> Result<(), Trouble> {
        let (app, now) = (self.app(), self.app().now());
        let request = (people.len() > 1).then(|| app.new_id());
        let menu = own.and_then(|id| self.choices.find(id)).map(|menu| menu.name.as_str());
        let row = |one: &Move, refused: Option<&String>| Row {
            line_user_id: one.line_user_id.clone(),
            channel: self.channel().to_owned(),
            menu: menu.map(str::to_owned),
            rich_menu_id: own.map(str::to_owned),
            now,
            request: request.clone().filter(|_| refused.is_none()),
            refused: refused.cloned(),
        };
        let rows: Vec<Row> = people
            .iter()
            .map(|one| row(one, None))
            .chain(refused.iter().map(|(one, why)| row(one, Some(why))))
            .collect();
        let mut tx = app.db.begin().await?;
        upsert(&mut tx, &app.db, &rows).await?;
        if let Some(request) = &request {
            self.sample(&mut tx, now, people, request).await?;
        }
        self.look_again(&mut tx, now, own, people).await?;
        tx.commit().await?;
        kill::point("menus.recorded");
        let marks = people.iter().chain(refused.iter().map(|(one, _)| one));
        let done: Vec<(&str, &str)> =
            marks.filter_map(|one| Some((one.line_user_id.as_str(), one.mark.as_deref()?))).collect();
        forget_changes(&mut *app.db.conn().await?, &app.db, self.channel(), &done).await?;
        Ok(())
    }

    /// Has one of the request's friends read back: of others LINE tells nothing.
    async fn sample(&self, conn: &mut Conn, now: Millis, people: &[Move], request: &str) -> Result<()> {
        let start = (self.app().jitter() * people.len() as f64) as usize;
        let turned = people.iter().skip(start).chain(people.iter().take(start));
        let Some(one) = turned.into_iter().find(|one| one.is_friend) else { return Ok(()) };
        let tries = people.iter().map(|one| one.tries).max().unwrap_or(0);
        want_check(conn, now.plus(SETTLED), self.channel(), &one.line_user_id, Some(request), tries).await
    }

    /// Who changed while LINE was told is told again, after what it took now is done: the other job that told LINE of
    /// them may have come before this.
    async fn look_again(&self, conn: &mut Conn, now: Millis, own: Option<&str>, people: &[Move]) -> Result<()> {
        let ids: Vec<String> = people.iter().map(|one| one.line_user_id.clone()).collect();
        let later = fact::list(conn, self.app(), self.channel(), &ids, self.choices.asks_member).await?;
        let is_other = |person: &&Person| self.choices.own(person).map(|menu| menu.rich_menu_id.as_str()) != own;
        let again = |person: &Person| Change {
            channel: self.channel().to_owned(),
            line_user_id: person.id.clone(),
            due_at: if people.len() > 1 { now.plus(SETTLED) } else { now },
            tries: 1,
        };
        let again: Vec<Change> = later.iter().filter(is_other).map(again).collect();
        menu_change::insert(conn, &self.app().db, now, &again).await
    }
}

/// Takes or keeps the lease of a channel's people.
pub(super) async fn lease(app: &App, channel: &str, holder: &str) -> Result<bool> {
    queue::lease(app, &format!("reconcile:{channel}"), holder, LEASE).await
}

/// Gives the lease back, so that another node goes on at once.
pub(super) async fn release(app: &App, channel: &str, holder: &str) -> Result<()> {
    queue::release(app, &format!("reconcile:{channel}"), holder).await
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passing,
    /// This one of the ids is none.
    Bad(usize),
    Vanished,
    Stuck,
}

fn judge(error: &line::Error) -> Verdict {
    match error {
        error if error.is_passing() => Verdict::Passing,
        // The token was fetched anew already: the credentials are being mended.
        line::Error::Refused { status: 401, .. } | line::Error::Malformed(_) => Verdict::Passing,
        line::Error::Refused { status: 404, .. } => Verdict::Vanished,
        line::Error::Refused { status: 400, message, .. } => {
            let place = || message.split_once("userIds[")?.1.split_once(']')?.0.parse().ok();
            match place() {
                Some(place) => Verdict::Bad(place),
                None if message.contains("userId") => Verdict::Bad(0),
                None => Verdict::Vanished,
            }
        }
        _ => Verdict::Stuck,
    }
}

struct Row {
    line_user_id: String,
    channel: String,
    menu: Option<String>,
    rich_menu_id: Option<String>,
    now: Millis,
    request: Option<String>,
    refused: Option<String>,
}

async fn upsert(conn: &mut Conn, db: &Db, list: &[Row]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO user_menus
               (line_user_id, channel, menu, rich_menu_id, applied_at, checked_at, request, refused)
             SELECT DISTINCT column1, column2, column3, column4, column5, column5, column6, column7 FROM (VALUES",
            7,
            ") AS v WHERE 1 = 1 ORDER BY 1
             ON CONFLICT (line_user_id, channel) DO UPDATE SET menu = excluded.menu,
               rich_menu_id = excluded.rich_menu_id, applied_at = excluded.applied_at,
               checked_at = excluded.checked_at, request = excluded.request, refused = excluded.refused",
        )
    });
    for (text, rows) in INSERT.pieces(db, list) {
        let mut insert = sqlx::query(text);
        for row in rows {
            insert = insert.bind(&row.line_user_id).bind(&row.channel).bind(&row.menu).bind(&row.rich_menu_id);
            insert = insert.bind(row.now).bind(&row.request).bind(&row.refused);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets what people were told, of whom LINE tells nothing: when they come back they are told anew.
pub(super) async fn forget(conn: &mut Conn, db: &Db, channel: &str, people: &[String]) -> Result<()> {
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM user_menus WHERE (line_user_id, channel) IN (VALUES", 2, ")"));
    for (text, rows) in DELETE.pieces(db, people) {
        let mut delete = sqlx::query(text);
        for line_user_id in rows {
            delete = delete.bind(line_user_id).bind(channel);
        }
        delete.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Takes changes away that were looked at, as (LINE user, mark): not those that came since.
pub(super) async fn forget_changes(conn: &mut Conn, db: &Db, channel: &str, list: &[(&str, &str)]) -> Result<()> {
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM menu_changes WHERE (line_user_id, mark, channel) IN (VALUES", 3, ")"));
    for (text, rows) in DELETE.pieces(db, list) {
        let mut delete = sqlx::query(text);
        for (line_user_id, mark) in rows {
            delete = delete.bind(*line_user_id).bind(*mark).bind(channel);
        }
        delete.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Has a person's menu read back at LINE.
pub(super) async fn want_check(
    conn: &mut Conn,
    due_at: Millis,
    channel: &str,
    line_user_id: &str,
    request: Option<&str>,
    tries: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO menu_checks (channel, line_user_id, request, tries, due_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (channel, line_user_id) DO UPDATE SET
           request = excluded.request, tries = excluded.tries, due_at = excluded.due_at",
    )
    .bind(channel)
    .bind(line_user_id)
    .bind(request)
    .bind(tries)
    .bind(due_at)
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refusals_mean() {
        let refused = |status: u16, message: &str| line::Error::Refused {
            status,
            message: message.into(),
            request_id: String::new(),
            retry_after: None,
        };
        let bad = "The property, 'userIds[37]', in the request body is invalid (line: -, column: -)";
        for (error, verdict) in [
            (refused(429, "The API rate limit has been exceeded"), Verdict::Passing),
            (refused(503, ""), Verdict::Passing),
            (refused(401, ""), Verdict::Passing),
            (line::Error::Lost("cut".into()), Verdict::Passing),
            (refused(400, bad), Verdict::Bad(37)),
            (refused(400, "The value for the 'userId' parameter is invalid"), Verdict::Bad(0)),
            (refused(400, "must upload richmenu image before applying it to user"), Verdict::Vanished),
            (refused(404, "richmenu not found"), Verdict::Vanished),
            (refused(403, ""), Verdict::Stuck),
        ] {
            assert_eq!(judge(&error), verdict, "{error}");
        }
    }

    #[test]
    fn requests_are_filled_up() {
        let one = |id: usize| Move {
            line_user_id: id.to_string(),
            user_id: String::new(),
            is_friend: true,
            mark: None,
            tries: 0,
        };
        let mut moves = Moves::default();
        moves.0.insert(None, (0..1200).map(one).collect());
        moves.0.insert(Some("a".into()), (0..3).map(one).collect());
        let mut lengths = |is_end| {
            let mut lengths = Vec::new();
            while let Some((own, list)) = moves.next(is_end) {
                lengths.push((own.is_some(), list.len()));
            }
            lengths
        };
        assert_eq!(lengths(false), [(false, 500), (false, 500)]);
        assert_eq!(lengths(true), [(false, 200), (true, 3)]);
    }
}
