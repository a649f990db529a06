//! Tapping: a button of a message, a quick reply, an area of the rich menu; and the postback that may come of it.

use serde_json::{Map, Value, json};

use super::{Done, Refusal, Scene};
use crate::simulator::{rich_menu, state::State as Memory};

impl Scene<'_> {
    /// `label`, the `area` of the rich menu by its number, or the `action` itself.
    pub(super) fn tap(&self, state: &mut Memory) -> Result<Done, Refusal> {
        let action = self.tapped(state).ok_or_else(|| Refusal::bad("there is nothing like that to tap"))?;
        let mut done = self.perform(state, &action)?;
        done.more.insert("action".to_owned(), action);
        Ok(done)
    }

    fn tapped(&self, state: &Memory) -> Option<Value> {
        let menu = rich_menu::shown(state, &self.bot.channel_id, &self.person);
        let areas = menu.and_then(|menu| menu.get("areas")?.as_array());
        if let Some(area) = self.order.get("area") {
            let place = area.as_u64().or_else(|| area.as_str()?.parse().ok())?;
            return areas?.get(usize::try_from(place).ok()?)?.get("action").cloned();
        }
        match self.order.get("action") {
            // A form sends it as text.
            Some(Value::String(text)) => return serde_json::from_str(text).ok(),
            Some(action) => return Some(action.clone()),
            None => {}
        }
        let label = self.text("label")?;
        let chat = state.accounts.get(&self.bot.channel_id)?.chats.get(&self.person);
        let messages = chat.into_iter().flatten().rev().enumerate();
        // Quick replies are gone as soon as anything follows them.
        let mut found = messages.filter(|(_, message)| message.get("from").is_none()).filter_map(|(age, message)| {
            let mut actions = Vec::new();
            collect(message, age == 0, &mut actions);
            actions.into_iter().find(|action| has_label(action, label))
        });
        let in_menu = || areas?.iter().filter_map(|area| area.get("action")).find(|action| has_label(action, label));
        found.next().or_else(in_menu).cloned()
    }

    /// Does what the action says; a `uri` and a text to copy are given back.
    fn perform(&self, state: &mut Memory, action: &Value) -> Result<Done, Refusal> {
        let text = |name: &str| action.get(name).and_then(Value::as_str).unwrap_or_default();
        let back = |name: &str, value: &str| Done {
            event: None,
            more: Map::from_iter([(name.to_owned(), Value::from(value))]),
        };
        match text("type") {
            "postback" => self.postback(state, action),
            "message" => self.send_as(state, &json!({ "text": text("text") })),
            "uri" => Ok(back("uri", text("uri"))),
            "clipboard" => Ok(back("clipboard", text("clipboardText"))),
            "datetimepicker" => {
                let params = self.picked(action);
                self.postback(state, &json!({ "data": text("data"), "params": params }))
            }
            "richmenuswitch" => {
                let account = state.account(&self.bot.channel_id);
                let params = rich_menu::alias::switch(account, &self.person, text("richMenuAliasId"), self.now);
                self.postback(state, &json!({ "data": text("data"), "params": params }))
            }
            "location" => self.send_as(state, &json!({ "type": "location" })),
            "camera" | "cameraRoll" => self.send_as(state, &json!({ "type": "image" })),
            _ => Err(Refusal::bad("the action cannot be tapped")),
        }
    }

    /// What was picked: the order's `params` or `picked`, else where the picker begins.
    fn picked(&self, action: &Value) -> Value {
        if let Some(params) = self.order.get("params") {
            return params.clone();
        }
        let mode = action.get("mode").and_then(Value::as_str).unwrap_or("date");
        let now = match mode {
            "time" => "%H:%M",
            "datetime" => "%Y-%m-%dT%H:%M",
            _ => "%Y-%m-%d",
        };
        let initial = action.get("initial").and_then(Value::as_str).filter(|text| !text.is_empty());
        let picked = self.text("picked").filter(|text| !text.is_empty()).or(initial).map(str::to_owned);
        let now = || jiff::Timestamp::from_millisecond(self.now).map(|at| at.strftime(now).to_string());
        json!({ mode: picked.unwrap_or_else(|| now().unwrap_or_default()) })
    }

    /// The text that a postback shows is no message: the bot hears of the data only.
    pub(super) fn postback(&self, state: &mut Memory, order: &Value) -> Result<Done, Refusal> {
        let data = order.get("data").and_then(Value::as_str).ok_or_else(|| Refusal::bad("data is missing"))?;
        if let Some(shown) = order.get("displayText").and_then(Value::as_str).filter(|text| !text.is_empty()) {
            let shown = json!({ "from": "user", "type": "text", "text": shown });
            state.account(&self.bot.channel_id).chats.entry(self.person.clone()).or_default().push(shown);
        }
        let mut postback = Map::from_iter([("data".to_owned(), Value::from(data))]);
        postback.extend(order.get("params").map(|params| ("params".to_owned(), params.clone())));
        Ok(self.done(state, "postback", json!({ "postback": postback })))
    }
}

fn has_label(action: &Value, label: &str) -> bool {
    action.get("label").and_then(Value::as_str) == Some(label)
}

/// Every action in a message, in the order of its fields' names.
fn collect<'v>(value: &'v Value, quick: bool, actions: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| collect(one, quick, actions)),
        Value::Object(map) => {
            for (name, part) in map {
                match name.as_str() {
                    "quickReply" if !quick => {}
                    "action" | "defaultAction" => actions.push(part),
                    "actions" => actions.extend(part.as_array().into_iter().flatten()),
                    _ => collect(part, quick, actions),
                }
            }
        }
        _ => {}
    }
}
