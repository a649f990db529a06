//! How many messages may be sent in a month, and how many were. LINE counts people, not message objects; replies are
//! free.

use secrecy::SecretString;
use serde::Deserialize;

use super::{Error, Line, http};

/// How many messages may be sent this month; what is sent by hand in LINE's manager counts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", content = "value")]
pub enum Quota {
    None,
    Limited(u64),
}

/// What was sent on one day, by one way of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Sent {
    Ready {
        success: u64,
    },
    /// Not counted yet; a day's counting takes about a day.
    Unready,
    /// Too few to be told.
    UnavailableForPrivacy,
    /// From before LINE counted.
    OutOfService,
}

/// The ways of sending that LINE counts by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Reply,
    Push,
    Multicast,
    Broadcast,
}

impl Line {
    pub async fn quota(&self, token: &SecretString) -> Result<Quota, Error> {
        http::send_ok(self.bot_get(token, "/v2/bot/message/quota"), http::SMALL).await?.json()
    }

    /// How many messages were sent this month, roughly.
    pub async fn consumption(&self, token: &SecretString) -> Result<u64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Consumption {
            total_usage: u64,
        }
        let request = self.bot_get(token, "/v2/bot/message/quota/consumption");
        Ok(http::send_ok(request, http::SMALL).await?.json::<Consumption>()?.total_usage)
    }

    /// How many messages were sent on `date` (yyyyMMdd, Japan's day).
    pub async fn sent_on(&self, token: &SecretString, counted: Counted, date: &str) -> Result<Sent, Error> {
        let path = match counted {
            Counted::Reply => "/v2/bot/message/delivery/reply",
            Counted::Push => "/v2/bot/message/delivery/push",
            Counted::Multicast => "/v2/bot/message/delivery/multicast",
            Counted::Broadcast => "/v2/bot/message/delivery/broadcast",
        };
        http::send_ok(self.bot_get(token, path).query(&[("date", date)]), http::SMALL).await?.json()
    }
}
