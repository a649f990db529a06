//! Changing keys: what older keys sealed is sealed anew, beside a running server, and nothing is lost or overwritten;
//! what LINE signed with the former channel secret is taken until that secret is removed.

use std::process::Command;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use musubi::{
    app::App, config::Config, db::Db, key, line::login::UserTokens, link::grant, member::guard::Scope, routes,
};
use serde_json::{Value, json};

use crate::{
    login::{come_back, id_token, reply_with},
    support::{
        Engine, LOGIN_SECRET, PASSWORD, Refusal, TestApp, Visitor, both_engines, hs256, parameter,
        process::{Browser, PUBLIC, Place, Process, add_member, run, start_server, start_simulator, until},
        proxy::{Plan, Proxy},
        refused,
    },
};

const NEW_KEY: &str = "Zm9ydHktdHdvIGlzIHRoZSBhbnN3ZXIsIG9yIG5vdD8=";
const FORMER_SECRET: &str = "11112222333344445555666677778888";

/// The same house with a new active key; `keeps_old` says whether the former one is still there.
fn with_new_key(app: &TestApp, keeps_old: bool) -> App {
    with(app, |config| {
        config.security.sealing_keys.insert("new".into(), NEW_KEY.into());
        config.security.sealing_key = "new".into();
        if !keeps_old {
            config.security.sealing_keys.remove("test");
        }
    })
}

/// The same house with another configuration.
fn with(app: &TestApp, change: impl FnOnce(&mut Config)) -> App {
    let mut config = app.app.config.clone();
    change(&mut config);
    App::new(config, app.app.db.clone(), app.clock.clone()).unwrap()
}

/// Another application on the database and at the LINE of `app`, as visitors know one.
async fn house(app: &TestApp, other: App) -> TestApp {
    let mut house = TestApp::start(app.engine).await;
    house.end().await;
    house.router = routes::router(&other);
    house.app = other;
    house.line = app.line.clone();
    house
}

/// The same browser at another house.
fn moved<'a>(visitor: &Visitor<'_>, to: &'a TestApp) -> Visitor<'a> {
    let Visitor { cookies, address, language, user_agent, .. } = visitor.clone();
    Visitor { app: to, cookies, address, language, user_agent }
}

/// Everything that is sealed, as it stands in the database.
async fn sealed(app: &TestApp) -> Vec<String> {
    let statement = "SELECT sealed FROM grants WHERE sealed IS NOT NULL UNION ALL SELECT sealed_verifier FROM attempts
                     UNION ALL SELECT sealed_verifier FROM oidc_attempts
                     UNION ALL SELECT sealed FROM api_requests WHERE sealed IS NOT NULL";
    sqlx::query_scalar(statement).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

async fn only_grant(app: &TestApp) -> String {
    let statement = "SELECT id FROM grants WHERE ended_at IS NULL";
    sqlx::query_scalar(statement).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

/// Every column that may hold what is sealed; a new one must be rotated too.
#[test]
fn every_sealed_column_is_rotated() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("migrations").unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let columns = text.lines().filter_map(|line| line.split_whitespace().next());
        found.extend(columns.filter(|column| column.starts_with("sealed")).map(str::to_owned));
    }
    found.sort();
    assert_eq!(
        found,
        ["sealed", "sealed", "sealed", "sealed_former_secret", "sealed_secret", "sealed_verifier", "sealed_verifier"]
    );
}

/// `seal` is called for these and nothing else.
#[test]
fn nothing_else_is_sealed() {
    let mut callers = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path).unwrap().contains("sealer.seal(") {
                callers.push(path.display().to_string());
            }
        }
    }
    callers.sort();
    let expected = [
        "src/api/idempotency.rs",
        "src/channel/store.rs",
        "src/doctor.rs",
        "src/hook/secret.rs",
        "src/key.rs",
        "src/link/attempt.rs",
        "src/link/grant.rs",
        "src/member/oidc/attempt.rs",
    ];
    assert_eq!(callers, expected);
}

both_engines! {
    async fn rotation_moves_everything_to_the_active_key(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        // A sign-in on its way, whose verifier is sealed too.
        let mut visitor = app.visitor();
        let callback = come_back(&mut visitor, &user).await;
        // And an answer of the API that is kept.
        let api_key = app.key(Scope::ALL).await;
        let cancel = async |app: &TestApp| app.api_once(&api_key, "/api/v1/messages/none/cancel", Value::Null, "once").await;
        let first = cancel(app).await;
        let before = sealed(app).await;
        assert!(before.len() == 4 && before.iter().all(|value| value.starts_with("test.")), "{before:?}");

        let report = key::rotate(&with_new_key(app, true)).await.unwrap();
        assert!(report.is_fine && report.resealed == 4, "{report:?}");
        assert_eq!(report.lines.len(), 2, "{report:?}");
        assert_eq!(report.lines[0], "4 values were sealed anew; \"new\" seals 4");
        assert!(report.lines[1].starts_with("key \"test\" seals nothing: it may be removed"), "{report:?}");
        let after = sealed(app).await;
        assert!(after.len() == 4 && after.iter().all(|value| value.starts_with("new.")), "{after:?}");

        // Without the former key, the sign-in goes on, and an unlink is carried out.
        let alone = house(app, with_new_key(app, false)).await;
        let again = cancel(&alone).await;
        assert_eq!((&again.body, &again.headers["idempotent-replayed"]), (&first.body, &"true".parse().unwrap()));
        let answer = moved(&visitor, &alone).get(&callback).await;
        assert_eq!(answer.location(), "/account", "{}", answer.body);
        hanako.cookies.remove("__Host-musubi_form");
        let answer = moved(&hanako, &alone).unlink().await;
        assert_eq!(answer.location(), "/account?done=unlinked", "{}", answer.body);
        alone.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE sealed IS NOT NULL").await, 0);

        let again = key::rotate(&with_new_key(app, true)).await.unwrap();
        assert!(again.is_fine && again.resealed == 0, "{again:?}");
    }

    async fn what_no_key_opens_is_named_and_left(app) {
        app.linked("hanako@example.jp").await;
        let id = only_grant(app).await;
        for (value, why) in [
            ("gone.AAAA", "sealed with key \"gone\", which is not configured"),
            ("test.AAAA", "the sealed value is damaged or belongs elsewhere"),
            ("new.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "the sealed value is damaged or belongs elsewhere"),
            ("nonsense", "the sealed value is damaged or belongs elsewhere"),
        ] {
            let mut conn = app.app.db.conn().await.unwrap();
            sqlx::query("UPDATE grants SET sealed = $1").bind(value).execute(&mut *conn).await.unwrap();
            drop(conn);
            let report = key::rotate(&with_new_key(app, true)).await.unwrap();
            assert!(!report.is_fine, "{report:?}");
            assert_eq!(report.lines[0], format!("grants {id} was left as it is: {why}"));
            let told = report.lines.concat();
            assert_eq!(told.contains("\"test\" seals 1 values still: leave it"), value.starts_with("test."), "{told}");
            assert!(sealed(app).await.contains(&value.to_owned()));
        }
    }

    /// Tokens that are refreshed while the keys change are kept, whoever is first.
    async fn a_refresh_at_the_same_time_is_not_overwritten(app) {
        app.linked("hanako@example.jp").await;
        let id = only_grant(app).await;
        let rotating = with_new_key(app, true);
        for round in 0..40 {
            let tokens = UserTokens { access_token: format!("access {round}"), refresh_token: None };
            let (serving, id) = (app.app.clone(), id.clone());
            let refresh = async {
                let mut conn = serving.db.conn().await.unwrap();
                grant::update(&mut conn, &serving, &id, &tokens, std::time::Duration::from_secs(60)).await.unwrap();
            };
            let (_, report) = tokio::join!(refresh, key::rotate(&rotating));
            assert!(report.unwrap().is_fine);
            let kept = grant::find(&mut app.app.db.conn().await.unwrap(), &rotating, &id).await.unwrap().unwrap();
            assert_eq!(kept.tokens.access_token, tokens.access_token, "round {round}");
        }
    }

    async fn a_login_on_its_way_over_a_new_channel_secret(app) {
        // The secret was re-issued at LINE: it is called with the new one, and what it signed before is taken.
        let with_former = |former: Option<&str>| {
            let former = former.map(Into::into);
            with(app, |config| {
                config.provider.get_mut("main").unwrap().login.as_mut().unwrap().former_channel_secret = former;
            })
        };
        let (_, user) = app.linked("hanako@example.jp").await;
        let open = house(app, with_former(Some(FORMER_SECRET))).await;
        let closed = house(app, with_former(None)).await;
        let signed = |secret: &str, nonce: &str| {
            let good = id_token(app, &user, &json!({ "nonce": nonce }));
            let claims = good.split('.').nth(1).unwrap();
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
            hs256(secret.as_bytes(), r#"{"typ":"JWT","alg":"HS256"}"#, &String::from_utf8(claims).unwrap())
        };
        let arrive = async |house: &TestApp, secret: &str| {
            let mut visitor = app.visitor();
            let url = visitor.start_line("sign_in", "/").await;
            let callback = visitor.at_line(&url, &user, "consent").await;
            reply_with(app, json!({ "id_token": signed(secret, &parameter(&url, "nonce")) })).await;
            moved(&visitor, house).get(&callback).await
        };
        for secret in [FORMER_SECRET, LOGIN_SECRET] {
            let answer = arrive(&open, secret).await;
            assert_eq!(answer.location(), "/account", "{}", answer.body);
        }
        for (house, secret) in [(&closed, FORMER_SECRET), (&open, "0a9b8c7d6e5f40312233445566778899"), (&open, "")] {
            let answer = arrive(house, secret).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
            assert_eq!(app.audit().await.last().unwrap(), "line_refused/id_token_sig");
        }
        // Without a change on its way, the same by the usual way.
        let mut visitor = app.visitor();
        let url = visitor.start_line("sign_in", "/").await;
        let callback = visitor.at_line(&url, &user, "consent").await;
        reply_with(app, json!({ "id_token": signed(FORMER_SECRET, &parameter(&url, "nonce")) })).await;
        let calls = ["/oauth2/v2.1/token", "/oauth2/v2.1/revoke"];
        refused(&mut visitor, &callback, Refusal::new(400, "line_token", "id_token_sig").calls(&calls)).await;
    }

    async fn rotation_asks_line_for_the_new_secret(app) {
        let told = async |change: &dyn Fn(&mut Config)| {
            let report = key::rotate(&with(app, change)).await.unwrap();
            (report.is_fine, report.lines[1..].to_vec())
        };
        assert_eq!(told(&|_| {}).await, (true, vec![]), "nothing to tell without a former secret");
        let former = |config: &mut Config| {
            config.provider.get_mut("main").unwrap().login.as_mut().unwrap().former_channel_secret =
                Some(FORMER_SECRET.into());
            config.channel.get_mut("main").unwrap().former_channel_secret = Some(FORMER_SECRET.into());
        };
        let (is_fine, lines) = told(&former).await;
        assert!(is_fine && lines.len() == 2, "{lines:?}");
        for (line, path) in lines.iter().zip(["provider.main.login", "channel.main"]) {
            let expected =
                format!("LINE takes {path}.channel_secret: {path}.former_channel_secret may be removed, ten minutes");
            assert!(line.starts_with(&expected), "{line}");
        }
        let (is_fine, lines) = told(&|config| {
            former(config);
            config.channel.get_mut("main").unwrap().channel_secret = "99998888777766665555444433332222".into();
        })
        .await;
        assert!(!is_fine && lines[0].starts_with("LINE takes provider.main.login.channel_secret"), "{lines:?}");
        assert!(lines[1].starts_with("channel.main.former_channel_secret must stay"), "{lines:?}");
        assert!(lines[1].contains("LINE answered 400") && lines[1].contains("compare channel.main.channel_id"), "{lines:?}");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (is_fine, lines) = told(&|config| {
            former(config);
            config.line.api = format!("http://{free}").parse().unwrap();
        })
        .await;
        assert!(!is_fine && lines[0].contains("could not be reached") && lines[0].contains("again when LINE answers"));
    }
}

/// Cut off in the middle, a rotation goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_cut_off_goes_on() {
    let app = TestApp::start(Engine::Postgres).await;
    let mut tx = app.app.db.begin().await.unwrap();
    for number in 0..450 {
        let id = format!("{number:04}");
        let value = app.app.sealer.seal(&musubi::link::attempt::context(&id), b"verifier").unwrap();
        sqlx::query(
            "INSERT INTO attempts (id, state_hash, provider, purpose, nonce_hash, sealed_verifier, browser_hash,
               address, return_to, created_at, expires_at)
             VALUES ($1, $1, 'main', 'sign_in', 'x', $2, 'x', 'x', '/', 1, 2)",
        )
        .bind(id)
        .bind(value)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let proxy = Proxy::start(&app.database_url).await;
    let house = with_new_key(&app, true);
    let house = App::new(house.config.clone(), Db::connect(&proxy.url).await.unwrap(), app.clock.clone()).unwrap();
    let new = async || sealed(&app).await.iter().filter(|value| value.starts_with("new.")).count();
    proxy.plan(Plan::CutBefore(300));
    key::rotate(&house).await.unwrap_err();
    assert!(proxy.has_struck());
    assert_eq!(new().await, 200, "the first batch, and nothing of the second");
    proxy.plan(Plan::Pass);
    let report = key::rotate(&house).await.unwrap();
    assert!(report.is_fine && report.resealed == 250, "{report:?}");
    assert_eq!(new().await, 450);
    house.db.close().await;
    app.end().await;
}

/// A refresh that commits between the reading and the writing of a rotation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_being_written_wins() {
    let app = TestApp::start(Engine::Postgres).await;
    app.linked("hanako@example.jp").await;
    let id = only_grant(&app).await;
    let house = with_new_key(&app, true);
    let tokens = UserTokens { access_token: "fresh".into(), refresh_token: None };
    let mut tx = app.app.db.begin().await.unwrap();
    grant::update(&mut tx, &app.app, &id, &tokens, std::time::Duration::from_secs(60)).await.unwrap();
    let rotating = tokio::spawn({
        let house = house.clone();
        async move { key::rotate(&house).await.unwrap() }
    });
    // It has read the former value, and waits for the row.
    let waits = "SELECT CAST(COUNT(*) AS BIGINT) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while app.count(waits).await == 0 {
        tokio::task::yield_now().await;
    }
    tx.commit().await.unwrap();
    let report = rotating.await.unwrap();
    assert!(report.is_fine, "{report:?}");
    let kept = grant::find(&mut app.app.db.conn().await.unwrap(), &house, &id).await.unwrap().unwrap();
    assert_eq!(kept.tokens.access_token, "fresh");
    assert!(sealed(&app).await.iter().all(|value| value.starts_with("new.")), "the next pass saw it");
    app.end().await;
}

// ---- the command

#[test]
fn a_new_key_is_printed_alone_with_its_place_beside() {
    let made = || {
        let output = Command::new(env!("CARGO_BIN_EXE_musubi")).args(["key", "new"]).env_clear().output().unwrap();
        assert!(output.status.success());
        let key = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains(key.trim()), "the key is told once");
        for words in ["[security.sealing_keys]", "sealing_key = \"k2", "_file = ", "musubi key rotate", "restart"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        key
    };
    let (one, other) = (made(), made());
    assert_ne!(one, other);
    for key in [one, other] {
        assert_eq!(key.lines().count(), 1);
        assert_eq!(STANDARD.decode(key.trim()).unwrap().len(), 32);
    }
}

/// Beside a running server, on both engines, by the real binary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_rotates_beside_a_running_server() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let (server, base) = start_server(&config, &[]);
        let app = place.app(&config).await;
        add_member(&app, "hanako@example.jp").await;
        let mut browser = Browser::new(&base, PUBLIC);
        browser.sign_in("hanako@example.jp").await;
        let user = line.person().await;
        let attempt = browser.reach_confirm(&line, &user).await;
        browser.confirm(&attempt).await;

        let rotated = place.path("rotated.toml").to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("sealing_key = \"test\"", "sealing_key = \"new\"");
        let text = text.replace("sealing_keys = { ", &format!("sealing_keys = {{ new = \"{NEW_KEY}\", "));
        std::fs::write(&rotated, text).unwrap();
        let (code, told) = run(&["key", "rotate", "--config", &rotated]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("2 values were sealed anew; \"new\" seals 2"), "{told}");
        assert!(told.contains("key \"test\" seals nothing: it may be removed from security.sealing_keys"), "{told}");
        assert!(!told.contains('\u{1b}') && !told.contains('\r'), "progress where there is no terminal: {told}");

        // The server that runs with the former key alone cannot open it; restarted with both, it can.
        server.stop();
        let (server, base) = start_server(&rotated, &[]);
        browser.base = base;
        let fields = [("provider", "main"), ("password", PASSWORD)];
        assert_eq!(browser.post("/account/unlink", &fields).await.location, "/account?done=unlinked");
        until(async || {
            let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE sealed IS NOT NULL";
            sqlx::query_scalar::<_, i64>(open).fetch_one(&mut *app.db.conn().await.unwrap()).await.unwrap() == 0
        })
        .await;
        assert_eq!(line.calls_to("/user/v1/deauthorize").await.len(), 1);
        server.stop();

        // A value that nothing opens: named, and the command fails.
        place.execute("UPDATE attempts SET sealed_verifier = 'gone.AAAA'").await;
        let (code, told) = run(&["key", "rotate", "--config", &rotated]);
        assert_eq!(code, Some(1), "{told}");
        assert!(
            told.contains("attempts 0") && told.contains("sealed with key \"gone\", which is not configured"),
            "{told}"
        );
        assert!(!told.contains(NEW_KEY) && !told.contains("AAAA"), "{told}");
        simulator.stop();
        app.db.close().await;
        place.end().await;
    }
}

#[tokio::test]
async fn a_schema_that_is_not_ours_is_not_touched() {
    let place = Place::new(Engine::Sqlite).await;
    let (code, told) = Process::start(&["key", "rotate", "--config", &place.alone()]).end();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("older than this musubi"), "{told}");
}
