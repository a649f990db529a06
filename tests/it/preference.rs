//! What a member chooses for themselves, on the page and by the API, and whether it is heeded by what is sent.

use axum::http::{Method, StatusCode};
use jiff::{Timestamp, tz::TimeZone};
use musubi::{
    config::QuietHours,
    db::Millis,
    member::guard::Scope,
    message::{Audience, Counts, Lane, Order, What},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::{
    order::{expand, hello, order, people},
    outbox::{bulk, deliver, friends, said, text},
    quota::changed,
    sending::{counts, texts},
    support::{Answer, Engine, ORIGIN, PASSWORD, TestApp, Visitor, both_engines},
};

const PATH: &str = "/account/preferences";
const NONE: Counts = Counts { accepted: 0, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };

/// The form as it is sent by somebody who wants all that is shown, and has chosen nothing.
const PLAIN: [(&str, &str); 9] = [
    ("shown.news", "1"),
    ("topic.news", "1"),
    ("shown.offers", "1"),
    ("topic.offers", "1"),
    ("quiet", "company"),
    ("quiet_from", "22:00"),
    ("quiet_to", "07:00"),
    ("language", ""),
    ("time_zone", ""),
];

/// That form with some fields otherwise; `topic.…` with an empty value is not ticked.
async fn save(visitor: &mut Visitor<'_>, other: &[(&str, &str)]) -> Answer {
    let mut fields = PLAIN.to_vec();
    for (name, value) in other {
        fields.retain(|(known, _)| known != name);
        if !(name.starts_with("topic.") && value.is_empty()) {
            fields.push((name, value));
        }
    }
    visitor.post(PATH, &fields).await
}

async fn saved(visitor: &mut Visitor<'_>, other: &[(&str, &str)]) {
    let answer = save(visitor, other).await;
    assert_eq!(answer.location(), "/account/preferences?done=saved", "{}", answer.body);
}

/// Language, time zone and quiet hours as they are kept.
async fn kept(app: &TestApp, email: &str) -> [Option<String>; 3] {
    let (locale, zone, hours) =
        sqlx::query_as("SELECT locale, time_zone, quiet_hours FROM members WHERE email_key = $1")
            .bind(email)
            .fetch_one(&mut *app.app.db.conn().await.unwrap())
            .await
            .unwrap();
    [locale, zone, hours]
}

fn some(texts: [&str; 3]) -> [Option<String>; 3] {
    texts.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// When each delivery is due, in their order.
async fn due(app: &TestApp) -> Vec<Timestamp> {
    let times: Vec<Millis> = sqlx::query_scalar("SELECT due_at FROM deliveries ORDER BY message_id, seq")
        .fetch_all(&mut *app.app.db.conn().await.unwrap())
        .await
        .unwrap();
    times.into_iter().map(|time| Timestamp::from_millisecond(time.0).unwrap()).collect()
}

async fn accept(app: &TestApp, order: &Order) -> String {
    musubi::message::accept(&app.app, order).await.unwrap().message_id
}

fn at(text: &str) -> Option<Millis> {
    Some(Millis(text.parse::<Timestamp>().unwrap().as_millisecond()))
}

both_engines! {
    async fn a_form_is_kept_and_shown(app) {
        app.member("taro@example.jp", "Taro").await;
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let page = hanako.get("/account").await;
        assert!(page.body.contains("href=\"/account/preferences\""), "{}", page.body);
        let page = hanako.get(PATH).await;
        assert_eq!(page.body.matches("type=\"checkbox\" value=\"1\" checked").count(), 2, "{}", page.body);
        assert!(page.body.contains("<bdi>News and tips</bdi>") && page.body.contains("About once a month."), "{}", page.body);
        assert!(page.body.contains("None: messages may come at any hour"), "{}", page.body);
        let of_others = async || texts(app, "SELECT email || COALESCE(locale, '') || COALESCE(quiet_hours, '') FROM members WHERE name = 'Taro'").await;
        let before = of_others().await;

        let own = [("topic.offers", ""), ("quiet", "own"), ("quiet_from", "21:30"), ("quiet_to", "6:00"), ("language", "ja"), ("time_zone", "Asia/Bangkok")];
        saved(&mut hanako, &own).await;
        assert_eq!(kept(app, "hanako@example.jp").await, some(["ja", "Asia/Bangkok", "21:30-06:00"]));
        assert_eq!(texts(app, "SELECT topic FROM topic_opt_outs").await, ["offers"]);
        assert_eq!((of_others().await, texts(app, "SELECT COUNT(*) || '' FROM topic_opt_outs").await), (before, vec!["1".to_owned()]));
        let audit = app.audit().await;
        assert!(audit.contains(&"preferences_changed/".to_owned()) && audit.contains(&"topic_opted_out/".to_owned()), "{audit:?}");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM menu_changes").await, 1, "a rule may ask for the language");

        let page = hanako.get("/account/preferences?done=saved").await;
        for words in ["<html lang=\"ja\">", "設定を保存しました。", "value=\"21:30\"", "value=\"06:00\"", "<option selected>Asia/Bangkok", "お知らせとヒント", "id=\"quiet-own\" name=\"quiet\" type=\"radio\" value=\"own\" checked"] {
            assert!(page.body.contains(words), "{words}: {}", page.body);
        }
        // What was said in one language only is told in that.
        assert!(page.body.contains("<bdi>Offers</bdi>"), "{}", page.body);
        // The same again changes nothing, and is nobody's deed.
        let before = app.dump(&["sessions"]).await;
        saved(&mut hanako, &own).await;
        assert_eq!(app.dump(&["sessions"]).await, before);

        saved(&mut hanako, &[]).await;
        assert_eq!(kept(app, "hanako@example.jp").await, some(["", "", ""]));
        assert!(texts(app, "SELECT topic FROM topic_opt_outs").await.is_empty());
    }

    /// Of a form in which anything is wrong nothing is kept, and each wrong field is named where it stands.
    async fn a_wrong_form_changes_nothing(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let before = app.dump(&[]).await;
        for (wrong, named) in [
            (vec![("quiet", "own"), ("quiet_from", "")], "quiet-problem"),
            (vec![("quiet", "own"), ("quiet_to", "22:00")], "quiet-problem"),
            (vec![("quiet", "own"), ("quiet_from", "25:00")], "quiet-problem"),
            (vec![("quiet", "always")], "quiet-problem"),
            (vec![("language", "fr")], "language-problem"),
            (vec![("language", "<b>")], "language-problem"),
            (vec![("time_zone", "Asia/../Tokyo")], "zone-problem"),
            (vec![("time_zone", "Nowhere\0")], "zone-problem"),
        ] {
            let mut fields = wrong.clone();
            fields.extend([("topic.news", "")]);
            let answer = save(&mut hanako, &fields).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
            assert_eq!(answer.body.matches("role=\"alert\"").count(), 1, "{wrong:?}: {}", answer.body);
            assert!(answer.body.contains(&format!("id=\"{named}\"")) && answer.body.contains("aria-invalid"), "{wrong:?}: {}", answer.body);
            assert!(answer.body.contains("<title>Error: "), "{wrong:?}");
            // What was said otherwise is not lost.
            assert_eq!(answer.body.matches("type=\"checkbox\" value=\"1\" checked").count(), 1, "{wrong:?}: {}", answer.body);
            assert_eq!(app.dump(&[]).await, before, "{wrong:?}");
        }
        let answer = save(&mut hanako, &[("quiet", "own"), ("quiet_from", ""), ("language", "x"), ("time_zone", "x")]).await;
        assert_eq!(answer.body.matches("role=\"alert\"").count(), 3, "{}", answer.body);
        let forged = hanako.post_raw(PATH, &PLAIN, &[("origin", ORIGIN)]).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
        let lacking = hanako.post(PATH, &[("quiet", "company")]).await;
        assert_eq!(lacking.status, StatusCode::BAD_REQUEST);
        assert_eq!(app.dump(&[]).await, before);
    }

    /// A topic that the page did not show, or that the configuration does not name, stays as it is.
    async fn only_topics_that_were_shown_change(app) {
        let id = app.member("hanako@example.jp", "Hanako").await;
        let mut tx = app.app.db.begin().await.unwrap();
        for topic in ["news", "of the past"] {
            musubi::message::topic::opt_out(&mut tx, app.app.now(), &id, topic).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let page = hanako.get(PATH).await;
        assert!(!page.body.contains("of the past"), "{}", page.body);
        // As from a page that is older than the topics.
        let old: Vec<_> = PLAIN.into_iter().filter(|(name, _)| !name.ends_with(".news") && !name.ends_with(".offers")).collect();
        assert_eq!(hanako.post(PATH, &old).await.status, StatusCode::SEE_OTHER);
        assert_eq!(texts(app, "SELECT topic FROM topic_opt_outs ORDER BY topic").await, ["news", "of the past"]);
        let invented = [("shown.invented", "1"), ("shown.of the past", "1"), ("topic.of the past", "1")];
        saved(&mut hanako, &invented).await;
        assert_eq!(texts(app, "SELECT topic FROM topic_opt_outs ORDER BY topic").await, ["of the past"]);
    }

    /// The newer choice of a language goes before the switch at the foot of the pages.
    async fn a_language_is_that_of_the_pages_too(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        hanako.post("/locale", &[("locale", "th"), ("return_to", PATH)]).await;
        assert!(hanako.get(PATH).await.body.contains("<html lang=\"th\">"));
        saved(&mut hanako, &[("quiet", "own")]).await;
        assert!(hanako.get(PATH).await.body.contains("<html lang=\"th\">"), "nothing was said of the language");
        saved(&mut hanako, &[("language", "zh-TW")]).await;
        assert!(hanako.get(PATH).await.body.contains("<html lang=\"zh-TW\">"));
        // And the mails.
        hanako.post("/account/email", &[("email", "new@example.jp"), ("password", PASSWORD)]).await;
        app.drain().await;
        let mail = app.mails("new@example.jp").await.pop().unwrap();
        assert!(mail["html"].as_str().unwrap().contains("<html lang=\"zh-TW\">"), "{mail}");
    }

    /// What the company says by the API is seen on the page, and changes only what it names.
    async fn the_company_says_the_same_by_the_api(app) {
        let key = app.key(Scope::ALL).await;
        app.member("hanako@example.jp", "Hanako").await;
        app.execute("UPDATE members SET external_id = '1'").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        saved(&mut hanako, &[("quiet", "own"), ("language", "ja"), ("time_zone", "Asia/Bangkok"), ("topic.news", "")]).await;
        let put = async |said: Value| app.api(&key, Method::PUT, "/api/v1/members/1", said).await;
        let shown = put(json!({ "name": "Hanako Yamada" })).await.json();
        assert_eq!((&shown["quiet_hours"], &shown["language"], &shown["time_zone"]), (&json!("22:00-07:00"), &json!("ja"), &json!("Asia/Bangkok")));
        assert_eq!(shown["topics_opted_out"], json!(["news"]));
        for wrong in [json!("22-7"), json!("22:00"), json!("07:00-07:00"), json!(""), json!(["22:00", "07:00"])] {
            let answer = put(json!({ "quiet_hours": wrong })).await;
            assert_eq!((answer.status, answer.places()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["quiet_hours".to_owned()]), "{wrong}");
        }
        assert_eq!(put(json!({ "quiet_hours": "12:00-13:30" })).await.json()["quiet_hours"], "12:00-13:30");
        let page = hanako.get(PATH).await;
        assert!(page.body.contains("value=\"12:00\"") && page.body.contains("value=\"13:30\""), "{}", page.body);
        assert_eq!(put(json!({ "quiet_hours": null })).await.json()["quiet_hours"], Value::Null);
        assert_eq!(kept(app, "hanako@example.jp").await, some(["ja", "Asia/Bangkok", ""]));
        // What the form does not offer is not lost by it.
        put(json!({ "language": "ja-JP", "time_zone": "Etc/GMT+9" })).await;
        let page = hanako.get(PATH).await;
        assert!(page.body.contains("<option selected>Etc/GMT+9</option>"), "{}", page.body);
        saved(&mut hanako, &[("language", "ja"), ("time_zone", "Etc/GMT+9")]).await;
        assert_eq!(kept(app, "hanako@example.jp").await, some(["ja-JP", "Etc/GMT+9", ""]));
    }

    async fn the_copy_holds_the_choices_and_a_deletion_takes_them(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        saved(&mut hanako, &[("quiet", "own"), ("quiet_from", "21:07"), ("language", "ja"), ("time_zone", "Asia/Bangkok"), ("topic.news", "")]).await;
        let copy: Value = serde_json::from_str(&hanako.post("/account/data", &[("password", PASSWORD)]).await.body).unwrap();
        let account = &copy["account"];
        assert_eq!((&account["quiet_hours"], &account["time_zone"], &account["language"]), (&json!("21:07-07:00"), &json!("Asia/Bangkok"), &json!("ja")));
        assert_eq!(account["unwanted_topics"], json!(["news"]));
        let word = musubi::web::locale::Locale::Ja.text("delete.word");
        hanako.post("/account/delete", &[("word", word), ("password", PASSWORD)]).await;
        for _ in 0..3 {
            app.drain().await;
            app.clock.advance(std::time::Duration::from_secs(3600));
        }
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members WHERE quiet_hours IS NOT NULL OR time_zone IS NOT NULL").await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM topic_opt_outs").await, 0);
    }

    /// By the page: what waits on the topic is cancelled with the same commit, of this member and no other.
    async fn an_opt_out_on_the_page_cancels_what_waits(app) {
        people(app, 2).await;
        app.member("owner@example.jp", "Owner").await;
        app.execute("UPDATE members SET password_hash = (SELECT password_hash FROM members WHERE email_key = 'owner@example.jp')").await;
        app.execute("UPDATE members SET email_key = 'one@example.jp', email = 'one@example.jp' WHERE id = 'm0000001'").await;
        let news = Order { topic: Some("news".into()), ..order(Audience::All, hello()) };
        let id = accept(app, &news).await;
        let other = accept(app, &order(Audience::All, hello())).await;
        expand(app).await;
        let mut one = app.signed_in("one@example.jp").await;
        saved(&mut one, &[("topic.news", "")]).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, waiting: 1, cancelled: 1, ..NONE });
        assert_eq!(counts(app, &other).await, Counts { accepted: 2, waiting: 2, ..NONE });
        let cancelled = texts(app, "SELECT member_id || ' ' || reason FROM deliveries WHERE state = 'cancelled'").await;
        assert_eq!(cancelled, ["m0000001 opted_out"]);
    }

    /// An opt-out that comes when the deliveries are written already: it is seen at the claim, of one by one as of many.
    async fn an_opt_out_is_seen_at_the_claim(app) {
        let users = friends(app, 3).await;
        for (words, endpoint) in [("Hello {{member.name}}", "push"), ("Hello all", "multicast")] {
            let id = bulk(app, &users, text(words), json!({})).await;
            app.execute("UPDATE messages SET topic = 'news'").await;
            app.execute("INSERT INTO topic_opt_outs (member_id, topic, created_at) SELECT MIN(id), 'news', 1 FROM members WHERE 1 = 1 ON CONFLICT DO NOTHING").await;
            deliver(&app.app).await;
            assert_eq!(counts(app, &id).await, Counts { accepted: 3, sent: 2, cancelled: 1, ..NONE }, "{endpoint}");
            assert!(!app.calls_to(&format!("/v2/bot/message/{endpoint}")).await.is_empty(), "{endpoint}");
        }
        let out = texts(app, "SELECT member_id FROM topic_opt_outs").await;
        for user in &users {
            assert_eq!(said(app, user).await.len(), if out.contains(user) { 0 } else { 2 });
        }
    }

    /// Where the company has no hours, own ones hold all the same: of many and of some, over midnight and not.
    async fn own_quiet_hours_hold_where_the_company_has_none(app) {
        people(app, 5).await;
        for statement in [
            "UPDATE members SET quiet_hours = '22:00-07:30' WHERE id = 'm0000002'",
            "UPDATE members SET quiet_hours = '22:00-07:30', time_zone = 'America/New_York' WHERE id = 'm0000003'",
            "UPDATE members SET quiet_hours = '23:00-23:45', time_zone = 'Asia/Tokyo' WHERE id = 'm0000004'",
            "UPDATE members SET quiet_hours = 'nonsense' WHERE id = 'm0000005'",
        ] {
            app.execute(statement).await;
        }
        let send_at = at("2030-06-01T23:15:00+09:00");
        accept(app, &Order { send_at, ..order(Audience::All, hello()) }).await;
        expand(app).await;
        let expected: Vec<Timestamp> = [
            "2030-06-01T23:15:00+09:00", "2030-06-02T07:30:00+09:00", "2030-06-01T23:15:00+09:00", "2030-06-01T23:45:00+09:00",
            "2030-06-01T23:15:00+09:00",
        ].iter().map(|time| time.parse().unwrap()).collect();
        assert_eq!(due(app).await, expected);
        app.execute("DELETE FROM deliveries").await;
        let some = Audience::Members(["c1", "c2", "c3", "c4", "c5"].map(str::to_owned).into());
        accept(app, &Order { send_at, lane: Some(Lane::Bulk), ..order(some, hello()) }).await;
        assert_eq!(due(app).await, expected);
        app.execute("DELETE FROM deliveries").await;
        let one = || Audience::Member("c2".into());
        accept(app, &Order { send_at, lane: Some(Lane::Bulk), ..order(one(), hello()) }).await;
        accept(app, &Order { send_at, ..order(one(), hello()) }).await;
        assert_eq!(due(app).await, [expected[1], expected[0]], "what is for one alone keeps no quiet hours");
    }

    /// However many hours and zones people chose: each has their own, and a batch takes some dozens of statements.
    async fn a_large_audience_with_hours_of_their_own(app) {
        people(app, 2_500).await;
        let zones = ["Asia/Tokyo", "America/New_York", "Europe/Berlin", "Asia/Kolkata"];
        let mut conn = app.app.db.conn().await.unwrap();
        for (place, zone) in zones.iter().enumerate() {
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE members SET time_zone = '{zone}', quiet_hours = {} || ':' || {} || '-12:59'
                 WHERE CAST(substr(id, 2) AS BIGINT) % 5 = {place}",
                two("24"), two("59"),
            )))
            .execute(&mut *conn)
            .await
            .unwrap();
        }
        drop(conn);
        let moment: Timestamp = "2030-06-01T23:15:00+09:00".parse().unwrap();
        accept(app, &Order { send_at: at("2030-06-01T23:15:00+09:00"), ..order(Audience::All, hello()) }).await;
        expand(app).await;
        let rows: Vec<(Option<String>, Option<String>, Millis)> = sqlx::query_as(
            "SELECT m.time_zone, m.quiet_hours, d.due_at FROM deliveries d JOIN members m ON m.id = d.member_id",
        )
        .fetch_all(&mut *app.app.db.conn().await.unwrap())
        .await
        .unwrap();
        let (mut moved, mut chosen) = (0, std::collections::BTreeSet::new());
        for (zone, hours, due_at) in &rows {
            let zone = TimeZone::get(zone.as_deref().unwrap_or("Asia/Tokyo")).unwrap();
            let hours = hours.as_deref().map(|text| QuietHours::parse(text).unwrap());
            let expected = hours.map_or(moment, |hours| hours.over(moment, &zone));
            assert_eq!(Timestamp::from_millisecond(due_at.0).unwrap(), expected);
            moved += usize::from(expected != moment);
            chosen.extend(hours.map(|hours| hours.to_string()));
        }
        assert!(rows.len() == 2_500 && moved > 500 && chosen.len() > 100, "{} {moved} {}", rows.len(), chosen.len());
    }

    /// Who is asked for each delivery is found by index, also by a database that plans without numbers.
    async fn clocks_are_read_by_index(app) {
        use sqlx::Row;
        people(app, 20_000).await;
        accept(app, &order(Audience::All, hello())).await;
        expand(app).await;
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
        let (head, column) = if app.engine == Engine::Sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
        let id: String = sqlx::query_scalar("SELECT id FROM messages").fetch_one(&mut *conn).await.unwrap();
        for statement in musubi::message::expand::STATEMENTS {
            let text = statement.replace("$1", &format!("'{id}'")).replace("$2", "4000").replace("$3", "6000");
            let rows = sqlx::query(AssertSqlSafe(format!("{head} {text}"))).fetch_all(&mut *conn).await.unwrap();
            let plan = rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n");
            let scans = ["SCAN m\n", "SCAN d\n", "SCAN members\n", "Seq Scan on members", "Seq Scan on deliveries"];
            assert!(!scans.iter().any(|scan| format!("{plan}\n").contains(scan)), "{text}\n{plan}");
        }
    }

    /// Who sets quiet hours when something waits already is left in peace by it; who gives them up is not sent it earlier.
    async fn quiet_hours_hold_at_the_claim_too(app) {
        let users = friends(app, 3).await;
        let hour = app.app.now().0 / 3_600_000 + 9;
        let id = bulk(app, &users, text("news"), json!({})).await;
        send_to(app, &users[0]).await;
        let quiet = format!("{:02}:00-{:02}:00", (hour + 23) % 24, (hour + 2) % 24);
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::query("UPDATE members SET quiet_hours = $1 WHERE id = $2").bind(&quiet).bind(&users[0]).execute(&mut *conn).await.unwrap();
        // The same hours, where the sun stands elsewhere.
        sqlx::query("UPDATE members SET quiet_hours = $1, time_zone = 'America/New_York' WHERE id = $2").bind(&quiet).bind(&users[1]).execute(&mut *conn).await.unwrap();
        drop(conn);
        deliver(&app.app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, waiting: 1, sent: 2, ..NONE });
        assert_eq!(said(app, &users[0]).await.len(), 1, "what is for them alone comes at once");
        app.execute("UPDATE members SET quiet_hours = NULL").await;
        deliver(&app.app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, waiting: 1, sent: 2, ..NONE });
        app.clock.advance(std::time::Duration::from_secs(4 * 3600));
        deliver(&app.app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, sent: 3, ..NONE });
    }

    /// Own hours stand in place of the company's: shorter ones too.
    async fn own_hours_stand_in_place_of_the_companys(app) {
        let users = friends(app, 2).await;
        let hour = app.app.now().0 / 3_600_000 + 9;
        let clock = |more: i64| format!("{:02}:00", (hour + more) % 24);
        let quiet = format!("{}-{}", clock(23), clock(2));
        let with_quiet = changed(app, |config| config.sending.quiet_hours = QuietHours::parse(&quiet)).await;
        let other = format!("{}-{}", clock(5), clock(7));
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::query("UPDATE members SET quiet_hours = $1 WHERE id = $2").bind(&other).bind(&users[0]).execute(&mut *conn).await.unwrap();
        drop(conn);
        let id = bulk(app, &users, text("news"), json!({})).await;
        deliver(&with_quiet).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, waiting: 1, sent: 1, ..NONE });
        assert_eq!((said(app, &users[0]).await.len(), said(app, &users[1]).await.len()), (1, 0));
        with_quiet.db.close().await;
    }

    /// The language that a member chose is the one they are written to in, from the next message on.
    async fn messages_are_in_the_chosen_language(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1'").await;
        let reminder = || {
            let data = json!({ "company": "Example", "title": "Dentist", "at": "2026-12-01T10:00:00+09:00" });
            order(Audience::Member("1".into()), What::Template { name: "reminder".into(), data })
        };
        for (language, words) in [("en", "Tue, 1 Dec 2026, 10:00"), ("ja", "2026年12月1日"), ("th", "2569")] {
            saved(&mut hanako, &[("language", language)]).await;
            accept(app, &reminder()).await;
            app.drain().await;
            let chat = app.phone(&user).await;
            let last = chat["messages"].as_array().unwrap().last().unwrap().to_string();
            assert!(last.contains(words), "{language}: {last}");
        }
        saved(&mut hanako, &[("language", "en"), ("time_zone", "America/New_York")]).await;
        accept(app, &reminder()).await;
        app.drain().await;
        let last = app.phone(&user).await["messages"].as_array().unwrap().last().unwrap().to_string();
        assert!(last.contains("Mon, 30 Nov 2026, 20:00"), "{last}");
    }
}

/// A number of a member's id modulo `most`, in two digits.
fn two(most: &str) -> String {
    let number = format!("CAST(CAST(substr(id, 2) AS BIGINT) % {most} AS TEXT)");
    format!("(CASE WHEN length({number}) = 1 THEN '0' ELSE '' END || {number})")
}

async fn send_to(app: &TestApp, user: &str) {
    crate::sending::send(app, user, "Hanako").await;
}

/// The company's hours are told on the page, and the choice that is made from nothing.
#[tokio::test]
async fn the_companys_hours_are_told() {
    let app = TestApp::start_with(Engine::Sqlite, |config| {
        config.sending.quiet_hours = QuietHours::parse("21:00-08:00");
        config.topic.clear();
    })
    .await;
    app.member("hanako@example.jp", "Hanako").await;
    let page = app.signed_in("hanako@example.jp").await.get(PATH).await;
    let told = "As usual here: \u{2068}21:00\u{2069} to \u{2068}08:00\u{2069}";
    for words in [told, "value=\"21:00\"", "value=\"08:00\"", "As usual here: \u{2068}Asia/Tokyo\u{2069}"] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(!page.body.contains("type=\"checkbox\""), "{}", page.body);
    app.end().await;
}
