//! The configuration: one TOML file, overridden by `MUSUBI__SECTION__KEY`, validated once at start.
//!
//! Every mistake is named at once, so that nobody restarts a server six times to learn six things.
//! Secrets are [`SecretString`]s: they never print.

mod brand;
mod check;
mod load;
mod oidc;
mod sending;
mod shape;
mod token;

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

pub use brand::{Brand, Color, Link, Palette};
use ipnet::IpNet;
pub use load::ConfigError;
pub use oidc::{Member, Oidc, is_attribute};
use secrecy::SecretString;
pub use sending::{QuietHours, Reserve, Sending};
use serde::Deserialize;
pub use token::{AssertionKey, TokenKind};
use url::Url;

/// Everything an installation is told from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where members reach this installation, such as `https://members.example.jp`.
    pub public_url: Url,
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Addresses and networks (`10.0.0.0/8`) of the proxies in front, as a list or with commas between. Only they
    /// are believed about whose request it is; without them everybody behind a proxy counts as one address.
    #[serde(default, deserialize_with = "load::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// `sqlite://path/to/file.db` or `postgres://user@host/database`; may hold a password.
    pub database_url: SecretString,
    /// The company's name, as its members know it.
    pub company: String,
    /// IANA name of the zone in which dates are shown.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// `en`, `ja`, `th` or `zh-TW`: shown where neither the visitor nor the browser asks for a known language.
    #[serde(default = "default_locale")]
    pub default_locale: String,
    pub privacy_url: Option<Url>,
    pub terms_url: Option<Url>,
    #[serde(default)]
    pub brand: Brand,
    /// The company's own words in place of ours.
    #[serde(default)]
    pub texts: Texts,
    /// What messages are about, as members choose among it. A message on any other topic is sent as well.
    #[serde(default)]
    pub topic: BTreeMap<String, Topic>,
    /// Where security researchers write to (`mailto:` or `https:`), for `/.well-known/security.txt`.
    pub security_contact: Option<Url>,
    /// Without it nothing is mailed: no sign-up, no reset, no notices.
    pub mail: Option<Mail>,
    pub security: Security,
    #[serde(default)]
    pub consent: Consent,
    #[serde(default)]
    pub line: LineHosts,
    #[serde(default)]
    pub provider: BTreeMap<String, Provider>,
    #[serde(default)]
    pub channel: BTreeMap<String, Channel>,
    #[serde(default)]
    pub rich_menu: RichMenus,
    #[serde(default)]
    pub messages: Messages,
    #[serde(default)]
    pub sending: Sending,
    #[serde(default)]
    pub chat: Chat,
    /// What is answered to which words, before the built-in ones where they are the whole text.
    #[serde(default)]
    pub keyword: Vec<Keyword>,
    #[serde(default)]
    pub members: Members,
    #[serde(default)]
    pub member: Member,
    #[serde(default)]
    pub retention: Retention,
    #[serde(default)]
    pub tickets: Tickets,
    #[serde(default)]
    pub hooks: Hooks,
    /// Without it the log is written to standard error, and kept by whoever reads that.
    pub log: Option<Log>,
    /// Where Prometheus reads `/metrics`, apart from what the world reaches; without it nothing listens.
    pub metrics_listen: Option<SocketAddr>,
}

/// By language, section and name, as in `locales/`: `[texts.ja.home] heading = "…"`.
pub type Texts = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

/// Addresses by which members link who were handed one by the company.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tickets {
    /// Origins such as `https://shop.example.jp`, as a list or with commas between: a person who has linked may be sent
    /// to any page of theirs.
    #[serde(deserialize_with = "load::urls")]
    pub return_urls: Vec<Url>,
}

/// Where members come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Members {
    pub source: MemberSource,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberSource {
    /// From the company, and people sign up themselves.
    #[default]
    SignUp,
    /// From the company alone: nobody signs up here.
    Company,
}

/// How many days what came from LINE, and what was sent there, is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Bodies of webhooks as received, for tracing and handling again.
    pub webhook_bodies_days: u32,
    /// Events and their ids. At least 31: an id that is forgotten sooner would count as new at a replay.
    pub events_days: u32,
    /// What people wrote.
    pub chat_days: u32,
    /// Pictures, videos, sounds and files that they sent.
    pub media_days: u32,
    /// What was sent to whom, and what became of it, from its end on. Whoever asks again under an idempotency key within
    /// this time sends nothing.
    pub messages_days: u32,
    /// What these messages said; no longer than the messages.
    pub message_contents_days: u32,
    /// What the company's systems were told by hooks, and whether it arrived. So long it can be told again.
    pub hook_days: u32,
    /// Attempts to sign in or link through LINE, and what became of them: support looks at these.
    pub attempts_days: u32,
}

/// How the company's systems are told what happens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Networks (`10.0.0.0/8`) of the company's own in which hooks may end, also by plain http and at any port, as a
    /// list or with commas between. Without them hooks go to public addresses by https only.
    #[serde(deserialize_with = "load::networks")]
    pub allow_networks: Vec<IpNet>,
}

/// Where the lines of `serve` go in place of standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Gets a file each day (of UTC).
    pub folder: PathBuf,
    /// Older files are removed.
    #[serde(default = "default_log_days")]
    pub keep_days: u32,
}

/// Keys and limits that protect what is stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// Id of the key in `sealing_keys` that seals; the others still open what they sealed.
    pub sealing_key: String,
    /// Id to 32 random bytes in base64 (`musubi key new`).
    pub sealing_keys: BTreeMap<String, SecretString>,
    #[serde(default)]
    pub password_hash: PasswordHash,
    /// Characters of the shortest password that is taken. NIST asks for 15 where a password stands alone, OWASP
    /// for 8 at least.
    #[serde(default = "default_password_length")]
    pub password_length: usize,
    /// Costly requests (a password, a mail, a start or a return of LINE Login) that one address may make in a minute.
    #[serde(default = "default_requests_per_minute")]
    pub requests_per_minute: NonZeroU32,
}

/// How mails leave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// `smtps://user:password@host:465`, or `smtp://…:587?tls=required` for STARTTLS.
    pub url: SecretString,
    /// `Company <no-reply@example.jp>`
    pub from: String,
    pub reply_to: Option<String>,
}

/// Cost of argon2id. The defaults are OWASP's (19 MiB, 2 passes); stored hashes follow at the next sign-in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordHash {
    pub memory_kib: u32,
    pub passes: u32,
    /// Hashes computed at one time; more callers wait their turn, then are told to try again.
    pub at_once: usize,
}

/// The text a person agrees to when linking, in each language, and its version. Who changes a text gives it a new
/// version, and everybody is asked again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consent {
    pub version: String,
    pub text: BTreeMap<String, String>,
    /// Told beside the text: what comes from LINE, what it is for, and that the link can be ended. LINE's guidelines
    /// ask for it.
    pub notice: BTreeMap<String, String>,
}

/// A topic as members see it: what it is called, and what comes of it, in each language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub label: BTreeMap<String, String>,
    #[serde(default)]
    pub description: BTreeMap<String, String>,
}

/// LINE's base URLs, so that the simulator can take LINE's place. The issuer is LINE's, always.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineHosts {
    pub access: Url,
    pub api: Url,
    pub api_data: Url,
    pub liff: Url,
    /// LIFF's SDK, the one script of others on the page that LINE opens as a LIFF app.
    pub liff_sdk: Url,
    /// Where profile pictures may come from, as LINE names them.
    pub pictures: Url,
}

/// LINE's unit of identity: a LINE user ID means something within one provider only.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Shown where a person chooses between several providers.
    pub label: Option<String>,
    pub login: Option<LoginChannel>,
}

/// The LINE Login channel of a provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginChannel {
    #[serde(deserialize_with = "load::text_or_number")]
    pub channel_id: String,
    pub channel_secret: SecretString,
    /// The secret before the last change: a sign-in that LINE signed with it is still taken. LINE is called with
    /// `channel_secret` alone. `musubi key rotate` says when this may be removed.
    pub former_channel_secret: Option<SecretString>,
    #[serde(default)]
    pub bot_prompt: BotPrompt,
    /// Name of the `[channel.…]` that is linked to this login channel in LINE's console.
    pub channel: Option<String>,
    /// The LIFF app of this login channel whose endpoint URL is our `/liff/{provider}`; without it there is no such page.
    pub liff_id: Option<String>,
}

/// How LINE offers to add the official account as a friend while a person signs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BotPrompt {
    #[default]
    Normal,
    Aggressive,
    Off,
}

/// A Messaging API channel: one bot, one official account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Name of its `[provider.…]`.
    pub provider: String,
    #[serde(deserialize_with = "load::text_or_number")]
    pub channel_id: String,
    pub channel_secret: SecretString,
    /// The secret before the last change, for what LINE signed with it: webhooks that are still on their way. LINE is
    /// called with `channel_secret` alone. `musubi key rotate` says when this may be removed.
    pub former_channel_secret: Option<SecretString>,
    /// The official account's id, such as `@example`, for "add friend" links.
    pub basic_id: Option<String>,
    /// Which kind of channel access token LINE is called with.
    #[serde(default)]
    pub token: TokenKind,
    /// How long a token v2.1 lives, such as `12h`; 30 days where nothing is said.
    #[serde(default, deserialize_with = "token::lifetime")]
    pub token_lifetime: Option<Duration>,
    /// For tokens v2.1: the private key, in PEM or as JWK, whose public half is registered in LINE's console.
    pub assertion_key: Option<SecretString>,
    /// The id (`kid`) that LINE's console gave to that key; may stand in the JWK.
    pub assertion_key_id: Option<String>,
    /// The long-lived token made in LINE's console.
    pub channel_access_token: Option<SecretString>,
    /// Pushes and multicasts a second; LINE's own limits where nothing is said, and never more.
    #[serde(default = "pushes")]
    pub pushes_per_second: u32,
    #[serde(default = "multicasts")]
    pub multicasts_per_second: u32,
}

/// What LINE takes ("Rate limits" in its reference).
fn pushes() -> u32 {
    2000
}

fn multicasts() -> u32 {
    200
}

/// Where the rich menu files are; the shipped ones are used where no folder is named.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RichMenus {
    pub folder: Option<PathBuf>,
}

/// Where the company's message templates are, beside the shipped ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    pub templates: Option<PathBuf>,
}

/// How people who write to an official account are answered, and what is kept of it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chat {
    /// Whether somebody who adds the official account, or unblocks it, is greeted.
    pub greeting: bool,
    /// Whether a text that no rule knows is answered with what can be written.
    pub default_answer: bool,
    /// Larger pictures, videos, sounds and files are not kept.
    pub media_max_bytes: usize,
}

/// Words, and what is answered to them. Case, width and spaces make no difference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyword {
    /// The whole text.
    #[serde(default)]
    pub exact: Vec<String>,
    /// Anywhere in the text.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Name of the one `[channel.…]` it is for; else it is for all.
    pub channel: Option<String>,
    /// The answer, in each language.
    pub text: BTreeMap<String, String>,
}

impl Config {
    /// True on plain http, which is allowed on loopback only.
    pub fn is_plain_http(&self) -> bool {
        self.public_url.scheme() == "http"
    }

    /// Whether people may make themselves an account; it takes a mail.
    pub fn has_sign_up(&self) -> bool {
        self.mail.is_some() && self.members.source == MemberSource::SignUp && self.has_passwords()
    }

    /// Whether passwords are taken, or the company's own sign-in alone.
    pub fn has_passwords(&self) -> bool {
        self.member.oidc.as_ref().is_none_or(|oidc| oidc.passwords)
    }

    /// The redirect URI to register with the company's provider.
    pub fn company_callback_url(&self) -> String {
        self.url("/company/callback")
    }

    /// The absolute URL of a path of this installation; never built from a request's `Host`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// What a provider is called on the pages.
    pub fn label_of(&self, provider: &str) -> String {
        self.provider.get(provider).map(|found| found.label(provider).to_owned()).unwrap_or_default()
    }

    /// The Messaging API channel that is linked to a provider's login channel, with its name: the one that LINE Login
    /// tells whether somebody is its friend.
    pub fn linked_channel(&self, provider: &str) -> Option<(&str, &Channel)> {
        let name = self.provider.get(provider)?.login.as_ref()?.channel.as_deref()?;
        Some((name, self.channel.get(name)?))
    }

    /// The names of a provider's Messaging API channels.
    pub fn channels_of(&self, provider: &str) -> impl Iterator<Item = &String> {
        self.channel.iter().filter(move |(_, channel)| channel.provider == provider).map(|(name, _)| name)
    }

    /// The callback to register for a provider in LINE's console.
    pub fn callback_url(&self, provider: &str) -> String {
        self.url(&format!("/line/callback/{provider}"))
    }

    /// The endpoint URL to register for a provider's LIFF app there.
    pub fn liff_endpoint(&self, provider: &str) -> String {
        self.url(&format!("/liff/{provider}"))
    }
}

impl Topic {
    pub fn label(&self, locale: &str, default: &str) -> &str {
        in_language(&self.label, locale, default)
    }

    pub fn description(&self, locale: &str, default: &str) -> &str {
        in_language(&self.description, locale, default)
    }
}

/// A text in `locale`, else in `default`; empty where it is in neither.
fn in_language<'a>(texts: &'a BTreeMap<String, String>, locale: &str, default: &str) -> &'a str {
    texts.get(locale).or_else(|| texts.get(default)).map(String::as_str).unwrap_or_default()
}

impl Provider {
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.label.as_deref().unwrap_or(name)
    }
}

impl Keyword {
    /// The answer in `locale`, else in `default`, else in the first language there is.
    pub fn answer(&self, locale: &str, default: &str) -> Option<&str> {
        let found = self.text.get(locale).or_else(|| self.text.get(default));
        found.or_else(|| self.text.values().next()).map(String::as_str)
    }
}

impl Default for Chat {
    fn default() -> Self {
        Self { greeting: true, default_answer: true, media_max_bytes: 10 * 1024 * 1024 }
    }
}

impl Default for PasswordHash {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, at_once: 4 }
    }
}

impl Default for Consent {
    fn default() -> Self {
        let text = [
            (
                "en",
                "I agree that my LINE account is linked to this member account, and that I may be sent \
                 messages about it in LINE. I can end this at any time on my account page.",
            ),
            (
                "ja",
                "私のLINEアカウントをこの会員アカウントに連携し、関連するお知らせをLINEで受け取ることに同意します。\
                 連携はアカウントページからいつでも解除できます。",
            ),
            (
                "th",
                "ฉันยินยอมให้เชื่อมต่อบัญชี LINE ของฉันกับบัญชีสมาชิกนี้ และยินยอมรับข้อความที่เกี่ยวข้องใน LINE \
                 ฉันยกเลิกการเชื่อมต่อได้ทุกเมื่อในหน้าบัญชีของฉัน",
            ),
            (
                "zh-TW",
                "我同意將我的LINE帳號與此會員帳號連結，並同意在LINE收到與帳號有關的訊息。我可以隨時在「我的帳號」頁面解除連結。",
            ),
        ];
        let notice = [
            (
                "en",
                "From LINE we receive your user ID, your display name and your picture. We use them to know you when \
                 you sign in with LINE, to show which LINE account is linked, and to send you messages in LINE. An \
                 e-mail address that you let LINE pass on is neither kept nor used.",
            ),
            (
                "ja",
                "LINEからは、ユーザーID、表示名、プロフィール画像を受け取ります。LINEでログインされた方の確認、\
                 連携中のLINEアカウントの表示、LINEでのメッセージの送信に利用します。LINEでメールアドレスの提供を\
                 許可された場合も、そのメールアドレスは保存も利用もいたしません。",
            ),
            (
                "th",
                "เราได้รับรหัสผู้ใช้ ชื่อที่แสดง และรูปโปรไฟล์ของคุณจาก LINE เพื่อใช้ระบุตัวตนของคุณเมื่อเข้าสู่ระบบด้วย LINE \
                 แสดงบัญชี LINE ที่เชื่อมต่ออยู่ และส่งข้อความถึงคุณใน LINE หากคุณอนุญาตให้ LINE ส่งอีเมลของคุณให้เรา \
                 เราจะไม่เก็บและไม่ใช้อีเมลนั้น",
            ),
            (
                "zh-TW",
                "我們會從LINE取得您的使用者ID、顯示名稱與個人圖片，用於在您使用LINE登入時確認您的身分、顯示已連結的LINE\
                 帳號，以及在LINE傳送訊息給您。即使您允許LINE提供電子郵件地址，我們也不會保存或使用該地址。",
            ),
        ];
        let owned = |texts: [(&str, &str); 4]| texts.map(|(locale, text)| (locale.to_owned(), text.to_owned())).into();
        Self { version: "1".to_owned(), text: owned(text), notice: owned(notice) }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            webhook_bodies_days: 31,
            events_days: 31,
            chat_days: 365,
            media_days: 90,
            messages_days: 365,
            message_contents_days: 90,
            hook_days: 30,
            attempts_days: 30,
        }
    }
}

impl Default for LineHosts {
    fn default() -> Self {
        Self {
            access: constant_url("https://access.line.me"),
            api: constant_url("https://api.line.me"),
            api_data: constant_url("https://api-data.line.me"),
            liff: constant_url("https://liff.line.me"),
            liff_sdk: constant_url("https://static.line-scdn.net/liff/edge/2/sdk.js"),
            pictures: constant_url("https://profile.line-scdn.net"),
        }
    }
}

#[expect(clippy::expect_used, reason = "only called with the constants above")]
fn constant_url(text: &str) -> Url {
    Url::parse(text).expect("a constant URL parses")
}

fn default_log_days() -> u32 {
    180
}

fn default_password_length() -> usize {
    8
}

fn default_requests_per_minute() -> NonZeroU32 {
    NonZeroU32::new(120).unwrap_or(NonZeroU32::MIN)
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_time_zone() -> String {
    "Asia/Tokyo".to_owned()
}

fn default_locale() -> String {
    "ja".to_owned()
}
