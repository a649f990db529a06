//! Out of LINE into the person's own browser, where the company's sign-in opens.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};

use crate::{
    company_sign_in::Stage,
    liff,
    linking::rows,
    support::{Answer, Engine, ORIGIN, TestApp, Visitor},
};

const NOT_LINKED: &str = "/line/not-linked?provider=main";
const AGENT: &str =
    "Mozilla/5.0 (Linux; Android 14; wv) AppleWebKit/537.36 Version/4.0 Mobile Safari/537.36 Line/14.19.1 LIFF";

async fn stage(engine: Engine) -> Stage {
    let stage = Stage::set_with(engine, |oidc| oidc.external_browser = true).await;
    let mut script = stage.provider.script();
    (script.person, script.proved_ago) = (serde_json::json!({ "sub": "1001", "name": "Hanako Yamada" }), Some(0));
    drop(script);
    stage
}

/// The page that says that nobody is linked, as LINE's browser asks for it.
pub async fn not_linked(visitor: &mut Visitor<'_>) -> Answer {
    let mut request = visitor.request(Method::GET, NOT_LINKED).body(axum::body::Body::empty()).unwrap();
    request.headers_mut().insert(header::USER_AGENT, AGENT.parse().unwrap());
    visitor.send(request).await
}

/// A new LINE user proves to be one inside of LINE, and asks for the way out; gives the browser there, and the path that
/// opens outside.
async fn way_out<'a>(app: &'a TestApp, name: &str) -> (Visitor<'a>, String) {
    let user = app.line_user(name).await;
    let mut inside = app.visitor();
    assert_eq!(liff::open(&mut inside, &user).await, NOT_LINKED);
    let path = ask(&mut inside).await;
    (inside, path)
}

pub async fn ask(inside: &mut Visitor<'_>) -> String {
    let page = inside.post("/line/elsewhere", &[("provider", "main")]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let (_, rest) = page.body.split_once(&format!("href=\"{ORIGIN}")).unwrap();
    let path = rest.split('"').next().unwrap();
    path.strip_suffix("?openExternalBrowser=1").unwrap().to_owned()
}

fn secret(path: &str) -> &str {
    path.strip_prefix("/line/go-on/").unwrap()
}

async fn go_on(visitor: &mut Visitor<'_>, path: &str) -> Answer {
    visitor.post("/line/go-on", &[("secret", secret(path))]).await
}

/// The page that the link of a LINE account leads to.
async fn reach_confirm(visitor: &mut Visitor<'_>) -> Answer {
    let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    let answer = visitor.post("/line/start", &fields).await;
    assert!(answer.location().starts_with("/link/confirm?"), "{} {} {}", answer.status, answer.location(), answer.body);
    visitor.get(&answer.location()).await
}

async fn a_person_goes_on_in_their_own_browser(engine: Engine) {
    let stage = stage(engine).await;
    let app = &stage.app;
    let user = app.line_user("はなこ").await;
    let mut inside = app.visitor();
    assert_eq!(liff::open(&mut inside, &user).await, NOT_LINKED);
    let page = not_linked(&mut inside).await;
    assert!(page.body.contains("action=\"/line/elsewhere\"") && !page.body.contains("/sign-in?"), "{}", page.body);
    assert!(!inside.get(NOT_LINKED).await.body.contains("/line/elsewhere"), "not outside of LINE");

    let path = ask(&mut inside).await;
    let mut outside = app.visitor();
    let page = outside.get(&path).await;
    assert!(page.body.contains("はなこ") && page.body.contains("Is this your LINE account?"), "{}", page.body);
    assert_eq!(go_on(&mut outside, &path).await.location(), NOT_LINKED);
    stage.sign_in(&mut outside).await;
    let page = outside.get(NOT_LINKED).await;
    assert!(page.body.contains("value=\"link\""), "{}", page.body);
    let page = reach_confirm(&mut outside).await;
    assert!(page.body.contains("はなこ") && page.body.contains("Hanako Yamada"), "{}", page.body);
    assert_eq!(outside.confirm(&page.field("attempt").unwrap()).await.location(), liff::ADD_FRIEND);
    assert_eq!(app.calls_to("/oauth2/v2.1/authorize").await.len(), 0, "LINE Login was not needed");
    assert!(app.audit().await.contains(&"liff_moved/".to_owned()));
    assert_eq!(liff::open(&mut inside, &user).await, "/account", "inside of LINE the person is known now");
    app.end().await;
}

/// An address that somebody forwards links nobody, and asks whoever opens it for all that a link needs.
async fn o18_a_forwarded_address_links_nobody(engine: Engine) {
    let stage = stage(engine).await;
    let app = &stage.app;
    let (_, path) = way_out(app, "Attacker").await;
    let mut victim = stage.signed_in().await;
    // Looked at, by programs too: nothing is used up, nothing changes.
    let before = app.dump(&["sessions"]).await;
    for _ in 0..3 {
        let page = victim.get(&path).await;
        assert!(
            page.body.contains("Attacker") && page.body.contains("If somebody sent you this link"),
            "{}",
            page.body
        );
    }
    assert_eq!(app.dump(&["sessions"]).await, before);
    // By another site's form it is not taken.
    let token = app.visitor().form_token().await;
    let fields = [("secret", secret(&path)), ("csrf", &token)];
    let forged = victim.post_raw("/line/go-on", &fields, &[("origin", "https://evil.example")]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert_eq!(app.dump(&["sessions"]).await, before);
    // Pressed on: still the proof of the member, and the page that names both.
    assert_eq!(go_on(&mut victim, &path).await.location(), NOT_LINKED);
    app.clock.advance(Duration::from_secs(300));
    let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    app.execute("UPDATE sessions SET authenticated_at = 0").await;
    assert_eq!(victim.post("/line/start", &fields).await.status, StatusCode::UNAUTHORIZED);
    stage.sign_in(&mut victim).await;
    let page = reach_confirm(&mut victim).await;
    assert!(page.body.contains("Attacker") && page.body.contains("Is this your own LINE account?"), "{}", page.body);
    let no = [("attempt", &*page.field("attempt").unwrap()), ("decision", "no"), ("consent", "1:en")];
    victim.post("/link/confirm", &no).await;
    assert_eq!(rows!(app, "links"), 0);
    app.end().await;
}

/// Once, within ten minutes, by the newest address, and only with a proof.
async fn o19_an_address_out_of_line_counts_once(engine: Engine) {
    let stage = stage(engine).await;
    let app = &stage.app;
    let gone = async |visitor: &mut Visitor<'_>, path: &str| {
        assert_eq!(visitor.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(go_on(visitor, path).await.status, StatusCode::NOT_FOUND, "{path}");
    };
    let (mut inside, first) = way_out(app, "はなこ").await;
    let second = ask(&mut inside).await;
    let (mut one, mut two) = (app.visitor(), app.visitor());
    gone(&mut one, &first).await;
    gone(&mut one, "/line/go-on/guessed").await;
    gone(&mut one, "/line/go-on/%00").await;
    assert_eq!(go_on(&mut one, &second).await.location(), NOT_LINKED);
    gone(&mut two, &second).await;
    // Taken away, it is no more where it was.
    assert_eq!(inside.post("/line/elsewhere", &[("provider", "main")]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(two.post("/line/elsewhere", &[("provider", "main")]).await.status, StatusCode::NOT_FOUND, "no proof");
    assert_eq!(two.post("/line/elsewhere", &[("provider", "other")]).await.status, StatusCode::NOT_FOUND);
    let (_, late) = way_out(app, "たろう").await;
    app.clock.advance(Duration::from_secs(600));
    gone(&mut two, &late).await;
    assert_eq!(rows!(app, "attempts WHERE handoff_hash LIKE '/%' OR LENGTH(handoff_hash) <> 43"), 0, "hashes only");
    let refused = app.audit().await.into_iter().filter(|row| row == "line_refused/elsewhere_gone").count();
    assert_eq!(refused, 5);

    // Two browsers at one time: one has it.
    let (_, path) = way_out(app, "じろう").await;
    let mut requests = Vec::new();
    for _ in 0..8 {
        let mut visitor = app.visitor();
        requests.push(crate::linking::form(&mut visitor, "/line/go-on", &[("secret", secret(&path))]).await);
    }
    let answers = crate::support::at_once(app, requests).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count(), 1);
    app.end().await;
}

macro_rules! both {
    ($($name:ident)*) => { $(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Engine::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Engine::Postgres).await;
            }
        }
    )* };
}

both! { a_person_goes_on_in_their_own_browser o18_a_forwarded_address_links_nobody o19_an_address_out_of_line_counts_once }

/// Where the company's sign-in opens inside of LINE too, there is no way out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_a_way_out_only_where_one_is_wanted() {
    let stage = Stage::set(Engine::Sqlite).await;
    let user = stage.app.line_user("はなこ").await;
    let mut inside = stage.app.visitor();
    liff::open(&mut inside, &user).await;
    let page = not_linked(&mut inside).await;
    assert!(page.body.contains("/sign-in?") && !page.body.contains("/line/elsewhere"), "{}", page.body);
    assert_eq!(inside.post("/line/elsewhere", &[("provider", "main")]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(inside.get("/line/go-on/x").await.status, StatusCode::NOT_FOUND);
    stage.app.end().await;
}
