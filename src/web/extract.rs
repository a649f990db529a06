//! Forms and queries whose mistakes get our page, not the framework's words.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A form's fields.
pub struct Form<T>(pub T);

/// A query's parameters.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let form = axum::Form::from_request(request, state).await;
        form.map(|axum::Form(fields)| Self(fields)).map_err(|_| Error::BadRequest("the form lacks a field"))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(asked)| Self(asked))
            .map_err(|_| Error::BadRequest("the query lacks a parameter"))
    }
}
