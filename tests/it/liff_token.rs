//! ID tokens of LIFF apps that are not what they should be, each by one mutation of a valid one; and LINE's keys.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use musubi::line::{
    self, Hosts, ISSUER, Line,
    id_token::{
        Identity,
        Rejection::{self, *},
        liff::{Expected, Unverified},
    },
    jwks::{Cache, Key},
};
use serde_json::{Value, json};

use crate::{
    stub::{Answer, Stub},
    support::{LOGIN_CHANNEL as CHANNEL, LOGIN_SECRET, hs256},
};

const NOW: i64 = 1_800_000_000;
const SUB: &str = "U0123456789abcdef0123456789abcdef";
const ACCESS: &str = "eyJhbGciOiJIUzI1NiJ9.access.token";
const CERTS: &str = "GET /oauth2/v2.1/certs";

/// Somebody with a P-256 key.
pub struct Signer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Signer {
    pub fn new(kid: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid }
    }

    fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub fn jwk(&self) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
            "x": encode(&self.point()[1..33]), "y": encode(&self.point()[33..]) })
    }

    /// Header and claims just as given.
    pub fn sign_as(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// As LINE signs for LIFF.
    pub fn sign(&self, claims: &str) -> String {
        self.sign_as(&json!({ "typ": "JWT", "alg": "ES256", "kid": self.kid }).to_string(), claims)
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims that pass; neither nonce nor amr, as seen of LINE.
fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": SUB, "aud": CHANNEL, "exp": NOW + 3600, "iat": NOW, "name": "はなこ" })
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims.to_string()
}

/// LINE, its keys, and what we hold of them.
struct Stage {
    line: Line,
    stub: Stub,
    cache: Cache,
    line_key: Signer,
    key: Key,
}

impl Stage {
    async fn set() -> Self {
        let (stub, line) = line_client().await;
        let line_key = Signer::new("line-1");
        stub.script(CERTS, Answer::Json(200, json!({ "keys": [line_key.jwk()] })));
        let cache = Cache::default();
        let key = cache.find(&line, Some("line-1"), 0).await.unwrap().unwrap();
        Self { line, stub, cache, line_key, key }
    }

    fn verify(&self, token: &str) -> Result<Identity, Rejection> {
        let expected = Expected { channel_id: CHANNEL, now: NOW, access_token: Some(ACCESS) };
        Unverified::read(token)?.verify(&self.key, expected).map(|verified| verified.identity)
    }

    fn accepts(&self, claims: &str) {
        let verdict = self.verify(&self.line_key.sign(claims));
        assert_eq!(verdict.map(|identity| identity.user_id).as_deref(), Ok(SUB), "{claims}");
    }

    fn rejects(&self, claims: &str, why: Rejection) {
        assert_eq!(self.verify(&self.line_key.sign(claims)), Err(why), "{claims}");
    }

    fn rejects_header(&self, header: &str, why: Rejection) {
        assert_eq!(self.verify(&self.line_key.sign_as(header, &claims().to_string())), Err(why), "{header}");
    }

    /// The key that a token's header leads to, as of a moment.
    async fn find(&self, kid: Option<&str>, now: i64) -> Result<Option<Key>, line::Error> {
        self.cache.find(&self.line, kid, now).await
    }

    fn asked(&self) -> usize {
        self.stub.calls(CERTS).len()
    }

    fn serves(&self, keys: &[&Signer]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.stub.script(CERTS, Answer::Json(200, json!({ "keys": keys })));
    }
}

async fn line_client() -> (Stub, Line) {
    let (stub, url) = Stub::start().await;
    let url = url::Url::parse(&url).unwrap();
    let line = Line::new(Hosts { access: url.clone(), api: url.clone(), api_data: url }).unwrap();
    (stub, line)
}

#[tokio::test]
async fn t00_the_valid_liff_token_is_accepted() {
    let stage = Stage::set().await;
    stage.accepts(&claims().to_string());
    let identity = stage.verify(&stage.line_key.sign(&claims().to_string())).unwrap();
    assert_eq!((identity.name.as_deref(), identity.picture), (Some("はなこ"), None));
    stage.accepts(&without("name"));
    stage.accepts(&with("nonce", json!("whatever")));
}

#[tokio::test]
async fn t01_an_unsigned_liff_token() {
    let stage = Stage::set().await;
    for alg in ["none", "None", "nOnE", ""] {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": "line-1" }).to_string();
        stage.rejects_header(&header, Algorithm);
        assert_eq!(stage.verify(&format!("{}.{}.", encode(&header), encode(claims().to_string()))), Err(Algorithm));
    }
    let token = stage.line_key.sign(&claims().to_string());
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(stage.verify(&format!("{signed}.")), Err(Signature));
    assert_eq!(stage.verify(signed), Err(Shape));
}

#[tokio::test]
async fn t02_flipped_bits_of_a_liff_token() {
    let stage = Stage::set().await;
    let token = stage.line_key.sign(&claims().to_string());
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    for (place, part) in parts.iter().enumerate() {
        for bit in 0..part.len() * 8 {
            let mut changed = parts.clone();
            changed[place][bit / 8] ^= 1 << (bit % 8);
            let changed: Vec<String> = changed.iter().map(encode).collect();
            let verdict = stage.verify(&changed.join("."));
            // A flipped bit of the key's name alone leads to another key, or to none: the header is signed as well.
            assert!(verdict.is_err(), "part {place}, bit {bit}: {verdict:?}");
        }
    }
    let (signed, signature) = (token.rsplit_once('.').unwrap().0, &parts[2]);
    for length in (0..signature.len()).chain([65, 70, 128]) {
        let mut other = signature.clone();
        other.resize(length, 0);
        assert_eq!(stage.verify(&format!("{signed}.{}", encode(other))), Err(Signature), "{length} bytes");
    }
    assert_eq!(stage.verify(&format!("{signed}.{}", encode([0; 64]))), Err(Signature));
    let another = Signer::new("line-1").sign(&claims().to_string());
    assert_eq!(stage.verify(&another), Err(Signature), "somebody else's key of the same name");
}

#[tokio::test]
async fn t05_hs256_at_liff() {
    let stage = Stage::set().await;
    for header in [r#"{"typ":"JWT","alg":"HS256"}"#, r#"{"typ":"JWT","alg":"HS256","kid":"line-1"}"#] {
        assert_eq!(stage.verify(&hs256(LOGIN_SECRET.as_bytes(), header, &claims().to_string())), Err(Algorithm));
    }
    let header = r#"{"typ":"JWT","alg":"ES256","kid":"line-1"}"#;
    assert_eq!(stage.verify(&hs256(LOGIN_SECRET.as_bytes(), header, &claims().to_string())), Err(Signature));
}

#[tokio::test]
async fn t06_lines_public_key_as_hmac_key_at_liff() {
    let stage = Stage::set().await;
    let point = stage.line_key.point();
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let der = [&prefix[..], point].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let jwk = stage.line_key.jwk().to_string();
    for key in [pem.as_bytes(), &der, point, &point[1..], jwk.as_bytes(), b"line-1", b""] {
        for (alg, why) in [("HS256", Algorithm), ("ES256", Signature)] {
            let header = json!({ "alg": alg, "typ": "JWT", "kid": "line-1" }).to_string();
            assert_eq!(stage.verify(&hs256(key, &header, &claims().to_string())), Err(why));
        }
    }
}

#[tokio::test]
async fn t07_other_algorithms_at_liff() {
    let stage = Stage::set().await;
    for alg in ["RS256", "PS256", "ES384", "ES512", "ES256K", "EdDSA", "HS384", "HS512", "es256", "ES256 ", "dir"] {
        stage.rejects_header(&json!({ "alg": alg, "typ": "JWT", "kid": "line-1" }).to_string(), Algorithm);
    }
    for alg in [json!(null), json!(true), json!(["ES256"]), json!({ "alg": "ES256" })] {
        stage.rejects_header(&json!({ "alg": alg, "kid": "line-1" }).to_string(), Algorithm);
    }
    stage.rejects_header(r#"{"typ":"JWT","kid":"line-1"}"#, Algorithm);
}

/// Whatever tokens name, LINE is asked at most every 30 seconds.
#[tokio::test]
async fn t09_an_unknown_key_is_asked_for_every_30_seconds_at_most() {
    let stage = Stage::set().await;
    assert_eq!(stage.asked(), 1);
    for step in 0..1000 {
        stage.serves(&[&stage.line_key]);
        assert_eq!(stage.find(Some("zzz"), step * 29).await.unwrap(), None);
    }
    assert_eq!(stage.asked(), 1, "29 seconds are not over");
    assert_eq!(stage.find(Some("zzz"), 30_000).await.unwrap(), None);
    assert_eq!(stage.find(Some("zzz"), 59_999).await.unwrap(), None);
    assert_eq!(stage.asked(), 2);
    let many = (0..50).map(|_| stage.find(Some("zzz"), 60_000));
    for answer in futures_of(many).await {
        assert_eq!(answer.unwrap(), None);
    }
    assert_eq!(stage.asked(), 3, "all who come at one moment wait for one answer");
    assert!(stage.find(Some("line-1"), 60_001).await.unwrap().is_some());
}

async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut answers = Vec::new();
    let mut outputs: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pinned.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(answer) = future.as_mut().poll(context) {
                *output = Some(answer);
            }
        }
        if outputs.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers.extend(outputs.into_iter().flatten());
    answers
}

/// One key: a token without a key's name is taken. Two: which one it is would be a guess.
#[tokio::test]
async fn t10_a_liff_token_without_key_id() {
    let stage = Stage::set().await;
    let header = r#"{"typ":"JWT","alg":"ES256"}"#;
    let token = stage.line_key.sign_as(header, &claims().to_string());
    assert_eq!(Unverified::read(&token).unwrap().key_id(), None);
    assert!(stage.find(None, 1).await.unwrap().is_some());
    assert!(stage.verify(&token).is_ok());
    stage.serves(&[&stage.line_key, &Signer::new("line-2")]);
    assert!(stage.find(Some("line-2"), 40_000).await.unwrap().is_some());
    assert_eq!(stage.find(None, 40_001).await.unwrap(), None);
}

#[tokio::test]
async fn t11_a_key_id_is_only_compared() {
    let stage = Stage::set().await;
    let long = "x".repeat(1024 * 1024);
    for kid in ["../../etc/passwd", "' OR 1=1", "https://evil.example/key", "", "line-1\0", "LINE-1", "0"] {
        let token = stage.line_key.sign_as(&json!({ "alg": "ES256", "kid": kid }).to_string(), &claims().to_string());
        let read = Unverified::read(&token).unwrap();
        assert_eq!(read.key_id(), Some(kid));
        assert_eq!(stage.find(read.key_id(), 1).await.unwrap(), None, "{kid}");
    }
    for kid in [json!(1), json!(null), json!(["line-1"]), json!({ "kid": "line-1" }), json!(true)] {
        stage.rejects_header(&json!({ "alg": "ES256", "kid": kid }).to_string(), Key);
    }
    stage.rejects_header(&json!({ "alg": "ES256", "kid": long }).to_string(), Shape);
    assert_eq!(stage.stub.calls("").len(), 1, "nothing but the keys was ever asked for");
}

#[tokio::test]
async fn t12_a_key_by_the_header_at_liff() {
    let stage = Stage::set().await;
    let (canary, url) = Stub::start().await;
    let attacker = Signer::new("line-1");
    for (name, value) in [
        ("jku", json!(format!("{url}/jwks"))),
        ("x5u", json!(format!("{url}/cert"))),
        ("x5c", json!([STANDARD.encode("certificate")])),
        ("jwk", attacker.jwk()),
    ] {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "line-1", name: value }).to_string();
        assert_eq!(stage.verify(&attacker.sign_as(&header, &claims().to_string())), Err(Signature), "{header}");
    }
    assert_eq!(canary.calls("").len(), 0);
}

#[tokio::test]
async fn t14_another_kind_of_object_at_liff() {
    let stage = Stage::set().await;
    for typ in ["at+jwt", "logout+jwt", "JWE", "dpop+jwt", ""] {
        stage.rejects_header(&json!({ "alg": "ES256", "kid": "line-1", "typ": typ }).to_string(), Type);
    }
    for (name, value) in [("cty", "JWT"), ("enc", "A128GCM"), ("crit", "b64"), ("zip", "DEF")] {
        stage.rejects_header(&json!({ "alg": "ES256", "kid": "line-1", name: value }).to_string(), Type);
    }
    let nested = stage.line_key.sign(&claims().to_string());
    assert_eq!(stage.verify(&stage.line_key.sign(&json!(nested).to_string())), Err(Shape));
}

/// The rules over the claims are those of the web, but for nonce and start, which LIFF does not know.
#[tokio::test]
async fn t15_to_t24_the_claims_of_a_liff_token() {
    let stage = Stage::set().await;
    for name in ["exp", "iat", "nbf"] {
        for value in ["\"9999999999\"", "true", "null", "[]", "{}", "-1", "1.5", "1e18"] {
            stage.rejects(&with(name, json!("HERE")).replace("\"HERE\"", value), ClaimType);
        }
        stage.rejects(&with(name, json!("HERE")).replace("\"HERE\"", "1e400"), Shape);
    }
    stage.rejects(&with("exp", json!(NOW - 60)), Expired);
    stage.accepts(&with("exp", json!(NOW - 59)));
    stage.rejects(&without("exp"), Expired);
    stage.rejects(&with("exp", json!(NOW + 24 * 3600 + 1)), ExpiryFar);
    stage.rejects(&without("iat"), IssuedAt);
    stage.rejects(&with("iat", json!(NOW + 61)), IssuedAt);
    stage.accepts(&with("iat", json!(NOW - 3000)));
    stage.rejects(&with("nbf", json!(NOW + 61)), NotBefore);
    for iss in [json!(format!("{ISSUER}/")), json!("http://access.line.me"), json!(""), json!(null), json!([ISSUER])] {
        stage.rejects(&with("iss", iss), Issuer);
    }
    for aud in [json!("1000000009"), json!([]), json!([CHANNEL, "x"]), json!(1_000_000_001), json!(null), json!("")] {
        stage.rejects(&with("aud", aud), Audience);
    }
    stage.accepts(&with("azp", json!(CHANNEL)));
    stage.rejects(&with("azp", json!("other")), AuthorizedParty);
    for sub in [json!(""), json!(&SUB[..32]), json!(format!("{SUB}0")), json!([SUB]), json!(null), json!("google|1")] {
        stage.rejects(&with("sub", sub), Subject);
    }
    for name in ["iss", "aud", "sub"] {
        assert!(stage.verify(&stage.line_key.sign(&without(name))).is_err(), "{name}");
    }
    let half = encode(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ACCESS.as_bytes()).as_ref()[..16]);
    stage.accepts(&with("at_hash", json!(half)));
    stage.rejects(&with("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")), AccessTokenHash);
    let twice = claims().to_string().replacen('{', r#"{"sub":"Uffffffffffffffffffffffffffffffff","#, 1);
    assert!(stage.verify(&stage.line_key.sign(&twice)).is_err(), "a claim that comes twice");
}

#[tokio::test]
async fn t27_to_t29_odd_liff_tokens() {
    let stage = Stage::set().await;
    let deep = with("x", json!("HERE")).replace("\"HERE\"", &format!("{}{}", "[".repeat(2000), "]".repeat(2000)));
    for claims in [deep, format!("\u{feff}{}", claims()), format!("{} x", claims()), "null".into(), "[]".into()] {
        stage.rejects(&claims, Shape);
    }
    let token = stage.line_key.sign(&claims().to_string());
    for odd in [
        String::new(),
        "..".into(),
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        "A".repeat(10 * 1024 * 1024),
        format!("{}.{}", token, "A".repeat(8 * 1024)),
    ] {
        assert_eq!(stage.verify(&odd), Err(Shape));
    }
}

/// LINE signs with a new key: the next sign-in brings it, with one question.
#[tokio::test]
async fn x31_a_key_that_line_changed_is_fetched_once() {
    let stage = Stage::set().await;
    let next = Signer::new("line-2");
    stage.serves(&[&next]);
    assert!(stage.find(Some("line-2"), 30_000).await.unwrap().is_some());
    assert_eq!(stage.asked(), 2);
    assert!(stage.find(Some("line-2"), 30_001).await.unwrap().is_some());
    assert_eq!(stage.asked(), 2);
    assert_eq!(stage.find(Some("line-1"), 30_002).await.unwrap(), None, "what LINE does not publish any more");
    stage.serves(&[&next]);
    assert!(stage.find(Some("line-2"), 30_000 + 3_600_000).await.unwrap().is_some());
    assert_eq!(stage.asked(), 3, "once an hour in any case");
}

/// Keys that are known are good for a day without LINE; a key that is not known may be one that could not be read.
#[tokio::test]
async fn x32_known_keys_outlive_an_outage_by_a_day() {
    let stage = Stage::set().await;
    let hour = 3_600_000;
    let away = || stage.stub.script(CERTS, Answer::Json(503, json!({ "message": "away" })));
    for time in [hour, 5 * hour, 24 * hour - 1] {
        away();
        assert!(stage.find(Some("line-1"), time).await.unwrap().is_some(), "{time}");
    }
    assert!(stage.find(Some("line-2"), 24 * hour - 1).await.is_err());
    away();
    assert!(stage.find(Some("line-1"), 24 * hour + 30_000).await.is_err());
    stage.serves(&[&stage.line_key]);
    assert!(stage.find(Some("line-1"), 24 * hour + 34_000).await.unwrap().is_some(), "LINE is back");
    stage.serves(&[]);
    assert!(stage.find(Some("line-2"), 25 * hour).await.is_err());
    assert!(stage.find(Some("line-1"), 25 * hour).await.unwrap().is_some(), "an empty set is no set");
}

#[tokio::test]
async fn x32_without_keys_nobody_is_let_in() {
    let (stub, line) = line_client().await;
    let cache = Cache::default();
    for (time, asked) in [(0, 1), (2_999, 1), (3_000, 2)] {
        stub.script(CERTS, Answer::Json(500, json!({})));
        assert!(cache.find(&line, Some("line-1"), time).await.is_err());
        assert!(cache.find(&line, None, time).await.is_err());
        assert_eq!(stub.calls(CERTS).len(), asked, "{time}");
    }
}

/// Who needs a key that is good still does not wait for a LINE that does not answer.
#[tokio::test]
async fn x32_a_silent_line_holds_up_nobody_who_is_known() {
    let stage = std::sync::Arc::new(Stage::set().await);
    stage.stub.script(CERTS, Answer::Hang);
    let waiting = tokio::spawn({
        let stage = stage.clone();
        async move { stage.find(Some("line-2"), 40_000).await }
    });
    stage.stub.wait_for_calls(CERTS, 2).await;
    assert!(stage.find(Some("line-1"), 2 * 3_600_000).await.unwrap().is_some());
    stage.stub.release();
    assert!(waiting.await.unwrap().is_err());
}
