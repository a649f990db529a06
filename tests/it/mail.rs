//! Mails: queued with their cause, sent once, dropped when late.

use std::time::Duration;

use axum::http::Method;
use musubi::mail::{self, Mail, To};
use serde_json::{Value, json};

use crate::support::{ORIGIN, TestApp, both_engines};

const HANAKO: &str = "hanako@example.jp";

async fn queue(app: &TestApp, email: &str, member_id: Option<&str>, locale: &str, what: &Mail) {
    let mut tx = app.app.db.begin().await.unwrap();
    mail::queue(&mut tx, &app.app, To { email, member_id, locale }, what).await.unwrap();
    tx.commit().await.unwrap();
}

async fn later(app: &TestApp, by: Duration) {
    app.clock.advance(by);
    app.drain().await;
}

fn every_kind() -> Vec<Mail> {
    vec![
        Mail::SignUp { sign_up_id: "s".into() },
        Mail::Reset,
        Mail::PasswordChanged,
        Mail::ChangeEmail,
        Mail::EmailChanged { new_email: "new@example.jp".into() },
        Mail::Code { lineage_id: "l".into() },
        Mail::Linked { link_id: "k".into(), line_name: "はなこ <b> https://evil.example".into() },
        Mail::SessionEnded,
        Mail::AccountDeleted { name: "Hanako".into() },
    ]
}

both_engines! {
    async fn every_mail_says_what_it_is_in_both_languages_and_forms(app) {
        let id = app.member(HANAKO, "Hanako").await;
        for locale in ["en", "ja"] {
            for what in every_kind() {
                for to in [HANAKO, "nobody@example.jp"] {
                    queue(app, to, Some(&id), locale, &what).await;
                }
            }
            app.drain().await;
        }
        let mut subjects = std::collections::BTreeSet::new();
        for mail in [app.mails(HANAKO).await, app.mails("nobody@example.jp").await].concat() {
            let part = |name: &str| mail[name].as_str().unwrap().to_owned();
            let (subject, text, html) = (part("subject"), part("text"), part("html"));
            assert!(subject.contains("Example Company") && subject.len() > 20, "{subject}");
            assert!(part("from").contains("no-reply@example.jp"));
            for form in [&text, &html] {
                assert!(form.len() > 150 && !form.contains("{0}") && !form.contains("{1}"), "{form}");
                assert!(!html.contains("<b>") && !form.contains("https://evil"), "a name is no markup and no link: {form}");
            }
            if let Some(url) = text.lines().find(|line| line.len() > ORIGIN.len() + 1 && line.starts_with("https://")) {
                assert!(url.starts_with(ORIGIN), "{url}");
                assert!(html.contains(&format!("href=\"{url}\"")), "{html}");
            }
            subjects.insert(subject);
        }
        // Eleven texts, for an address that is known or not; each in two languages.
        assert_eq!(subjects.len(), 22, "{subjects:#?}");
    }

    async fn a_mail_that_cannot_leave_is_tried_again(app) {
        let id = app.member(HANAKO, "Hanako").await;
        for fault in [json!({ "status": 451 }), json!({ "cut": "before" })] {
            let mut fault = fault;
            fault["endpoint"] = "SMTP".into();
            app.fault(fault).await;
        }
        queue(app, HANAKO, Some(&id), "en", &Mail::PasswordChanged).await;
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await, Vec::<Value>::new());
        for _ in 0..3 {
            later(app, Duration::from_secs(60)).await;
        }
        assert_eq!(app.mails(HANAKO).await.len(), 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails WHERE state = 'sent'").await, 1);
    }

    async fn a_mail_of_which_the_answer_was_lost_is_sent_again_and_only_the_newest_works(app) {
        app.member(HANAKO, "Hanako").await;
        app.fault(json!({ "endpoint": "SMTP", "cut": "after" })).await;
        queue(app, HANAKO, None, "en", &Mail::Reset).await;
        app.drain().await;
        later(app, Duration::from_secs(60)).await;
        assert_eq!(app.mails(HANAKO).await.len(), 2);
        let live = "SELECT CAST(COUNT(*) AS BIGINT) FROM tokens WHERE voided_at IS NULL AND used_at IS NULL";
        assert_eq!(app.count(live).await, 1);
    }

    /// A refusal that is about us, such as of our password, passes when somebody mends it.
    async fn a_mail_server_that_refuses_us_loses_no_mail(app) {
        let id = app.member(HANAKO, "Hanako").await;
        app.fault(json!({ "endpoint": "SMTP", "status": 535, "count": 3 })).await;
        queue(app, HANAKO, Some(&id), "en", &Mail::PasswordChanged).await;
        for _ in 0..6 {
            later(app, Duration::from_secs(600)).await;
        }
        assert_eq!(app.mails(HANAKO).await.len(), 1);
    }

    async fn a_reset_goes_to_the_address_as_its_owner_wrote_it(app) {
        app.member(HANAKO, "Hanako").await;
        queue(app, "HANAKO@example.jp", None, "en", &Mail::Reset).await;
        app.drain().await;
        let sent = app.sim(Method::GET, "/_sim/mails", Value::Null).await;
        assert_eq!(sent["mails"][0]["to"], HANAKO);
    }

    async fn a_mail_that_the_server_refuses_is_dropped_with_an_audit_row(app) {
        let id = app.member(HANAKO, "Hanako").await;
        app.fault(json!({ "endpoint": "SMTP", "status": 550 })).await;
        queue(app, HANAKO, Some(&id), "en", &Mail::PasswordChanged).await;
        app.drain().await;
        later(app, Duration::from_secs(3600)).await;
        assert_eq!(app.mails(HANAKO).await, Vec::<Value>::new());
        assert_eq!(app.audit().await, ["mail_dropped/refused"]);
    }

    async fn x47_a_reset_that_is_late_is_dropped_with_an_audit_row(app) {
        app.member(HANAKO, "Hanako").await;
        app.fault(json!({ "endpoint": "SMTP", "status": 421, "count": 1000 })).await;
        queue(app, HANAKO, None, "en", &Mail::Reset).await;
        for _ in 0..9 {
            later(app, Duration::from_secs(60)).await;
        }
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails WHERE state = 'waiting'").await, 1);
        app.clock.advance(Duration::from_secs(61));
        app.clear_faults().await;
        later(app, Duration::from_secs(600)).await;
        assert_eq!(app.mails(HANAKO).await, Vec::<Value>::new());
        assert_eq!(app.audit().await, ["mail_dropped/late"]);
    }

    /// The mail server takes the connection and says nothing.
    async fn a_silent_mail_server_holds_up_no_unlink(app) {
        let (mut visitor, _) = app.linked(HANAKO).await;
        app.fault(json!({ "endpoint": "SMTP", "delay_ms": 60_000, "count": 1000 })).await;
        for number in 0..10 {
            queue(app, &format!("{number}@example.jp"), None, "en", &Mail::PasswordChanged).await;
        }
        visitor.unlink().await;
        let stop = tokio_util::sync::CancellationToken::new();
        let working = tokio::spawn(musubi::worker::run(app.app.clone(), stop.clone()));
        let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM unlink_steps WHERE state = 'pending'";
        let ended = async {
            while app.count(open).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails WHERE state = 'sent' AND kind = 'password_changed'").await, 0);
        stop.cancel();
        working.abort();
    }

    async fn a_reset_for_nobody_is_dropped_where_nobody_sees(app) {
        queue(app, "nobody@example.jp", None, "en", &Mail::Reset).await;
        app.drain().await;
        assert_eq!(app.mails("nobody@example.jp").await, Vec::<Value>::new());
        assert_eq!(app.audit().await, Vec::<String>::new());
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails").await, 0, "nor is the address kept");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM tokens").await, 0);
    }

    async fn p14_one_address_gets_three_resets_an_hour(app) {
        app.member(HANAKO, "Hanako").await;
        for _ in 0..100 {
            queue(app, HANAKO, None, "en", &Mail::Reset).await;
        }
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await.len(), 3);
        later(app, Duration::from_secs(3601)).await;
        queue(app, "Hanako@EXAMPLE.jp", None, "en", &Mail::Reset).await;
        app.drain().await;
        let both = app.sim(Method::GET, "/_sim/mails", Value::Null).await;
        assert_eq!(both["mails"].as_array().unwrap().len(), 4);
    }

    async fn s10_no_token_is_in_the_database(app) {
        let id = app.member(HANAKO, "Hanako").await;
        queue(app, HANAKO, Some(&id), "en", &Mail::Reset).await;
        queue(app, HANAKO, Some(&id), "en", &Mail::Code { lineage_id: "l".into() }).await;
        app.drain().await;
        let link = app.mailed_link(HANAKO, "/password/reset").await;
        let token = link.split_once("token=").unwrap().1;
        let code = app.mailed_code(HANAKO).await;
        for row in app.dump(&[]).await {
            assert!(!row.contains(token) && !row.contains(&code) && !row.contains(&code.replace('-', "")), "{row}");
        }
    }

    async fn the_mailbox_shows_a_mail(app) {
        let id = app.member(HANAKO, "Hanako").await;
        queue(app, HANAKO, Some(&id), "en", &Mail::Linked { link_id: "k".into(), line_name: "はなこ".into() }).await;
        app.drain().await;
        let page = app.sim_page("/_sim/mailbox").await;
        assert!(page.contains("a LINE account was linked") && page.contains(HANAKO), "{page}");
        assert!(app.sim_page("/_sim/mailbox/1").await.contains("/_sim/mailbox/1/html"));
        assert!(app.sim_page("/_sim/mailbox/1/html").await.contains("This was not me"));
    }
}
