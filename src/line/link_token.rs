//! Account link of the Messaging API: LINE's link token, and LINE's dialog that takes it.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{Error, Line, endpoint, http};

impl Line {
    /// A link token for this LINE user: it lives ten minutes and counts once.
    pub async fn link_token(&self, token: &SecretString, user_id: &str) -> Result<SecretString, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Reply {
            link_token: SecretString,
        }
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/user/{user_id}/linkToken"));
        let request = self.http.post(&url).bearer_auth(token.expose_secret());
        Ok(http::send_ok(request, http::SMALL).await?.json::<Reply>()?.link_token)
    }

    /// LINE's dialog: it checks that the browser's LINE user is the one whom the link token was made for.
    pub fn account_link_url(&self, link_token: &str, nonce: &str) -> Result<Url, Error> {
        let dialog = endpoint(&self.hosts.access, "/dialog/bot/accountLink");
        Url::parse_with_params(&dialog, [("linkToken", link_token), ("nonce", nonce)])
            .map_err(|error| Error::Client(error.to_string()))
    }
}
