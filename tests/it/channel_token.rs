//! Channel access tokens: each kind's life, one token for all nodes, what a 401 does, what wrong credentials do, and that
//! LINE's limits are never reached by us.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
};
use axum::http::Method;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use musubi::{
    app::App,
    channel::{self, Kind},
    config::{Channel, Config, TokenKind},
    db::Db,
    doctor::{self, Finding},
    key,
    line::{Error, token::Assertion},
    queue, worker,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    login::captured,
    support::{BOT_CHANNEL, LOGIN_CHANNEL, TestApp, both_engines},
};

const BOT: Kind<'static> = Kind::Bot("main");
const KID: &str = "536e453c-aa93-4449-8e58-add2608783c2";
const V21: &str = "/oauth2/v2.1/token";
const SHORT_LIVED: &str = "/v2/oauth/accessToken";
const STATELESS: &str = "/oauth2/v3/token";
const WRONG: &str = "00000000000000000000000000000000";
const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than nodes are given to notice a new token.
const GRACE: Duration = Duration::from_secs(11 * 60);

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());
static OTHER_KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

fn pem(key: &KeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// The public half, as LINE's console takes it.
fn public(key: &KeyPair) -> Value {
    use aws_lc_rs::signature::KeyPair as _;
    // PKCS#1 of 2048 bits: the modulus after nine bytes, the exponent 65537 at the end.
    let der = key.public_key().as_ref();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "n": number(&der[9..265]), "e": number(&der[267..]) })
}

/// Another node on the same database, at the same LINE.
async fn node(app: &TestApp, change: impl FnOnce(&mut Config)) -> App {
    let mut config = app.app.config.clone();
    change(&mut config);
    App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap()
}

fn bot(config: &mut Config) -> &mut Channel {
    config.channel.get_mut("main").unwrap()
}

fn use_v21(config: &mut Config) {
    let bot = bot(config);
    bot.token = TokenKind::V21;
    bot.assertion_key = Some(pem(&KEY).into());
    bot.assertion_key_id = Some(KID.to_owned());
}

fn use_short_lived(config: &mut Config) {
    bot(config).token = TokenKind::ShortLived;
}

async fn register(app: &TestApp, key: &KeyPair) {
    let order = json!({ "jwk": public(key), "kid": KID });
    app.sim(Method::POST, &format!("/_sim/channels/{BOT_CHANNEL}/assertion-keys"), order).await;
}

async fn token(app: &App) -> String {
    channel::token(app, BOT).await.unwrap().expose_secret().to_owned()
}

/// A call that takes a token.
async fn call(app: &App) -> Result<(), Error> {
    channel::call(app, BOT, |token| async move { app.line.bot_info(&token).await }).await.map(|_| ())
}

/// How many living tokens the bot has at LINE.
async fn living(app: &TestApp) -> usize {
    let listed = app.sim(Method::GET, &format!("/_sim/channels/{BOT_CHANNEL}/tokens"), Value::Null).await;
    listed["tokens"].as_array().unwrap().len()
}

/// LINE ends all tokens of the bot.
async fn end_all(app: &TestApp) {
    app.sim(Method::DELETE, &format!("/_sim/channels/{BOT_CHANNEL}/tokens"), Value::Null).await;
}

/// How often LINE was asked for a token of the bot.
async fn asked(app: &TestApp, path: &str) -> usize {
    let calls = app.calls_to(path).await;
    calls.iter().filter(|call| call["path"] == path && call["body"]["client_id"] != LOGIN_CHANNEL).count()
}

async fn rows(app: &TestApp) -> i64 {
    app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM channel_tokens").await
}

async fn told(app: &App, what: &str) -> String {
    let all = doctor::examine(app).await;
    let mut lines = all.iter().map(Finding::to_string);
    lines.find(|line| line.contains(what)).unwrap()
}

both_engines! {
    /// Once it is there, a token is read without the database and without LINE.
    async fn a_fresh_token_asks_nobody(app) {
        register(app, &KEY).await;
        let stateless: fn(&mut Config) = |_| {};
        for (change, path) in [(stateless, STATELESS), (use_v21, V21), (use_short_lived, SHORT_LIVED)] {
            let node = node(app, change).await;
            let first = token(&node).await;
            node.db.close().await;
            for _ in 0..20 {
                assert_eq!(token(&node).await, first);
            }
            assert_eq!(asked(app, path).await, 1, "{path}");
        }
        let login = channel::token(&app.app, Kind::Login("main")).await.unwrap();
        assert_eq!(login.expose_secret(), channel::token(&app.app, Kind::Login("main")).await.unwrap().expose_secret());
        assert_eq!(app.calls_to(STATELESS).await.len(), 2, "a login channel's are stateless");
    }

    /// A node that comes later uses the same; a restart asks for none.
    async fn nodes_share_what_costs(app) {
        register(app, &KEY).await;
        for (change, path) in [(use_v21 as fn(&mut Config), V21), (use_short_lived, SHORT_LIVED)] {
            let (one, other) = (node(app, change).await, node(app, change).await);
            let (first, second) = tokio::join!(token(&one), token(&other));
            assert_eq!(first, second);
            assert_eq!(token(&node(app, change).await).await, first);
            assert_eq!(asked(app, path).await, 1, "{path}");
            call(&other).await.unwrap();
        }
        let asked = &app.calls_to(V21).await[0]["body"];
        assert_eq!(asked["grant_type"], "client_credentials");
        assert_eq!(asked["client_assertion"], "***");
    }

    async fn x30_at_80_percent_one_node_gets_the_next_for_all(app) {
        register(app, &KEY).await;
        for (change, path) in [(use_v21 as fn(&mut Config), V21), (use_short_lived, SHORT_LIVED)] {
            end_all(app).await;
            app.execute("DELETE FROM channel_tokens").await;
            let (one, other) = (node(app, change).await, node(app, change).await);
            let first = token(&one).await;
            assert_eq!(token(&other).await, first);
            app.clock.advance(DAY * 24 - MINUTE);
            assert_eq!((token(&one).await, token(&other).await), (first.clone(), first.clone()), "before 80 %");

            app.clock.advance(MINUTE * 2);
            tokio::join!(call(&one), call(&other), call(&one), call(&other)).0.unwrap();
            app.clock.advance(Duration::from_secs(11));
            let second = token(&one).await;
            assert_ne!(second, first);
            assert_eq!(token(&other).await, second, "each node uses it within ten seconds");
            assert_eq!(asked(app, path).await, 2, "{path}");

            // The former lives until nobody can be using it.
            worker::ask(&one, "one").await.unwrap();
            assert_eq!(living(app).await, 2);
            app.clock.advance(GRACE);
            channel::tidy(&other).await.unwrap();
            assert_eq!(living(app).await, 1);
            call(&one).await.unwrap();
            assert_eq!(asked(app, path).await, 2, "{path}");
            app.clock.advance(DAY * 2);
            channel::tidy(&one).await.unwrap();
            assert_eq!(rows(app).await, 1, "nothing is kept of it");
        }
    }

    /// LINE's token endpoint is down at 80 %: the token is used on, and LINE is asked again now and then.
    async fn x30_an_ageing_token_is_used_on_while_line_is_down(app) {
        register(app, &KEY).await;
        let lived: fn(&mut Config) = |config| { use_v21(config); bot(config).token_lifetime = Some(MINUTE * 60); };
        for (change, path, life) in [(lived, V21, 60), ((|_| {}) as fn(&mut Config), STATELESS, 15)] {
            let node = node(app, change).await;
            let first = token(&node).await;
            app.clock.advance(MINUTE * life / 5 * 4);
            app.fault(json!({ "endpoint": path, "status": 400, "count": 100 })).await;
            let times = asked(app, path).await;
            for _ in 0..20 {
                assert_eq!(token(&node).await, first);
            }
            assert_eq!(asked(app, path).await, times + 1, "{path}");
            app.clear_faults().await;
            app.clock.advance(MINUTE + Duration::from_secs(1));
            assert_ne!(token(&node).await, first, "{path}");
            end_all(app).await;
        }
    }

    /// A node that died while it asked LINE holds up nobody who has a token.
    async fn a_dead_nodes_lease_holds_up_nobody_with_a_token(app) {
        register(app, &KEY).await;
        let node = node(app, use_v21).await;
        let first = token(&node).await;
        app.clock.advance(DAY * 25);
        assert!(queue::lease(&app.app, &format!("token:{BOT_CHANNEL}"), "dead", MINUTE).await.unwrap());
        assert_eq!(token(&node).await, first);
        queue::release(&app.app, &format!("token:{BOT_CHANNEL}"), "dead").await.unwrap();
        app.clock.advance(Duration::from_secs(11));
        assert_ne!(token(&node).await, first);
    }

    async fn x29_many_401s_on_two_nodes_bring_one_new_token(app) {
        register(app, &KEY).await;
        for (change, path) in [(use_v21 as fn(&mut Config), V21), (use_short_lived, SHORT_LIVED)] {
            end_all(app).await;
            app.execute("DELETE FROM channel_tokens").await;
            let (one, other) = (node(app, change).await, node(app, change).await);
            assert_eq!(token(&one).await, token(&other).await);
            end_all(app).await;
            let calls = (0..16).map(|number| {
                let node = if number % 2 == 0 { one.clone() } else { other.clone() };
                tokio::spawn(async move { call(&node).await })
            });
            for ended in calls.collect::<Vec<_>>() {
                ended.await.unwrap().unwrap();
            }
            assert_eq!(asked(app, path).await, 2, "{path}");
            assert_eq!(living(app).await, 1);
            assert_eq!(token(&one).await, token(&other).await);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM channel_alarms").await, 0);
            // What LINE refused is revoked without waiting.
            channel::tidy(&one).await.unwrap();
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM channel_tokens WHERE revoked_at IS NOT NULL").await, 1);
        }
    }

    /// LINE gives tokens and takes none: they are not asked for in a loop.
    async fn x29_tokens_that_line_does_not_take_are_not_replaced_in_a_loop(app) {
        register(app, &KEY).await;
        let node = node(app, use_v21).await;
        let (log, _guards) = captured();
        app.fault(json!({ "endpoint": "/v2/bot/info", "status": 401, "count": 10_000 })).await;
        for _ in 0..24 * 60 {
            assert!(matches!(call(&node).await, Err(Error::Refused { status: 401, .. })));
            app.clock.advance(MINUTE);
        }
        let times = asked(app, V21).await;
        assert!((10..=30).contains(&times), "{times} tokens in a day");
        assert_eq!(log.text().matches("ERROR").count(), 1, "one alarm");
        assert!(told(&node, "access token of main").await.starts_with("✗ access token of main: refused since "));
        for _ in 0..3 {
            channel::tidy(&node).await.unwrap();
        }
        assert!(living(app).await <= 2, "the refused ones are revoked");
        let times = asked(app, V21).await;

        // LINE was at fault itself: the newest token works again, at once, and whoever sees that ends the alarm.
        app.clear_faults().await;
        call(&self::node(app, use_v21).await).await.unwrap();
        call(&node).await.unwrap();
        assert_eq!(asked(app, V21).await, times);
        assert!(told(&node, "access token of main").await.starts_with("✓ access token of main: v2.1, until "));
    }

    async fn x29_wrong_credentials_raise_one_alarm_and_do_not_hammer(app) {
        let wrong_key: fn(&mut Config) = |config| { use_v21(config); bot(config).assertion_key = Some(pem(&OTHER_KEY).into()); };
        let wrong_short: fn(&mut Config) = |config| { use_short_lived(config); bot(config).channel_secret = WRONG.into(); };
        let wrong: fn(&mut Config) = |config| bot(config).channel_secret = WRONG.into();
        register(app, &KEY).await;
        for (change, mend, path, words) in [
            (wrong, (|_| {}) as fn(&mut Config), STATELESS, "channel.main.channel_id and channel_secret"),
            (wrong_key, use_v21, V21, "assertion_key_id with \"Assertion signing key\""),
            (wrong_short, use_short_lived, SHORT_LIVED, "channel.main.channel_id and channel_secret"),
        ] {
            let (one, other) = (node(app, change).await, node(app, change).await);
            let (log, guards) = captured();
            for _ in 0..10 {
                call(&one).await.unwrap_err();
                call(&other).await.unwrap_err();
            }
            assert_eq!(asked(app, path).await, 1, "{path}");
            for _ in 0..3 {
                app.clock.advance(MINUTE + Duration::from_secs(1));
                let (first, second) = (call(&one).await.unwrap_err(), call(&other).await.unwrap_err());
                assert!(!first.is_passing() && first.to_string().split('(').next() == second.to_string().split('(').next());
            }
            assert_eq!(asked(app, path).await, 4, "once a minute over both nodes: {path}");
            assert_eq!(log.text().matches("ERROR").count(), 1, "one alarm: {}", log.text());
            drop(guards);
            let line = told(&one, "access token of main").await;
            assert!(line.starts_with("✗ access token of main: refused since ") && line.contains(words), "{line}");
            assert!(told(&one, "Messaging channel main").await.contains(words));

            // Other credentials are not held back.
            let mended = node(app, mend).await;
            call(&mended).await.unwrap();
            assert_eq!(asked(app, path).await, 5, "{path}");
            assert!(told(&mended, "access token of main").await.starts_with('✓'));
            app.execute("DELETE FROM channel_alarms").await;
        }
    }

    /// The key is registered at last: what was refused is told to be over.
    async fn x29_after_an_alarm_ends_it_is_told_anew(app) {
        register(app, &OTHER_KEY).await;
        let node = node(app, use_v21).await;
        let (log, _guards) = captured();
        call(&node).await.unwrap_err();
        register(app, &KEY).await;
        app.clock.advance(MINUTE + Duration::from_secs(1));
        call(&node).await.unwrap();
        assert!(log.text().contains("LINE takes the channel again"));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM channel_alarms").await, 0);
        assert_eq!(rows(app).await, 1, "a refused question leaves no row");
    }

    /// Others have issued all that LINE allows: LINE's word is told, and nothing of theirs is touched.
    async fn the_31st_token_is_refused_and_told(app) {
        register(app, &KEY).await;
        let node = node(app, use_v21).await;
        let assertion = Assertion { channel_id: BOT_CHANNEL, key_id: KID, key: &KEY, now: app.app.now().seconds() };
        let mut others = Vec::new();
        for _ in 0..30 {
            others.push(app.app.line.token_v21(&assertion, DAY).await.unwrap());
        }
        for _ in 0..10 {
            let error = call(&node).await.unwrap_err();
            assert!(error.to_string().contains("The maximum number of access tokens has already been issued"), "{error}");
        }
        assert_eq!(asked(app, V21).await, 31);
        assert_eq!(living(app).await, 30);
        let secret = &app.app.config.channel["main"].channel_secret;
        app.app.line.revoke_token_v21(BOT_CHANNEL, secret, &others[0].token).await.unwrap();
        app.clock.advance(MINUTE + Duration::from_secs(1));
        call(&node).await.unwrap();
        let line = told(&node, "access token of main").await;
        assert!(line.starts_with('✗') && line.contains("30 valid ones of 30 at most, 29 of them not of this"), "{line}");
    }

    /// The answer is lost, as by a kill: one token leaks, it is found, and no loop of it is made.
    async fn a_token_whose_answer_was_lost_is_found(app) {
        register(app, &KEY).await;
        let node = node(app, use_v21).await;
        app.fault(json!({ "endpoint": V21, "cut": "after" })).await;
        assert!(matches!(call(&node).await, Err(Error::Lost(_))));
        call(&node).await.unwrap();
        assert_eq!((asked(app, V21).await, living(app).await, rows(app).await), (2, 2, 2));
        app.clock.advance(MINUTE * 3);
        channel::tidy(&node).await.unwrap();
        let found = "SELECT CAST(COUNT(*) AS BIGINT) FROM channel_tokens WHERE sealed IS NULL AND key_id IS NOT NULL";
        assert_eq!(app.count(found).await, 1);
        assert!(told(&node, "access token of main").await.contains("2 valid ones of 30 at most, 0 of them not of this"));
        let listed = app.calls_to("/oauth2/v2.1/tokens/kid").await.len();
        channel::tidy(&node).await.unwrap();
        assert_eq!(app.calls_to("/oauth2/v2.1/tokens/kid").await.len(), listed, "it is looked for once");

        // Lost before LINE took it: there is nothing to be found, and nothing is counted.
        end_all(app).await;
        app.execute("DELETE FROM channel_tokens").await;
        let fresh = self::node(app, use_v21).await;
        app.fault(json!({ "endpoint": V21, "cut": "before" })).await;
        call(&fresh).await.unwrap_err();
        call(&fresh).await.unwrap();
        app.clock.advance(MINUTE * 3);
        channel::tidy(&fresh).await.unwrap();
        assert_eq!(rows(app).await, 1);
    }

    /// Every answer is lost: LINE is asked less and less often.
    async fn lost_answers_do_not_use_the_limit_up(app) {
        let node = node(app, use_short_lived).await;
        app.fault(json!({ "endpoint": SHORT_LIVED, "cut": "after", "count": 10_000 })).await;
        for _ in 0..24 * 60 {
            assert!(call(&node).await.unwrap_err().is_passing());
            app.clock.advance(MINUTE);
        }
        let times = asked(app, SHORT_LIVED).await;
        assert!((10..=30).contains(&times), "{times} tokens in a day");
    }

    async fn a_long_lived_token_is_only_read(app) {
        let path = format!("/_sim/channels/{BOT_CHANNEL}/long-lived-token");
        let given = app.sim(Method::POST, &path, Value::Null).await["access_token"].as_str().unwrap().to_owned();
        let node = node(app, |config| {
            bot(config).token = TokenKind::LongLived;
            bot(config).channel_access_token = Some(given.clone().into());
        }).await;
        call(&node).await.unwrap();
        app.clock.advance(DAY * 1000);
        call(&node).await.unwrap();
        assert_eq!(token(&node).await, given);
        channel::tidy(&node).await.unwrap();
        assert_eq!(rows(app).await, 0);
        assert!(told(&node, "access token of main").await.starts_with("✓ access token of main: long-lived, as the"));

        // Another one was made in the console.
        let (log, _guards) = captured();
        app.sim(Method::POST, &path, Value::Null).await;
        for _ in 0..5 {
            assert!(matches!(call(&node).await, Err(Error::Refused { status: 401, .. })));
        }
        assert_eq!(log.text().matches("ERROR").count(), 1);
        let line = told(&node, "access token of main").await;
        assert!(line.starts_with('✗') && line.contains("issue a token in LINE's console"), "{line}");
        let others = app.calls().await.into_iter().filter(|call| {
            let path = call["path"].as_str().unwrap();
            // The login channel's own are stateless; LIFF's keys are no token.
            path.contains("oauth") && ![STATELESS, "/v2/oauth/verify", "/oauth2/v2.1/certs"].contains(&path)
        });
        assert_eq!(others.count(), 0, "nothing is issued or revoked");
    }

    /// A token of another channel is no help, and doctor says so.
    async fn a_long_lived_token_of_another_channel_is_told(app) {
        let foreign = app.app.line.short_lived_token(LOGIN_CHANNEL, &crate::support::LOGIN_SECRET.into()).await.unwrap();
        let node = node(app, |config| {
            bot(config).token = TokenKind::LongLived;
            bot(config).channel_access_token = Some(foreign.token.clone());
        }).await;
        let line = told(&node, "access token of main").await;
        assert!(line.starts_with('✗'), "{line}");
    }

    async fn a_former_kinds_token_is_revoked(app) {
        register(app, &KEY).await;
        for change in [use_v21, use_short_lived] {
            token(&node(app, change).await).await;
        }
        assert_eq!(living(app).await, 2);
        channel::tidy(&app.app).await.unwrap();
        assert_eq!(living(app).await, 2, "another node may still use it");
        app.clock.advance(GRACE);
        channel::tidy(&app.app).await.unwrap();
        assert_eq!(living(app).await, 0);
        // Where LINE does not answer, it is tried again.
        token(&node(app, use_v21).await).await;
        channel::tidy(&app.app).await.unwrap();
        app.clock.advance(GRACE);
        app.fault(json!({ "endpoint": "/oauth2/v2.1/revoke", "status": 500 })).await;
        channel::tidy(&app.app).await.unwrap();
        assert_eq!(living(app).await, 1);
        app.clock.advance(MINUTE * 61);
        channel::tidy(&app.app).await.unwrap();
        assert_eq!(living(app).await, 0);
    }

    async fn a_rotation_seals_the_tokens_anew(app) {
        register(app, &KEY).await;
        let first = token(&node(app, use_v21).await).await;
        let with_key = |config: &mut Config| {
            use_v21(config);
            config.security.sealing_keys.insert("new".into(), "Zm9ydHktdHdvIGlzIHRoZSBhbnN3ZXIsIG9yIG5vdD8=".into());
            config.security.sealing_key = "new".into();
        };
        let report = key::rotate(&node(app, with_key).await).await.unwrap();
        assert!(report.is_fine && report.resealed == 1, "{report:?}");
        let alone = node(app, |config| { with_key(config); config.security.sealing_keys.remove("test"); }).await;
        assert_eq!(token(&alone).await, first);
        assert_eq!(asked(app, V21).await, 1);
    }

    async fn j12_no_token_is_told_or_kept_in_the_open(app) {
        let (log, _guards) = captured();
        register(app, &KEY).await;
        let mut secrets = vec![pem(&KEY).lines().nth(1).unwrap().to_owned()];
        let node = node(app, use_v21).await;
        secrets.push(token(&node).await);
        end_all(app).await;
        call(&node).await.unwrap();
        secrets.push(token(&node).await);
        app.clock.advance(DAY * 25);
        secrets.push(token(&node).await);
        app.clock.advance(GRACE);
        channel::tidy(&node).await.unwrap();
        let doctor = format!("{:?}", doctor::examine(&node).await);
        let kept = app.dump(&[]).await.join("\n");
        let debug = format!("{:?} {:?}", node.config, node.tokens);
        secrets.push("client_assertion=".to_owned());
        for (place, text) in [("log", log.text()), ("doctor", doctor), ("database", kept), ("Debug", debug)] {
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{place} tells {secret}");
            }
        }
        assert!(log.text().contains("a new channel access token is used"));
    }

    /// Without the database a shared token that is due is not asked for; the one at hand is used on.
    async fn x09_without_the_database_no_token_is_asked_for(app) {
        register(app, &KEY).await;
        let (one, fresh) = (node(app, use_v21).await, node(app, use_v21).await);
        let first = token(&one).await;
        one.db.close().await;
        fresh.db.close().await;
        app.clock.advance(DAY * 25);
        assert_eq!(token(&one).await, first);
        assert!(channel::token(&fresh, BOT).await.unwrap_err().is_passing());
        assert_eq!(asked(app, V21).await, 1);
    }
}

/// A configuration with these lines about its channel; gives the mistakes.
fn mistakes(lines: &str) -> Vec<String> {
    let text = format!(
        "public_url = 'https://members.example.jp'\ndatabase_url = 'sqlite://x.db'\ncompany = 'x'\n[security]\n\
         sealing_key = 'k'\nsealing_keys = {{ k = 'yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=' }}\n[provider.main]\n\
         [channel.main]\nprovider = 'main'\nchannel_id = '1'\nchannel_secret = '0a9b8c7d6e5f40312233445566778899'\n{lines}"
    );
    Config::parse("test", &text, []).map_or_else(|error| error.mistakes, |_| Vec::new())
}

#[test]
fn a_wrong_token_configuration_does_not_start() {
    let good = format!("token = 'v2.1'\nassertion_key_id = '{KID}'\nassertion_key = '''{}'''\n", pem(&KEY));
    assert_eq!(mistakes(&good), [""; 0]);
    assert_eq!(mistakes(&format!("{good}token_lifetime = '12h'")), [""; 0]);
    assert_eq!(mistakes("token = 'short-lived'"), [""; 0]);
    let long = "token = 'long-lived'\nchannel_access_token = '0123456789abcdef0123456789abcdef+/='";
    assert_eq!(mistakes(long), [""; 0]);

    let folder = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = folder.path().join("key.pem");
        std::fs::write(&path, text).unwrap();
        format!("token = 'v2.1'\nassertion_key_id = 'k'\nassertion_key_file = '{}'", path.display())
    };
    assert_eq!(mistakes(&file(&pem(&KEY))), [""; 0]);
    let cut = pem(&KEY).replace("-----END PRIVATE KEY-----\n", "");
    let elliptic = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----";
    let public = format!("'{}'", public(&KEY));
    for (lines, words) in [
        (file("not a key"), "channel.main.assertion_key: is neither a private RSA key in PEM nor one as JWK"),
        (file(&cut), "channel.main.assertion_key: is neither"),
        (file(elliptic), "channel.main.assertion_key: is neither"),
        (file("{}"), "channel.main.assertion_key: is neither"),
        (format!("token = 'v2.1'\nassertion_key = {public}"), "channel.main.assertion_key: is neither"),
        ("token = 'v2.1'".to_owned(), "channel.main.assertion_key: is missing"),
        (good.replace(KID, ""), "channel.main.assertion_key_id: is missing"),
        (format!("{good}token_lifetime = '31d'"), "channel.main.token_lifetime: must be 15 minutes to 30 days"),
        (format!("{good}token_lifetime = '14m'"), "channel.main.token_lifetime: must be 15 minutes to 30 days"),
        (format!("{good}token_lifetime = 'soon'"), "channel.main.token_lifetime: not a time such as 30d or 12h"),
        (good.replace("v2.1", "v3"), "channel.main.token: expected one of `stateless`, `v2.1`, `short-lived`"),
        (good.replace("v2.1", "stateless"), "channel.main.assertion_key: is for token = \"v2.1\" only"),
        ("token = 'long-lived'".to_owned(), "channel.main.channel_access_token: is missing"),
        (long.replace("abc", "a c"), "channel.main.channel_access_token: is not a channel access token"),
        (long.replace("long-lived", "short-lived"), "channel.main.channel_access_token: is for token = \"long-lived\""),
    ] {
        let found = mistakes(&lines);
        assert!(found.iter().any(|mistake| mistake.starts_with(words)), "{words}: {found:?}");
        assert!(!found.concat().contains("MII") && !found.concat().contains("0123456789"), "{found:?}");
    }
    let missing = mistakes("token = 'v2.1'\nassertion_key_file = '/no/such/file'");
    assert!(missing[0].contains("assertion_key_file: /no/such/file cannot be read"), "{missing:?}");
}

/// The key as LINE's documents let people make it: a JWK of RFC 7515's example A.2, with the console's `kid`.
#[test]
fn a_private_jwk_is_taken() {
    let jwk = json!({
        "kty": "RSA", "kid": KID, "alg": "RS256", "use": "sig",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "e": "AQAB",
        "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
        "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
        "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
        "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
        "dq": "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
        "qi": "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
    });
    let found = mistakes(&format!("token = 'v2.1'\nassertion_key = '{jwk}'"));
    assert_eq!(found, [""; 0]);
    let unnamed = jwk.to_string().replace("kid", "name");
    let found = mistakes(&format!("token = 'v2.1'\nassertion_key = '{unnamed}'"));
    assert!(found[0].starts_with("channel.main.assertion_key_id: is missing"), "{found:?}");
}
