//! Menus of many people in one request. LINE takes it (202) and does it a moment later; whoever is no friend is passed
//! over without a word. One id that is none refuses the whole request, and is named.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::super::{Error, Line, endpoint, http};

/// People in one request.
pub const AT_MOST: usize = 500;

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Ongoing,
    Succeeded,
    Failed,
}

impl Line {
    /// Gives people a menu of their own: [`AT_MOST`] at a time.
    pub async fn link_rich_menus(
        &self,
        token: &SecretString,
        user_ids: &[&str],
        rich_menu_id: &str,
    ) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/bulk/link");
        let body = json!({ "richMenuId": rich_menu_id, "userIds": user_ids });
        http::send_ok(self.http.post(&url).bearer_auth(token.expose_secret()).json(&body), http::SMALL)
            .await
            .map(|_| ())
    }

    /// Takes people's own menus away: [`AT_MOST`] at a time.
    pub async fn unlink_rich_menus(&self, token: &SecretString, user_ids: &[&str]) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/bulk/unlink");
        let body = json!({ "userIds": user_ids });
        http::send_ok(self.http.post(&url).bearer_auth(token.expose_secret()).json(&body), http::SMALL)
            .await
            .map(|_| ())
    }

    /// The menu of a person's own; none where they have none, or are no friend.
    pub async fn rich_menu_of(&self, token: &SecretString, user_id: &str) -> Result<Option<String>, Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/user/{user_id}/richmenu"));
        read_id(http::send(self.http.get(&url).bearer_auth(token.expose_secret()), http::SMALL).await?)
    }

    /// Moves everybody from one menu to another, also those who came to it by a tab; gives LINE's id of the request. The
    /// same `key` again resumes what is not done.
    pub async fn batch_rich_menus(
        &self,
        token: &SecretString,
        moves: &[(String, String)],
        key: &str,
    ) -> Result<String, Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/batch");
        let operations: Vec<_> =
            moves.iter().map(|(from, to)| json!({ "type": "link", "from": from, "to": to })).collect();
        let body = json!({ "operations": operations, "resumeRequestKey": key });
        let request = self.http.post(&url).bearer_auth(token.expose_secret()).json(&body);
        Ok(http::send_ok(request, http::SMALL).await?.request_id().to_owned())
    }

    /// How far a batch is, by LINE's id of its request.
    pub async fn rich_menu_batch(&self, token: &SecretString, request_id: &str) -> Result<Phase, Error> {
        #[derive(Deserialize)]
        struct Progress {
            phase: Phase,
        }
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/progress/batch");
        let request = self.http.get(&url).bearer_auth(token.expose_secret()).query(&[("requestId", request_id)]);
        Ok(http::send_ok(request, http::SMALL).await?.json::<Progress>()?.phase)
    }
}

fn read_id(answer: http::Answer) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        rich_menu_id: String,
    }
    match answer.status {
        200..300 => Ok(Some(answer.json::<Found>()?.rich_menu_id)),
        404 => Ok(None),
        _ => Err(answer.into_refusal()),
    }
}
