//! `musubi send`: an order from the command line, and what becomes of it. The worker of a running `serve` carries it
//! out; here it is only watched.

mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime};
use serde_json::Value;

use self::watch::{deliver, look, queue};
use super::{
    Counts,
    accept::accept,
    order::{Audience, Lane, Order, Refusal, What},
    preview::{self, Preview},
    quota,
};
use crate::{app::App, db::Millis, error::Result};

/// What to send, and to whom.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true))]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Options {
    /// Name of the [channel.…] that sends it; may be left out where there is one only
    #[arg(long)]
    pub channel: Option<String>,
    /// To one member, by the company's id or ours
    #[arg(long, value_name = "ID", group = "to")]
    pub member: Option<String>,
    /// To all members who have this tag
    #[arg(long, group = "to")]
    pub tag: Option<String>,
    /// To everybody who is linked
    #[arg(long, group = "to")]
    pub all: bool,
    /// A message template, filled for each recipient in their language
    #[arg(long, value_name = "NAME", group = "what")]
    pub template: Option<String>,
    /// A JSON file with the template's data
    #[arg(long, value_name = "FILE", conflicts_with = "messages")]
    pub data: Option<PathBuf>,
    /// A JSON file with one LINE message object, or a list of up to five, the same for all
    #[arg(long, value_name = "FILE", group = "what")]
    pub messages: Option<PathBuf>,
    /// What it is about; members who opted out of it are left out
    #[arg(long)]
    pub topic: Option<String>,
    /// Not before this time: 2026-12-24T18:00 in the company's time zone, or with an offset such as +09:00
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Takes the place of what still waits for the same recipients under the same key
    #[arg(long, value_name = "KEY")]
    pub collapse_key: Option<String>,
    /// Makes it safe to repeat the command: under one key a message is sent once
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Transactional goes before bulk and keeps no quiet hours; one member gets the first, many the second
    #[arg(long, value_enum)]
    pub lane: Option<Lane>,
    /// Accepts it even where it is more than may be sent this month: the rest waits for a larger plan or the next month
    #[arg(long)]
    pub beyond_quota: bool,
    /// Counts the recipients, shows an example and how the month's quota stands; stores and sends nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Waits until everything is sent, or will not be
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
}

/// Why an order could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("--channel: there are several ({0}); name the one that sends it")]
    Channel(String),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0} is not JSON: {1}")]
    Json(PathBuf, serde_json::Error),
    #[error("--at {0:?} is no time; write 2026-12-24T18:00, or 2026-12-24T18:00+09:00")]
    Time(String),
}

/// How patiently a message is watched.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Between two looks.
    pub every: Duration,
    /// After so long without any progress nobody seems to work.
    pub patience: Duration,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All recipients are queued.
    Queued,
    /// All are sent.
    Sent,
    /// None waits any more, but not all were sent.
    Unsent,
    /// It is stored, but nobody works on it.
    Idle,
}

impl Default for Watch {
    fn default() -> Self {
        Self { every: Duration::from_millis(200), patience: Duration::from_secs(15) }
    }
}

impl End {
    /// The command's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Queued | Self::Sent => 0,
            Self::Idle => 3,
            Self::Unsent => 4,
        }
    }
}

impl Options {
    /// The order that the options and their files make.
    pub fn order(&self, app: &App) -> Result<Order, Unreadable> {
        let data = || self.data.as_deref().map_or(Ok(Value::Object(serde_json::Map::new())), read);
        let what = match (&self.template, &self.messages) {
            (Some(name), _) => What::Template { name: name.clone(), data: data()? },
            (None, Some(path)) => match read(path)? {
                Value::Array(list) => What::Messages(list),
                one => What::Messages(vec![one]),
            },
            (None, None) => What::Messages(Vec::new()),
        };
        let to = match (&self.member, &self.tag) {
            (Some(id), _) => Audience::Member(id.clone()),
            (None, Some(tag)) => Audience::Tag(tag.clone()),
            (None, None) => Audience::All,
        };
        Ok(Order {
            channel: self.channel(app)?,
            to,
            what,
            topic: self.topic.clone(),
            send_at: self.at.as_deref().map(|text| time(app, text)).transpose()?,
            collapse_key: self.collapse_key.clone(),
            idempotency_key: self.idempotency_key.clone(),
            lane: self.lane,
            beyond_quota: self.beyond_quota,
            cause: "command",
        })
    }

    fn channel(&self, app: &App) -> Result<String, Unreadable> {
        let mut known = app.config.channel.keys();
        match (&self.channel, known.next(), known.next()) {
            (Some(named), ..) => Ok(named.clone()),
            (None, Some(only), None) => Ok(only.clone()),
            (None, ..) => {
                let known = app.config.channel.keys().map(String::as_str).collect::<Vec<_>>();
                Err(Unreadable::Channel(known.join(", ")))
            }
        }
    }
}

fn read(path: &Path) -> Result<Value, Unreadable> {
    let text = fs::read_to_string(path).map_err(|error| Unreadable::File(path.to_owned(), error))?;
    serde_json::from_str(&text).map_err(|error| Unreadable::Json(path.to_owned(), error))
}

fn time(app: &App, text: &str) -> Result<Millis, Unreadable> {
    let local = || DateTime::from_str(text).ok()?.to_zoned(app.zone.clone()).ok().map(|time| time.timestamp());
    let time = Timestamp::from_str(text).ok().or_else(local);
    time.map(|time| Millis(time.as_millisecond())).ok_or_else(|| Unreadable::Time(text.to_owned()))
}

/// Counts and an example, as lines for people.
pub async fn dry_run(app: &App, order: &Order) -> Result<Vec<String>, Refusal> {
    let Preview { recipients, left_out, example, outlook } = preview::preview(app, order).await?;
    let mut lines = vec![format!("recipients: {recipients} ({} lane, channel {})", order.lane().word(), order.channel)];
    lines.extend(left_out.iter().map(|(reason, count)| left_out_line(reason, *count)));
    lines.extend(outlook.iter().flat_map(|outlook| outlook.lines(order, recipients, &app.zone)));
    if let Some((name, content)) = example {
        let messages: Value = serde_json::from_str(&content)?;
        lines.push(format!("as {name} would get it:"));
        lines.push(serde_json::to_string_pretty(&messages)?);
    }
    lines.push("nothing was stored, nothing was sent".to_owned());
    Ok(lines)
}

/// Accepts an order and watches it; `say` gets the lines for people.
pub async fn send(
    app: &App,
    order: &Order,
    wait: bool,
    watch: Watch,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<End, Refusal> {
    let accepted = accept(app, order).await?;
    let id = accepted.message_id.as_str();
    let news = if accepted.is_new { "accepted" } else { "accepted before under this key; nothing new is sent" };
    say(&format!("message {id}: {news}"));
    if !queue(app, order, id, watch).await? {
        say("nobody adds its recipients: start `musubi serve` (or `serve --role worker`); it goes on from where it is");
        return Ok(End::Idle);
    }
    for (reason, count) in super::look::count_left_out(&mut *app.db.conn().await?, id).await? {
        say(&left_out_line(&reason, count));
    }
    if !matches!(order.to, Audience::Member(_)) {
        let outlook = quota::outlook(app, &order.channel).await?;
        say(&format!("quota: {}", outlook.describe(&app.zone)));
        outlook.forecast_line(0, &app.zone).iter().for_each(|line| say(line));
    }
    let end = if wait { deliver(app, id, watch, say).await? } else { End::Queued };
    let counts = look(app, id).await?;
    say(&describe(&counts));
    let why = quota::why_held(app, &order.channel, order.lane()).await?;
    if counts.waiting > 0
        && let Some(why) = why
    {
        say(&format!("what waits is held: {why}"));
    } else if end == End::Idle {
        say("nothing has been sent for a while: is `musubi serve` running? `musubi doctor` tells what LINE says");
    }
    Ok(end)
}

fn left_out_line(reason: &str, count: i64) -> String {
    let why = match reason {
        "not_linked" => "have no linked LINE account",
        "suspended" => "have a link that is suspended",
        "member_disabled" => "are disabled",
        "consent_withdrawn" => "took their permission back in LINE",
        "not_reachable" => "are no friends of the official account, or blocked it",
        "opted_out" => "opted out of the topic",
        other => other,
    };
    format!("left out: {count} {why}")
}

fn describe(counts: &Counts) -> String {
    let Counts { accepted, waiting, sending, sent, failed, unknown, cancelled } = counts;
    let states = [
        ("waiting", waiting),
        ("sending", sending),
        ("sent", sent),
        ("failed", failed),
        ("unknown", unknown),
        ("cancelled", cancelled),
    ];
    let states = states.iter().filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    if states.is_empty() { "recipients: 0".to_owned() } else { format!("recipients: {accepted}; {states}") }
}
