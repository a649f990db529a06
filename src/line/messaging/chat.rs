//! What a person sees of a bot at work.

use secrecy::SecretString;
use serde_json::json;

use super::{Error, Line, http};

impl Line {
    /// Shows in a person's chat that an answer is being made, for `seconds` (5 to 60, in fives) or until it comes.
    pub async fn start_loading(&self, token: &SecretString, user_id: &str, seconds: u8) -> Result<(), Error> {
        let body = json!({ "chatId": user_id, "loadingSeconds": seconds });
        let request = self.bot_post(token, "/v2/bot/chat/loading/start").json(&body);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// Marks as read the message that came with this token, and all before it in its chat. A token never ends.
    pub async fn mark_as_read(&self, token: &SecretString, mark_as_read_token: &str) -> Result<(), Error> {
        let body = json!({ "markAsReadToken": mark_as_read_token });
        let request = self.bot_post(token, "/v2/bot/chat/markAsRead").json(&body);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }
}
