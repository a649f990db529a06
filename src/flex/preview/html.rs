//! Pieces of HTML.

use serde_json::Value;

use super::{Tap, word};

/// A text as it may stand in an element or a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing that HTML may hold.
            '\0' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// What an action is called.
fn label(action: &Value, tap: &Tap) -> String {
    let label = word(action, "label");
    match tap {
        _ if !label.is_empty() => label.to_owned(),
        Tap::Open(url) => url.clone(),
        Tap::Act { what, .. } => what.clone(),
        Tap::Nothing => String::new(),
    }
}

pub(super) fn cover(action: &Value, tap: &Tap) -> String {
    let label = label(action, tap);
    let inner = format!("<span class=\"fx-hidden\">{}</span>", escaped(&label));
    tappable("fx-cover", "", tap, &inner)
}

/// An element that does what `tap` says when it is pressed. `attributes` and `inner` are HTML already.
pub(super) fn tappable(class: &str, attributes: &str, tap: &Tap, inner: &str) -> String {
    match tap {
        Tap::Nothing if class == "fx-cover" => String::new(),
        Tap::Nothing => format!("<span class=\"{class}\"{attributes}>{inner}</span>"),
        Tap::Open(url) => {
            let url = escaped(url);
            format!("<a class=\"{class}\" href=\"{url}\" title=\"{url}\"{attributes}>{inner}</a>")
        }
        Tap::Act { action, what } => format!(
            "<button class=\"{class}\" form=\"tap\" name=\"action\" value=\"{}\" title=\"{}\"{attributes}>{inner}</button>",
            escaped(action),
            escaped(what)
        ),
    }
}
