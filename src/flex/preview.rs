//! A Flex message as HTML, for looking at: drawn as LINE draws it, as nearly as a page can.
//!
//! A message may come from anybody: what it says is escaped text, its colours, sizes and numbers are read and written
//! anew before they become CSS, its pictures and links are http or https, and nothing of it is a script. Styles are
//! inline attributes; the rest of the look is [`CSS`].

mod button;
mod component;
mod css;
mod html;
mod media;
mod text;

use serde_json::Value;

use self::{
    component::{Draw, Parent},
    css::Style,
};
pub use self::{css::colour, html::escaped};

/// The style sheet that the drawing needs.
pub const CSS: &str = include_str!("../../static/flex.css");

/// What a tap does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tap {
    Nothing,
    /// A web page opens.
    Open(String),
    /// The action goes back by the form `tap`; and in words what comes of it.
    Act {
        action: String,
        what: String,
    },
}

/// Draws the contents of a Flex message: a bubble, or a carousel of them. `tap` says what an action does.
pub fn draw(contents: &Value, tap: &dyn Fn(&Value) -> Tap) -> String {
    let mut draw = Draw { out: String::new(), tap };
    match kind(contents) {
        "carousel" => {
            draw.out.push_str("<div class=\"fx-carousel\" tabindex=\"0\" role=\"group\">");
            list(contents, "contents").iter().for_each(|one| bubble(&mut draw, one));
            draw.out.push_str("</div>");
        }
        _ => bubble(&mut draw, contents),
    }
    draw.out
}

/// Opens what `action` does, as an element that fills the one around it; `label` is what it is called.
pub fn cover(action: &Value, tap: &Tap) -> String {
    html::cover(action, tap)
}

/// A URL of the web, as it may stand in a page.
pub fn web_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.to_string())
}

fn bubble(draw: &mut Draw<'_>, bubble: &Value) {
    let sizes = ["nano", "micro", "deca", "hecto", "kilo", "mega", "giga"];
    let size = sizes.into_iter().find(|size| *size == word(bubble, "size")).unwrap_or("mega");
    let direction = if word(bubble, "direction") == "rtl" { "rtl" } else { "ltr" };
    draw.out.push_str(&format!("<div class=\"fx-bubble fx-{size}\" dir=\"{direction}\">"));
    draw.cover(bubble.get("action"));
    for name in ["header", "hero", "body", "footer"] {
        if let Some(content) = bubble.get(name) {
            block(draw, bubble, name, content);
        }
    }
    draw.out.push_str("</div>");
}

fn block(draw: &mut Draw<'_>, bubble: &Value, name: &str, content: &Value) {
    let mut style = Style::default();
    let asked = bubble.get("styles").and_then(|styles| styles.get(name)).unwrap_or(&Value::Null);
    style.colour("background-color", asked, "backgroundColor");
    if asked.get("separator") == Some(&Value::Bool(true)) && name != "header" {
        let line = css::colour(word(asked, "separatorColor")).unwrap_or("#d4d6da");
        style.put("border-top", format_args!("1px solid {line}"));
    }
    let separate = if bubble.get("footer").is_some() { " fx-before-footer" } else { "" };
    draw.out.push_str(&format!("<div class=\"fx-block fx-{name}{separate}\"{}>", style.attribute()));
    draw.component(content, Parent::Block);
    draw.out.push_str("</div>");
}

fn kind(value: &Value) -> &str {
    word(value, "type")
}

fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
