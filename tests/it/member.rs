//! Accounts: sign-up, sign-in, sign-out, and the sessions between.

use std::time::Duration;

use axum::http::StatusCode;
use musubi::{
    member::session::Method,
    web::{locale::Locale, visit::Visit},
};

use crate::support::{PASSWORD, both_engines};

const FIELDS: [(&str, &str); 3] = [("email", "Hanako@Example.jp"), ("name", "Hanako"), ("password", PASSWORD)];

both_engines! {
    async fn a_person_signs_up_out_and_in(app) {
        let mut visitor = app.visitor();
        let answer = visitor.post("/sign-up", &FIELDS).await;
        assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, "/account?done=signed_up"));
        let cookie = answer.headers.get_all("set-cookie").iter().find(|c| c.to_str().unwrap().contains("session")).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.starts_with("__Host-musubi_session="), "{cookie}");
        for flag in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(flag), "{cookie} lacks {flag}");
        }
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
        app.member("taken@example.jp", "Taken").await;
        let before = app.dump(&[]).await;
        for (field, value, words) in [
            ("email", "taken@example.jp", "already"),
            ("email", "nonsense", "e-mail"),
            ("name", "  ", "name"),
            ("password", "1234567", "8"),
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
