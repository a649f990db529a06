//! Everything this LINE remembers, as plain structs: people, friendships, consents, tokens, chats, menus, retry keys.
//!
//! One lock guards all of it, so every call is atomic. A person is known inside by a random id and outside by one user
//! id per provider, derived from it: two providers can never recognise the same person by id.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    account_link::LinkToken,
    content::Content,
    fault::Fault,
    group::Group,
    ledger::{Arrival, Ledger},
    limit::Buckets,
    mailbox::Mail,
    message::{AcceptedRequest, Narrowcast, Quota, ReplyToken},
    rich_menu::{self, Alias, Batch, Pending},
    webhook::{Sent, Webhook},
    world::{Provider, World},
};

pub(super) type PersonId = String;
/// A channel id, of a bot or of a LINE Login channel.
pub(super) type ChannelId = String;
/// `C` and 32 hex digits.
pub(super) type GroupId = String;
/// A person or a group: whoever has a chat with an official account. No person's id begins with a `C` and is as long.
pub(super) type ChatId = String;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct State {
    /// The PKCS#8 form, in Base64, of the key that signs; its public half is in the JWKS.
    pub signing_key: Option<String>,
    /// Keys that signed before, and are in the JWKS still.
    pub former_signing_keys: Vec<String>,
    pub people: BTreeMap<PersonId, Person>,
    pub consents: BTreeMap<ChannelId, BTreeMap<PersonId, Consent>>,
    pub codes: BTreeMap<String, Code>,
    /// By refresh token.
    pub grants: BTreeMap<String, Grant>,
    /// By access token.
    pub access_tokens: BTreeMap<String, AccessToken>,
    /// By token.
    pub channel_tokens: BTreeMap<String, ChannelToken>,
    /// Public halves of assertion signing keys, as JWK, by their key id.
    pub assertion_keys: BTreeMap<ChannelId, BTreeMap<String, Value>>,
    pub accounts: BTreeMap<ChannelId, Account>,
    /// Every request whose messages reached somebody, oldest first.
    pub arrivals: Vec<Arrival>,
    pub logins: VecDeque<QueuedLogin>,
    pub faults: VecDeque<Fault>,
    pub last_message_id: u64,
    pub groups: BTreeMap<GroupId, Group>,
    /// Oldest first.
    pub mails: Vec<Mail>,
    #[serde(skip)]
    pub ledger: Ledger,
    /// Every webhook with its answer, oldest first.
    #[serde(skip)]
    pub webhooks: VecDeque<Sent>,
    /// The newest webhook event id, as a number.
    #[serde(skip)]
    pub last_event_id: u128,
    #[serde(skip)]
    pub buckets: Buckets,
    /// How long every answer of LINE's faces is held back.
    #[serde(skip)]
    pub latency_ms: u64,
    #[serde(skip)]
    index: HashMap<String, (PersonId, String)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Person {
    /// The order of creation.
    pub number: u64,
    pub display_name: String,
    pub email: Option<String>,
    pub language: Option<String>,
    pub picture_url: Option<String>,
}

/// What a person has allowed a LINE Login channel.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Consent {
    pub scopes: BTreeSet<String>,
    /// The address that was allowed, and when: a changed address or an old consent is asked for again.
    pub email: Option<(String, i64)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Code {
    pub person: PersonId,
    pub channel: ChannelId,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub nonce: Option<String>,
    pub challenge: Option<String>,
    pub issued_at: i64,
    /// Only when `max_age` was asked for; epoch seconds.
    pub auth_time: Option<i64>,
    pub amr: String,
    /// For a LIFF app: exchanged without a secret, for tokens of a LIFF app.
    #[serde(default)]
    pub is_liff: bool,
}

/// One sign-in's permission, of which access tokens are made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Grant {
    pub person: PersonId,
    pub channel: ChannelId,
    pub scopes: Vec<String>,
    pub expires_at: i64,
    pub revoked: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct AccessToken {
    pub refresh_token: String,
    pub expires_at: i64,
    pub revoked: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ChannelToken {
    pub channel: ChannelId,
    pub kind: ChannelTokenKind,
    /// Of a token v2.1.
    #[serde(default)]
    pub key_id: Option<String>,
    pub issued_at: i64,
    pub expires_at: i64,
    /// A token v2.1 that was taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChannelTokenKind {
    Stateless,
    #[serde(rename = "v2.1")]
    V21,
    ShortLived,
    LongLived,
}

/// What belongs to one official account.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Account {
    pub ties: BTreeMap<PersonId, Tie>,
    /// What the bot sent, as it was sent; what people sent has `from` and `id` besides.
    pub chats: BTreeMap<ChatId, Vec<Value>>,
    /// When a person last sent the account a message.
    pub spoke: BTreeMap<PersonId, i64>,
    /// Until when the loading animation is shown, if no message ends it.
    pub loading: BTreeMap<PersonId, i64>,
    pub webhook: Webhook,
    pub reply_tokens: BTreeMap<String, ReplyToken>,
    pub link_tokens: BTreeMap<String, LinkToken>,
    /// The message that each mark-as-read token names.
    pub read_tokens: BTreeMap<String, (ChatId, String)>,
    /// What people sent, by message id.
    pub contents: BTreeMap<String, Content>,
    pub menus: BTreeMap<String, Menu>,
    pub default_menu: Option<String>,
    /// Per-user menus.
    pub linked_menus: BTreeMap<PersonId, String>,
    /// By alias id.
    pub menu_aliases: BTreeMap<String, Alias>,
    /// Links that were accepted and are still to come.
    pub pending_menus: Vec<Pending>,
    /// By request id.
    pub menu_batches: BTreeMap<String, Batch>,
    /// After how many people the next of the pending fails.
    pub menus_fail_after: Option<usize>,
    /// The default menu is one of LINE Official Account Manager's, as far as none is set by the API.
    pub managers_menu: bool,
    pub retry_keys: BTreeMap<String, AcceptedRequest>,
    /// By request id.
    pub narrowcasts: BTreeMap<String, Narrowcast>,
    pub quota: Quota,
    /// LINE tells the followers' ids to verified and premium accounts only.
    pub is_unverified: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tie {
    Friend,
    Blocked,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Menu {
    /// The order of creation.
    pub number: u64,
    /// The object as LINE answers it, with `richMenuId`.
    pub object: Value,
    pub image: Option<MenuImage>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct MenuImage {
    pub content_type: String,
    pub base64: String,
}

/// What the next authorize request does without showing its page.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct QueuedLogin {
    pub person: PersonId,
    pub outcome: Outcome,
    pub add_friend: bool,
    pub email: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Consent,
    Deny,
    AutoLoginFailure,
}

/// The user id by which a provider knows a person.
pub(super) fn user_id(person: &str, provider: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{person}\0{provider}").as_bytes());
    format!("U{}", &hex(digest.as_ref())[..32])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `U` and 32 lower-case hex digits.
pub(super) fn is_user_id(text: &str) -> bool {
    text.strip_prefix('U')
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

impl State {
    /// Derives the user ids of everyone anew, after a load.
    pub fn reindex(&mut self, world: &World) {
        self.index.clear();
        let people: Vec<PersonId> = self.people.keys().cloned().collect();
        for person in people {
            self.index_person(world, &person);
        }
    }

    fn index_person(&mut self, world: &World, person: &str) {
        for provider in &world.providers {
            let id = user_id(person, &provider.name);
            self.index.insert(id, (person.to_owned(), provider.name.clone()));
        }
    }

    /// Adds a person, who is nobody's friend yet.
    pub fn add_person(&mut self, world: &World, mut person: Person) -> PersonId {
        let id = uuid::Uuid::new_v4().simple().to_string();
        person.number = self.people.len() as u64 + 1;
        self.people.insert(id.clone(), person);
        self.index_person(world, &id);
        id
    }

    /// Lets happen what was accepted earlier and is due by now.
    pub fn settle(&mut self, now: i64) {
        for account in self.accounts.values_mut() {
            rich_menu::settle(account, now);
        }
    }

    /// The people in order of creation.
    pub fn people_in_order(&self) -> Vec<(&PersonId, &Person)> {
        let mut people: Vec<_> = self.people.iter().collect();
        people.sort_by_key(|(_, person)| person.number);
        people
    }

    /// Whose user id this is, and of which provider.
    pub fn find(&self, user_id: &str) -> Option<(&PersonId, &str)> {
        self.index.get(user_id).map(|(person, provider)| (person, provider.as_str()))
    }

    /// Whose user id this is, if it is one of this provider's.
    pub fn find_in(&self, provider: &Provider, user_id: &str) -> Option<PersonId> {
        let (person, of) = self.find(user_id)?;
        (of == provider.name).then(|| person.clone())
    }

    pub fn tie(&self, bot: &str, person: &str) -> Option<Tie> {
        self.accounts.get(bot)?.ties.get(person).copied()
    }

    pub fn is_friend(&self, bot: &str, person: &str) -> bool {
        self.tie(bot, person) == Some(Tie::Friend)
    }

    pub fn account(&mut self, bot: &str) -> &mut Account {
        self.accounts.entry(bot.to_owned()).or_default()
    }

    /// Adds the official account as a friend, or unblocks it; gives what was before.
    pub fn follow(&mut self, bot: &str, person: &str) -> Option<Tie> {
        self.account(bot).ties.insert(person.to_owned(), Tie::Friend)
    }

    /// Blocks the official account. Whether a per-user menu outlives a block is undocumented: here it does not, which
    /// is the harder case for a caller. Gives what was before.
    pub fn block(&mut self, bot: &str, person: &str) -> Option<Tie> {
        let account = self.account(bot);
        account.linked_menus.remove(person);
        account.ties.insert(person.to_owned(), Tie::Blocked)
    }

    /// Ends what a person allowed a login channel: consent, refresh and access tokens, and codes not yet used.
    pub fn withdraw(&mut self, channel: &str, person: &str) {
        if let Some(consents) = self.consents.get_mut(channel) {
            consents.remove(person);
        }
        self.codes.retain(|_, code| code.channel != channel || code.person != person);
        for grant in self.grants.values_mut() {
            if grant.channel == channel && grant.person == person {
                grant.revoked = true;
            }
        }
    }

    /// The live access token with its grant.
    pub fn live(&self, access_token: &str, now: i64) -> Option<(&AccessToken, &Grant)> {
        let access = self.access_tokens.get(access_token)?;
        let grant = self.grants.get(&access.refresh_token)?;
        let live = !access.revoked && !grant.revoked && access.expires_at > now;
        live.then_some((access, grant))
    }

    /// A live channel access token.
    pub fn channel_token(&self, token: &str, now: i64) -> Option<&ChannelToken> {
        self.channel_tokens.get(token).filter(|token| token.expires_at > now)
    }

    /// The channel of a live channel access token.
    pub fn channel_of(&self, token: &str, now: i64) -> Option<&ChannelId> {
        self.channel_token(token, now).map(|token| &token.channel)
    }
}
