//! What an API key may do. It stands beside [`Who`](super::Who), so that every route can name it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($scope:ident $word:literal $what:literal;)+) => {
        /// Something that a key may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scope { $(#[serde(rename = $word)] $scope),+ }

        impl Scope {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$scope),+];

            pub fn word(self) -> &'static str {
                match self { $(Self::$scope => $word),+ }
            }

            /// What it allows, for the documentation.
            pub fn what(self) -> &'static str {
                match self { $(Self::$scope => $what),+ }
            }
        }
    };
}

scopes! {
    MembersRead "members:read" "look at members";
    MembersWrite "members:write" "add, change, disable and delete members";
    LinksRead "links:read" "look at members' links";
    LinksWrite "links:write" "end members' links";
    TicketsWrite "tickets:write" "make link tickets, revoke them, and redeem their results";
    MessagesRead "messages:read" "look at messages, their deliveries and the quota";
    MessagesWrite "messages:write" "send messages, and take them back";
    HooksRead "hooks:read" "look at the endpoints of hooks and their log";
    HooksWrite "hooks:write" "add, change and delete endpoints of hooks, and send again";
    EventsRead "events:read" "look at what LINE's webhooks brought";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|scope| scope.word() == text);
        found.copied().ok_or_else(|| format!("there is no scope {text:?}; there are: {}", known()))
    }
}
