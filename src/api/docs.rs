//! `GET /api/docs`: the document of [`openapi`](super::openapi), for people.

use std::sync::LazyLock;

use askama::Template;
use axum::{extract::State, response::Response};
use serde_json::Value;

use super::openapi;
use crate::{
    app::App,
    error::{Kind, Result},
    member::guard::Scope,
    web::{
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "api/docs.html")]
struct Docs {
    page: Page,
    base: String,
    groups: &'static [Group],
    scopes: &'static [Scope],
    kinds: &'static [Kind],
}

/// The operations of a tag.
struct Group {
    name: String,
    text: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    text: String,
    scope: String,
    parameters: Vec<Field>,
    body: Vec<Field>,
    example: String,
    /// Of the answer that is hoped for.
    answer: Vec<Field>,
    answers: Vec<(String, String)>,
}

/// A parameter, or a field of JSON.
struct Field {
    name: String,
    kind: String,
    is_required: bool,
    text: String,
}

/// A text in pieces: those between backticks are code.
fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split('`').enumerate().map(|(place, piece)| (place % 2 == 1, piece))
}

impl Field {
    fn text(&self) -> impl Iterator<Item = (bool, &str)> {
        pieces(&self.text)
    }
}

impl Operation {
    fn text(&self) -> impl Iterator<Item = (bool, &str)> {
        pieces(&self.text)
    }
}

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| groups(openapi::document()));

/// Objects in objects are shown so deep.
const DEEPEST: usize = 4;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// `GET /api/docs`
pub async fn show(State(app): State<App>, visit: Visit) -> Result<Response> {
    let base = app.config.public_url.origin().ascii_serialization();
    let page = Page::new(&app, &visit);
    html(&Docs { page, base, groups: &GROUPS, scopes: Scope::ALL, kinds: Kind::ALL })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn groups(document: &Value) -> Vec<Group> {
    let tags = document["tags"].as_array().cloned().unwrap_or_default();
    let of_tag = |tag: &Value| Group {
        name: text(&tag["name"]),
        text: text(&tag["description"]),
        operations: operations(document, &tag["name"]),
    };
    tags.iter().map(of_tag).filter(|group| !group.operations.is_empty()).collect()
}

fn operations(document: &Value, tag: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let of_path = |(path, item): (&String, &Value)| {
        let found = METHODS.iter().filter(|method| item[**method]["tags"][0] == *tag);
        found.map(|method| operation(document, method, path, &item[*method])).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn operation(document: &Value, method: &str, path: &str, found: &Value) -> Operation {
    let answers = found["responses"].as_object().cloned().unwrap_or_default();
    let good = answers.iter().find(|(status, _)| status.starts_with('2')).map(|(_, answer)| answer.clone());
    let good = good.unwrap_or_default();
    let body = &found["requestBody"]["content"]["application/json"];
    Operation {
        id: text(&found["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&found["summary"]),
        text: text(&found["description"]),
        scope: text(&found["security"][0]["key"][0]),
        parameters: found["parameters"].as_array().into_iter().flatten().map(|one| parameter(document, one)).collect(),
        body: fields(document, &body["schema"], "", DEEPEST),
        example: pretty(&body["example"]),
        answer: answer(document, &good["content"]["application/json"]["schema"]),
        answers: answers.iter().map(|(status, answer)| (status.clone(), text(&answer["description"]))).collect(),
    }
}

/// What is in an answer; that it is there goes without saying.
fn answer(document: &Value, schema: &Value) -> Vec<Field> {
    let all = fields(document, schema, "", DEEPEST).into_iter();
    all.map(|field| Field { is_required: false, ..field }).collect()
}

fn pretty(value: &Value) -> String {
    if value.is_null() { String::new() } else { serde_json::to_string_pretty(value).unwrap_or_default() }
}

fn parameter(document: &Value, found: &Value) -> Field {
    Field {
        name: text(&found["name"]),
        kind: format!("{}, {}", text(&found["in"]), kind(document, &found["schema"])),
        is_required: found["required"] == true,
        text: text(&found["description"]),
    }
}

/// A schema, or the one that it refers to.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    // What may be null is the one of several that is not.
    let several = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
    let schema = several.unwrap_or(schema);
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/"));
    name.map_or(schema, |name| &document["components"]["schemas"][name])
}

/// The fields of an object, those of objects in it after them by their paths.
fn fields(document: &Value, schema: &Value, path: &str, depth: usize) -> Vec<Field> {
    let schema = resolve(document, schema);
    if depth == 0 {
        return Vec::new();
    }
    if schema["type"] == "array" {
        return fields(document, &schema["items"], &format!("{path}[]."), depth - 1);
    }
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut found: Vec<Field> = parts.flat_map(|part| fields(document, part, path, depth)).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let own = text(&field["description"]);
        let text = if own.is_empty() { text(&resolve(document, field)["description"]) } else { own };
        found.push(Field { name: format!("{path}{name}"), kind: kind(document, field), is_required, text });
        let inner = resolve(document, field);
        let inside = if inner["type"] == "array" { format!("{path}{name}") } else { format!("{path}{name}.") };
        found.extend(fields(document, inner, &inside, depth - 1));
    }
    found
}

/// The kind of a value in words.
fn kind(document: &Value, schema: &Value) -> String {
    let may_be_null = schema["oneOf"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "null"));
    let schema = resolve(document, schema);
    let word = match &schema["type"] {
        Value::String(word) if word == "array" => format!("list of {}", kind(document, &schema["items"])),
        Value::String(word) => word.clone(),
        Value::Array(words) => words.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ if schema["allOf"].is_array() || schema["properties"].is_object() => "object".to_owned(),
        _ => "any JSON".to_owned(),
    };
    let known: Vec<String> =
        schema["enum"].as_array().into_iter().flatten().map(|value| format!("\"{}\"", text(value))).collect();
    let word = if known.is_empty() { word } else { known.join(", ") };
    if may_be_null { format!("{word} or null") } else { word }
}
