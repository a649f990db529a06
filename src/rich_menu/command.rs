//! `musubi rich-menu`: the files and a channel compared, brought together, and listed.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::{
    Menu, Mistakes, Remote, Stop,
    at_line::AtLine,
    bring::{Brought, Turn, bring, known, look},
    ensure, file,
    plan::{Known, Plan, differences},
    reconcile, set, store,
    sweep::{self, Progress},
    tell,
};
use crate::{app::App, channel::hourly, error, line::rich_menu::DefaultMenu, queue::Outcome};

/// How often it is asked whether another process is done, and for how long: longer than a dead one holds its turn.
const LOOKS: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Name of the [channel.…]; may be left out where there is one only
    #[arg(long)]
    pub channel: Option<String>,
}

/// Why a command did nothing, or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    #[error("--channel: there are several ({0}); name the one that is meant")]
    Several(String),
    #[error("--channel: there is no [channel.{0}] in the configuration")]
    Unknown(String),
    #[error("{0}")]
    Stopped(String),
    #[error(transparent)]
    Failed(#[from] error::Error),
}

impl From<Stop> for Refusal {
    fn from(Stop(outcome): Stop) -> Self {
        match outcome {
            Outcome::Park { why } | Outcome::Retry { why, .. } => Self::Stopped(why),
            Outcome::Done => Self::Stopped("it ended before its time".to_owned()),
        }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A plan as lines, and whether there is anything to do.
#[derive(Debug)]
pub struct Planned {
    pub lines: Vec<String>,
    pub differs: bool,
}

/// Whether the files say what was applied to a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    NeverApplied,
    Same {
        version: i64,
    },
    /// The menus that differ.
    Differs(Vec<String>),
}

impl Options {
    fn channel(&self, app: &App) -> Result<String, Refusal> {
        let known: Vec<&String> = app.config.channel.keys().collect();
        match (&self.channel, known.as_slice()) {
            (Some(name), _) if known.contains(&name) => Ok(name.clone()),
            (Some(name), _) => Err(Refusal::Unknown(name.clone())),
            (None, [only]) => Ok((*only).clone()),
            (None, _) => Err(Refusal::Several(known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "))),
        }
    }
}

/// Compares the files with what was applied and with what LINE has; changes nothing.
pub async fn plan(app: &App, options: &Options) -> Result<Planned, Refusal> {
    let channel = options.channel(app)?;
    let menus = file::load(&app.config)?;
    let (plan, known) = look(&Remote::new(app, &channel).await?, &menus).await?;
    let mut lines: Vec<String> = plan.to_string().lines().map(str::to_owned).collect();
    let differs = !plan.is_applied() || known.set.is_none();
    lines.push(summary(app, &channel, &plan, &known).await?);
    Ok(Planned { lines, differs })
}

async fn summary(app: &App, channel: &str, plan: &Plan, known: &Known) -> Result<String, Refusal> {
    let (makes, deletes) = plan.counts();
    let mut conn = app.db.conn().await?;
    let (may_make, may_delete) = (
        hourly::left(&mut conn, app.now(), channel, hourly::CREATE_RICH_MENU).await?,
        hourly::left(&mut conn, app.now(), channel, hourly::DELETE_RICH_MENU).await?,
    );
    let applied = match &known.set {
        None => "nothing was applied yet".to_owned(),
        Some(set) => format!("applied is version {}", set.version),
    };
    Ok(format!(
        "channel {channel}: {applied}; menus to make: {makes} (LINE takes {may_make} now, {} an hour), \
         to delete in the end: {deletes} ({may_delete} now)",
        hourly::CREATE_RICH_MENU.calls()
    ))
}

/// Brings the files to the channel. Ended anywhere, the former menus work on, and the next time goes on.
pub async fn apply(app: &App, options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> Result<(), Refusal> {
    let channel = options.channel(app)?;
    let menus = file::load(&app.config)?;
    let turn = wait_for_turn(app, &channel, say).await?;
    let brought = async {
        let brought = show_and_bring(&turn, app, &channel, &menus, say).await?;
        match brought.version {
            Some(version) => say(&format!("applied as version {version}")),
            None => say("everything is as the files say"),
        }
        if brought.is_moved || !move_people(&turn, app, &channel, say).await? {
            return Ok(brought);
        }
        // What the former menus were kept for is done.
        let remote = Remote::new(app, &channel).await?;
        let found = look(&remote, &menus).await?;
        Ok(bring(&turn, &remote, &menus, &found, &mut |_, _, _| {}).await?)
    };
    let brought: Result<Brought, Refusal> = brought.await;
    turn.end().await?;
    let Brought { kept, .. } = brought?;
    if !kept.is_empty() {
        say(&format!("deleted at LINE once nobody has them any more: {}", kept.join(", ")));
    }
    Ok(())
}

async fn show_and_bring(
    turn: &Turn<'_>,
    app: &App,
    channel: &str,
    menus: &[Menu],
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Brought, Refusal> {
    let remote = Remote::new(app, channel).await?;
    let found = look(&remote, menus).await?;
    let (plan, known) = &found;
    plan.to_string().lines().for_each(&mut *say);
    say(&summary(app, channel, plan, known).await?);
    let bar = bar(u64::try_from(plan.steps.len()).unwrap_or(0));
    let brought = bring(turn, &remote, menus, &found, &mut |done, of, step| {
        bar.set_length(u64::try_from(of).unwrap_or(0));
        bar.set_position(u64::try_from(done).unwrap_or(0));
        bar.set_message(step.to_string());
    })
    .await;
    bar.finish_and_clear();
    Ok(brought?)
}

/// Brings the people to the menus, beside a server that may do the same; false where they wait for LINE for long.
async fn move_people(
    turn: &Turn<'_>,
    app: &App,
    channel: &str,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<bool, Refusal> {
    let (holder, bar, mut moved_at) = (app.new_id(), bar(0), Instant::now());
    sweep::end_rest(&mut *app.db.conn().await?, channel).await?;
    let is_moved = loop {
        turn.keep().await?;
        let done = reconcile::run(app, channel, &holder).await?;
        let (progress, is_over) = watch_people(app, channel, &bar).await?;
        if is_over {
            let moved = progress.map_or(0, |progress| progress.moved);
            (moved > 0).then(|| say(&format!("people who were moved to another menu: {moved}")));
            break true;
        }
        if done > 0 {
            moved_at = Instant::now();
            continue;
        }
        let rest = progress.filter(|progress| progress.note.is_some());
        let is_long = rest.as_ref().is_some_and(|rest| rest.rests_till > app.now().plus(PATIENCE));
        if is_long || moved_at.elapsed() >= PATIENCE {
            let why = rest.and_then(|rest| rest.note).unwrap_or_else(|| "another process is at it".to_owned());
            say(&format!(
                "people are not all moved yet ({why}); a running `musubi serve` goes on, and so does the next apply"
            ));
            break false;
        }
        sleep(LOOKS).await;
    };
    bar.finish_and_clear();
    tell::release(app, channel, &holder).await?;
    Ok(is_moved)
}

/// How far the people are, also drawn; and whether all have their menus.
async fn watch_people(app: &App, channel: &str, bar: &ProgressBar) -> Result<(Option<Progress>, bool), Refusal> {
    let provider = app.config.channel.get(channel).map_or("", |channel| channel.provider.as_str());
    let mut conn = app.db.conn().await?;
    let progress = sweep::progress(&mut conn, channel, provider).await?;
    if let Some(progress) = &progress {
        bar.set_length(u64::try_from(progress.people).unwrap_or(0));
        bar.set_position(u64::try_from(progress.seen).unwrap_or(0));
        bar.set_message(format!("people looked at, {} moved", progress.moved));
    }
    let is_over = sweep::is_over(&mut conn, app.now(), channel).await?;
    Ok((progress, is_over))
}

/// Another process may be at it; a dead one holds its turn for a minute.
async fn wait_for_turn<'a>(
    app: &'a App,
    channel: &'a str,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Turn<'a>, Refusal> {
    let since = Instant::now();
    let mut is_told = false;
    loop {
        if let Some(turn) = Turn::take(app, channel).await? {
            return Ok(turn);
        }
        if !std::mem::replace(&mut is_told, true) {
            say("another process works at this channel's menus; waiting for it");
        }
        if since.elapsed() >= PATIENCE {
            let why = "another process still works at this channel's menus; nothing was changed, try again later";
            return Err(Refusal::Stopped(why.to_owned()));
        }
        sleep(LOOKS).await;
    }
}

/// What the channel has at LINE, a line for each menu: id, name, what it is here, aliases, and how many were given it.
pub async fn list(app: &App, options: &Options) -> Result<Vec<String>, Refusal> {
    let channel = options.channel(app)?;
    let at_line = AtLine::read(&Remote::new(app, &channel).await?).await?;
    let mut conn = app.db.conn().await?;
    let known = known(&mut conn, &channel).await?;
    let mut lines = Vec::new();
    for menu in &at_line.menus {
        let id = &menu.rich_menu_id;
        let applied = known.set.iter().flat_map(|set| &set.menus).find(|applied| applied.rich_menu_id == *id);
        let what = match (applied, file::name_of_ours(&menu.name)) {
            (Some(applied), _) => file::label(&applied.name, &applied.language),
            (None, Some(name)) => format!("{name}, as it was"),
            (None, None) => format!("{:?}, not Musubi's", menu.name),
        };
        let mut line = format!("{id}  {what}");
        let aliases = at_line.aliases.iter().filter(|alias| alias.rich_menu_id == *id);
        aliases.for_each(|alias| line.push_str(&format!("  alias {}", alias.rich_menu_alias_id)));
        if at_line.default == DefaultMenu::Menu(id.clone()) {
            line.push_str("  default");
        }
        let people = store::count_people(&mut conn, &channel, id).await?;
        if people > 0 {
            line.push_str(&format!("  people {people}"));
        }
        lines.push(line);
    }
    lines.push(match &known.set {
        Some(set) => format!("channel {channel}: version {} is applied, of {} menus", set.version, set.menus.len()),
        None => format!("channel {channel}: nothing was applied yet"),
    });
    Ok(lines)
}

/// Compares the files with what was applied, without asking LINE.
pub async fn compare(app: &App, channel: &str) -> Result<Compared, Refusal> {
    let menus = ensure::load(app).await?;
    let Some(set) = set::current(&mut *app.db.conn().await?, channel).await? else {
        return Ok(Compared::NeverApplied);
    };
    let differing = differences(&set, &menus);
    Ok(if differing.is_empty() { Compared::Same { version: set.version } } else { Compared::Differs(differing) })
}

/// Drawn on a terminal only.
fn bar(most: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}");
    let bar = ProgressBar::new(most);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style.progress_chars("=> ")))
}
