//! Imports of members and of links: rows, mistakes by line, a kill in the middle, and the person's word afterwards.

use std::{fmt::Write as _, fs};

use axum::http::StatusCode;
use musubi::{
    hook::endpoint,
    import::{Ended, ImportError, Options},
    link,
    member::{self, company::By},
};
use serde_json::{Value, json};

use crate::{
    company::upsert,
    support::{
        BOT_CHANNEL, Engine, PASSWORD, TestApp, Visitor, both_engines, parameter,
        process::{Place, Process, run, start_simulator},
    },
};

const LINKS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL";
const MEMBERS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM members";

/// A file of this test, and how it is imported.
struct File(tempfile::TempDir, Options);

fn file(content: impl AsRef<[u8]>) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.csv");
    fs::write(&path, content).unwrap();
    File(folder, Options { file: path, dry_run: false, again: false })
}

/// The end, and what was told beside it.
async fn import(app: &TestApp, file: &File) -> (Result<Ended, ImportError>, Vec<String>) {
    let mut notes = Vec::new();
    let ended = member::import::run(&app.app, &file.1, &mut |line: &str| notes.push(line.to_owned())).await;
    (ended, notes)
}

async fn import_links(app: &TestApp, file: &File, no_check: bool) -> (Result<Ended, ImportError>, Vec<String>) {
    let options = link::import::Options { file: file.1.clone(), provider: "main".to_owned(), no_check };
    let mut notes = Vec::new();
    let ended = link::import::run(&app.app, &options, &mut |line: &str| notes.push(line.to_owned())).await;
    (ended, notes)
}

fn counts(ended: &Ended) -> Vec<(&str, u64)> {
    ended.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect()
}

/// A member with an address and one imported link to a friend; gives LINE's id.
async fn imported(app: &TestApp) -> String {
    upsert(app, "1", json!({ "email": "hanako@example.jp", "name": "Hanako" })).await;
    let user = app.line_user("はなこ").await;
    app.does(&user, "follow", json!({})).await;
    app.drain().await;
    let (ended, notes) = import_links(app, &file(format!("external_id,line_user_id\n1,{user}\n")), false).await;
    assert_eq!((counts(&ended.unwrap()), notes.len()), (vec![("linked", 1)], 0));
    user
}

/// Signs in with LINE to the page that asks; gives the attempt's id.
async fn reach_question(visitor: &mut Visitor<'_>, user: &str) -> String {
    let at = visitor.sign_in_by_line(user).await.location();
    let id = at.strip_prefix("/link/imported?attempt=").ok_or(&at).unwrap().to_owned();
    assert!(visitor.session_cookie().is_none());
    id
}

async fn answer(visitor: &mut Visitor<'_>, attempt: &str, decision: &str) -> crate::support::Answer {
    visitor.post("/link/imported", &[("attempt", attempt), ("decision", decision), ("consent", "1:en")]).await
}

both_engines! {
    async fn a_file_makes_and_changes_members_and_tells_mistakes_by_line(app) {
        app.member("owner@example.jp", "Owner").await;
        let content = "\u{feff}external_id,email,name,language,time_zone,tags,attribute.tier,attribute.points:number\n\
            1,one@example.jp,\"One, of many\",ja,Asia/Tokyo,a; b,gold,12\n\
            2,,Two,,,,,\n\
            3,owner@example.jp,Three,,,,,\n\
            4,nobody,Four,japanese,,,,many\n\
            ,five@example.jp,Five,,,,,\n\
            6,six@example.jp\n\
            7,one@example.jp,Seven,,,,,\n\
            1,,Once more,,,c,,\n\
            8,,,,,,,\n";
        let first = file(content);
        let dry = File(tempfile::tempdir().unwrap(), Options { dry_run: true, ..first.1.clone() });
        let before = app.dump(&[]).await;
        let (ended, _) = import(app, &dry).await;
        assert!(ended.unwrap().lines.join("\n").contains("nothing was stored"));
        assert_eq!(app.dump(&[]).await, before);

        let (ended, notes) = import(app, &first).await;
        let ended = ended.unwrap();
        assert_eq!(counts(&ended), [("created", 3), ("refused", 5), ("updated", 1)]);
        assert_eq!((ended.code(), ended.lines.as_slice()), (4, &["rows: 9; 3 created, 5 refused, 1 updated".to_owned()][..]));
        for (line, words) in [
            ("line 4: ", "another member has this e-mail address"),
            ("line 5: ", "email is no e-mail address; language must be a language tag"),
            ("line 5: ", "attribute.points is no number"),
            ("line 6: ", "external_id must be"),
            ("line 7: ", "has 2 columns; the first row has 8"),
            ("line 8: ", "another member has this e-mail address"),
        ] {
            assert!(notes.iter().any(|note| note.starts_with(line) && note.contains(words)), "{line}{words}: {notes:?}");
        }
        assert_eq!(notes.len(), 5, "{notes:?}");
        let seen = seen(app, "1").await;
        assert_eq!((seen.name.as_str(), seen.email.as_deref()), ("Once more", Some("one@example.jp")));
        assert_eq!((seen.tags.as_slice(), Value::Object(seen.attributes)), (&["c".to_owned()][..], json!({ "tier": "gold", "points": 12 })));
        assert_eq!((seen.language.as_deref(), seen.time_zone.as_deref()), (Some("ja"), Some("Asia/Tokyo")));
        assert_eq!(app.audit().await, ["member_created/", "member_created/", "member_updated/", "member_created/"]);

        // The same file again is no more, unless it is wanted.
        let before = app.dump(&[]).await;
        let (ended, _) = import(app, &first).await;
        let ended = ended.unwrap();
        assert!(ended.lines[0].contains("was imported before") && ended.code() == 0, "{ended:?}");
        assert_eq!(app.dump(&[]).await, before);
        let again = File(tempfile::tempdir().unwrap(), Options { again: true, ..first.1.clone() });
        let (ended, _) = import(app, &again).await;
        assert_eq!(counts(&ended.unwrap()), [("as before", 2), ("refused", 5), ("updated", 2)]);
        assert_eq!(app.count(MEMBERS).await, 4);
    }

    async fn a_file_that_is_none_changes_nothing(app) {
        let before = app.dump(&[]).await;
        for (content, why) in [
            (&b"email\na@example.jp\n"[..], "external_id is missing"),
            (b"external_id,e-mail\n1,a\n", "\"e-mail\" is no column"),
            (b"", "external_id is missing"),
        ] {
            let (ended, _) = import(app, &file(content)).await;
            let told = ended.unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
        let mut folder = file("");
        folder.1.file = folder.0.path().to_owned();
        assert!(import(app, &folder).await.0.unwrap_err().to_string().contains("is no file"));
        folder.1.file.push("none.csv");
        assert!(matches!(import(app, &folder).await.0, Err(ImportError::File(..))));
        let but = ["imports"];
        let rows = |dump: Vec<String>| dump.into_iter().filter(|row| !but.iter().any(|table| row.starts_with(table))).collect::<Vec<_>>();
        assert_eq!(rows(app.dump(&[]).await), rows(before));
    }

    /// Bytes that are no UTF-8 are one row's mistake.
    /// A line is that of the file, as an editor counts.
    async fn empty_lines_and_texts_of_several_lines_are_counted(app) {
        let content = "external_id,name\n\n\n1,\"a\nb\"\n2,ok\n\n,no id\n\n\n,no id either\n";
        let (_, notes) = import(app, &file(content)).await;
        let lines: Vec<&str> = notes.iter().map(|note| note.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["line 4", "line 8", "line 11"], "{notes:?}");
    }

    async fn what_is_not_utf_8_is_told(app) {
        let (ended, notes) = import(app, &file(b"external_id,name\n1,One\n2,\xff\xfe\n3,Three\n")).await;
        assert_eq!(counts(&ended.unwrap()), [("created", 2), ("refused", 1)]);
        assert_eq!(notes, ["line 3: is not UTF-8"]);
    }

    async fn two_imports_of_one_file_at_once_make_nobody_twice(app) {
        let mut content = "external_id,email,tags\n".to_owned();
        (0..1500).for_each(|n| writeln!(content, "{n},m{n}@example.jp,a").unwrap());
        let file = file(content);
        let (left, right) = tokio::join!(import(app, &file), import(app, &file));
        let ended: Vec<_> = [left.0, right.0].into_iter().collect();
        assert!(ended.iter().any(Result::is_ok), "{ended:?}");
        for error in ended.into_iter().filter_map(Result::err) {
            assert!(matches!(error, ImportError::Twice), "{error}");
        }
        assert_eq!(app.count(MEMBERS).await, 1500);
        assert_eq!(app.audit().await.len(), 1500);
    }

    async fn links_are_made_where_both_are_free(app) {
        let friend = app.line_user("ともだち").await;
        app.does(&friend, "follow", json!({})).await;
        let (_, taken) = app.linked("taken@example.jp").await;
        app.execute("UPDATE members SET external_id = 'taken'").await;
        let before = app.phone(&friend).await["messages"].as_array().unwrap().len();
        app.drain().await;
        for id in ["1", "2", "3"] {
            upsert(app, id, json!({ "name": id })).await;
        }
        let stranger = format!("U{}", "a".repeat(32));
        let content = format!(
            "line_user_id,external_id\n{friend},1\n{stranger},2\n{friend},3\n{taken},3\n{taken},taken\n{friend},taken\n\
             {friend},nobody\nU123,3\n{},3\n{friend},1\n", friend.to_uppercase());
        let calls = app.calls_to("/v2/bot/profile/").await.len();
        let (ended, notes) = import_links(app, &file(&content), false).await;
        assert_eq!(counts(&ended.unwrap()), [("as before", 2), ("linked", 1), ("linked but unknown to LINE", 1), ("refused", 6)]);
        for words in [
            "line 3: LINE does not know this user as a friend",
            "line 4: conflict: this LINE user is linked to another member",
            "line 5: conflict: this LINE user is linked to another member",
            "line 7: conflict: this LINE user is linked to another member",
            "line 8: there is no member with this external_id",
            "line 9: line_user_id is no LINE user id",
            "line 10: line_user_id is no LINE user id",
        ] {
            assert!(notes.iter().any(|note| note.starts_with(words)), "{words}: {notes:?}");
        }
        assert_eq!(app.calls_to("/v2/bot/profile/").await.len(), calls + 2, "only about who may be linked");
        assert_eq!(app.count(LINKS).await, 3);
        let imported = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE source = 'imported' AND permission = 'none'
                        AND unconfirmed_at IS NOT NULL";
        assert_eq!(app.count(imported).await, 2);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 1);
        let not_friends = "SELECT CAST(COUNT(*) AS BIGINT) FROM friends WHERE friend = 'no'";
        assert_eq!(app.count(not_friends).await, 1);
        // The menu comes, a welcome does not.
        app.clock.advance(std::time::Duration::from_secs(60));
        app.drain().await;
        let phone = app.phone(&friend).await;
        assert!(!phone["rich_menu"].is_null(), "{phone}");
        assert!(phone["messages"].as_array().unwrap().len() <= before + 1, "{phone}");
        assert!(!phone.to_string().contains("linked to"), "{phone}");
        assert_eq!(app.audit().await.iter().filter(|row| *row == "link_imported/").count(), 2);
    }

    /// 429 and faults of LINE's are waited for; what stays is told, and the import goes on when it is run again.
    async fn an_import_of_links_stops_where_line_does_not_answer(app) {
        let user = app.line_user("はなこ").await;
        upsert(app, "1", json!({})).await;
        let file = file(format!("external_id,line_user_id\n1,{user}\n"));
        app.fault(json!({ "endpoint": "/v2/bot/profile/", "status": 403 })).await;
        let (ended, _) = import_links(app, &file, false).await;
        let told = ended.unwrap_err().to_string();
        assert!(told.contains("line 2: LINE did not say") && told.contains("run the command again"), "{told}");
        assert_eq!(app.count(LINKS).await, 0);
        app.clear_faults().await;
        let wait = json!({ "endpoint": "/v2/bot/profile/", "status": 429, "headers": { "retry-after": "1" } });
        app.fault(wait).await;
        assert_eq!(counts(&import_links(app, &file, false).await.0.unwrap()).len(), 1);
        assert_eq!(app.calls_to("/v2/bot/profile/").await.len(), 3, "refused, asked to wait, answered");
        assert_eq!(app.count(LINKS).await, 1);
    }

    async fn without_asking_line_nothing_is_said_of_friendship(app) {
        let user = app.line_user("はなこ").await;
        upsert(app, "1", json!({})).await;
        let (ended, _) = import_links(app, &file(format!("external_id,line_user_id\n1,{user}\n")), true).await;
        assert_eq!(counts(&ended.unwrap()), [("linked without asking LINE", 1)]);
        assert!(app.calls_to("/v2/bot/profile/").await.is_empty());
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM friends").await, 0);
        assert!(import_links(app, &file("external_id,line_user_id,email\n"), true).await.0.is_err());
        let options = link::import::Options { file: file("").1, provider: "nobody".into(), no_check: true };
        assert!(link::import::run(&app.app, &options, &mut |_: &str| {}).await.unwrap_err().to_string().contains("no provider"));
    }

    /// G4: an import signs nobody in; the person's yes does, with its evidence.
    async fn an_imported_link_signs_nobody_in_before_the_persons_yes(app) {
        let created = "SELECT CAST(COUNT(*) AS BIGINT) FROM hook_events WHERE type = 'link.created'";
        let hook = endpoint::New { url: "https://hooks.invalid/".into(), ..endpoint::New::default() };
        endpoint::create(&app.app, &hook).await.unwrap();
        let user = imported(app).await;
        let mut visitor = app.visitor();
        let attempt = reach_question(&mut visitor, &user).await;
        assert_eq!(visitor.get("/account").await.status, StatusCode::SEE_OTHER);
        assert_eq!(app.count(created).await, 0);
        let page = visitor.get(&format!("/link/imported?attempt={attempt}")).await;
        for words in ["Is this your account?", "H***", "h***@example.jp", "はなこ", "What you agree to"] {
            assert!(page.body.contains(words), "{words}: {}", page.body);
        }
        // Not in another browser, and not with another id.
        let mut other = app.visitor();
        assert_eq!(other.get(&format!("/link/imported?attempt={attempt}")).await.status, StatusCode::NOT_FOUND);
        assert_eq!(answer(&mut other, &attempt, "yes").await.status, StatusCode::NOT_FOUND);
        assert_eq!(answer(&mut visitor, &"0".repeat(36), "yes").await.status, StatusCode::NOT_FOUND);
        // An unknown text is not agreed to.
        let fields = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "9:en")];
        assert!(visitor.post("/link/imported", &fields).await.location().starts_with("/link/imported"));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 0);

        let done = answer(&mut visitor, &attempt, "yes").await;
        assert_eq!(done.location(), "/account?done=linked", "{}", done.body);
        assert_eq!(visitor.get("/account").await.status, StatusCode::OK);
        assert_eq!(app.count(created).await, 1);
        app.drain().await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE unconfirmed_at IS NULL AND permission = 'given' AND consent_version = '1'").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE link_id IS NOT NULL AND ended_at IS NULL").await, 1);
        let audit = app.audit().await;
        assert!(audit.contains(&"link_confirmed/".to_owned()) && audit.contains(&"signed_in/".to_owned()), "{audit:?}");
        // It can be undone by the mail, as any link.
        app.mailed_link("hanako@example.jp", "/link/undo").await;
        // The same yes again, or the way back to the question, leads to where the first one led, and does nothing.
        assert_eq!(answer(&mut visitor, &attempt, "yes").await.location(), "/account?done=linked");
        assert_eq!(visitor.get(&format!("/link/imported?attempt={attempt}")).await.location(), "/account?done=linked");
        assert_eq!(answer(&mut other, &attempt, "yes").await.status, StatusCode::NOT_FOUND);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'link_confirmed'").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 1);
        // The next sign-in asks nothing.
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
    }

    async fn a_no_ends_an_imported_link(app) {
        let user = imported(app).await;
        let mut visitor = app.visitor();
        let attempt = reach_question(&mut visitor, &user).await;
        let done = answer(&mut visitor, &attempt, "no").await;
        assert_eq!(done.location(), "/line/not-linked?provider=main", "{}", done.body);
        app.drain().await;
        assert!(visitor.session_cookie().is_none());
        assert_eq!(app.count(LINKS).await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE end_reason = 'declined'").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 0);
        assert!(app.visitor().sign_in_by_line(&user).await.location().starts_with("/line/not-linked"));
        // Who was asked and said nothing leaves no tokens behind.
        let other = imported_again(app, &user).await;
        reach_question(&mut visitor, &other).await;
        app.clock.advance(std::time::Duration::from_secs(11 * 60));
        app.drain().await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE ended_at IS NULL").await, 0);
        assert_eq!(app.count(LINKS).await, 1);
    }

    async fn a_question_is_void_when_the_link_or_the_member_is(app) {
        for (number, change) in [
            "UPDATE members SET disabled_at = 1",
            "UPDATE links SET suspended_at = 1 WHERE ended_at IS NULL",
            "UPDATE links SET ended_at = 1, end_reason = 'x' WHERE ended_at IS NULL",
        ].into_iter().enumerate() {
            let user = if number == 0 { imported(app).await } else { imported_again(app, &app.line_user("次").await).await };
            let mut visitor = app.visitor();
            let attempt = reach_question(&mut visitor, &user).await;
            app.execute(change).await;
            assert_eq!(visitor.get(&format!("/link/imported?attempt={attempt}")).await.status, StatusCode::NOT_FOUND, "{change}");
            let done = answer(&mut visitor, &attempt, "yes").await;
            assert_eq!(done.status, StatusCode::FORBIDDEN, "{change}: {}", done.body);
            assert!(visitor.session_cookie().is_none());
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM consents").await, 0);
            app.execute("UPDATE members SET disabled_at = NULL").await;
            app.execute("UPDATE links SET suspended_at = NULL, ended_at = 1, end_reason = 'x'").await;
        }
    }

    /// A member who signed in by the password confirms it on the page that every link passes.
    async fn a_signed_in_member_confirms_an_imported_link(app) {
        let user = imported(app).await;
        let mut reset = app.visitor();
        reset.post("/password/forgot", &[("email", "hanako@example.jp")]).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("hanako@example.jp", "/password/reset").await, "token");
        reset.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
        app.execute("UPDATE links SET suspended_at = NULL").await;
        let mut browser = app.signed_in("hanako@example.jp").await;
        let page = browser.get("/account").await;
        assert!(page.body.contains("Not confirmed yet") && page.body.contains("Confirm with LINE"), "{}", page.body);
        assert!(!page.body.contains("Our text has changed"), "{}", page.body);
        assert_eq!(browser.link(&user).await.location(), "/account?done=linked");
        assert!(!browser.get("/account").await.body.contains("Not confirmed yet"));
        assert_eq!(app.count(LINKS).await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE unconfirmed_at IS NULL").await, 1);
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
    }

    /// G7: the company's unlink takes effect at once, and is carried out at LINE.
    async fn the_company_ends_a_link(app) {
        let (mut browser, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1', password_hash = NULL").await;
        let by = By { what: "test", id: "1" };
        let view = {
            let mut conn = app.app.db.conn().await.unwrap();
            let id = member::company::find_id(&mut conn, "1").await.unwrap().unwrap();
            link::by_company::find(&mut conn, &app.app, &id, "main").await.unwrap()
        };
        let linked = view.linked.unwrap();
        assert_eq!((linked.source.as_str(), linked.is_confirmed, linked.permission.as_str()), ("web", true, "given"));
        assert_eq!(linked.friends, [("main".to_owned(), musubi::line_user::Friend::Yes)]);
        let mut line = app.visitor();
        assert_eq!(line.sign_in_by_line(&user).await.location(), "/account");

        assert_eq!(link::by_company::unlink(&app.app, "2", "main", by).await.unwrap(), None);
        let view = link::by_company::unlink(&app.app, "1", "main", by).await.unwrap().unwrap();
        let ended = view.ended.unwrap();
        assert_eq!((view.linked, ended.reason.as_str()), (None, "company"));
        let pending = |step: &str| (step.to_owned(), "pending".to_owned());
        assert_eq!(ended.steps, [pending("deauthorize"), pending("menu"), pending("revoke")]);
        assert_eq!(line.get("/account").await.status, StatusCode::SEE_OTHER, "the session of LINE's sign-in ended");
        assert_eq!(browser.get("/account").await.status, StatusCode::OK);
        app.drain().await;
        let view = link::by_company::unlink(&app.app, "1", "main", by).await.unwrap().unwrap();
        assert!(view.ended.unwrap().steps.iter().all(|(_, state)| state == "done"));
        assert!(browser.get("/account/history").await.body.contains("We ended it."));
        let audit = app.audit().await;
        assert_eq!(audit.iter().filter(|row| row.starts_with("unlink")).count(), 2, "{audit:?}");
    }
}

async fn seen(app: &TestApp, id: &str) -> member::company::Details {
    let mut conn = app.app.db.conn().await.unwrap();
    let id = member::company::find_id(&mut conn, id).await.unwrap().unwrap();
    member::company::details(&mut conn, &app.app.db, &[id]).await.unwrap().remove(0)
}

/// The member of [`imported`] once more, with this LINE user.
async fn imported_again(app: &TestApp, user: &str) -> String {
    let (ended, _) = import_links(app, &file(format!("line_user_id,external_id\n{user},1\n")), true).await;
    assert_eq!(counts(&ended.unwrap()), [("linked without asking LINE", 1)]);
    user.to_owned()
}

fn rows(from: usize, to: usize) -> String {
    let mut content = "external_id,email,name,tags,attribute.tier\n".to_owned();
    (from..to).for_each(|n| writeln!(content, "c{n},m{n}@example.jp,Member {n},a;b,gold").unwrap());
    content
}

/// Killed before and after a commit, an import goes on where it stopped, and makes nobody twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_goes_on_where_it_stopped() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let config = place.alone();
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        let path = place.path("members.csv");
        fs::write(&path, rows(0, 3000)).unwrap();
        let command = ["member", "import", path.to_str().unwrap(), "--config", &config];
        for (point, done) in [("import.committed:2", 960), ("import.recorded:3", 1920), ("import.recorded:1", 1920)] {
            Process::start_with(&command, &[("MUSUBI_KILL_AT", point)]).end_by_abort();
            let app = place.app(&config).await;
            let found: i64 = sqlx::query_scalar(MEMBERS).fetch_one(&mut *app.db.conn().await.unwrap()).await.unwrap();
            app.db.close().await;
            assert_eq!(found, done, "{point}");
        }
        let (code, told) = run(&command);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("goes on after 1920 rows that are done"), "{told}");
        assert!(told.contains("rows: 3000; 3000 created"), "{told}");
        let (code, told) = run(&command);
        assert!(code == Some(0) && told.contains("was imported before"), "{told}");

        let app = place.app(&config).await;
        let mut conn = app.db.conn().await.unwrap();
        for (statement, expected) in [
            (MEMBERS, 3000),
            ("SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'member_created'", 3000),
            ("SELECT CAST(COUNT(*) AS BIGINT) FROM member_tags", 6000),
            ("SELECT CAST(COUNT(*) AS BIGINT) FROM member_attributes", 3000),
        ] {
            let found: i64 = sqlx::query_scalar(statement).fetch_one(&mut *conn).await.unwrap();
            assert_eq!(found, expected, "{statement}");
        }
        drop(conn);
        app.db.close().await;
        place.end().await;
    }
}

/// The same of links: each is made once, with its audit row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_of_links_goes_on_where_it_stopped() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let config = place.alone();
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        let (members, links) = (place.path("members.csv"), place.path("links.csv"));
        fs::write(&members, rows(0, 2000)).unwrap();
        assert_eq!(run(&["member", "import", members.to_str().unwrap(), "--config", &config]).0, Some(0));
        let pairs: String = (0..2000).map(|number| format!("c{number},U{number:032x}\n")).collect();
        fs::write(&links, format!("external_id,line_user_id\n{pairs}")).unwrap();
        let command =
            ["link", "import", links.to_str().unwrap(), "--config", &config, "--provider", "main", "--no-check"];
        for point in ["import.committed:2", "import.recorded:2"] {
            Process::start_with(&command, &[("MUSUBI_KILL_AT", point)]).end_by_abort();
        }
        let (code, told) = run(&command);
        assert!(code == Some(0) && told.contains("goes on after 1440 rows that are done"), "{told}");
        let app = place.app(&config).await;
        let mut conn = app.db.conn().await.unwrap();
        for statement in [
            LINKS,
            "SELECT CAST(COUNT(DISTINCT member_id) AS BIGINT) FROM links WHERE source = 'imported' AND unconfirmed_at IS NOT NULL",
            "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'link_imported'",
        ] {
            let found: i64 = sqlx::query_scalar(statement).fetch_one(&mut *conn).await.unwrap();
            assert_eq!(found, 2000, "{statement}");
        }
        drop(conn);
        app.db.close().await;
        place.end().await;
    }
}

/// Beside a running server, with LINE played by a third process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_imported_by_command() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        line.order(&format!("/_sim/bots/{BOT_CHANNEL}/webhook"), json!({ "active": false })).await;
        let config = place.config("musubi.toml", &line.0.base, "");
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        let (members, links) = (place.path("members.csv"), place.path("links.csv"));
        fs::write(&members, rows(0, 3)).unwrap();
        let (code, told) = run(&["member", "import", members.to_str().unwrap(), "--config", &config]);
        assert_eq!(code, Some(0), "{told}");
        let user = line.person().await;
        line.order(&format!("/_sim/users/{user}/follow"), json!({})).await;
        fs::write(&links, format!("external_id,line_user_id\nc0,{user}\nc1,U1\n")).unwrap();
        let command = ["link", "import", links.to_str().unwrap(), "--config", &config, "--provider", "main"];
        let (code, told) = run(&[&command[..], &["--dry-run"]].concat());
        assert_eq!(code, Some(4), "{told}");
        assert!(told.contains("rows: 2; 1 linked, 1 refused") && told.contains("nothing was stored"), "{told}");
        let (code, told) = run(&command);
        assert_eq!(code, Some(4), "{told}");
        assert!(
            told.contains("line 3: line_user_id is no LINE user id") && told.contains("rows: 2; 1 linked, 1 refused"),
            "{told}"
        );
        simulator.stop();
        place.end().await;
    }
}
