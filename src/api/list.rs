//! Lists: a page at a time, by a cursor that is good for its list, its filters and its key only.

use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::form_urlencoded;
use utoipa::{IntoParams, ToSchema};

use super::{caller::Caller, json::flaw};
use crate::{
    app::App,
    error::{Error, Flaw, Kind, Problem, Result},
};

const USUAL: usize = 50;
const MOST: usize = 200;
/// Characters of a parameter.
pub(super) const LONGEST_VALUE: usize = 1024;

/// The parameters of a query that is no list's, as a handler's argument: unknown ones are refused.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// What is asked of a list, as a handler's argument. `T` are its filters, which deny unknown fields.
pub struct List<T> {
    pub filter: T,
    /// How many to give.
    pub limit: usize,
    /// The sort key after which to go on; none at the beginning.
    pub after: Option<String>,
    cursors: Cursors,
}

/// A list without filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NoFilter {}

/// What every list takes, for the documentation; [`List`] reads it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many to give.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<i32>,
    /// `next_cursor` of the former page, unchanged, with the same filters.
    #[param(pattern = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$", max_length = 1024)]
    pub cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Leads to the next page; null at the end.
    #[schema(example = json!(null))]
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// How many rows to read: one more than are given, to know whether there are more.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// The page of the rows that were read; `key` is a row's sort key.
    pub fn page<R, V>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> String, show: impl FnMut(R) -> V) -> Page<V> {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = rows.last().filter(|_| has_more).map(|last| self.cursors.write(&key(last)));
        Page { items: rows.into_iter().map(show).collect(), next_cursor }
    }
}

/// Writes and reads the cursors of one list, with these filters, for this key: a sort key and its signature.
struct Cursors {
    app: App,
    bound_to: String,
}

impl Cursors {
    fn write(&self, key: &str) -> String {
        let signature = self.app.sealer.sign(&self.text(key));
        format!("{}.{signature}", URL_SAFE_NO_PAD.encode(key))
    }

    fn read(&self, cursor: &str) -> Option<String> {
        let (key, signature) = cursor.split_once('.')?;
        let key = String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok()?;
        self.app.sealer.is_signed(&self.text(&key), signature).then_some(key)
    }

    fn text(&self, key: &str) -> String {
        format!("cursor\n{}\n{key}", self.bound_to)
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for List<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let mut pairs = pairs(parts)?;
        let mut take = |name: &str| {
            let place = pairs.iter().position(|(known, _)| known == name)?;
            Some(pairs.remove(place).1)
        };
        let (limit, cursor) = (take("limit"), take("cursor"));
        let filter = read(&pairs)?;
        let limit = limit.map_or(Ok(USUAL), |text| read_limit(&text))?;
        pairs.sort();
        let cursors =
            Cursors { app: app.clone(), bound_to: format!("{}\n{}\n{pairs:?}", caller.key_id, parts.uri.path()) };
        let none_of_it = || Problem::new(Kind::InvalidCursor, Kind::InvalidCursor.text());
        let after = cursor.map(|text| cursors.read(&text).ok_or_else(none_of_it)).transpose()?;
        Ok(Self { filter, limit, after, cursors })
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        Ok(Self(read(&pairs(parts)?)?))
    }
}

/// A mistake in a parameter.
fn wrong(flaw: Flaw) -> Problem {
    Problem { errors: vec![flaw], ..Problem::new(Kind::InvalidParameter, "See errors.") }
}

/// Names and values of the query, each name once.
fn pairs(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if value.chars().count() > LONGEST_VALUE
            || value.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
        {
            return Err(wrong(Flaw::new(name, "is too long, or no text")));
        }
        if all.iter().any(|(known, _)| *known == name) {
            return Err(wrong(Flaw::new(name, "is given twice")));
        }
        all.push((name.into_owned(), value.into_owned()));
    }
    Ok(all)
}

fn read<T: DeserializeOwned>(pairs: &[(String, String)]) -> Result<T, Problem> {
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let fields = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let place = error.path().to_string();
        wrong(flaw(&place, &error.into_inner().to_string()))
    })
}

fn read_limit(text: &str) -> Result<usize, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (1..=MOST).contains(number));
    number.ok_or_else(|| wrong(Flaw::new("limit", format!("must be a number from 1 to {MOST}"))))
}
