//! The company's own OpenID provider as a client library: no database, no [`App`](crate::app::App), no feature of ours.
//!
//! - [`discovery`]: where its endpoints are, read once an hour; a provider that is away stops nothing else
//! - here: the authorization code flow with PKCE, by a request of ours and one exchange
//! - [`id_token`]: the verification of what comes back
//!
//! LINE Login is another relying party (`line::login`), with LINE's own ways; they have the HTTP client in common.

pub mod discovery;
pub mod id_token;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use self::discovery::{Discovery, Method};
use crate::{
    config,
    line::{
        self,
        held::Held,
        http::{self, Answer, Http},
        jwks::{self, Algorithm, Key},
    },
};

/// How long a page waits for a provider that is not known yet.
const MOMENT: Duration = Duration::from_secs(2);

/// What a person is told to be.
pub type Claims = Map<String, Value>;

/// The client. A clone is a handle to the same connections and to what is held of the provider.
#[derive(Debug, Clone)]
pub struct Oidc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: config::Oidc,
    redirect_uri: String,
    http: Http,
    discovery: Held<Discovery, Error>,
    keys: Held<Vec<Key>, Error>,
}

/// A call that brought no usable answer. The log gets its words, a page never does.
#[derive(Debug, Clone)]
pub struct Error(line::Error);

/// What an authorization request is made of.
#[derive(Debug, Clone, Copy)]
pub struct Authorize<'a> {
    pub state: &'a str,
    pub nonce: &'a str,
    pub verifier: &'a str,
    pub ui_locales: &'a str,
    /// Whether the person must prove themselves there now, signed in or not.
    pub again: bool,
}

/// What the token endpoint gave for a code. Never printed, never kept.
pub struct Tokens {
    pub id_token: String,
    pub access_token: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            line::Error::Unreached(text) => write!(f, "the provider could not be reached: {text}"),
            line::Error::Lost(text) => write!(f, "the provider's answer was lost: {text}"),
            line::Error::Refused { status, message, .. } => write!(f, "the provider answered {status}: {message}"),
            line::Error::Malformed(text) => write!(f, "the provider's answer is not as it should be: {text}"),
            line::Error::Client(text) => write!(f, "the provider was not called: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn malformed(text: impl Into<String>) -> Self {
        Self(line::Error::Malformed(text.into()))
    }

    /// Whether it is the code that was refused: used before, too old, or not ours.
    pub fn is_of_code(&self) -> bool {
        matches!(&self.0, line::Error::Refused { status: 400, message, .. } if message.starts_with("invalid_grant"))
    }
}

impl From<line::Error> for Error {
    fn from(error: line::Error) -> Self {
        Self(error)
    }
}

impl Oidc {
    pub fn new(settings: config::Oidc, redirect_uri: String) -> Result<Self, line::Error> {
        let (discovery, keys) = (Held::new("the company's OpenID provider"), Held::new("the provider's keys"));
        Ok(Self(Arc::new(Inner { settings, redirect_uri, http: Http::new()?, discovery, keys })))
    }

    pub fn issuer(&self) -> &str {
        &self.0.settings.issuer
    }

    pub fn client_id(&self) -> &str {
        &self.0.settings.client_id
    }

    /// Where the provider's endpoints are, as of `now` (epoch milliseconds).
    pub async fn discovery(&self, now: i64) -> Result<Arc<Discovery>, Error> {
        self.0.discovery.find(now, |_| Some(()), self.read_discovery()).await?;
        self.known().ok_or_else(|| Error::malformed("nothing was found"))
    }

    /// What is known of the provider without asking it.
    pub fn known(&self) -> Option<Arc<Discovery>> {
        self.0.discovery.held()
    }

    /// Has the discovery read beside, where it is time: a page that leads to the provider names its origins.
    pub fn keep_fresh(&self, now: i64) {
        if self.0.discovery.is_due(now) {
            let oidc = self.clone();
            tokio::spawn(async move { drop(oidc.discovery(now).await) });
        }
    }

    /// Waits a moment for the discovery, so that the page which is about to be shown can name its origins.
    pub async fn look(&self, now: i64) {
        self.keep_fresh(now);
        if self.known().is_none() {
            drop(tokio::time::timeout(MOMENT, self.discovery(now)).await);
        }
    }

    async fn read_discovery(&self) -> Result<Discovery, Error> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer().trim_end_matches('/'));
        let answer = call(self.0.http.get(&url), "discovery").await?;
        Discovery::read(&answer.body, self.issuer()).map_err(Error::malformed)
    }

    /// Where the browser is sent to sign in.
    pub fn authorize_url(&self, discovery: &Discovery, ask: &Authorize<'_>) -> Url {
        let mut url = discovery.authorization_endpoint.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, ask.verifier.as_bytes()).as_ref());
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", self.client_id())
            .append_pair("redirect_uri", &self.0.redirect_uri)
            .append_pair("scope", &self.0.settings.scopes)
            .append_pair("state", ask.state)
            .append_pair("nonce", ask.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("ui_locales", ask.ui_locales);
        if ask.again {
            url.query_pairs_mut().append_pair("prompt", "login").append_pair("max_age", "0");
        }
        url
    }

    /// Where the browser is sent to sign out there too, and from there back to `back`; none where there is no such place,
    /// or none is known: nobody who signs out waits for a provider.
    pub fn sign_out_url(&self, back: &str) -> Option<Url> {
        let mut url = self.known()?.end_session_endpoint.clone()?;
        url.query_pairs_mut().append_pair("client_id", self.client_id()).append_pair("post_logout_redirect_uri", back);
        Some(url)
    }

    /// Exchanges a code. Once: whatever comes of it, it is not repeated.
    pub async fn exchange(&self, discovery: &Discovery, code: &str, verifier: &str) -> Result<Tokens, Error> {
        #[derive(Deserialize)]
        struct Reply {
            token_type: String,
            access_token: String,
            id_token: Option<String>,
        }
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.0.redirect_uri.as_str()),
            ("code_verifier", verifier),
        ];
        let mut request = self.0.http.post(discovery.token_endpoint.as_str());
        let id = self.client_id();
        match (&self.0.settings.client_secret, discovery.method) {
            (Some(secret), Method::Basic) => {
                request = request.basic_auth(encoded(id), Some(encoded(secret.expose_secret())));
            }
            (Some(secret), Method::Post) => form.extend([("client_id", id), ("client_secret", secret.expose_secret())]),
            (Some(_), Method::Other) => {
                return Err(Error::malformed("it takes a client secret neither by Basic nor in the form"));
            }
            (None, _) => form.push(("client_id", id)),
        }
        let answer = call(request.form(&form), "token").await?;
        // Not the parser's own words: they quote the answer, which holds tokens.
        let reply: Reply = serde_json::from_slice(&answer.body).map_err(|_| Error::malformed("no token reply"))?;
        if !reply.token_type.eq_ignore_ascii_case("bearer") {
            return Err(Error::malformed("the token type is not Bearer"));
        }
        let id_token = reply.id_token.ok_or_else(|| Error::malformed("no id_token"))?;
        Ok(Tokens { id_token, access_token: reply.access_token })
    }

    /// The provider's key of this id. `Ok(None)`: it has no such key.
    pub async fn key(
        &self,
        discovery: &Discovery,
        algorithm: Algorithm,
        id: Option<&str>,
        now: i64,
    ) -> Result<Option<Key>, Error> {
        let read = async {
            let answer = call(self.0.http.get(discovery.jwks_uri.as_str()), "keys").await?;
            let keys = answer.json::<jwks::Set>().map_err(Error::from)?.keys();
            if keys.is_empty() { Err(Error::malformed("no key for ES256 or RS256")) } else { Ok(keys) }
        };
        self.0.keys.find(now, |keys| jwks::find(keys, algorithm, id), read).await
    }

    /// What the provider says besides of the access token's owner, who must be `subject`; nothing where it has no such
    /// endpoint.
    pub async fn userinfo(&self, discovery: &Discovery, access_token: &str, subject: &str) -> Result<Claims, Error> {
        let Some(url) = &discovery.userinfo_endpoint else { return Ok(Claims::new()) };
        let answer = call(self.0.http.get(url.as_str()).bearer_auth(access_token), "userinfo").await?;
        let claims: Claims =
            serde_json::from_slice(&answer.body).map_err(|_| Error::malformed("userinfo is no JSON"))?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(Error::malformed("userinfo is of somebody else"));
        }
        Ok(claims)
    }
}

/// Calls the provider: bounded, no redirects, anything but 2xx an error. One line in the log, without query and body.
async fn call(request: RequestBuilder, what: &str) -> Result<Answer, Error> {
    let started = Instant::now();
    let answer = http::send_elsewhere(request, http::SMALL).await.map_err(Error::from);
    let ms = started.elapsed().as_millis();
    match &answer {
        Ok(answer) => tracing::info!(target: "oidc", what, status = answer.status, ms, "called"),
        Err(error) => tracing::info!(target: "oidc", what, %error, ms, "called in vain"),
    }
    let answer = answer?;
    if (200..300).contains(&answer.status) { Ok(answer) } else { Err(answer.into_refusal().into()) }
}

/// As RFC 6749 (2.3.1) wants the two parts of Basic.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
