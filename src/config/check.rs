//! What makes a configuration fit to serve, each rule with the words that help to mend it.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::Config;

/// The languages in which people are shown pages, and answered in a chat.
const LANGUAGES: [&str; 4] = ["en", "ja", "th", "zh-TW"];
/// UTF-16 code units of LINE's longest text.
const LONGEST_TEXT: usize = 5000;
/// Media are kept in the database, and pass through memory.
const MOST_MEDIA_BYTES: usize = 100 * 1024 * 1024;

/// Words that show a secret was copied out of an example.
const EXAMPLE_WORDS: [&str; 6] = ["example", "change-me", "changeme", "your-", "secret", "xxxx"];

impl Config {
    /// Every mistake in words, none where the configuration can serve.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        self.check_urls(&mut mistakes);
        self.check_database(&mut mistakes);
        self.check_keys(&mut mistakes);
        self.check_providers(&mut mistakes);
        self.check_channels(&mut mistakes);
        self.check_texts(&mut mistakes);
        self.check_mail(&mut mistakes);
        self.check_retention(&mut mistakes);
        self.check_chat(&mut mistakes);
        mistakes
    }

    fn check_urls(&self, mistakes: &mut Vec<String>) {
        check_https("public_url", &self.public_url, mistakes);
        let public = &self.public_url;
        if public.path() != "/" || public.query().is_some() || public.fragment().is_some() {
            mistakes.push("public_url: must be an origin without path, such as https://members.example.jp".into());
        }
        let hosts = &self.line;
        for (name, url) in [
            ("line.access", &hosts.access),
            ("line.api", &hosts.api),
            ("line.api_data", &hosts.api_data),
            ("line.liff", &hosts.liff),
            ("line.liff_sdk", &hosts.liff_sdk),
            ("line.pictures", &hosts.pictures),
        ] {
            check_https(name, url, mistakes);
        }
        for (name, url) in [("privacy_url", &self.privacy_url), ("terms_url", &self.terms_url)] {
            url.iter().for_each(|url| check_https(name, url, mistakes));
        }
        for url in &self.tickets.return_urls {
            check_https("tickets.return_urls", url, mistakes);
            if !matches!(url.path(), "/" | "") || url.query().is_some() || url.fragment().is_some() {
                mistakes.push(
                    "tickets.return_urls: must be origins without a path, such as https://shop.example.jp".into(),
                );
            }
        }
        if self.security_contact.as_ref().is_some_and(|url| !["mailto", "https"].contains(&url.scheme())) {
            mistakes.push("security_contact: must begin with mailto: or https:".into());
        }
    }

    fn check_retention(&self, mistakes: &mut Vec<String>) {
        let kept = &self.retention;
        if kept.events_days < 31 {
            mistakes.push("retention.events_days: must be 31 or more, or a replayed event would count as new".into());
        }
        if kept.messages_days < 2 {
            mistakes
                .push("retention.messages_days: must be 2 or more, or what is asked for again is sent twice".into());
        }
        let others = [
            kept.webhook_bodies_days,
            kept.chat_days,
            kept.media_days,
            kept.message_contents_days,
            kept.hook_days,
            kept.attempts_days,
        ];
        if others.contains(&0) {
            mistakes.push("retention: a time must be a day or more".into());
        }
        let Some(log) = &self.log else { return };
        if log.folder.as_os_str().is_empty() {
            mistakes.push("log.folder: must name a folder".into());
        }
        if log.keep_days < 1 {
            mistakes.push("log.keep_days: must be 1 or more".into());
        }
    }

    fn check_database(&self, mistakes: &mut Vec<String>) {
        let url = self.database_url.expose_secret();
        if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
            mistakes.push("database_url: must begin with sqlite:// or postgres://".into());
        }
        let file = url.strip_prefix("sqlite:").map(|rest| rest.trim_start_matches("//"));
        let is_unnamed = file.is_some_and(|file| file.is_empty() || file.starts_with('?'));
        if is_unnamed || url.contains(":memory:") || url.contains("mode=memory") {
            mistakes.push("database_url: an in-memory database would forget every link; name a file".into());
        }
    }

    fn check_keys(&self, mistakes: &mut Vec<String>) {
        let security = &self.security;
        if !security.sealing_keys.contains_key(&security.sealing_key) {
            mistakes.push("security.sealing_key: must be the id of one of security.sealing_keys".into());
        }
        for (id, key) in &security.sealing_keys {
            let bytes = STANDARD.decode(key.expose_secret().trim());
            let good = bytes.is_ok_and(|bytes| bytes.len() == 32 && bytes.iter().collect::<BTreeSet<_>>().len() > 8);
            if !good {
                mistakes.push(format!(
                    "security.sealing_keys.{id}: must be 32 random bytes in base64; make one with: musubi key new"
                ));
            }
        }
        if !(8..=64).contains(&security.password_length) {
            mistakes.push("security.password_length: must be 8 to 64 characters".into());
        }
        let cost = &security.password_hash;
        if cost.memory_kib < 8 || cost.passes < 1 || cost.at_once < 1 {
            mistakes.push("security.password_hash: memory_kib >= 8, passes >= 1 and at_once >= 1 are needed".into());
        }
    }

    fn check_providers(&self, mistakes: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for (name, provider) in &self.provider {
            check_name(&format!("provider.{name}"), name, mistakes);
            let Some(login) = &provider.login else { continue };
            let path = format!("provider.{name}.login");
            check_channel_id(&path, &login.channel_id, mistakes);
            check_secrets(&path, &login.channel_secret, login.former_channel_secret.as_ref(), mistakes);
            if !seen.insert(&login.channel_id) {
                mistakes.push(format!("{path}.channel_id: {} is already another provider's", login.channel_id));
            }
            if let Some(liff_id) = &login.liff_id {
                check_liff_id(&path, &login.channel_id, liff_id, mistakes);
            }
            let Some(channel) = &login.channel else { continue };
            match self.channel.get(channel) {
                None => mistakes.push(format!("{path}.channel: there is no [channel.{channel}]")),
                Some(found) if &found.provider != name => mistakes.push(format!(
                    "{path}.channel: channel {channel} belongs to provider {}; LINE links within one provider only",
                    found.provider
                )),
                Some(_) => {}
            }
        }
    }

    fn check_channels(&self, mistakes: &mut Vec<String>) {
        let mut seen: BTreeSet<&str> =
            self.provider.values().filter_map(|p| p.login.as_ref()).map(|login| login.channel_id.as_str()).collect();
        for (name, channel) in &self.channel {
            let path = format!("channel.{name}");
            check_name(&path, name, mistakes);
            check_channel_id(&path, &channel.channel_id, mistakes);
            check_secrets(&path, &channel.channel_secret, channel.former_channel_secret.as_ref(), mistakes);
            channel.check_token(&path, mistakes);
            if !(1..=2000).contains(&channel.pushes_per_second) || !(1..=200).contains(&channel.multicasts_per_second) {
                mistakes.push(format!(
                    "{path}: pushes_per_second must be 1 to 2000 and multicasts_per_second 1 to 200, which LINE takes"
                ));
            }
            if !self.provider.contains_key(&channel.provider) {
                mistakes.push(format!("{path}.provider: there is no [provider.{}]", channel.provider));
            }
            if !seen.insert(&channel.channel_id) {
                mistakes.push(format!("{path}.channel_id: {} is configured twice", channel.channel_id));
            }
        }
    }

    fn check_mail(&self, mistakes: &mut Vec<String>) {
        let Some(mail) = &self.mail else { return };
        for (name, text) in [("from", Some(&mail.from)), ("reply_to", mail.reply_to.as_ref())] {
            if text.is_some_and(|text| text.parse::<lettre::message::Mailbox>().is_err()) {
                mistakes.push(format!("mail.{name}: must be a mailbox such as Company <no-reply@example.jp>"));
            }
        }
        let shape = "mail.url: must be such as smtps://user:password@mail.example.jp:465";
        match Url::parse(mail.url.expose_secret()) {
            Ok(url) if url.scheme() == "smtps" && url.host().is_some() => {}
            Ok(url) if url.scheme() == "smtp" && url.host().is_some() => {
                let secured = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
                if !secured && !is_loopback(&url) {
                    mistakes.push("mail.url: must be smtps://, or smtp:// with ?tls=required".into());
                }
            }
            Ok(_) | Err(_) => mistakes.push(shape.into()),
        }
    }

    fn check_chat(&self, mistakes: &mut Vec<String>) {
        if self.chat.media_max_bytes > MOST_MEDIA_BYTES {
            mistakes.push(format!("chat.media_max_bytes: must be {MOST_MEDIA_BYTES} at most"));
        }
        for (number, keyword) in self.keyword.iter().enumerate() {
            let path = format!("keyword[{number}]");
            let words = || keyword.exact.iter().chain(&keyword.contains);
            if words().next().is_none() || words().any(|word| word.trim().is_empty()) {
                mistakes.push(format!("{path}: needs words, such as exact = [\"hours\"] or contains = [\"hours\"]"));
            }
            if let Some(channel) = &keyword.channel
                && !self.channel.contains_key(channel)
            {
                mistakes.push(format!("{path}.channel: there is no [channel.{channel}]"));
            }
            if keyword.text.is_empty() {
                mistakes.push(format!("{path}.text: is missing, such as text = {{ en = \"…\", ja = \"…\" }}"));
            }
            for (language, text) in &keyword.text {
                if !LANGUAGES.contains(&language.as_str()) {
                    mistakes.push(format!("{path}.text.{language}: is not known; use en, ja, th or zh-TW"));
                }
                if text.trim().is_empty() || text.encode_utf16().count() > LONGEST_TEXT {
                    mistakes.push(format!("{path}.text.{language}: must be 1 to {LONGEST_TEXT} characters"));
                }
            }
        }
    }

    fn check_texts(&self, mistakes: &mut Vec<String>) {
        if self.company.trim().is_empty() {
            mistakes.push("company: must be the name your members know".into());
        }
        if !LANGUAGES.contains(&self.default_locale.as_str()) {
            let known = LANGUAGES.join(", ");
            mistakes.push(format!("default_locale: {:?} is not known; there are {known}", self.default_locale));
        }
        self.brand.check(&self.default_locale, mistakes);
        if !self.consent.text.contains_key(&self.default_locale) {
            mistakes.push(format!("consent.text.{}: is missing", self.default_locale));
        }
        if !self.consent.notice.contains_key(&self.default_locale) {
            mistakes.push(format!("consent.notice.{}: is missing", self.default_locale));
        }
        if self.consent.version.trim().is_empty() {
            mistakes.push("consent.version: must name the text's version".into());
        }
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            mistakes.push(format!("time_zone: {:?} is not an IANA time zone such as Asia/Tokyo", self.time_zone));
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Of schemes that the URL standard does not know, an address is read as a name.
        Some(Host::Domain(domain)) => {
            domain == "localhost" || domain.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// LINE takes https only; loopback is the one exemption, for development.
pub(super) fn check_https(name: &str, url: &Url, mistakes: &mut Vec<String>) {
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(url)) {
        mistakes.push(format!("{name}: must be https (http is for localhost only)"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        mistakes.push(format!("{name}: must not hold a user name or a password"));
    }
}

fn check_name(path: &str, name: &str, mistakes: &mut Vec<String>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        mistakes.push(format!("{path}: a name is 1 to 32 of a-z, 0-9, - and _"));
    }
}

fn check_channel_id(path: &str, id: &str, mistakes: &mut Vec<String>) {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        mistakes.push(format!("{path}.channel_id: must be the number shown in LINE's console"));
    }
}

/// LINE's console shows it so; its first half is the channel that its tokens are for.
fn check_liff_id(path: &str, channel_id: &str, id: &str, mistakes: &mut Vec<String>) {
    let rest = id.strip_prefix(channel_id).and_then(|rest| rest.strip_prefix('-'));
    if !rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        mistakes.push(format!(
            "{path}.liff_id: must be {channel_id}-…, the LIFF ID that LINE's console shows at this login channel"
        ));
    }
}

fn check_secrets(path: &str, secret: &SecretString, former: Option<&SecretString>, mistakes: &mut Vec<String>) {
    check_secret(&format!("{path}.channel_secret"), secret, mistakes);
    let Some(former) = former else { return };
    let key = format!("{path}.former_channel_secret");
    if former.expose_secret() == secret.expose_secret() {
        mistakes.push(format!("{key}: is the same as channel_secret; it is the one before, or remove it"));
    } else {
        check_secret(&key, former, mistakes);
    }
}

fn check_secret(key: &str, secret: &SecretString, mistakes: &mut Vec<String>) {
    let text = secret.expose_secret().to_lowercase();
    if text.is_empty() {
        mistakes.push(format!("{key}: is missing"));
    } else if text.len() < 16 || EXAMPLE_WORDS.iter().any(|word| text.contains(word)) {
        mistakes.push(format!("{key}: looks like an example; copy the real one from LINE's console"));
    }
}
