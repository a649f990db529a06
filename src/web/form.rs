//! A form's fields, as a handler's argument.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The fields of a form. One that lacks a field, has one twice, or is no form at all is a bad request.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let read = axum::Form::from_request(request, state).await;
        read.map(|axum::Form(fields)| Self(fields)).map_err(|_| Error::BadRequest("unreadable form"))
    }
}
