//! Schemas of values that have no Rust type of their own, for the document.

use utoipa::openapi::{
    Array, ArrayBuilder, Object, ObjectBuilder, Type,
    schema::{AdditionalProperties, SchemaType},
};

use super::list::LONGEST_VALUE;
use crate::hook_event::Kind;

/// No control characters.
const PLAIN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// The same, and no space at either end.
const TAG: &str = r"^[^\s\u0000-\u001f\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f])?$";
const ATTRIBUTE: &str = "[a-z][a-z0-9_]{0,49}$";

pub fn tags() -> Array {
    let tag = text().min_length(Some(1)).max_length(Some(64)).pattern(Some(TAG));
    list(tag).description(Some("The whole list.")).examples([serde_json::json!(["newsletter"])]).build()
}

pub fn topics() -> Array {
    list(plain(64).min_length(Some(1))).max_items(Some(100)).description(Some("The whole list.")).build()
}

pub fn quiet_hours() -> Object {
    text()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .pattern(Some(r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"))
        .description(Some(
            "Two different times of the day, by the member's own clock: messages to many wait until the second. Null \
             gives them the company's hours.",
        ))
        .examples([serde_json::json!("22:00-07:00")])
        .build()
}

pub fn attributes() -> Object {
    let kinds = SchemaType::from_iter([Type::String, Type::Number, Type::Boolean, Type::Null]);
    ObjectBuilder::new()
        .description(Some(
            "Those that are named change, and null removes one; the others stay. A name is `[a-z][a-z0-9_]{0,49}`, a \
             value a text of 500 characters at most, a number, or true or false. Templates read them as `member.NAME`.",
        ))
        .property_names(Some(text().pattern(Some(format!("^{ATTRIBUTE}")))))
        .additional_properties(Some(AdditionalProperties::from(plain(500).schema_type(kinds))))
        .examples([serde_json::json!({ "tier": "gold" })])
        .build()
}

/// `attribute.NAME=VALUE` in a query: a field of a form whose name is the caller's.
pub fn attribute_filter() -> Object {
    ObjectBuilder::new()
        .property_names(Some(text().pattern(Some(format!(r"^attribute\.{ATTRIBUTE}")))))
        .additional_properties(Some(AdditionalProperties::from(plain(LONGEST_VALUE))))
        .max_properties(Some(1))
        .build()
}

/// What every parameter of a query must be.
pub fn parameter(object: &mut Object) {
    if object.pattern.is_none() && object.enum_values.is_none() {
        (object.pattern, object.max_length) = (Some(PLAIN.to_owned()), Some(LONGEST_VALUE));
    }
}

/// What a hook may hear of.
pub fn hook_types() -> Array {
    let word = text().enum_values(Some(Kind::CHOSEN.map(Kind::word)));
    list(word)
        .description(Some("What it hears of; empty: all of these."))
        .examples([serde_json::json!(["link.created", "link.ended"])])
        .build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn plain(longest: usize) -> ObjectBuilder {
    text().max_length(Some(longest)).pattern(Some(PLAIN))
}

/// Or null, which says nothing.
fn list(items: ObjectBuilder) -> ArrayBuilder {
    ArrayBuilder::new().schema_type(SchemaType::from_iter([Type::Array, Type::Null])).items(items)
}
