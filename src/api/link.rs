//! Members' links: looked at, and ended. Nothing here takes or tells a LINE user's id: who that is, a person proves.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{caller::Caller, json::Json, member::by, path::Path, time};
use crate::{
    app::App,
    error::{Error, Result},
    line_user::Friend,
    link::by_company::{self, View},
    member::company,
};

/// A member's link in a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    #[schema(example = true)]
    linked: bool,
    /// How it came: `web`, `liff`, `account_link`, `ticket` or `imported`.
    #[schema(example = "web")]
    source: Option<String>,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    since: Option<String>,
    /// False while an imported link waits for the person's yes: it can be sent to, and signs nobody in.
    confirmed: Option<bool>,
    /// Paused by a reset of the password until the person confirms it: nothing is sent.
    suspended: Option<bool>,
    /// The person's permission in LINE: `given`, `withdrawn`, `unverifiable`, or `none` where none was asked for.
    #[schema(example = "given")]
    permission: Option<String>,
    /// The provider's official accounts.
    channels: Vec<Channel>,
    /// The last link, where they are not linked.
    ended: Option<Ended>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Channel {
    #[schema(example = "main")]
    channel: String,
    /// `yes`, `no` or `unknown`.
    #[schema(example = "yes")]
    friend: String,
    /// Not known to be a non-friend: unknown is sent to.
    #[schema(example = true)]
    reachable: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Ended {
    at: String,
    /// `company`, `member`, `chat`, `undone`, `declined` or `deleted`.
    reason: String,
    /// What the end takes at LINE.
    steps: Vec<Step>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Step {
    /// `deauthorize`, `revoke` or `menu`.
    step: String,
    /// `pending`, `done`, `not_applicable`, `needs_user` (only the person can remove the permission, in LINE), or
    /// `cancelled` (they linked again).
    state: String,
}

/// Look at a member's link
#[utoipa::path(
    get, path = "/api/v1/members/{external_id}/links/{provider}", tag = "Links", operation_id = "get_link",
    params(
        ("external_id" = String, Path, description = "The company's id", example = "1001"),
        ("provider" = String, Path, description = "Name of the provider", example = "main"),
    ),
    responses((status = 200, description = "Linked or not", body = Link)),
    security(("key" = ["links:read"])),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((external_id, provider)): Path<(String, String)>,
) -> Result<Json<Link>> {
    admit(&app, &caller, &provider).await?;
    let mut conn = app.db.conn().await?;
    let id = company::find_id(&mut conn, &external_id).await?.ok_or(Error::NotFound)?;
    Ok(Json(by_company::find(&mut conn, &app, &id, &provider).await?.into()))
}

/// End a member's link
///
/// From the answer on nobody signs in by it and nothing is sent by it. The end is then carried out at LINE, however
/// long LINE is away: `ended.steps` tells how far. Again changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/members/{external_id}/links/{provider}", tag = "Links", operation_id = "delete_link",
    params(
        ("external_id" = String, Path, description = "The company's id", example = "1001"),
        ("provider" = String, Path, description = "Name of the provider", example = "main"),
    ),
    responses((status = 200, description = "What holds now", body = Link)),
    security(("key" = ["links:write"])),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path((external_id, provider)): Path<(String, String)>,
) -> Result<Json<Link>> {
    admit(&app, &caller, &provider).await?;
    let view = by_company::unlink(&app, &external_id, &provider, by(&caller)).await?;
    Ok(Json(view.ok_or(Error::NotFound)?.into()))
}

/// What belongs to another provider is not found.
async fn admit(app: &App, caller: &Caller, provider: &str) -> Result<()> {
    if caller.providers(app).any(|known| known == provider) {
        return Ok(());
    }
    Err(caller.refuse_foreign(app, "provider", provider).await)
}

impl From<View> for Link {
    fn from(view: View) -> Self {
        let linked = view.linked.as_ref();
        let channel = |(channel, friend): &(String, Friend)| Channel {
            channel: channel.clone(),
            friend: friend.word().to_owned(),
            reachable: *friend != Friend::No,
        };
        Self {
            linked: linked.is_some(),
            source: linked.map(|linked| linked.source.clone()),
            since: linked.map(|linked| time(linked.since)),
            confirmed: linked.map(|linked| linked.is_confirmed),
            suspended: linked.map(|linked| linked.is_suspended),
            permission: linked.map(|linked| linked.permission.clone()),
            channels: linked.map(|linked| linked.friends.iter().map(channel).collect()).unwrap_or_default(),
            ended: view.ended.map(|ended| Ended {
                at: time(ended.at),
                reason: ended.reason,
                steps: ended.steps.into_iter().map(|(step, state)| Step { step, state }).collect(),
            }),
        }
    }
}
