//! JSON in and out: what comes in is read strictly, so that a misspelt field is told and not ignored.

use std::{fmt, marker::PhantomData};

use axum::{
    extract::{FromRequest, Request},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

use crate::{
    error::{Error, Flaw, Kind, Problem, Result},
    web::body,
};

/// Longest body.
pub const LONGEST: usize = 1024 * 1024;

/// A body, or an answer. Everything that is taken denies unknown fields; a test asks every endpoint.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        if !is_json(&request) {
            let detail = "Send Content-Type: application/json.";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail).into());
        }
        let bytes = body::read_within(request.into_body(), LONGEST).await?;
        Ok(Self(read(&bytes)?))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn is_json(request: &Request) -> bool {
    let mut kinds = request.headers().get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Reads a body, first as any JSON, then as what it should be.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let Strict(value) = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let place = error.path().to_string();
        refuse(&place, &error.into_inner())
    })?;
    text.end().map_err(|error| refuse(".", &error))?;
    let Object(read) = serde_path_to_error::deserialize(value).map_err(|error| {
        let place = error.path().to_string();
        refuse(&place, &error.into_inner())
    })?;
    Ok(read)
}

/// A field that is an object: serde alone would read a list of its fields as well.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(fields))
    }
}

fn refuse(place: &str, error: &serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => Problem::invalid(vec![flaw(place, &without_place(error))]),
        Category::Syntax | Category::Eof | Category::Io => Problem::new(Kind::InvalidJson, format!("{error}.")),
    }
}

/// A mistake at its place. A field that is missing is a mistake at its own place.
pub(super) fn flaw(place: &str, message: &str) -> Flaw {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if place == "." => Flaw::new(name, "is missing"),
        Some(name) => Flaw::new(format!("{place}.{name}"), "is missing"),
        None => Flaw::new(place, message),
    }
}

/// Of a text the line and column say nothing that the path does not.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) if error.line() > 0 => text[..end].to_owned(),
        _ => text,
    }
}

/// JSON in which no key stands twice and no text holds what a database cannot keep.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        if value.contains('\0') { Err(E::custom("holds the character U+0000")) } else { Ok(value.into()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if name.contains('\0') {
                return Err(de::Error::custom("a key holds the character U+0000"));
            }
            let Strict(value) = fields.next_value()?;
            if all.insert(name.clone(), value).is_some() {
                return Err(de::Error::custom(format!("the key {name:?} stands twice")));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(deserialize_with = "object")]
        to: To,
        #[expect(dead_code, reason = "only its reading is tested")]
        data: Option<Value>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct To {
        members: Vec<String>,
    }

    fn told(text: &str) -> (Kind, String) {
        let problem = read::<Order>(text.as_bytes()).unwrap_err();
        let flaws = problem.errors.iter().map(|flaw| format!("{}: {}", flaw.path, flaw.message)).collect::<Vec<_>>();
        (problem.kind, flaws.join("; "))
    }

    #[test]
    fn every_mistake_has_its_place() {
        assert_eq!(
            read::<Order>(br#"{"to":{"members":["1"]},"data":{"a":[1e9,null,true]}}"#).unwrap().to.members,
            ["1"]
        );
        for (text, place) in [
            (r#"{"to":{"members":["1",2]}}"#, "to.members[1]: invalid type: integer `2`, expected a string"),
            (r#"{"to":{"members":[],"tag":"x"}}"#, "to.tag: unknown field `tag`, expected `members`"),
            (r#"{"to":{"members":[]},"x":1}"#, "x: unknown field `x`, expected `to` or `data`"),
            (r#"{"data":{}}"#, "to: is missing"),
            (r#"{"to":{}}"#, "to.members: is missing"),
            (r#"{"to":{"members":[]},"to":{"members":[]}}"#, ".: the key \"to\" stands twice"),
            (r#"{"to":{"members":[]},"data":{"a":{"b":1,"b":2}}}"#, "data.a: the key \"b\" stands twice"),
            (r#"{"to":{"members":["a\u0000b"]}}"#, "to.members[0]: holds the character U+0000"),
            (r#"{"to":{"members":[]},"data":{"a\u0000b":1}}"#, "data: a key holds the character U+0000"),
            (r#"[{"members":[]},null]"#, ".: invalid type: sequence, expected an object"),
            (r#"{"to":[["1"]]}"#, "to: invalid type: sequence, expected an object"),
        ] {
            assert_eq!(told(text), (Kind::Invalid, place.to_owned()), "{text}");
        }
        for text in ["", "{", "{\"to\"}", "{} {}", "nul", "{\"to\":\"\\ud800\"}", "\u{feff}{}", &"[".repeat(10_000)] {
            assert_eq!(told(text).0, Kind::InvalidJson, "{text:.20}");
        }
        assert_eq!(read::<Order>(b"{\"to\":\"\xff\"}").unwrap_err().kind, Kind::InvalidJson);
    }
}
