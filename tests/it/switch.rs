//! People change browsers on the way, go back, press twice, and open old addresses: each gets a page that leads on.

use std::time::Duration;

use axum::http::StatusCode;

use crate::{
    linking::{at_once, links_are_sound, page, rows},
    support::{Answer, ORIGIN, PASSWORD, TestApp, Visitor, both_engines, parameter, title},
    ticket,
};

const MINUTE: Duration = Duration::from_secs(60);
const HANAKO: &str = "hanako@example.jp";
const LINKED: &str = "/account?done=linked";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";

async fn hanako(app: &TestApp) -> Visitor<'_> {
    app.member(HANAKO, "Hanako").await;
    app.signed_in(HANAKO).await
}

/// The address to which LINE sends whoever wants to link.
async fn back_from_line(visitor: &mut Visitor<'_>, purpose: &str, user: &str) -> String {
    let url = visitor.start_line(purpose, "/account").await;
    visitor.at_line(&url, user, "consent").await
}

/// Presses the button of a page of ours that leads to LINE.
async fn press(visitor: &mut Visitor<'_>, page: &Answer) -> Answer {
    let fields = ["purpose", "provider", "return_to", "fresh"].map(|name| (name, page.field(name).unwrap_or_default()));
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    visitor.post("/line/start", &fields).await
}

fn is_page(answer: &Answer, key: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.location());
    assert!(answer.body.contains(&title(key)), "{key}: {}", answer.body);
}

both_engines! {
    /// The person signs in where LINE came back, and LINE's auto login, which led there, is left out from then on.
    async fn l04_a_link_that_came_back_elsewhere_goes_on_there_after_a_sign_in(app) {
        let mut began = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let back = back_from_line(&mut began, "link", &user).await;
        let mut other = app.visitor();
        other.get("/").await;
        let answer = other.get(&back).await;
        is_page(&answer, "line_elsewhere");
        let answer = press(&mut other, &answer).await;
        assert_eq!(answer.location(), "/sign-in?return_to=%2Faccount%3Ffresh%3D1");
        let fields = [("email", HANAKO), ("password", PASSWORD), ("return_to", "/account?fresh=1")];
        let account = other.post("/sign-in", &fields).await.location();
        assert_eq!(account, "/account?fresh=1");
        let answer = other.get(&account).await;
        let url = press(&mut other, &answer).await.location();
        assert_eq!(parameter(&url, "disable_auto_login"), "true");
        let back = other.at_line(&url, &user, "consent").await;
        let confirm = other.get(&back).await.location();
        assert_eq!(other.confirm(&parameter(&confirm, "attempt")).await.location(), LINKED);
        // Without the word the account page tries LINE's auto login as ever.
        assert_eq!(other.get("/account").await.field("fresh"), None);

        // The same where the password was given too long ago.
        app.clock.advance(11 * MINUTE);
        let form = [("purpose", "link"), ("provider", "main"), ("fresh", "1")];
        let answer = began.post("/line/start", &form).await;
        assert!(answer.body.contains("return_to=%2Faccount%3Ffresh%3D1"), "{} {}", answer.status, answer.body);
    }

    /// A browser that is signed in has nothing to start in order to sign in, whatever came back to it.
    async fn l04_who_is_signed_in_is_led_on_and_not_to_line(app) {
        let (mut linked, user) = app.linked(HANAKO).await;
        let mut began = app.visitor();
        let back = back_from_line(&mut began, "sign_in", &user).await;
        for path in [back.as_str(), "/line/callback/main?code=x&state=of-nobody", "/line/callback/main"] {
            let answer = linked.get(path).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert!(answer.body.contains("<a class=\"button\" href=\"/account\">Go on</a>"), "{}", answer.body);
            assert_eq!(answer.field("fresh"), None);
        }
        assert_eq!(linked.get("/account").await.status, StatusCode::OK, "the session is kept");
    }

    /// A browser without any cookie of ours may be another one, or one that keeps none; only the next form tells.
    async fn l04_a_browser_without_cookies_is_told_what_may_be_the_reason(app) {
        let (_, user) = app.linked(HANAKO).await;
        let back = back_from_line(&mut app.visitor(), "sign_in", &user).await;
        let mut other = app.visitor();
        let answer = other.get(&back).await;
        is_page(&answer, "line_cookies");
        assert!(other.session_cookie().is_none());
        let token = answer.field("csrf").unwrap();
        let form = [("purpose", "sign_in"), ("provider", "main"), ("fresh", "1"), ("csrf", &*token)];
        let headers = [("sec-fetch-site", "same-origin"), ("origin", ORIGIN)];
        // It keeps none: the form comes without.
        let answer = app.visitor().post_raw("/line/start", &form, &headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.body.contains(&title("cookies")), "{}", answer.body);
        assert_eq!(rows!(app, "attempts WHERE used_at IS NULL"), 1, "nothing was started");
        // It keeps them: on to LINE, and no word of cookies.
        let answer = other.post_raw("/line/start", &form, &headers).await;
        assert_eq!(parameter(&answer.location(), "disable_auto_login"), "true");
        // A form of a page that is too old is told apart from that.
        let answer = other.post_raw("/line/start", &form[..3], &headers).await;
        assert!(answer.body.contains(&title("csrf")), "{}", answer.body);
    }

    /// From a bookmark or the history.
    async fn l05_an_old_address_says_that_it_is_old_whoever_opens_it(app) {
        let (mut linked, user) = app.linked(HANAKO).await;
        let mut began = app.visitor();
        let unused = back_from_line(&mut began, "sign_in", &user).await;
        let used = back_from_line(&mut linked, "sign_in", &user).await;
        assert_eq!(linked.get(&used).await.location(), "/account");
        app.clock.advance(2 * 60 * MINUTE);
        let mut stranger = app.visitor();
        // The cookie of the attempt is gone by then.
        began.cookies.remove("__Host-musubi_attempt");
        for visitor in [&mut began, &mut stranger] {
            let answer = visitor.get(&unused).await;
            is_page(&answer, "line_expired");
            assert_eq!(answer.field("fresh").as_deref(), Some("1"));
        }
        for (path, key) in [(&unused, "line_expired"), (&used, "line_used")] {
            let answer = linked.get(path).await;
            is_page(&answer, key);
            assert!(answer.body.contains("href=\"/account\">Go on</a>"), "{}", answer.body);
        }
        assert_eq!(linked.get("/account").await.status, StatusCode::OK, "the session is kept");
    }

    /// "Back" to the page that asks, and to LINE, which then sends here once more.
    async fn l03_back_after_the_link_leads_to_the_link(app) {
        let mut visitor = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let url = visitor.start_line("link", "/account").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        let confirm = visitor.get(&back).await.location();
        assert_eq!(visitor.get(&back).await.location(), confirm, "before the yes it is asked again");
        assert_eq!(visitor.confirm(&parameter(&confirm, "attempt")).await.location(), LINKED);
        assert_eq!(visitor.get(&confirm).await.location(), LINKED);
        let again = visitor.at_line(&url, &user, "consent").await;
        assert_ne!(again, back, "another code");
        for path in [&back, &again] {
            assert_eq!(&visitor.get(path).await.location(), &confirm);
        }
        // Elsewhere it says no more than that it was used.
        is_page(&app.visitor().get(&back).await, "line_used");
        assert_eq!(visitor.get("/sign-in").await.status, StatusCode::OK);
        assert!(!app.audit().await.iter().any(|row| row == "line_refused/already_linked"));
        assert_eq!(rows!(app, "links"), 1);
        links_are_sound(app).await;
    }

    /// Whoever knows an attempt's id learns nothing by it, in another browser.
    async fn k08_a_yes_sent_again_from_elsewhere_tells_nothing(app) {
        let mut visitor = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let attempt = visitor.reach_confirm(&user).await;
        assert_eq!(visitor.confirm(&attempt).await.location(), LINKED);
        assert_eq!(app.visitor().confirm(&attempt).await.location(), "/sign-in?return_to=%2Faccount");
        visitor.cookies.remove("__Host-musubi_session");
        assert_eq!(visitor.confirm(&attempt).await.location(), LINKED, "in its own browser it is known");
        assert!(visitor.session_cookie().is_none(), "and signs nobody in");
    }

    /// A no, a conflict and a lapse are not taken up again by going back.
    async fn l03_back_after_a_no_is_no_yes(app) {
        let mut visitor = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let back = back_from_line(&mut visitor, "link", &user).await;
        let confirm = visitor.get(&back).await.location();
        let no = [("attempt", &*parameter(&confirm, "attempt")), ("decision", "no"), ("consent", "1:en")];
        assert_eq!(visitor.post("/link/confirm", &no).await.location(), "/account");
        is_page(&visitor.get(&back).await, "line_used");
        assert_eq!(visitor.get(&confirm).await.status, StatusCode::NOT_FOUND);
        assert_eq!(rows!(app, "links"), 0);
    }

    /// LINE's app and the browser may both open the address: one of them is asked, and all lead there.
    async fn l23_a_link_whose_callback_is_opened_many_times_at_once(app) {
        let mut visitor = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let back = back_from_line(&mut visitor, "link", &user).await;
        let calls = app.calls_to("/oauth2/v2.1/token").await.len();
        let stranger = app.visitor();
        let mut requests: Vec<_> = (0..10).map(|_| page(&visitor, &back)).collect();
        requests.extend((0..10).map(|_| page(&stranger, &back)));
        let answers = at_once(app, requests).await;
        assert_eq!(app.calls_to("/oauth2/v2.1/token").await.len(), calls + 1, "one exchange");
        let (own, others) = answers.split_at(10);
        let confirm = own.iter().map(Answer::location).find(|path| !path.is_empty()).unwrap();
        for answer in own {
            let leads_there = answer.location() == confirm || answer.body.contains(&format!("href=\"{confirm}\""));
            assert!(leads_there, "{} {}", answer.location(), answer.body);
        }
        let known = ["line_cookies", "line_used"].map(title);
        assert!(others.iter().all(|answer| known.iter().any(|title| answer.body.contains(title))), "{others:?}");
        assert_eq!(visitor.confirm(&parameter(&confirm, "attempt")).await.location(), LINKED);
        assert_eq!(rows!(app, "links"), 1);
    }

    /// Two presses make two attempts; either answer of LINE's will do, and the other changes nothing.
    async fn l24_a_start_that_was_pressed_twice(app) {
        let mut visitor = hanako(app).await;
        let user = app.line_user("はなこ").await;
        let (one, two) =
            (back_from_line(&mut visitor, "link", &user).await, back_from_line(&mut visitor, "link", &user).await);
        let confirm = visitor.get(&two).await.location();
        assert_eq!(visitor.confirm(&parameter(&confirm, "attempt")).await.location(), LINKED);
        let answer = visitor.get(&one).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("already_linked")), "{}", answer.body);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        links_are_sound(app).await;
    }

    /// LINE may not come back into another app. LINE's own browser, and any usual one, needs no word of that.
    async fn a_page_in_another_apps_browser_says_how_to_leave_it(app) {
        let member_id = app.member(HANAKO, "Hanako").await;
        let made = ticket::create(app, &member_id, None).await.ok().unwrap();
        let ticket_path = made.url.strip_prefix(ORIGIN).unwrap().to_owned();
        let android = "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) AppleWebKit/537.36 (KHTML, like Gecko) \
            Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36";
        for (user_agent, app_name, leaves) in [
            (format!("{IPHONE} Mobile/15E148 Instagram 300.0.0.0 (iPhone15,3; iOS 18_6)"), Some("Instagram"), false),
            (format!("{android} [FB_IAB/FB4A;FBAV/500.0.0.0;]"), Some("Facebook"), true),
            (android.to_owned(), Some("another app"), true),
            (format!("{IPHONE} Mobile/15E148 Safari Line/15.19.0"), None, false),
            (format!("{android} Line/15.19.0/IAB"), None, false),
            (format!("{IPHONE} Version/18.6 Mobile/15E148 Safari/604.1"), None, false),
            ("<script>Instagram".to_owned(), Some("Instagram"), false),
        ] {
            let mut visitor = Visitor { user_agent: user_agent.clone().leak(), ..app.visitor() };
            let sign_in = visitor.get("/sign-in?return_to=%2Faccount").await;
            visitor.post("/sign-in", &[("email", HANAKO), ("password", PASSWORD)]).await;
            let account = visitor.get("/account").await;
            let ticket = visitor.get(&ticket_path).await;
            let pages = [(sign_in, "/sign-in?return_to=%2Faccount"), (account, "/account"), (ticket, &*ticket_path)];
            for (answer, path) in pages {
                let said = format!("{user_agent}: {}", answer.body);
                assert_eq!(answer.status, StatusCode::OK);
                assert_eq!(answer.body.contains("This page is open inside"), app_name.is_some(), "{said}");
                assert!(app_name.is_none_or(|name| answer.body.contains(&format!("inside \u{2068}{name}\u{2069}"))), "{said}");
                let href = format!("href=\"intent://members.example.jp{path}#Intent;scheme=https;");
                assert_eq!(answer.body.contains(&href), leaves, "{said}");
                assert!(!answer.body.contains("<script>Instagram"), "{said}");
            }
        }
    }
}
