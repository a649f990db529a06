//! The way in from LINE itself: tokens of a LIFF app, shown by our page's script.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    liff_token::Signer,
    login::id_token,
    support::{Answer, LIFF_ID, LOGIN_CHANNEL, ORIGIN, PASSWORD, TestApp, Visitor, both_engines, parameter},
};

const SESSION: &str = "/liff/main/session";
const CERTS: &str = "/oauth2/v2.1/certs";
pub const NOT_LINKED: &str = "/line/not-linked?provider=main";
/// In LINE nobody was asked to add the official account yet.
pub const ADD_FRIEND: &str = "/account/friend?provider=main&done=linked";
/// What a script of ours sends besides the tokens.
const HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("x-musubi-liff", "1"),
    ("origin", ORIGIN),
    ("sec-fetch-site", "same-origin"),
];

/// What LINE hands to the page when `user` opens it.
pub async fn tokens(app: &TestApp, user: &str) -> Value {
    app.sim(Method::POST, &format!("/_sim/users/{user}/liff"), json!({})).await
}

pub async fn tokens_of(app: &TestApp, user: &str, scopes: &[&str]) -> Value {
    app.sim(Method::POST, &format!("/_sim/users/{user}/liff"), json!({ "scopes": scopes })).await
}

/// The two tokens, as the script shows them.
pub fn shown(tokens: &Value) -> Value {
    json!({ "id_token": tokens["id_token"], "access_token": tokens["access_token"], "path": "/liff/main" })
}

pub async fn show(visitor: &mut Visitor<'_>, body: &Value) -> Answer {
    show_as(visitor, body, &HEADERS).await
}

async fn show_as(visitor: &mut Visitor<'_>, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = visitor.request(Method::POST, SESSION);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    visitor.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// Opens the page in LINE as `user`; gives where it goes on to.
pub async fn open(visitor: &mut Visitor<'_>, user: &str) -> String {
    let tokens = tokens(visitor.app, user).await;
    let answer = show(visitor, &shown(&tokens)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()["next"].as_str().unwrap().to_owned()
}

/// Shows these, and sees that it is refused just so and leaves everything as it was.
async fn refused(visitor: &mut Visitor<'_>, body: &Value, status: u16, name: &str, reason: &str) {
    let app = visitor.app;
    let before = (app.dump(&["audit", "attempts"]).await, app.audit().await);
    let mut cookies = visitor.cookies.clone();
    let answer = show(visitor, body).await;
    let said = format!("{body}: {} {}", answer.status, answer.body);
    assert_eq!(answer.status.as_u16(), status, "{said}");
    assert_eq!(answer.json(), json!({ "error": name }), "{said}");
    cookies.extend(visitor.cookies.get_key_value("__Host-musubi_form").map(|(k, v)| (k.clone(), v.clone())));
    assert_eq!(visitor.cookies, cookies, "{said}");
    assert_eq!(app.dump(&["audit", "attempts"]).await, before.0, "{said}");
    let mut audit = app.audit().await;
    for known in &before.1 {
        audit.swap_remove(audit.iter().position(|row| row == known).unwrap());
    }
    let expected: Vec<String> = if reason.is_empty() { vec![] } else { vec![format!("line_refused/{reason}")] };
    assert_eq!(audit, expected, "{said}");
}

/// A member linked by LIFF to a new LINE user: their browser in LINE, and the LINE user's id.
async fn linked_by_liff<'a>(app: &'a TestApp, email: &str) -> (Visitor<'a>, String) {
    app.member(email, "Hanako").await;
    let user = app.line_user("はなこ").await;
    let mut visitor = app.visitor();
    assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
    let answer = visitor.post("/sign-in", &[("email", email), ("password", PASSWORD), ("return_to", NOT_LINKED)]).await;
    assert_eq!(answer.location(), NOT_LINKED);
    let attempt = reach_confirm(&mut visitor).await;
    let answer = visitor.confirm(&attempt).await;
    assert_eq!(answer.location(), ADD_FRIEND, "{}", answer.body);
    app.drain().await;
    (visitor, user)
}

/// Presses the button of the page that says that nobody is linked.
async fn reach_confirm(visitor: &mut Visitor<'_>) -> String {
    let answer =
        visitor.post("/line/start", &[("purpose", "link"), ("provider", "main"), ("return_to", "/account")]).await;
    let location = answer.location();
    let id = location.strip_prefix("/link/confirm?attempt=");
    id.unwrap_or_else(|| panic!("no confirm page: {} {location} {}", answer.status, answer.body)).to_owned()
}

mod stories {
    use super::*;

    both_engines! {
        /// LINE returns to the page and to what is below: it is the same everywhere, asks no database and leads nowhere.
        async fn the_page_is_one_and_leads_nowhere(app) {
            let mut visitor = app.visitor();
            let page = visitor.get("/liff/main").await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains(LIFF_ID) && page.body.contains("static.line-scdn.net/liff/edge/2/sdk.js"));
            assert!(visitor.cookies.keys().eq(["__Host-musubi_form"]), "{:?}", visitor.cookies);
            let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            let scripts = "script-src 'self' https://static.line-scdn.net/liff/edge/2/ https://static.line-scdn.net/lui/edge/;";
            assert!(policy.contains(scripts), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer");
            app.app.db.close().await;
            let same = |body: &str| body.split("data-now").map(|part| part.split_once('>').map_or(part, |(_, rest)| rest).to_owned()).collect::<Vec<_>>();
            for path in [
                "/liff/main/", "/liff/main/account/unlink", "/liff/main/session", "/liff/main/a/b/c",
                "/liff/main?code=x&state=y&liffClientId=1", "/liff/main?liff.state=%2F%2Fevil.example",
                "/liff/main?liff.state=https%3A%2F%2Fevil.example&error=ACCESS_DENIED",
            ] {
                let other = visitor.get(path).await;
                assert_eq!((other.status, same(&other.body)), (StatusCode::OK, same(&page.body)), "{path}");
                assert!(other.headers.get(header::LOCATION).is_none() && !other.body.contains("evil"), "{path}");
                assert!(other.headers.get(header::SET_COOKIE).is_none(), "{path}");
            }
            assert_eq!(visitor.get("/liff/nobody").await.status, StatusCode::NOT_FOUND);
            for (language, words) in [("th", "โปรดรอสักครู่"), ("zh-TW", "請稍候"), ("ja", "しばらくお待ちください"), ("fr", "One moment")] {
                visitor.language = language;
                assert!(visitor.get("/liff/main").await.body.contains(words), "{language}");
            }
        }

        /// From LINE to a link, and back in.
        async fn a_link_begins_in_line(app) {
            let (visitor, user) = linked_by_liff(app, "hanako@example.jp").await;
            let link: (String, String) = sqlx::query_as("SELECT source, permission FROM links")
                .fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
            assert_eq!(link, ("liff".into(), "given".into()));
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE kind = 'liff' AND link_id IS NOT NULL AND ended_at IS NULL").await, 1);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 1);
            assert_eq!(app.calls_to("/oauth2/v2.1/authorize").await.len(), 0, "LIFF took its place");
            // Another day, signed out: LINE opens the page, and they are in.
            let mut again = app.visitor();
            assert_eq!(open(&mut again, &user).await, "/account");
            assert!(again.get("/account").await.body.contains("はなこ"));
            assert!(visitor.session_cookie() != again.session_cookie());
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 1, "the newer in its place");
            assert_eq!(app.calls_to("/oauth2/v2.1/revoke").await.len(), 0, "the page's own tokens are left to it");
        }

        /// Below the LIFF app's address the page of ours is named that is wanted.
        async fn a_path_leads_on_to_a_page_of_ours(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            for (path, next) in [
                ("/liff/main", "/account"),
                ("/liff/main/account/unlink", "/account/unlink"),
                ("/liff/main/account/preferences", "/account/preferences"),
                ("/liff/main//evil.example", "/account"),
                ("/liff/main/\\evil.example", "/account"),
                ("/liff/main/liff/main", "/account"),
                ("/liff/main/line/start", "/account"),
                ("/liff/other/account/data", "/account"),
                ("https://evil.example", "/account"),
                ("", "/account"),
            ] {
                let mut body = shown(&tokens(app, &user).await);
                body["path"] = path.into();
                assert_eq!(show(&mut app.visitor(), &body).await.json()["next"], next, "{path}");
            }
        }

        /// The unlink takes the permission back by the token that LIFF gave.
        async fn an_unlink_tells_line_by_the_token_of_the_liff_app(app) {
            let (mut visitor, user) = linked_by_liff(app, "hanako@example.jp").await;
            assert_eq!(open(&mut visitor, &user).await, "/account");
            assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
            app.drain().await;
            let steps = "SELECT CAST(COUNT(*) AS BIGINT) FROM unlink_steps WHERE step IN ('deauthorize', 'revoke') AND state = 'done'";
            assert_eq!(app.count(steps).await, 2);
            assert_eq!(app.calls_to("/user/v1/deauthorize").await[0]["status"], 204);
            assert_eq!(open(&mut app.visitor(), &user).await, NOT_LINKED);
        }

        /// After its hours are over only the person can take the permission back, and is told.
        async fn an_unlink_after_the_tokens_hours_is_left_to_the_person(app) {
            let (mut visitor, _) = linked_by_liff(app, "hanako@example.jp").await;
            app.clock.advance(std::time::Duration::from_secs(13 * 3600));
            visitor.unlink().await;
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM unlink_steps WHERE step = 'deauthorize' AND state = 'needs_user'").await, 1);
            assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 0);
        }

        /// A link of the web keeps its tokens, which live for months; LIFF's go with the hours.
        async fn the_tokens_of_the_web_are_kept_beside(app) {
            let (mut visitor, user) = app.linked("hanako@example.jp").await;
            open(&mut app.visitor(), &user).await;
            app.clock.advance(std::time::Duration::from_secs(13 * 3600));
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 2);
            assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
            app.drain().await;
            assert_eq!(app.calls_to("/user/v1/deauthorize").await[0]["status"], 204);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 0);
        }

        /// Withdrawn and given anew: the dead token is passed over, and the live one ends the permission.
        async fn a_permission_given_anew_is_taken_back_by_its_own_token(app) {
            let (mut visitor, user) = app.linked("hanako@example.jp").await;
            app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), json!({})).await;
            open(&mut app.visitor(), &user).await;
            app.clock.advance(std::time::Duration::from_secs(60));
            visitor.unlink().await;
            app.drain().await;
            let calls = app.calls_to("/user/v1/deauthorize").await;
            assert_eq!(calls.iter().map(|call| call["status"].as_i64().unwrap()).collect::<Vec<_>>(), [400, 204]);
        }

        /// Whoever is signed in by the password stays so: LIFF proves less.
        async fn a_session_by_the_password_is_not_given_up(app) {
            let (mut visitor, user) = app.linked("hanako@example.jp").await;
            let before = visitor.session_cookie().cloned();
            assert_eq!(open(&mut visitor, &user).await, "/account");
            assert_eq!(visitor.session_cookie().cloned(), before);
            assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
        }

        /// In LINE, by a ticket, without a sign-in.
        async fn a_ticket_is_used_in_line(app) {
            let member_id = app.member("hanako@example.jp", "Hanako").await;
            let user = app.line_user("はなこ").await;
            let mut visitor = app.visitor();
            assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
            assert!(visitor.get(NOT_LINKED).await.body.contains("href=\"/t\""));
            let new = musubi::link::ticket::New { member_id: &member_id, provider: "main", return_url: None, made_by: "test" };
            let mut tx = app.app.db.begin().await.unwrap();
            let made = musubi::link::ticket::create(&mut tx, &app.app, &new).await.unwrap().unwrap();
            tx.commit().await.unwrap();
            let path = made.url.strip_prefix(ORIGIN).unwrap();
            let answer = visitor.post("/line/start", &[("purpose", "ticket"), ("provider", "main"), ("return_to", path)]).await;
            let location = answer.location();
            let attempt = location.strip_prefix("/link/confirm?attempt=").unwrap_or_else(|| panic!("{}", answer.body));
            let page = visitor.get(&location).await;
            assert!(page.body.contains("はなこ") && !page.body.contains("hanako@example.jp"), "{}", page.body);
            assert_eq!(visitor.confirm(attempt).await.location(), location);
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE source = 'ticket'").await, 1);
            assert!(visitor.session_cookie().is_none(), "a ticket signs nobody in");
        }

        /// An imported link is confirmed by the person before it signs them in.
        async fn an_imported_link_is_confirmed_in_line(app) {
            let (_, user) = app.linked("hanako@example.jp").await;
            app.execute("UPDATE links SET source = 'imported', unconfirmed_at = 1, permission = 'none'").await;
            let mut visitor = app.visitor();
            let next = open(&mut visitor, &user).await;
            assert!(next.starts_with("/link/imported?attempt="), "{next}");
            let attempt = parameter(&next, "attempt");
            assert_eq!(visitor.get(&next).await.status, StatusCode::OK);
            let answer = visitor.post("/link/imported", &[("attempt", &attempt), ("decision", "yes"), ("consent", "1:en")]).await;
            assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
        }

        /// What a reset paused goes on in LINE by the person's yes.
        async fn a_suspended_link_is_resumed_in_line(app) {
            let (mut visitor, user) = app.linked("hanako@example.jp").await;
            app.execute("UPDATE links SET suspended_at = 1").await;
            refused(&mut app.visitor(), &shown(&tokens(app, &user).await), 403, "account", "unavailable").await;
            assert_eq!(open(&mut visitor, &user).await, "/account");
            let attempt = reach_confirm(&mut visitor).await;
            assert_eq!(visitor.confirm(&attempt).await.location(), "/account?done=linked");
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE suspended_at IS NULL").await, 1);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 2);
        }

        /// A LINE account that is somebody's stays theirs, whoever is signed in.
        async fn a_conflict_is_explained(app) {
            app.member("jiro@example.jp", "Jiro").await;
            let user = app.line_user("はなこ").await;
            let mut jiro = app.visitor();
            assert_eq!(open(&mut jiro, &user).await, NOT_LINKED);
            // Meanwhile Hanako links it on the web.
            app.member("hanako@example.jp", "Hanako").await;
            app.signed_in("hanako@example.jp").await.link(&user).await;
            jiro.post("/sign-in", &[("email", "jiro@example.jp"), ("password", PASSWORD)]).await;
            let answer = jiro.post("/line/start", &[("purpose", "link"), ("provider", "main"), ("return_to", "/account")]).await;
            assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
            assert!(!answer.body.contains("Hanako") && !answer.body.contains("hanako"));
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await, 1);
        }

        /// The proof serves for ten minutes, in its own browser, and for one link.
        async fn a_proof_serves_one_browser_for_ten_minutes(app) {
            app.member("hanako@example.jp", "Hanako").await;
            let user = app.line_user("はなこ").await;
            let goes_to_line = async |visitor: &mut Visitor<'_>| {
                let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
                visitor.post("/line/start", &fields).await.location().contains("/oauth2/v2.1/authorize?")
            };
            let mut visitor = app.signed_in("hanako@example.jp").await;
            assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
            let mut other = app.signed_in("hanako@example.jp").await;
            assert!(goes_to_line(&mut other).await, "another browser");
            let attempt = reach_confirm(&mut visitor).await;
            assert!(goes_to_line(&mut visitor).await, "used already");
            let foreign = other.get(&format!("/link/confirm?attempt={attempt}")).await;
            assert_eq!(foreign.status, StatusCode::NOT_FOUND);
            assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
            app.clock.advance(std::time::Duration::from_secs(600));
            visitor.post("/sign-in", &[("email", "hanako@example.jp"), ("password", PASSWORD)]).await;
            assert!(goes_to_line(&mut visitor).await, "ten minutes are over");
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 0, "forgotten");
            let late = visitor.confirm(&attempt).await;
            assert_eq!(late.status, StatusCode::NOT_FOUND);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
        }

        /// LINE Login is not open inside of LIFF: what would go there begins again with the LIFF app's page.
        async fn inside_of_liff_nobody_is_sent_to_line_login(app) {
            let (mut visitor, user) = linked_by_liff(app, "hanako@example.jp").await;
            app.member("jiro@example.jp", "Jiro").await;
            let agent = "Mozilla/5.0 (Linux; Android 14; wv) Chrome/126.0 Mobile Safari/537.36 Line/14.21.0/IAB LIFF";
            let starts = async |visitor: &mut Visitor<'_>, agent: &str, purpose: &str| {
                let token = visitor.form_token().await;
                let fields = [("purpose", purpose), ("provider", "main"), ("return_to", "/account"), ("csrf", &token)];
                let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                let mut request = visitor.request(Method::POST, "/line/start").header("origin", ORIGIN)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(Body::from(body)).unwrap();
                request.headers_mut().insert(header::USER_AGENT, agent.parse().unwrap());
                visitor.send(request).await.location()
            };
            assert_eq!(starts(&mut visitor, agent, "sign_in").await, "/liff/main");
            assert!(starts(&mut visitor, "Mozilla/5.0 Chrome/126.0", "sign_in").await.contains("/oauth2/v2.1/authorize?"));
            let mut jiro = app.signed_in("jiro@example.jp").await;
            assert!(starts(&mut jiro, agent, "link").await.contains("/oauth2/v2.1/authorize?"), "LINE's browser, and no LIFF");
            assert_eq!(open(&mut app.visitor(), &user).await, "/account");
        }

        /// A LIFF app without `openid` gives no ID token: the access token serves, once LINE has said whose it is.
        async fn the_access_token_alone_serves_where_there_is_no_id_token(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let tokens = tokens_of(app, &user, &["profile"]).await;
            assert!(tokens["id_token"].is_null());
            assert_eq!(show(&mut app.visitor(), &shown(&tokens)).await.json()["next"], "/account");
            refused(&mut app.visitor(), &shown(&tokens), 401, "replayed", "liff_replayed").await;
            let neither = tokens_of(app, &user, &["chat_message.write"]).await;
            refused(&mut app.visitor(), &shown(&neither), 401, "scope", "liff_scope").await;
            // Without a profile LINE says at least whose it is.
            let nameless = tokens_of(app, &user, &["openid"]).await;
            assert_eq!(show(&mut app.visitor(), &json!({ "access_token": nameless["access_token"] })).await.json()["next"], "/account");
            app.fault(json!({ "endpoint": "GET /oauth2/v2.1/verify", "status": 500 })).await;
            refused(&mut app.visitor(), &json!({ "access_token": tokens["access_token"] }), 503, "unavailable", "liff_line_away").await;
        }

        /// A dead access token, or a LINE that does not answer, turns nobody away whose ID token is good.
        async fn a_dead_access_token_beside_a_good_id_token(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            for fault in [json!({ "endpoint": "GET /oauth2/v2.1/verify", "status": 500 }),
                json!({ "endpoint": "GET /oauth2/v2.1/verify", "status": 400, "body": { "error": "invalid_request", "error_description": "The access token revoked" } }),
                json!({ "endpoint": "/v2/profile", "status": 503 })] {
                app.fault(fault).await;
                assert_eq!(open(&mut app.visitor(), &user).await, "/account");
            }
        }

        async fn f01_f02_f06_who_somebody_says_to_be_counts_for_nothing(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            for body in [json!({ "userId": user }), json!({}), json!({ "id_token": "", "userId": user }), json!({ "id_token": null })] {
                refused(&mut app.visitor(), &body, 400, "failed", "liff_no_token").await;
            }
            for body in [json!([]), json!("x"), json!({ "id_token": 1 }), json!(null)] {
                refused(&mut app.visitor(), &body, 400, "failed", "").await;
            }
            let stranger = app.line_user("x").await;
            let mut body = shown(&tokens(app, &stranger).await);
            body["userId"] = user.clone().into();
            body["sub"] = user.into();
            body["client_id"] = "evil".into();
            let mut visitor = app.visitor();
            assert_eq!(show(&mut visitor, &body).await.json()["next"], NOT_LINKED);
            assert!(visitor.session_cookie().is_none());
        }

        async fn f03_an_access_token_of_another_channel(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let tokens = tokens(app, &user).await;
            let foreign = json!({ "endpoint": "GET /oauth2/v2.1/verify", "replace_body": { "scope": "profile", "client_id": "1999999999", "expires_in": 1000 } });
            for body in [shown(&tokens), json!({ "access_token": tokens["access_token"] })] {
                app.fault(foreign.clone()).await;
                refused(&mut app.visitor(), &body, 401, "failed", "liff_other_channel").await;
            }
            // Somebody else's access token beside one's own ID token.
            let other = self::tokens(app, &app.line_user("x").await).await;
            let mixed = json!({ "id_token": tokens["id_token"], "access_token": other["access_token"] });
            refused(&mut app.visitor(), &mixed, 401, "failed", "profile_mismatch").await;
        }

        async fn f04_a_dead_access_token(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let token = json!({ "access_token": tokens_of(app, &user, &["profile"]).await["access_token"] });
            for expires_in in [0, -1] {
                app.fault(json!({ "endpoint": "GET /oauth2/v2.1/verify", "replace_body": { "scope": "profile", "client_id": LOGIN_CHANNEL, "expires_in": expires_in } })).await;
                refused(&mut app.visitor(), &token, 401, "expired", "liff_access_token").await;
            }
            app.clock.advance(std::time::Duration::from_secs(12 * 3600 + 1));
            refused(&mut app.visitor(), &token, 401, "expired", "liff_access_token").await;
            refused(&mut app.visitor(), &json!({ "access_token": "nonsense" }), 401, "expired", "liff_access_token").await;
        }

        /// A reload in the same browser passes; whoever else got the tokens is asked to open the page again.
        async fn f07_a_stolen_token_is_of_no_use_elsewhere(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let tokens = tokens(app, &user).await;
            let mut visitor = app.visitor();
            for _ in 0..3 {
                assert_eq!(show(&mut visitor, &shown(&tokens)).await.json()["next"], "/account");
            }
            let thief = || app.visitor();
            for body in [shown(&tokens), json!({ "id_token": tokens["id_token"] }), json!({ "access_token": tokens["access_token"] })] {
                refused(&mut thief(), &body, 401, "replayed", "liff_replayed").await;
                let mut guessing = thief();
                guessing.cookies.insert("__Host-musubi_attempt".into(), "A".repeat(43));
                refused(&mut guessing, &body, 401, "replayed", "liff_replayed").await;
            }
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM liff_tokens").await, 4, "two of each opening");
            assert!(!app.dump(&[]).await.iter().any(|row| row.contains(tokens["id_token"].as_str().unwrap())));
            app.clock.advance(std::time::Duration::from_secs(14 * 3600));
            assert!(musubi::worker::prune(&app.app, "test").await.unwrap() >= 4);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM liff_tokens").await, 0);
        }

        /// The SDK loads the page anew while the tokens are being shown: the answer to them never came.
        async fn f07_the_browser_is_known_before_it_shows_anything(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let mut visitor = app.visitor();
            visitor.get("/liff/main").await;
            let body = shown(&tokens(app, &user).await);
            let mut anew = visitor.clone();
            assert_eq!(show(&mut visitor, &body).await.json()["next"], "/account");
            assert_eq!(show(&mut anew, &body).await.json()["next"], "/account");
            refused(&mut app.visitor(), &body, 401, "replayed", "liff_replayed").await;
        }

        /// Of two browsers that show one token at one moment, one is let in.
        async fn f07_race_two_browsers(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            for _ in 0..5 {
                let body = shown(&tokens(app, &user).await).to_string();
                let requests = (0..6).map(|_| {
                    let mut request = app.visitor().request(Method::POST, SESSION);
                    for (name, value) in HEADERS {
                        request = request.header(name, value);
                    }
                    request.body(Body::from(body.clone())).unwrap()
                });
                let answers = crate::support::at_once(app, requests.collect()).await;
                let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
                assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
                assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
            }
        }

        /// Only our own page's script is listened to.
        async fn f08_f09_another_sites_script_is_not_heard(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let body = shown(&tokens(app, &user).await);
            let [kind, ours, origin, site] = HEADERS;
            let before = app.dump(&[]).await;
            for headers in [
                vec![kind, origin, site],
                vec![kind, ("x-musubi-liff", "0"), origin, site],
                vec![ours, origin, site],
                vec![("content-type", "text/plain"), ours, origin, site],
                vec![("content-type", "application/x-www-form-urlencoded"), ours, origin, site],
                vec![kind, ours, site],
                vec![kind, ours],
                vec![kind, ours, ("origin", "https://evil.example")],
                vec![kind, ours, ("origin", "null")],
                vec![kind, ours, ("origin", "https://members.example.jp.evil.example")],
                vec![kind, ours, origin, ("sec-fetch-site", "cross-site")],
                vec![kind, ours, origin, ("sec-fetch-site", "same-site")],
            ] {
                let mut visitor = app.visitor();
                let answer = show_as(&mut visitor, &body, &headers).await;
                assert_eq!((answer.status, answer.json()), (StatusCode::FORBIDDEN, json!({ "error": "failed" })), "{headers:?}");
                assert!(visitor.session_cookie().is_none());
                assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{headers:?}");
            }
            let preflight = app.visitor().request(Method::OPTIONS, SESSION).header("origin", "https://evil.example")
                .header("access-control-request-method", "POST").header("access-control-request-headers", "x-musubi-liff");
            let answer = app.visitor().send(preflight.body(Body::empty()).unwrap()).await;
            assert!(answer.status.is_client_error(), "{}", answer.status);
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
            assert_eq!(app.dump(&[]).await, before);
        }

        async fn f10_f11_what_is_behind_the_address_is_in_no_log_and_leads_nowhere(app) {
            let (log, _guard) = crate::login::captured();
            let mut visitor = app.visitor();
            let path = "/liff/main/deep?code=se-cret-code&state=se-cret-state&id_token=se-cret-id&access_token=se-cret-access&liff.state=%2F%2Fevil.example";
            let answer = visitor.get(path).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.headers.get(header::LOCATION).is_none() && !answer.body.contains("evil"));
            assert!(log.text().contains("/liff/main/deep") && !log.text().contains("se-cret"), "{}", log.text());
            let scripts: Vec<&str> = answer.body.split("<script src=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            assert_eq!(scripts.len(), 2, "{scripts:?}");
            assert!(scripts[0].starts_with("https://static.line-scdn.net/") && scripts[1].starts_with("/static/liff.js"));
        }

        /// Opened by somebody who is signed in here: nobody is linked before a page that names both, and a yes.
        async fn f12_opening_a_liff_app_links_nobody(app) {
            let id = app.member("hanako@example.jp", "Hanako").await;
            let user = app.line_user("はなこ").await;
            let mut visitor = app.signed_in("hanako@example.jp").await;
            assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
            visitor.get(NOT_LINKED).await;
            app.drain().await;
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
            let answer = visitor.get("/line/start?purpose=link&provider=main").await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
            let forged = visitor.post_raw("/line/start", &[("purpose", "link"), ("provider", "main"), ("csrf", "x")], &[("origin", ORIGIN)]).await;
            assert_eq!(forged.status, StatusCode::FORBIDDEN);
            let fields = [("purpose", "liff"), ("provider", "main")];
            assert_eq!(visitor.post("/line/start", &fields).await.status, StatusCode::BAD_REQUEST);
            app.clock.advance(std::time::Duration::from_secs(601));
            assert_eq!(open(&mut visitor, &user).await, NOT_LINKED);
            let stale = visitor.post("/line/start", &[("purpose", "link"), ("provider", "main"), ("return_to", "/account")]).await;
            assert_eq!(stale.status, StatusCode::UNAUTHORIZED, "the password is asked for again");
            visitor.post("/sign-in", &[("email", "hanako@example.jp"), ("password", PASSWORD)]).await;
            let attempt = reach_confirm(&mut visitor).await;
            let page = visitor.get(&format!("/link/confirm?attempt={attempt}")).await;
            assert!(page.body.contains("はなこ") && page.body.contains("Hanako"), "{}", page.body);
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
            assert_eq!(visitor.confirm(&attempt).await.location(), ADD_FRIEND);
            assert!(!id.is_empty() && app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await == 1);
        }

        /// A web login's token is none of a LIFF app's, at the door as well; nor is one that LINE did not sign.
        async fn t05_t06_tokens_of_another_kind_at_the_door(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let web = id_token(app, &user, &json!({}));
            refused(&mut app.visitor(), &json!({ "id_token": web }), 401, "failed", "id_token_alg").await;
            let real = tokens(app, &user).await["id_token"].as_str().unwrap().to_owned();
            let (signed, _) = real.rsplit_once('.').unwrap();
            for signature in ["", "AA", &"A".repeat(86), &"A".repeat(1000)] {
                refused(&mut app.visitor(), &json!({ "id_token": format!("{signed}.{signature}") }), 401, "failed", "id_token_sig").await;
            }
            let now = app.app.now().seconds();
            let claims = json!({ "iss": "https://access.line.me", "sub": user, "aud": LOGIN_CHANNEL, "exp": now + 3600, "iat": now });
            let forged = Signer::new("mine").sign(&claims.to_string());
            refused(&mut app.visitor(), &json!({ "id_token": forged }), 401, "failed", "id_token_key").await;
            let asked = app.calls_to(CERTS).await.len();
            for _ in 0..50 {
                show(&mut app.visitor(), &json!({ "id_token": forged })).await;
            }
            assert_eq!(app.calls_to(CERTS).await.len(), asked);

        }

        async fn t16_an_expired_token_has_its_own_name(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            let body = shown(&tokens(app, &user).await);
            app.clock.advance(std::time::Duration::from_secs(3600 + 61));
            refused(&mut app.visitor(), &body, 401, "expired", "id_token_exp").await;
        }

        async fn s01_liff_gives_a_new_session_id(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            app.member("jiro@example.jp", "Jiro").await;
            let mut visitor = app.signed_in("jiro@example.jp").await;
            let before = visitor.session_cookie().unwrap().clone();
            assert_eq!(open(&mut visitor, &user).await, "/account");
            assert_ne!(visitor.session_cookie().unwrap(), &before);
            let mut old = app.visitor();
            old.cookies.insert("__Host-musubi_session".into(), before);
            assert_eq!(old.get("/account").await.location(), "/sign-in?return_to=%2Faccount");
            assert!(visitor.get("/account").await.body.contains("Hanako"));
        }

        async fn l21_a_disabled_member_in_line(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            app.execute("UPDATE members SET disabled_at = 1").await;
            refused(&mut app.visitor(), &shown(&tokens(app, &user).await), 403, "account", "unavailable").await;
        }

        /// LINE signs with another key: the next who opens the page is let in.
        async fn x31_line_changes_its_key(app) {
            let (_, user) = linked_by_liff(app, "hanako@example.jp").await;
            for keep_former in [true, false, true] {
                app.clock.advance(std::time::Duration::from_secs(31));
                let old = shown(&tokens(app, &user).await);
                app.sim(Method::POST, "/_sim/keys/rotate", json!({ "keep_former": keep_former })).await;
                let asked = app.calls_to(CERTS).await.len();
                assert_eq!(open(&mut app.visitor(), &user).await, "/account");
                assert_eq!(app.calls_to(CERTS).await.len(), asked + 1, "with one question");
                if keep_former {
                    assert_eq!(show(&mut app.visitor(), &old).await.status, StatusCode::OK);
                } else {
                    refused(&mut app.visitor(), &old, 401, "failed", "id_token_key").await;
                }
            }
        }

        /// LINE's keys cannot be read. Known ones serve on; without any LIFF waits, and the web does not.
        async fn x32_f13_an_outage_of_lines_keys(app) {
            app.member("hanako@example.jp", "Hanako").await;
            let user = app.line_user("はなこ").await;
            app.signed_in("hanako@example.jp").await.link(&user).await;
            app.fault(json!({ "endpoint": CERTS, "status": 503, "count": 1000 })).await;
            let mut visitor = app.visitor();
            refused(&mut visitor, &shown(&tokens(app, &user).await), 503, "unavailable", "liff_line_away").await;
            assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account", "the web goes on");
            app.clear_faults().await;
            app.clock.advance(std::time::Duration::from_secs(3));
            assert_eq!(open(&mut visitor, &user).await, "/account");
            app.fault(json!({ "endpoint": CERTS, "status": 503, "count": 1000 })).await;
            for hours in [2, 20] {
                app.clock.advance(std::time::Duration::from_secs(hours * 3600));
                assert_eq!(open(&mut app.visitor(), &user).await, "/account", "{hours}");
            }
            app.clock.advance(std::time::Duration::from_secs(3 * 3600));
            refused(&mut app.visitor(), &shown(&tokens(app, &user).await), 503, "unavailable", "liff_line_away").await;
        }
    }
}

/// Without a LIFF app there is neither page nor door.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_liff_app_there_is_no_page() {
    let app = TestApp::start_with(crate::support::Engine::Sqlite, |config| {
        config.provider.get_mut("main").unwrap().login.as_mut().unwrap().liff_id = None;
    })
    .await;
    let mut visitor = app.visitor();
    assert_eq!(visitor.get("/liff/main").await.status, StatusCode::NOT_FOUND);
    assert_eq!(show(&mut visitor, &json!({ "id_token": "x" })).await.status, StatusCode::NOT_FOUND);
    app.end().await;
}
