//! Actions: what a tap on a button, a picture or a quick reply does.

use serde::Serialize;

/// One action. Where it stands decides how long its label may be, and whether it must have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Tells the bot `data`; the chat shows `display_text`, if any, as said by the person.
    Postback {
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        data: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        display_text: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        input_option: Option<InputOption>,
        /// With [`InputOption::OpenKeyboard`] only.
        #[serde(skip_serializing_if = "Option::is_none")]
        fill_in_text: Option<String>,
    },
    /// Says `text` in the person's name.
    Message {
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        text: String,
    },
    Uri {
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        uri: String,
    },
    /// Asks for a day, a time or both, and tells the bot.
    Datetimepicker {
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        data: String,
        mode: Picker,
        #[serde(skip_serializing_if = "Option::is_none")]
        initial: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        min: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<String>,
    },
    /// Quick replies only, as the two that follow.
    Camera {
        label: String,
    },
    #[serde(rename = "cameraRoll")]
    CameraRoll {
        label: String,
    },
    Location {
        label: String,
    },
    Clipboard {
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        clipboard_text: String,
    },
}

/// What a postback does to the person's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InputOption {
    CloseRichMenu,
    OpenRichMenu,
    OpenKeyboard,
    OpenVoice,
}

/// What is picked; its values are written `2026-01-31`, `09:30` and `2026-01-31T09:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Picker {
    Date,
    Time,
    Datetime,
}

impl Action {
    pub fn uri(label: impl Into<String>, uri: impl Into<String>) -> Self {
        Self::Uri { label: Some(label.into()), uri: uri.into() }
    }

    pub fn message(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Message { label: Some(label.into()), text: text.into() }
    }

    /// A postback that the chat does not show.
    pub fn postback(label: impl Into<String>, data: impl Into<String>) -> Self {
        Self::Postback {
            label: Some(label.into()),
            data: data.into(),
            display_text: None,
            input_option: None,
            fill_in_text: None,
        }
    }

    /// A postback that the chat shows as something the person said.
    pub fn postback_saying(label: impl Into<String>, data: impl Into<String>, said: impl Into<String>) -> Self {
        Self::Postback {
            label: Some(label.into()),
            data: data.into(),
            display_text: Some(said.into()),
            input_option: None,
            fill_in_text: None,
        }
    }

    pub fn pick(label: impl Into<String>, data: impl Into<String>, mode: Picker) -> Self {
        Self::Datetimepicker { label: Some(label.into()), data: data.into(), mode, initial: None, min: None, max: None }
    }

    pub fn copy(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Clipboard { label: Some(label.into()), clipboard_text: text.into() }
    }
}
