//! LINE's own LIFF SDK, as npm has it, in real Chromium: LINE's hosts are played by the simulator behind TLS, and the
//! application is the real binary, configured as for LINE itself. `liff_sdk/bring` fetches the SDK; where it cannot, these
//! tests are left out, and `tests/run` says so.
#![expect(clippy::panic, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
    response::Html,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use musubi::{
    app::Clock,
    config::Config,
    demo,
    simulator::{self, Host, LiffApp, LoginChannel, Provider, Simulator},
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    story::{press, sign_out},
    support::{
        BOT_CHANNEL, BOT_SECRET, Engine, LIFF_ID, LOGIN_CHANNEL, LOGIN_SECRET, PASSWORD,
        browser::{Browser, Screen},
        gate::{Gate, Player},
        process::{Place, Process, add_member, start_server, until, word},
        read,
    },
};

const MEMBERS: &str = "members.example.test";
const PAGE: &str = "page.example.test";
const HOSTS: [&str; 9] = [
    "access.line.me",
    "api.line.me",
    "api-data.line.me",
    "liff.line.me",
    "static.line-scdn.net",
    "liffsdk.line-scdn.net",
    "uts-front.line-apps.com",
    MEMBERS,
    PAGE,
];
/// Of the SDK that `liff_sdk/packages.sha512` names.
const VERSION: &str = "2.31.0";
const HOURS: Duration = Duration::from_secs(2 * 3600);
const EMAIL: &str = "hanako@example.jp";
/// A LIFF app that is nobody's but this test's.
const ALONE: &str = "1000000009-AloneApp";
const LIFF: &str = "https://liff.line.me/1000000001-AbcdEfgh";

/// Says all that a page can learn from the SDK, or why not.
const ALONE_PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>The SDK alone</title>
<button onclick="liff.login()">Log in</button>
<button onclick="liff.logout(); location.reload()">Log out</button>
<script src="https://static.line-scdn.net/liff/edge/2/sdk.js"></script>
<script>
const liffId = new URLSearchParams(location.search).get("app") ?? "1000000009-AloneApp";
const learn = async () => ({
  inClient: liff.isInClient(), version: liff.getVersion(), context: liff.getContext(), loggedIn: liff.isLoggedIn(),
  ...(liff.isLoggedIn() && {
    idToken: liff.getIDToken(), decoded: liff.getDecodedIDToken(), accessToken: liff.getAccessToken(),
    profile: await liff.getProfile(), friendship: await liff.getFriendship(),
  }),
});
liff.init({ liffId }).then(learn).catch((error) => ({ error: error.code ?? String(error), message: error.message }))
  .then((said) => { window.said = said; });
</script>"#;

/// The bundle that `liff_sdk/bring` made.
fn sdk() -> Option<String> {
    let Some(path) = std::env::var_os("MUSUBI_TEST_LIFF_SDK") else {
        eprintln!("NOT RUN: LINE's own LIFF SDK is not here; tests/it/liff_sdk/bring fetches it");
        return None;
    };
    Some(fs::read_to_string(path).unwrap())
}

struct Stage {
    gate: Gate,
    line: Router,
    line_clock: Clock,
    /// Of the application's process.
    server: Process,
    place: Place,
}

impl Stage {
    async fn set() -> Option<Self> {
        let sdk = sdk()?;
        let place = Place::new(Engine::Sqlite).await;
        let path = configure(&place);
        let app = place.app(&path).await;
        app.db.migrate().await.unwrap();
        add_member(&app, EMAIL).await;
        app.db.close().await;

        let line_clock = Clock::default();
        let simulator = simulate(&path, &line_clock);
        let gate = Gate::open(&HOSTS).await;
        for (host, name) in [Host::Access, Host::Api, Host::ApiData, Host::Liff].into_iter().zip(HOSTS) {
            gate.play(name, Player::Router(simulator.router(host)));
        }
        let script = move || async move { ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], sdk.clone()) };
        gate.play("static.line-scdn.net", Player::Router(Router::new().route("/liff/edge/2/sdk.js", get(script))));
        for name in ["liffsdk.line-scdn.net", "uts-front.line-apps.com"] {
            gate.play(name, Player::Router(Router::new()));
        }
        gate.play(PAGE, Player::Router(Router::new().route("/", get(async || Html(ALONE_PAGE)))));
        let certificate = place.path("line.pem");
        fs::write(&certificate, &gate.certificate).unwrap();
        let (server, base) = start_server(
            &path,
            &[("HTTPS_PROXY", &format!("http://{}", gate.address)), ("SSL_CERT_FILE", certificate.to_str().unwrap())],
        );
        gate.play(MEMBERS, Player::Process(word(&base, "http://").parse().unwrap()));
        Some(Self { gate, line: simulator.router(Host::All), line_clock, server, place })
    }

    /// A call to the simulator's control API.
    async fn order(&self, path: &str, body: Value) -> Value {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = read(self.line.clone().oneshot(request).await.unwrap()).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// A new person at LINE; gives their user id at this provider.
    async fn person(&self, provider: &str) -> String {
        let made = self.order("/_sim/users", json!({ "display_name": "はなこ" })).await;
        made["user_ids"][provider].as_str().unwrap().to_owned()
    }

    async fn browser(&self) -> Browser {
        Browser::start_behind(Screen::Desktop, &self.gate).await
    }

    /// Puts an ID token of more than an hour ago in the place of the one that the SDK keeps for our page.
    async fn keep_old_token(&self, browser: &Browser) {
        let claims = "return JSON.parse(localStorage.getItem(arguments[0] + 'decodedIDToken')).sub";
        let kept = json!(format!("LIFF_STORE:{LIFF_ID}:"));
        let user = browser.client.execute(claims, vec![kept.clone()]).await.unwrap();
        let path = format!("/_sim/users/{}/liff", user.as_str().unwrap());
        let old = self.order(&path, json!({ "seconds_ago": 3700 })).await;
        let put = "localStorage.setItem(arguments[0] + 'IDToken', JSON.stringify(arguments[1]))";
        browser.client.execute(put, vec![kept, old["id_token"].clone()]).await.unwrap();
    }

    async fn strike(self) {
        self.server.stop();
        self.place.end().await;
    }
}

/// As for LINE itself: no host is named.
fn configure(place: &Place) -> String {
    let text = format!(
        r#"
        listen = "127.0.0.1:0"
        public_url = "https://{MEMBERS}"
        database_url = "{}"
        company = "Example Company"
        default_locale = "en"

        [security]
        sealing_key = "test"
        sealing_keys = {{ test = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}
        password_hash = {{ memory_kib = 64, passes = 1, at_once = 4 }}

        [provider.main.login]
        channel_id = "{LOGIN_CHANNEL}"
        channel_secret = "{LOGIN_SECRET}"
        channel = "main"
        liff_id = "{LIFF_ID}"

        [channel.main]
        provider = "main"
        channel_id = "{BOT_CHANNEL}"
        channel_secret = "{BOT_SECRET}"
        "#,
        place.database_url
    );
    let path = place.path("musubi.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// LINE with our channels, and one more whose LIFF app is [`ALONE_PAGE`].
fn simulate(config: &str, clock: &Clock) -> Simulator {
    let mut world = demo::simulator::world(&Config::load(Some(config.as_ref())).unwrap());
    let mut login: LoginChannel = world.providers[0].login.clone().unwrap();
    login.channel_id = "1000000009".to_owned();
    login.liff = Some(LiffApp {
        id: ALONE.to_owned(),
        endpoint_url: format!("https://{PAGE}/"),
        scopes: ["openid", "profile"].map(str::to_owned).to_vec(),
    });
    let mut bot = world.providers[0].bots[0].clone();
    bot.channel_id = "1000000008".to_owned();
    login.linked_bot = Some(bot.channel_id.clone());
    world.providers.push(Provider { name: "alone".to_owned(), login: Some(login), bots: vec![bot] });
    let clock = clock.clone();
    let options = simulator::Options { data: None, clock: Arc::new(move || clock.now().0), world };
    Simulator::open(options).unwrap()
}

/// What the page of the test has learnt, once it has.
async fn said(browser: &Browser) -> Value {
    for _ in 0..600 {
        let said = browser.client.execute("return window.said ?? null", vec![]).await.unwrap_or_default();
        if !said.is_null() {
            return said;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the page says nothing: {}", browser.text().await);
}

/// Who logs in at LINE.
async fn choose(browser: &Browser) {
    browser.wait_for_text("Someone new").await;
    browser.click_text("はなこ").await;
}

/// What the SDK of `app` asks of LINE to begin and to log in; not what LINE's own pages ask, nor what pages ask by it.
fn asked_by_sdk(stage: &Stage, app: &str) -> BTreeSet<String> {
    let asked = stage.gate.take_asked().into_iter().filter(|line| {
        let is_sdk =
            line.contains(" api.line.me/") || line.contains("line-scdn.net/") || line.ends_with("/liff/v1/authorize");
        let by_page = ["/oauth2/v2.1/verify", "/v2/profile", "/friendship/v1/status"];
        is_sdk && !line.starts_with("OPTIONS ") && !by_page.iter().any(|path| line.ends_with(path))
    });
    asked.map(|line| line.replace(app, "{app}")).collect()
}

fn logins(stage: &Stage) -> usize {
    stage.gate.take_asked().iter().filter(|line| *line == "GET access.line.me/liff/v1/authorize").count()
}

/// Everything that a page can have of the SDK, on a page without any policy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_works_with_this_line() {
    let Some(stage) = Stage::set().await else { return };
    let user = stage.person("alone").await;
    let browser = stage.browser().await;
    let page = format!("https://{PAGE}/");

    browser.goto(&page).await;
    let out = said(&browser).await;
    assert_eq!((&out["loggedIn"], &out["inClient"]), (&json!(false), &json!(false)), "{out}");
    assert_eq!(out["version"], VERSION);
    assert_eq!((&out["context"]["type"], &out["context"]["liffId"]), (&json!("external"), &json!(ALONE)), "{out}");

    browser.click_text("Log in").await;
    choose(&browser).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("Log out").await;
    let known = said(&browser).await;
    let claims = &known["decoded"];
    assert_eq!((&claims["sub"], &claims["name"]), (&json!(user), &json!("はなこ")), "{known}");
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!("1000000009"), &json!("https://access.line.me")));
    assert_eq!(known["profile"], json!({ "userId": user, "displayName": "はなこ" }));
    assert_eq!(known["friendship"], json!({ "friendFlag": true }));
    assert_eq!(known["context"]["userId"], user.as_str());
    let header = known["idToken"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["alg"], "ES256");
    assert!(known["accessToken"].as_str().is_some_and(|token| !token.is_empty()));

    // Loaded again with the used code still in its address, and without.
    stage.gate.take_asked();
    browser.client.refresh().await.unwrap();
    assert_eq!(said(&browser).await["decoded"], *claims);
    browser.goto(&page).await;
    assert_eq!(said(&browser).await["decoded"], *claims);
    assert!(!stage.gate.take_asked().iter().any(|line| line.ends_with("/oauth2/v2.1/token")));

    browser.client.execute("liff.logout()", vec![]).await.unwrap();
    browser.goto(&page).await;
    assert_eq!(said(&browser).await["loggedIn"], false);
    browser.click_text("Log in").await;
    browser.click_text("Play a fault").await;
    browser.click_text("Cancel").await;
    browser.wait_for_text("Log out").await;
    assert_eq!(said(&browser).await["loggedIn"], false);
    browser.goto(&format!("{page}?app=1000000009-Unknown1")).await;
    assert_eq!(said(&browser).await["error"], "404");
    browser.close().await;
    stage.strike().await;
}

/// From LINE's address to a link by our own page, and in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_page_links_and_signs_in_by_the_sdk() {
    let Some(stage) = Stage::set().await else { return };
    stage.person("main").await;
    let browser = stage.browser().await;

    browser.goto(&format!("https://{PAGE}/")).await;
    said(&browser).await;
    browser.click_text("Log in").await;
    choose(&browser).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("Log out").await;
    said(&browser).await;
    let alone = asked_by_sdk(&stage, ALONE);
    browser.goto(&format!("{LIFF}/account")).await;
    choose(&browser).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    // The policy of our page keeps nothing from it that it asks for where there is none.
    assert_eq!(asked_by_sdk(&stage, LIFF_ID), alone);
    assert!(alone.contains("POST api.line.me/oauth2/v2.1/token") && alone.len() > 5, "{alone:#?}");

    browser.click_text("Sign in and link").await;
    browser.fill("email", EMAIL).await;
    browser.fill("password", PASSWORD).await;
    press(&browser, "main form[action='/sign-in'] button[type=submit]").await;
    browser.click_text("Link LINE account").await;
    browser.wait_for_text("Link these two accounts?").await;
    browser.screenshot("liff-sdk-confirm").await;
    browser.click_text("Link these accounts").await;
    browser.wait_for_text("Linked since").await;
    let cookies = browser.client.get_all_cookies().await.unwrap();
    let session = cookies.iter().find(|cookie| cookie.name() == "__Host-musubi_session").unwrap();
    assert_eq!((session.secure(), session.http_only()), (Some(true), Some(true)));

    // Another day: LIFF remembers her in this browser, and the path leads on.
    sign_out(&browser).await;
    browser.goto(&format!("{LIFF}/account/unlink")).await;
    browser.wait_for_text("What happens when you unlink").await;
    assert_eq!(logins(&stage), 0);

    // What the SDK keeps expires, and it does not look: one login, and she is in.
    sign_out(&browser).await;
    stage.keep_old_token(&browser).await;
    browser.goto(LIFF).await;
    choose(&browser).await;
    browser.wait_for_text("Linked since").await;
    assert_eq!(logins(&stage), 1);

    // What LINE gives at the login is too old as well: it is asked once, and then the page says what is wrong.
    sign_out(&browser).await;
    stage.keep_old_token(&browser).await;
    stage.line_clock.turn_back(HOURS);
    browser.goto(LIFF).await;
    choose(&browser).await;
    browser.wait_for_text("Signing in is stuck in this browser").await;
    stage.line_clock.advance(HOURS);
    browser.client.refresh().await.unwrap();
    browser.wait_for_text("Your sign-in with LINE is too old").await;
    assert_eq!(logins(&stage), 1);
    browser.screenshot("liff-sdk-expired").await;
    browser.click_text("Open again in LINE").await;
    choose(&browser).await;
    browser.wait_for_text("Linked since").await;
    browser.close().await;
    stage.strike().await;
}

/// What goes wrong has its words with this SDK too, and the button mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_has_its_words_with_the_sdk() {
    let Some(stage) = Stage::set().await else { return };
    stage.person("main").await;
    let browser = stage.browser().await;
    let fault = async |fault: Value| stage.order("/_sim/faults", fault).await;

    browser.goto(LIFF).await;
    browser.click_text("Play a fault").await;
    browser.click_text("Cancel").await;
    browser.wait_for_text("You are not logged in to LINE").await;
    browser.client.refresh().await.unwrap();
    browser.wait_for_text("You are not logged in to LINE").await;
    assert_eq!(logins(&stage), 1);

    browser.click_text("Log in with LINE").await;
    choose(&browser).await;
    fault(json!({ "endpoint": "POST /oauth2/v2.1/token", "status": 500 })).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("LINE cannot be reached").await;
    fault(json!({ "endpoint": "GET /oauth2/v2.1/certs", "replace_body": { "keys": [] } })).await;
    browser.click_text("Try again").await;
    choose(&browser).await;
    browser.wait_for_text("Signing in is stuck in this browser").await;
    fault(json!({ "endpoint": "GET /liff/v2/apps/", "status": 500 })).await;
    browser.click_text("Start afresh").await;
    browser.wait_for_text("LINE cannot be reached").await;
    browser.click_text("Try again").await;
    choose(&browser).await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    browser.close().await;
    stage.strike().await;
}

/// On Android the SDK loads the page anew when it comes back from LINE, while the page shows its tokens: they are shown
/// twice, and the first answer may never come. Where LINE came back to another window, the SDK shows words of LINE's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_android_the_page_is_loaded_twice() {
    let Some(stage) = Stage::set().await else { return };
    stage.person("main").await;
    let browser = Browser::start_behind(Screen::Android, &stage.gate).await;
    browser.goto(LIFF).await;
    choose(&browser).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    let url = format!("https://{MEMBERS}/liff/main?code=a&state=b&liffClientId={LOGIN_CHANNEL}&liffRedirectUri=c");
    let open = "window.open(arguments[0], '_blank', 'noopener,noreferrer')";
    browser.client.execute(open, vec![json!(url)]).await.unwrap();
    let words = "GET static.line-scdn.net/lui/edge/";
    until(async || stage.gate.take_asked().iter().any(|line| line.starts_with(words))).await;
    browser.close().await;
    stage.strike().await;
}
