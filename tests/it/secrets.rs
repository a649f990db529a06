//! Secrets stay where they belong: each has a unique value, everything is done that can be done with it, and then it
//! is searched for in the logs of the real binary, in every answer and in every table.
#![expect(clippy::panic, clippy::too_many_lines, reason = "one long way past every place, and it says where it failed")]

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    http::{Method, StatusCode, header},
    response::Response,
};
use musubi::{
    app::App,
    link::{attempt, grant, start},
    member::guard::Who,
    routes,
};
use serde_json::json;

use crate::support::{
    BOT_CHANNEL, Engine, LOGIN_CHANNEL, PASSWORD, TABLES, TestApp, both_engines, dump_of, hs256, parameter,
    process::{
        Browser, Line, PUBLIC, Page, Place, Process, add_member, run, start_server, start_simulator, until, word,
    },
};

const LOGIN_SECRET: &str = "ca11ab1e00000000000000000000a001";
const FORMER_LOGIN_SECRET: &str = "ca11ab1e00000000000000000000a002";
const BOT_SECRET: &str = "ca11ab1e00000000000000000000a003";
const FORMER_BOT_SECRET: &str = "ca11ab1e00000000000000000000a004";
const SEALING_KEY: &str = "Y2FuYXJ5LWEwMDUgaXMgYSBzZWFsaW5nIGtleS4uLiE=";
const DATABASE_PASSWORD: &str = "canary-a006-database";
const SMTP_PASSWORD: &str = "canary-a007-smtp";
const WRONG_PASSWORD: &str = "canary-a008-wrong-password";
const ACCESS_TOKEN: &str = "canary-a009-access-token";
const REFRESH_TOKEN: &str = "canary-a010-refresh-token";
const CHANNEL_TOKEN: &str = "canary-a011-channel-token";
const FOREIGN_CODE: &str = "canary-a012-code-of-the-query";
const FOREIGN_STATE: &str = "canary-a013-state-of-the-query";
const FOREIGN_TOKEN: &str = "canary-a014-token-of-the-query";
const WRONG_SIGNATURE: &[u8] = b"canary-a015";

fn config(place: &Place, line: &str, mail: &str) -> String {
    let database = match place.engine {
        Engine::Sqlite => place.database_url.clone(),
        Engine::Postgres => {
            let mut url: url::Url = place.database_url.parse().unwrap();
            url.set_password(Some(DATABASE_PASSWORD)).unwrap();
            url.into()
        }
    };
    format!(
        r#"
        listen = "127.0.0.1:0"
        public_url = "{PUBLIC}"
        database_url = "{database}"
        company = "Example Company"
        default_locale = "en"
        line = {{ access = "{line}", api = "{line}", api_data = "{line}", liff = "{line}", pictures = "{line}" }}
        mail = {{ url = "{mail}", from = "Example Company <no-reply@example.jp>" }}

        [security]
        sealing_key = "canary"
        sealing_keys = {{ canary = "{SEALING_KEY}" }}
        password_hash = {{ memory_kib = 64, passes = 1, at_once = 4 }}
        requests_per_minute = 1000000

        [provider.main.login]
        channel_id = "{LOGIN_CHANNEL}"
        channel_secret = "{LOGIN_SECRET}"
        former_channel_secret = "{FORMER_LOGIN_SECRET}"
        channel = "main"

        [channel.main]
        provider = "main"
        channel_id = "{BOT_CHANNEL}"
        channel_secret = "{BOT_SECRET}"
        former_channel_secret = "{FORMER_BOT_SECRET}"
        "#
    )
}

fn write(place: &Place, name: &str, text: &str) -> String {
    let path = place.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A secret, and the answers in which it has its place.
struct Canary {
    kind: &'static str,
    value: String,
    belongs: fn(&Page, &str) -> bool,
}

fn nowhere(_: &Page, _: &str) -> bool {
    false
}

/// In the header that sets the cookie.
fn in_its_cookie(page: &Page, value: &str) -> bool {
    page.headers.contains(&format!("={value};")) && !page.body.contains(value) && !page.location.contains(value)
}

/// In a form.
fn in_a_form(page: &Page, value: &str) -> bool {
    page.body.contains(&format!("value=\"{value}\"")) && !page.headers.contains(value)
}

/// In the page that it opened, as the way back of the language form, and nowhere else.
fn in_the_way_back(page: &Page, value: &str) -> bool {
    let in_form = page.body.matches(&format!("{value}\"")).count();
    page.body.matches(value).count() == in_form && !page.headers.contains(value) && !page.location.contains(value)
}

/// In the way to LINE.
fn to_line(page: &Page, value: &str) -> bool {
    page.path == "/line/start" && page.location.contains("/oauth2/v2.1/authorize?") && !page.body.contains(value)
}

#[derive(Default)]
struct Flock(Vec<Canary>);

impl Flock {
    fn add(&mut self, kind: &'static str, value: &str, belongs: fn(&Page, &str) -> bool) {
        assert!(value.len() >= 8, "{kind} is too short to be told from other text");
        self.0.push(Canary { kind, value: value.to_owned(), belongs });
    }

    /// The value, and how a URL or a form writes it.
    fn is_in(canary: &Canary, text: &str) -> bool {
        let encoded: String = url::form_urlencoded::byte_serialize(canary.value.as_bytes()).collect();
        text.contains(&canary.value) || text.contains(&encoded)
    }

    fn assert_not_in(&self, what: &str, text: &str) {
        for canary in &self.0 {
            let line = text.lines().find(|line| Self::is_in(canary, line));
            assert!(line.is_none(), "{} in {what}: {line:?}", canary.kind);
        }
    }

    fn assert_only_in_place(&self, page: &Page) {
        for canary in &self.0 {
            let text = format!("{} {} {}", page.location, page.headers, page.body);
            let found = Self::is_in(canary, &text);
            assert!(
                !found || (canary.belongs)(page, &canary.value),
                "{} in the answer of {}: {text}",
                canary.kind,
                page.path
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j12_no_secret_is_told_anywhere() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let mut flock = Flock::default();
        for (kind, value) in [
            ("login channel secret", LOGIN_SECRET),
            ("former login channel secret", FORMER_LOGIN_SECRET),
            ("channel secret", BOT_SECRET),
            ("former channel secret", FORMER_BOT_SECRET),
            ("sealing key", SEALING_KEY),
            ("database password", DATABASE_PASSWORD),
            ("SMTP password", SMTP_PASSWORD),
            ("wrong password", WRONG_PASSWORD),
            ("password", PASSWORD),
            ("access token", ACCESS_TOKEN),
            ("refresh token", REFRESH_TOKEN),
            ("channel token", CHANNEL_TOKEN),
            ("code in a query", FOREIGN_CODE),
            ("state in a query", FOREIGN_STATE),
        ] {
            flock.add(kind, value, nowhere);
        }
        flock.add("token in a query", FOREIGN_TOKEN, in_the_way_back);
        let text = config(&place, "http://127.0.0.1:9", "smtp://127.0.0.1:9");
        let sim = write(&place, "line.toml", &text);
        let mut simulator =
            Process::start(&["simulator", "--config", &sim, "--listen", "127.0.0.1:0", "--mail-listen", "127.0.0.1:0"]);
        let told = simulator.wait_for("is played on");
        let line = word(&told, "played on").strip_suffix("/_sim/").unwrap().to_owned();
        let mail = simulator.told.iter().find(|told| told.contains("mails are taken at")).cloned();
        let mail = mail.unwrap_or_else(|| simulator.wait_for("mails are taken at"));
        let mail = word(&mail, "taken at").to_owned();
        let line = Line::at(&line);
        let good = write(&place, "musubi.toml", &config(&place, &line.0.base, &mail));
        let seen = everything(&place, &line, &good, &mut flock).await;

        // A mail server that wants a password, which the simulator does not take.
        let with_password = mail.replace("smtp://", &format!("smtp://musubi:{SMTP_PASSWORD}@"));
        let bad = write(&place, "bad.toml", &config(&place, &line.0.base, &with_password));
        let (mut server, base) = start_server(&bad, &[("RUST_LOG", "debug,musubi=trace")]);
        let mut browser = Browser::new(&base, PUBLIC);
        let fields = [("email", "someone@example.jp"), ("name", "Someone"), ("password", PASSWORD)];
        assert_eq!(browser.post("/sign-up", &fields).await.status, 200);
        server.wait_for("SendMail");
        let mut told = seen.told;
        told.push_str(&server.stop());
        for command in ["doctor", "migrate"] {
            told.push_str(&Process::start(&[command, "--config", &bad]).end().1);
        }
        told.push_str(&Process::start(&["key", "rotate", "--config", &bad]).end().1);

        assert!(told.contains("TRACE") || told.contains("DEBUG"), "the logs are as detailed as they get");
        flock.assert_not_in("the logs", &told);
        for page in seen.pages.iter().chain(&browser.seen) {
            flock.assert_only_in_place(page);
        }
        let app = place.app(&good).await;
        flock.assert_not_in("the database", &dump_of(&app.db, &[]).await.join("\n"));
        let parts =
            format!("{:?} {:?} {:?} {:?}", app.config, app.db, app.tokens, start::login_channel(&app, "main").unwrap());
        flock.assert_not_in("Debug", &parts);
        assert!(flock.0.len() >= 30, "{} kinds of secrets", flock.0.len());
        app.db.close().await;
        simulator.stop();
        place.end().await;
    }
}

/// What was told and answered.
struct Seen {
    told: String,
    pages: Vec<Page>,
}

/// The token in the newest mail to an address.
async fn mailed(line: &Line, to: &str, path: &str) -> String {
    let mails = format!("/_sim/mails?to={to}");
    let start = format!("{path}?token=");
    let newest = async || {
        let mails = line.ask(&mails).await;
        let texts = mails["mails"].as_array().unwrap().iter().rev().filter_map(|mail| mail["text"].as_str());
        texts.into_iter().find_map(|text| Some(text.split_once(&start)?.1.split_whitespace().next()?.to_owned()))
    };
    until(async || newest().await.is_some()).await;
    newest().await.unwrap()
}

/// Everything that can be done with the secrets, right and wrong.
async fn everything(place: &Place, line: &Line, config: &str, flock: &mut Flock) -> Seen {
    let (server, base) = start_server(config, &[("RUST_LOG", "debug,musubi=trace")]);
    let app = place.app(config).await;
    let email = "hanako@example.jp";
    let mut browser = Browser::new(&base, PUBLIC);

    // Sign-up, reset and sign-in, with the mails between.
    let fields = [("email", email), ("name", "Hanako"), ("password", PASSWORD)];
    assert_eq!(browser.post("/sign-up", &fields).await.status, 200);
    let token = mailed(line, email, "/sign-up/confirm").await;
    flock.add("sign-up token", &token, in_a_form);
    browser.get(&format!("/sign-up/confirm?token={token}")).await;
    assert_eq!(browser.post("/sign-up/confirm", &[("token", &token)]).await.location, "/account?done=signed_up");
    browser.post("/sign-up/confirm", &[("token", &token)]).await;
    browser.post("/password/forgot", &[("email", email)]).await;
    let token = mailed(line, email, "/password/reset").await;
    flock.add("reset token", &token, in_a_form);
    browser.get(&format!("/password/reset?token={token}")).await;
    browser.post("/password/reset", &[("token", &token), ("password", "short")]).await;
    let page = browser.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
    assert_eq!(page.location, "/sign-in?done=reset", "{}", page.body);
    browser.post("/sign-in", &[("email", email), ("password", WRONG_PASSWORD)]).await;
    browser.sign_in(email).await;
    keep_cookies(&browser, flock);

    // A code by mail, for a member who has no password.
    add_member(&app, "taro@example.jp").await;
    let mut taro = Browser::new(&base, PUBLIC);
    taro.sign_in("taro@example.jp").await;
    place.execute("UPDATE members SET password_hash = NULL WHERE email_key = 'taro@example.jp'").await;
    taro.post("/account/code", &[]).await;
    let mails = "/_sim/mails?to=taro@example.jp";
    until(async || line.ask(mails).await["mails"][0].is_object()).await;
    let mail = line.ask(mails).await["mails"][0]["text"].as_str().unwrap().to_owned();
    let is_code = |line: &&str| line.len() == 9 && line.as_bytes()[4] == b'-';
    let code = mail.lines().map(str::trim).find(is_code).unwrap().to_owned();
    flock.add("code by mail", &code, nowhere);
    flock.add("code by mail, plain", &code.replace('-', ""), nowhere);
    taro.post("/account/code/check", &[("code", "AAAA-AAAA")]).await;
    taro.post("/account/code/check", &[("code", &code)]).await;
    keep_cookies(&taro, flock);

    // A link, undone by the mail; a sign-in by LINE; an unlink.
    let user = line.person().await;
    let attempt = go_to_line(&mut browser, line, "link", &user, flock).await;
    let attempt = attempt.strip_prefix("/link/confirm?attempt=").unwrap().to_owned();
    browser.get(&format!("/link/confirm?attempt={attempt}")).await;
    keep_verifiers(&app, flock).await;
    browser.confirm(&attempt).await;
    keep_grants(&app, flock).await;
    keep_cookies(&browser, flock);
    let token = mailed(line, email, "/link/undo").await;
    flock.add("undo token", &token, in_a_form);
    browser.get(&format!("/link/undo?token={token}")).await;
    let mut other = Browser::new(&base, PUBLIC);
    assert_eq!(go_to_line(&mut other, line, "sign_in", &user, flock).await, "/account");
    keep_cookies(&other, flock);
    keep_grants(&app, flock).await;

    by_api(&base, &browser, config, flock).await;

    // Answers of LINE's that are not as they should be, with tokens in them.
    let id_token = hs256(WRONG_SIGNATURE, r#"{"typ":"JWT","alg":"HS256"}"#, r#"{"iss":"https://access.line.me"}"#);
    flock.add("ID token", &id_token, nowhere);
    let reply = json!({ "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 2_592_000,
        "refresh_token": REFRESH_TOKEN, "scope": "openid profile", "id_token": id_token });
    let replies = [
        json!({ "replace_body": reply }),
        json!({ "replace_body": { "access_token": ACCESS_TOKEN, "id_token": id_token } }),
        json!({ "replace_body": format!("{{\"access_token\": \"{ACCESS_TOKEN}\", \"refresh_token\": {REFRESH_TOKEN}") }),
        json!({ "status": 400, "body": { "error": "invalid_grant", "error_description": "the code is not good" } }),
        json!({ "status": 500 }),
    ];
    for mut fault in replies {
        fault["endpoint"] = json!("/oauth2/v2.1/token");
        line.order("/_sim/faults", fault).await;
        let location = go_to_line(&mut Browser::new(&base, PUBLIC), line, "sign_in", &user, flock).await;
        assert_eq!(location, "", "an error page");
    }
    let token = json!({ "token_type": "Bearer", "access_token": CHANNEL_TOKEN, "expires_in": 900 });
    line.order("/_sim/faults", json!({ "endpoint": "/oauth2/v3/token", "replace_body": token, "count": 3 })).await;
    let page = browser.post("/account/unlink", &[("provider", "main"), ("password", WRONG_PASSWORD)]).await;
    assert_eq!(page.status, 401, "{}", page.body);
    let page = browser.post("/account/unlink", &[("provider", "main"), ("password", PASSWORD)]).await;
    assert_eq!(page.location, "/account?done=unlinked", "{}", page.body);
    until(async || line.calls_to("/user/v1/deauthorize").await.iter().any(|call| call["status"] == 401)).await;

    // Secrets in places where they do not belong.
    for path in [
        format!("/line/callback/main?code={FOREIGN_CODE}&state={FOREIGN_STATE}"),
        format!("/line/callback/main?code={FOREIGN_CODE}&state={FOREIGN_STATE}&error=x&state=y"),
        format!("/line/callback/other?code={FOREIGN_CODE}&state={FOREIGN_STATE}"),
        format!("/sign-up/confirm?token=x{FOREIGN_TOKEN}"),
        format!("/password/reset?token=x{FOREIGN_TOKEN}"),
    ] {
        browser.get(&path).await;
    }
    browser.try_post("/sign-in", "not-the-token", &[("password", WRONG_PASSWORD)]).await;
    browser.post("/sign-in", &[("email", "not an address"), ("password", WRONG_PASSWORD)]).await;
    browser.post("/password/change", &[("current", WRONG_PASSWORD), ("password", WRONG_PASSWORD)]).await;
    browser.post("/sign-out", &[]).await;

    app.db.close().await;
    let pages = [browser.seen, taro.seen, other.seen].concat();
    Seen { told: server.stop(), pages }
}

/// A key of the API, a hook with two secrets that is told something, and a ticket; and each where it does not belong.
async fn by_api(base: &str, browser: &Browser, config: &str, flock: &mut Flock) {
    let (code, told) = run(&["api-key", "create", "--name", "canary", "--scope", "all", "--config", config]);
    assert_eq!(code, Some(0), "{told}");
    let key = told.split_whitespace().find(|word| word.starts_with("msb_")).unwrap().to_owned();
    flock.add("API key", &key, nowhere);
    flock.add("secret of an API key", key.splitn(3, '_').nth(2).unwrap(), nowhere);
    let host = PUBLIC.split_once("://").unwrap().1.to_owned();
    let call = async |method: Method, path: &str, key: &str, body: serde_json::Value| {
        let request = browser.client.request(method, format!("{base}{path}")).header(header::HOST, &host);
        let answer = request.bearer_auth(key).json(&body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let json = |(status, text): (StatusCode, String)| -> serde_json::Value {
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    let hook = json!({ "url": "https://hooks.invalid/?token=x" });
    let made = json(call(Method::POST, "/api/v1/hooks", &key, hook).await);
    let path = format!("/api/v1/hooks/{}", made["hook"]["id"].as_str().unwrap());
    let rotated = json(call(Method::POST, &format!("{path}/rotate-secret"), &key, json!(null)).await);
    for secret in [&made["secret"], &rotated["secret"]] {
        flock.add("hook secret", secret.as_str().unwrap().strip_prefix("whsec_").unwrap(), nowhere);
    }
    json(call(Method::POST, &format!("{path}/test"), &key, json!(null)).await);
    until(async || {
        let told = json(call(Method::GET, &format!("{path}/deliveries"), &key, json!(null)).await);
        told["items"][0]["attempts"] != 0
    })
    .await;
    json(call(Method::PUT, "/api/v1/members/canary", &key, json!({})).await);
    let ticket = json(call(Method::POST, "/api/v1/link-tickets", &key, json!({ "member": "canary" })).await);
    for (kind, url) in [("ticket", "url"), ("watch of a ticket", "status_url")] {
        flock.add(kind, ticket[url].as_str().unwrap().rsplit_once('/').unwrap().1, nowhere);
    }
    flock.add("code of a ticket", ticket["code"].as_str().unwrap(), nowhere);
    // Once more where they do not belong.
    for (path, key) in [
        (format!("/api/v1/hooks?cursor={key}"), key.clone()),
        (format!("/api/v1/members?api_key={key}"), key.replace('_', "x")),
        ("/api/v1/members".to_owned(), format!("{key}x")),
    ] {
        let (status, text) = call(Method::GET, &path, &key, json!({ "secret": key })).await;
        assert!(status.is_client_error(), "{status}: {text}");
        flock.assert_not_in("a refusal", &text);
    }
}

/// Through LINE; gives where the callback leads.
async fn go_to_line(browser: &mut Browser, line: &Line, purpose: &str, user: &str, flock: &mut Flock) -> String {
    let fields = [("purpose", purpose), ("provider", "main"), ("return_to", "/account")];
    let authorize = browser.post("/line/start", &fields).await.location;
    flock.add("state", &parameter(&authorize, "state"), to_line);
    flock.add("nonce", &parameter(&authorize, "nonce"), to_line);
    let callback = line.consent(&authorize, user).await;
    flock.add("code", &parameter(&callback, "code"), nowhere);
    browser.get(&callback).await.location
}

fn keep_cookies(browser: &Browser, flock: &mut Flock) {
    for (name, value) in &browser.cookies {
        if value.len() >= 20 {
            let kind = ["session", "form", "attempt", "device"].into_iter().find(|kind| name.contains(kind));
            flock.add(kind.unwrap_or("another cookie"), value, in_its_cookie);
        }
    }
    let forms = browser.seen.iter().filter_map(|page| page.body.split("name=\"csrf\" value=\"").nth(1));
    let tokens: BTreeSet<_> = forms.filter_map(|rest| rest.split('"').next()).collect();
    tokens.into_iter().for_each(|token| flock.add("form token", token, in_a_form));
}

async fn keep_verifiers(app: &App, flock: &mut Flock) {
    let mut conn = app.db.conn().await.unwrap();
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, sealed_verifier FROM attempts").fetch_all(&mut *conn).await.unwrap();
    for (id, sealed) in rows {
        let plain = app.sealer.open(&attempt::context(&id), &sealed).unwrap();
        flock.add("verifier", &String::from_utf8(plain).unwrap(), nowhere);
    }
}

async fn keep_grants(app: &App, flock: &mut Flock) {
    let mut conn = app.db.conn().await.unwrap();
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM grants WHERE sealed IS NOT NULL").fetch_all(&mut *conn).await.unwrap();
    for id in ids {
        let Some(grant) = grant::find(&mut conn, app, &id).await.unwrap() else { continue };
        flock.add("access token of LINE's", &grant.tokens.access_token, nowhere);
        flock.add("refresh token of LINE's", &grant.tokens.refresh_token.unwrap(), nowhere);
    }
}

// ---- a panic

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn boom() -> Response {
    panic!("a canary-a016 in a panic");
}

/// In one thread, so that its log is ours.
#[tokio::test]
async fn j12_a_panic_tells_nothing_of_its_request() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let mut app = TestApp::start(Engine::Sqlite).await;
    let mut all = routes::all();
    all.push(routes::post("/boom", Who::Visitor, boom));
    app.router = routes::router_of(&app.app, all);
    app.member("hanako@example.jp", "Hanako").await;
    let mut visitor = app.signed_in("hanako@example.jp").await;
    let answer = visitor.post("/boom?token=canary-a017-query", &[("password", "canary-a018-form")]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("a handler panicked"), "{told}");
    let cookie = visitor.session_cookie().unwrap().clone();
    for secret in ["canary-a016", "canary-a017-query", "canary-a018-form", &cookie, PASSWORD] {
        assert!(!told.contains(secret), "{secret} in the log: {told}");
        assert!(!answer.body.contains(secret) && !format!("{:?}", answer.headers).contains(secret), "{secret}");
    }
    app.end().await;
}

// ---- J13, C06

const PAYLOADS: [&str; 7] =
    ["' OR 1=1 --", "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%00", "\0", "1; DROP TABLE members", "${191*7919}"];

/// The parameters that any route reads, and some that none does.
const NAMES: [&str; 22] = [
    "provider",
    "attempt",
    "return_to",
    "email",
    "password",
    "current",
    "name",
    "purpose",
    "decision",
    "consent",
    "code",
    "state",
    "error",
    "iss",
    "token",
    "locale",
    "session",
    "fresh",
    "reauth",
    "id",
    "sort",
    "done",
];

/// From now on each change of a row is counted, but in these tables.
async fn count_changes(app: &TestApp, but: &[&str]) {
    let mut text = "CREATE TABLE changes (name TEXT NOT NULL);".to_owned();
    if app.engine == Engine::Postgres {
        text += "CREATE FUNCTION count_change() RETURNS trigger AS $$
                 BEGIN INSERT INTO changes VALUES (TG_TABLE_NAME); RETURN NULL; END $$ LANGUAGE plpgsql;";
    }
    for table in TABLES.iter().filter(|table| !but.contains(table)) {
        for deed in ["INSERT", "UPDATE", "DELETE"] {
            let head = format!("CREATE TRIGGER change_{table}_{deed} AFTER {deed} ON {table}");
            text += &match app.engine {
                Engine::Sqlite => format!("{head} BEGIN INSERT INTO changes VALUES ('{table}'); END;"),
                Engine::Postgres => format!("{head} FOR EACH ROW EXECUTE FUNCTION count_change();"),
            };
        }
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
}

/// The tables that changed since.
async fn changes(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM changes").fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

both_engines! {
    async fn j13_no_parameter_is_more_than_text(app) {
        app.linked("hanako@example.jp").await;
        let address = std::cell::Cell::new(0_u32);
        let but = ["audit", "throttles", "sessions", "attempts"];
        count_changes(app, &but).await;
        for route in routes::all() {
            // A sign-in, too, remembers the device, and ends the eleventh session by a mail.
            let but = [&but[..], &["devices", "mails", "jobs"]].concat();
            let before = app.dump(&but).await;
            for payload in PAYLOADS {
                // Each from its own address, for wrong guesses are counted.
                address.set(address.get() + 1);
                let from = format!("10.1.{}.{}", address.get() / 250, address.get() % 250);
                let mut visitor = app.visitor();
                visitor.address.clone_from(&from);
                let mut member = app.signed_in("hanako@example.jp").await;
                member.address = from;
                let encoded: String = url::form_urlencoded::byte_serialize(payload.as_bytes()).collect();
                let mut path = route.path.to_owned();
                while let Some((before, rest)) = path.split_once('{') {
                    path = format!("{before}{encoded}{}", rest.split_once('}').unwrap().1);
                }
                for visitor in [&mut visitor, &mut member] {
                    visitor.form_token().await;
                    app.execute("DELETE FROM changes").await;
                    let fields: Vec<_> = NAMES.iter().map(|name| (*name, payload)).collect();
                    let answer = if route.method == Method::GET {
                        let mut query = url::form_urlencoded::Serializer::new(String::new());
                        let query = query.extend_pairs(&fields).finish();
                        visitor.get(&format!("{path}?{query}")).await
                    } else {
                        visitor.post(&path, &fields).await
                    };
                    let said = format!("{} {path} {payload:?}: {} {}", route.method, answer.status, answer.body);
                    assert!(!answer.status.is_server_error(), "{said}");
                    let location = answer.location();
                    assert!(location.is_empty() || location.starts_with('/') && !location.starts_with("//"), "{said} {location}");
                    let kind = answer.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
                    assert!(!answer.body.contains("root:") && !answer.body.contains("1512529"), "{said} {kind:?}");
                    assert_eq!(changes(app).await, Vec::<String>::new(), "{said}");
                }
            }
            // Also by what fires no trigger.
            assert!(app.dump(&but).await == before, "{} changed something", route.path);
        }
    }
}

/// Nobody is there before somebody signs up, whatever is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c06_a_fresh_installation_knows_nobody() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        assert_eq!(Process::start(&["migrate", "--config", &config]).end().0, Some(0));
        let (server, base) = start_server(&config, &[]);
        let mut browser = Browser::new(&base, PUBLIC);
        for email in ["admin", "admin@example.com", "root@localhost", "hanako@example.com", "test@example.jp"] {
            for password in ["", "admin", "password", musubi::demo::PASSWORD, PASSWORD] {
                let page = browser.post("/sign-in", &[("email", email), ("password", password)]).await;
                assert!([401, 429].contains(&page.status.as_u16()), "{email} {password}: {}", page.status);
            }
        }
        server.stop();
        let app = place.app(&config).await;
        let rows = dump_of(
            &app.db,
            &[
                "audit",
                "throttles",
                "jobs",
                "leases",
                "rich_menus",
                "menu_sets",
                "set_menus",
                "menu_aliases",
                "menu_sweeps",
                "bots",
                "heartbeats",
                "quotas",
                "hourly_spends",
            ],
        )
        .await;
        assert_eq!(rows, Vec::<String>::new(), "a fresh installation has no rows");
        app.db.close().await;
        simulator.stop();
        place.end().await;
    }
}
