//! The rich menu of one member, chosen by the company's system before all rules.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{caller::Caller, json::Json, list::Query, path::Path, read_time, time};
use crate::{
    app::App,
    error::{Error, Flaw, Problem, Result},
    member::company,
    rich_menu::overrule::{self, Overrule, Refusal},
};

/// The menu that a member shall see.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The name of one of the channel's menus.
    #[schema(example = "gold")]
    menu: String,
    /// The channel (official account); may be left out where there is one only.
    channel: Option<String>,
    /// Until when; without it until it is taken away.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// The menu that was chosen for a member.
#[derive(Debug, Serialize, ToSchema)]
pub struct RichMenu {
    #[schema(example = "main")]
    channel: String,
    #[schema(example = "gold")]
    menu: String,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    until: Option<String>,
}

/// Of which channel.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfChannel {
    /// The channel (official account); may be left out where there is one only.
    channel: Option<String>,
}

/// Choose a member's rich menu
///
/// Before all rules, on one channel, in place of a former choice. A member who is not linked has it from their link on.
/// LINE is told within seconds; `until` ends it by itself.
#[utoipa::path(
    put, path = "/api/v1/members/{external_id}/rich-menu", tag = "Members", operation_id = "put_rich_menu",
    params(("external_id" = String, Path, description = "The company's id", example = "1001")),
    request_body = Chosen,
    responses((status = 200, description = "What is chosen now", body = RichMenu)),
    security(("key" = ["members:write"])),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(external_id): Path<String>,
    Json(chosen): Json<Chosen>,
) -> Result<Json<RichMenu>> {
    let new = read(&app, &caller, chosen)?;
    let mut tx = app.db.begin().await?;
    let member = company::hold(&mut tx, &app.db, &external_id).await?.ok_or(Error::NotFound)?;
    overrule::set(&mut tx, &app, &member.id, &new).await?.map_err(refuse)?;
    tx.commit().await?;
    app.wake();
    Ok(Json(RichMenu { channel: new.channel, menu: new.menu, until: new.until.map(time) }))
}

/// Leave a member's rich menu to the rules
///
/// Again changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/members/{external_id}/rich-menu", tag = "Members", operation_id = "delete_rich_menu",
    params(("external_id" = String, Path, description = "The company's id", example = "1001"), OfChannel),
    responses((status = 204, description = "The rules decide")),
    security(("key" = ["members:write"])),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(external_id): Path<String>,
    Query(asked): Query<OfChannel>,
) -> Result<StatusCode> {
    let channel = caller.channel(&app, asked.channel).map_err(|flaw| Problem::invalid(vec![flaw]))?;
    let mut tx = app.db.begin().await?;
    let member = company::hold(&mut tx, &app.db, &external_id).await?.ok_or(Error::NotFound)?;
    overrule::clear(&mut tx, &app, &member.id, &channel).await?;
    tx.commit().await?;
    app.wake();
    Ok(StatusCode::NO_CONTENT)
}

fn read(app: &App, caller: &Caller, chosen: Chosen) -> Result<Overrule, Problem> {
    let channel = caller.channel(app, chosen.channel);
    let until = chosen.until.as_deref().map(read_time).transpose().map_err(|text| Flaw::new("until", text));
    match (channel, until) {
        (Ok(channel), Ok(until)) => Ok(Overrule { channel, menu: chosen.menu, until }),
        (channel, until) => Err(Problem::invalid(channel.err().into_iter().chain(until.err()).collect())),
    }
}

fn refuse(refusal: Refusal) -> Problem {
    let flaw = match refusal {
        Refusal::Unknown(names) if names.is_empty() => Flaw::new("menu", "no menus were applied to this channel yet"),
        Refusal::Unknown(names) => {
            Flaw::new("menu", format!("the channel has no menu of this name; there are: {}", names.join(", ")))
        }
        Refusal::Over => Flaw::new("until", "is over already"),
    };
    Problem::invalid(vec![flaw])
}
