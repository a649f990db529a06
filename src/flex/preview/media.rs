//! Images, icons and videos.

use serde_json::Value;

use super::{
    component::{Draw, Parent, gravity, place},
    css::{self, Length},
    html, web_url, word,
};

impl Draw<'_> {
    pub(super) fn image(&mut self, value: &Value, parent: Parent<'_>) {
        let mut room = place(value, parent, true);
        room.put("justify-content", gravity(value));
        let align = match word(value, "align") {
            "start" => "flex-start",
            "end" => "flex-end",
            _ => "center",
        };
        room.put("align-items", align);
        let mut frame = css::Style::default();
        frame.put("width", css::image_size(value));
        let (width, height) = css::aspect(value, (1.0, 1.0));
        frame.put("aspect-ratio", format_args!("{width}/{height}"));
        frame.colour("background-color", value, "backgroundColor");
        let fit = if word(value, "aspectMode") == "cover" { "fx-cover-fit" } else { "fx-whole" };
        self.out.push_str(&format!("<div class=\"fx-image\"{}>", room.attribute()));
        self.cover(value.get("action"));
        self.out.push_str(&format!("<div class=\"fx-frame\"{}>", frame.attribute()));
        self.picture(fit, word(value, "url"));
        self.out.push_str("</div></div>");
    }

    pub(super) fn icon(&mut self, value: &Value, parent: Parent<'_>) {
        let mut style = place(value, parent, false);
        let (width, height) = css::aspect(value, (1.0, 1.0));
        let size = css::text_size(value).unwrap_or(Length::Pixels(16.0));
        style.put("height", size);
        style.put("aspect-ratio", format_args!("{width}/{height}"));
        self.out.push_str(&format!("<div class=\"fx-icon\"{}>", style.attribute()));
        self.picture("fx-whole", word(value, "url"));
        self.out.push_str("</div>");
    }

    pub(super) fn video(&mut self, value: &Value) {
        let (width, height) = css::aspect(value, (1.0, 1.0));
        let mut frame = css::Style::default();
        frame.put("aspect-ratio", format_args!("{width}/{height}"));
        let source = |name: &str, attribute: &str| {
            let url = web_url(word(value, name));
            url.map(|url| format!(" {attribute}=\"{}\"", html::escaped(&url))).unwrap_or_default()
        };
        self.out.push_str(&format!(
            "<video class=\"fx-video\" controls preload=\"none\" playsinline{}{}{}></video>",
            source("url", "src"),
            source("previewUrl", "poster"),
            frame.attribute()
        ));
        if let Some(action) = value.get("action") {
            let label = html::escaped(word(action, "label"));
            let tap = (self.tap)(action);
            self.out.push_str(&html::tappable("fx-button fx-link fx-low", "", &tap, &format!("<span>{label}</span>")));
        }
    }

    fn picture(&mut self, class: &str, url: &str) {
        if let Some(url) = web_url(url) {
            let url = html::escaped(&url);
            self.out.push_str(&format!("<img class=\"{class}\" src=\"{url}\" alt=\"\" loading=\"lazy\">"));
        }
    }
}
