//! ID tokens that are not what they should be, each by one mutation of a valid one.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use musubi::line::{
    ISSUER,
    id_token::{
        Expected, Identity,
        Rejection::{self, *},
        verify_web,
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    login::{come_back, id_token, linked_person, reply_with},
    support::{LOGIN_CHANNEL as CHANNEL, LOGIN_SECRET as SECRET, PASSWORD, Refusal, both_engines, hs256, refused},
};

const NOW: i64 = 1_800_000_000;
const STARTED: i64 = NOW - 120;
const NONCE: &str = "n0nce-of-this-attempt";
const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;
const SUB: &str = "U0123456789abcdef0123456789abcdef";
const ACCESS: &str = "eyJhbGciOiJIUzI1NiJ9.access.token";

/// The claims that pass.
fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": SUB, "aud": CHANNEL, "exp": NOW + 3600, "iat": NOW, "nonce": NONCE,
        "amr": ["pwd"], "name": "はなこ" })
}

/// The valid claims with one changed.
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

/// As LINE signs.
fn sign(claims: &str) -> String {
    hs256(SECRET.as_bytes(), HEADER, claims)
}

fn verify(token: &str) -> Result<Identity, Rejection> {
    let secret = SecretString::from(SECRET);
    let expected = Expected {
        channel_id: CHANNEL,
        secret: &secret,
        former_secret: None,
        nonce: &|nonce| nonce == NONCE,
        now: NOW,
        started: STARTED,
        access_token: ACCESS,
    };
    verify_web(token, &expected)
}

fn accepts(claims: &str) {
    assert_eq!(verify(&sign(claims)).map(|identity| identity.user_id).as_deref(), Ok(SUB), "{claims}");
}

fn rejects(claims: &str, why: Rejection) {
    assert_eq!(verify(&sign(claims)), Err(why), "{claims}");
}

fn rejects_header(header: &str, why: Rejection) {
    assert_eq!(verify(&hs256(SECRET.as_bytes(), header, &claims().to_string())), Err(why), "{header}");
}

/// Header, payload and signature of the valid token, encoded.
fn parts() -> [String; 3] {
    let token = sign(&claims().to_string());
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn es256(header: &str) -> (EcdsaKeyPair, String) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", encode(signature));
    (key, token)
}

#[test]
fn t00_the_valid_token_is_accepted() {
    let identity = verify(&sign(&claims().to_string())).unwrap();
    assert_eq!((identity.user_id.as_str(), identity.name.as_deref()), (SUB, Some("はなこ")));
    rejects_header(r#"{"alg":"HS256","typ":7}"#, Type);
    assert!(verify(&hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &claims().to_string())).is_ok(), "typ is optional");
}

#[test]
fn t01_unsigned() {
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
        rejects_header(&header, Algorithm);
        let unsigned = format!("{}.{}.", encode(&header), encode(claims().to_string()));
        assert_eq!(verify(&unsigned), Err(Algorithm), "{alg}");
    }
    let [header, payload, _] = parts();
    assert_eq!(verify(&format!("{header}.{payload}.")), Err(Signature));
    assert_eq!(verify(&format!("{header}.{payload}")), Err(Shape));
}

#[test]
fn t02_flipped_bits() {
    let [header, payload, signature] = parts();
    let tag = URL_SAFE_NO_PAD.decode(&signature).unwrap();
    for bit in 0..tag.len() * 8 {
        let mut flipped = tag.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&format!("{header}.{payload}.{}", encode(flipped))), Err(Signature), "bit {bit}");
    }
    for length in 0..tag.len() {
        assert_eq!(verify(&format!("{header}.{payload}.{}", encode(&tag[..length]))), Err(Signature), "{length} bytes");
    }
    let longer = [tag.as_slice(), &[0]].concat();
    assert_eq!(verify(&format!("{header}.{payload}.{}", encode(longer))), Err(Signature));
    for (place, part) in [&header, &payload].into_iter().enumerate() {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        for (index, flip) in (0..bytes.len()).flat_map(|index| [1, 0x20, 0x80].map(|flip| (index, flip))) {
            let mut changed = bytes.clone();
            changed[index] ^= flip;
            let changed = encode(changed);
            let (header, payload) = if place == 0 { (&changed, &payload) } else { (&header, &changed) };
            let verdict = verify(&format!("{header}.{payload}.{signature}"));
            assert!(verdict.is_err(), "part {place}, byte {index} ^ {flip:#x}: {verdict:?}");
        }
    }
}

#[test]
fn t03_weak_hmac_keys() {
    let hex: Vec<u8> =
        (0..SECRET.len()).step_by(2).map(|at| u8::from_str_radix(&SECRET[at..at + 2], 16).unwrap()).collect();
    let upper = SECRET.to_uppercase();
    let others: [&[u8]; 8] = [
        b"",
        b"\0",
        CHANNEL.as_bytes(),
        &hex,
        crate::support::BOT_SECRET.as_bytes(),
        upper.as_bytes(),
        &SECRET.as_bytes()[..31],
        b"secret",
    ];
    for key in others {
        assert_eq!(verify(&hs256(key, HEADER, &claims().to_string())), Err(Signature), "{key:?}");
    }
}

#[test]
fn t04_es256_as_liff_has_it() {
    for header in [r#"{"typ":"JWT","alg":"ES256","kid":"k"}"#, r#"{"alg":"ES256"}"#] {
        assert_eq!(verify(&es256(header).1), Err(Algorithm));
    }
    assert_eq!(verify(&es256(HEADER).1), Err(Signature), "called HS256");
}

#[test]
fn t06_a_public_key_as_hmac_key() {
    let (key, _) = es256(HEADER);
    let point = key.public_key().as_ref();
    // SubjectPublicKeyInfo of a P-256 point.
    let prefix = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let mut der: Vec<u8> =
        (0..prefix.len()).step_by(2).map(|at| u8::from_str_radix(&prefix[at..at + 2], 16).unwrap()).collect();
    der.extend_from_slice(point);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) }).to_string();
    let keys: [&[u8]; 7] =
        [pem.as_bytes(), pem.trim().as_bytes(), &der, point, &point[1..], &point[1..33], jwk.as_bytes()];
    for key in keys {
        for header in [HEADER, r#"{"alg":"HS256","kid":"k"}"#] {
            assert_eq!(verify(&hs256(key, header, &claims().to_string())), Err(Signature));
        }
    }
}

#[test]
fn t07_other_algorithms() {
    for alg in ["RS256", "PS256", "ES384", "ES256K", "EdDSA", "HS384", "HS512", "hs256", "HS256 ", "dir", "A128GCM"] {
        rejects_header(&json!({ "alg": alg, "typ": "JWT" }).to_string(), Algorithm);
    }
    for alg in [json!(null), json!(true), json!(256), json!(["HS256"]), json!({ "alg": "HS256" })] {
        rejects_header(&json!({ "alg": alg, "typ": "JWT" }).to_string(), Algorithm);
    }
    rejects_header(r#"{"typ":"JWT"}"#, Algorithm);
}

/// Nothing in the header brings a key along; the verification has no way to fetch one either.
#[test]
fn t12_a_key_by_the_header() {
    let (key, _) = es256(HEADER);
    let point = key.public_key().as_ref();
    let symmetric = json!({ "kty": "oct", "k": encode("attacker"), "alg": "HS256" });
    let curve = json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) });
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!([STANDARD.encode("certificate")])),
        ("jwk", symmetric),
        ("jwk", curve),
        ("kid", json!("../../dev/null")),
    ] {
        let header = json!({ "alg": "HS256", "typ": "JWT", name: value }).to_string();
        for key in [&b"attacker"[..], b""] {
            assert_eq!(verify(&hs256(key, &header, &claims().to_string())), Err(Signature), "{header}");
        }
        let header = json!({ "alg": "ES256", "typ": "JWT", name: value }).to_string();
        assert_eq!(verify(&es256(&header).1), Err(Algorithm), "{header}");
    }
}

#[test]
fn t14_another_kind_of_object() {
    for typ in ["at+jwt", "logout+jwt", "JWE", "application/at+jwt", "dpop+jwt", "", "JWT "] {
        rejects_header(&json!({ "alg": "HS256", "typ": typ }).to_string(), Type);
    }
    for (name, value) in [("cty", "JWT"), ("enc", "A128GCM"), ("crit", "b64"), ("zip", "DEF")] {
        rejects_header(&json!({ "alg": "HS256", "typ": "JWT", name: value }).to_string(), Type);
    }
    rejects_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Type);
    rejects_header(r#"{"alg":"HS256","b64":false}"#, Type);
    rejects_header(r#"{"alg":"dir","enc":"A128GCM"}"#, Algorithm);
    let jwe = format!("{}.{}.AA.AA.AA", encode(r#"{"alg":"dir","enc":"A128GCM"}"#), encode("k"));
    assert_eq!(verify(&jwe), Err(Shape));
    let nested = sign(&claims().to_string());
    assert_eq!(verify(&hs256(SECRET.as_bytes(), HEADER, &nested)), Err(Shape));
    assert_eq!(verify(&hs256(SECRET.as_bytes(), HEADER, &json!(nested).to_string())), Err(Shape));
}

#[test]
fn t15_confused_types_of_times() {
    for name in ["exp", "iat", "nbf"] {
        for value in
            ["\"9999999999\"", "true", "null", "[]", "{}", "-1", "1.5", "1e18", "9999999999.0", "1e300", "-0.5"]
        {
            let claims = with(name, json!("HERE")).replace("\"HERE\"", value);
            rejects(&claims, ClaimType);
        }
        rejects(&with(name, json!("HERE")).replace("\"HERE\"", "1e400"), Shape);
        rejects(&with(name, json!("HERE")).replace("\"HERE\"", "NaN"), Shape);
        for value in [i64::MAX, i64::MIN, 0, 9_223_372_036_854_776] {
            assert!(
                verify(&sign(&with(name, json!(value)))).is_err() || (name == "nbf" && value == 0),
                "{name} {value}"
            );
        }
        assert!(verify(&sign(&with(name, json!(u64::MAX)))).is_err());
    }
}

#[test]
fn t16_expired() {
    rejects(&with("exp", json!(NOW - 61)), Expired);
    rejects(&with("exp", json!(NOW - 60)), Expired);
    accepts(&with("exp", json!(NOW - 59)));
}

#[test]
fn t17_expiry_missing_or_far() {
    rejects(&without("exp"), Expired);
    rejects(&with("exp", json!(NOW + 10 * 365 * 24 * 3600)), ExpiryFar);
    rejects(&with("exp", json!(NOW + 24 * 3600 + 1)), ExpiryFar);
    accepts(&with("exp", json!(NOW + 24 * 3600)));
}

#[test]
fn t18_time_of_issue() {
    rejects(&without("iat"), IssuedAt);
    rejects(&with("iat", json!(NOW + 61)), IssuedAt);
    accepts(&with("iat", json!(NOW + 60)));
    rejects(&with("iat", json!(STARTED - 61)), IssuedAt);
    accepts(&with("iat", json!(STARTED - 60)));
}

#[test]
fn t19_not_before() {
    rejects(&with("nbf", json!(NOW + 3600)), NotBefore);
    accepts(&with("nbf", json!(NOW)));
}

#[test]
fn t20_issuer() {
    rejects(&without("iss"), Issuer);
    for iss in [
        json!(format!("{ISSUER}1")),
        json!(format!("{ISSUER}/")),
        json!("http://access.line.me"),
        json!("HTTPS://ACCESS.LINE.ME"),
        json!("https://access.line.me:443"),
        json!("https://access.line.me\u{0}"),
        json!("https://evil.example"),
        json!("access.line.me"),
        json!(""),
        json!([ISSUER]),
        json!(null),
        json!(1),
    ] {
        rejects(&with("iss", iss), Issuer);
    }
}

#[test]
fn t21_audience() {
    rejects(&without("aud"), Audience);
    for aud in [
        json!(format!("{CHANNEL}1")),
        json!(CHANNEL.parse::<i64>().unwrap()),
        json!([]),
        json!([CHANNEL.parse::<i64>().unwrap()]),
        json!(crate::support::BOT_CHANNEL),
        json!([CHANNEL, "other"]),
        json!(["other", CHANNEL]),
        json!([CHANNEL, CHANNEL]),
        json!([[CHANNEL]]),
        json!({ "aud": CHANNEL }),
        json!(format!(" {CHANNEL}")),
        json!(""),
        json!(null),
    ] {
        rejects(&with("aud", aud), Audience);
    }
    accepts(&with("aud", json!([CHANNEL])));
}

#[test]
fn t23_authorized_party() {
    accepts(&with("azp", json!(CHANNEL)));
    for azp in [json!("other"), json!(null), json!([CHANNEL]), json!(CHANNEL.parse::<i64>().unwrap()), json!("")] {
        rejects(&with("azp", azp), AuthorizedParty);
    }
}

#[test]
fn t24_subject() {
    rejects(&without("sub"), Subject);
    for sub in [
        json!(""),
        json!(&SUB[..32]),
        json!(format!("{SUB}0")),
        json!(format!("U{}", "a".repeat(299))),
        json!(format!("C{}", &SUB[1..])),
        json!(format!("u{}", &SUB[1..])),
        json!(SUB.to_uppercase()),
        json!(format!("U{}g", &SUB[2..])),
        json!(format!("{}\u{0}", &SUB[..32])),
        json!(format!("{}０", &SUB[..30])),
        json!(format!(" {}", &SUB[1..])),
        json!("google|123"),
        json!([SUB]),
        json!({ "sub": SUB }),
        json!(1),
        json!(null),
    ] {
        rejects(&with("sub", sub), Subject);
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"Uffffffffffffffffffffffffffffffff","#, 1);
    assert!(verify(&sign(&twice)).is_err(), "a claim that comes twice");
}

#[test]
fn t25_nonce() {
    rejects(&without("nonce"), Nonce);
    let cut = &NONCE[..NONCE.len() - 1];
    for nonce in [
        json!(format!("{NONCE}1")),
        json!(cut),
        json!(NONCE.to_uppercase()),
        json!("of another attempt"),
        json!(""),
        json!([]),
        json!([NONCE]),
        json!(null),
        json!(0),
        json!(true),
    ] {
        rejects(&with("nonce", nonce), Nonce);
    }
}

#[test]
fn t27_parser_stress() {
    let signed = |header: &[u8], payload: &[u8]| {
        use aws_lc_rs::hmac;
        let signed = format!("{}.{}", encode(header), encode(payload));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
        format!("{signed}.{}", encode(tag))
    };
    let valid = claims().to_string();
    let deep = |depth: usize| {
        with("x", json!("HERE")).replace("\"HERE\"", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
    };
    let open = |depth: usize| "[".repeat(depth);
    for payload in [
        deep(10_000).into_bytes(),
        deep(2_000).into_bytes(),
        deep(200).into_bytes(),
        open(5_000).into_bytes(),
        "{\"a\":".repeat(1_000).into_bytes(),
        format!("\u{feff}{valid}").into_bytes(),
        format!("{valid} x").into_bytes(),
        format!("{valid}{valid}").into_bytes(),
        format!("{valid}\0").into_bytes(),
        valid.replace("はなこ", "\\ud800").into_bytes(),
        valid.replace("はなこ", "\\udc00\\ud800").into_bytes(),
        valid.replace("はなこ", "\0").into_bytes(),
        [valid.replace("はなこ\"", "").as_bytes(), b"\xff\xfe\"}"].concat(),
        [b"\xff".as_slice(), valid.as_bytes()].concat(),
        Vec::new(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"{".to_vec(),
    ] {
        assert_eq!(verify(&signed(HEADER.as_bytes(), &payload)), Err(Shape), "{}", String::from_utf8_lossy(&payload));
        assert_eq!(verify(&signed(&payload, valid.as_bytes())), Err(Shape));
    }
    accepts(&with("name", json!("\u{1F4A9}\u{202e}")));
    accepts(&with("x", json!([[[[1]]]])));
}

#[test]
fn t28_base64_stress() {
    let [header, payload, signature] = parts();
    let join = |parts: [&str; 3]| parts.join(".");
    for place in 0..3 {
        let part = [&header, &payload, &signature][place];
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        for changed in [
            format!("{part}="),
            format!("{part}=="),
            format!(" {part}"),
            format!("{part}\n"),
            format!("{}\n{}", &part[..4], &part[4..]),
            format!("{}%3D", part),
            format!("{}+/", &part[..part.len() - 2]),
            format!("{part}A"),
            URL_SAFE.encode(&bytes) + "=",
            "é".to_owned(),
        ] {
            let mut all = [header.as_str(), &payload, &signature];
            all[place] = &changed;
            let verdict = verify(&join(all));
            assert!(verdict.is_err(), "{changed:?}: {verdict:?}");
        }
    }
    // The last character of 32 bytes holds four bits that count and two that must be zero.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(signature.chars().last().unwrap()).unwrap();
    for low in 1..4 {
        let other = format!("{}{}", &signature[..42], alphabet.chars().nth(last + low).unwrap());
        assert_eq!(verify(&join([&header, &payload, &other])), Err(Shape), "not the one way to write it");
    }
}

#[test]
fn t29_parts_and_sizes() {
    let [header, payload, signature] = parts();
    for token in [
        String::new(),
        header.clone(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}.{signature}"),
        format!(".{header}.{payload}.{signature}"),
        "..".to_owned(),
        ".".repeat(8 * 1024),
        "A".repeat(10 * 1024 * 1024),
    ] {
        assert_eq!(verify(&token), Err(Shape));
    }
    let of_length = |length: usize| {
        (0..8 * 1024).map(|more| sign(&with("x", json!("x".repeat(more))))).find(|token| token.len() == length)
    };
    let longest = (8 * 1024 - 4..=8 * 1024).rev().find_map(of_length).unwrap();
    assert!(verify(&longest).is_ok(), "{} bytes", longest.len());
    let too_long = (8 * 1024 + 1..8 * 1024 + 5).find_map(of_length).unwrap();
    assert_eq!(verify(&too_long), Err(Shape), "{} bytes", too_long.len());
}

#[test]
fn t30_hash_of_the_access_token() {
    let half = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        encode(&digest.as_ref()[..16])
    };
    accepts(&with("at_hash", json!(half(ACCESS))));
    for hash in [json!(half("another")), json!(""), json!(null), json!([half(ACCESS)]), json!(0)] {
        rejects(&with("at_hash", hash), AccessTokenHash);
    }
}

const TOKEN: &str = "/oauth2/v2.1/token";
const REVOKE: &str = "/oauth2/v2.1/revoke";

fn token_refused<'a>(reason: &'a str, calls: &'a [&'a str]) -> Refusal<'a> {
    Refusal::new(400, "line_token", reason).calls(calls).secrets(&["stolen-"])
}

both_engines! {
    async fn t25_a_nonce_of_another_attempt(app) {
        let (mut visitor, user) = linked_person(app).await;
        let other = visitor.start_line("sign_in", "/").await;
        for changes in [json!({}), json!({ "nonce": crate::support::parameter(&other, "nonce") }), json!({ "nonce": null })] {
            let back = come_back(&mut visitor, &user).await;
            reply_with(app, json!({ "id_token": id_token(app, &user, &changes) })).await;
            refused(&mut visitor, &back, token_refused("id_token_nonce", &[TOKEN, REVOKE])).await;
        }
    }

    /// Whatever the signature's length: a refusal, with its audit row, and no failure of ours.
    async fn t02_a_forged_token_at_the_door(app) {
        let (mut visitor, user) = linked_person(app).await;
        for signature in ["", "AA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(1000)] {
            let url = visitor.start_line("sign_in", "/").await;
            let back = visitor.at_line(&url, &user, "consent").await;
            let real = id_token(app, &user, &json!({ "nonce": crate::support::parameter(&url, "nonce") }));
            let signed = real.rsplit_once('.').unwrap().0;
            reply_with(app, json!({ "id_token": format!("{signed}.{signature}") })).await;
            refused(&mut visitor, &back, token_refused("id_token_sig", &[TOKEN, REVOKE])).await;
        }
    }

    async fn t30_a_profile_of_somebody_else(app) {
        let (mut visitor, user) = linked_person(app).await;
        for other in ["Uffffffffffffffffffffffffffffffff", "", "nonsense"] {
            let back = come_back(&mut visitor, &user).await;
            app.fault(json!({ "endpoint": "/v2/profile", "replace_body": { "userId": other, "displayName": "x" } })).await;
            refused(&mut visitor, &back, token_refused("profile_mismatch", &[TOKEN, "/v2/profile", "/friendship/v1/status", REVOKE])).await;
        }
    }

    async fn t30_a_wrong_at_hash(app) {
        let (mut visitor, user) = linked_person(app).await;
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        let changes = json!({ "nonce": crate::support::parameter(&url, "nonce"), "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" });
        reply_with(app, json!({ "id_token": id_token(app, &user, &changes) })).await;
        refused(&mut visitor, &back, token_refused("id_token_at_hash", &[TOKEN, REVOKE])).await;
    }

    /// An e-mail address is no identity: the person who has it at LINE is nobody here.
    async fn t31_the_email_of_a_member(app) {
        app.member("victim@example.jp", "Victim").await;
        let made = app.sim(axum::http::Method::POST, "/_sim/users",
            json!({ "display_name": "x", "email": "victim@example.jp" })).await;
        let attacker = made["user_id"].as_str().unwrap().to_owned();
        let mut visitor = app.visitor();
        let answer = visitor.sign_in_by_line(&attacker).await;
        assert_eq!(answer.location(), "/line/not-linked?provider=main");
        let page = visitor.get("/line/not-linked?provider=main").await;
        assert!(!page.body.contains("victim") && !page.body.contains("Victim"), "{}", page.body);
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &attacker, "consent").await;
        let changes = json!({ "nonce": crate::support::parameter(&url, "nonce"), "email": "victim@example.jp",
            "email_verified": true });
        reply_with(app, json!({ "id_token": id_token(app, &attacker, &changes) })).await;
        assert_eq!(visitor.get(&back).await.location(), "/line/not-linked?provider=main");
        assert!(visitor.session_cookie().is_none());
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 0);
        assert!(!app.dump(&["members"]).await.iter().any(|row| row.contains("victim")), "LINE's address is not kept");
    }

    async fn t32_an_id_token_is_no_credential(app) {
        let (_, user) = linked_person(app).await;
        let token = id_token(app, &user, &json!({}));
        let mut visitor = app.visitor();
        visitor.get("/").await;
        let before = app.dump(&[]).await;
        visitor.cookies.insert("__Host-musubi_session".into(), token.clone());
        assert_eq!(visitor.get("/account").await.location(), "/sign-in?return_to=%2Faccount");
        visitor.cookies.remove("__Host-musubi_session");
        let bearer = visitor.request(axum::http::Method::GET, "/account").header("authorization", format!("Bearer {token}"));
        let answer = visitor.send(bearer.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(answer.location(), "/sign-in?return_to=%2Faccount");
        let fields = [("email", "hanako@example.jp"), ("password", PASSWORD), ("csrf", token.as_str())];
        let headers = [("sec-fetch-site", "same-origin")];
        assert_eq!(visitor.post_raw("/sign-in", &fields, &headers).await.status.as_u16(), 403);
        assert_eq!(app.dump(&[]).await, before);
    }
}
