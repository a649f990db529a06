//! A request's body, read whole within limits.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;

use crate::error::{Error, Result};

/// Longest body; our forms are far shorter.
pub const LONGEST: usize = 64 * 1024;
/// What is read beyond that of a body that is too long, so that the answer reaches whoever is still sending.
const DRAINED: usize = 1024 * 1024;

/// What a body's sender was too slow for; the listener ends such a body with it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body did not come in time")]
pub struct TooSlow;

/// The whole body of a form, or why not: too slow, too long, or broken.
pub async fn read(body: Body) -> Result<Bytes> {
    read_within(body, LONGEST).await
}

/// The same of a body that may be longer or shorter.
pub async fn read_within(mut body: Body, longest: usize) -> Result<Bytes> {
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| refuse(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > longest.saturating_add(DRAINED) {
            break;
        }
        if length <= longest {
            bytes.extend_from_slice(&data);
        }
    }
    if length > longest { Err(Error::TooLarge) } else { Ok(bytes.into()) }
}

fn refuse(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return Error::TooSlow;
        }
        cause = error.source();
    }
    Error::BadRequest("the body broke off")
}
