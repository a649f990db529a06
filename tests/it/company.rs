//! Members as the company says them: made, changed, listed, without an address, and gone.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use musubi::{
    config::MemberSource,
    db::Db,
    member::{
        company::{self, By, Change, Filter, Friendship, Kept, Refusal, Said, Wanted},
        disabling::{self, Named, Outcome},
    },
    message::{self, Audience, Order, What, topic},
    privacy,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::support::{Engine, PASSWORD, TestApp, Visitor, both_engines, parameter};

const BY: By<'static> = By { what: "test", id: "1" };

/// What is said as JSON, looked at.
pub fn wanted(id: &str, said: &Value) -> Wanted {
    let text = |name: &str| said.get(name).map(|value| value.as_str().map(str::to_owned));
    let said = Said {
        email: text("email"),
        name: text("name"),
        language: text("language"),
        time_zone: text("time_zone"),
        quiet_hours: text("quiet_hours"),
        attributes: said["attributes"].as_object().cloned().unwrap_or_default(),
        tags: said["tags"].as_array().map(|tags| tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()),
    };
    company::check(id, said).unwrap()
}

async fn try_upsert(app: &TestApp, id: &str, said: Value) -> Result<Kept, Refusal> {
    let mut tx = app.app.db.begin().await.unwrap();
    let kept = company::upsert(&mut tx, &app.app, &[wanted(id, &said)], BY).await.unwrap().remove(0);
    tx.commit().await.unwrap();
    kept
}

/// Makes or changes a member; gives our id.
pub async fn upsert(app: &TestApp, id: &str, said: Value) -> String {
    try_upsert(app, id, said).await.unwrap().member_id
}

async fn details(app: &TestApp, id: &str) -> company::Details {
    let mut conn = app.app.db.conn().await.unwrap();
    let id = company::find_id(&mut conn, id).await.unwrap().unwrap();
    company::details(&mut conn, &app.app.db, &[id]).await.unwrap().remove(0)
}

async fn listed(app: &TestApp, filter: &Filter) -> Vec<String> {
    let mut conn = app.app.db.conn().await.unwrap();
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = company::list(&mut conn, &app.app.db, filter, &after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { return found };
        after.clone_from(&last.id);
        found.extend(page.into_iter().map(|member| member.external_id.unwrap_or_default()));
    }
}

/// A member without password and address, in a browser that LINE signed in.
async fn signed_in_by_line<'a>(app: &'a TestApp, id: &str) -> (Visitor<'a>, String) {
    // They linked while they had both.
    let email = format!("{id}@example.jp");
    upsert(app, id, json!({ "email": email, "name": "はなこ" })).await;
    let mut browser = app.visitor();
    browser.post("/password/forgot", &[("email", &email)]).await;
    app.drain().await;
    let token = parameter(&app.mailed_link(&email, "/password/reset").await, "token");
    browser.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
    let mut browser = app.signed_in(&email).await;
    let user = app.line_user("はなこ").await;
    assert_eq!(browser.link(&user).await.location(), "/account?done=linked");
    app.execute("UPDATE members SET password_hash = NULL").await;
    upsert(app, id, json!({ "email": null })).await;
    app.drain().await;
    let mut browser = app.visitor();
    assert_eq!(browser.sign_in_by_line(&user).await.location(), "/account");
    (browser, user)
}

both_engines! {
    async fn a_member_is_made_once_and_changed_by_what_is_said(app) {
        let said = json!({
            "email": "Hanako@Example.jp", "name": "花子", "language": "ja", "time_zone": "Asia/Tokyo",
            "attributes": { "tier": "gold", "points": 12, "vip": true }, "tags": ["a", "b"],
        });
        let made = try_upsert(app, "1001", said.clone()).await.unwrap();
        assert_eq!(made.change, Change::Created);
        let same = try_upsert(app, "1001", said).await.unwrap();
        assert_eq!(same, Kept { change: Change::None, ..made.clone() });
        assert_eq!(try_upsert(app, "1001", json!({})).await.unwrap().change, Change::None);

        let other = json!({ "name": "はなこ", "attributes": { "points": 13, "vip": null, "since": "2020" }, "tags": ["b", "c"] });
        assert_eq!(try_upsert(app, "1001", other).await.unwrap(), Kept { change: Change::Updated, ..made });
        let seen = details(app, "1001").await;
        assert_eq!(seen.email.as_deref(), Some("Hanako@Example.jp"));
        assert_eq!((seen.name.as_str(), seen.language.as_deref()), ("はなこ", Some("ja")));
        assert_eq!((seen.time_zone.as_deref(), seen.source.as_str()), (Some("Asia/Tokyo"), "company"));
        assert_eq!(Value::Object(seen.attributes), json!({ "tier": "gold", "points": 13, "since": "2020" }));
        assert_eq!(seen.tags, ["b", "c"]);

        upsert(app, "1001", json!({ "language": null, "time_zone": null, "tags": [], "name": null })).await;
        let seen = details(app, "1001").await;
        assert_eq!((seen.language, seen.time_zone, seen.tags.len()), (None, None, 0));
        assert_eq!(seen.name, "1001", "who has no name goes by the company's id");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members").await, 1);
        assert_eq!(app.audit().await, ["member_created/", "member_updated/", "member_updated/"]);
        let told = app.dump(&[]).await.into_iter().find(|row| row.contains("time_zone") && row.contains("audit:")).unwrap();
        assert!(told.contains(r#"by\":\"test"#) && told.contains(r#"by_id\":\"1"#), "{told}");
    }

    async fn an_address_is_one_members(app) {
        app.member("owner@example.jp", "Owner").await;
        upsert(app, "1", json!({ "email": "one@example.jp", "tags": ["a"] })).await;
        let before = app.dump(&[]).await;
        for (id, said) in [
            ("2", json!({ "email": "OWNER@example.jp", "tags": ["a"] })),
            ("2", json!({ "email": "one@example.jp" })),
            ("1", json!({ "email": "owner@example.jp", "name": "Other", "tags": ["b"] })),
        ] {
            assert_eq!(try_upsert(app, id, said).await, Err(Refusal::EmailTaken));
            assert_eq!(app.dump(&[]).await, before);
        }
        // Several at a time: the others go their way.
        let mut tx = app.app.db.begin().await.unwrap();
        let list = [
            wanted("1", &json!({ "email": "owner@example.jp" })),
            wanted("2", &json!({ "email": "two@example.jp" })),
            wanted("3", &json!({ "email": "Owner@example.jp" })),
        ];
        let kept = company::upsert(&mut tx, &app.app, &list, BY).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((kept[0].clone(), kept[2].clone()), (Err(Refusal::EmailTaken), Err(Refusal::EmailTaken)));
        assert_eq!(kept[1].as_ref().unwrap().change, Change::Created);
        assert_eq!(details(app, "1").await.email.as_deref(), Some("one@example.jp"));
        assert_eq!(details(app, "2").await.email.as_deref(), Some("two@example.jp"));
    }

    async fn a_member_has_a_hundred_attributes_at_most(app) {
        let many = |from: usize, to: usize| (from..to).map(|n| (format!("a{n}"), json!(n))).collect::<serde_json::Map<_, _>>();
        upsert(app, "1", json!({ "attributes": many(0, 100) })).await;
        let before = app.dump(&[]).await;
        assert_eq!(try_upsert(app, "1", json!({ "attributes": many(99, 101) })).await, Err(Refusal::TooManyAttributes));
        assert_eq!(app.dump(&[]).await, before);
        upsert(app, "1", json!({ "attributes": { "a0": null, "a100": 1 } })).await;
        assert_eq!(details(app, "1").await.attributes.len(), 100);
    }

    async fn many_at_once_make_one_member(app) {
        let running: Vec<_> = (0..8).map(|number| {
            let app = app.app.clone();
            tokio::spawn(async move {
                let mut tx = app.db.begin().await.unwrap();
                let said = json!({ "email": "one@example.jp", "name": format!("N{number}"), "tags": [format!("t{number}")] });
                let kept = company::upsert(&mut tx, &app, &[wanted("1", &said)], BY).await.unwrap().remove(0).unwrap();
                tx.commit().await.unwrap();
                kept
            })
        }).collect();
        let mut kept = Vec::new();
        for one in running {
            kept.push(one.await.unwrap());
        }
        let ids: BTreeSet<_> = kept.iter().map(|kept| &kept.member_id).collect();
        assert_eq!(ids.len(), 1, "{kept:?}");
        assert_eq!(kept.iter().filter(|kept| kept.change == Change::Created).count(), 1, "{kept:?}");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members").await, 1);
        let seen = details(app, "1").await;
        assert_eq!(seen.tags, [seen.name.replace('N', "t")], "one of them whole");
        assert_eq!(app.audit().await.len(), 8);
    }

    async fn another_address_voids_what_was_mailed_and_is_told_to_the_former(app) {
        upsert(app, "1", json!({ "email": "one@example.jp" })).await;
        let mut browser = app.visitor();
        browser.post("/password/forgot", &[("email", "one@example.jp")]).await;
        app.drain().await;
        let reset = app.mailed_link("one@example.jp", "/password/reset").await;
        upsert(app, "1", json!({ "email": "two@example.jp" })).await;
        app.drain().await;
        assert_eq!(browser.get(&reset).await.status, StatusCode::BAD_REQUEST);
        let told = app.mails("one@example.jp").await.pop().unwrap();
        assert!(told["subject"].as_str().unwrap().contains("your e-mail address was changed"), "{told}");
        // What a person may have chosen is no link in a mail.
        assert!(told["text"].as_str().unwrap().contains("t***＠example․jp"), "{told}");
        assert!(app.mails("two@example.jp").await.is_empty());

        // Its other spelling is the same one.
        upsert(app, "1", json!({ "email": "Two@example.jp" })).await;
        upsert(app, "1", json!({ "email": null })).await;
        app.drain().await;
        let told = app.mails("Two@example.jp").await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0]["subject"].as_str().unwrap().contains("your e-mail address was removed"), "{told:?}");
        assert_eq!(details(app, "1").await.email, None);
    }

    /// The reset mail gives them their first password.
    async fn a_company_member_sets_a_password_by_mail_and_only_then_has_one(app) {
        upsert(app, "1", json!({ "email": "one@example.jp", "name": "One" })).await;
        let mut browser = app.visitor();
        let answer = browser.post("/sign-in", &[("email", "one@example.jp"), ("password", "")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        browser.post("/password/forgot", &[("email", "one@example.jp")]).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("one@example.jp", "/password/reset").await, "token");
        let answer = browser.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
        assert_eq!(answer.location(), "/sign-in?done=reset");
        app.signed_in("one@example.jp").await;
    }

    async fn members_without_an_address_are_many_and_nobody_signs_in_as_one(app) {
        let ids = [upsert(app, "1", json!({})).await, upsert(app, "2", json!({ "email": null })).await];
        app.member("owner@example.jp", "Owner").await;
        let password = "UPDATE members SET password_hash = (SELECT password_hash FROM members WHERE email_key = 'owner@example.jp')";
        app.execute(password).await;
        for id in &ids {
            let key = format!("id:{id}");
            for email in ["", " ", &key, "id", "@"] {
                let mut browser = app.visitor();
                let answer = browser.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{email:?}");
                // Nor by somebody else's session.
                let mut browser = app.signed_in("owner@example.jp").await;
                let answer = browser.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{email:?}");
                let answer = browser.post("/password/forgot", &[("email", email)]).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{email:?}");
            }
        }
        app.drain().await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails").await, 0);
    }

    /// Every page of the account is right for a member whom nothing can be mailed to.
    async fn the_pages_of_a_member_without_an_address(app) {
        let (mut browser, user) = signed_in_by_line(app, "7").await;
        let mails = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails").await;
        let page = browser.get("/account").await;
        assert!(page.body.contains("There is none") && page.body.contains("はなこ"), "{}", page.body);
        for path in ["/account/unlink", "/account/delete", "/account/data", "/account/email", "/password/change"] {
            let page = browser.get(path).await;
            assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
            let at = page.body.split("href=\"/sign-in?").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let at = format!("/sign-in?{}", at.replace("&#38;", "&"));
            let page = browser.get(&at).await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains("neither a password nor an e-mail address"), "{path}: {}", page.body);
            assert!(!page.body.contains("action=\"/account/code\"") && !page.body.contains("mail a code"), "{}", page.body);
        }
        assert_eq!(browser.post("/account/code", &[]).await.status, StatusCode::SEE_OTHER);
        for path in ["/account/sessions", "/account/history"] {
            assert_eq!(browser.get(path).await.status, StatusCode::OK, "{path}");
        }
        // In the chat they are called by their name, and can end the link, though it is their only way in.
        app.does(&user, "follow", json!({})).await;
        app.say(&user, "status").await;
        app.drain().await;
        let chat = app.phone(&user).await.to_string();
        assert!(chat.contains("account はなこ"), "{chat}");
        app.say(&user, "unlink").await;
        app.drain().await;
        let asked = app.phone(&user).await.to_string();
        let data = asked.split("\"data\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        app.does(&user, "postback", json!({ "data": data })).await;
        app.drain().await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM mails").await, mails);
    }

    /// With a password but no address any more, they are asked for it all the same.
    async fn a_member_without_an_address_proves_it_by_the_password(app) {
        let (mut browser, _) = signed_in_by_line(app, "7").await;
        app.member("owner@example.jp", "Owner").await;
        app.execute("UPDATE members SET password_hash = (SELECT password_hash FROM members WHERE email_key = 'owner@example.jp')").await;
        let page = browser.get("/sign-in?reauth=1").await;
        assert!(page.body.contains("name=\"email\" value=\"\"") && !page.body.contains("type=\"email\""), "{}", page.body);
        let answer = browser.post("/sign-in", &[("email", ""), ("password", "wrong wrong wrong")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let answer = browser.post("/sign-in", &[("email", ""), ("password", PASSWORD), ("return_to", "/account/email")]).await;
        assert_eq!(answer.location(), "/account/email");
        let page = browser.get("/account/email").await;
        assert!(page.body.contains("There is none"), "{}", page.body);
        let answer = browser.post("/account/data", &[("password", PASSWORD)]).await;
        let copy: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((&copy["account"]["email"], &copy["account"]["external_id"]), (&Value::Null, &json!("7")));
        // And gets one.
        browser.post("/account/email", &[("email", "new@example.jp"), ("password", PASSWORD)]).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("new@example.jp", "/account/email/confirm").await, "token");
        let answer = browser.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(answer.location(), "/account?done=email_changed");
        assert_eq!(details(app, "7").await.email.as_deref(), Some("new@example.jp"));
    }

    async fn the_copy_holds_what_the_company_says(app) {
        let id = upsert(app, "1", json!({
            "email": "one@example.jp", "name": "One", "time_zone": "Asia/Bangkok",
            "attributes": { "tier": "gold", "points": 3 }, "tags": ["a"],
        })).await;
        let mut tx = app.app.db.begin().await.unwrap();
        topic::replace(&mut tx, &app.app.db, app.app.now(), &id, &["news".to_owned(), "ads".to_owned()]).await.unwrap();
        assert!(!topic::replace(&mut tx, &app.app.db, app.app.now(), &id, &["ads".to_owned(), "news".to_owned()]).await.unwrap());
        topic::replace(&mut tx, &app.app.db, app.app.now(), &id, &["news".to_owned()]).await.unwrap();
        tx.commit().await.unwrap();
        app.member("owner@example.jp", "Owner").await;
        app.execute("UPDATE members SET password_hash = (SELECT password_hash FROM members WHERE email_key = 'owner@example.jp')").await;
        let mut browser = app.signed_in("one@example.jp").await;
        let copy: Value = serde_json::from_str(&browser.post("/account/data", &[("password", PASSWORD)]).await.body).unwrap();
        let account = &copy["account"];
        assert_eq!(account["attributes"], json!({ "tier": "gold", "points": 3 }));
        assert_eq!((&account["tags"], &account["unwanted_topics"]), (&json!(["a"]), &json!(["news"])));
        assert_eq!((&account["time_zone"], &account["source"]), (&json!("Asia/Bangkok"), &json!("company")));
        let actions: Vec<_> = copy["events"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
        assert_eq!(&actions[..4], ["member_created", "topic_opted_out", "topic_opted_out", "topic_opted_in"]);
    }

    async fn a_deleted_member_leaves_nothing_and_their_id_is_free(app) {
        let (mut browser, _) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1'").await;
        let id = upsert(app, "1", json!({
            "name": "Hanako Secret", "time_zone": "Asia/Tokyo", "tags": ["secret-tag"], "attributes": { "tier": "secret-tier" },
        })).await;
        assert!(!privacy::delete::by_company(&app.app, "2", BY).await.unwrap());
        assert!(privacy::delete::by_company(&app.app, "1", BY).await.unwrap());
        assert_eq!(browser.get("/account").await.status, StatusCode::SEE_OTHER);
        app.drain().await;
        // Once what LINE must still be told is over.
        for _ in 0..2 {
            app.clock.advance(std::time::Duration::from_secs(3600));
            app.drain().await;
        }
        let left = app.dump(&[]).await.join("\n");
        for word in ["hanako@example.jp", "Hanako Secret", "secret-tag", "secret-tier", "Asia/Tokyo"] {
            assert!(!left.contains(word), "{word}: {left}");
        }
        assert!(app.audit().await.contains(&"erased/".to_owned()));
        assert!(!privacy::delete::by_company(&app.app, "1", BY).await.unwrap());
        let other = upsert(app, "1", json!({ "email": "hanako@example.jp" })).await;
        assert_ne!(other, id);
    }

    async fn a_disabled_member_can_be_changed_enabled_and_deleted(app) {
        upsert(app, "1", json!({ "email": "one@example.jp" })).await;
        assert_eq!(disabling::cut_off(&app.app, Named::ExternalId("1"), BY).await.unwrap(), Outcome::Changed { sessions: 0 });
        assert_eq!(disabling::cut_off(&app.app, Named::ExternalId("1"), BY).await.unwrap(), Outcome::AsBefore);
        assert_eq!(disabling::cut_off(&app.app, Named::ExternalId("2"), BY).await.unwrap(), Outcome::Unknown);
        assert_eq!(disabling::cut_off(&app.app, Named::ExternalId("\u{0}"), BY).await.unwrap(), Outcome::Unknown);
        assert_eq!(try_upsert(app, "1", json!({ "tags": ["a"] })).await.unwrap().change, Change::Updated);
        assert!(details(app, "1").await.disabled_at.is_some());
        assert_eq!(disabling::let_in(&app.app, Named::ExternalId("1"), BY).await.unwrap(), Outcome::Changed { sessions: 0 });
        disabling::cut_off(&app.app, Named::ExternalId("1"), BY).await.unwrap();
        assert!(privacy::delete::by_company(&app.app, "1", BY).await.unwrap());
        assert_eq!(disabling::let_in(&app.app, Named::ExternalId("1"), BY).await.unwrap(), Outcome::Unknown);
        assert!(app.mails("one@example.jp").await.is_empty());
        app.drain().await;
        assert_eq!(app.mails("one@example.jp").await.len(), 1, "the last mail");
    }

    async fn members_are_listed_by_what_holds_for_them(app) {
        for (id, tags, attributes) in [
            ("a", json!(["x"]), json!({ "tier": "gold", "points": 12 })),
            ("b", json!(["x", "y"]), json!({ "tier": "gold", "points": "12" })),
            ("c", json!(["x"]), json!({ "tier": "silver", "vip": true })),
            ("d", json!([]), json!({})),
            ("e", json!(["x"]), json!({ "tier": "gold" })),
        ] {
            upsert(app, id, json!({ "tags": tags, "attributes": attributes })).await;
        }
        // Linked: a (friend), b (no friend), c (unknown), e in another provider.
        for (id, provider, friend) in [("a", "main", Some("yes")), ("b", "main", Some("no")), ("c", "main", None), ("e", "other", None)] {
            link(&app.app.db, id, provider, friend).await;
        }
        let attribute = |name: &str, value: &str| Filter { attribute: Some((name.into(), value.into())), ..Filter::default() };
        let tag = |tag: &str| Filter { tag: Some(tag.into()), ..Filter::default() };
        let friend = |friend: &str| Filter {
            friend: Some(Friendship { provider: "main".into(), channel: "main".into(), friend: friend.into() }),
            ..Filter::default()
        };
        let linked = |provider: &str| Filter { linked: Some(provider.into()), ..Filter::default() };
        for (filter, expected) in [
            (Filter::default(), vec!["a", "b", "c", "d", "e"]),
            (tag("x"), vec!["a", "b", "c", "e"]),
            (tag("z"), vec![]),
            (tag("' OR 1=1 --"), vec![]),
            (attribute("tier", "gold"), vec!["a", "b", "e"]),
            (attribute("points", "12"), vec!["a", "b"]),
            (attribute("vip", "true"), vec!["c"]),
            (attribute("vip", "false"), vec![]),
            (linked("main"), vec!["a", "b", "c"]),
            (linked("other"), vec!["e"]),
            (friend("yes"), vec!["a"]),
            (friend("no"), vec!["b"]),
            (friend("unknown"), vec!["c"]),
            (Filter { tag: Some("x".into()), linked: Some("main".into()), ..attribute("tier", "gold") }, vec!["a", "b"]),
            (Filter { tag: Some("y".into()), ..friend("no") }, vec!["b"]),
            (Filter { tag: Some("y".into()), ..friend("yes") }, vec![]),
            (Filter { linked: Some("other".into()), ..friend("yes") }, vec![]),
        ] {
            assert_eq!(listed(app, &filter).await, expected, "{filter:?}");
        }
        privacy::delete::by_company(&app.app, "b", BY).await.unwrap();
        assert_eq!(listed(app, &tag("x")).await, ["a", "c", "e"]);
        assert_eq!(listed(app, &linked("main")).await, ["a", "c"]);
    }

    async fn lists_of_members_go_by_index(app) {
        app.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO members (id, external_id, email, email_key, name, source, created_at)
             SELECT 'm' || CAST(1000000 + i AS TEXT), 'c' || i, '', 'id:' || i, 'N', 'company', 1 FROM n",
        ).await;
        for statement in [
            "INSERT INTO member_tags (member_id, tag) SELECT id, 'gold' FROM members",
            "INSERT INTO member_attributes (member_id, name, kind, value) SELECT id, 'tier', 'text', 'gold' FROM members",
            "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at) SELECT id, 'main', id, '', 0, 0 FROM members",
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at, permission)
             SELECT id, 'main', id, id, 'web', '1', 'ja', 1, 'none' FROM members",
            "INSERT INTO friends (line_user_id, channel, friend, changed_at) SELECT id, 'main', 'yes', 1 FROM members",
        ] {
            app.execute(statement).await;
        }
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
        let (head, column) = if app.engine == Engine::Sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
        let asked = ["NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"];
        for (place, statement) in company::STATEMENTS.iter().enumerate() {
            let filters = match place {
                0 => vec![asked],
                1 => vec![["NULL", "NULL", "NULL", "NULL", "NULL", "'tier'", "'gold'"], ["'main'", "'main'", "'main'", "'yes'", "'gold'", "'tier'", "'gold'"]],
                2 => vec![["NULL", "NULL", "NULL", "NULL", "'gold'", "NULL", "NULL"], ["'main'", "'main'", "'main'", "'no'", "'gold'", "NULL", "NULL"]],
                _ => vec![["'main'", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"], ["'main'", "'main'", "'main'", "'no'", "NULL", "NULL", "NULL"]],
            };
            for filter in filters {
                let mut text = (*statement).to_owned();
                let values = [&["'m1010000'", "101"][..], &filter].concat();
                for (number, value) in values.iter().enumerate().rev() {
                    text = text.replace(&format!("${}", number + 1), value);
                }
                let rows = sqlx::query(AssertSqlSafe(format!("{head} {text}"))).fetch_all(&mut *conn).await.unwrap();
                let plan = rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n");
                for bad in ["SCAN ", "Seq Scan", "Sort", "TEMP B-TREE"] {
                    assert!(!plan.contains(bad), "{bad}: {text}\n{plan}");
                }
            }
        }
    }
}

/// A link of the company's member to somebody at LINE.
async fn link(db: &Db, external_id: &str, provider: &str, friend: Option<&str>) {
    let mut conn = db.conn().await.unwrap();
    sqlx::query("INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at) VALUES ($1, $2, $1, '', 0, 0)")
        .bind(external_id).bind(provider).execute(&mut *conn).await.unwrap();
    sqlx::query(
        "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at, permission)
         SELECT $1, $2, $1, m.id, 'web', '1', 'ja', 1, 'none' FROM members m WHERE m.external_id = $1",
    ).bind(external_id).bind(provider).execute(&mut *conn).await.unwrap();
    if let Some(friend) = friend {
        sqlx::query("INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ($1, 'main', $2, 1)")
            .bind(external_id)
            .bind(friend)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

/// Where members come from the company alone, nobody signs up, not even by what was begun before.
#[tokio::test]
async fn a_companys_installation_offers_no_sign_up() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::start_with(engine, |config| config.members.source = MemberSource::Company).await;
        let mut browser = app.visitor();
        for path in ["/sign-up", "/sign-up/confirm?token=x"] {
            assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        let fields = [("email", "a@example.jp"), ("name", "A"), ("password", PASSWORD)];
        assert_eq!(browser.post("/sign-up", &fields).await.status, StatusCode::NOT_FOUND);
        assert_eq!(browser.post("/sign-up/confirm", &[("token", "x")]).await.status, StatusCode::NOT_FOUND);
        let stranger = app.line_user("だれか").await;
        let mut at_line = app.visitor();
        let not_linked = at_line.sign_in_by_line(&stranger).await.location();
        assert!(not_linked.starts_with("/line/not-linked"), "{not_linked}");
        for path in ["/", "/sign-in", &not_linked] {
            let page = at_line.get(path).await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(!page.body.contains("/sign-up") && page.body.contains("/sign-in"), "{path}: {}", page.body);
        }
        // What needs a mail is still there.
        assert_eq!(browser.get("/password/forgot").await.status, StatusCode::OK);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sign_ups").await, 0);
        app.end().await;
    }
}

/// To one, rendered when it is accepted; to many, when it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_know_the_attributes() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let folder = tempfile::tempdir().unwrap();
        let text = "{{member.name}}: {{member.tier | default: 'no tier'}}, {{member.points | default: '0'}}";
        let file = json!({ "type": "text", "text": text });
        std::fs::write(folder.path().join("club.json"), file.to_string()).unwrap();
        let app =
            TestApp::start_with(engine, |config| config.messages.templates = Some(folder.path().to_owned())).await;
        let (_, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1'").await;
        upsert(&app, "1", json!({ "attributes": { "tier": "gold", "points": 12 } })).await;
        for to in [Audience::Member("1".into()), Audience::All] {
            let what = What::Template { name: "club".into(), data: json!({}) };
            let order = Order {
                channel: "main".into(),
                to,
                what,
                topic: None,
                send_at: None,
                collapse_key: None,
                idempotency_key: None,
                lane: None,
                beyond_quota: false,
                cause: "test",
            };
            message::accept(&app.app, &order).await.unwrap();
        }
        app.drain().await;
        let phone = app.phone(&user).await;
        let told = phone["messages"].as_array().unwrap().iter().filter(|one| one["text"] == "Hanako: gold, 12").count();
        assert_eq!(told, 2, "{phone:#}");
        app.end().await;
    }
}
