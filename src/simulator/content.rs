//! The files behind people's messages, on their host of binary data: given, being prepared (202), unsent (410), or
//! unknown.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Simulator, answer, bot, state::Content};

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/message/{message_id}/content", get(content))
        .route("/v2/bot/message/{message_id}/content/preview", get(preview))
        .route("/v2/bot/message/{message_id}/content/transcoding", get(transcoding))
}

async fn content(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_content(&sim, &headers, &id, |content| {
        if content.preparing > 0 {
            content.preparing -= 1;
            return StatusCode::ACCEPTED.into_response();
        }
        if content.failed { not_found() } else { file(content) }
    })
}

/// A small picture; a film's is its first one, which here is drawn for it.
async fn preview(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_content(&sim, &headers, &id, |content| match content.kind.as_str() {
        "image" => file(content),
        "video" => {
            ([(header::CONTENT_TYPE, "image/png")], include_bytes!("../../static/simulator/photo.png").as_slice())
                .into_response()
        }
        _ => answer::message(StatusCode::BAD_REQUEST, "The content can not be previewed"),
    })
}

async fn transcoding(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_content(&sim, &headers, &id, |content| {
        if !matches!(content.kind.as_str(), "video" | "audio") {
            let text = "Transcoding status doesn't support this type of content";
            return answer::message(StatusCode::BAD_REQUEST, text);
        }
        let status = match content.preparing {
            0 if content.failed => "failed",
            0 => "succeeded",
            _ => "processing",
        };
        answer::ok(json!({ "status": status }))
    })
}

fn not_found() -> Response {
    answer::message(StatusCode::NOT_FOUND, "not found")
}

fn with_content(
    sim: &Simulator,
    headers: &HeaderMap,
    id: &str,
    act: impl FnOnce(&mut Content) -> Response,
) -> Response {
    let (_, bot) = match bot::caller(sim, headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    match sim.state().account(&bot.channel_id).contents.get_mut(id) {
        None => not_found(),
        Some(content) if content.gone => answer::message(StatusCode::GONE, "The content is gone"),
        Some(content) => act(content),
    }
}

fn file(content: &Content) -> Response {
    let bytes = STANDARD.decode(&content.base64).unwrap_or_default();
    ([(header::CONTENT_TYPE, content.content_type.clone())], bytes).into_response()
}

/// The file of a message to any bot, for the phone that sent it.
pub(super) fn own(sim: &Simulator, id: &str) -> Response {
    let state = sim.state();
    let found = state.accounts.values().find_map(|account| account.contents.get(id)).filter(|content| !content.gone);
    found.map_or_else(not_found, file)
}
