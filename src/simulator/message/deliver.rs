//! Messages into chats, with a record of each arrival.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::simulator::{
    ledger::Arrival,
    login::secret_text,
    state::{ChatId, State as Memory},
    world::Bot,
};

/// A chat shows no more than this; older messages make room.
const KEPT_IN_A_CHAT: usize = 2000;

/// The ways of sending.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::simulator) enum Kind {
    Reply,
    Push,
    Multicast,
    Narrowcast,
    Broadcast,
}

/// One accepted request.
pub(super) struct Sending<'a> {
    pub kind: Kind,
    pub request_id: &'a str,
    pub retry_key: Option<&'a str>,
    /// The messages' ids, where the caller is told them.
    pub ids: Vec<String>,
    pub messages: &'a [Value],
}

impl Sending<'_> {
    /// Puts the messages into the chats of all whom they reach; they end the loading animation.
    pub fn deliver(self, state: &mut Memory, bot: &Bot, to: Vec<(ChatId, String)>, now: i64) {
        if to.is_empty() {
            return;
        }
        let account = state.account(&bot.channel_id);
        for (chat, _) in &to {
            account.loading.remove(chat);
            let shown = match account.chats.get_mut(chat) {
                Some(shown) => shown,
                None => account.chats.entry(chat.clone()).or_default(),
            };
            shown.extend_from_slice(self.messages);
            let older = shown.len().saturating_sub(KEPT_IN_A_CHAT);
            shown.drain(..older);
        }
        state.arrivals.push(Arrival {
            at: now,
            channel: bot.channel_id.clone(),
            kind: self.kind,
            request_id: self.request_id.to_owned(),
            retry_key: self.retry_key.map(str::to_owned),
            to: to.into_iter().map(|(_, id)| id).collect(),
            messages: self.messages.len(),
            message_ids: self.ids,
            content: content(self.messages),
        });
    }
}

/// A number that equal messages share.
fn content(messages: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for message in messages {
        message.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

/// An id for each message, and `sentMessages`: with a quote token where the type can be quoted.
pub(super) fn sent_messages(state: &mut Memory, messages: &[Value]) -> (Vec<String>, Value) {
    let quotable = ["text", "textV2", "sticker", "image", "video", "template", "flex"];
    let mut ids = Vec::with_capacity(messages.len());
    let sent = messages.iter().map(|message| {
        let id = state.message_id();
        let mut sent = json!({ "id": id });
        ids.push(id);
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if quotable.contains(&kind) {
            sent["quoteToken"] = secret_text().into();
        }
        sent
    });
    let sent = sent.collect();
    (ids, sent)
}
