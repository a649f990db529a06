//! The month's quota of each channel.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{caller::Caller, json::Json, time};
use crate::{
    app::App,
    error::Result,
    message::quota::{self, Figures},
};

/// The month's quota of all channels that the key is for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quotas {
    channels: Vec<Quota>,
}

/// What a channel may still send this month (Japan's), as far as LINE told.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quota {
    #[schema(example = "main")]
    channel: String,
    /// LINE's limit of people reached; null where there is none, or LINE has not told it yet (see `told_at`).
    #[schema(example = 200)]
    limit: Option<i64>,
    /// Roughly: LINE's count, and ours since.
    #[schema(example = 57)]
    used: i64,
    /// Null where there is no limit.
    #[schema(example = 143)]
    left: Option<i64>,
    /// What messages to many leave for the others.
    #[schema(example = 0)]
    reserve: i64,
    /// Recipients that wait to be sent to this month, in the transactional lane.
    waiting_transactional: i64,
    /// The same in bulk.
    waiting_bulk: i64,
    /// When LINE last told; null where it never did.
    told_at: Option<String>,
}

/// See the month's quota
#[utoipa::path(
    get, path = "/api/v1/quota", tag = "Messages", operation_id = "get_quota",
    responses((status = 200, description = "The quota of each channel", body = Quotas)),
    security(("key" = ["messages:read"])),
)]
pub async fn show(State(app): State<App>, caller: Caller) -> Result<Json<Quotas>> {
    let mut channels = Vec::new();
    for channel in caller.channels(&app) {
        let Figures { limit, used, reserve, waiting: (waiting_transactional, waiting_bulk), told_at } =
            quota::outlook(&app, channel).await?.figures();
        channels.push(Quota {
            channel: channel.to_owned(),
            limit,
            used,
            left: limit.map(|limit| (limit - used).max(0)),
            reserve,
            waiting_transactional,
            waiting_bulk,
            told_at: told_at.map(time),
        });
    }
    Ok(Json(Quotas { channels }))
}
