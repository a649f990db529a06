//! `[member.oidc]`: the company's own OpenID provider, at which its members sign in.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::check::{check_https, is_example};

/// Claims that a person chooses, or that name a mailbox: none of them may say which member somebody is.
const CHOSEN: [&str; 10] = [
    "email",
    "name",
    "nickname",
    "preferred_username",
    "given_name",
    "family_name",
    "phone_number",
    "profile",
    "picture",
    "website",
];
/// What templates know of a member besides.
const RESERVED: [&str; 9] =
    ["id", "external_id", "name", "email", "language", "time_zone", "tags", "linked", "attributes"];
const LONGEST_NAME: usize = 50;
const MOST_ATTRIBUTES: usize = 50;
const LONGEST_LABEL: usize = 40;

/// How members prove themselves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Member {
    pub oidc: Option<Oidc>,
}

/// Our registration with the company's provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Just as the provider says it, byte by byte.
    pub issuer: String,
    #[serde(deserialize_with = "super::load::text_or_number")]
    pub client_id: String,
    /// None of a public client.
    pub client_secret: Option<SecretString>,
    /// What the button calls it, such as `Example ID`.
    pub label: String,
    #[serde(default = "default_scopes")]
    pub scopes: String,
    /// The claim that is the company's own id of a member.
    #[serde(default = "default_external_id")]
    pub external_id: String,
    /// Attributes of a member, each with the claim that it is.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Whether somebody whom we do not know yet becomes a member.
    #[serde(default = "yes")]
    pub create: bool,
    /// Whether passwords of ours are taken beside.
    #[serde(default = "yes")]
    pub passwords: bool,
    /// Whether who is inside of LINE is led into the browser of their own: the provider refuses those inside of apps.
    #[serde(default)]
    pub external_browser: bool,
}

impl Oidc {
    pub(super) fn check(&self, mistakes: &mut Vec<String>) {
        let mut wrong = |name: &str, what: &str| mistakes.push(format!("member.oidc.{name}: {what}"));
        let is_text =
            |text: &str, most| (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if !is_text(self.client_id.trim(), 255) {
            wrong("client_id", "must be the client id that the provider gave");
        }
        if !is_text(self.label.trim(), LONGEST_LABEL) {
            wrong("label", "must be what your members call it, in 1 to 40 characters");
        }
        let scopes: Vec<&str> = self.scopes.split(' ').collect();
        let is_scope = |scope: &&str| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if !scopes.contains(&"openid") || !scopes.iter().all(is_scope) {
            wrong("scopes", "must be scopes with one space between, openid among them");
        }
        if !is_text(&self.external_id, 100) {
            wrong("external_id", "must be the name of a claim, such as sub");
        } else if CHOSEN.contains(&self.external_id.as_str()) {
            wrong("external_id", "must be an id that never changes hands; people choose or change this one");
        }
        if self.attributes.len() > MOST_ATTRIBUTES {
            wrong("attributes", &format!("must be {MOST_ATTRIBUTES} at most"));
        }
        for (name, claim) in &self.attributes {
            if !is_attribute(name) {
                wrong(
                    &format!("attributes.{name}"),
                    "is no name: [a-z][a-z0-9_]{0,49}, and none that a member has anyway",
                );
            } else if !is_text(claim, 100) {
                wrong(&format!("attributes.{name}"), "must be the name of a claim");
            }
        }
        if self.client_secret.as_ref().is_some_and(is_example) {
            wrong(
                "client_secret",
                "looks like an example; copy the real one, of 16 characters or more, from the provider",
            );
        }
        self.check_issuer(mistakes);
    }

    fn check_issuer(&self, mistakes: &mut Vec<String>) {
        match Url::parse(&self.issuer) {
            Ok(url) if url.has_host() && url.query().is_none() && url.fragment().is_none() => {
                check_https("member.oidc.issuer", &url, mistakes);
            }
            Ok(_) | Err(_) => mistakes.push(
                "member.oidc.issuer: must be a URL such as https://id.example.jp, just as the provider says it".into(),
            ),
        }
    }
}

/// Whether an attribute of a member may have this name: what templates call it by.
pub fn is_attribute(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !RESERVED.contains(&name)
}

fn default_scopes() -> String {
    "openid profile email".to_owned()
}

fn default_external_id() -> String {
    "sub".to_owned()
}

fn yes() -> bool {
    true
}
