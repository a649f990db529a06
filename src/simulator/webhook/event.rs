//! What all events have in common: id, time, mode, source, and the reply token of those that can be replied to.

use serde_json::{Map, Value, json};

use crate::simulator::{
    login::secret_text,
    state::{ChatId, ReplyToken, State as Memory},
    world::Bot,
};

const ULID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RANDOM_BITS: u32 = 80;

/// Events that carry a reply token; account links only when they succeed.
const REPLYABLE: [&str; 9] = [
    "message",
    "messageEdited",
    "follow",
    "join",
    "memberJoined",
    "postback",
    "videoPlayComplete",
    "beacon",
    "membership",
];

/// Where an event comes from, by the ids that the bot knows.
pub(in crate::simulator) enum Source<'a> {
    User { user_id: &'a str },
    Group { group_id: &'a str, user_id: Option<&'a str> },
}

/// An event before it has its id.
pub(in crate::simulator) struct Draft<'a> {
    pub kind: &'a str,
    pub source: Option<Source<'a>>,
    /// The chat that a reply goes to.
    pub chat: Option<ChatId>,
    pub standby: bool,
    /// What only this type of event has.
    pub fields: Value,
}

impl Draft<'_> {
    pub fn make(self, state: &mut Memory, bot: &Bot, now: i64) -> Value {
        let mut event = Map::new();
        event.insert("type".to_owned(), self.kind.into());
        event.insert("mode".to_owned(), if self.standby { "standby" } else { "active" }.into());
        event.insert("timestamp".to_owned(), now.into());
        event.insert("webhookEventId".to_owned(), event_id(state, now).into());
        event.insert("deliveryContext".to_owned(), json!({ "isRedelivery": false }));
        if let Some(source) = &self.source {
            event.insert("source".to_owned(), source.json());
        }
        let linked = self.kind == "accountLink" && self.fields.pointer("/link/result") == Some(&json!("ok"));
        let replyable = !self.standby && (linked || REPLYABLE.contains(&self.kind));
        if let Some(chat) = self.chat.filter(|_| replyable) {
            let token = secret_text();
            register(state, bot, &token, chat, now);
            event.insert("replyToken".to_owned(), token.into());
        }
        event.extend(self.fields.as_object().cloned().unwrap_or_default());
        Value::Object(event)
    }
}

/// Lets a token reply to a chat, once its webhook is sent.
pub(super) fn register(state: &mut Memory, bot: &Bot, token: &str, chat: ChatId, now: i64) {
    let known = ReplyToken { chat, event_at: now, sent_at: None, used: false };
    state.account(&bot.channel_id).reply_tokens.insert(token.to_owned(), known);
}

impl Source<'_> {
    fn json(&self) -> Value {
        match self {
            Self::User { user_id } => json!({ "type": "user", "userId": user_id }),
            Self::Group { group_id, user_id: None } => json!({ "type": "group", "groupId": group_id }),
            Self::Group { group_id, user_id: Some(user_id) } => {
                json!({ "type": "group", "groupId": group_id, "userId": user_id })
            }
        }
    }
}

/// A ULID: 48 bits of time, 80 random ones, in Crockford's Base32. Within one millisecond they count up.
fn event_id(state: &mut Memory, now: i64) -> String {
    let random = uuid::Uuid::new_v4().as_u128() & ((1 << RANDOM_BITS) - 1);
    let time = u128::from(now.unsigned_abs()) & ((1 << 48) - 1);
    let same = state.last_event_id >> RANDOM_BITS == time;
    let id = if same { state.last_event_id + 1 } else { time << RANDOM_BITS | random };
    state.last_event_id = id;
    let digit = |place: u32| ULID_DIGITS.get((id >> (place * 5) & 31) as usize).copied().unwrap_or(b'0');
    (0..26).rev().map(|place| char::from(digit(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Memory, event_id};

    #[test]
    fn ids_are_ordered_by_time() {
        let mut state = Memory::default();
        // The time in the example of the ULID specification.
        let ids = [1_469_918_176_385, 1_469_918_176_385, 1_469_918_176_386].map(|now| event_id(&mut state, now));
        assert!(ids.iter().all(|id| id.len() == 26));
        assert_eq!(&ids[0][..10], "01ARYZ6S41");
        assert!(ids.is_sorted());
        assert_ne!(ids[0], ids[1]);
    }
}
