//! Components and boxes: what stands where.

use serde_json::Value;

use super::{
    Tap,
    css::{self, Style},
    html, kind, list, word,
};

/// What a component stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent<'a> {
    /// Header, hero, body or footer.
    Block,
    Box {
        layout: Layout,
        spacing: Option<&'a Value>,
        is_first: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Vertical,
    Horizontal,
    Baseline,
}

/// A drawing in the making.
pub(super) struct Draw<'a> {
    pub out: String,
    pub tap: &'a dyn Fn(&Value) -> Tap,
}

impl Draw<'_> {
    /// Lays what can be tapped over the element around.
    pub fn cover(&mut self, action: Option<&Value>) {
        if let Some(action) = action {
            self.out.push_str(&html::cover(action, &(self.tap)(action)));
        }
    }

    pub fn component(&mut self, value: &Value, parent: Parent<'_>) {
        match kind(value) {
            "box" => self.container(value, parent),
            "text" => self.text(value, parent),
            "button" => self.button(value, parent),
            "image" => self.image(value, parent),
            "video" => self.video(value),
            "icon" => self.icon(value, parent),
            "separator" => self.separator(value, parent),
            "filler" => {
                let mut style = Style::default();
                style.put("flex", format_args!("{} 1 0", flex(value).unwrap_or(1)));
                self.out.push_str(&format!("<div{}></div>", style.attribute()));
            }
            "spacer" => self.out.push_str("<div class=\"fx-spacer\"></div>"),
            other => self.out.push_str(&format!("<p class=\"fx-unknown\">[{}]</p>", html::escaped(other))),
        }
    }

    fn container(&mut self, value: &Value, parent: Parent<'_>) {
        let layout = match word(value, "layout") {
            "horizontal" => Layout::Horizontal,
            "baseline" => Layout::Baseline,
            _ => Layout::Vertical,
        };
        let mut style = place(value, parent, true);
        dress(&mut style, value);
        arrange(&mut style, value);
        let class = match layout {
            Layout::Vertical => "fx-box",
            Layout::Horizontal => "fx-box fx-row",
            Layout::Baseline => "fx-box fx-row fx-baseline",
        };
        self.out.push_str(&format!("<div class=\"{class}\"{}>", style.attribute()));
        self.cover(value.get("action"));
        for (number, part) in list(value, "contents").iter().enumerate() {
            let parent = Parent::Box { layout, spacing: value.get("spacing").map(|_| value), is_first: number == 0 };
            self.component(part, parent);
        }
        self.out.push_str("</div>");
    }

    fn separator(&mut self, value: &Value, parent: Parent<'_>) {
        let mut style = place(value, parent, false);
        style.colour("background-color", value, "color");
        self.out.push_str(&format!("<div class=\"fx-separator\" role=\"separator\"{}></div>", style.attribute()));
    }
}

/// Where a component stands in its box: its share of the room, its distance from the one before, its offset.
pub(super) fn place(value: &Value, parent: Parent<'_>, can_grow: bool) -> Style {
    let mut style = Style::default();
    let is_absolute = word(value, "position") == "absolute";
    if is_absolute {
        style.put("position", "absolute");
    }
    if let Parent::Box { layout, spacing, is_first } = parent {
        let is_row = layout != Layout::Vertical;
        // A box with a width of its own takes no share.
        let usual = u64::from(is_row && can_grow && value.get("width").is_none());
        match flex(value).filter(|_| can_grow).unwrap_or(usual) {
            0 => style.put("flex", "none"),
            share if is_row => style.put("flex", format_args!("{share} 1 0")),
            share => style.put("flex", format_args!("{share} 0 auto")),
        }
        let before = css::distance(value, "margin").or_else(|| css::distance(spacing?, "spacing"));
        if let Some(before) = before.filter(|_| !is_first && !is_absolute) {
            style.put(if is_row { "margin-inline-start" } else { "margin-top" }, before);
        }
    }
    for (name, property) in [
        ("offsetTop", "top"),
        ("offsetBottom", "bottom"),
        ("offsetStart", "inset-inline-start"),
        ("offsetEnd", "inset-inline-end"),
    ] {
        style.put_some(property, css::distance(value, name));
    }
    style
}

pub(super) fn flex(value: &Value) -> Option<u64> {
    value.get("flex").and_then(Value::as_u64).filter(|share| *share <= 1000)
}

/// Colours, borders and sizes of a box.
fn dress(style: &mut Style, value: &Value) {
    style.colour("background-color", value, "backgroundColor");
    style.put_some("background-image", css::gradient(value));
    let line = css::colour(word(value, "borderColor"));
    if let Some(width) = css::border(value).or(line.map(|_| css::Length::Pixels(1.0))) {
        style.put("border", format_args!("{width} solid {}", line.unwrap_or("transparent")));
    }
    if let Some(radius) = css::distance(value, "cornerRadius") {
        style.put("border-radius", radius);
        style.put("overflow", "hidden");
    }
    let plain: [(&str, &'static str); 4] =
        [("width", "width"), ("height", "height"), ("maxWidth", "max-width"), ("maxHeight", "max-height")];
    for (name, property) in plain {
        style.put_some(property, css::plain(value, name));
    }
    for (name, property) in [
        ("paddingAll", "padding"),
        ("paddingTop", "padding-top"),
        ("paddingBottom", "padding-bottom"),
        ("paddingStart", "padding-inline-start"),
        ("paddingEnd", "padding-inline-end"),
    ] {
        style.put_some(property, css::distance(value, name));
    }
}

/// How a box spreads what it holds.
fn arrange(style: &mut Style, value: &Value) {
    let known = ["flex-start", "center", "flex-end", "space-between", "space-around", "space-evenly"];
    style.put_some("justify-content", one_of(value, "justifyContent", &known));
    style.put_some("align-items", one_of(value, "alignItems", &known[..3]));
}

fn one_of<'k>(value: &Value, name: &str, known: &[&'k str]) -> Option<&'k str> {
    let asked = word(value, name);
    known.iter().copied().find(|word| *word == asked)
}

/// Where the content of a component stands in the room it is given, from top to bottom.
pub(super) fn gravity(value: &Value) -> &'static str {
    match word(value, "gravity") {
        "center" => "center",
        "bottom" => "flex-end",
        _ => "flex-start",
    }
}
