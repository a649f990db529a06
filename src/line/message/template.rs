//! Template messages: LINE's ready-made forms.

use serde::Serialize;

use super::Action;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Template {
    /// A picture, a title, a text, and one to four buttons.
    Buttons(Card),
    /// A question and two answers.
    Confirm { text: String, actions: [Action; 2] },
    /// Up to ten cards, each with as many buttons as the others, three at most.
    Carousel { columns: Vec<Card> },
    /// Up to ten pictures.
    ImageCarousel { columns: Vec<Picture> },
}

/// A form with buttons. With a title or a picture the text must be shorter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail_image_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub text: String,
    /// What a tap beside the buttons does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,
    pub actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    pub image_url: String,
    pub action: Action,
}

impl Template {
    pub fn buttons(text: impl Into<String>, actions: impl Into<Vec<Action>>) -> Self {
        Self::Buttons(Card { text: text.into(), actions: actions.into(), ..Card::default() })
    }

    pub fn confirm(text: impl Into<String>, actions: [Action; 2]) -> Self {
        Self::Confirm { text: text.into(), actions }
    }
}
