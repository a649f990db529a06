//! Texts and their spans.

use serde_json::Value;

use super::{
    component::{Draw, Parent, gravity, place},
    css::{self, Style},
    html, list, word,
};

/// More lines than a bubble has.
const MOST_LINES: u64 = 200;

impl Draw<'_> {
    pub(super) fn text(&mut self, value: &Value, parent: Parent<'_>) {
        let mut room = place(value, parent, true);
        room.put("justify-content", gravity(value));
        let mut style = letters(value);
        let align = match word(value, "align") {
            "center" => "center",
            "end" => "end",
            _ => "start",
        };
        style.put("text-align", align);
        if let Some(css::Length::Pixels(more)) = css::plain(value, "lineSpacing") {
            style.put("line-height", format_args!("calc(1.3em + {more}px)"));
        }
        let wraps = value.get("wrap") == Some(&Value::Bool(true));
        let lines =
            value.get("maxLines").and_then(Value::as_u64).filter(|lines| wraps && (1..=MOST_LINES).contains(lines));
        style.put_some("-webkit-line-clamp", lines);
        let class = match (wraps, lines) {
            (true, Some(_)) => "fx-lines",
            (true, None) => "fx-wrap",
            (false, _) => "fx-line",
        };
        self.out.push_str(&format!("<div class=\"fx-text\"{}>", room.attribute()));
        self.cover(value.get("action"));
        self.out.push_str(&format!("<p class=\"{class}\"{}>", style.attribute()));
        let spans = list(value, "contents");
        if spans.is_empty() {
            self.out.push_str(&html::escaped(word(value, "text")));
        }
        for span in spans {
            let text = html::escaped(word(span, "text"));
            self.out.push_str(&format!("<span{}>{text}</span>", letters(span).attribute()));
        }
        self.out.push_str("</p></div>");
    }
}

/// How letters look.
fn letters(value: &Value) -> Style {
    let mut style = Style::default();
    style.put_some("font-size", css::text_size(value));
    style.colour("color", value, "color");
    match word(value, "weight") {
        "bold" => style.put("font-weight", 700),
        "regular" => style.put("font-weight", 400),
        _ => {}
    }
    match word(value, "style") {
        "italic" => style.put("font-style", "italic"),
        "normal" => style.put("font-style", "normal"),
        _ => {}
    }
    match word(value, "decoration") {
        "underline" => style.put("text-decoration", "underline"),
        "line-through" => style.put("text-decoration", "line-through"),
        _ => {}
    }
    style
}
