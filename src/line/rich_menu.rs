//! Rich menus through the Messaging API. Images go to the data host, everything else to the API host.
//!
//! A menu and its image can never be changed, only made anew; 100 menus an hour, 1,000 in all.

pub mod bulk;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Line, endpoint, http};

/// A menu that was made through the API, as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub rich_menu_id: String,
    pub name: String,
}

impl Line {
    /// Makes a menu of `menu`, LINE's rich menu object, and returns its id. It shows once it has an image.
    pub async fn create_rich_menu(&self, token: &SecretString, menu: &Value) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Created {
            rich_menu_id: String,
        }
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu");
        let request = self.http.post(&url).bearer_auth(token.expose_secret()).json(menu);
        Ok(http::send_ok(request, http::SMALL).await?.json::<Created>()?.rich_menu_id)
    }

    /// Gives a menu its image. A second image is refused (400).
    pub async fn upload_rich_menu_image(
        &self,
        token: &SecretString,
        rich_menu_id: &str,
        content_type: &'static str,
        image: Vec<u8>,
    ) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api_data, &format!("/v2/bot/richmenu/{rich_menu_id}/content"));
        let request = self.http.post(&url).bearer_auth(token.expose_secret()).header("content-type", content_type);
        http::send_ok(request.body(image), http::SMALL).await.map(|_| ())
    }

    /// All menus made through the API.
    pub async fn list_rich_menus(&self, token: &SecretString) -> Result<Vec<Listed>, Error> {
        #[derive(Deserialize)]
        struct List {
            richmenus: Vec<Listed>,
        }
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/list");
        let request = self.http.get(&url).bearer_auth(token.expose_secret());
        Ok(http::send_ok(request, http::LARGE).await?.json::<List>()?.richmenus)
    }

    /// Makes a menu the one that is seen by everybody without a menu of their own.
    pub async fn set_default_rich_menu(&self, token: &SecretString, rich_menu_id: &str) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/user/all/richmenu/{rich_menu_id}"));
        http::send_ok(self.http.post(&url).bearer_auth(token.expose_secret()), http::SMALL).await.map(|_| ())
    }

    /// Gives one person a menu of their own. Without effect, and no error, where they are not a friend.
    pub async fn link_rich_menu(&self, token: &SecretString, user_id: &str, rich_menu_id: &str) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/user/{user_id}/richmenu/{rich_menu_id}"));
        http::send_ok(self.http.post(&url).bearer_auth(token.expose_secret()), http::SMALL).await.map(|_| ())
    }

    /// Takes a person's own menu away; they see the default one.
    pub async fn unlink_rich_menu(&self, token: &SecretString, user_id: &str) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/user/{user_id}/richmenu"));
        http::send_ok(self.http.delete(&url).bearer_auth(token.expose_secret()), http::SMALL).await.map(|_| ())
    }
}
