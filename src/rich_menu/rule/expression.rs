//! An expression over what is known of a person, in minijinja's language.
//!
//! | name | is |
//! |---|---|
//! | `linked` | true where an active link leads to a member who is not disabled |
//! | `friend` | true where LINE said that they are a friend; false where not, or where it is not known |
//! | `member.NAME` | an attribute of the linked member: a text, a number, or true or false |
//! | `member.tags` | the list of the linked member's tags, as in `'vip' in member.tags` |
//! | `user.language` | the member's language, else LINE's, else the company's |
//!
//! An attribute that a member does not have is undefined: `==`, `<`, `<=`, `>` and `>=` are false with it, as they are
//! between a text and a number. minijinja orders values of different kinds instead, and would call a missing number the
//! smallest; so its four signs of order are made calls of [`ordered`]. Another name is a mistake of the file.

use std::{cmp::Ordering, collections::BTreeSet, fmt, sync::LazyLock};

use minijinja::{Environment, Value, value::ValueKind};

use super::super::fact::Facts;
use crate::member::attribute;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.add_function("is_lt", |a: &Value, b: &Value| is_ordered(a, b, Ordering::is_lt));
    environment.add_function("is_le", |a: &Value, b: &Value| is_ordered(a, b, Ordering::is_le));
    environment.add_function("is_gt", |a: &Value, b: &Value| is_ordered(a, b, Ordering::is_gt));
    environment.add_function("is_ge", |a: &Value, b: &Value| is_ordered(a, b, Ordering::is_ge));
    environment
});

/// One that was read and looks right.
pub(in super::super) struct Expression {
    compiled: minijinja::Expression<'static, 'static>,
    attributes: BTreeSet<String>,
    asks_tags: bool,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

impl Expression {
    /// Reads one; says in words what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::read_plain(text).map_err(|why| format!("{text:?} is not a rule: {why}"))
    }

    fn read_plain(text: &str) -> Result<Self, String> {
        let told = |error: minijinja::Error| error.to_string();
        let plain = ENVIRONMENT.compile_expression(text).map_err(told)?;
        let mut attributes = BTreeSet::new();
        let mut asks_tags = false;
        for name in plain.undeclared_variables(true) {
            match name.split_once('.') {
                None if name == "linked" || name == "friend" => {}
                Some(("user", "language")) => {}
                Some(("member", "tags")) => asks_tags = true,
                Some(("member", attribute)) if attribute::is_name(attribute) => {
                    attributes.insert(attribute.to_owned());
                }
                _ => return Err(unknown(&name)),
            }
        }
        let compiled = ENVIRONMENT.compile_expression_owned(ordered(text)?).map_err(told)?;
        let expression = Self { compiled, attributes, asks_tags };
        // What fails for a member of whom nothing is said would fail in silence later.
        for facts in [Facts::nobody(), Facts { linked: true, ..Facts::nobody() }] {
            expression.holds(&facts).map_err(|error| {
                format!(
                    "it cannot be worked out for somebody without these attributes (ask `is defined` first): {error}"
                )
            })?;
        }
        Ok(expression)
    }

    /// Whether it holds for a person; fails where it cannot be worked out for them.
    pub fn holds(&self, facts: &Facts) -> Result<bool, String> {
        let value = self.compiled.eval(facts.value()).map_err(|error| error.to_string())?;
        Ok(value.is_true())
    }

    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(String::as_str)
    }

    pub fn asks_member(&self) -> bool {
        self.asks_tags || !self.attributes.is_empty()
    }
}

fn unknown(name: &str) -> String {
    match name.split_once('.') {
        Some(("member", attribute)) => format!("member.{attribute} cannot be the name of an attribute"),
        None if name == "member" => "write member.NAME, or member.tags".to_owned(),
        _ => format!("{name} is not known; there are linked, friend, member.NAME, member.tags and user.language"),
    }
}

/// Two numbers, or two texts; nothing else has an order.
fn is_ordered(a: &Value, b: &Value, holds: fn(Ordering) -> bool) -> bool {
    let has_order = a.kind() == b.kind() && matches!(a.kind(), ValueKind::Number | ValueKind::String);
    has_order && holds(a.cmp(b))
}

/// A piece of an expression, as far as operands are found by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    /// A sign of order: its call.
    Order(&'static str),
    /// `==` or `!=`.
    Equal,
    /// Ends an operand.
    Stop,
    Other,
}

/// The text with `a < b` written as `is_lt((a), (b))`.
fn ordered(text: &str) -> Result<String, String> {
    let tokens = tokens(text);
    let mut pieces: Vec<(usize, &str)> = Vec::new();
    for (place, (start, end, token)) in tokens.iter().enumerate() {
        let Token::Order(call) = token else { continue };
        let left = tokens[..place].iter().rev().map(|(start, _, token)| (*start, *token));
        let right = tokens[place + 1..].iter().map(|(_, end, token)| (*end, *token));
        let left =
            operand(left, Token::Close, Token::Open).ok_or("compares more than two values at a time; use `and`")?;
        let right =
            operand(right, Token::Open, Token::Close).ok_or("compares more than two values at a time; use `and`")?;
        pieces.extend([(left.unwrap_or(*start), *call), (*start, ", "), (right.unwrap_or(*end), ")")]);
    }
    pieces.sort_by_key(|(place, _)| *place);
    let signs: BTreeSet<(usize, usize)> = tokens
        .iter()
        .filter(|(_, _, token)| matches!(token, Token::Order(_)))
        .map(|(start, end, _)| (*start, *end))
        .collect();
    let mut written = String::new();
    let mut from = 0;
    for (place, piece) in pieces {
        written.push_str(&text[from..place]);
        written.push_str(piece);
        from = signs.iter().find(|(start, _)| piece == ", " && *start == place).map_or(place, |(_, end)| *end);
    }
    written.push_str(&text[from..]);
    Ok(written)
}

/// Where an operand ends, seen from its operator; none inside where there is nothing, none at all where another comparison
/// stands beside it.
fn operand(tokens: impl Iterator<Item = (usize, Token)>, deeper: Token, higher: Token) -> Option<Option<usize>> {
    let (mut depth, mut end) = (0_usize, None);
    for (place, token) in tokens {
        match token {
            Token::Order(_) | Token::Equal if depth == 0 => return None,
            Token::Stop if depth == 0 => break,
            token if token == deeper => depth += 1,
            token if token == higher => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => break,
            },
            _ => {}
        }
        end = Some(place);
    }
    Some(end)
}

/// The pieces of an expression, each with its place.
fn tokens(text: &str) -> Vec<(usize, usize, Token)> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte >= 0x80;
        let token = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                Token::Other
            }
            b'(' | b'[' | b'{' => Token::Open,
            b')' | b']' | b'}' => Token::Close,
            b',' | b':' => Token::Stop,
            byte if is_word(byte) => {
                while at + 1 < bytes.len() && is_word(bytes[at + 1]) {
                    at += 1;
                }
                match &text[start..=at] {
                    "and" | "or" | "not" | "in" | "is" | "if" | "else" => Token::Stop,
                    _ => Token::Other,
                }
            }
            sign => {
                let is_double = bytes.get(at + 1) == Some(&b'=');
                at += usize::from(is_double);
                match (sign, is_double) {
                    (b'<', false) => Token::Order("is_lt("),
                    (b'<', true) => Token::Order("is_le("),
                    (b'>', false) => Token::Order("is_gt("),
                    (b'>', true) => Token::Order("is_ge("),
                    (b'=' | b'!', true) => Token::Equal,
                    _ => Token::Other,
                }
            }
        };
        at = (at + 1).min(bytes.len());
        tokens.push((start, at, token));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::line_user::Friend;

    fn member(attributes: &serde_json::Value, tags: &[&str]) -> Facts {
        Facts {
            linked: true,
            friend: Friend::Yes,
            language: "ja".to_owned(),
            attributes: attributes.as_object().unwrap().clone(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    #[test]
    fn rules_over_a_person() {
        let gold = member(&json!({ "tier": "gold", "points": 120, "vip": true }), &["vip", "tokyo"]);
        let plain = member(&json!({}), &[]);
        let odd = member(&json!({ "tier": 3, "points": "120" }), &[]);
        let stranger = Facts::nobody();
        for (when, expected) in [
            ("linked", [true, true, true, false]),
            ("not linked", [false, false, false, true]),
            ("friend", [true, true, true, false]),
            ("true", [true; 4]),
            ("linked and not linked", [false; 4]),
            ("linked and member.tier == 'gold'", [true, false, false, false]),
            ("member.tier != 'gold'", [false, true, true, true]),
            ("member.tier in ['gold', 'silver']", [true, false, false, false]),
            ("member.points >= 100", [true, false, false, false]),
            ("member.points < 100", [false; 4]),
            ("100 <= member.points", [true, false, false, false]),
            ("100 > member.points", [false; 4]),
            ("member.points < 100 or linked", [true, true, true, false]),
            ("not (member.points > 100)", [false, true, true, true]),
            ("not member.points > 100", [false, true, true, true]),
            ("member.points > 10 and (member.points < 200 or friend)", [true, false, false, false]),
            ("member.points + 1 > 10 if member.points is number else false", [true, false, false, false]),
            ("member.tier is undefined or member.tier < 'h'", [true, true, false, true]),
            ("member.points is defined", [true, false, true, false]),
            ("member.vip", [true, false, false, false]),
            ("member.tier == '<' or member.tags == ['a, b > c']", [false; 4]),
            ("'vip' in member.tags", [true, false, false, false]),
            ("member.tags | length > 1", [true, false, false, false]),
            ("user.language == 'ja'", [true, true, true, false]),
        ] {
            let rule = Expression::read(when).unwrap_or_else(|why| panic!("{when}: {why}"));
            let holds = [&gold, &plain, &odd, &stranger].map(|facts| rule.holds(facts).unwrap());
            assert_eq!(holds, expected, "{when}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (when, why) in [
            ("", "is not a rule"),
            ("linkd", "linkd is not known"),
            ("not linkd", "linkd is not known"),
            ("linked and", "is not a rule"),
            ("linked linked", "is not a rule"),
            ("member", "write member.NAME"),
            ("member.Tier == 1", "cannot be the name of an attribute"),
            ("member.email == 'a'", "cannot be the name of an attribute"),
            ("user.name == 'a'", "user.name is not known"),
            ("range(3)", "range is not known"),
            ("1 < member.points < 3", "more than two values"),
            ("member.points < 3 == true", "more than two values"),
            ("member.points + 1 > 10", "ask `is defined` first"),
        ] {
            let told = Expression::read(when).unwrap_err();
            assert!(told.contains(why), "{when:?}: {told}");
        }
    }

    #[test]
    fn signs_of_order_become_calls() {
        for (text, expected) in [
            ("linked", "linked"),
            ("a<b", "is_lt(a, b)"),
            ("x and a.b >= 1 or y", "x and is_ge(a.b , 1) or y"),
            ("(a < b) and c[d > e]", "(is_lt(a , b)) and c[is_gt(d , e)]"),
            ("'<' == \"\\\"<\" and a <= '>'", "'<' == \"\\\"<\" and is_le(a , '>')"),
            ("f(a < 1, b)|g > 2", "is_gt(f(is_lt(a , 1), b)|g , 2)"),
        ] {
            assert_eq!(ordered(text).unwrap().replace(",  ", ", "), expected, "{text}");
        }
    }
}
