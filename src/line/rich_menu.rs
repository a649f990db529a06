//! Rich menus through the Messaging API. Images go to the data host, everything else to the API host.
//!
//! A menu and its image can never be changed, only made anew; 100 menus an hour, 1,000 in all. An alias names a menu for
//! the taps that switch, and can be moved.

pub mod bulk;
mod check;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::check::check;
use super::{
    Error, Line, endpoint, http,
    messaging::validate::{Objection, objections},
};

/// A thousand menus, each as large as it can be.
const LONGEST_LIST: usize = 32 * 1024 * 1024;

/// A menu that was made through the API, as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub rich_menu_id: String,
    pub name: String,
}

/// A name by which the taps of other menus lead to a menu.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    pub rich_menu_alias_id: String,
    pub rich_menu_id: String,
}

/// What everybody sees who has no menu of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultMenu {
    /// None that was set through the API.
    None,
    Menu(String),
    /// One that this channel cannot see, as of LINE Official Account Manager.
    Foreign,
}

impl Line {
    /// What LINE finds wrong with a menu; nothing where it would make it.
    pub async fn validate_rich_menu(&self, token: &SecretString, menu: &Value) -> Result<Vec<Objection>, Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/validate");
        let request = self.http.post(&url).bearer_auth(token.expose_secret()).json(menu);
        objections(http::send(request, http::SMALL).await?)
    }

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
        content_type: &str,
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
        Ok(http::send_ok(request, LONGEST_LIST).await?.json::<List>()?.richmenus)
    }

    /// Deletes a menu; who had it sees the default one. One that is not there is as good as deleted.
    pub async fn delete_rich_menu(&self, token: &SecretString, rich_menu_id: &str) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/richmenu/{rich_menu_id}"));
        or_gone(http::send_ok(self.http.delete(&url).bearer_auth(token.expose_secret()), http::SMALL).await)
    }

    pub async fn list_rich_menu_aliases(&self, token: &SecretString) -> Result<Vec<Alias>, Error> {
        #[derive(Deserialize)]
        struct List {
            aliases: Vec<Alias>,
        }
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/alias/list");
        let request = self.http.get(&url).bearer_auth(token.expose_secret());
        Ok(http::send_ok(request, http::LARGE).await?.json::<List>()?.aliases)
    }

    /// Makes an alias of a menu that has its image. One that is there already is refused (400).
    pub async fn create_rich_menu_alias(
        &self,
        token: &SecretString,
        alias: &str,
        rich_menu_id: &str,
    ) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/richmenu/alias");
        let body = json!({ "richMenuAliasId": alias, "richMenuId": rich_menu_id });
        let request = self.http.post(&url).bearer_auth(token.expose_secret()).json(&body);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// Lets an alias name another menu.
    pub async fn move_rich_menu_alias(
        &self,
        token: &SecretString,
        alias: &str,
        rich_menu_id: &str,
    ) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/richmenu/alias/{alias}"));
        let request = self.http.post(&url).bearer_auth(token.expose_secret());
        http::send_ok(request.json(&json!({ "richMenuId": rich_menu_id })), http::SMALL).await.map(|_| ())
    }

    /// Deletes an alias; the menu stays. One that is not there is as good as deleted.
    pub async fn delete_rich_menu_alias(&self, token: &SecretString, alias: &str) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/richmenu/alias/{alias}"));
        or_gone(http::send_ok(self.http.delete(&url).bearer_auth(token.expose_secret()), http::SMALL).await)
    }

    pub async fn default_rich_menu(&self, token: &SecretString) -> Result<DefaultMenu, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Default {
            rich_menu_id: String,
        }
        let url = endpoint(&self.hosts.api, "/v2/bot/user/all/richmenu");
        let answer = http::send(self.http.get(&url).bearer_auth(token.expose_secret()), http::SMALL).await?;
        match answer.status {
            200..300 => Ok(DefaultMenu::Menu(answer.json::<Default>()?.rich_menu_id)),
            404 => Ok(DefaultMenu::None),
            _ => match answer.into_refusal() {
                Error::Refused { status: 403, message, .. } if message.contains("another channel") => {
                    Ok(DefaultMenu::Foreign)
                }
                refusal => Err(refusal),
            },
        }
    }

    /// Takes the default away; what LINE Official Account Manager set shows again.
    pub async fn clear_default_rich_menu(&self, token: &SecretString) -> Result<(), Error> {
        let url = endpoint(&self.hosts.api, "/v2/bot/user/all/richmenu");
        or_gone(http::send_ok(self.http.delete(&url).bearer_auth(token.expose_secret()), http::SMALL).await)
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

fn or_gone(answer: Result<http::Answer, Error>) -> Result<(), Error> {
    match answer {
        Ok(_) | Err(Error::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
