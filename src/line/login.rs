//! LINE Login v2.1 for the web, by the `oauth2` crate, with LINE's own ways: credentials in the body,
//! PKCE S256, an ID token beside the access token, codes that are burnt by the first exchange.

use std::{pin::Pin, time::Duration};

use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse, TokenResponse as _,
    TokenUrl,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Error, Line, endpoint, http, id_token::Identity};

/// Refresh tokens live 90 days from the issue of the access token, and are never extended.
pub const REFRESH_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// A LINE Login channel and the callback registered for it.
#[derive(Debug, Clone)]
pub struct LoginChannel {
    pub channel_id: String,
    pub secret: SecretString,
    /// Verifies what LINE signed before the secret was changed; calls are never made with it.
    pub former_secret: Option<SecretString>,
    pub redirect_uri: String,
}

/// What an authorize URL is made of; see LINE's "Integrating LINE Login".
pub struct Authorize<'a> {
    pub state: &'a str,
    pub nonce: &'a str,
    pub verifier: &'a str,
    /// `normal` or `aggressive`; `None` does not offer the official account.
    pub bot_prompt: Option<&'a str>,
    /// BCP 47 tag, such as `ja`.
    pub ui_locales: &'a str,
    /// Set where LINE's auto login may have failed: it must not be tried again.
    pub disable_auto_login: bool,
}

/// A person's tokens at LINE. Never printed, always sealed at rest.
#[derive(Clone, Serialize, Deserialize)]
pub struct UserTokens {
    pub access_token: String,
    pub refresh_token: Option<String>,
}

impl std::fmt::Debug for UserTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserTokens(***)")
    }
}

/// What the token endpoint gave for a code.
pub struct TokenReply {
    pub tokens: UserTokens,
    pub expires_in: Duration,
    /// Not verified yet. Where it is missing, or cannot be of use, the tokens are there all the same, and somebody
    /// must give them back.
    pub id_token: Result<String, Error>,
}

/// `GET /v2/profile`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub user_id: String,
    pub display_name: String,
    pub picture_url: Option<String>,
}

/// What LINE says of an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    Alive {
        expires_in: Duration,
    },
    /// It was given to another channel, and proves nothing to us.
    OtherChannel,
    Expired,
    Revoked,
}

#[derive(Debug, Serialize, Deserialize)]
struct IdTokenField {
    id_token: Option<String>,
}

impl ExtraTokenFields for IdTokenField {}

type Reply = StandardTokenResponse<IdTokenField, BasicTokenType>;
type OAuth = Client<
    BasicErrorResponse,
    Reply,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl Line {
    /// Where the browser is sent to sign in.
    pub fn authorize_url(&self, channel: &LoginChannel, ask: &Authorize<'_>) -> Result<Url, Error> {
        let verifier = PkceCodeVerifier::new(ask.verifier.to_owned());
        let client = self.oauth(channel)?;
        let mut request = client
            .authorize_url(|| CsrfToken::new(ask.state.to_owned()))
            .add_scopes(["openid", "profile", "email"].map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_extra_param("nonce", ask.nonce)
            .add_extra_param("ui_locales", ask.ui_locales);
        if let Some(bot_prompt) = ask.bot_prompt {
            request = request.add_extra_param("bot_prompt", bot_prompt);
        }
        if ask.disable_auto_login {
            request = request.add_extra_param("disable_auto_login", "true");
        }
        Ok(request.url().0)
    }

    /// Exchanges a code. Once: LINE burns it whether or not this succeeds, so it is never repeated.
    pub async fn exchange(&self, channel: &LoginChannel, code: &str, verifier: &str) -> Result<TokenReply, Error> {
        let caller = Caller(self.http.clone());
        let reply = self
            .oauth(channel)?
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&caller)
            .await
            .map_err(token_error)?;
        Ok(TokenReply { tokens: tokens(&reply), expires_in: expires_in(&reply), id_token: id_token(&reply) })
    }

    /// A new access token for a refresh token, which stays the same and is not extended.
    pub async fn refresh(&self, channel: &LoginChannel, refresh_token: &str) -> Result<(UserTokens, Duration), Error> {
        let caller = Caller(self.http.clone());
        let reply = self
            .oauth(channel)?
            .exchange_refresh_token(&RefreshToken::new(refresh_token.to_owned()))
            .request_async(&caller)
            .await
            .map_err(token_error)?;
        let mut tokens = tokens(&reply);
        tokens.refresh_token.get_or_insert_with(|| refresh_token.to_owned());
        Ok((tokens, expires_in(&reply)))
    }

    /// Revokes an access token (and with it its refresh token).
    pub async fn revoke(&self, channel: &LoginChannel, access_token: &str) -> Result<(), Error> {
        let form = [
            ("access_token", access_token),
            ("client_id", &channel.channel_id),
            ("client_secret", channel.secret.expose_secret()),
        ];
        let request = self.http.post(&endpoint(&self.hosts.api, "/oauth2/v2.1/revoke")).form(&form);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// Takes back the permission a person gave us. `channel_token` must be a stateless token of the login
    /// channel itself; short-lived ones are not accepted.
    pub async fn deauthorize(&self, channel_token: &SecretString, user_access_token: &str) -> Result<(), Error> {
        let request = self
            .http
            .post(&endpoint(&self.hosts.api, "/user/v1/deauthorize"))
            .bearer_auth(channel_token.expose_secret())
            .json(&serde_json::json!({ "userAccessToken": user_access_token }));
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// The profile of the token's owner.
    pub async fn profile(&self, access_token: &str) -> Result<Profile, Error> {
        let request = self.http.get(&endpoint(&self.hosts.api, "/v2/profile")).bearer_auth(access_token);
        http::send_ok(request, http::SMALL).await?.json()
    }

    /// Whose an access token is, which needs the scope `openid` alone; with name and picture where it has `profile` too.
    pub async fn userinfo(&self, access_token: &str) -> Result<Identity, Error> {
        #[derive(Deserialize)]
        struct Reply {
            sub: String,
            name: Option<String>,
            picture: Option<String>,
        }
        let request = self.http.get(&endpoint(&self.hosts.api, "/oauth2/v2.1/userinfo")).bearer_auth(access_token);
        let Reply { sub, name, picture } = http::send_ok(request, http::SMALL).await?.json()?;
        Ok(Identity { user_id: sub, name, picture })
    }

    /// Whether an access token lives, and is of this channel. The URL holds the token: it is never logged.
    pub async fn verify_access(&self, channel: &LoginChannel, access_token: &str) -> Result<Verified, Error> {
        #[derive(Deserialize)]
        struct Reply {
            client_id: String,
            expires_in: i64,
        }
        let url = endpoint(&self.hosts.api, "/oauth2/v2.1/verify");
        let request = self.http.get(&url).query(&[("access_token", access_token)]);
        match http::send_ok(request, http::SMALL).await {
            Ok(answer) => {
                let reply: Reply = answer.json()?;
                if reply.client_id != channel.channel_id {
                    return Ok(Verified::OtherChannel);
                }
                let expires_in = Duration::from_secs(u64::try_from(reply.expires_in).unwrap_or(0)).min(REFRESH_LIFE);
                Ok(if expires_in.is_zero() { Verified::Expired } else { Verified::Alive { expires_in } })
            }
            Err(Error::Refused { status: 400, message, .. }) if message.contains("token revoked") => {
                Ok(Verified::Revoked)
            }
            Err(Error::Refused { status: 400, message, .. }) if message.contains("token expired") => {
                Ok(Verified::Expired)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the token's owner is a friend of the official account linked to the login channel.
    pub async fn is_friend(&self, access_token: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Friendship {
            friend_flag: bool,
        }
        let request = self.http.get(&endpoint(&self.hosts.api, "/friendship/v1/status")).bearer_auth(access_token);
        Ok(http::send_ok(request, http::SMALL).await?.json::<Friendship>()?.friend_flag)
    }

    fn oauth(&self, channel: &LoginChannel) -> Result<OAuth, Error> {
        let wrong = |error: url::ParseError| Error::Client(error.to_string());
        let authorize = AuthUrl::new(endpoint(&self.hosts.access, "/oauth2/v2.1/authorize")).map_err(wrong)?;
        let token = TokenUrl::new(endpoint(&self.hosts.api, "/oauth2/v2.1/token")).map_err(wrong)?;
        let redirect = RedirectUrl::new(channel.redirect_uri.clone()).map_err(wrong)?;
        Ok(Client::new(ClientId::new(channel.channel_id.clone()))
            .set_client_secret(ClientSecret::new(channel.secret.expose_secret().to_owned()))
            // LINE's discovery does not name its methods; HTTP Basic, the default elsewhere, is refused.
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(authorize)
            .set_token_uri(token)
            .set_redirect_uri(redirect))
    }
}

/// Our bounded client, as `oauth2` calls it.
struct Caller(http::Http);

impl<'c> AsyncHttpClient<'c> for Caller {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request).map_err(|error| Error::Client(error.to_string()))?;
            let answer = http::send_ok(self.0.request(request), http::SMALL).await?;
            let mut response = HttpResponse::new(answer.body);
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

fn tokens(reply: &Reply) -> UserTokens {
    UserTokens {
        access_token: reply.access_token().secret().clone(),
        refresh_token: reply.refresh_token().map(|token| token.secret().clone()),
    }
}

/// The ID token of a reply that is as we asked for it.
fn id_token(reply: &Reply) -> Result<String, Error> {
    // Tokens of other kinds would have to be used in other ways; LINE gives none.
    if !matches!(reply.token_type(), BasicTokenType::Bearer) {
        return Err(Error::Malformed("the token type is not Bearer".into()));
    }
    let granted = reply.scopes().is_some_and(|scopes| scopes.iter().any(|scope| scope.as_str() == "openid"));
    if !granted {
        return Err(Error::Malformed("the scope lacks openid".into()));
    }
    reply.extra_fields().id_token.clone().ok_or_else(|| Error::Malformed("no id_token".into()))
}

/// Thirty days as LINE documents, where the answer does not say.
fn expires_in(reply: &Reply) -> Duration {
    reply.expires_in().unwrap_or(Duration::from_secs(30 * 24 * 3600)).min(REFRESH_LIFE)
}

fn token_error(error: RequestTokenError<Error, BasicErrorResponse>) -> Error {
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(response) => Error::Malformed(response.to_string()),
        // Not the parser's own words: they quote the answer, which holds tokens.
        RequestTokenError::Parse(error, _) => {
            Error::Malformed(format!("token reply: {:?} error at {}", error.inner().classify(), error.path()))
        }
        RequestTokenError::Other(text) => Error::Malformed(text),
    }
}
