//! Makes sure that a channel's menus exist at LINE; safe to run at any time and any number of times.

use std::time::Duration;

use super::{
    Menu, Remote, Stop,
    choice::Choices,
    file,
    rule::Rule,
    set::{self, Applied, Set},
    store,
};
use crate::{
    app::App,
    channel::hourly::{self, Spend},
    line::{Error, rich_menu::Listed},
    queue::{self, Outcome},
};

const LEASE: Duration = Duration::from_secs(60);
const BUSY: Duration = Duration::from_secs(2);
/// In which LINE allows some 25 menus more.
const SOME_CALLS: Duration = Duration::from_secs(900);

/// Brings the menus of the files to a channel, and makes the strangers' menu its default.
pub async fn ensure(app: &App, channel: &str) -> Outcome {
    match ensure_leased(app, channel).await {
        Ok(()) => Outcome::Done,
        Err(Stop(outcome)) => outcome,
    }
}

/// Two at once would each make every menu.
async fn ensure_leased(app: &App, channel: &str) -> Result<(), Stop> {
    let (lease, holder) = (format!("menus:{channel}"), app.new_id());
    if !queue::lease(app, &lease, &holder, LEASE).await? {
        let why = "another node makes this channel's menus".to_owned();
        return Err(Stop(Outcome::Retry { why, after: Some(BUSY) }));
    }
    let done = ensure_all(app, channel).await;
    queue::release(app, &lease, &holder).await?;
    done
}

async fn ensure_all(app: &App, channel: &str) -> Result<(), Stop> {
    let menus = load(app).await?;
    let remote = Remote::new(app, channel).await?;
    let listed = remote.call(|line, token| async move { line.list_rich_menus(&token).await }).await?;
    let mut applied = Vec::new();
    for menu in &menus {
        let rich_menu_id = ensure_one(&remote, &listed, menu).await?;
        applied.push(Applied {
            name: menu.name.clone(),
            language: String::new(),
            hash: menu.hash.clone(),
            group: menu.name.clone(),
            alias: None,
            rule: Rule { when: Some(menu.when.clone()), ..Rule::default() },
            rich_menu_id,
        });
    }
    let set = Set { version: 0, menus: applied };
    let choices = Choices::new(app, set, app.now()).map_err(|why| Stop(Outcome::Park { why }))?;
    if let Some(menu) = choices.default() {
        let id = menu.rich_menu_id.as_str();
        remote.call(|line, token| async move { line.set_default_rich_menu(&token, id).await }).await?;
    }
    let mut tx = app.db.begin().await?;
    set::store(&mut tx, app.now(), channel, &choices.set.menus).await?;
    tx.commit().await?;
    Ok(())
}

/// Reads the files without holding up other work.
pub(super) async fn load(app: &App) -> Result<Vec<Menu>, Stop> {
    let app = app.clone();
    let loaded = tokio::task::spawn_blocking(move || file::load(&app.config)).await;
    Ok(loaded.map_err(|error| Stop(Outcome::retry(&error)))??)
}

async fn ensure_one(remote: &Remote<'_>, listed: &[Listed], menu: &Menu) -> Result<String, Stop> {
    let (app, channel) = (remote.app, remote.channel);
    let name = menu.name_at_line();
    let at_line: Vec<&str> = listed.iter().filter(|l| l.name == name).map(|l| l.rich_menu_id.as_str()).collect();
    let row = store::find(&mut *app.db.conn().await?, channel, menu).await?;
    let known = row.filter(|row| at_line.contains(&row.rich_menu_id.as_str()));
    let (rich_menu_id, has_image) = match (known, at_line.first()) {
        (Some(row), _) => (row.rich_menu_id, row.has_image),
        (None, Some(found)) => ((*found).to_owned(), false),
        (None, None) => {
            take_call(remote).await?;
            let created = remote.call(|line, token| async move { line.create_rich_menu(&token, &menu.object).await });
            (created.await?, false)
        }
    };
    if !has_image {
        store::insert(&mut *app.db.conn().await?, app.now(), channel, menu, &rich_menu_id).await?;
        upload(remote, menu, &rich_menu_id).await?;
        store::set_image(&mut *app.db.conn().await?, app.now(), channel, &rich_menu_id).await?;
    }
    Ok(rich_menu_id)
}

/// One of the menus that LINE lets a channel make in an hour; where none is left the job waits for more than one, so that
/// it gets on before its tries are over.
async fn take_call(remote: &Remote<'_>) -> Result<(), Stop> {
    match hourly::take(remote.app, remote.channel, hourly::CREATE_RICH_MENU).await? {
        Spend::Taken => Ok(()),
        Spend::Wait(until) => {
            let wait = until.0.saturating_sub(remote.app.now().0);
            let after = Duration::from_millis(u64::try_from(wait).unwrap_or(0)).max(SOME_CALLS);
            let why = "as many menus were made within an hour as LINE allows".to_owned();
            Err(Stop(Outcome::Retry { why, after: Some(after) }))
        }
    }
}

async fn upload(remote: &Remote<'_>, menu: &Menu, rich_menu_id: &str) -> Result<(), Stop> {
    let uploaded = remote
        .call(|line, token| async move {
            let image = menu.image.to_vec();
            line.upload_rich_menu_image(&token, rich_menu_id, menu.content_type, image).await
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
