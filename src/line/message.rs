//! Message objects: what a person gets. Made by functions, or read from files as JSON; [`check`] tells what LINE would
//! not take.
//!
//! - here: a message, its sender, its quick replies; [`action`]: what a tap does
//! - [`text`]: emoji and mentions; [`template`], [`imagemap`]: messages with parts
//! - [`url`]: links into LINE and out of it
//!
//! A Flex message's contents are JSON: it is written as a file, not as code.

pub mod action;
pub mod check;
pub mod imagemap;
mod measure;
pub mod template;
pub mod text;
pub mod url;

use serde::Serialize;
use serde_json::Value;

pub use self::{
    action::Action,
    check::{Mistake, check},
    imagemap::Imagemap,
    measure::graphemes,
    template::Template,
    text::{Emoji, TextV2},
};

/// One message object. A request carries one to five.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    #[serde(flatten)]
    body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    quick_reply: Option<QuickReply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<Sender>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Body {
    Text {
        text: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        emojis: Vec<Emoji>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quote_token: Option<String>,
    },
    TextV2(TextV2),
    Sticker {
        package_id: String,
        sticker_id: String,
    },
    Image {
        original_content_url: String,
        preview_image_url: String,
    },
    Video {
        original_content_url: String,
        preview_image_url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracking_id: Option<String>,
    },
    Audio {
        original_content_url: String,
        duration: u64,
    },
    Location {
        title: String,
        address: String,
        latitude: f64,
        longitude: f64,
    },
    Imagemap(Imagemap),
    Template {
        alt_text: String,
        template: Box<Template>,
    },
    Flex {
        alt_text: String,
        contents: Value,
    },
    Coupon {
        coupon_id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct QuickReply {
    items: Vec<QuickReplyItem>,
}

/// A button above the keyboard, until something is said. Shown with the last message only, on phones only.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "action", rename_all = "camelCase")]
pub struct QuickReplyItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    action: Action,
}

/// Another name and picture than the account's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

impl Message {
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Body::Text { text: text.into(), emojis: Vec::new(), quote_token: None })
    }

    /// A text with LINE's own emoji, each in the place of a `$`.
    pub fn text_with_emoji(text: impl Into<String>, emojis: impl Into<Vec<Emoji>>) -> Self {
        Self::of(Body::Text { text: text.into(), emojis: emojis.into(), quote_token: None })
    }

    /// A text that quotes a message of the same chat.
    pub fn text_quoting(text: impl Into<String>, quote_token: impl Into<String>) -> Self {
        Self::of(Body::Text { text: text.into(), emojis: Vec::new(), quote_token: Some(quote_token.into()) })
    }

    pub fn sticker(package_id: impl Into<String>, sticker_id: impl Into<String>) -> Self {
        Self::of(Body::Sticker { package_id: package_id.into(), sticker_id: sticker_id.into() })
    }

    pub fn image(original_content_url: impl Into<String>, preview_image_url: impl Into<String>) -> Self {
        Self::of(Body::Image {
            original_content_url: original_content_url.into(),
            preview_image_url: preview_image_url.into(),
        })
    }

    /// A video; with a tracking id, LINE tells when it was watched to the end.
    pub fn video(
        original_content_url: impl Into<String>,
        preview_image_url: impl Into<String>,
        tracking_id: Option<String>,
    ) -> Self {
        Self::of(Body::Video {
            original_content_url: original_content_url.into(),
            preview_image_url: preview_image_url.into(),
            tracking_id,
        })
    }

    /// A sound of so many milliseconds.
    pub fn audio(original_content_url: impl Into<String>, duration: u64) -> Self {
        Self::of(Body::Audio { original_content_url: original_content_url.into(), duration })
    }

    pub fn location(title: impl Into<String>, address: impl Into<String>, latitude: f64, longitude: f64) -> Self {
        Self::of(Body::Location { title: title.into(), address: address.into(), latitude, longitude })
    }

    pub fn template(alt_text: impl Into<String>, template: Template) -> Self {
        Self::of(Body::Template { alt_text: alt_text.into(), template: Box::new(template) })
    }

    /// `contents`: a bubble or a carousel, as LINE's Flex Message Simulator writes it.
    pub fn flex(alt_text: impl Into<String>, contents: Value) -> Self {
        Self::of(Body::Flex { alt_text: alt_text.into(), contents })
    }

    pub fn coupon(coupon_id: impl Into<String>) -> Self {
        Self::of(Body::Coupon { coupon_id: coupon_id.into() })
    }

    #[must_use]
    pub fn quick_replies(mut self, items: impl IntoIterator<Item = QuickReplyItem>) -> Self {
        self.quick_reply = Some(QuickReply { items: items.into_iter().collect() });
        self
    }

    #[must_use]
    pub fn sent_by(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The message object as LINE takes it.
    pub fn to_json(&self) -> Value {
        // A map of texts, numbers and such cannot fail to become JSON.
        serde_json::to_value(self).unwrap_or_default()
    }

    fn of(body: Body) -> Self {
        Self { body, quick_reply: None, sender: None }
    }
}

impl From<TextV2> for Message {
    fn from(text: TextV2) -> Self {
        Self::of(Body::TextV2(text))
    }
}

impl From<Imagemap> for Message {
    fn from(imagemap: Imagemap) -> Self {
        Self::of(Body::Imagemap(imagemap))
    }
}

impl From<Action> for QuickReplyItem {
    fn from(action: Action) -> Self {
        Self { image_url: None, action }
    }
}

impl QuickReplyItem {
    #[must_use]
    pub fn with_picture(mut self, url: impl Into<String>) -> Self {
        self.image_url = Some(url.into());
        self
    }
}
