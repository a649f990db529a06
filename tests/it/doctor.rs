//! What `musubi doctor` says of an installation, whole and broken.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use axum::http::Method;
use musubi::{
    app::App,
    channel::{self, Kind},
    config::Config,
    doctor::{self, Finding},
};
use serde_json::json;

use crate::support::{LIFF_ID, ORIGIN, TestApp, both_engines};

/// The same installation with another configuration.
fn with(app: &TestApp, change: impl FnOnce(&mut Config)) -> App {
    let mut config = app.app.config.clone();
    change(&mut config);
    App::new(config, app.app.db.clone(), app.clock.clone()).unwrap()
}

async fn told(app: &App) -> Vec<String> {
    doctor::examine(app).await.iter().map(Finding::to_string).collect()
}

/// The one finding about `what`.
async fn finding(app: &App, what: &str) -> String {
    let all = told(app).await;
    let mut found = all.iter().filter(|one| one[..].split_once(' ').unwrap().1.starts_with(&format!("{what}: ")));
    let one = found.next().unwrap_or_else(|| panic!("nothing about {what} in {all:#?}"));
    assert!(found.next().is_none(), "{all:#?}");
    one.clone()
}

/// The finding about `what`, marked as wrong, has all of `words`.
async fn assert_wrong(app: &App, what: &str, words: &[&str]) {
    let one = finding(app, what).await;
    assert!(one.starts_with('✗') && words.iter().all(|word| one.contains(word)), "{one}");
}

both_engines! {
    async fn an_installation_at_the_simulator(app) {
        let provider = "✓ provider of main: not to be seen before the first friend signed in";
        let expected = [
            "✓ configuration: read, without mistakes".to_owned(),
            "✓ database schema: up to date".to_owned(),
            "✓ secrets: sealed with key \"test\"".to_owned(),
            format!("✓ public URL: {ORIGIN}/ (that it is reached from outside cannot be seen from here)"),
            "✓ mail: the mail server answers".to_owned(),
            finding(&app.app, "LINE hosts").await,
            "✓ consent texts: version \"1\"".to_owned(),
            "✓ outbox: nothing is held back".to_owned(),
            "✓ hooks: 0 endpoints, all well".to_owned(),
            "✓ LINE Login channel of main: LINE took its id and secret".to_owned(),
            format!("✓ callback of main: register {ORIGIN}/line/callback/main in LINE's console"),
            format!(
                "✓ LIFF app of main: set the endpoint URL of {LIFF_ID} to {ORIGIN}/liff/main, with the scopes openid and \
                 profile, in LINE's console (1 keys of LINE read)"
            ),
            "✓ Messaging channel main: Example Company (@example)".to_owned(),
            "✓ access token of main: stateless: 15 minutes, one for each process".to_owned(),
            "✓ quota of main: without limit; about 0 sent this month".to_owned(),
            "✓ rich menus of main: without mistakes; applied when `musubi serve` starts".to_owned(),
            provider.to_owned(),
        ];
        assert_eq!(told(&app.app).await, expected);
        let api = app.app.config.line.api.as_str().trim_end_matches('/').to_owned();
        assert_wrong(&app.app, "LINE hosts", &["line.api is ", &api, "line.access", "remove the [line] section"]).await;

        let (_, user) = app.linked("hanako@example.jp").await;
        assert_eq!(finding(&app.app, "provider of main").await, "✓ provider of main: the bot knows a LINE user of main");
        app.sim(Method::POST, &format!("/_sim/users/{user}/block"), json!({})).await;
        assert_wrong(&app.app, "provider of main", &["does not know a friend", "of one provider?"]).await;
    }

    async fn wrong_secrets_are_told_in_lines_words(app) {
        let wrong = "00000000000000000000000000000000";
        let wrong = with(app, |config| {
            config.channel.get_mut("main").unwrap().channel_secret = wrong.into();
            config.provider.get_mut("main").unwrap().login.as_mut().unwrap().channel_secret = wrong.into();
        });
        let words = "LINE answered 400: invalid_request: Invalid 'client_credentials'.";
        for (what, section) in [
            ("LINE Login channel of main", "compare provider.main.login.channel_id and channel_secret with LINE's console"),
            ("Messaging channel main", "compare channel.main.channel_id and channel_secret with LINE's console"),
        ] {
            assert_wrong(&wrong, what, &[words, section]).await;
        }
        assert!(!told(&wrong).await.concat().contains("000000000000"), "the secret itself is not told");
    }

    async fn a_line_that_is_away_is_named(app) {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let away = with(app, |config| config.line.api = format!("http://{closed}").parse().unwrap());
        for what in ["LINE Login channel of main", "Messaging channel main"] {
            assert_wrong(&away, what, &["LINE could not be reached: no connection", "refused"]).await;
            assert!(!finding(&away, what).await.contains("compare"), "nothing is wrong with the secrets");
        }
        app.fault(json!({ "endpoint": "GET /v2/bot/info", "status": 500 })).await;
        assert_wrong(&app.app, "Messaging channel main", &["LINE answered 500: Internal Server Error", "request"]).await;
    }

    async fn an_older_or_newer_schema_is_named(app) {
        app.execute("DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").await;
        assert_wrong(&app.app, "database schema", &["older than this musubi", "run `musubi migrate`"]).await;
        app.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
        assert_wrong(&app.app, "database schema", &["newer musubi", "9999"]).await;
        app.execute("DROP TABLE _sqlx_migrations").await;
        app.execute("DROP TABLE friends").await;
        assert_wrong(&app.app, "database schema", &["older than this musubi"]).await;
        assert!(!told(&app.app).await.concat().contains("friends"), "no table is asked that may not be there");
    }

    async fn what_is_not_configured_is_told(app) {
        let alone = with(app, |config| {
            config.provider.get_mut("main").unwrap().login.as_mut().unwrap().channel = None;
            config.public_url = "http://localhost:8080".parse().unwrap();
        });
        let text = finding(&alone, "official account of main").await;
        assert!(text.contains("none named") && text.contains("provider.main.login.channel"), "{text}");
        assert_wrong(&alone, "public URL", &["plain http", "LINE needs https"]).await;

        let silent = with(app, |config| config.mail = None);
        assert!(finding(&silent, "mail").await.contains("nobody can sign up or reset a password"));
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let away = with(app, |config| config.mail.as_mut().unwrap().url = format!("smtp://{closed}").into());
        assert_wrong(&away, "mail", &["refused", "look at mail.url"]).await;

        let unknown = channel::token(&app.app, Kind::Bot("shop")).await.unwrap_err().to_string();
        assert_eq!(unknown, "LINE was not called: there is no [channel.shop] in the configuration");
        let unknown = channel::token(&app.app, Kind::Login("shop")).await.unwrap_err().to_string();
        assert_eq!(unknown, "LINE was not called: there is no [provider.shop.login] in the configuration");
    }
}
