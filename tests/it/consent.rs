//! What people agreed to: the evidence, and a new text that asks again.

use axum::http::StatusCode;
use musubi::{doctor, serve};
use tokio_util::sync::CancellationToken;

use crate::{
    linking::{at_once, form, rows},
    support::{TestApp, both_engines},
};

const YES: [(&str, &str); 2] = [("provider", "main"), ("consent", "1:en")];

/// Makes all consents so far those to a former version, as after a change of the configuration.
async fn former(app: &TestApp) {
    app.execute("UPDATE links SET consent_version = '0'").await;
    app.execute("UPDATE consents SET version = '0'").await;
    app.execute("UPDATE consent_texts SET version = '0', text = 'A former text.'").await;
}

both_engines! {
    async fn each_yes_is_evidence(app) {
        app.linked("hanako@example.jp").await;
        let evidence = rows!(app, "consents c JOIN links l ON l.id = c.link_id AND l.consent_version = c.version
            AND l.consent_locale = c.locale JOIN consent_texts t ON t.version = c.version AND t.locale = c.locale
            WHERE c.version = '1' AND c.locale = 'en' AND c.accepted_at = l.created_at AND t.text <> ''");
        assert_eq!((evidence, rows!(app, "consents")), (1, 1));
    }

    /// LINE's guidelines: what comes from LINE, what for, that the link can be ended, and that LY Corporation hears.
    async fn what_lines_guidelines_ask_for_is_told(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        former(app).await;
        let asked = hanako.get("/account").await.body;
        app.member("taro@example.jp", "Taro").await;
        let (mut taro, user) = (app.signed_in("taro@example.jp").await, app.line_user("たろう").await);
        let attempt = taro.reach_confirm(&user).await;
        let confirm = taro.get(&format!("/link/confirm?attempt={attempt}")).await.body;
        for page in [asked, confirm] {
            for words in ["your user ID, your display name", "e-mail address that you let LINE pass on", "to send you messages",
                "You can unlink at any time on your account page", "LY Corporation is notified", "Version "] {
                assert!(page.contains(words), "{words}: {page}");
            }
        }
        let unlink = hanako.get("/account/unlink?provider=main").await.body;
        assert!(unlink.contains("LY Corporation is notified"));
    }

    async fn a_new_version_asks_at_the_next_visit(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        assert!(!hanako.get("/account").await.body.contains("Our text has changed"));
        former(app).await;
        // Who comes by LINE lands there too.
        let mut phone = app.visitor();
        assert_eq!(phone.sign_in_by_line(&user).await.location(), "/account");
        let page = phone.get("/account").await.body;
        let (asks, profile) = (page.find("Our text has changed").unwrap(), page.find("id=\"profile\"").unwrap());
        assert!(asks < profile, "at the top");
        for words in ["I agree that my LINE account is linked", "I agree</button>", "Unlink instead", "value=\"1:en\"",
            "/account/unlink?provider=main"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        app.clock.advance(std::time::Duration::from_secs(60));
        let audit = app.audit().await.len();
        assert_eq!(hanako.post("/account/consent", &YES).await.location(), "/account?done=consented");
        let page = hanako.get("/account?done=consented").await.body;
        assert!(page.contains("Your agreement is recorded") && !page.contains("Our text has changed"));
        assert_eq!(app.audit().await[audit..], ["consented/"]);
        assert_eq!(rows!(app, "links WHERE consent_version = '1' AND consent_locale = 'en'"), 1);
        assert_eq!(rows!(app, "consents"), 2, "the former evidence stays");
        assert_eq!(rows!(app, "consents c JOIN links l ON l.id = c.link_id WHERE c.version = '1' AND c.accepted_at > l.created_at"), 1);
        assert_eq!(rows!(app, "consent_texts"), 2);
        // Again: nothing more.
        let before = app.dump(&[]).await;
        assert_eq!(hanako.post("/account/consent", &YES).await.location(), "/account");
        assert_eq!(app.dump(&[]).await, before);
    }

    /// Until the answer all goes on: sign-in and messages.
    async fn until_the_answer_all_goes_on(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        former(app).await;
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let url = taro.start_line("link", "/account").await;
        let back = taro.at_line(&url, &user, "consent").await;
        assert_eq!(taro.get(&back).await.status, StatusCode::CONFLICT);
        app.drain().await;
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 2);
    }

    async fn a_yes_counts_for_the_text_that_was_shown_and_for_ones_own_link(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        former(app).await;
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let before = app.dump(&[]).await;
        for consent in ["0:en", "2:en", "1:fr", "1", ""] {
            let answer = hanako.post("/account/consent", &[("provider", "main"), ("consent", consent)]).await;
            assert_eq!(answer.location(), "/account", "{consent}");
        }
        for provider in ["", "other", "\0"] {
            let answer = hanako.post("/account/consent", &[("provider", provider), ("consent", "1:en")]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{provider:?}");
        }
        assert_eq!(taro.post("/account/consent", &YES).await.location(), "/account", "there is nothing of his");
        assert_eq!(app.dump(&[]).await, before);
        // A suspended link asks when it is resumed.
        app.execute("UPDATE links SET suspended_at = created_at").await;
        assert!(!hanako.get("/account").await.body.contains("Our text has changed"));
        assert_eq!(hanako.post("/account/consent", &YES).await.location(), "/account");
        assert_eq!(rows!(app, "consents"), 1);
    }

    async fn many_yeses_at_one_moment_are_one(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        former(app).await;
        let mut requests = Vec::new();
        for _ in 0..12 {
            requests.push(form(&mut hanako, "/account/consent", &YES).await);
        }
        for answer in at_once(app, requests).await {
            assert!(["/account", "/account?done=consented"].contains(&answer.location().as_str()), "{answer:?}");
        }
        assert_eq!((rows!(app, "consents WHERE version = '1'"), rows!(app, "audit WHERE action = 'consented'")), (1, 1));
    }

    /// The evidence means what people read: another text under the same version is refused, at the start and by the doctor.
    async fn another_text_under_the_same_version_is_refused(app) {
        let start = || async {
            let stop = CancellationToken::new();
            stop.cancel();
            serve::run_until(&app.app, serve::Role::Web, None, stop).await.map_err(|error| error.to_string())
        };
        app.execute("INSERT INTO consent_texts (version, locale, text, created_at) VALUES ('1', 'en', 'another', 1)").await;
        app.execute("INSERT INTO consent_texts (version, locale, text, created_at) VALUES ('0', 'ja', 'old', 1)").await;
        let told: Vec<String> = doctor::examine(&app.app).await.iter().map(ToString::to_string).collect();
        let told = told.iter().find(|line| line.contains("consent texts")).unwrap();
        assert!(told.starts_with('✗') && told.contains("consent.text.en") && !told.contains("consent.text.ja"), "{told}");
        // A node that started before: nobody agrees to anything, and nothing is linked.
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let attempt = hanako.reach_confirm(&user).await;
        assert_eq!(hanako.confirm(&attempt).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!((rows!(app, "links"), rows!(app, "consents")), (0, 0));
        let why = start().await.unwrap_err();
        assert!(why.contains("consent.text.en") && why.contains("new version"), "{why}");
    }

    async fn the_same_text_starts(app) {
        app.linked("hanako@example.jp").await;
        assert_eq!(rows!(app, "consent_texts"), 1);
        let stop = CancellationToken::new();
        stop.cancel();
        serve::run_until(&app.app, serve::Role::Web, None, stop).await.unwrap();
    }
}
