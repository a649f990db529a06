//! Attributes (table `member_attributes`): what the company says of its members, for templates, rules and lists.
//!
//! A value is a text, a number or a flag. It is kept as its text with its kind beside, so that one index finds
//! `tier = gold`, `points = 12` and `vip = true` alike.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Number, Value};

pub use crate::config::is_attribute as is_name;
use crate::{
    db::{Conn, Db, Rows},
    error::Result,
};

/// Attributes that one member may have.
pub const AT_MOST: usize = 100;
const LONGEST_TEXT: usize = 500;
/// Larger whole numbers are not exact in JSON.
const LARGEST: f64 = 9_007_199_254_740_992.0;
/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "flag",
        }
    }

    fn of_word(word: &str) -> Self {
        match word {
            "number" => Self::Number,
            "flag" => Self::Flag,
            _ => Self::Text,
        }
    }
}

impl Attribute {
    /// A JSON value as an attribute, or what it should be.
    pub fn of_json(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::String(text) => Self::text(text),
            Value::Number(number) => Self::number(number),
            Value::Bool(flag) => Ok(Self { kind: Kind::Flag, text: flag.to_string() }),
            Value::Null | Value::Array(_) | Value::Object(_) => Err("must be a text, a number, or true or false"),
        }
    }

    pub fn text(text: &str) -> Result<Self, &'static str> {
        let fits = text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control);
        if fits {
            Ok(Self { kind: Kind::Text, text: text.to_owned() })
        } else {
            Err("must have 500 characters at most, none of them a control character")
        }
    }

    /// One number has one text: `12`, however it was written.
    pub fn number(number: &Number) -> Result<Self, &'static str> {
        let size = number.as_f64().unwrap_or(f64::NAN);
        if size.is_nan() || size.abs() > LARGEST {
            return Err("must be a number of 2^53 at most");
        }
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53")]
        let text = if size.fract() == 0.0 { (size as i64).to_string() } else { size.to_string() };
        Ok(Self { kind: Kind::Number, text })
    }

    pub fn json(&self) -> Value {
        match self.kind {
            Kind::Text => Value::String(self.text.clone()),
            Kind::Number => serde_json::from_str(&self.text).unwrap_or(Value::Null),
            Kind::Flag => Value::Bool(self.text == "true"),
        }
    }
}

/// The attributes of some members, by member and name.
pub(super) async fn list(
    conn: &mut Conn,
    db: &Db,
    members: &[String],
) -> Result<BTreeMap<String, BTreeMap<String, Attribute>>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new("SELECT member_id, name, kind, value FROM member_attributes WHERE member_id IN (VALUES", 1, ")")
    });
    let mut found = BTreeMap::<String, BTreeMap<String, Attribute>>::new();
    for (text, rows) in SELECT.pieces(db, members) {
        let mut select = sqlx::query_as::<_, (String, String, String, String)>(text);
        for id in rows {
            select = select.bind(id);
        }
        for (member_id, name, kind, text) in select.fetch_all(&mut *conn).await? {
            found.entry(member_id).or_default().insert(name, Attribute { kind: Kind::of_word(&kind), text });
        }
    }
    Ok(found)
}

/// The attributes of members as JSON, for what is told of them.
pub async fn values(
    conn: &mut Conn,
    db: &Db,
    members: &[String],
) -> Result<BTreeMap<String, serde_json::Map<String, Value>>> {
    let found = list(conn, db, members).await?;
    let json = |attributes: BTreeMap<String, Attribute>| {
        attributes.into_iter().map(|(name, value)| (name, value.json())).collect()
    };
    Ok(found.into_iter().map(|(member_id, attributes)| (member_id, json(attributes))).collect())
}

/// What changes of some members' attributes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub new: Vec<(String, String, Attribute)>,
    pub other: Vec<(String, String, Attribute)>,
    pub gone: Vec<(String, String)>,
}

/// Writes what changes; the members are held.
pub(super) async fn write(conn: &mut Conn, db: &Db, changes: &Changes) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO member_attributes (member_id, name, kind, value)
             SELECT column1, column2, column3, column4 FROM (VALUES",
            4,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE member_attributes SET kind = v.column3, value = v.column4 FROM (VALUES",
            4,
            ") AS v WHERE member_attributes.member_id = v.column1 AND member_attributes.name = v.column2",
        )
    });
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM member_attributes WHERE (member_id, name) IN (VALUES", 2, ")"));
    for (rows, list) in [(&INSERT, &changes.new), (&UPDATE, &changes.other)] {
        for (text, rows) in LazyLock::force(rows).pieces(db, list) {
            let mut query = sqlx::query(text);
            for (member_id, name, value) in rows {
                query = query.bind(member_id).bind(name).bind(value.kind.word()).bind(&value.text);
            }
            query.execute(&mut *conn).await?;
        }
    }
    for (text, rows) in DELETE.pieces(db, &changes.gone) {
        let mut query = sqlx::query(text);
        for (member_id, name) in rows {
            query = query.bind(member_id).bind(name);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Takes all attributes from a member.
pub async fn erase(conn: &mut Conn, member_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM member_attributes WHERE member_id = $1").bind(member_id).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_what_templates_can_call() {
        let long = "a".repeat(50);
        for (name, fits) in [
            ("tier", true),
            ("a1_b", true),
            (&long, true),
            (&format!("{long}a"), false),
            ("", false),
            ("1a", false),
            ("_a", false),
            ("Tier", false),
            ("a.b", false),
            ("a-b", false),
            ("name", false),
            ("external_id", false),
            ("a\u{0}", false),
        ] {
            assert_eq!(is_name(name), fits, "{name:?}");
        }
    }

    #[test]
    fn values_come_back_as_they_were() {
        for (given, kept) in [
            (json!("gold"), json!("gold")),
            (json!("12"), json!("12")),
            (json!(12), json!(12)),
            (json!(12.0), json!(12)),
            (json!(-0.5), json!(-0.5)),
            (json!(1e3), json!(1000)),
            (json!(true), json!(true)),
            (json!("true"), json!("true")),
            (json!(""), json!("")),
        ] {
            assert_eq!(Attribute::of_json(&given).unwrap().json(), kept, "{given}");
        }
        for wrong in [json!(null), json!([]), json!({}), json!("a\nb"), json!("x".repeat(501)), json!(1e300)] {
            assert!(Attribute::of_json(&wrong).is_err(), "{wrong}");
        }
    }
}
