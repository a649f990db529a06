//! Takes former menus and aliases away at LINE, last of all: who still had one would see the default.

use super::{
    Remote, Stop,
    bring::{Turn, Watch, take_call},
    plan::Step,
    store,
};
use crate::{channel::hourly, kill};

/// Carries out the steps of the end, once everybody was moved and nobody was given a menu that they delete; else gives the
/// names of these menus.
pub(super) async fn run(
    turn: &Turn<'_>,
    remote: &Remote<'_>,
    steps: &[Step],
    is_moved: bool,
    watch: Watch<'_>,
) -> Result<Vec<String>, Stop> {
    let mut kept = Vec::new();
    for step in steps {
        if let Step::Delete { rich_menu_id, name, .. } = step
            && !(is_moved && is_deserted(remote, rich_menu_id).await?)
        {
            kept.push(name.clone());
        }
    }
    if !kept.is_empty() || !is_moved {
        return Ok(kept);
    }
    for (done, step) in steps.iter().enumerate() {
        if matches!(step, Step::Unalias { .. } | Step::Delete { .. }) {
            watch(done, steps.len(), step);
            turn.keep().await?;
            carry_out(remote, step).await?;
        }
    }
    Ok(kept)
}

/// Whether nobody was given a menu.
async fn is_deserted(remote: &Remote<'_>, rich_menu_id: &str) -> Result<bool, Stop> {
    let mut conn = remote.app.db.conn().await?;
    Ok(store::count_people(&mut conn, remote.channel, rich_menu_id).await? == 0)
}

async fn carry_out(remote: &Remote<'_>, step: &Step) -> Result<(), Stop> {
    let (app, channel) = (remote.app, remote.channel);
    match step {
        Step::Unalias { alias } => {
            take_call(remote, hourly::DELETE_RICH_MENU_ALIAS, "aliases deleted").await?;
            remote.call(|line, token| async move { line.delete_rich_menu_alias(&token, alias).await }).await?;
            store::delete_alias(&mut *app.db.conn().await?, channel, alias).await?;
        }
        Step::Delete { rich_menu_id, .. } => {
            take_call(remote, hourly::DELETE_RICH_MENU, "menus deleted").await?;
            remote.call(|line, token| async move { line.delete_rich_menu(&token, rich_menu_id).await }).await?;
            kill::point("menu.deleted");
            store::delete(&mut *app.db.conn().await?, channel, rich_menu_id).await?;
        }
        Step::Create { .. } | Step::Finish { .. } | Step::Alias { .. } | Step::Default { .. } => {}
    }
    Ok(())
}
