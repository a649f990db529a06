//! One body on its way to a webhook: signed, sent with two seconds for everything, and noted with its answer.

use std::{
    io,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Client,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;

use crate::simulator::{Simulator, state::ChannelId, world::Bot};

/// Within this time the whole answer must be there.
const PATIENCE: Duration = Duration::from_secs(2);
const KEPT: usize = 2_000;
const SIGNATURE: HeaderName = HeaderName::from_static("x-line-signature");

/// A client that follows nothing and begins every webhook on a connection of its own.
pub(in crate::simulator) fn client() -> io::Result<Client> {
    #[expect(clippy::disallowed_methods, reason = "LINE's client is not ours")]
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .user_agent("LineBotWebhook/2.0")
        .build();
    client.map_err(io::Error::other)
}

/// A webhook that is not sent yet.
pub(super) struct Letter {
    pub channel: ChannelId,
    pub url: String,
    pub body: Vec<u8>,
    pub headers: HeaderMap,
    pub is_redelivery: bool,
}

/// A webhook and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(in crate::simulator) struct Sent {
    pub channel: ChannelId,
    pub url: String,
    pub body: String,
    pub signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// LINE's word for why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    pub took_ms: u64,
    /// Epoch milliseconds, by the simulator's clock.
    pub at: i64,
    pub is_redelivery: bool,
}

impl Letter {
    /// With the headers that LINE sends.
    pub fn signed(bot: &Bot, url: String, body: impl Into<Vec<u8>>, is_redelivery: bool) -> Self {
        let body = body.into();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
        if let Ok(signature) = HeaderValue::try_from(sign(&bot.secret, &body)) {
            headers.insert(SIGNATURE, signature);
        }
        Self { channel: bot.channel_id.clone(), url, body, headers, is_redelivery }
    }
}

impl Sent {
    pub fn arrived(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// The key is the secret's text; it is not decoded.
fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, body))
}

/// Sends, notes, and gives the answer. Who waits for it may hang up: it is sent nevertheless.
pub(super) async fn post(sim: &Simulator, letter: Letter) -> Sent {
    let (sim, noted) = (sim.clone(), blank(&letter, sim.now()));
    let mut failed = noted.clone();
    let sending = tokio::spawn(async move {
        let mut sent = noted;
        let started = Instant::now();
        match tokio::time::timeout(PATIENCE, exchange(sim.client(), letter)).await {
            Ok(Ok(status)) => sent.status = Some(status),
            Ok(Err(_)) => sent.error = Some("could_not_connect"),
            Err(_) => sent.error = Some("request_timeout"),
        }
        sent.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        note(&sim, sent.clone());
        sent
    });
    sending.await.unwrap_or_else(|_| {
        failed.error = Some("unclassified");
        failed
    })
}

fn blank(letter: &Letter, now: i64) -> Sent {
    let signature = letter.headers.get(SIGNATURE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Sent {
        channel: letter.channel.clone(),
        url: letter.url.clone(),
        body: String::from_utf8_lossy(&letter.body).into_owned(),
        signature,
        status: None,
        error: None,
        took_ms: 0,
        at: now,
        is_redelivery: letter.is_redelivery,
    }
}

async fn exchange(client: &Client, letter: Letter) -> reqwest::Result<u16> {
    let mut answer = client.post(&letter.url).headers(letter.headers).body(letter.body).send().await?;
    while answer.chunk().await?.is_some() {}
    Ok(answer.status().as_u16())
}

fn note(sim: &Simulator, sent: Sent) {
    let webhooks = &mut sim.state().webhooks;
    if webhooks.len() >= KEPT {
        webhooks.pop_front();
    }
    webhooks.push_back(sent);
}

#[cfg(test)]
mod tests {
    use super::sign;

    #[test]
    fn the_signature_of_lines_documents() {
        let body = br#"{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}"#;
        assert_eq!(sign("8c570fa6dd201bb328f1c1eac23a96d8", body), "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=");
    }
}
