//! Tickets: somebody links who was handed an address by the company, on any device, without a sign-in; and what goes
//! wrong, or is tried, on the way.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use musubi::{
    link::{
        attempt,
        ticket::{self, Made, Redeemed, Unfit},
    },
    member::session::FRESH,
    web::locale::Locale,
};
use serde_json::{Value, json};

use crate::{
    linking::{at_once, form, links_are_sound, rounds, rows},
    support::{Answer, ORIGIN, PASSWORD, TestApp, Visitor, both_engines, parameter, title},
};

/// On the list of the configuration.
const SHOP: &str = "https://shop.example.jp/linked?state=s%201";
const EMAIL: &str = "hanako@example.jp";

pub async fn create(app: &TestApp, member_id: &str, return_url: Option<&str>) -> Result<Made, Unfit> {
    let mut tx = app.app.db.begin().await.unwrap();
    let new = ticket::New { member_id, provider: "main", return_url, made_by: "key:test" };
    let made = ticket::create(&mut tx, &app.app, &new).await.unwrap();
    tx.commit().await.unwrap();
    made
}

/// A ticket of a new member's.
async fn made(app: &TestApp) -> Made {
    let member_id = app.member(EMAIL, "Hanako Yamada").await;
    create(app, &member_id, Some(SHOP)).await.ok().unwrap()
}

async fn redeem(app: &TestApp, result: &str, providers: &[String]) -> Option<Redeemed> {
    let mut tx = app.app.db.begin().await.unwrap();
    let redeemed = ticket::redeem(&mut tx, app.app.now(), result, providers).await.unwrap();
    tx.commit().await.unwrap();
    redeemed
}

async fn revoke(app: &TestApp, id: &str) -> bool {
    let mut tx = app.app.db.begin().await.unwrap();
    let ticket = ticket::find(&mut tx, id).await.unwrap().unwrap();
    let revoked = ticket::revoke(&mut tx, app.app.now(), &ticket, "key:test").await.unwrap();
    tx.commit().await.unwrap();
    revoked
}

/// Path and query of one of our URLs.
fn path(url: &str) -> &str {
    url.strip_prefix(ORIGIN).unwrap()
}

/// What the ticket's page sends when its button is pressed.
async fn press(visitor: &mut Visitor<'_>, page: &Answer) -> Answer {
    let field = |name| page.field(name).unwrap_or_else(|| panic!("no {name}: {}", page.body));
    let (purpose, provider, return_to) = (field("purpose"), field("provider"), field("return_to"));
    let fresh = page.field("fresh").unwrap_or_default();
    let mut fields = vec![("purpose", &*purpose), ("provider", &*provider), ("return_to", &*return_to)];
    if !fresh.is_empty() {
        fields.push(("fresh", &fresh));
    }
    visitor.post("/line/start", &fields).await
}

/// Opens the ticket and goes to LINE; gives LINE's authorize URL.
async fn open(visitor: &mut Visitor<'_>, url: &str) -> String {
    let page = visitor.get(path(url)).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let answer = press(visitor, &page).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location()
}

/// Comes back from LINE as `user`.
async fn come_back(visitor: &mut Visitor<'_>, url: &str, user: &str) -> Answer {
    let authorize = open(visitor, url).await;
    let back = visitor.at_line(&authorize, user, "consent").await;
    visitor.get(&back).await
}

/// Goes as far as the confirm page; gives the attempt's id.
async fn reach(visitor: &mut Visitor<'_>, url: &str, user: &str) -> String {
    let answer = come_back(visitor, url, user).await;
    let location = answer.location();
    let id = location.strip_prefix("/link/confirm?attempt=");
    id.unwrap_or_else(|| panic!("no confirm page: {} {location} {}", answer.status, answer.body)).to_owned()
}

async fn yes(visitor: &mut Visitor<'_>, attempt: &str) -> Request<Body> {
    form(visitor, "/link/confirm", &[("attempt", attempt), ("decision", "yes"), ("consent", "1:en")]).await
}

async fn watched(app: &TestApp, made: &Made) -> Value {
    let answer = app.visitor().get(&format!("{}/state", path(&made.status_url))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn is_gone(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{} {}", answer.location(), answer.body);
    assert!(answer.body.contains(&title("ticket_gone")) && answer.body.contains("href=\"/t\""), "{}", answer.body);
}

/// Another phone, with its own address.
fn phone(app: &TestApp, number: usize) -> Visitor<'_> {
    Visitor { address: format!("198.51.100.{number}"), ..app.visitor() }
}

both_engines! {
    async fn q01_a_ticket_links_on_another_device(app) {
        let made = made(app).await;
        assert_eq!(watched(app, &made).await, json!({ "state": "waiting" }));
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let page = phone.get(path(&made.url)).await;
        for shown in ["H*** Y***", "h***@example.jp", "Example Company"] {
            assert!(page.body.contains(shown), "{shown}: {}", page.body);
        }
        assert!(!page.body.contains("Hanako") && !page.body.contains(EMAIL), "{}", page.body);
        let attempt = reach(&mut phone, &made.url, &user).await;
        assert_eq!(watched(app, &made).await, json!({ "state": "opened" }));
        let page = phone.get(&format!("/link/confirm?attempt={attempt}")).await;
        for shown in ["H*** Y***", "h***@example.jp", "はなこ", Locale::En.text("ticket.warning_title")] {
            assert!(page.body.contains(shown), "{shown}: {}", page.body);
        }
        assert!(!page.body.contains("Hanako"), "{}", page.body);
        assert_eq!(rows!(app, "links"), 0, "nothing before the yes");

        let answer = phone.confirm(&attempt).await;
        let back = answer.location();
        assert!(back.starts_with("https://shop.example.jp/linked?state=s%201&result="), "{back} {}", answer.body);
        assert_eq!(watched(app, &made).await, json!({ "state": "linked" }));
        // Nobody was signed in by it.
        assert!(phone.session_cookie().is_none() && rows!(app, "sessions") == 0);
        assert!(phone.get("/account").await.location().starts_with("/sign-in"));
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!(rows!(app, "links WHERE source = 'ticket' AND permission = 'given'"), 1);
        assert_eq!(rows!(app, "consents"), 1);
        let mails = app.mails(EMAIL).await;
        assert!(mails.len() == 1 && mails[0]["text"].as_str().unwrap().contains("/link/undo?token="), "{mails:?}");

        let told = redeem(app, &parameter(&back, "result"), &[]).await.unwrap();
        assert_eq!((told.provider.as_str(), told.ticket_id.as_str()), ("main", made.id.as_str()));
        let audit = app.audit().await;
        assert_eq!(audit, ["ticket_made/", "ticket_opened/", "linked/", "ticket_used/", "ticket_redeemed/"]);
    }

    async fn q01_a_ticket_without_a_way_back_ends_on_a_page(app) {
        let member_id = app.member(EMAIL, "Hanako Yamada").await;
        let made = create(app, &member_id, None).await.ok().unwrap();
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let here = format!("/link/confirm?attempt={attempt}");
        assert_eq!(phone.confirm(&attempt).await.location(), here);
        let page = phone.get(&here).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.body.contains(Locale::En.text("ticket_done.title")), "{}", page.body);
        assert_eq!(rows!(app, "tickets WHERE result_hash IS NOT NULL"), 0);
    }

    /// The answer to the yes may get lost, or come twice: it is the same each time.
    async fn q02_a_yes_twice_is_one_link_and_one_answer(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let fields = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:en")];
        let mut requests = Vec::new();
        for _ in 0..8 {
            requests.push(form(&mut phone, "/link/confirm", &fields).await);
        }
        let answers = at_once(app, requests).await;
        let back = answers[0].location();
        assert!(back.starts_with("https://shop.example.jp/"), "{back}");
        assert!(answers.iter().all(|answer| answer.location() == back));
        assert_eq!(phone.confirm(&attempt).await.location(), back);
        let page = phone.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert!(page.body.contains(&back.replace('&', "&#38;")), "{}", page.body);
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!((rows!(app, "links"), rows!(app, "audit WHERE action = 'ticket_used'")), (1, 1));
    }

    async fn q02_a_ticket_is_used_once(app) {
        let made = made(app).await;
        let (hers, other) = (app.line_user("はなこ").await, app.line_user("Mallory").await);
        let (mut one, mut two, mut three) = (phone(app, 1), phone(app, 2), phone(app, 3));
        let late = reach(&mut two, &made.url, &other).await;
        let authorize = open(&mut three, &made.url).await;
        let page = app.visitor().get(path(&made.url)).await;
        let attempt = reach(&mut one, &made.url, &hers).await;
        assert!(one.confirm(&attempt).await.location().starts_with("https://shop"));

        let before = app.dump(&["audit", "attempts", "grants", "jobs"]).await;
        is_gone(&two.get(&format!("/link/confirm?attempt={late}")).await);
        is_gone(&two.confirm(&late).await);
        let back = three.at_line(&authorize, &other, "consent").await;
        let calls = app.calls().await.len();
        is_gone(&three.get(&back).await);
        assert_eq!(app.calls().await.len(), calls, "LINE is not asked about a ticket that is over");
        is_gone(&app.visitor().get(path(&made.url)).await);
        is_gone(&press(&mut app.visitor(), &page).await);
        assert_eq!(app.dump(&["audit", "attempts", "grants", "jobs"]).await, before);
        app.clock.advance(attempt::LIFE);
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!(rows!(app, "grants WHERE ended_at IS NULL"), 1, "what the late ones were given is given back");
    }

    async fn q03_of_two_phones_at_once_one_links(app) {
        for round in 0..rounds() {
            let email = format!("hanako{round}@example.jp");
            let member_id = app.member(&email, "Hanako").await;
            let made = create(app, &member_id, Some(SHOP)).await.ok().unwrap();
            let (mut one, mut two) = (phone(app, 2 * round), phone(app, 2 * round + 1));
            let (hers, other) = (app.line_user("はなこ").await, app.line_user("Mallory").await);
            let (first, second) = (reach(&mut one, &made.url, &hers).await, reach(&mut two, &made.url, &other).await);
            let requests = vec![yes(&mut one, &first).await, yes(&mut two, &second).await];
            let mut answers = at_once(app, requests).await;
            answers.sort_by_key(|answer| answer.status);
            assert!(answers[0].location().starts_with("https://shop"), "{}", answers[0].body);
            is_gone(&answers[1]);
        }
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!(rows!(app, "links") as usize, rounds());
    }

    /// Ten minutes from its making, at every step.
    async fn q04_a_ticket_lives_ten_minutes(app) {
        let member_id = app.member(EMAIL, "Hanako Yamada").await;
        let user = app.line_user("はなこ").await;
        let almost = ticket::LIFE - Duration::from_secs(1);
        for step in 0..4 {
            let made = create(app, &member_id, Some(SHOP)).await.ok().unwrap();
            let mut phone = phone(app, step);
            let page = phone.get(path(&made.url)).await;
            if step > 0 {
                // The later steps are begun late, so that it is the ticket's end and not the attempt's that counts.
                app.clock.advance(almost);
            }
            let (mut back, mut attempt) = (String::new(), String::new());
            if step > 0 {
                let authorize = open(&mut phone, &made.url).await;
                back = phone.at_line(&authorize, &user, "consent").await;
            }
            if step > 1 {
                attempt = phone.get(&back).await.location().replace("/link/confirm?attempt=", "");
            }
            if step == 0 {
                app.clock.advance(almost);
                assert_eq!(phone.get(path(&made.url)).await.status, StatusCode::OK);
            }
            app.clock.advance(Duration::from_secs(1));
            match step {
                0 => {
                    is_gone(&phone.get(path(&made.url)).await);
                    is_gone(&press(&mut phone, &page).await);
                    assert!(app.audit().await.contains(&"ticket_refused/start".to_owned()));
                }
                1 => is_gone(&phone.get(&back).await),
                2 => is_gone(&phone.get(&format!("/link/confirm?attempt={attempt}")).await),
                _ => is_gone(&phone.confirm(&attempt).await),
            }
            assert_eq!(watched(app, &made).await, json!({ "state": "over" }));
        }
        app.clock.advance(attempt::LIFE);
        app.drain().await;
        assert_eq!((rows!(app, "links"), rows!(app, "grants WHERE ended_at IS NULL")), (0, 0));
    }

    async fn q05_a_revoked_ticket_links_nobody(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let page = phone.get(path(&made.url)).await;
        let attempt = reach(&mut phone, &made.url, &user).await;
        assert!(revoke(app, &made.id).await);
        assert!(!revoke(app, &made.id).await, "once");
        is_gone(&phone.confirm(&attempt).await);
        is_gone(&phone.get(path(&made.url)).await);
        is_gone(&press(&mut phone, &page).await);
        assert_eq!(watched(app, &made).await, json!({ "state": "over" }));
        app.clock.advance(attempt::LIFE);
        app.drain().await;
        assert_eq!((rows!(app, "links"), rows!(app, "grants WHERE ended_at IS NULL")), (0, 0));
        assert_eq!(rows!(app, "audit WHERE action = 'ticket_revoked'"), 1);
    }

    /// Whoever proved the account before, or took it over, has begun nothing that outlives this.
    async fn q05_a_ticket_ends_with_the_member_as_they_were(app) {
        let changes = [
            "UPDATE members SET disabled_at = created_at",
            "UPDATE members SET deleted_at = created_at, disabled_at = created_at",
            "UPDATE members SET password_changed_at = created_at + 3600000",
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let member_id = app.member(&format!("hanako{number}@example.jp"), "Hanako").await;
            let made = create(app, &member_id, Some(SHOP)).await.ok().unwrap();
            let user = app.line_user("はなこ").await;
            let mut phone = phone(app, number);
            let attempt = reach(&mut phone, &made.url, &user).await;
            app.execute(change).await;
            is_gone(&phone.confirm(&attempt).await);
            is_gone(&phone.get(path(&made.url)).await);
            assert_eq!(watched(app, &made).await, json!({ "state": "over" }), "{change}");
            app.execute("UPDATE members SET disabled_at = NULL, deleted_at = NULL, password_changed_at = created_at").await;
        }
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn q06_a_typed_code_leads_to_its_ticket(app) {
        let made = made(app).await;
        let (first, last) = made.code.split_once('-').unwrap();
        assert!(first.len() == 4 && last.len() == 4, "{}", made.code);
        for typed in [made.code.clone(), made.code.to_lowercase(), format!(" {first} {last} "), format!("{first}{last}")] {
            let answer = app.visitor().post("/t", &[("code", &typed)]).await;
            assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, path(&made.url)), "{typed}");
        }
        // Many may type theirs behind one address.
        for _ in 0..15 {
            assert_eq!(app.visitor().post("/t", &[("code", &made.code)]).await.status, StatusCode::SEE_OTHER);
        }
        assert!(revoke(app, &made.id).await);
        let answer = app.visitor().post("/t", &[("code", &made.code)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.body.contains(Locale::En.text("ticket_code.wrong").split('’').next().unwrap()), "{}", answer.body);
    }

    async fn q06_codes_are_guessed_in_vain(app) {
        let made = made(app).await;
        let mut guesser = phone(app, 1);
        for guess in 0..10 {
            let answer = guesser.post("/t", &[("code", &format!("AAAA-AAA{guess}"))]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{guess}");
            // A code of one's own buys no further guesses.
            if guess < 9 {
                assert_eq!(guesser.post("/t", &[("code", &made.code)]).await.status, StatusCode::SEE_OTHER, "{guess}");
            }
        }
        let before = app.dump(&[]).await;
        let answer = guesser.post("/t", &[("code", &made.code)]).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        assert_eq!(app.dump(&[]).await, before, "a rest costs nothing");
        assert_eq!(phone(app, 2).post("/t", &[("code", &made.code)]).await.status, StatusCode::SEE_OTHER, "others go on");
        assert_eq!(rows!(app, "audit WHERE action = 'ticket_refused' AND reason = 'code'"), 10);
        for garbage in ["", "花子", "\0", "' OR 1=1", &"A".repeat(5000)] {
            let mut other = phone(app, 3);
            assert_eq!(other.post("/t", &[("code", garbage)]).await.status, StatusCode::NOT_FOUND);
        }
        app.clock.advance(Duration::from_secs(61));
        assert_eq!(guesser.post("/t", &[("code", &made.code)]).await.status, StatusCode::SEE_OTHER, "after a rest");
    }

    /// Mail programs, chats and scanners open every link they see.
    async fn q07_looking_uses_nothing_up(app) {
        let made = made(app).await;
        let before = app.dump(&[]).await;
        let (url, watch) = (path(&made.url).to_owned(), path(&made.status_url).to_owned());
        for at in [url.clone(), watch.clone(), format!("{watch}/state"), "/t".to_owned()] {
            for method in [Method::GET, Method::HEAD, Method::GET] {
                let mut visitor = app.visitor();
                let request = visitor.request(method.clone(), &at).body(Body::empty()).unwrap();
                let answer = visitor.send(request).await;
                assert_eq!(answer.status, StatusCode::OK, "{method} {at}");
            }
            let mut visitor = app.visitor();
            let request = visitor.request(Method::POST, &at).body(Body::empty()).unwrap();
            assert!(visitor.send(request).await.status.is_client_error(), "{at}");
        }
        for wrong in ["", "x", "watch", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "%00", "..%2f..%2faccount"] {
            is_gone_or_not_found(&app.visitor().get(&format!("/t/{wrong}")).await);
            is_gone_or_not_found(&app.visitor().get(&format!("/t/watch/{wrong}")).await);
        }
        assert_eq!(app.dump(&[]).await, before);
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        assert!(phone.confirm(&attempt).await.location().starts_with("https://shop"));
    }

    async fn q08_a_ticket_that_does_not_fit_is_not_made(app) {
        let member_id = app.member(EMAIL, "Hanako").await;
        let before = app.dump(&[]).await;
        for url in ["https://evil.example/", "http://shop.example.jp/", "//shop.example.jp", "https://shop.example.jp@evil.example", "/account"] {
            assert_eq!(create(app, &member_id, Some(url)).await.err(), Some(Unfit::ReturnUrl), "{url}");
        }
        assert_eq!(create(app, "nobody", None).await.err(), Some(Unfit::Member));
        let mut tx = app.app.db.begin().await.unwrap();
        let new = ticket::New { member_id: &member_id, provider: "other", return_url: None, made_by: "key:test" };
        assert_eq!(ticket::create(&mut tx, &app.app, &new).await.unwrap().err(), Some(Unfit::Provider));
        drop(tx);
        assert_eq!(app.dump(&[]).await, before);
        let (_, _) = app.linked("taro@example.jp").await;
        let linked: String = {
            let mut conn = app.app.db.conn().await.unwrap();
            sqlx::query_scalar("SELECT member_id FROM links").fetch_one(&mut *conn).await.unwrap()
        };
        assert_eq!(create(app, &linked, None).await.err(), Some(Unfit::AlreadyLinked));
        app.execute("UPDATE members SET disabled_at = created_at").await;
        assert_eq!(create(app, &member_id, None).await.err(), Some(Unfit::Member));
    }

    async fn q09_a_result_is_redeemed_once(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let result = parameter(&phone.confirm(&attempt).await.location(), "result");
        for wrong in ["", "x", &made.id, &"A".repeat(43), path(&made.url).strip_prefix("/t/").unwrap()] {
            assert_eq!(redeem(app, wrong, &[]).await, None, "{wrong}");
        }
        assert_eq!(redeem(app, &result, &["other".to_owned()]).await, None, "a key of another provider");
        let tries = (0..6).map(|_| redeem(app, &result, &[]));
        let mut told = Vec::new();
        for one in tries {
            told.extend(one.await);
        }
        assert_eq!(told.len(), 1, "once");
        assert_eq!(rows!(app, "audit WHERE action = 'ticket_redeemed'"), 1);

        app.execute("UPDATE tickets SET redeemed_at = NULL").await;
        app.clock.advance(ticket::RESULT_LIFE);
        assert_eq!(redeem(app, &result, &[]).await, None, "too late");
    }

    /// LINE may open another browser than the one it was begun in.
    async fn q10_a_return_in_another_browser_starts_afresh_with_the_ticket(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let (mut began, mut opened) = (phone(app, 1), phone(app, 2));
        let authorize = open(&mut began, &made.url).await;
        let back = began.at_line(&authorize, &user, "consent").await;
        let answer = opened.get(&back).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body.contains(&title("line_cookies")), "{}", answer.body);
        assert_eq!(answer.field("purpose").as_deref(), Some("ticket"));
        assert_eq!(rows!(app, "links"), 0);
        let answer = press(&mut opened, &answer).await;
        let authorize = answer.location();
        assert!(authorize.contains("disable_auto_login=true"), "{authorize}");
        let back = opened.at_line(&authorize, &user, "consent").await;
        let attempt = opened.get(&back).await.location().replace("/link/confirm?attempt=", "");
        assert!(opened.confirm(&attempt).await.location().starts_with("https://shop"));

        // LINE's auto login comes back with a state that is nobody's: the browser's own ticket is started afresh.
        let member_id = app.member("taro@example.jp", "Taro").await;
        let made = create(app, &member_id, None).await.ok().unwrap();
        let mut browser = phone(app, 3);
        open(&mut browser, &made.url).await;
        let answer = browser.get("/line/callback/main?code=x&state=nobodys").await;
        assert_eq!(answer.field("return_to").as_deref(), Some(path(&made.url)));
    }

    async fn q11_a_conflict_is_explained_and_leaves_the_ticket(app) {
        let (_, taken) = app.linked("taro@example.jp").await;
        let made = made(app).await;
        let free = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let told = app.phone(&taken).await["messages"].as_array().unwrap().len();
        let answer = come_back(&mut phone, &made.url, &taken).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("ticket_conflict_line")) && !answer.body.contains("taro"), "{}", answer.body);
        app.drain().await;
        assert_eq!(app.phone(&taken).await["messages"].as_array().unwrap().len(), told + 1, "the present owner is told");
        let authorize = press(&mut phone, &answer).await.location();
        assert!(authorize.contains("disable_auto_login=true"), "{authorize}");
        let back = phone.at_line(&authorize, &free, "consent").await;
        let attempt = phone.get(&back).await.location().replace("/link/confirm?attempt=", "");
        // Taken between the page and the yes.
        let mut rival = phone_of(app, &free).await;
        let answer = phone.confirm(&attempt).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("ticket_conflict_line")), "{}", answer.body);
        assert_eq!(rival.unlink().await.status, StatusCode::SEE_OTHER);
        app.drain().await;
        let attempt = reach(&mut phone, &made.url, &free).await;
        assert!(phone.confirm(&attempt).await.location().starts_with("https://shop"));
        app.drain().await;
        links_are_sound(app).await;
    }

    async fn q11_a_member_who_has_a_link_keeps_it(app) {
        let made = made(app).await;
        let (hers, other) = (app.line_user("はなこ").await, app.line_user("Mallory").await);
        let (mut one, mut two) = (phone(app, 1), phone(app, 2));
        let waiting = reach(&mut two, &made.url, &other).await;
        let mut hanako = app.signed_in(EMAIL).await;
        assert_eq!(hanako.link(&hers).await.location(), "/account?done=linked");
        let answer = come_back(&mut one, &made.url, &other).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("link_conflict_member")), "{}", answer.body);
        let answer = come_back(&mut one, &made.url, &hers).await;
        assert!(answer.body.contains(&title("already_linked")), "{}", answer.body);
        let answer = two.confirm(&waiting).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("link_conflict_member")), "{}", answer.body);
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!(rows!(app, "links WHERE source = 'ticket'"), 0);
        assert_eq!(watched(app, &made).await, json!({ "state": "opened" }), "it may be used after an unlink");
    }

    /// A ticket is possession of an address, in the browser that began; it is no session, and a session is none.
    async fn q12_a_ticket_is_no_session_and_a_session_no_ticket(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let here = format!("/link/confirm?attempt={attempt}");
        // Another browser, also the member's own.
        assert!(app.visitor().get(&here).await.location().starts_with("/sign-in?"));
        assert!(app.visitor().confirm(&attempt).await.location().starts_with("/sign-in?"));
        let mut hanako = app.signed_in(EMAIL).await;
        assert_eq!(hanako.get(&here).await.status, StatusCode::NOT_FOUND);
        assert_eq!(hanako.confirm(&attempt).await.status, StatusCode::NOT_FOUND);
        // A session's attempt is not answered without it.
        let other = app.line_user("はなこ2").await;
        let of_session = hanako.reach_confirm(&other).await;
        let session = hanako.cookies.remove("__Host-musubi_session").unwrap();
        assert!(hanako.confirm(&of_session).await.location().starts_with("/sign-in?"));
        hanako.cookies.insert("__Host-musubi_session".into(), session);
        // A ticket starts what it is for, and nothing else.
        let at = path(&made.url);
        for (purpose, provider, return_to) in [
            ("ticket", "main", "/account"),
            ("ticket", "main", "/t/"),
            ("ticket", "main", path(&made.status_url)),
            ("ticket", "main", &made.url),
        ] {
            let fields = [("purpose", purpose), ("provider", provider), ("return_to", return_to)];
            is_gone(&app.visitor().post("/line/start", &fields).await);
        }
        let fields = [("purpose", "ticket"), ("provider", "other"), ("return_to", at)];
        assert_eq!(app.visitor().post("/line/start", &fields).await.status, StatusCode::NOT_FOUND);
        let fields = [("purpose", "link"), ("provider", "main"), ("return_to", at)];
        assert!(app.visitor().post("/line/start", &fields).await.location().starts_with("/sign-in?"));
        assert_eq!(rows!(app, "links"), 0);
        // Whoever is signed in here is told that the ticket is another's, and stays who they are.
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let page = taro.get(at).await;
        assert!(page.body.contains(Locale::En.text("ticket.other")), "{}", page.body);
        assert!(!hanako.get(at).await.body.contains(Locale::En.text("ticket.other")));
        app.clock.advance(FRESH - Duration::from_secs(30));
        let attempt = reach(&mut taro, &made.url, &user).await;
        let before = taro.session_cookie().cloned();
        assert!(taro.confirm(&attempt).await.location().starts_with("https://shop"));
        assert_eq!(taro.session_cookie().cloned(), before);
        assert_eq!(rows!(app, "links l JOIN members m ON m.id = l.member_id WHERE m.email = 'hanako@example.jp'"), 1);
    }

    async fn q12_a_no_leads_back_to_the_ticket(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let no = [("attempt", attempt.as_str()), ("decision", "no"), ("consent", "1:en")];
        assert_eq!(phone.post("/link/confirm", &no).await.location(), path(&made.url));
        let answer = phone.confirm(&attempt).await;
        assert!(answer.body.contains(&title("ticket_confirm_gone")), "{}", answer.body);
        app.drain().await;
        assert_eq!((rows!(app, "links"), rows!(app, "grants WHERE ended_at IS NULL")), (0, 0));
        let attempt = reach(&mut phone, &made.url, &user).await;
        assert!(phone.confirm(&attempt).await.location().starts_with("https://shop"));
    }

    async fn q13_watching_tells_nothing_and_opens_nothing(app) {
        let made = made(app).await;
        let watch = path(&made.status_url).strip_prefix("/t/watch/").unwrap();
        is_gone(&app.visitor().get(&format!("/t/{watch}")).await);
        let token = path(&made.url).strip_prefix("/t/").unwrap();
        is_gone(&app.visitor().get(&format!("/t/watch/{token}")).await);
        let page = app.visitor().get(path(&made.status_url)).await;
        assert!(page.body.contains("http-equiv=\"refresh\"") && page.body.contains("watch.js"), "{}", page.body);
        let policy = |answer: &Answer| answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy(&page).contains("connect-src 'self'") && policy(&page).contains("default-src 'none'"));
        let other = policy(&app.visitor().get("/t").await);
        assert!(!other.contains("connect-src"), "{other}");
        assert!(other.contains("form-action 'self' http://127.0.0.1") && other.contains(" https://shop.example.jp;"), "{other}");
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        phone.confirm(&attempt).await;
        let page = app.visitor().get(path(&made.status_url)).await;
        assert!(page.body.contains(Locale::En.text("ticket_watch.linked_title")), "{}", page.body);
        for secret in ["はなこ", "Hanako", "H***", "h***", token, "shop.example.jp", "http-equiv"] {
            assert!(!page.body.contains(secret), "{secret}: {}", page.body);
        }
    }

    /// What a copy of the database shows opens nothing, and neither does a form token of a cookie that somebody chose.
    async fn q14_a_tickets_secrets_are_kept_as_hashes(app) {
        let made = made(app).await;
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let result = parameter(&phone.confirm(&attempt).await.location(), "result");
        let token = path(&made.url).strip_prefix("/t/").unwrap().to_owned();
        let watch = path(&made.status_url).strip_prefix("/t/watch/").unwrap().to_owned();
        let rows = app.dump(&[]).await;
        for secret in [&token, &watch, &result, &made.code, &made.code.replace('-', "")] {
            assert!(!rows.iter().any(|row| row.contains(secret.as_str())), "{secret}");
        }
        for (what, secret) in [("url", &token), ("watch", &watch), ("result", &result)] {
            for text in [format!("ticket:{what}:{}", made.id), format!("{what}:{}", made.id)] {
                let mut attacker = app.visitor();
                attacker.cookies.insert("__Host-musubi_form".into(), text);
                let page = attacker.get("/").await;
                assert_ne!(page.field("csrf").as_ref(), Some(secret));
            }
        }
    }

    async fn a_member_without_an_address_sees_their_number(app) {
        let member_id = app.member(EMAIL, "花子").await;
        app.execute("UPDATE members SET email = '', email_key = 'none', external_id = 'M-000123'").await;
        let made = create(app, &member_id, None).await.ok().unwrap();
        let user = app.line_user("はなこ").await;
        let mut phone = phone(app, 1);
        let page = phone.get(path(&made.url)).await;
        assert!(page.body.contains("花***") && page.body.contains("***23") && !page.body.contains("M-0001"), "{}", page.body);
        let attempt = reach(&mut phone, &made.url, &user).await;
        let page = phone.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert!(page.body.contains("***23"), "{}", page.body);
        phone.confirm(&attempt).await;
        app.drain().await;
        links_are_sound(app).await;
        assert_eq!(rows!(app, "mails"), 0);
    }

    async fn what_the_code_shows_is_the_address(app) {
        let made = made(app).await;
        assert!(made.qr_svg.contains("<svg") && !made.qr_svg.contains("<script"), "{}", made.qr_svg);
        assert_eq!(read_qr(&made.qr_svg), made.url);
    }

    async fn tickets_are_told_of_and_end_with_the_account(app) {
        let made = made(app).await;
        let mut hanako = app.signed_in(EMAIL).await;
        let copy = hanako.post("/account/data", &[("password", PASSWORD)]).await;
        let copy: Value = serde_json::from_str(&copy.body).unwrap();
        assert_eq!(copy["link_tickets"][0]["provider"], "main");
        assert_eq!(copy["link_tickets"][0]["used_at"], Value::Null);
        let answer = hanako.post("/account/delete", &[("password", PASSWORD), ("word", Locale::En.text("delete.word"))]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        is_gone(&app.visitor().get(path(&made.url)).await);
        app.drain().await;
        app.clock.advance(Duration::from_secs(600));
        app.drain().await;
        assert_eq!(rows!(app, "tickets"), 0);
    }

    async fn tickets_are_kept_for_thirty_days(app) {
        made(app).await;
        let day = Duration::from_secs(24 * 3600);
        app.clock.advance(ticket::LIFE + 30 * day - Duration::from_secs(60));
        musubi::worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "tickets"), 1);
        app.clock.advance(Duration::from_secs(61));
        ticket::prune(&mut app.app.db.conn().await.unwrap(), app.app.now()).await.unwrap();
        assert_eq!(rows!(app, "tickets"), 0);
    }
}

fn is_gone_or_not_found(answer: &Answer) {
    assert!(
        matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST),
        "{} {}",
        answer.status,
        answer.body
    );
}

/// Somebody else's browser, whose account has just been linked to this LINE user.
async fn phone_of<'a>(app: &'a TestApp, user: &str) -> Visitor<'a> {
    app.member("rival@example.jp", "Rival").await;
    let mut rival = app.signed_in("rival@example.jp").await;
    assert_eq!(rival.link(user).await.location(), "/account?done=linked");
    rival
}

/// Reads a QR code out of its SVG, as a camera would: dark squares at `M x y`, each of one side.
fn read_qr(svg: &str) -> String {
    let number =
        |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap();
    let side = number(svg.split("width=\"").nth(1).unwrap());
    let path = svg.rsplit(" d=\"").next().unwrap().split('"').next().unwrap();
    let mut dark = vec![false; side * side];
    for square in path.split('M').skip(1) {
        let (x, rest) = square.split_once(' ').unwrap();
        let (y, rest) = rest.split_once('h').unwrap();
        let (x, y, width) = (number(x), number(y), number(rest));
        for row in y..y + width {
            dark[row * side + x..row * side + x + width].fill(true);
        }
    }
    let mut picture =
        rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if dark[y * side + x] { 0 } else { 255 });
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1, "one code");
    grids[0].decode().unwrap().1
}
