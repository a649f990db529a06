//! Imagemap messages: a picture with areas to tap. LINE fetches the picture in several widths, from `base_url/1040` and so on.

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imagemap {
    base_url: String,
    alt_text: String,
    base_size: Size,
    actions: Vec<Spot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Size {
    width: u32,
    height: u32,
}

/// An area, in pixels of the picture at its full width of 1040.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Area {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// What a tap on an area does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Spot {
    Uri { link_uri: String, area: Area },
    Message { text: String, area: Area },
    Clipboard { clipboard_text: String, area: Area },
}

impl Imagemap {
    /// A picture of width 1040 and this height.
    pub fn new(base_url: impl Into<String>, alt_text: impl Into<String>, height: u32, actions: Vec<Spot>) -> Self {
        let base_size = Size { width: 1040, height };
        Self { base_url: base_url.into(), alt_text: alt_text.into(), base_size, actions }
    }
}
