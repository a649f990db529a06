//! The simulator against LINE's documented vectors, rules and traps, through its router.

#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "a failed unwrap is a failed test")]

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use musubi::simulator::{Bot, Host, LoginChannel, Options, Provider, Simulator, World};
use serde_json::{Value, json};
use tower::ServiceExt;
use url::Url;

pub const START: i64 = 1_800_000_000_000;
pub const LOGIN: &str = "1234567890";
pub const LOGIN_SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const BOT: &str = "2234567890";
pub const BOT_SECRET: &str = "fedcba9876543210fedcba9876543210";
const CALLBACK: &str = "https://app.test/line/callback";
// The vector of LINE's documentation on PKCE.
const VERIFIER: &str = "wJKN8qz5t8SSI9lMFhBB6qwNkQBkuPZoCxzRhwLRUo1";
const CHALLENGE: &str = "BSCQwo_m8Wf0fpjmwkIKmPAJ1A7tiuRSNDnXzODS7QI";
const RETRY_KEY: &str = "123e4567-e89b-12d3-a456-426614174000";

fn world() -> World {
    let bot = |id: &str, name: &str| Bot {
        channel_id: id.to_owned(),
        secret: BOT_SECRET.to_owned(),
        user_id: "Ub0000000000000000000000000000000".to_owned(),
        basic_id: "@musubi".to_owned(),
        name: name.to_owned(),
    };
    World {
        providers: vec![
            Provider {
                name: "First".to_owned(),
                login: Some(LoginChannel {
                    liff: None,
                    channel_id: LOGIN.to_owned(),
                    secret: LOGIN_SECRET.to_owned(),
                    callback_urls: vec![CALLBACK.to_owned()],
                    linked_bot: Some(BOT.to_owned()),
                    name: "Shop".to_owned(),
                }),
                bots: vec![bot(BOT, "Shop bot")],
            },
            Provider { name: "Second".to_owned(), login: None, bots: vec![bot("3234567890", "Other bot")] },
        ],
    }
}

pub struct Line {
    pub simulator: Simulator,
    pub router: Router,
    pub now: Arc<AtomicI64>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn location(&self) -> Url {
        Url::parse(self.header("location")).unwrap()
    }

    pub fn param(&self, name: &str) -> Option<String> {
        let url = self.location();
        url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map(|b| b.to_vec()).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, bytes }
}

fn encoded(params: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish()
}

impl Line {
    pub fn open(data: Option<&std::path::Path>) -> Self {
        let now = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&now);
        let simulator = Simulator::open(Options {
            data: data.map(Into::into),
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
            world: world(),
        })
        .unwrap();
        Self { router: simulator.router(Host::All), simulator, now }
    }

    pub fn pass(&self, milliseconds: i64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.router, request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.call(Method::GET, path, &[("authorization", &bearer)], Body::empty()).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.post_with(path, token, &[], body).await
    }

    pub async fn post_with(&self, path: &str, token: &str, more: &[(&str, &str)], body: Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", &*bearer), ("content-type", "application/json")];
        headers.extend_from_slice(more);
        self.call(Method::POST, path, &headers, body.to_string()).await
    }

    pub async fn form(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.call(Method::POST, path, &[kind], encoded(params)).await
    }

    pub async fn user(&self, name: &str, email: Option<&str>) -> String {
        let body = json!({ "display_name": name, "email": email });
        let answer = self.post("/_sim/users", "", body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.json()["user_id"].as_str().unwrap().to_owned()
    }

    pub async fn friend(&self, name: &str) -> String {
        let user = self.user(name, None).await;
        self.post(&format!("/_sim/users/{user}/follow"), "", json!({})).await;
        user
    }

    pub async fn authorize(&self, more: &[(&str, &str)]) -> Answer {
        let mut params = vec![
            ("response_type", "code"),
            ("client_id", LOGIN),
            ("redirect_uri", CALLBACK),
            ("state", "s1"),
            ("scope", "openid profile email"),
            ("nonce", "n1"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        params.retain(|(name, _)| !more.iter().any(|(n, _)| n == name));
        params.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        let path = format!("/oauth2/v2.1/authorize?{}", encoded(&params));
        self.call(Method::GET, &path, &[], Body::empty()).await
    }

    pub async fn queue(&self, login: Value) {
        assert_eq!(self.post("/_sim/logins", "", login).await.status, StatusCode::CREATED);
    }

    pub async fn code(&self, user: &str) -> String {
        self.queue(json!({ "user_id": user, "outcome": "consent" })).await;
        self.authorize(&[]).await.param("code").unwrap()
    }

    pub async fn exchange(&self, code: &str, more: &[(&str, &str)]) -> Answer {
        let mut params = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("client_id", LOGIN),
            ("client_secret", LOGIN_SECRET),
            ("code_verifier", VERIFIER),
        ];
        params.retain(|(name, _)| !more.iter().any(|(n, _)| n == name));
        params.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        self.form("/oauth2/v2.1/token", &params).await
    }

    pub async fn tokens(&self, user: &str) -> Value {
        let code = self.code(user).await;
        let answer = self.exchange(&code, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    pub async fn channel_token(&self, id: &str, secret: &str) -> String {
        let params = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        let answer = self.form("/oauth2/v3/token", &params).await.json();
        assert_eq!(answer["expires_in"], 900);
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn bot_token(&self) -> String {
        self.channel_token(BOT, BOT_SECRET).await
    }

    pub async fn push(&self, to: &str, key: &str) -> Answer {
        let token = self.bot_token().await;
        let body = json!({ "to": to, "messages": [{ "type": "text", "text": "hello" }] });
        let headers = [("x-line-retry-key", key)];
        let headers = if key.is_empty() { &[][..] } else { &headers[..] };
        self.post_with("/v2/bot/message/push", &token, headers, body).await
    }

    pub async fn chat(&self, user: &str) -> Value {
        self.get(&format!("/_sim/users/{user}/chat"), "").await.json()
    }
}

fn claims(id_token: &Value) -> Value {
    let payload = id_token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0]);
    bytes
}

fn menu() -> Value {
    json!({
        "size": { "width": 2500, "height": 1686 },
        "selected": false,
        "name": "Members",
        "chatBarText": "Menu",
        "areas": [{
            "bounds": { "x": 0, "y": 0, "width": 2500, "height": 1686 },
            "action": { "type": "uri", "label": "Open", "uri": "https://app.test/" },
        }],
    })
}

#[tokio::test]
async fn a_web_login_gives_what_line_documents() {
    let line = Line::open(None);
    let user = line.user("Taro", Some("taro@example.com")).await;
    line.queue(json!({ "user_id": user, "outcome": "consent", "add_friend": true })).await;
    let back = line.authorize(&[("bot_prompt", "normal"), ("max_age", "60")]).await;
    assert_eq!(back.status, StatusCode::FOUND);
    assert!(!back.header("x-line-request-id").is_empty());
    assert_eq!(back.param("state").as_deref(), Some("s1"));
    assert_eq!(back.param("friendship_status_changed").as_deref(), Some("true"));

    let tokens = line.exchange(&back.param("code").unwrap(), &[]).await.json();
    assert_eq!(tokens["scope"], "openid profile");
    assert_eq!(tokens["expires_in"], 2_592_000);
    assert_eq!(tokens["token_type"], "Bearer");
    let header = tokens["id_token"].as_str().unwrap().split('.').next().unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"typ":"JWT","alg":"HS256"}"#);
    assert_eq!(
        claims(&tokens["id_token"]),
        json!({
            "iss": "https://access.line.me", "sub": user, "aud": LOGIN,
            "iat": START / 1000, "exp": START / 1000 + 3600, "auth_time": START / 1000,
            "nonce": "n1", "amr": ["pwd"], "name": "Taro", "email": "taro@example.com",
        })
    );

    let access = tokens["access_token"].as_str().unwrap();
    let profile = line.get("/v2/profile", access).await.json();
    assert_eq!(profile, json!({ "userId": user, "displayName": "Taro" }));
    let info = line.get("/oauth2/v2.1/userinfo", access).await.json();
    assert_eq!(info, json!({ "sub": user, "name": "Taro" }));
    let friendship = line.get("/friendship/v1/status", access).await.json();
    assert_eq!(friendship, json!({ "friendFlag": true }));
    let verify = format!("/oauth2/v2.1/verify?access_token={access}");
    let verified = line.get(&verify, "").await.json();
    assert_eq!(verified, json!({ "scope": "openid profile", "client_id": LOGIN, "expires_in": 2_592_000 }));
}

#[tokio::test]
async fn the_email_is_the_persons_to_refuse() {
    let line = Line::open(None);
    let user = line.user("Taro", Some("taro@example.com")).await;
    line.queue(json!({ "user_id": user, "outcome": "consent", "email": false })).await;
    let code = line.authorize(&[]).await.param("code").unwrap();
    let tokens = line.exchange(&code, &[]).await.json();
    assert!(claims(&tokens["id_token"]).get("email").is_none());
    assert!(line.get("/_sim/ledger", "").await.text().contains("\"code\":\"***\""));
}

#[tokio::test]
async fn a_code_is_burnt_by_its_first_exchange() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    let mistakes: [(&str, &str, &str); 5] = [
        ("code_verifier", "", "invalid_grant"),
        ("code_verifier", "BSCQwo_m8Wf0fpjmwkIKmPAJ1A7tiuRSNDnXzODS7QI", "invalid_grant"),
        ("redirect_uri", "https://app.test/line/callback?x=1", "invalid_grant"),
        ("client_secret", "wrong", "invalid_client"),
        ("client_secret", "", "invalid_request"),
    ];
    for (name, value, error) in mistakes {
        let code = line.code(&user).await;
        let first = line.exchange(&code, &[(name, value)]).await;
        assert_eq!(first.status, StatusCode::BAD_REQUEST);
        assert_eq!(first.json()["error"], error, "{name} {value}");
        let second = line.exchange(&code, &[]).await;
        assert_eq!(second.json()["error"], "invalid_grant", "{name} {value}");
    }
    let code = line.code(&user).await;
    line.pass(10 * 60 * 1000);
    assert_eq!(line.exchange(&code, &[]).await.json()["error"], "invalid_grant");
    let code = line.code(&user).await;
    line.pass(10 * 60 * 1000 - 1);
    assert_eq!(line.exchange(&code, &[]).await.status, StatusCode::OK);
    assert_eq!(line.exchange(&code, &[]).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn http_basic_counts_as_missing_parameters() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    let code = line.code(&user).await;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{LOGIN}:{LOGIN_SECRET}"));
    let basic = format!("Basic {basic}");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", basic.as_str())];
    let form = encoded(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]);
    let answer = line.call(Method::POST, "/oauth2/v2.1/token", &headers, form).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.json(),
        json!({
            "error": "invalid_request",
            "error_description": "some parameters missed or invalid",
        })
    );
}

#[tokio::test]
async fn authorize_refuses_by_page_or_by_redirect() {
    let line = Line::open(None);
    let pages = [
        ("client_id", "999"),
        ("client_id", ""),
        ("redirect_uri", "https://app.test/line/callback/"),
        ("redirect_uri", "https://app.test/line/callback2"),
        ("redirect_uri", "https://app.test.evil.test/line/callback"),
        ("redirect_uri", "https://app.test/line/callback#x"),
        ("redirect_uri", "https://app.test/"),
        ("redirect_uri", ""),
    ];
    for (name, value) in pages {
        let answer = line.authorize(&[(name, value)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}={value}");
        assert_eq!(answer.header("location"), "", "{name}={value}");
    }
    let redirects = [
        ("response_type", "token", "UNSUPPORTED_RESPONSE_TYPE"),
        ("response_type", "", "INVALID_REQUEST"),
        ("state", "", "INVALID_REQUEST"),
        ("scope", "", "INVALID_REQUEST"),
        ("scope", "email", "INVALID_SCOPE"),
        ("scope", "profile email", "INVALID_SCOPE"),
        ("scope", "openid phone", "INVALID_SCOPE"),
        ("code_challenge_method", "plain", "INVALID_REQUEST"),
        ("code_challenge_method", "", "INVALID_REQUEST"),
        ("bot_prompt", "loud", "INVALID_REQUEST"),
        ("prompt", "none", "LOGIN_REQUIRED"),
    ];
    for (name, value, error) in redirects {
        let answer = line.authorize(&[(name, value)]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{name}={value}");
        assert_eq!(answer.param("error").as_deref(), Some(error), "{name}={value}");
        let state = (name != "state").then_some("s1");
        assert_eq!(answer.param("state").as_deref(), state, "{name}={value}");
    }
    let more = format!("{CALLBACK}?return=1");
    let page = line.authorize(&[("redirect_uri", &more)]).await;
    assert_eq!(page.status, StatusCode::OK);
}

#[tokio::test]
async fn the_person_denies_or_auto_login_fails() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    line.queue(json!({ "user_id": user, "outcome": "deny" })).await;
    line.queue(json!({ "user_id": user, "outcome": "auto_login_failure" })).await;
    let denied = line.authorize(&[]).await;
    assert_eq!(denied.param("error").as_deref(), Some("ACCESS_DENIED"));
    let failed = line.authorize(&[]).await;
    assert_ne!(failed.param("state").as_deref(), Some("s1"));
    let code = failed.param("code").unwrap();
    assert_eq!(line.exchange(&code, &[]).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn people_walk_through_the_screens() {
    let line = Line::open(None);
    let ask = encoded(&[
        ("response_type", "code"),
        ("client_id", LOGIN),
        ("redirect_uri", CALLBACK),
        ("state", "s1"),
        ("scope", "openid profile email"),
        ("bot_prompt", "aggressive"),
    ]);
    let form = async |params: &[(&str, &str)]| {
        let mut all = vec![("ask", ask.as_str())];
        all.extend_from_slice(params);
        line.form("/_sim/authorize", &all).await
    };
    let new = [("step", "create"), ("display_name", "<b>Eve</b>"), ("email", "eve@example.com")];
    let consent = form(&new).await;
    assert!(consent.text().contains("eve@example.com"));
    assert!(!consent.text().contains("<b>Eve"));
    let cookie = consent.header("set-cookie").to_owned();
    let person = cookie.split(['=', ';']).nth(1).unwrap();
    let walk = [("step", "consent"), ("person", person), ("decision", "allow")];
    let friend = form(&walk).await;
    assert!(friend.text().contains("Add Shop bot as a friend?"));
    let back = form(&[("step", "friend"), ("person", person), ("add_friend", "no")]).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert_eq!(back.param("friendship_status_changed").as_deref(), Some("false"));
    assert!(back.param("code").is_some());

    // The e-mail was not allowed, so consent is asked for again; without the scope it is not.
    let again = form(&[("step", "choose"), ("person", person)]).await;
    assert!(again.text().contains("name=\"decision\""));
    let path = format!("/oauth2/v2.1/authorize?{}&prompt=none", ask.replace("+email", ""));
    let cookie = [("cookie", cookie.split(';').next().unwrap())];
    let silent = line.call(Method::GET, &path, &cookie, Body::empty()).await;
    assert!(silent.param("code").is_some());

    let cancel = form(&[("step", "cancel")]).await;
    assert_eq!(cancel.param("error").as_deref(), Some("ACCESS_DENIED"));
    let walk = [("step", "consent"), ("person", person), ("elsewhere", "1"), ("decision", "cancel")];
    assert!(form(&walk).await.text().contains("callback-url"));
}

#[tokio::test]
async fn refresh_revoke_withdraw_deauthorize() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    let tokens = line.tokens(&user).await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let client = [("client_id", LOGIN), ("client_secret", LOGIN_SECRET)];
    let with = |more: &[(&'static str, &str)]| {
        let mut all: Vec<(String, String)> = client.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        all.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        all
    };
    let post = async |path: &str, params: Vec<(String, String)>| {
        let pairs: Vec<(&str, &str)> = params.iter().map(|(k, v)| (&**k, &**v)).collect();
        line.form(path, &pairs).await
    };
    let params = with(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]);
    let renewed = post("/oauth2/v2.1/token", params.clone()).await.json();
    assert_eq!(renewed["refresh_token"], tokens["refresh_token"]);
    assert!(renewed.get("id_token").is_none());

    let access = renewed["access_token"].as_str().unwrap().to_owned();
    let verify = async |token: &str| {
        let path = format!("/oauth2/v2.1/verify?access_token={token}");
        line.get(&path, "").await.json()["error_description"].clone()
    };
    assert_eq!(verify(&access).await, Value::Null);
    assert_eq!(verify("nonsense").await, "The access token not JWS");
    let params_of_revoke = with(&[("access_token", &access)]);
    assert_eq!(post("/oauth2/v2.1/revoke", params_of_revoke).await.status, StatusCode::OK);
    assert_eq!(verify(&access).await, "The access token revoked");
    let refused = post("/oauth2/v2.1/token", params).await.json();
    assert_eq!(refused, json!({ "error": "invalid_grant", "error_description": "invalid refresh token" }));

    let access = line.tokens(&user).await["access_token"].as_str().unwrap().to_owned();
    line.pass(30 * 24 * 3600 * 1000);
    assert_eq!(verify(&access).await, "The access token expired");

    let access = line.tokens(&user).await["access_token"].as_str().unwrap().to_owned();
    line.post(&format!("/_sim/users/{user}/withdraw"), "", json!({})).await;
    assert_eq!(verify(&access).await, "The access token revoked");
    assert_eq!(line.get("/v2/profile", &access).await.status, StatusCode::UNAUTHORIZED);

    let access = line.tokens(&user).await["access_token"].as_str().unwrap().to_owned();
    let body = json!({ "userAccessToken": access });
    let path = "/user/v1/deauthorize";
    let bot = line.bot_token().await;
    assert_eq!(line.post(path, &bot, body.clone()).await.status, StatusCode::UNAUTHORIZED);
    let login = line.channel_token(LOGIN, LOGIN_SECRET).await;
    assert_eq!(line.post(path, &login, body.clone()).await.status, StatusCode::NO_CONTENT);
    let second = line.post(path, &login, body.clone()).await;
    assert_eq!(second.status, StatusCode::BAD_REQUEST);
    assert_eq!(second.json(), json!({ "message": "invalid token" }));
    line.pass(900 * 1000);
    assert_eq!(line.post(path, &login, body).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn id_tokens_are_verified_as_asked() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    let tokens = line.tokens(&user).await;
    let token = tokens["id_token"].as_str().unwrap();
    let verify = async |token: &str, more: &[(&str, &str)]| {
        let mut params = vec![("id_token", token)];
        params.extend_from_slice(more);
        line.form("/oauth2/v2.1/verify", &params).await.json()["error_description"].clone()
    };
    let good = ("client_id", LOGIN);
    assert_eq!(verify(token, &[good]).await, Value::Null);
    assert_eq!(verify(token, &[good, ("nonce", "n1"), ("user_id", &user)]).await, Value::Null);
    assert_eq!(verify(token, &[("client_id", "1")]).await, "Invalid IdToken Audience.");
    assert_eq!(verify(token, &[good, ("nonce", "n2")]).await, "Invalid IdToken Nonce.");
    let other = verify(token, &[good, ("user_id", "U1")]).await;
    assert_eq!(other, "Invalid IdToken Subject Identifier.");
    assert_eq!(verify(&token[..token.len() - 2], &[good]).await, "Invalid IdToken.");
    line.pass(3600 * 1000);
    assert_eq!(verify(token, &[good]).await, "IdToken expired.");

    let keys = line.get("/oauth2/v2.1/certs", "").await.json();
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert_eq!(keys["keys"][0]["kid"].as_str().unwrap().len(), 64);
    let host = [("host", "127.0.0.1:8081")];
    let path = "/.well-known/openid-configuration";
    let discovery = line.call(Method::GET, path, &host, Body::empty()).await.json();
    assert_eq!(discovery["issuer"], "https://access.line.me");
    assert_eq!(discovery["token_endpoint"], "http://127.0.0.1:8081/oauth2/v2.1/token");
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

#[tokio::test]
async fn a_retry_key_delivers_once() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let first = line.push(&user, RETRY_KEY).await;
    assert_eq!(first.status, StatusCode::OK);
    let sent = first.json()["sentMessages"].clone();
    assert!(sent[0]["id"].is_string() && sent[0]["quoteToken"].is_string());

    let second = line.push(&user, RETRY_KEY).await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    let message = "The retry key is already accepted";
    assert_eq!(second.json(), json!({ "message": message, "sentMessages": sent }));
    let accepted = second.header("x-line-accepted-request-id");
    assert_eq!(accepted, first.header("x-line-request-id"));
    assert_ne!(accepted, second.header("x-line-request-id"));
    assert_eq!(line.chat(&user).await["messages"].as_array().unwrap().len(), 1);

    let key = "not-a-uuid";
    assert_eq!(line.push(&user, key).await.status, StatusCode::BAD_REQUEST);
    line.pass(24 * 3600 * 1000);
    assert_eq!(line.push(&user, RETRY_KEY).await.status, StatusCode::OK);
    let ledger = line.get("/_sim/ledger", "").await.json();
    assert_eq!(ledger["deliveries"][0]["count"], 2);
    let token = line.bot_token().await;
    let headers = [("x-line-retry-key", RETRY_KEY)];
    let elsewhere = line.post_with("/v2/bot/richmenu", &token, &headers, menu()).await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_push_that_nobody_gets_is_answered_200() {
    let line = Line::open(None);
    let stranger = line.user("Stranger", None).await;
    let blocker = line.friend("Blocker").await;
    line.post(&format!("/_sim/users/{blocker}/block"), "", json!({})).await;
    for user in [&stranger, &blocker] {
        let answer = line.push(user, "").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["sentMessages"].as_array().unwrap().len(), 1);
        assert_eq!(line.chat(user).await["messages"], json!([]));
        let token = line.bot_token().await;
        let profile = line.get(&format!("/v2/bot/profile/{user}"), &token).await;
        assert_eq!(profile.status, StatusCode::NOT_FOUND);
    }
    let unknown = line.push("U00000000000000000000000000000000", "").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert_eq!(unknown.json(), json!({ "message": "Failed to send messages" }));
    let malformed = line.push("Taro", "").await;
    let text = "The property, to, in the request body is invalid (line: -, column: -)";
    assert_eq!(malformed.json(), json!({ "message": text }));
}

#[tokio::test]
async fn the_same_person_is_another_user_at_another_provider() {
    let line = Line::open(None);
    let body = json!({ "display_name": "Taro" });
    let made = line.post("/_sim/users", "", body).await.json();
    let (first, second) = (&made["user_ids"]["First"], made["user_ids"]["Second"].clone());
    assert_eq!(first, &made["user_id"]);
    assert_ne!(*first, second);
    let foreign = line.push(second.as_str().unwrap(), "").await;
    assert_eq!(foreign.json(), json!({ "message": "Failed to send messages" }));
}

#[tokio::test]
async fn push_bodies_are_checked() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let token = line.bot_token().await;
    let flex = |alt: &str| {
        json!({ "type": "flex", "altText": alt, "contents": { "type": "bubble", "body": {
            "type": "box", "layout": "vertical", "contents": [{ "type": "text", "text": "hi" }] } } })
    };
    let text = |text: &str| json!({ "type": "text", "text": text });
    let (long, too_long) = ("😀".repeat(2500), format!("{}a", "😀".repeat(2500)));
    let table: Vec<(Value, Option<&str>)> = vec![
        (json!([text(&long)]), None),
        (json!([text(&too_long)]), Some("messages[0].text")),
        (json!([text("")]), Some("messages[0].text")),
        (json!([]), Some("messages")),
        (json!([text("1"), text("2"), text("3"), text("4"), text("5"), text("6")]), Some("messages")),
        (json!([{ "type": "hologram" }]), Some("messages[0].type")),
        (json!([flex("a")]), None),
        (json!([flex(&"a".repeat(1501))]), Some("messages[0].altText")),
        (json!([{ "type": "flex", "contents": { "type": "bubble" } }]), Some("messages[0].altText")),
        (
            json!([{ "type": "flex", "altText": "a", "contents": { "type": "bubble", "body": {
            "type": "box", "layout": "vertical", "contents": [{ "type": "text", "text": "" }] } } }]),
            Some("messages[0].contents.body.contents[0].text"),
        ),
        (
            json!([{ "type": "image", "originalContentUrl": "http://x.test/a.png",
            "previewImageUrl": "https://x.test/a.png" }]),
            Some("messages[0].originalContentUrl"),
        ),
    ];
    for (messages, property) in table {
        let body = json!({ "to": user, "messages": messages });
        let answer = line.post("/v2/bot/message/push", &token, body).await;
        match property {
            None => assert_eq!(answer.status, StatusCode::OK, "{}", answer.text()),
            Some(property) => {
                assert_eq!(answer.status, StatusCode::BAD_REQUEST);
                let body = answer.json();
                assert_eq!(body["message"], "The request body has 1 error(s)", "{body}");
                assert_eq!(body["details"][0]["property"], property, "{body}");
            }
        }
    }
    let wrong = line.post("/v2/bot/message/push", "nonsense", json!({})).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let login = line.channel_token(LOGIN, LOGIN_SECRET).await;
    let wrong = line.post("/v2/bot/message/push", &login, json!({})).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn rich_menus_keep_lines_rules() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    let friend = line.friend("Friend").await;
    let stranger = line.user("Stranger", None).await;
    let made = line.post("/v2/bot/richmenu", &token, menu()).await.json();
    let id = made["richMenuId"].as_str().unwrap();
    let link = |user: &str| format!("/v2/bot/user/{user}/richmenu/{id}");

    let early = line.post(&link(&friend), &token, json!({})).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST);
    let text = "must upload richmenu image before applying it to user";
    assert_eq!(early.json(), json!({ "message": text, "details": [] }));

    let content = format!("/v2/bot/richmenu/{id}/content");
    let bearer = format!("Bearer {token}");
    let upload = async |kind: &str, bytes: Vec<u8>| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        line.call(Method::POST, &content, &headers, bytes).await
    };
    assert_eq!(upload("image/gif", png(2500, 1686)).await.status.as_u16(), 415);
    let wrong = upload("image/png", png(2500, 843)).await.json();
    assert_eq!(wrong["message"], "The image size is not allowed for richmenu");
    let large = [png(2500, 1686), vec![0; 1024 * 1024]].concat();
    assert_eq!(upload("image/png", large).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(line.get(&content, &token).await.status, StatusCode::NOT_FOUND);
    assert_eq!(upload("image/png", png(2500, 1686)).await.json(), json!({}));
    let twice = upload("image/png", png(2500, 1686)).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    assert_eq!(twice.json()["message"], "An image has already been uploaded to the richmenu");
    let image = line.get(&content, &token).await;
    assert_eq!(image.header("content-type"), "image/png");
    assert_eq!(image.bytes, png(2500, 1686));

    for user in [&friend, &stranger] {
        assert_eq!(line.post(&link(user), &token, json!({})).await.json(), json!({}));
    }
    let menu_of = |user: &str| format!("/v2/bot/user/{user}/richmenu");
    let shown = line.get(&menu_of(&friend), &token).await.json();
    assert_eq!(shown, json!({ "richMenuId": id }));
    assert_eq!(line.chat(&friend).await["rich_menu"]["richMenuId"], id);
    let none = line.get(&menu_of(&stranger), &token).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert_eq!(none.json()["message"], "the user has no richmenu");
    assert_eq!(line.chat(&stranger).await["rich_menu"], Value::Null);

    let all = format!("/v2/bot/user/all/richmenu/{id}");
    assert_eq!(line.post(&all, &token, json!({})).await.status, StatusCode::OK);
    assert_eq!(line.chat(&stranger).await["rich_menu"]["richMenuId"], id);
    let list = line.get("/v2/bot/richmenu/list", &token).await.json();
    assert_eq!(list["richmenus"][0]["richMenuId"], id);
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/v2/bot/richmenu/{id}");
    let delete = line.call(Method::DELETE, &path, &headers, Body::empty()).await;
    assert_eq!(delete.json(), json!({}));
    let default = line.get("/v2/bot/user/all/richmenu", &token).await;
    assert_eq!(default.json()["message"], "no default richmenu");

    let mut bad = menu();
    bad["name"] = Value::Null;
    bad["areas"][0]["action"]["uri"] = json!("javascript:alert(1)");
    let refused = line.post("/v2/bot/richmenu/validate", &token, bad).await.json();
    assert_eq!(
        refused,
        json!({ "message": "The request body has 2 error(s)", "details": [
            { "message": "must be specified", "property": "name" },
            { "message": "invalid uri", "property": "areas[0].action.uri" },
        ] })
    );
}

#[tokio::test]
async fn each_host_has_its_own_paths() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    let table = [
        ("/oauth2/v2.1/certs", Host::Api),
        ("/v2/bot/info", Host::Api),
        ("/.well-known/openid-configuration", Host::Access),
        ("/_sim/health", Host::Access),
    ];
    for (path, home) in table {
        for host in [Host::All, Host::Access, Host::Api, Host::ApiData, Host::Liff] {
            let request = Request::get(path).header("authorization", format!("Bearer {token}"));
            let answer = send(&line.simulator.router(host), request.body(Body::empty()).unwrap()).await;
            let expected = if host == Host::All || host == home { 200 } else { 404 };
            assert_eq!(answer.status.as_u16(), expected, "{path} on {host:?}");
        }
    }
    for path in ["//v2/bot/info", "/v2/bot/info/", "/v2//bot/info", "/v2/bot/nothing"] {
        let answer = line.get(path, &token).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json(), json!({ "message": "Not found" }));
        assert_eq!(answer.header("x-line-request-id").len(), 36);
    }
}

#[tokio::test]
async fn faults_strike_before_or_after_handling() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let order = async |mut fault: Value| {
        fault["endpoint"] = json!("POST /v2/bot/message/push");
        let answer = line.post("/_sim/faults", "", fault).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    };
    let delivered = async || line.chat(&user).await["messages"].as_array().unwrap().len();

    order(json!({ "status": 429, "count": 1, "headers": { "x-test": "1" } })).await;
    let limited = line.push(&user, RETRY_KEY).await;
    assert_eq!((limited.status.as_u16(), limited.header("x-test")), (429, "1"));
    assert_eq!(delivered().await, 0);

    order(json!({ "cut": "before" })).await;
    assert_eq!(line.push(&user, RETRY_KEY).await.bytes, b"");
    assert_eq!(delivered().await, 0);

    order(json!({ "cut": "after" })).await;
    assert_eq!(line.push(&user, RETRY_KEY).await.bytes, b"");
    assert_eq!(delivered().await, 1);
    assert_eq!(line.push(&user, RETRY_KEY).await.status, StatusCode::CONFLICT);

    order(json!({ "truncate": 5 })).await;
    assert_eq!(line.push(&user, "").await.text(), "{\"sen");
    order(json!({ "replace_body": "<html>" })).await;
    assert_eq!(line.push(&user, "").await.text(), "<html>");
    assert_eq!(line.push(&user, "").await.status, StatusCode::OK);
    assert_eq!(delivered().await, 4);
    let ledger = line.get("/_sim/ledger", "").await.json();
    let pushes: Vec<&Value> =
        ledger["calls"].as_array().unwrap().iter().filter(|call| call["path"] == "/v2/bot/message/push").collect();
    let handled: Vec<bool> = pushes.iter().map(|c| c["handled"].as_bool().unwrap()).collect();
    assert_eq!(handled, [false, false, true, true, true, true, true]);
    assert_eq!(pushes[0]["retry_key"], RETRY_KEY);
}

#[tokio::test]
async fn a_cut_connection_is_an_error_to_a_client() {
    let line = Line::open(None);
    line.post("/_sim/faults", "", json!({ "endpoint": "*", "cut": "before" })).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/oauth2/v2.1/certs", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, line.router).await });
    #[expect(clippy::disallowed_methods, reason = "the simulator is called as anybody would call it")]
    let client = reqwest::Client::new();
    let answer = match client.get(&url).send().await {
        Ok(response) => response.text().await,
        Err(error) => Err(error),
    };
    assert!(answer.is_err());
    assert!(client.get(&url).send().await.unwrap().text().await.unwrap().contains("ES256"));
    server.abort();
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let line = Line::open(Some(folder.path()));
    let user = line.friend("Taro").await;
    let tokens = line.tokens(&user).await;
    let sent = line.push(&user, RETRY_KEY).await.json();
    let keys = line.get("/oauth2/v2.1/certs", "").await.json();
    line.simulator.save().unwrap();
    drop(line);

    let line = Line::open(Some(folder.path()));
    assert_eq!(line.get("/oauth2/v2.1/certs", "").await.json(), keys);
    let again = line.push(&user, RETRY_KEY).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.json()["sentMessages"], sent["sentMessages"]);
    let profile = line.get("/v2/profile", tokens["access_token"].as_str().unwrap()).await.json();
    assert_eq!(profile["userId"], user);
    assert_eq!(line.chat(&user).await["friend"], true);

    line.post("/_sim/reset", "", json!({})).await;
    assert_eq!(line.get("/_sim/users", "").await.json(), json!({ "users": [] }));
    assert_eq!(line.get("/oauth2/v2.1/certs", "").await.json(), keys);
}

#[tokio::test]
async fn the_pages_show_text_as_text() {
    let line = Line::open(None);
    let user = line.friend("<script>Taro").await;
    let token = line.bot_token().await;
    let bubble = json!({ "type": "bubble", "body": { "type": "box", "layout": "vertical", "contents": [
        { "type": "text", "text": "<i>points</i>", "color": "#112233" },
        { "type": "button", "action": { "type": "uri", "label": "Go", "uri": "https://app.test/go" } },
    ] } });
    let body = json!({ "to": user, "messages": [
        { "type": "text", "text": "<img src=x>" },
        { "type": "flex", "altText": "Points", "contents": bubble },
        { "type": "sticker", "packageId": "1", "stickerId": "2" },
    ] });
    assert_eq!(line.post("/v2/bot/message/push", &token, body).await.status, StatusCode::OK);
    for path in [
        "/_sim/".to_owned(),
        "/_sim/trace".to_owned(),
        format!("/_sim/phone/{user}"),
        format!("/_sim/phone/{user}/chat"),
    ] {
        let page = line.get(&path, "").await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for markup in ["<script>Taro", "<img src=x", "<i>points"] {
            assert!(!page.text().contains(markup), "{path} {markup}");
        }
    }
    let page = line.get(&format!("/_sim/phone/{user}/chat"), "").await.text();
    assert!(page.contains("href=\"https://app.test/go\""), "{page}");
    assert!(page.contains("color:#112233"), "{page}");
    assert!(page.contains("[sticker]"), "{page}");
    let css = line.get("/_sim/static/simulator.css", "").await;
    assert_eq!(css.header(header::CONTENT_TYPE.as_str()), "text/css; charset=utf-8");
}

#[tokio::test]
async fn rates_are_limited_by_a_bucket() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    for _ in 0..10 {
        let list = line.get("/v2/bot/richmenu/list", &token).await;
        assert_eq!(list.status, StatusCode::OK);
    }
    let limited = line.get("/v2/bot/richmenu/list", &token).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    let text = "The API rate limit has been exceeded. Try again later.";
    assert_eq!(limited.json(), json!({ "message": text }));
    line.pass(100);
    let again = line.get("/v2/bot/richmenu/list", &token).await;
    assert_eq!(again.status, StatusCode::OK);
}

#[tokio::test]
async fn the_31st_short_lived_token_ends_the_first() {
    let line = Line::open(None);
    let issue = async |id: &str, secret: &str| {
        let params = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        line.pass(1);
        line.form("/v2/oauth/accessToken", &params).await.json()
    };
    let mut tokens = Vec::new();
    for _ in 0..31 {
        let issued = issue(BOT, BOT_SECRET).await;
        assert_eq!(issued["expires_in"], 2_592_000);
        tokens.push(issued["access_token"].as_str().unwrap().to_owned());
    }
    let first = line.get("/v2/bot/info", &tokens[0]).await;
    assert_eq!(first.status, StatusCode::UNAUTHORIZED);
    let second = line.get("/v2/bot/info", &tokens[1]).await;
    assert_eq!(second.status, StatusCode::OK);
    let verified = line.form("/v2/oauth/verify", &[("access_token", &tokens[30])]).await;
    assert_eq!(verified.json()["client_id"], BOT);
    assert_eq!(
        issue(BOT, "wrong").await,
        json!({ "error": "invalid_client", "error_description": "invalid client_secret" })
    );

    let user = line.user("Taro", None).await;
    let access = line.tokens(&user).await["access_token"].clone();
    let login = issue(LOGIN, LOGIN_SECRET).await;
    let body = json!({ "userAccessToken": access });
    let token = login["access_token"].as_str().unwrap();
    let refused = line.post("/user/v1/deauthorize", token, body).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_caller_who_hangs_up_is_served_nevertheless() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let fault = json!({ "endpoint": "POST /v2/bot/message/push", "delay_ms": 600_000 });
    line.post("/_sim/faults", "", fault).await;
    let patience = std::time::Duration::from_millis(200);
    let push = tokio::time::timeout(patience, line.push(&user, RETRY_KEY));
    assert!(push.await.is_err());
    let again = line.push(&user, RETRY_KEY).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let ledger = line.get("/_sim/ledger", "").await.json();
    assert_eq!(ledger["deliveries"][0]["count"], 1);
    let calls = ledger["calls"].as_array().unwrap();
    let pushes = calls.iter().filter(|call| call["retry_key"] == RETRY_KEY);
    let statuses: Vec<i64> = pushes.map(|call| call["status"].as_i64().unwrap()).collect();
    assert_eq!(statuses, [200, 409]);
}

/// A public key of a channel, registered as in LINE's console; gives its key id and what signs with it.
async fn assertion_key(line: &Line, channel: &str) -> (String, aws_lc_rs::rsa::KeyPair) {
    use aws_lc_rs::{
        rsa::{KeyPair, KeySize},
        signature::KeyPair as _,
    };
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_ref();
    let (n, e) = (URL_SAFE_NO_PAD.encode(&der[9..265]), URL_SAFE_NO_PAD.encode(&der[267..]));
    let jwk = json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e });
    let path = format!("/_sim/channels/{channel}/assertion-keys");
    let mut with_kid = jwk.clone();
    with_kid["kid"] = json!("mine");
    assert_eq!(line.post(&path, "", json!({ "jwk": with_kid })).await.status, StatusCode::BAD_REQUEST);
    let made = line.post(&path, "", json!({ "jwk": jwk })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    (made.json()["kid"].as_str().unwrap().to_owned(), pair)
}

fn assertion(pair: &aws_lc_rs::rsa::KeyPair, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Line {
    async fn by_assertion(&self, path: &str, jwt: &str) -> Answer {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", jwt),
        ];
        self.form(path, &form).await
    }
}

#[tokio::test]
async fn tokens_v21_by_assertion() {
    let line = Line::open(None);
    let (kid, pair) = assertion_key(&line, BOT).await;
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": kid });
    let now = START / 1000;
    let claims = json!({ "iss": BOT, "sub": BOT, "aud": "https://api.line.me/", "exp": now + 1800, "token_exp": 3600 });
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        assertion(&pair, &header, &changed)
    };
    let good = assertion(&pair, &header, &claims);
    let path = "/oauth2/v2.1/token";
    for (jwt, status, words) in [
        (assertion(&pair, &json!({ "alg": "RS256", "kid": "another" }), &claims), 404, "Cannot find channel key"),
        (assertion(&pair, &json!({ "alg": "HS256", "kid": kid }), &claims), 400, "Invalid client_assertion"),
        (format!("{}AAAA", &good[..good.len() - 4]), 400, "Invalid client_assertion"),
        ("no.jwt".to_owned(), 400, "Invalid client_assertion"),
        (with("iss", json!(LOGIN)), 400, "iss and clientId of key do not match"),
        (with("sub", json!("1")), 400, "iss and clientId of key do not match"),
        (with("aud", json!("https://api.line.me")), 400, "Invalid aud"),
        (with("exp", json!(now + 1860)), 400, "Invalid exp"),
        (with("exp", json!(now - 1)), 400, "Invalid exp"),
        (with("token_exp", json!(2_592_001)), 400, "Invalid token_exp"),
        (with("token_exp", Value::Null), 400, "Invalid token_exp"),
    ] {
        let answer = line.by_assertion(path, &jwt).await;
        assert_eq!(answer.status.as_u16(), status, "{words}: {}", answer.text());
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
    }

    let made = line.by_assertion(path, &good).await.json();
    assert_eq!((&made["expires_in"], &made["token_type"]), (&json!(3600), &json!("Bearer")));
    let token = made["access_token"].as_str().unwrap().to_owned();
    assert_eq!(line.get("/v2/bot/info", &token).await.status, StatusCode::OK);
    let verified = line.get(&format!("/oauth2/v2.1/verify?access_token={token}"), "").await.json();
    assert_eq!((&verified["client_id"], &verified["expires_in"]), (&json!(BOT), &json!(3600)));

    for _ in 0..29 {
        assert_eq!(line.by_assertion(path, &good).await.status, StatusCode::OK);
    }
    let refused = line.by_assertion(path, &good).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json(), json!({ "message": "The maximum number of access tokens has already been issued" }));
    let kids = format!("/oauth2/v2.1/tokens/kid?client_assertion_type={ASSERTION_TYPE}&client_assertion={good}");
    let listed = line.get(&kids, "").await.json();
    assert!(listed["kids"].as_array().unwrap().contains(&made["key_id"]));
    assert_eq!(listed["kids"].as_array().unwrap().len(), 30);

    // One is taken back, as only its own channel can.
    let wrong = [("client_id", BOT), ("client_secret", "wrong"), ("access_token", token.as_str())];
    assert_eq!(line.form("/oauth2/v2.1/revoke", &wrong).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(line.get("/v2/bot/info", &token).await.status, StatusCode::OK);
    let right = [("client_id", BOT), ("client_secret", BOT_SECRET), ("access_token", token.as_str())];
    for _ in 0..2 {
        assert_eq!(line.form("/oauth2/v2.1/revoke", &right).await.status, StatusCode::OK);
    }
    assert_eq!(line.get("/v2/bot/info", &token).await.status, StatusCode::UNAUTHORIZED);
    let again = line.by_assertion(path, &good).await.json()["access_token"].as_str().unwrap().to_owned();
    let broken = [("client_id", BOT), ("client_secret", BOT_SECRET), ("access_token", "broken")];
    let refused = line.form("/oauth2/v2.1/revoke", &broken).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error_description"], "The access token not JWS");
    let how_it_ended = async |token: &str| {
        let verified = line.get(&format!("/oauth2/v2.1/verify?access_token={token}"), "").await;
        assert_eq!(verified.status, StatusCode::BAD_REQUEST);
        verified.json()["error_description"].clone()
    };
    assert_eq!(how_it_ended(&token).await, "The access token revoked");

    // Stateless ones come by the same assertion, and are in no list.
    let stateless = line.by_assertion("/oauth2/v3/token", &good).await.json();
    assert_eq!(stateless["expires_in"], 900);
    assert_eq!(line.get(&kids, "").await.json()["kids"].as_array().unwrap().len(), 30);

    line.pass(3600 * 1000);
    assert_eq!(how_it_ended(&again).await, "The access token expired");
}

#[tokio::test]
async fn the_31st_short_lived_token_ends_the_oldest_and_a_long_lived_one_its_former() {
    let line = Line::open(None);
    let form = [("grant_type", "client_credentials"), ("client_id", BOT), ("client_secret", BOT_SECRET)];
    let mut tokens = Vec::new();
    for _ in 0..31 {
        line.pass(1);
        let made = line.form("/v2/oauth/accessToken", &form).await.json();
        tokens.push(made["access_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(line.get("/v2/bot/info", &tokens[0]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(line.get("/v2/bot/info", &tokens[1]).await.status, StatusCode::OK);

    let path = format!("/_sim/channels/{BOT}/long-lived-token");
    let first = line.post(&path, "", json!({})).await.json()["access_token"].as_str().unwrap().to_owned();
    let verified = line.form("/v2/oauth/verify", &[("access_token", &first)]).await.json();
    assert!(verified["expires_in"].as_i64().unwrap() > i64::from(i32::MAX));
    line.post(&path, "", json!({})).await;
    assert_eq!(line.get("/v2/bot/info", &first).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(line.get("/v2/bot/info", &tokens[30]).await.status, StatusCode::OK);
}
