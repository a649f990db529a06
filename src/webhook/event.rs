//! An event as its handler sees it.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    db::Millis,
    hook_event::{Kind, person::Deed},
    line,
    message::answer::Reply,
};

/// How long a reply token is tried, counted from the arrival here: LINE takes it for about a minute.
const REPLY_LIFE: Duration = Duration::from_secs(50);

/// One event, with what its body and its row say of it.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub channel: String,
    /// The channel's provider.
    pub provider: String,
    /// LINE's time of it, which orders what is known of a person.
    pub at: Millis,
    /// LINE's type.
    pub kind: String,
    /// The event object as LINE wrote it.
    pub json: Value,
    pub received_at: Millis,
}

/// An object of the event, with these of its fields.
pub fn picked(event: &Event, name: &str, fields: &[&str]) -> Map<String, Value> {
    let object = event.json.get(name).and_then(Value::as_object);
    let kept = object.into_iter().flatten().filter(|(field, _)| fields.contains(&field.as_str()));
    let kept: Map<String, Value> = kept.map(|(field, value)| (field.clone(), value.clone())).collect();
    [(name.to_owned(), kept.into())].into_iter().collect()
}

impl Event {
    /// The person's id at LINE, where LINE says it.
    pub fn user_id(&self) -> Option<&str> {
        self.text("/source/userId").filter(|id| line::is_user_id(id))
    }

    /// LINE's id of the group or room, where it happened in one.
    pub fn group(&self) -> Option<(&'static str, &str)> {
        [("group", "/source/groupId"), ("room", "/source/roomId")]
            .into_iter()
            .find_map(|(kind, path)| Some((kind, self.text(path).filter(|id| line::is_chat_id(id))?)))
    }

    /// LINE's id of the chat it happened in.
    pub fn chat(&self) -> Option<&str> {
        self.group().map(|(_, id)| id).or_else(|| self.user_id())
    }

    /// Whether another system answers this chat: then nothing is said.
    pub fn is_standby(&self) -> bool {
        self.text("/mode") == Some("standby")
    }

    /// The permission to answer without cost.
    pub fn reply(&self) -> Option<Reply> {
        let token = self.text("/replyToken").filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
        Some(Reply { token: token.to_owned(), until: self.received_at.plus(REPLY_LIFE) })
    }

    /// What the company is told of it; `person` is who did it.
    pub fn deed<'a>(&'a self, kind: Kind, person: Option<&'a str>) -> Deed<'a> {
        Deed {
            kind,
            channel: &self.channel,
            event_id: &self.id,
            at: self.at,
            line_user_id: person,
            group: self.group(),
            is_standby: self.is_standby(),
        }
    }

    /// A text of the event, by its JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.json.pointer(pointer)?.as_str()
    }
}
