//! Brings menus to a channel: makes them at LINE, moves aliases and default, stores the set, moves the people, and takes
//! the former ones away last. Until then the former ones work on, wherever it ends; the next time goes on from there.

use std::time::Duration;

use super::{
    Menu, Remote, Stop,
    at_line::AtLine,
    choice::Choices,
    plan::{self, Known, Plan, Step},
    retire,
    set::{self, Set},
    store, sweep,
};
use crate::{
    app::App,
    channel::hourly::{self, Hourly, Spend},
    db::Conn,
    error::Result,
    kill,
    line::Error,
    queue::{self, Outcome},
};

/// Longer than any one step.
const LEASE: Duration = Duration::from_secs(60);
/// In which LINE allows some 25 menus more.
const SOME_CALLS: Duration = Duration::from_secs(900);

/// The right to change a channel's menus, which one process has at a time.
pub(super) struct Turn<'a> {
    app: &'a App,
    channel: &'a str,
    holder: String,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Brought {
    /// The version of the set that is new.
    pub version: Option<i64>,
    /// Whether everybody has the menu that the set says.
    pub is_moved: bool,
    /// Former menus that somebody still has.
    pub kept: Vec<String>,
}

/// Hears of each step: how many are done, of how many, and which is next.
pub(super) type Watch<'a> = &'a mut (dyn FnMut(usize, usize, &Step) + Send);

impl<'a> Turn<'a> {
    /// None where another process has it.
    pub async fn take(app: &'a App, channel: &'a str) -> Result<Option<Self>> {
        let turn = Self { app, channel, holder: app.new_id() };
        Ok(turn.renew().await?.then_some(turn))
    }

    async fn renew(&self) -> Result<bool> {
        queue::lease(self.app, &self.lease(), &self.holder, LEASE).await
    }

    /// Goes on only as long as no other process took the turn for that of a dead one.
    pub async fn keep(&self) -> Result<(), Stop> {
        if self.renew().await? {
            return Ok(());
        }
        Err(Stop(Outcome::Retry { why: "another process took over the channel's menus".to_owned(), after: None }))
    }

    pub async fn end(self) -> Result<()> {
        queue::release(self.app, &self.lease(), &self.holder).await
    }

    fn lease(&self) -> String {
        format!("menus:{}", self.channel)
    }
}

/// What is known here of a channel's menus.
pub(super) async fn known(conn: &mut Conn, channel: &str) -> Result<Known> {
    Ok(Known {
        set: set::current(conn, channel).await?,
        made: store::list_made(conn, channel).await?,
        aliases: store::list_aliases(conn, channel).await?,
    })
}

/// What is to be done for `menus`, by what LINE has at this moment.
pub(super) async fn look(remote: &Remote<'_>, menus: &[Menu]) -> Result<(Plan, Known), Stop> {
    let at_line = AtLine::read(remote).await?;
    let known = known(&mut *remote.app.db.conn().await?, remote.channel).await?;
    let default = strangers(remote.app, menus)?;
    Ok((plan::plan(menus, default, &known, &at_line), known))
}

/// The place of the menu that somebody sees of whom nothing is known.
fn strangers(app: &App, menus: &[Menu]) -> Result<Option<usize>, Stop> {
    let set = Set { version: 0, menus: menus.iter().map(|menu| menu.applied("")).collect() };
    let choices = Choices::new(app, set, app.now()).map_err(|why| Stop(Outcome::Park { why }))?;
    Ok(choices.default_place())
}

/// Carries out what [`look`] found, in its order.
pub(super) async fn bring(
    turn: &Turn<'_>,
    remote: &Remote<'_>,
    menus: &[Menu],
    (plan, known): &(Plan, Known),
    watch: Watch<'_>,
) -> Result<Brought, Stop> {
    if !plan.conflicts.is_empty() {
        return Err(Stop(Outcome::Park { why: plan.conflicts.join("; ") }));
    }
    validate(turn, remote, menus, plan).await?;
    let mut ids = plan.ids.clone();
    for (done, step) in plan.steps.iter().enumerate() {
        watch(done, plan.steps.len(), step);
        turn.keep().await?;
        carry_out(remote, menus, &mut ids, step).await?;
    }
    turn.keep().await?;
    let version = store_set(remote, menus, &ids, known).await?;
    // Moving the people is the reconciler's, which sees that the set is another one.
    let is_moved = sweep::is_over(&mut *turn.app.db.conn().await?, turn.app.now(), turn.channel).await?;
    turn.app.wake();
    let kept = retire::run(turn, remote, &plan.steps, is_moved, watch).await?;
    Ok(Brought { version, is_moved, kept })
}

/// Asks LINE what it thinks of all new menus, before anything is made.
async fn validate(turn: &Turn<'_>, remote: &Remote<'_>, menus: &[Menu], plan: &Plan) -> Result<(), Stop> {
    let mut mistakes = Vec::new();
    for step in &plan.steps {
        let Step::Create { place, label, .. } = step else { continue };
        let Some(menu) = menus.get(*place) else { continue };
        turn.keep().await?;
        let validate =
            |line, token| async move { crate::line::Line::validate_rich_menu(line, &token, &menu.object).await };
        let found = remote.call(validate).await?;
        mistakes.extend(found.iter().map(|one| format!("{label}: {} {}", one.property, one.message)));
    }
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(Stop(Outcome::Park {
        why: format!("LINE would not take the menus, and nothing was changed: {}", mistakes.join("; ")),
    }))
}

/// One step; those of the end are left to [`retire`].
async fn carry_out(remote: &Remote<'_>, menus: &[Menu], ids: &mut [Option<String>], step: &Step) -> Result<(), Stop> {
    let id_at = |ids: &[Option<String>], place: usize| ids.get(place).cloned().flatten().unwrap_or_default();
    match step {
        Step::Create { place, .. } => {
            let (Some(menu), Some(id)) = (menus.get(*place), ids.get_mut(*place)) else { return Ok(()) };
            *id = Some(create(remote, menu).await?);
        }
        Step::Finish { place, rich_menu_id, .. } => {
            let Some(menu) = menus.get(*place) else { return Ok(()) };
            finish(remote, menu, rich_menu_id).await?;
        }
        Step::Alias { alias, place, is_new, .. } => {
            store::insert_alias(&mut *remote.app.db.conn().await?, remote.channel, alias).await?;
            lead_alias(remote, alias, &id_at(ids, *place), *is_new).await?;
            kill::point("menu.aliased");
        }
        Step::Default { menu: Some((place, _)), .. } => {
            let id = &*id_at(ids, *place);
            remote.call(|line, token| async move { line.set_default_rich_menu(&token, id).await }).await?;
            kill::point("menu.default");
        }
        Step::Default { menu: None, .. } => {
            remote.call(|line, token| async move { line.clear_default_rich_menu(&token).await }).await?;
        }
        Step::Unalias { .. } | Step::Delete { .. } => {}
    }
    Ok(())
}

async fn create(remote: &Remote<'_>, menu: &Menu) -> Result<String, Stop> {
    take_call(remote, hourly::CREATE_RICH_MENU, "made").await?;
    let created = remote.call(|line, token| async move { line.create_rich_menu(&token, &menu.object).await });
    let rich_menu_id = created.await?;
    kill::point("menu.created");
    finish(remote, menu, &rich_menu_id).await?;
    Ok(rich_menu_id)
}

/// Gives a menu its image, and records both.
async fn finish(remote: &Remote<'_>, menu: &Menu, rich_menu_id: &str) -> Result<(), Stop> {
    let (app, channel) = (remote.app, remote.channel);
    store::insert(&mut *app.db.conn().await?, app.now(), channel, menu, rich_menu_id).await?;
    upload(remote, menu, rich_menu_id).await?;
    kill::point("menu.uploaded");
    store::set_image(&mut *app.db.conn().await?, app.now(), channel, rich_menu_id).await?;
    Ok(())
}

async fn upload(remote: &Remote<'_>, menu: &Menu, rich_menu_id: &str) -> Result<(), Stop> {
    let uploaded = remote
        .call(|line, token| async move {
            let image = menu.image.to_vec();
            line.upload_rich_menu_image(&token, rich_menu_id, &menu.content_type, image).await
        })
        .await;
    match uploaded {
        Ok(()) => Ok(()),
        // An upload before this one succeeded and was not recorded.
        Err(Error::Refused { status: 400, message, .. }) if message.contains("already") => Ok(()),
        Err(error @ Error::Refused { status: 404, .. }) => Err(Stop(Outcome::retry(&error))),
        Err(error) => Err(error.into()),
    }
}

/// LINE's lists may be behind: an alias that is there after all is moved, one that is not is made.
async fn lead_alias(remote: &Remote<'_>, alias: &str, id: &str, is_new: bool) -> Result<(), Stop> {
    let create = || remote.call(|line, token| async move { line.create_rich_menu_alias(&token, alias, id).await });
    let lead = || remote.call(|line, token| async move { line.move_rich_menu_alias(&token, alias, id).await });
    let done = if is_new { create().await } else { lead().await };
    match done {
        Err(Error::Refused { status: 400, message, .. }) if is_new && message.contains("conflict") => lead().await?,
        Err(Error::Refused { status: 404, .. }) if !is_new => create().await?,
        other => other?,
    }
    Ok(())
}

/// One of the calls that LINE lets a channel make in an hour. Where none is left a job waits for more than one, so that it
/// gets on before its tries are over.
pub(super) async fn take_call(remote: &Remote<'_>, hourly: Hourly, done: &str) -> Result<(), Stop> {
    let app = remote.app;
    match hourly::take(app, remote.channel, hourly).await? {
        Spend::Taken => Ok(()),
        Spend::Wait(until) => {
            let wait = u64::try_from(until.0.saturating_sub(app.now().0)).unwrap_or(0);
            let at = jiff::Timestamp::from_millisecond(until.0).unwrap_or_default().to_zoned(app.zone.clone());
            let why = format!(
                "as many were {done} within an hour as LINE allows ({}); the next may be at {}",
                hourly.calls(),
                at.strftime("%H:%M:%S")
            );
            Err(Stop(Outcome::Retry { why, after: Some(Duration::from_millis(wait).max(SOME_CALLS)) }))
        }
    }
}

/// Puts the menus in the place of the channel's set, where they differ; gives the new version.
async fn store_set(
    remote: &Remote<'_>,
    menus: &[Menu],
    ids: &[Option<String>],
    known: &Known,
) -> Result<Option<i64>, Stop> {
    let (app, channel) = (remote.app, remote.channel);
    let applied: Vec<_> =
        menus.iter().zip(ids).map(|(menu, id)| menu.applied(id.as_deref().unwrap_or_default())).collect();
    if known.set.as_ref().is_some_and(|set| set.menus == applied) {
        return Ok(None);
    }
    let mut tx = app.db.begin().await?;
    let version = set::replace(&mut tx, app.now(), channel, &applied).await?;
    tx.commit().await?;
    kill::point("menu.stored");
    tracing::info!(channel, version, menus = applied.len(), "rich menus are applied");
    Ok(Some(version))
}
