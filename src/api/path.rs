//! The parts of a path, as a handler's argument. What no id can be names nothing: it is not found.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Longer than any id that may be stored.
const LONGEST: usize = 1024;

/// One part, or a tuple of several.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let all = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Error::NotFound)?;
        if all.iter().any(|(_, value)| value.len() > LONGEST || value.chars().any(char::is_control)) {
            return Err(Error::NotFound);
        }
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|_| Error::NotFound)
    }
}
