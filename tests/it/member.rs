//! Accounts: sign-up, sign-in, sign-out, and the sessions between.

use std::time::Duration;

use axum::http::StatusCode;
use musubi::{
    member::session::Method,
    web::{locale::Locale, visit::Visit},
};

use crate::support::{Answer, Engine, PASSWORD, TestApp, at_once, both_engines, parameter, title};

const FIELDS: [(&str, &str); 3] = [("email", "Hanako@Example.jp"), ("name", "Hanako"), ("password", PASSWORD)];

/// The page without what differs between two of one kind.
fn strip(answer: &Answer) -> String {
    let reference = answer.headers.get("x-request-id").map_or("", |id| id.to_str().unwrap());
    let body = answer.body.replace(&answer.field("csrf").unwrap_or_default(), "");
    if reference.is_empty() { body } else { body.replace(reference, "") }
}

/// Without a mail server nobody can sign up or reset, and no page says so.
#[tokio::test]
async fn without_mail_there_is_no_sign_up_and_no_reset() {
    let app = TestApp::start_with(Engine::Sqlite, |config| config.mail = None).await;
    app.member("hanako@example.jp", "Hanako").await;
    let mut signed_in = app.signed_in("hanako@example.jp").await;
    let before = app.dump(&["devices"]).await;
    let mut visitor = app.visitor();
    for path in ["/", "/sign-in"] {
        let page = visitor.get(path).await;
        assert!(!page.body.contains("/sign-up") && !page.body.contains("/password/forgot"), "{}", page.body);
    }
    for path in ["/sign-up", "/sign-up/confirm?token=x", "/password/forgot", "/password/reset?token=x"] {
        assert_eq!(visitor.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        let fields = [FIELDS.as_slice(), &[("token", "x")]].concat();
        let path = path.split('?').next().unwrap();
        assert_eq!(visitor.post(path, &fields).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(signed_in.get("/account/email").await.status, StatusCode::NOT_FOUND);
    assert_eq!(signed_in.post("/account/email", &FIELDS).await.status, StatusCode::NOT_FOUND);
    assert_eq!(signed_in.post("/account/code", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(app.dump(&["devices"]).await, before);
    app.end().await;
}

both_engines! {
    async fn a_person_signs_up_out_and_in(app) {
        let mut visitor = app.visitor();
        let answer = visitor.post("/sign-up", &FIELDS).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.contains("Hanako@Example.jp"), "{}", answer.body);
        assert!(visitor.session_cookie().is_none());
        app.drain().await;
        let link = app.mailed_link("Hanako@Example.jp", "/sign-up/confirm").await;
        let before = app.dump(&[]).await;
        for _ in 0..2 {
            let page = visitor.get(&link).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            assert!(page.body.contains("Hanako@Example.jp") && !page.body.contains("type=\"password\""), "{}", page.body);
        }
        assert_eq!(app.dump(&[]).await, before, "opening the link changes nothing");
        let token = parameter(&link, "token");
        let answer = visitor.post("/sign-up/confirm", &[("token", &token)]).await;
        assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, "/account?done=signed_up"));
        for name in ["session", "device"] {
            let cookies = answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap());
            let cookie = cookies.into_iter().find(|cookie| cookie.contains(name)).unwrap();
            assert!(cookie.starts_with(&format!("__Host-musubi_{name}=")), "{cookie}");
            for flag in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
                assert!(cookie.contains(flag), "{cookie} lacks {flag}");
            }
        }
        let verified = "SELECT CAST(COUNT(*) AS BIGINT) FROM members
            WHERE email_verified_at IS NOT NULL AND email_key = 'hanako@example.jp' AND locale = 'en'";
        assert_eq!(app.count(verified).await, 1);
        assert!(visitor.get("/account").await.body.contains("Hanako"));
        let kept = visitor.clone();
        assert_eq!(visitor.post("/sign-out", &[]).await.location(), "/");
        assert_eq!(visitor.get("/account").await.status, StatusCode::SEE_OTHER);
        let mut copied = kept;
        assert_eq!(copied.get("/account").await.status, StatusCode::SEE_OTHER, "a copied cookie died with the session");
        let answer = visitor.post("/sign-in", &[("email", "hanako@example.jp"), ("password", PASSWORD)]).await;
        assert_eq!(answer.location(), "/account");
        assert_eq!(app.audit().await, ["signed_up/", "signed_out/", "signed_in/"]);
    }

    async fn a_sign_up_is_confirmed_once(app) {
        let mut visitor = app.visitor();
        visitor.post("/sign-up", &FIELDS).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("Hanako@Example.jp", "/sign-up/confirm").await, "token");
        let csrf = visitor.form_token().await;
        let request = || {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("token", &token), ("csrf", &csrf)])
                .finish();
            visitor
                .request(axum::http::Method::POST, "/sign-up/confirm")
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .body(axum::body::Body::from(body))
                .unwrap()
        };
        let answers = at_once(app, (0..8).map(|_| request()).collect()).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 400, 400, 400, 400, 400, 400, 400]);
        for table in ["members", "sessions", "devices"] {
            let rows = app.dump(&[]).await.into_iter().filter(|row| row.starts_with(&format!("{table}:"))).count();
            assert_eq!(rows, 1, "{table}");
        }
        let gone = visitor.get(&format!("/sign-up/confirm?token={token}")).await;
        assert_eq!(gone.status, StatusCode::BAD_REQUEST);
        assert!(gone.body.contains(&title("sign_up_gone")), "{}", gone.body);
    }

    /// Who gets a mail they never asked for makes no account that a stranger knows the password of.
    async fn k16_in_another_browser_a_sign_up_asks_for_its_password(app) {
        app.visitor().post("/sign-up", &FIELDS).await;
        app.drain().await;
        let link = app.mailed_link("Hanako@Example.jp", "/sign-up/confirm").await;
        let token = parameter(&link, "token");
        let mut other = app.visitor();
        assert!(other.get(&link).await.body.contains("type=\"password\""));
        for password in ["", "wrong password"] {
            let answer = other.post("/sign-up/confirm", &[("token", &token), ("password", password)]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert!(answer.body.contains("role=\"alert\""), "{}", answer.body);
        }
        let answer = other.post("/sign-up/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "no password is none");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members").await, 0);
        let answer = other.post("/sign-up/confirm", &[("token", &token), ("password", PASSWORD)]).await;
        assert_eq!(answer.location(), "/account?done=signed_up");

        app.visitor().post("/sign-up", &[("email", "b@example.jp"), ("name", "B"), ("password", PASSWORD)]).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("b@example.jp", "/sign-up/confirm").await, "token");
        for tries in 1..=11 {
            let answer = app.visitor().post("/sign-up/confirm", &[("token", &token), ("password", "wrong")]).await;
            assert_eq!(answer.status.as_u16(), if tries > 10 { 429 } else { 401 }, "{tries}");
        }
    }

    async fn a_sign_up_whose_address_is_taken_meanwhile_is_gone(app) {
        let mut visitor = app.visitor();
        visitor.post("/sign-up", &FIELDS).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("Hanako@Example.jp", "/sign-up/confirm").await, "token");
        app.member("hanako@example.jp", "Another").await;
        let before = app.dump(&["audit"]).await;
        let answer = visitor.post("/sign-up/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body.contains(&title("sign_up_gone")), "{}", answer.body);
        let invented = visitor.post("/sign-up/confirm", &[("token", "invented")]).await;
        assert_eq!(strip(&invented), strip(&answer), "as any link that does not work");
        assert_eq!(app.dump(&["audit"]).await, before);
        assert_eq!(app.audit().await, ["token_refused/sign_up"; 2]);
        assert!(visitor.session_cookie().is_none());
    }

    async fn a_late_sign_up_is_gone_and_forgotten(app) {
        let mut visitor = app.visitor();
        visitor.post("/sign-up", &FIELDS).await;
        app.drain().await;
        let link = app.mailed_link("Hanako@Example.jp", "/sign-up/confirm").await;
        app.clock.advance(Duration::from_secs(3601));
        assert_eq!(visitor.get(&link).await.status, StatusCode::BAD_REQUEST);
        let answer = visitor.post("/sign-up/confirm", &[("token", &parameter(&link, "token"))]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        app.clock.advance(Duration::from_secs(8 * 24 * 3600));
        let mut conn = app.app.db.conn().await.unwrap();
        assert_eq!(musubi::member::prune(&mut conn, app.app.now()).await.unwrap(), 3, "the sign-up, its token, and the count of its network");
        drop(conn);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sign_ups").await, 0);
    }

    async fn unknown_wrong_and_disabled_get_one_answer(app) {
        app.member("hanako@example.jp", "Hanako").await;
        app.member("closed@example.jp", "Closed").await;
        app.execute("UPDATE members SET disabled_at = 1 WHERE email_key = 'closed@example.jp'").await;
        let mut bodies = Vec::new();
        for (email, password) in [
            ("nobody@example.jp", PASSWORD),
            ("hanako@example.jp", "wrong password"),
            ("closed@example.jp", PASSWORD),
            ("not an address", PASSWORD),
            ("hanako@example.jp", ""),
        ] {
            let mut visitor = app.visitor();
            let answer = visitor.post("/sign-in", &[("email", email), ("password", password)]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{email}");
            assert!(visitor.session_cookie().is_none());
            let token = answer.field("csrf").unwrap();
            bodies.push(answer.body.replace(&token, "").replace(email, ""));
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]), "the answers differ");
        assert_eq!(app.audit().await, ["sign_in_refused/credentials"; 5]);
    }

    async fn a_sign_up_with_a_problem_names_it_and_adds_nobody(app) {
        let before = app.dump(&[]).await;
        for (field, value, words) in [
            ("email", "nonsense", "e-mail"),
            ("name", "  ", "name"),
            ("password", "1234567", "8"),
            ("password", "password1", "guess"),
            ("password", "examplecompany1", "guess"),
            ("password", "Hanako2026", "guess"),
            // K22: look-alikes of an address are no address at all, not another person's.
            ("email", "ｈanako@example.jp", "e-mail"),
            ("email", "hanako@example.jp.", "e-mail"),
            ("email", "hana\u{200b}ko@example.jp", "e-mail"),
            ("email", "hanakо@example.jp", "e-mail"),
        ] {
            let fields = FIELDS.map(|(name, given)| (name, if name == field { value } else { given }));
            let answer = app.visitor().post("/sign-up", &fields).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
            assert!(answer.body.to_lowercase().contains(words), "{field}: {}", answer.body);
            assert!(answer.body.contains("role=\"alert\""));
        }
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn p08_a_hash_of_former_cost_is_replaced_at_the_sign_in(app) {
        app.member("hanako@example.jp", "Hanako").await;
        // The same password at twice the passes.
        let mut config = app.app.config.clone();
        config.security.password_hash.passes = 2;
        let db = musubi::db::Db::connect(&app.database_url).await.unwrap();
        let dearer = musubi::app::App::new(config, db, app.clock.clone()).unwrap();
        let hash = musubi::member::password::hash(&dearer, PASSWORD).await.unwrap();
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::query("UPDATE members SET password_hash = $1").bind(&hash).execute(&mut *conn).await.unwrap();
        drop(conn);
        app.signed_in("hanako@example.jp").await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members WHERE password_hash LIKE '%t=1,%'").await, 1);
        app.signed_in("hanako@example.jp").await;
        dearer.db.close().await;
    }

    async fn s05_sessions_end_idle_and_absolutely(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let day = Duration::from_secs(24 * 3600);
        let mut visitor = app.signed_in("hanako@example.jp").await;
        for _ in 0..4 {
            app.clock.advance(day * 7 - Duration::from_secs(1));
            assert_eq!(visitor.get("/account").await.status, StatusCode::OK, "used within seven days");
        }
        app.clock.advance(day * 2 + Duration::from_secs(5));
        assert_eq!(visitor.get("/account").await.status, StatusCode::SEE_OTHER, "thirty days are the end");

        let mut visitor = app.signed_in("hanako@example.jp").await;
        app.clock.advance(day * 7);
        assert_eq!(visitor.get("/account").await.status, StatusCode::SEE_OTHER, "idle for seven days");
    }

    async fn s04_a_cookie_that_comes_twice_is_none(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let visitor = app.signed_in("hanako@example.jp").await;
        let good = visitor.session_cookie().unwrap().clone();
        for cookies in [
            format!("__Host-musubi_session={good}; __Host-musubi_session={good}"),
            format!("__Host-musubi_session=invented; __Host-musubi_session={good}"),
            format!("musubi_session={good}"),
            "__Host-musubi_session=".to_owned(),
        ] {
            let mut other = app.visitor();
            let request = other.request(axum::http::Method::GET, "/account").header("cookie", cookies.as_str());
            let answer = other.send(request.body(axum::body::Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{cookies}");
        }
    }

    async fn s08_a_request_under_way_does_not_bring_a_session_back(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let mut conn = app.app.db.conn().await.unwrap();
        let token = visitor.session_cookie().unwrap().clone();
        let session = musubi::member::session::find(&mut conn, app.app.now(), &token).await.unwrap().unwrap();
        visitor.post("/sign-out", &[]).await;
        app.clock.advance(Duration::from_secs(120));
        musubi::member::session::touch(&mut conn, app.app.now(), &session).await.unwrap();
        assert!(musubi::member::session::find(&mut conn, app.app.now(), &token).await.unwrap().is_none());
        let visit = Visit {
            locale: Locale::En,
            form_key: String::new(),
            is_new: false,
            here: "/".into(),
            viewer: None,
            address: String::new(),
            user_agent: String::new(),
        };
        let rotated = musubi::member::session::rotate(&mut conn, &app.app, &visit, &session, &Method::Password).await.unwrap();
        assert_eq!(rotated, None, "a password that was being checked meanwhile does not bring it back either");
    }
}
