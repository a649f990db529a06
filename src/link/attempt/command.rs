//! `musubi attempts list`: every try to sign in or link through LINE, for whoever supports members.

use super::told;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    member::{self, user_agent},
};

/// Whose attempts.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The company's id of the member, ours, or their e-mail address
    pub member: Option<String>,
    /// Of a LINE user (U…), also of one who is linked to nobody
    #[arg(long, value_name = "ID")]
    pub line_user: Option<String>,
    /// Of everybody: also those of which nobody knows whose they were
    #[arg(long)]
    pub recent: bool,
}

/// An attempt as support sees it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Row {
    pub id: String,
    /// The channel's name for one that began in its chat.
    pub provider: String,
    pub purpose: String,
    pub created_at: Millis,
    pub expires_at: Millis,
    /// LINE's answer; of one in a chat the person's yes on our page.
    pub returned_at: Option<Millis>,
    pub shown_at: Option<Millis>,
    pub outcome: Option<String>,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub returned_agent: Option<String>,
    pub member_id: Option<String>,
}

/// `$1` a name, `$2` how many. What begins in a chat has no browser before the yes.
macro_rules! rows {
    ($attempts:literal, $account_links:literal, $order:literal) => {
        concat!(
            "SELECT * FROM (
               SELECT a.id, a.provider, a.purpose, a.created_at, a.expires_at,
                 COALESCE(a.returned_at, a.used_at) AS returned_at, a.shown_at, a.outcome, a.address, a.user_agent,
                 a.returned_agent, a.member_id
               FROM attempts a ",
            $attempts,
            $order,
            " LIMIT $2) w
             UNION ALL SELECT * FROM (
               SELECT k.id, k.channel, 'account_link', k.created_at, k.expires_at, k.agreed_at,
                 CAST(NULL AS BIGINT), k.outcome, k.address, k.user_agent, CAST(NULL AS TEXT), k.member_id
               FROM account_links k ",
            $account_links,
            $order,
            " LIMIT $2) c
             ORDER BY created_at DESC, id DESC LIMIT $2"
        )
    };
}

pub const OF_MEMBER: &str =
    rows!("WHERE a.member_id = $1", "WHERE k.member_id = $1", " ORDER BY created_at DESC, id DESC");
pub const OF_LINE_USER: &str = rows!(
    "WHERE a.line_user_id IN (SELECT u.id FROM line_users u WHERE u.user_id = $1)",
    "WHERE k.line_user_id IN (SELECT u.id FROM line_users u WHERE u.user_id = $1)",
    " ORDER BY created_at DESC, id DESC"
);
/// By the ids, which are in the order of time.
pub const RECENT: &str = rows!("WHERE a.id > $1", "WHERE k.id > $1", " ORDER BY id DESC");

/// The newest of them, told in lines; none where there is no such member.
pub async fn list(app: &App, which: &Which, limit: u32) -> Result<Option<Vec<String>>> {
    let mut conn = app.db.conn().await?;
    let (statement, of) = match (&which.member, &which.line_user) {
        (Some(member), _) => match member::find_named(&mut conn, member).await? {
            Some(id) => (OF_MEMBER, id),
            None => return Ok(None),
        },
        (None, Some(user_id)) => (OF_LINE_USER, user_id.clone()),
        (None, None) => (RECENT, String::new()),
    };
    let rows = find(&mut conn, statement, &of, limit).await?;
    let mut lines = Vec::new();
    for row in &rows {
        lines.extend(describe(app, row, which.member.is_none()));
    }
    Ok(Some(lines))
}

async fn find(conn: &mut Conn, statement: &'static str, of: &str, limit: u32) -> Result<Vec<Row>> {
    Ok(sqlx::query_as(statement).bind(of).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// An attempt in some lines: when, what, how it ended; by which browsers; what happened, and what to do.
fn describe(app: &App, row: &Row, names_member: bool) -> Vec<String> {
    let step = step(row, app.now());
    let whose = match &row.member_id {
        Some(id) if names_member => format!(", member {id}"),
        _ => String::new(),
    };
    let mut lines = vec![
        format!("{}  {} ({}{whose}): {}", time(app, row.created_at), what(row), row.provider, step.word),
        format!("  {}", devices(row)),
        format!("  what happened: {}", step.happened),
    ];
    lines.extend(step.advice.map(|advice| format!("  what to do: {advice}")));
    lines
}

fn what(row: &Row) -> &'static str {
    match row.purpose.as_str() {
        "sign_in" => "sign in with LINE",
        "link" => "link",
        "ticket" => "link by a ticket",
        "liff" => "in LINE (LIFF)",
        "account_link" => "link from the chat",
        _ => "something newer than this program",
    }
}

/// How far it went.
struct Step {
    word: String,
    happened: String,
    advice: Option<&'static str>,
}

impl Step {
    fn new(word: &str, happened: &str, advice: Option<&'static str>) -> Self {
        Self { word: word.to_owned(), happened: happened.to_owned(), advice }
    }
}

fn step(row: &Row, now: Millis) -> Step {
    let Some(outcome) = row.outcome.as_deref() else { return unanswered(row, now) };
    // LINE proved somebody, and nobody asked for a link: there was no page to say yes on.
    let outcome = match outcome {
        "abandoned" if row.purpose == "liff" && row.member_id.is_none() => "proven",
        outcome => outcome,
    };
    let shown = if row.shown_at.is_some() { "" } else { "; that page was never opened" };
    let waits = matches!(outcome, "confirming" | "abandoned");
    match told::of(outcome) {
        Some(told) => {
            let word = match outcome {
                "linked" => "linked".to_owned(),
                "signed_in" => "signed in".to_owned(),
                "confirming" | "proven" | "arrived" => "not finished".to_owned(),
                "abandoned" => "left".to_owned(),
                _ => format!("refused: {outcome}"),
            };
            let happened = format!("{}{}", told.happened, if waits { shown } else { "" });
            Step { word, happened, advice: told.advice }
        }
        None => Step::new(outcome, "a newer version of this program knows", None),
    }
}

fn unanswered(row: &Row, now: Millis) -> Step {
    let (is_chat, is_over) = (row.purpose == "account_link", now >= row.expires_at);
    match (row.returned_at, is_chat, is_over) {
        (None, true, true) => {
            Step::new("left", "the button in the chat was not used", Some("write \"link\" in the chat again"))
        }
        (None, true, false) => Step::new("started", "the button is in the chat", Some("press it, within ten minutes")),
        (None, false, true) => Step::new(
            "left",
            "the person went to LINE, and LINE never came back",
            Some("start again, and say Allow at LINE; where LINE does not open, in the phone's usual browser"),
        ),
        (None, false, false) => Step::new("started", "the person is at LINE", None),
        (Some(_), true, _) => Step::new("not finished", "the person said yes; LINE's dialog has not answered", None),
        (Some(_), false, true) => {
            Step::new("broken off", "LINE came back, and its answer was not checked to the end", Some("start again"))
        }
        (Some(_), false, false) => Step::new("not finished", "LINE came back; its answer is being checked", None),
    }
}

/// Where it was started, and where LINE came back.
fn devices(row: &Row) -> String {
    let words = |agent: &Option<String>| agent.as_deref().map(user_agent::words);
    let from = row.address.as_deref().filter(|address| !address.is_empty());
    let from = from.map_or(String::new(), |address| format!(", from {address}"));
    let began = words(&row.user_agent).unwrap_or_else(|| "a browser that was not noted".to_owned());
    let unbound = row.outcome.as_deref() == Some("state_unbound");
    match words(&row.returned_agent) {
        _ if row.purpose == "account_link" && row.user_agent.is_none() => "in the chat".to_owned(),
        Some(back) if unbound && back == began => {
            format!(
                "started in {began}{from}; LINE came back in {back} too, without our cookie: a private window, another \
                 profile, or cookies that are not kept"
            )
        }
        Some(back) if unbound => format!("started in {began}{from}; LINE came back in another browser: {back}"),
        Some(back) if back != began => format!("started in {began}{from}; LINE came back in {back}"),
        Some(_) | None => format!("in {began}{from}"),
    }
}

fn time(app: &App, at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(app.zone.clone());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPHONE: &str = "Mozilla/5.0 (iPhone) Version/18.6 Safari/604.1";
    const LINE: &str = "Mozilla/5.0 (iPhone) Safari Line/15.19.0";

    fn row(outcome: Option<&str>, returned: Option<&str>) -> Row {
        Row {
            id: "a".into(),
            provider: "main".into(),
            purpose: "link".into(),
            created_at: Millis(0),
            expires_at: Millis(600_000),
            returned_at: returned.map(|_| Millis(1)),
            shown_at: None,
            outcome: outcome.map(str::to_owned),
            address: Some("192.0.2.1".into()),
            user_agent: Some(IPHONE.into()),
            returned_agent: returned.map(str::to_owned),
            member_id: None,
        }
    }

    #[test]
    fn how_far_it_went() {
        let chat = |returned: Option<&str>| Row { purpose: "account_link".into(), ..row(None, returned) };
        for (row, now, expected) in [
            (row(None, None), 1, "started"),
            (row(None, None), 600_000, "left"),
            (row(None, Some(IPHONE)), 2, "not finished"),
            (row(None, Some(IPHONE)), 600_000, "broken off"),
            (row(Some("confirming"), Some(IPHONE)), 2, "not finished"),
            (row(Some("abandoned"), Some(IPHONE)), 2, "left"),
            (row(Some("linked"), Some(IPHONE)), 2, "linked"),
            (row(Some("signed_in"), Some(IPHONE)), 2, "signed in"),
            (Row { purpose: "liff".into(), ..row(Some("abandoned"), None) }, 2, "not finished"),
            (row(Some("state_unbound"), Some(LINE)), 2, "refused: state_unbound"),
            (row(Some("of_tomorrow"), Some(LINE)), 2, "of_tomorrow"),
            (chat(None), 2, "started"),
            (chat(None), 600_000, "left"),
            (chat(Some("")), 2, "not finished"),
        ] {
            assert_eq!(step(&row, Millis(now)).word, expected, "{row:?}");
        }
    }

    #[test]
    fn where_it_began_and_where_line_came_back() {
        let from = "Safari on iPhone, from 192.0.2.1";
        assert_eq!(devices(&row(None, None)), format!("in {from}"));
        assert_eq!(devices(&row(Some("linked"), Some(IPHONE))), format!("in {from}"));
        let other = devices(&row(Some("state_unbound"), Some(LINE)));
        assert_eq!(other, format!("started in {from}; LINE came back in another browser: LINE on iPhone"));
        assert!(devices(&row(Some("state_unbound"), Some(IPHONE))).contains("without our cookie"));
    }
}
