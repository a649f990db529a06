//! `POST /webhook/{channel}`: signature first, stored, answered. LINE waits two seconds.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, Bytes, HttpBody},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use tokio::{sync::OwnedSemaphorePermit, time};

use super::{
    intake::{Entry, Intake, Unstored},
    pack::Head,
};
use crate::{
    app::App,
    audit,
    config::Channel,
    db::{Millis, new_id},
    error::Result,
    line::webhook::{Envelope, Signature},
    member::guard,
};

/// Longest body; LINE names no limit, and real ones are a few KB.
const LONGEST: usize = 2 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(5);
/// How long recording a refusal may take.
const RECORD_TIME: Duration = Duration::from_secs(1);

/// Every answer that this route gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Stored,
    /// The console's "Verify": signed, and empty.
    Nothing,
    NoChannel,
    Unsigned,
    Unreadable,
    TooLarge,
    TooSlow,
    BrokenOff,
    /// Not stored: LINE sends it again where redelivery is on.
    Unstored,
}

/// `POST /webhook/{channel}`
pub async fn receive(
    State(app): State<App>,
    Extension(intake): Extension<Intake>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let answer = match app.config.channel.get(&name) {
        Some(channel) => take(&app, &intake, &name, channel, &head.headers, body).await.unwrap_or_else(|error| {
            tracing::error!(%error, channel = name, "a webhook could not be taken");
            Answer::Unstored
        }),
        None => Answer::NoChannel,
    };
    if answer.status() != StatusCode::OK {
        let address = guard::address(&app, &head.extensions, &head.headers);
        tracing::info!(channel = name, address, status = answer.status().as_u16(), answer = answer.word(), "webhook");
    }
    let label = if answer == Answer::NoChannel { "" } else { &name };
    app.metrics.webhook(label, answer.word());
    (answer.status(), answer.word()).into_response()
}

async fn take(
    app: &App,
    intake: &Intake,
    name: &str,
    channel: &Channel,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answer> {
    let Some((signature, text)) = signature(headers) else { return Ok(Answer::Unsigned) };
    let (bytes, room) = match time::timeout(BODY_TIME, read_body(intake, body)).await {
        Ok(Ok(read)) => read,
        Ok(Err(answer)) => return Ok(answer),
        Err(_) => return Ok(Answer::TooSlow),
    };
    let mut secrets = std::iter::once(&channel.channel_secret).chain(&channel.former_channel_secret);
    if !secrets.any(|secret| signature.is_of(&bytes, secret)) {
        return Ok(Answer::Unsigned);
    }
    let now = app.now();
    let events = match Envelope::read(&bytes) {
        Ok(envelope) => envelope.events.len(),
        Err(error) => {
            tracing::error!(channel = name, %error, "a signed webhook is no JSON of LINE's");
            // LINE does not wait for our records.
            let _ = time::timeout(RECORD_TIME, record_unreadable(app, name, now)).await;
            return Ok(Answer::Unreadable);
        }
    };
    if events == 0 {
        return Ok(Answer::Nothing);
    }
    let head = Head::new(new_id(now), text, now, &bytes);
    match intake.store(app, Entry { channel: name.to_owned(), head, body: bytes, events, room }).await {
        Ok(()) => {
            app.metrics.events_received(name, events);
            Ok(Answer::Stored)
        }
        Err(Unstored) => Ok(Answer::Unstored),
    }
}

/// The one well-formed signature; two would leave it open which of them counts.
fn signature(headers: &HeaderMap) -> Option<(Signature, String)> {
    let mut values = headers.get_all("x-line-signature").iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    Some((Signature::parse(text)?, text.to_owned()))
}

/// Reads a body as far as there is room for it, in its own limit and in that of all.
async fn read_body(intake: &Intake, mut body: Body) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Answer> {
    if body.size_hint().lower() > LONGEST as u64 {
        return Err(Answer::TooLarge);
    }
    let mut room = Vec::new();
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Answer::BrokenOff)?.into_data() else { continue };
        if length + data.len() > LONGEST {
            return Err(Answer::TooLarge);
        }
        room.push(intake.room(length, data.len()).ok_or(Answer::Unstored)?);
        length += data.len();
        if length == data.len() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    // Nearly every body is one piece.
    let bytes = if rest.is_empty() { first } else { [first.as_ref(), &rest].concat().into() };
    Ok((bytes, room))
}

async fn record_unreadable(app: &App, channel: &str, now: Millis) -> Result<()> {
    let entry = audit::Entry {
        action: "webhook_refused",
        reason: Some("unreadable"),
        subject: Some(channel),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, now, entry).await
}

impl Answer {
    fn status(self) -> StatusCode {
        match self {
            Self::Stored | Self::Nothing => StatusCode::OK,
            Self::NoChannel => StatusCode::NOT_FOUND,
            Self::Unsigned => StatusCode::UNAUTHORIZED,
            Self::Unreadable | Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unstored => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer's body, and the metric's label.
    fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Nothing => "empty",
            Self::NoChannel => "no_such_channel",
            Self::Unsigned => "bad_signature",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::BrokenOff => "broken_off",
            Self::Unstored => "not_stored",
        }
    }
}
