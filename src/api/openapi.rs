//! `GET /api/openapi.json`: what the API is, for programs; the page of [`docs`](super::docs) is made of it.
//!
//! An endpoint is named in the list below. What every call may be answered is added to each by [`Common`].

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Schema, Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{delivery, event, hook, link, member, message, problem, quota, rich_menu, schema, ticket};
use crate::error::Kind;

#[derive(OpenApi)]
#[openapi(
    info(title = "Musubi", version = "1", description = "The company's HTTP API.", license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    servers((url = "/", description = "This installation")),
    components(schemas(problem::Face)),
    modifiers(&Common),
    tags(
        (name = "Members", description = "The company's members, by the company's own ids."),
        (name = "Links", description = "Whether members are linked to LINE, and the end of links. Who at LINE it is, is never taken or told: that is for the person to prove."),
        (name = "Link tickets", description = "Addresses by which a member links a LINE account, once, on any device."),
        (name = "Messages", description = "What is sent to linked members, and what became of it."),
        (name = "Hooks", description = "Your systems are told what happens here, by Standard Webhooks."),
        (name = "Events", description = "What LINE told by its webhooks."),
    ),
    paths(
        member::list,
        member::put,
        member::show,
        member::delete,
        member::disable,
        member::enable,
        rich_menu::put,
        rich_menu::delete,
        link::show,
        link::delete,
        ticket::create,
        ticket::show,
        ticket::revoke,
        ticket::redeem,
        message::send::create,
        message::list,
        message::show,
        message::cancel,
        delivery::list,
        quota::show,
        event::list,
        hook::list,
        hook::create,
        hook::show,
        hook::update,
        hook::delete,
        hook::rotate_secret,
        hook::test,
        hook::replay,
        hook::deliveries,
    ),
)]
struct Document;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(Document::openapi()).unwrap_or_default());
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

/// The document as JSON.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// `GET /api/openapi.json`
pub async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// What all endpoints share: the key, the problems, and idempotency.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("msb_…")
            .description(Some("A key made by `musubi api-key create`, in the header Authorization only."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(key.build()));
        for (path, item) in &mut document.paths.paths {
            let named = path.contains('{');
            let posted = item.post.as_mut().into_iter().map(|operation| (operation, true));
            let others = [&mut item.get, &mut item.put, &mut item.delete, &mut item.patch];
            let others = others.into_iter().flatten().map(|operation| (operation, false));
            for (operation, is_post) in posted.chain(others) {
                complete(operation, named, is_post);
            }
        }
    }
}

/// Adds what the operation does not say itself.
fn complete(operation: &mut Operation, named: bool, is_post: bool) {
    use Kind::{
        BadRequest, BodyTooLarge, Forbidden, HeadTooLarge, Internal, Invalid, NotFound, RateLimited, TooSlow,
        Unauthorized, Unavailable, UnsupportedMediaType,
    };
    let mut kinds = vec![BadRequest, Unauthorized, Forbidden, RateLimited, HeadTooLarge, Internal, Unavailable];
    if named || operation.responses.responses.contains_key("404") {
        kinds.push(NotFound);
    }
    if operation.request_body.is_some() || is_post {
        kinds.extend([TooSlow, BodyTooLarge]);
    }
    if operation.request_body.is_some() {
        kinds.push(UnsupportedMediaType);
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { parameter_in: ParameterIn::Query, schema: Some(RefOr::T(schema)), .. }) = parameter
            && let Schema::Object(object) = schema
            && object.properties.is_empty()
            && object.additional_properties.is_none()
            && object.minimum.is_none()
        {
            schema::parameter(object);
        }
    }
    let is_list = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "cursor"));
    if operation.request_body.is_some() || is_list {
        kinds.push(Invalid);
    }
    if is_post {
        kinds.push(Kind::Conflict);
        add_idempotency(operation);
    }
    for kind in kinds {
        let status = kind.status().as_u16().to_string();
        let told = operation.responses.responses.get(&status).and_then(|known| match known {
            RefOr::T(response) => Some(response.description.clone()),
            RefOr::Ref(_) => None,
        });
        operation.responses.responses.insert(status, RefOr::T(refusal(kind, told)));
    }
}

/// An answer that is a problem. `told` is what the endpoint says of it.
fn refusal(kind: Kind, told: Option<String>) -> utoipa::openapi::Response {
    let with_status = Kind::ALL.iter().filter(|other| other.status() == kind.status());
    let known = with_status.map(|kind| format!("`{}`", kind.id())).collect::<Vec<_>>().join(", ");
    let description = told.map_or_else(|| format!("{}: {known}", kind.title()), |told| format!("{told}: {known}"));
    let face = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, face);
    let header = |name: &str, kind: Type, text: &str| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        (name.to_owned(), HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build())
    };
    let (name, header) = match kind {
        Kind::RateLimited | Kind::Unavailable => header("Retry-After", Type::Integer, "Seconds to wait"),
        Kind::Unauthorized => header("WWW-Authenticate", Type::String, "Bearer"),
        _ => return response.build(),
    };
    response.header(name, header).build()
}

fn add_idempotency(operation: &mut Operation) {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    let header = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .schema(Some(key.pattern(Some("^[ -~]{1,255}$")).build()))
        .description(Some(
            "Makes the request safe to repeat: for 24 hours the same key with the same request gives the same answer, \
             and has no second effect.",
        ))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(header));
}
