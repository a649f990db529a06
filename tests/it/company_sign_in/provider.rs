//! A company's OpenID provider, small and scriptable: it knows who signs in next, and does wrong where it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use musubi::app::Clock;
use serde_json::{Value, json};
use url::Url;

use crate::{
    liff_token::Signer,
    support::{hs256, parameter},
};

pub const CLIENT: &str = "musubi client";
pub const SECRET: &str = "4f9c+2%e7a/b13d5:8860";

/// How an ID token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Es256,
    Rs256,
    /// `alg` none, no signature.
    Unsigned,
    /// HS256 with the client's secret.
    Hs256,
    /// HS256 with the public key, as it is published.
    PublicKey,
    /// ES256 by somebody else, under our key's id.
    Stranger,
    /// ES256, one bit turned.
    Flipped,
}

/// What goes wrong at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Status(u16),
    Garbage,
    Endless,
    Elsewhere,
}

/// A code that was given out.
#[derive(Debug, Clone)]
struct Grant {
    redirect_uri: String,
    challenge: String,
    claims: Value,
    is_used: bool,
}

pub struct Script {
    pub clock: Clock,
    pub how: How,
    pub header: Value,
    /// Who signs in next: claims of the ID token.
    pub person: Value,
    /// Changes of the claims; null removes one.
    pub claims: Value,
    pub userinfo: Value,
    pub discovery: Value,
    /// Of the token reply.
    pub reply: Value,
    /// Seconds before now; none: it is not told.
    pub proved_ago: Option<i64>,
    pub checks_pkce: bool,
    /// Whether our client has no secret.
    pub is_public: bool,
    pub faults: BTreeMap<&'static str, Fault>,
    calls: Vec<String>,
    ec: Vec<Signer>,
    rsa: RsaKeyPair,
    grants: HashMap<String, Grant>,
}

#[derive(Clone)]
pub struct Provider {
    pub issuer: String,
    script: Arc<Mutex<Script>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            clock: Clock::default(),
            how: How::Es256,
            header: json!({}),
            person: json!({ "sub": "1001" }),
            claims: json!({}),
            userinfo: json!({}),
            discovery: json!({}),
            reply: json!({}),
            proved_ago: None,
            checks_pkce: true,
            is_public: false,
            faults: BTreeMap::new(),
            calls: Vec::new(),
            ec: vec![Signer::new("ec-1")],
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            grants: HashMap::new(),
        };
        let provider = Self { issuer, script: Arc::new(Mutex::new(script)) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/jwks", get(jwks))
            .route("/userinfo", get(userinfo))
            .route("/logout", get(logout))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        provider
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// The calls so far to a path.
    pub fn calls(&self, path: &str) -> usize {
        self.script().calls.iter().filter(|call| *call == path).count()
    }

    pub fn fault(&self, path: &'static str, fault: Fault) {
        self.script().faults.insert(path, fault);
    }

    pub fn mend(&self) {
        let mut script = self.script();
        script.faults.clear();
        (script.claims, script.header, script.reply) = (json!({}), json!({}), json!({}));
        (script.userinfo, script.discovery, script.how) = (json!({}), json!({}), How::Es256);
        script.checks_pkce = true;
    }

    /// Signs with another key from now on.
    pub fn rotate(&self, id: &'static str) {
        self.script().ec = vec![Signer::new(id)];
    }

    /// What the next person does there; gives the callback's path and query.
    pub fn authorize(&self, url: &str) -> String {
        let back = self.answer(url);
        format!("{}?{}", back.path(), back.query().unwrap())
    }

    fn answer(&self, url: &str) -> Url {
        let asked = Url::parse(url).unwrap();
        let get = |name: &str| parameter(url, name);
        assert_eq!((get("response_type").as_str(), get("client_id").as_str()), ("code", CLIENT));
        assert_eq!(get("code_challenge_method"), "S256");
        assert!(get("scope").split(' ').any(|scope| scope == "openid"), "{asked}");
        let mut script = self.script();
        let now = script.clock.now().seconds();
        let mut claims =
            json!({ "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": get("nonce") });
        merge(&mut claims, &script.person);
        if let Some(ago) = script.proved_ago {
            claims["auth_time"] = json!(now - ago);
        }
        let code = format!("code-{}-{}", script.grants.len(), "x".repeat(300));
        let redirect_uri = get("redirect_uri");
        let grant =
            Grant { redirect_uri: redirect_uri.clone(), challenge: get("code_challenge"), claims, is_used: false };
        script.grants.insert(code.clone(), grant);
        let mut back = Url::parse(&redirect_uri).unwrap();
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &get("state"));
        back
    }
}

/// Overwrites and adds; null removes.
fn merge(base: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
}

impl Script {
    /// Notes the call; gives the wrong answer that is planned for it.
    fn called(&mut self, path: &'static str) -> Option<Response> {
        self.calls.push(path.to_owned());
        Some(match self.faults.get(path)? {
            Fault::Status(status) => {
                let status = StatusCode::from_u16(*status).unwrap();
                (status, Json(json!({ "error": "server_error", "error_description": "down\n" }))).into_response()
            }
            Fault::Garbage => "<html>eyJhbGciOiJub25lIn0</html>".into_response(),
            Fault::Endless => Body::from(vec![b' '; 200_000]).into_response(),
            Fault::Elsewhere => Redirect::temporary("/userinfo").into_response(),
        })
    }

    fn sign(&self, claims: &Value) -> String {
        let sign_as = |header: Value, by: &Signer| {
            let mut header = header;
            merge(&mut header, &self.header);
            by.sign_as(&header.to_string(), &claims.to_string())
        };
        let key = &self.ec[0];
        let ours = || sign_as(json!({ "alg": "ES256", "typ": "JWT", "kid": key.jwk()["kid"] }), key);
        match self.how {
            How::Es256 => ours(),
            How::Rs256 => self.sign_rsa(claims),
            How::Unsigned => {
                let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "none" }).to_string());
                format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims.to_string()))
            }
            How::Hs256 => hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &claims.to_string()),
            How::PublicKey => {
                hs256(key.jwk().to_string().as_bytes(), r#"{"alg":"HS256","kid":"ec-1"}"#, &claims.to_string())
            }
            How::Stranger => sign_as(json!({ "alg": "ES256", "kid": key.jwk()["kid"] }), &Signer::new("stranger")),
            How::Flipped => {
                let mut token = ours().into_bytes();
                let at = token.len() - 20;
                token[at] = if token[at] == b'A' { b'B' } else { b'A' };
                String::from_utf8(token).unwrap()
            }
        }
    }

    fn sign_rsa(&self, claims: &Value) -> String {
        let mut header = json!({ "alg": "RS256", "kid": "rsa-1" });
        merge(&mut header, &self.header);
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn rsa_jwk(&self) -> Value {
        // A SEQUENCE of two INTEGERs: 257 bytes, the first of which is a zero, and 3.
        let der = self.rsa.public_key().as_ref();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!((der.len(), &der[267..]), (270, &[1, 0, 1][..]));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa-1", "n": number(&der[9..265]), "e": "AQAB" })
    }

    fn takes_client(&self, headers: &HeaderMap, form: &HashMap<String, String>) -> bool {
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(CLIENT), encoded(SECRET))));
        let by_header = headers.get(header::AUTHORIZATION).is_some_and(|value| value.to_str().unwrap() == basic);
        if self.is_public {
            let is_named = form.get("client_id").is_some_and(|id| id == CLIENT);
            return is_named && !form.contains_key("client_secret") && !headers.contains_key(header::AUTHORIZATION);
        }
        let by_form = form.get("client_id").is_some_and(|id| id == CLIENT)
            && form.get("client_secret").is_some_and(|secret| secret == SECRET);
        let wants_form = self.discovery["token_endpoint_auth_methods_supported"] == json!(["client_secret_post"]);
        if wants_form { by_form && !headers.contains_key(header::AUTHORIZATION) } else { by_header && !by_form }
    }
}

async fn discovery(State(provider): State<Provider>) -> Response {
    let mut script = provider.script();
    if let Some(wrong) = script.called("discovery") {
        return wrong;
    }
    let at = |path: &str| format!("{}{path}", provider.issuer);
    let mut document = json!({
        "issuer": provider.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
        "jwks_uri": at("/jwks"), "end_session_endpoint": at("/logout"), "response_types_supported": ["code"],
    });
    merge(&mut document, &script.discovery);
    Json(document).into_response()
}

/// A page with one button, for browsers.
async fn authorize(State(provider): State<Provider>, request: axum::extract::Request) -> Html<String> {
    let back = provider.answer(&format!("{}{}", provider.issuer, request.uri()));
    let back = back.to_string().replace('&', "&amp;");
    Html(format!(
        "<!doctype html><title>Example ID</title><h1>Example ID</h1><a href=\"{back}\">Continue as Hanako</a>"
    ))
}

async fn token(
    State(provider): State<Provider>,
    headers: HeaderMap,
    axum::Form(form): axum::Form<HashMap<String, String>>,
) -> Response {
    let mut script = provider.script();
    if let Some(wrong) = script.called("token") {
        return wrong;
    }
    let refuse = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    if !script.takes_client(&headers, &form) {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let verifier = form.get("code_verifier").cloned().unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref());
    let checks_pkce = script.checks_pkce;
    let Some(grant) = form.get("code").and_then(|code| script.grants.get_mut(code)) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let fits = (grant.challenge == challenge || !checks_pkce)
        && form.get("redirect_uri") == Some(&grant.redirect_uri)
        && form.get("grant_type").is_some_and(|kind| kind == "authorization_code");
    if std::mem::replace(&mut grant.is_used, true) || !fits {
        return refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let mut claims = grant.claims.clone();
    merge(&mut claims, &script.claims);
    let mut reply = json!({ "access_token": "access-1", "token_type": "Bearer", "expires_in": 300,
        "id_token": script.sign(&claims) });
    merge(&mut reply, &script.reply);
    Json(reply).into_response()
}

async fn jwks(State(provider): State<Provider>) -> Response {
    let mut script = provider.script();
    if let Some(wrong) = script.called("jwks") {
        return wrong;
    }
    let mut keys: Vec<Value> = script.ec.iter().map(Signer::jwk).collect();
    keys.push(script.rsa_jwk());
    Json(json!({ "keys": keys })).into_response()
}

async fn userinfo(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    let mut script = provider.script();
    if let Some(wrong) = script.called("userinfo") {
        return wrong;
    }
    assert_eq!(headers[header::AUTHORIZATION], "Bearer access-1");
    Json(script.userinfo.clone()).into_response()
}

async fn logout(State(provider): State<Provider>, Query(asked): Query<HashMap<String, String>>) -> Redirect {
    assert_eq!(asked["client_id"], CLIENT);
    provider.script().calls.push("logout".to_owned());
    Redirect::to(&asked["post_logout_redirect_uri"])
}
