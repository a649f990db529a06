//! Hooks: the endpoints of the company's own that hear what happens.

pub mod face;

use axum::{extract::State, http::StatusCode};

use self::face::{Hook, HookChange, HookDelivery, HookWithSecret, NewHook, Replay, Replayed, Test};
use super::{
    caller::Caller,
    json::Json,
    list::{List, NoFilter, Page, Paging},
    path::Path,
    read_time,
};
use crate::{
    app::App,
    error::{Error, Flaw, Kind, Problem, Result},
    hook::{
        Mistake, Refusal,
        endpoint::{self, Change, Endpoint},
        log,
        replay::{self, Range},
    },
};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Mistakes(list) => {
                let flaws = list.into_iter().map(|Mistake { path, what }| Flaw::new(path, what)).collect();
                Problem::invalid(flaws).into()
            }
            Refusal::TooMany => {
                let detail = format!("There are {} hooks; delete one first.", endpoint::MOST);
                Problem::new(Kind::Conflict, detail).into()
            }
            Refusal::Other(error) => error,
        }
    }
}

/// List hooks
///
/// All of them, the oldest first; there are 20 at most.
#[utoipa::path(
    get, path = "/api/v1/hooks", tag = "Hooks", operation_id = "list_hooks", params(Paging),
    responses((status = 200, description = "A page of hooks", body = Page<Hook>)),
    security(("key" = ["hooks:read"])),
)]
pub async fn list(State(app): State<App>, caller: Caller, list: List<NoFilter>) -> Result<Json<Page<Hook>>> {
    let mut found = endpoint::list(&mut *app.db.conn().await?).await?;
    let after = list.after.clone().unwrap_or_default();
    found.retain(|hook| sees(&caller, hook) && hook.row.id > after);
    Ok(Json(list.page(found, |hook| hook.row.id.clone(), Hook::from)))
}

/// Make a hook
///
/// The answer holds the secret that signs what is told. It is not shown again.
#[utoipa::path(
    post, path = "/api/v1/hooks", tag = "Hooks", operation_id = "create_hook", request_body = NewHook,
    responses((status = 201, description = "The hook and its secret", body = HookWithSecret)),
    security(("key" = ["hooks:write"])),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewHook>,
) -> Result<(StatusCode, Json<HookWithSecret>)> {
    check_place(&app, &caller, &new)?;
    let NewHook { url, description, types, provider, channel, forward_raw } = new;
    let new = endpoint::New { url, description, types, provider, channel, forward_raw };
    let made = endpoint::create(&app, &new).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// See a hook
#[utoipa::path(
    get, path = "/api/v1/hooks/{id}", tag = "Hooks", operation_id = "get_hook",
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The hook", body = Hook)),
    security(("key" = ["hooks:read"])),
)]
pub async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Hook>> {
    find(&app, &caller, &id).await.map(|hook| Json(hook.into()))
}

/// Change a hook
///
/// What is not given stays. Its provider, its channel and `forward_raw` stay in any case: make another hook.
#[utoipa::path(
    patch, path = "/api/v1/hooks/{id}", tag = "Hooks", operation_id = "update_hook", request_body = HookChange,
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The hook as it is now", body = Hook)),
    security(("key" = ["hooks:write"])),
)]
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Json(change): Json<HookChange>,
) -> Result<Json<Hook>> {
    find(&app, &caller, &id).await?;
    let HookChange { url, description, types, is_enabled } = change;
    let changed = endpoint::update(&app, &id, &Change { url, description, types, is_enabled }).await?;
    Ok(Json(changed.into()))
}

/// Delete a hook
///
/// From now on it is told nothing; its deliveries go with it.
#[utoipa::path(
    delete, path = "/api/v1/hooks/{id}", tag = "Hooks", operation_id = "delete_hook",
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 204, description = "It is gone")),
    security(("key" = ["hooks:write"])),
)]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode> {
    find(&app, &caller, &id).await?;
    endpoint::delete(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change a hook's secret
///
/// The new one is in the answer and is not shown again. For 24 hours the former one signs too, so that your system may
/// change over when it suits.
#[utoipa::path(
    post, path = "/api/v1/hooks/{id}/rotate-secret", tag = "Hooks", operation_id = "rotate_hook_secret",
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The hook and its new secret", body = HookWithSecret)),
    security(("key" = ["hooks:write"])),
)]
pub async fn rotate_secret(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<HookWithSecret>> {
    find(&app, &caller, &id).await?;
    let rotated = endpoint::rotate_secret(&app, &id).await?;
    Ok(Json(rotated.into()))
}

/// Test a hook
///
/// Tells it `hook.test` now. The hook's deliveries say how it went.
#[utoipa::path(
    post, path = "/api/v1/hooks/{id}/test", tag = "Hooks", operation_id = "test_hook",
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 202, description = "It is on its way", body = Test)),
    security(("key" = ["hooks:write"])),
)]
pub async fn test(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<(StatusCode, Json<Test>)> {
    find(&app, &caller, &id).await?;
    let event_id = endpoint::test(&app, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(Test { event_id })))
}

/// Tell a hook again
///
/// Everything of a time that it hears of, also what happened before it was made, where somebody heard of it then. Each
/// event keeps its `webhook-id`.
#[utoipa::path(
    post, path = "/api/v1/hooks/{id}/replay", tag = "Hooks", operation_id = "replay_hook", request_body = Replay,
    params(("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 202, description = "So many are on their way", body = Replayed)),
    security(("key" = ["hooks:write"])),
)]
pub async fn replay(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Json(asked): Json<Replay>,
) -> Result<(StatusCode, Json<Replayed>)> {
    find(&app, &caller, &id).await?;
    let range = read_range(&asked)?;
    let done = replay::replay(&app, &id, &range).await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { events: done.events, continue_after: done.after })))
}

/// List a hook's deliveries
///
/// The newest event first.
#[utoipa::path(
    get, path = "/api/v1/hooks/{id}/deliveries", tag = "Hooks", operation_id = "list_hook_deliveries",
    params(Paging, ("id" = String, Path, description = "The hook's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "A page of deliveries", body = Page<HookDelivery>)),
    security(("key" = ["hooks:read"])),
)]
pub async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    list: List<NoFilter>,
) -> Result<Json<Page<HookDelivery>>> {
    find(&app, &caller, &id).await?;
    let before = list.after.clone().unwrap_or_default();
    let found = log::list(&mut *app.db.conn().await?, &id, &before, list.rows()).await?;
    Ok(Json(list.page(found, |line| line.event_id.clone(), HookDelivery::from)))
}

/// One that hears of all providers is nobody's who may know of one only.
fn sees(caller: &Caller, hook: &Endpoint) -> bool {
    match &hook.row.provider {
        Some(provider) => caller.sees(provider),
        None => caller.providers.is_empty(),
    }
}

/// A hook that the key may know of.
async fn find(app: &App, caller: &Caller, id: &str) -> Result<Endpoint> {
    let hook = endpoint::find(&mut *app.db.conn().await?, id).await?.ok_or(Error::NotFound)?;
    if !sees(caller, &hook) {
        return Err(caller.refuse_foreign(app, "hook", id).await);
    }
    Ok(hook)
}

/// A key for some providers makes hooks for these only. Of others it learns nothing, not even that they are there.
fn check_place(app: &App, caller: &Caller, new: &NewHook) -> Result<()> {
    let is_foreign = |provider: &String| !caller.sees(provider);
    if new.channel.as_ref().is_some_and(|channel| !caller.sees_channel(app, channel)) {
        return Err(Problem::invalid(vec![Flaw::new("channel", "there is no such channel")]).into());
    }
    if new.provider.as_ref().is_some_and(is_foreign) {
        return Err(Problem::invalid(vec![Flaw::new("provider", "there is no such provider")]).into());
    }
    if !caller.providers.is_empty() && new.provider.is_none() && new.channel.is_none() {
        let what = "must be named: this key is for some providers only";
        return Err(Problem::invalid(vec![Flaw::new("provider", what)]).into());
    }
    Ok(())
}

fn read_range(asked: &Replay) -> Result<Range<'_>> {
    let read = |name: &str, text: &str| read_time(text).map_err(|why| Flaw::new(name, why));
    match (read("from", &asked.from), read("to", &asked.to)) {
        (Ok(from), Ok(to)) if from >= to => Err(Problem::invalid(vec![Flaw::new("to", "must be after from")]).into()),
        (Ok(from), Ok(to)) => Ok(Range { from, to, after: asked.after.as_deref() }),
        (from, to) => Err(Problem::invalid([from.err(), to.err()].into_iter().flatten().collect()).into()),
    }
}
