//! Buttons.

use serde_json::Value;

use super::{
    Tap,
    component::{Draw, Parent, gravity, place},
    css::Style,
    html, word,
};

impl Draw<'_> {
    pub(super) fn button(&mut self, value: &Value, parent: Parent<'_>) {
        let mut room = place(value, parent, true);
        room.put("justify-content", gravity(value));
        let mut style = Style::default();
        let look = match word(value, "style") {
            "primary" => "fx-primary",
            "secondary" => "fx-secondary",
            _ => "fx-link",
        };
        style.colour(if look == "fx-link" { "color" } else { "background-color" }, value, "color");
        let height = if word(value, "height") == "sm" { " fx-low" } else { "" };
        let action = value.get("action").unwrap_or(&Value::Null);
        let tap = value.get("action").map_or(Tap::Nothing, |action| (self.tap)(action));
        let label = format!("<span>{}</span>", html::escaped(word(action, "label")));
        let class = format!("fx-button {look}{height}");
        self.out.push_str(&format!("<div class=\"fx-text\"{}>", room.attribute()));
        self.out.push_str(&html::tappable(&class, &style.attribute(), &tap, &label));
        self.out.push_str("</div>");
    }
}
