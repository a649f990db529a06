//! What a bot is told: events, made and signed as LINE makes and signs them, and sent to the bot's webhook.
//!
//! An event whose body is not answered by a 2xx within two seconds is lost, unless redelivery is on: then it is sent
//! again, marked as such, a few times with growing pauses. Everything sent is kept with its answer for tests and for
//! the trace page. A channel can be told to hold its events, so that a test may send them in another order, together
//! in one body, or more than once.
//!
//! - `event`: the fields that all events have; `post`: one body on its way; `settings`: LINE's API about the webhook
//! - `control`: orders of tests

mod control;
mod event;
mod post;
mod settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Simulator,
    state::{ChannelId, State as Memory},
    world::Bot,
};
pub(super) use control::{routes as control_routes, told};
pub(super) use event::{Draft, Source};
use post::{Letter, post};
pub(super) use post::{Sent, client};
pub(super) use settings::routes as api_routes;

/// The pauses before redeliveries; LINE does not disclose its own. The first is longer than any test that redelivers
/// by order.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(180), Duration::from_secs(600), Duration::from_secs(1800)];

/// What an official account has set, and what is not yet told.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Webhook {
    pub endpoint: Option<String>,
    /// "Use webhook".
    pub active: bool,
    pub redelivery: bool,
    /// Events that wait for an order to release them.
    held: Option<Vec<Value>>,
    /// Bodies that got no 2xx and are sent again.
    open: Vec<Open>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Open {
    number: u64,
    events: Vec<Value>,
}

/// Tells a bot of an event, and waits for the end. Null where its webhook is off; held where that was ordered.
pub(super) async fn tell(sim: &Simulator, channel: &str, event: Value) -> Value {
    {
        let mut state = sim.state();
        let webhook = &mut state.account(channel).webhook;
        if let Some(held) = &mut webhook.held {
            held.push(event);
            return json!({ "held": true, "index": held.len() - 1 });
        }
    }
    deliver(sim, channel, vec![event]).await.map_or(Value::Null, |sent| json!(sent))
}

/// Sends events in one body to a webhook that is on, and sees to their redelivery.
async fn deliver(sim: &Simulator, channel: &str, events: Vec<Value>) -> Option<Sent> {
    let letter = prepare(sim, channel, &events, false)?;
    let sent = post(sim, letter).await;
    if !sent.arrived() {
        keep_open(sim, channel, events);
    }
    Some(sent)
}

/// The signed body; the reply tokens in it live from now.
fn prepare(sim: &Simulator, channel: &str, events: &[Value], is_redelivery: bool) -> Option<Letter> {
    let (_, bot) = sim.world().bot(channel)?;
    let mut state = sim.state();
    let webhook = &state.account(channel).webhook;
    let url = webhook.endpoint.clone().filter(|_| webhook.active)?;
    let body = body(bot, events, is_redelivery);
    start_tokens(&mut state, channel, &body, sim.now());
    Some(Letter::signed(bot, url, body.to_string(), is_redelivery))
}

fn body(bot: &Bot, events: &[Value], is_redelivery: bool) -> Value {
    let mut events = events.to_vec();
    for event in events.iter_mut().filter(|_| is_redelivery) {
        if let Some(event) = event.as_object_mut() {
            event.insert("deliveryContext".to_owned(), json!({ "isRedelivery": true }));
        }
    }
    json!({ "destination": bot.user_id, "events": events })
}

/// A reply token's minute begins when its webhook is sent.
fn start_tokens(state: &mut Memory, channel: &str, body: &Value, now: i64) {
    let tokens = &mut state.account(channel).reply_tokens;
    for event in body.get("events").and_then(Value::as_array).into_iter().flatten() {
        let token = event.get("replyToken").and_then(Value::as_str);
        if let Some(token) = token.and_then(|token| tokens.get_mut(token)) {
            token.sent_at = Some(now);
        }
    }
}

/// Keeps what got no 2xx for redelivery, if that is on.
fn keep_open(sim: &Simulator, channel: &str, events: Vec<Value>) {
    let mut state = sim.state();
    let webhook = &mut state.account(channel).webhook;
    if !webhook.redelivery || events.is_empty() {
        return;
    }
    let number = webhook.open.iter().map(|open| open.number + 1).max().unwrap_or(1);
    webhook.open.push(Open { number, events });
    drop(state);
    sim.changed();
    redeliver_later(sim, channel.to_owned(), number);
}

/// Goes on with what was open when the snapshot was written.
pub(super) fn resume(sim: &Simulator) {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let state = sim.state();
    let open: Vec<(ChannelId, u64)> = state
        .accounts
        .iter()
        .flat_map(|(channel, account)| account.webhook.open.iter().map(|open| (channel.clone(), open.number)))
        .collect();
    drop(state);
    for (channel, number) in open {
        redeliver_later(sim, channel, number);
    }
}

fn redeliver_later(sim: &Simulator, channel: ChannelId, number: u64) {
    // A simulator that nobody holds any more is not kept alive by what it still has to send.
    let sim = sim.downgrade();
    tokio::spawn(async move {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let Some(sim) = sim.upgrade() else { return };
            let Some(open) = take_open(&sim, &channel, Some(number)).pop() else { return };
            if redeliver(&sim, &channel, open).await.is_none_or(|sent| sent.arrived()) {
                return;
            }
        }
        if let Some(sim) = sim.upgrade() {
            take_open(&sim, &channel, Some(number));
        }
    });
}

/// Takes one open body, or all of them, so that nobody else sends it meanwhile.
fn take_open(sim: &Simulator, channel: &str, number: Option<u64>) -> Vec<Open> {
    let mut state = sim.state();
    let open = &mut state.account(channel).webhook.open;
    let (taken, left) = std::mem::take(open).into_iter().partition(|one| number.is_none_or(|n| n == one.number));
    *open = left;
    taken
}

/// Sends an open body again; it stays open until a 2xx.
async fn redeliver(sim: &Simulator, channel: &str, open: Open) -> Option<Sent> {
    let sent = match prepare(sim, channel, &open.events, true) {
        Some(letter) => Some(post(sim, letter).await),
        None => None,
    };
    if !sent.as_ref().is_some_and(Sent::arrived) {
        sim.state().account(channel).webhook.open.push(open);
    }
    sim.changed();
    sent
}
