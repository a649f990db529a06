//! The company's own sign-in: its provider is played by a small one of ours ([`provider`]), which does wrong where it is
//! told to.

pub mod provider;

use axum::http::{StatusCode, header};
use musubi::config;
use serde_json::{Value, json};
use std::time::Duration;

use self::provider::{CLIENT, Fault, How, Provider, SECRET};
use crate::{
    linking::rows,
    support::{Answer, Engine, ORIGIN, PASSWORD, TestApp, Visitor, at_once, parameter},
};

/// An application whose members sign in at a provider.
pub struct Stage {
    pub app: TestApp,
    pub provider: Provider,
    strangers: std::sync::atomic::AtomicU32,
}

impl Stage {
    pub async fn set(engine: Engine) -> Self {
        Self::set_with(engine, |_| {}).await
    }

    pub async fn set_with(engine: Engine, edit: impl FnOnce(&mut config::Oidc)) -> Self {
        let provider = Provider::start().await;
        let mut oidc = registration(&provider.issuer);
        edit(&mut oidc);
        let app = TestApp::start_with(engine, |config| config.member.oidc = Some(oidc)).await;
        provider.script().clock = app.clock.clone();
        Self { app, provider, strangers: Default::default() }
    }

    /// Goes to the provider and comes back; gives the callback's path and query.
    async fn go(&self, visitor: &mut Visitor<'_>, purpose: &str, return_to: &str) -> String {
        let answer = start(visitor, purpose, return_to).await;
        let url = answer.location();
        assert!(url.starts_with(&format!("{}/authorize?", self.provider.issuer)), "{} {url}", answer.body);
        self.provider.authorize(&url)
    }

    /// Signs in as whoever comes next, to the callback's answer.
    pub async fn sign_in(&self, visitor: &mut Visitor<'_>) -> Answer {
        let back = self.go(visitor, "sign_in", "/account").await;
        visitor.get(&back).await
    }

    /// A browser in which whoever comes next has signed in.
    pub async fn signed_in(&self) -> Visitor<'_> {
        let mut visitor = self.stranger();
        let answer = self.sign_in(&mut visitor).await;
        assert_eq!(answer.location(), "/account", "{} {}", answer.status, answer.body);
        visitor
    }

    /// What the provider publishes by now is read.
    async fn read_anew(&self) {
        let oidc = self.app.app.oidc.as_ref().unwrap();
        let before = oidc.known().unwrap();
        self.app.clock.advance(Duration::from_secs(3601));
        // A page may have begun to read it beside, and then what was known serves meanwhile.
        let mut tries = 0;
        while std::sync::Arc::ptr_eq(&oidc.discovery(self.app.app.now().0).await.unwrap(), &before) {
            tries += 1;
            assert!(tries < 100_000, "what is an hour old is not read anew");
            tokio::task::yield_now().await;
        }
    }

    /// A browser at an address of its own: starts are counted by address.
    fn stranger(&self) -> Visitor<'_> {
        let number = self.strangers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Visitor { address: format!("10.0.{}.{}", number / 250, number % 250), ..self.app.visitor() }
    }

    /// Signs in where the claims are changed so, and is refused for this reason.
    async fn refuses(&self, claims: Value, reason: &str) {
        self.provider.script().claims = claims.clone();
        let mut visitor = self.stranger();
        let back = self.go(&mut visitor, "sign_in", "/account").await;
        self.refused(&mut visitor, &back, reason, &claims.to_string()).await;
        self.provider.mend();
    }

    /// Opens a callback, and sees that it is refused just so and leaves everything as it was.
    async fn refused(&self, visitor: &mut Visitor<'_>, back: &str, reason: &str, what: &str) -> Answer {
        let app = &self.app;
        let but = ["audit", "oidc_attempts"];
        let (before, audit) = (app.dump(&but).await, app.audit().await);
        let session = visitor.session_cookie().cloned();
        let answer = visitor.get(back).await;
        let said = format!("{what}: {} {}", answer.status, answer.body);
        assert!(answer.status.is_client_error() || answer.status == StatusCode::BAD_GATEWAY, "{said}");
        assert!(answer.body.contains("error-page"), "{said}");
        let mut now = app.audit().await;
        for known in &audit {
            now.swap_remove(now.iter().position(|row| row == known).unwrap());
        }
        assert_eq!(now, [format!("oidc_refused/{reason}")], "{said}");
        assert_eq!(app.dump(&but).await, before, "{said}");
        assert_eq!(visitor.session_cookie(), session.as_ref(), "{said}");
        for secret in [SECRET, "eyJ", "access-1", "code-0-"] {
            assert!(!answer.body.contains(secret), "{secret}: {said}");
        }
        answer
    }
}

/// Our registration with the provider of an issuer.
pub fn registration(issuer: &str) -> config::Oidc {
    let text = json!({
        "issuer": issuer, "client_id": CLIENT, "client_secret": SECRET, "label": "Example ID",
        "attributes": { "tier": "membership" },
    });
    serde_json::from_value(text).unwrap()
}

async fn start(visitor: &mut Visitor<'_>, purpose: &str, return_to: &str) -> Answer {
    visitor.post("/company/start", &[("purpose", purpose), ("return_to", return_to)]).await
}

async fn text(app: &TestApp, statement: &'static str) -> String {
    sqlx::query_scalar(statement).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

/// Makes two tests of one body: `name::sqlite` and `name::postgres`.
macro_rules! on_stage {
    ($($(#[$meta:meta])* async fn $name:ident($stage:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "some bodies need nothing from around")]
            use super::*;

            async fn body($stage: &Stage) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let stage = Stage::set(Engine::Sqlite).await;
                body(&stage).await;
                stage.app.end().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let stage = Stage::set(Engine::Postgres).await;
                body(&stage).await;
                stage.app.end().await;
            }
        }
    )* };
}

fn hanako() -> Value {
    json!({ "sub": "1001", "name": "Hanako Yamada", "email": "Hanako@example.jp", "email_verified": true,
        "locale": "ja", "zoneinfo": "Asia/Tokyo", "membership": "gold" })
}

fn english() -> Value {
    let mut person = hanako();
    person["locale"] = json!("en");
    person
}

on_stage! {
    async fn o01_a_member_signs_in_by_the_companys_word(stage) {
        let app = &stage.app;
        stage.provider.script().person = hanako();
        let mut visitor = app.visitor();
        visitor.language = "zh-TW";
        let answer = start(&mut visitor, "sign_in", "/account/sessions").await;
        let url = answer.location();
        assert_eq!(parameter(&url, "redirect_uri"), format!("{ORIGIN}/company/callback"));
        assert_eq!((parameter(&url, "scope"), parameter(&url, "ui_locales")), ("openid profile email".into(), "zh-TW".into()));
        assert!(!url.contains("prompt=") && !url.contains("max_age="), "{url}");
        let back = stage.provider.authorize(&url);
        let answer = visitor.get(&back).await;
        assert_eq!(answer.location(), "/account/sessions", "{}", answer.body);
        let page = visitor.get("/account/sessions").await;
        assert!(page.body.contains("Example ID"), "{}", page.body);
        let member = "SELECT external_id || ' ' || name || ' ' || email || ' ' || locale || ' ' || time_zone FROM members";
        assert_eq!(text(app, member).await, "1001 Hanako Yamada Hanako@example.jp ja Asia/Tokyo");
        assert_eq!(text(app, "SELECT name || value FROM member_attributes").await, "tiergold");
        assert_eq!(rows!(app, "members WHERE email_verified_at IS NOT NULL AND oidc_at IS NOT NULL"), 1);
        assert_eq!(app.audit().await, ["member_created/", "signed_in/"]);
        assert_eq!(text(app, "SELECT data FROM audit WHERE action = 'signed_in'").await, r#"{"method":"oidc"}"#);

        // What they chose here since then stays.
        app.execute("UPDATE members SET locale = 'en', time_zone = 'Asia/Taipei'").await;
        stage.signed_in().await;
        assert_eq!(text(app, "SELECT locale || ' ' || time_zone FROM members").await, "en Asia/Taipei");
        assert_eq!(app.audit().await[2..], ["signed_in/"]);

        // What is said anew holds, what is said no more goes, and it is the same member.
        stage.provider.script().person = json!({ "sub": "1001", "name": "Hanako Sato" });
        let mut other = stage.signed_in().await;
        assert_eq!(text(app, "SELECT name || email FROM members").await, "Hanako SatoHanako@example.jp");
        assert_eq!(rows!(app, "member_attributes"), 0);
        assert_eq!(app.audit().await[3..], ["member_updated/", "signed_in/"]);
        assert!(other.get("/account").await.body.contains("Hanako Sato"));

        // Another subject is another member.
        stage.provider.script().person = json!({ "sub": "1002" });
        stage.signed_in().await;
        assert_eq!(rows!(app, "members"), 2);
        assert_eq!((stage.provider.calls("discovery"), stage.provider.calls("jwks")), (1, 1), "both are held");
    }

    async fn o01_whom_the_company_brought_is_the_same_member(stage) {
        let app = &stage.app;
        let id = app.member("hanako@example.jp", "Hanako").await;
        app.execute("UPDATE members SET external_id = '1001'").await;
        stage.signed_in().await;
        assert_eq!(text(app, "SELECT id FROM members").await, id);
        assert_eq!(app.audit().await, ["signed_in/"], "nothing was said that is new");
    }

    async fn o02_a_provider_that_is_away_stops_nothing_else(stage) {
        let app = &stage.app;
        app.member("taro@example.jp", "Taro").await;
        stage.provider.fault("discovery", Fault::Status(500));
        let mut visitor = app.visitor();
        let page = visitor.get("/sign-in").await;
        assert!(page.body.contains("Sign in with \u{2068}Example ID\u{2069}"), "{}", page.body);
        let answer = start(&mut visitor, "sign_in", "/account").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.body);
        assert!(answer.body.contains("action=\"/company/start\"") && answer.body.contains("could not answer"), "{}", answer.body);
        app.signed_in("taro@example.jp").await;
        for wrong in [Fault::Garbage, Fault::Endless, Fault::Elsewhere, Fault::Status(404)] {
            app.clock.advance(Duration::from_secs(4));
            stage.provider.fault("discovery", wrong);
            assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::BAD_GATEWAY, "{wrong:?}");
        }
        app.clock.advance(Duration::from_secs(4));
        stage.provider.mend();
        stage.provider.script().discovery = json!({ "issuer": format!("{}/", stage.provider.issuer) });
        assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::BAD_GATEWAY, "another issuer");
        app.clock.advance(Duration::from_secs(4));
        stage.provider.mend();
        stage.signed_in().await;
        assert_eq!(rows!(app, "oidc_attempts"), 1, "nothing was begun in vain");

        // What is known is used on for a day.
        stage.provider.fault("discovery", Fault::Status(500));
        stage.provider.fault("jwks", Fault::Status(500));
        app.clock.advance(Duration::from_secs(23 * 3600));
        stage.signed_in().await;
        app.clock.advance(Duration::from_secs(2 * 3600));
        assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::BAD_GATEWAY);
    }

    async fn o03_an_answer_that_is_not_this_browsers(stage) {
        let app = &stage.app;
        let mut visitor = app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        let state = parameter(&back, "state");
        let long = "x".repeat(4097);
        for (query, reason) in [
            ("code=x".to_owned(), "state_missing"),
            ("code=x&state=".to_owned(), "state_missing"),
            ("code=x&state=guessed".to_owned(), "state_unknown"),
            (format!("code=x&state={state}&state={state}"), "query"),
            (format!("code={long}&state={state}"), "query"),
            (format!("code=a%00b&state={state}"), "query"),
            (String::new(), "state_missing"),
        ] {
            stage.refused(&mut visitor, &format!("/company/callback?{query}"), reason, &query).await;
        }
        // Somebody else's browser, with a cookie of its own or none.
        let mut other = app.visitor();
        stage.go(&mut other, "sign_in", "/account").await;
        let page = stage.refused(&mut other, &back, "state_unbound", "another browser").await;
        assert!(page.body.contains("name=\"purpose\" value=\"sign_in\""), "{}", page.body);
        stage.refused(&mut visitor, &back, "state_used", "taken once").await;
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.refused(&mut app.visitor(), &back, "state_unbound", "no cookie").await;

        // Too late.
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        app.clock.advance(Duration::from_secs(600));
        stage.refused(&mut visitor, &back, "state_expired", "ten minutes").await;
        // Both, or an error, or nothing.
        for (more, reason) in [
            ("code=x&error=access_denied", "code_and_error"),
            ("error=access_denied", "denied"),
            ("error=login_required%3Cscript%3E", "provider_error"),
            ("x=y", "query"),
        ] {
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            let query = format!("/company/callback?state={}&{more}", parameter(&back, "state"));
            let page = stage.refused(&mut visitor, &query, reason, more).await;
            assert!(!page.body.contains("login_required"), "{}", page.body);
        }
        assert_eq!(stage.provider.calls("token"), 0, "the provider is asked for none of these");
    }

    async fn o03_an_answer_counts_once(stage) {
        let app = &stage.app;
        let mut visitor = app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        let requests = (0..20).map(|_| {
            let request = visitor.request(axum::http::Method::GET, &back);
            request.body(axum::body::Body::empty()).unwrap()
        });
        let answers = at_once(app, requests.collect()).await;
        let good = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
        assert_eq!((good, stage.provider.calls("token"), rows!(app, "sessions")), (1, 1, 1));
    }

    async fn o04_the_issuer_of_the_answer(stage) {
        let mut visitor = stage.app.visitor();
        let issuer: String = url::form_urlencoded::byte_serialize(stage.provider.issuer.as_bytes()).collect();
        for wrong in ["https%3A%2F%2Fevil.example".to_owned(), format!("{issuer}%2F")] {
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            stage.refused(&mut visitor, &format!("{back}&iss={wrong}"), "iss", &wrong).await;
        }
        assert_eq!(stage.provider.calls("token"), 0);
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        assert_eq!(visitor.get(&format!("{back}&iss={issuer}")).await.location(), "/account");

        // Where the provider says that it tells, it must.
        stage.provider.script().discovery = json!({ "authorization_response_iss_parameter_supported": true });
        stage.read_anew().await;
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.refused(&mut visitor, &back, "iss", "not told").await;
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        assert_eq!(visitor.get(&format!("{back}&iss={issuer}")).await.location(), "/account");
    }

    async fn o05_a_stolen_code_is_of_no_use(stage) {
        let (mut victim, mut thief) = (stage.app.visitor(), stage.app.visitor());
        for (checks_pkce, reason) in [(true, "code"), (false, "id_token_nonce")] {
            stage.provider.script().checks_pkce = checks_pkce;
            let code = parameter(&stage.go(&mut victim, "sign_in", "/account").await, "code");
            let state = parameter(&stage.go(&mut thief, "sign_in", "/account").await, "state");
            let back = format!("/company/callback?code={code}&state={state}");
            stage.refused(&mut thief, &back, reason, "a code of another browser").await;
        }
    }

    #[expect(clippy::too_many_lines, reason = "one list of wrongs")]
    async fn o06_an_id_token_that_is_not_what_it_should_be(stage) {
        let now = stage.app.app.now().seconds();
        for how in [How::Es256, How::Rs256] {
            stage.provider.script().how = how;
            stage.signed_in().await;
        }
        for (how, reason) in [
            (How::Unsigned, "id_token_alg"),
            (How::Hs256, "id_token_alg"),
            (How::PublicKey, "id_token_alg"),
            (How::Stranger, "id_token_sig"),
            (How::Flipped, "id_token_sig"),
        ] {
            stage.provider.script().how = how;
            stage.refuses(json!({}), reason).await;
        }
        for (how, header, reason) in [
            (How::Es256, json!({ "alg": "none" }), "id_token_alg"),
            (How::Es256, json!({ "alg": "ES384" }), "id_token_alg"),
            (How::Es256, json!({ "alg": "PS256" }), "id_token_alg"),
            (How::Es256, json!({ "alg": "es256" }), "id_token_alg"),
            (How::Es256, json!({ "alg": "RS256" }), "id_token_key"),
            (How::Rs256, json!({ "alg": "ES256" }), "id_token_key"),
            (How::Rs256, json!({ "alg": "RS512" }), "id_token_alg"),
            (How::Es256, json!({ "alg": "RS256", "kid": "rsa-1" }), "id_token_sig"),
            (How::Es256, json!({ "kid": "ec-2" }), "id_token_key"),
            (How::Es256, json!({ "kid": 1 }), "id_token_key"),
            (How::Es256, json!({ "typ": "at+jwt" }), "id_token_type"),
            (How::Es256, json!({ "crit": ["exp"] }), "id_token_type"),
            (How::Rs256, json!({ "zip": "DEF" }), "id_token_type"),
        ] {
            stage.provider.script().how = how;
            stage.provider.script().header = header;
            stage.refuses(json!({}), reason).await;
        }
        for (claims, reason) in [
            (json!({ "iss": format!("{}/", stage.provider.issuer) }), "id_token_iss"),
            (json!({ "iss": "https://access.line.me" }), "id_token_iss"),
            (json!({ "iss": null }), "id_token_iss"),
            (json!({ "aud": "another" }), "id_token_aud"),
            (json!({ "aud": [CLIENT, "another"] }), "id_token_aud"),
            (json!({ "aud": [] }), "id_token_aud"),
            (json!({ "aud": null }), "id_token_aud"),
            (json!({ "azp": "another" }), "id_token_azp"),
            (json!({ "azp": 1 }), "id_token_azp"),
            (json!({ "exp": now - 70 }), "id_token_exp"),
            (json!({ "exp": null }), "id_token_exp"),
            (json!({ "exp": now + 10 * 365 * 86400 }), "id_token_exp_far"),
            (json!({ "exp": "9999999999" }), "id_token_claim_type"),
            (json!({ "iat": now + 120 }), "id_token_iat"),
            (json!({ "iat": now - 120 }), "id_token_iat"),
            (json!({ "iat": null }), "id_token_iat"),
            (json!({ "nbf": now + 120 }), "id_token_nbf"),
            (json!({ "nonce": null }), "id_token_nonce"),
            (json!({ "nonce": "" }), "id_token_nonce"),
            (json!({ "nonce": "another" }), "id_token_nonce"),
            (json!({ "at_hash": "another" }), "id_token_at_hash"),
            (json!({ "at_hash": null, "auth_time": "now" }), "id_token_claim_type"),
            (json!({ "sub": null }), "id_token_sub"),
            (json!({ "sub": "" }), "id_token_sub"),
            (json!({ "sub": 1001 }), "id_token_sub"),
            (json!({ "sub": "x".repeat(256) }), "id_token_sub"),
            (json!({ "sub": "1001\u{0}" }), "id_token_sub"),
            (json!({ "sub": "１００１" }), "id_token_sub"),
            (json!({ "sub": "x".repeat(101) }), "no_id"),
            (json!({ "sub": ".." }), "no_id"),
        ] {
            stage.refuses(claims, reason).await;
        }
        let now = stage.app.app.now().seconds();
        for claims in [json!({ "aud": [CLIENT], "azp": CLIENT }), json!({ "exp": now - 30 })] {
            stage.provider.script().claims = claims;
            stage.signed_in().await;
        }
    }

    async fn o07_keys_that_change(stage) {
        stage.signed_in().await;
        assert_eq!(stage.provider.calls("jwks"), 1);
        stage.app.clock.advance(Duration::from_secs(31));
        stage.provider.rotate("ec-9");
        stage.signed_in().await;
        assert_eq!(stage.provider.calls("jwks"), 2, "the next sign-in reads them anew");
        // Whatever keys are named, they are asked for every 30 seconds at most.
        for name in ["a", "b", "../jwks", "c"] {
            stage.provider.script().header = json!({ "kid": name });
            stage.refuses(json!({}), "id_token_key").await;
        }
        assert_eq!(stage.provider.calls("jwks"), 2);
        stage.app.clock.advance(Duration::from_secs(31));
        stage.provider.script().header = json!({ "kid": "d" });
        stage.refuses(json!({}), "id_token_key").await;
        assert_eq!(stage.provider.calls("jwks"), 3);
        // An outage of the keys: known ones serve, an unknown one may be among those that could not be read.
        stage.app.clock.advance(Duration::from_secs(3601));
        stage.provider.fault("jwks", Fault::Garbage);
        stage.signed_in().await;
        stage.app.clock.advance(Duration::from_secs(31));
        stage.provider.rotate("ec-10");
        let mut visitor = stage.app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.refused(&mut visitor, &back, "provider_fault", "keys that cannot be read").await;
    }

    async fn o08_a_code_is_sent_once(stage) {
        let mut calls = 0;
        for fault in [Fault::Status(500), Fault::Status(401), Fault::Garbage, Fault::Endless, Fault::Elsewhere] {
            let mut visitor = stage.app.visitor();
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            stage.provider.fault("token", fault);
            stage.refused(&mut visitor, &back, "provider_fault", &format!("{fault:?}")).await;
            calls += 1;
            assert_eq!(stage.provider.calls("token"), calls, "{fault:?}");
            assert_eq!(stage.provider.calls("userinfo"), 0, "no redirect is followed");
            stage.provider.mend();
            stage.refused(&mut visitor, &back, "state_used", "and not again").await;
        }
        for reply in [json!({ "id_token": null }), json!({ "access_token": null }), json!({ "token_type": "mac" }),
            json!({ "token_type": null }), json!({ "id_token": 1 })] {
            let mut visitor = stage.app.visitor();
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            stage.provider.script().reply = reply.clone();
            stage.refused(&mut visitor, &back, "provider_fault", &reply.to_string()).await;
            stage.provider.mend();
        }
        let mut visitor = stage.app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.provider.script().reply = json!({ "id_token": "x".repeat(20_000) });
        stage.refused(&mut visitor, &back, "id_token_shape", "longer than any").await;
    }

    async fn o09_what_the_provider_says_besides_is_of_the_same_person(stage) {
        let announced = json!({ "userinfo_endpoint": format!("{}/userinfo", stage.provider.issuer) });
        let announce = |userinfo: Value| {
            let mut script = stage.provider.script();
            (script.discovery, script.userinfo) = (announced.clone(), userinfo);
        };
        announce(json!({ "sub": "1001", "name": "Hanako", "membership": "gold", "email": "a@example.jp" }));
        stage.provider.script().person = json!({ "sub": "1001", "membership": "silver" });
        stage.signed_in().await;
        let app = &stage.app;
        assert_eq!(text(app, "SELECT name || email FROM members").await, "Hanako", "an address that is not verified is none");
        assert_eq!(text(app, "SELECT value FROM member_attributes").await, "silver", "what is signed goes before");
        for userinfo in [json!({ "sub": "1002" }), json!({}), json!({ "sub": 1001 })] {
            announce(userinfo.clone());
            let mut visitor = app.visitor();
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            stage.refused(&mut visitor, &back, "provider_fault", &userinfo.to_string()).await;
        }
        for fault in [Fault::Status(500), Fault::Garbage, Fault::Endless] {
            let mut visitor = app.visitor();
            let back = stage.go(&mut visitor, "sign_in", "/account").await;
            stage.provider.fault("userinfo", fault);
            stage.refused(&mut visitor, &back, "provider_fault", &format!("{fault:?}")).await;
        }
    }

    async fn o10_an_address_finds_nobody(stage) {
        let app = &stage.app;
        app.member("hanako@example.jp", "Somebody").await;
        stage.provider.script().person = hanako();
        let mut visitor = app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        let page = stage.refused(&mut visitor, &back, "email_taken", "a new member").await;
        assert_eq!(page.status, StatusCode::CONFLICT);
        assert!(page.body.contains("never makes two accounts one") && !page.body.contains("Somebody"), "{}", page.body);
        // One who is known already is not given it either.
        stage.provider.script().person = json!({ "sub": "1001" });
        stage.signed_in().await;
        stage.provider.script().person = hanako();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.refused(&mut visitor, &back, "email_taken", "a member with another address").await;
        assert_eq!(rows!(app, "members WHERE email = 'hanako@example.jp' AND name = 'Somebody'"), 1);
    }

    async fn o11_a_disabled_member_stays_outside(stage) {
        let app = &stage.app;
        stage.signed_in().await;
        app.execute("UPDATE members SET disabled_at = 1").await;
        stage.provider.script().person = json!({ "sub": "1001", "name": "Another name" });
        let mut visitor = app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        let page = stage.refused(&mut visitor, &back, "unavailable", "disabled").await;
        assert!(page.body.contains("be used to sign in") && !page.body.contains("company/start"), "{}", page.body);
    }

    async fn o12_a_silent_sign_in_is_no_proof(stage) {
        let app = &stage.app;
        stage.provider.script().person = english();
        let mut visitor = stage.signed_in().await;
        for path in ["/account/data", "/account/delete"] {
            let answer = visitor.get(path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
        assert_eq!(visitor.post("/line/start", &fields).await.status, StatusCode::UNAUTHORIZED);
        let page = visitor.get("/sign-in?return_to=/account/data&reauth=1").await;
        assert!(page.body.contains("Continue with") && page.body.contains("name=\"purpose\" value=\"reauth\""), "{}", page.body);
        assert!(!page.body.contains("/account/code") && !page.body.contains("type=\"password\""), "{}", page.body);

        let sent = visitor.post("/account/code", &[("return_to", "/account/data")]).await;
        assert!(sent.location().ends_with("reauth=1"), "{}", sent.location());
        assert_eq!(rows!(app, "mails"), 0, "no code goes to who proves it at the provider");

        // The provider must ask the person, and say so.
        let url = start(&mut visitor, "reauth", "/account/data").await.location();
        assert_eq!((parameter(&url, "prompt"), parameter(&url, "max_age")), ("login".into(), "0".into()));
        let back = stage.provider.authorize(&url);
        stage.refused(&mut visitor, &back, "not_fresh", "nothing is said of it").await;
        for ago in [61, 3600, -61] {
            stage.provider.script().proved_ago = Some(ago);
            let back = stage.go(&mut visitor, "reauth", "/account/data").await;
            stage.refused(&mut visitor, &back, "not_fresh", &ago.to_string()).await;
        }
        stage.provider.script().proved_ago = Some(0);
        stage.provider.script().person = json!({ "sub": "1002" });
        let back = stage.go(&mut visitor, "reauth", "/account/data").await;
        stage.refused(&mut visitor, &back, "other_member", "somebody whom we do not know").await;
        stage.signed_in().await;
        let back = stage.go(&mut visitor, "reauth", "/account/data").await;
        stage.refused(&mut visitor, &back, "other_member", "another member").await;
        stage.provider.script().person = english();
        let before = visitor.session_cookie().cloned();
        let back = stage.go(&mut visitor, "reauth", "/account/data").await;
        assert_eq!(visitor.get(&back).await.location(), "/account/data");
        assert_ne!(visitor.session_cookie(), before.as_ref(), "a new id");
        assert_eq!(visitor.get("/account/data").await.status, StatusCode::OK);
        assert!(app.audit().await.contains(&"stepped_up/".to_owned()));

        // For ten minutes.
        app.clock.advance(Duration::from_secs(600));
        assert_eq!(visitor.get("/account/data").await.status, StatusCode::UNAUTHORIZED);
    }

    async fn o12_a_proof_is_of_the_session_that_asked(stage) {
        stage.provider.script().proved_ago = Some(0);
        let mut visitor = stage.signed_in().await;
        let back = stage.go(&mut visitor, "reauth", "/account/data").await;
        stage.sign_in(&mut visitor).await;
        stage.refused(&mut visitor, &back, "session_changed", "signed in anew").await;
        let back = stage.go(&mut visitor, "reauth", "/account/data").await;
        visitor.post("/sign-out", &[]).await;
        stage.refused(&mut visitor, &back, "session_changed", "signed out").await;
        let answer = start(&mut visitor, "reauth", "/account/data").await;
        assert!(answer.location().starts_with("/sign-in?"), "{}", answer.location());
        assert_eq!(start(&mut visitor, "link", "/").await.status, StatusCode::BAD_REQUEST);
    }

    /// Who was asked at the provider just now has proved to be there, and links without being asked again.
    async fn o13_a_link_and_its_end(stage) {
        let app = &stage.app;
        stage.provider.script().person = hanako();
        stage.provider.script().proved_ago = Some(0);
        let mut visitor = stage.signed_in().await;
        let user = app.line_user("はなこ").await;
        assert_eq!(visitor.link(&user).await.location(), "/account?done=linked");
        app.clock.advance(Duration::from_secs(3600));
        // The company's sign-in is a way in, so that the link is not the last one.
        let answer = visitor.get("/account/unlink?provider=main").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "only the proof is asked for: {}", answer.body);
        let answer = visitor.post("/account/unlink", &[("provider", "main")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        let back = stage.go(&mut visitor, "reauth", "/account/unlink?provider=main").await;
        assert_eq!(visitor.get(&back).await.location(), "/account/unlink?provider=main");
        let page = visitor.get("/account/unlink?provider=main").await;
        assert!(page.status == StatusCode::OK && !page.body.contains("type=\"password\""), "{}", page.body);
        let answer = visitor.post("/account/unlink", &[("provider", "main")]).await;
        assert_eq!(answer.location(), "/account?done=unlinked", "{}", answer.body);
        // Who never signed in there has no other way in than LINE.
        let answer = visitor.link(&app.line_user("たろう").await).await;
        assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
        app.execute("UPDATE members SET oidc_at = NULL").await;
        assert_eq!(visitor.get("/account/unlink?provider=main").await.status, StatusCode::CONFLICT);
    }

    async fn o14_a_sign_out_ends_both(stage) {
        let app = &stage.app;
        let mut visitor = stage.signed_in().await;
        let policy = visitor.get("/account").await.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let forms = policy.split("form-action ").nth(1).unwrap().split(';').next().unwrap();
        assert!(forms.split(' ').any(|origin| origin == stage.provider.issuer), "{policy}");
        let answer = visitor.post("/sign-out", &[]).await;
        let url = answer.location();
        assert!(url.starts_with(&format!("{}/logout?", stage.provider.issuer)), "{url}");
        assert_eq!(parameter(&url, "post_logout_redirect_uri"), format!("{ORIGIN}/"));
        assert_eq!(parameter(&url, "client_id"), CLIENT);
        assert_eq!((rows!(app, "sessions"), visitor.session_cookie()), (0, None), "ours ends first");

        // Who signed in otherwise stays signed in there; so does everybody where there is no such place.
        app.member("taro@example.jp", "Taro").await;
        assert_eq!(app.signed_in("taro@example.jp").await.post("/sign-out", &[]).await.location(), "/");
        let elsewhere = "https://login.example.jp";
        stage.provider.script().discovery = json!({ "end_session_endpoint": null, "authorization_endpoint": format!("{elsewhere}/a") });
        stage.read_anew().await;
        let mut visitor = stage.app.visitor();
        assert!(start(&mut visitor, "sign_in", "/").await.location().starts_with(elsewhere));
        let policy = visitor.get("/sign-in").await.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.contains(&format!(" {elsewhere} ")) || policy.contains(&format!(" {elsewhere};")), "{policy}");
        stage.provider.mend();
        stage.read_anew().await;
        let mut visitor = stage.signed_in().await;
        stage.provider.script().discovery = json!({ "end_session_endpoint": null });
        stage.read_anew().await;
        assert_eq!(visitor.post("/sign-out", &[]).await.location(), "/");
    }

    async fn o16_a_flood_of_starts_is_slowed(stage) {
        let mut visitor = stage.app.visitor();
        for _ in 0..30 {
            assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::SEE_OTHER);
        }
        assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::TOO_MANY_REQUESTS);
        let mut other = Visitor { address: "192.0.2.2".into(), ..stage.app.visitor() };
        assert_eq!(start(&mut other, "sign_in", "/").await.status, StatusCode::SEE_OTHER);
        stage.app.clock.advance(Duration::from_secs(25 * 3600));
        let mut conn = stage.app.app.db.conn().await.unwrap();
        assert_eq!(musubi::member::oidc::prune(&mut conn, stage.app.app.now()).await.unwrap(), 31);
    }

    async fn the_copy_of_ones_data_names_it_and_a_deletion_ends_it(stage) {
        let app = &stage.app;
        stage.provider.script().proved_ago = Some(0);
        let mut visitor = stage.signed_in().await;
        let copy: Value = serde_json::from_str(&visitor.post("/account/data", &[]).await.body).unwrap();
        assert!(copy["account"]["company_sign_in_at"].is_string(), "{copy}");
        assert_eq!(copy["sessions"][0]["signed_in_by"].as_str().or(copy["sessions"][0]["method"].as_str()), Some("oidc"));
        start(&mut visitor, "reauth", "/").await;
        assert_eq!(rows!(app, "oidc_attempts WHERE member_id IS NOT NULL"), 1);
        let answer = visitor.post("/account/delete", &[("word", "delete")]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(rows!(app, "oidc_attempts WHERE member_id IS NOT NULL"), 0);
        assert_eq!(rows!(app, "members WHERE oidc_at IS NOT NULL OR external_id IS NOT NULL"), 0);
        stage.signed_in().await;
        assert_eq!(rows!(app, "members WHERE deleted_at IS NULL"), 1, "who comes back is somebody new");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o15_only_whom_the_company_brought() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let stage = Stage::set_with(engine, |oidc| (oidc.create, oidc.external_id) = (false, "number".into())).await;
        let app = &stage.app;
        stage.provider.script().person = json!({ "sub": "1001", "number": 77 });
        let mut visitor = app.visitor();
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        let page = stage.refused(&mut visitor, &back, "unknown", "nobody's id").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        app.member("hanako@example.jp", "Hanako").await;
        app.execute("UPDATE members SET external_id = '77'").await;
        stage.signed_in().await;
        stage.provider.script().person = json!({ "sub": "1001" });
        let back = stage.go(&mut visitor, "sign_in", "/account").await;
        stage.refused(&mut visitor, &back, "no_id", "without the claim").await;
        app.end().await;
    }
}

/// Where no passwords are taken there is no form for one, and nothing behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o17_the_companys_sign_in_alone() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let stage = Stage::set_with(engine, |oidc| oidc.passwords = false).await;
        let app = &stage.app;
        app.member("hanako@example.jp", "Hanako").await;
        app.execute("UPDATE members SET external_id = '1001'").await;
        stage.provider.script().proved_ago = Some(0);
        let mut visitor = app.visitor();
        let page = visitor.get("/sign-in").await;
        assert!(page.body.contains("/company/start") && !page.body.contains("type=\"password\""), "{}", page.body);
        assert!(!page.body.contains("/password/") && !page.body.contains("/sign-up"), "{}", page.body);
        let right = [("email", "hanako@example.jp"), ("password", PASSWORD)];
        assert_eq!(visitor.post("/sign-in", &right).await.status, StatusCode::NOT_FOUND);
        let mut member = stage.signed_in().await;
        for path in ["/sign-up", "/password/forgot", "/password/reset", "/password/change"] {
            for visitor in [&mut visitor, &mut member] {
                let (shown, sent) = (
                    visitor.get(path).await,
                    visitor
                        .post(path, &[("email", "a@example.jp"), ("name", "A"), ("password", PASSWORD), ("token", "a")])
                        .await,
                );
                let is_gone = |answer: &Answer| {
                    answer.status == StatusCode::NOT_FOUND || answer.location().starts_with("/sign-in")
                };
                assert!(is_gone(&shown) && is_gone(&sent), "{path} {} {}", shown.status, sent.status);
            }
        }
        let account = member.get("/account").await;
        assert!(!account.body.contains("/password/"), "{}", account.body);
        // The password that there was is not asked for any more.
        let data = member.get("/account/data").await;
        assert!(data.status == StatusCode::OK && !data.body.contains("type=\"password\""), "{}", data.body);
        assert_eq!(member.link(&app.line_user("はなこ").await).await.location(), "/account?done=linked");
        app.execute("UPDATE members SET oidc_at = NULL").await;
        assert_eq!(member.get("/account/unlink?provider=main").await.status, StatusCode::OK, "no password can be got");
        app.end().await;
    }
}

/// The secret in the form where the provider wants it so, and none of a public client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_itself_as_the_provider_wants() {
    let stage = Stage::set(Engine::Sqlite).await;
    stage.provider.script().discovery = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    stage.signed_in().await;
    stage.provider.script().discovery = json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] });
    stage.read_anew().await;
    let mut visitor = stage.app.visitor();
    let back = stage.go(&mut visitor, "sign_in", "/").await;
    let calls = stage.provider.calls("token");
    stage.refused(&mut visitor, &back, "provider_fault", "no way that we know").await;
    assert_eq!(stage.provider.calls("token"), calls);
    stage.app.end().await;

    let stage = Stage::set_with(Engine::Sqlite, |oidc| oidc.client_secret = None).await;
    stage.provider.script().is_public = true;
    stage.signed_in().await;
    stage.app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_looks_at_the_provider() {
    let stage = Stage::set(Engine::Sqlite).await;
    let found = async || {
        let found = musubi::doctor::examine(&stage.app.app).await;
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        lines.into_iter().filter(|line| line.contains("company's sign-in")).collect::<Vec<_>>()
    };
    stage.provider.fault("jwks", Fault::Status(500));
    let lines = found().await;
    assert!(lines[0].starts_with("✗") && lines[1].contains(&format!("{ORIGIN}/company/callback")), "{lines:#?}");
    stage.provider.mend();
    stage.app.clock.advance(Duration::from_secs(4));
    let lines = found().await;
    assert!(lines[0].starts_with("✓") && lines[0].contains("a sign-out ends there too"), "{lines:#?}");
    stage.app.end().await;
}

/// Without the section there is no such way.
#[tokio::test]
async fn without_a_provider_there_is_no_such_route() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut visitor = app.visitor();
    assert_eq!(start(&mut visitor, "sign_in", "/").await.status, StatusCode::NOT_FOUND);
    assert_eq!(visitor.get("/company/callback?code=a&state=b").await.status, StatusCode::NOT_FOUND);
    assert!(!visitor.get("/sign-in").await.body.contains("/company/"));
    app.end().await;
}
