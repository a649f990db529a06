//! What a channel has at LINE, as far as its API tells.

use super::{Remote, Stop};
use crate::line::rich_menu::{Alias, DefaultMenu, Listed};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AtLine {
    pub menus: Vec<Listed>,
    pub aliases: Vec<Alias>,
    pub default: DefaultMenu,
}

impl AtLine {
    pub async fn read(remote: &Remote<'_>) -> Result<Self, Stop> {
        Ok(Self {
            menus: remote.call(|line, token| async move { line.list_rich_menus(&token).await }).await?,
            aliases: remote.call(|line, token| async move { line.list_rich_menu_aliases(&token).await }).await?,
            default: remote.call(|line, token| async move { line.default_rich_menu(&token).await }).await?,
        })
    }

    /// The name at LINE of a menu that it lists.
    pub fn name_of(&self, rich_menu_id: &str) -> Option<&str> {
        self.menus.iter().find(|menu| menu.rich_menu_id == rich_menu_id).map(|menu| menu.name.as_str())
    }
}
