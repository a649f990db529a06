//! `musubi send` as the company's people run it: the real command beside a real server, with LINE played by a third
//! process.

use std::{fs, path::PathBuf};

use musubi::{app::App, member};
use serde_json::{Value, json};

use crate::{
    stub::insert_linked,
    support::{
        BOT_CHANNEL, Engine,
        process::{Line, Place, Process, run, start_server, start_simulator},
    },
};

/// A company with three linked members: 1001 and 1002 are `gold`, 1003 is nobody whom LINE knows; 1004 is not linked.
struct Scene {
    place: Place,
    line: Line,
    simulator: Process,
    server: Process,
    config: String,
    users: [String; 2],
}

impl Scene {
    async fn start(engine: Engine) -> Self {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        line.order(&format!("/_sim/bots/{BOT_CHANNEL}/webhook"), json!({ "active": false })).await;
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let (server, _) = start_server(&config, &[]);
        let users = [line.person().await, line.person().await];
        for user in &users {
            line.order(&format!("/_sim/users/{user}/follow"), json!({})).await;
        }
        let app = place.app(&config).await;
        let unknown = format!("U{}", "0".repeat(32));
        for (name, user) in [("1001", &users[0]), ("1002", &users[1]), ("1003", &unknown)] {
            let mut tx = app.db.begin().await.unwrap();
            // The company's id and ours differ, so that the one is not taken for the other.
            let id = format!("member-{name}");
            insert_linked(&mut tx, app.now(), &id, user, None).await.unwrap();
            member::set_external_id(&mut tx, &id, name).await.unwrap();
            if name != "1003" {
                member::tag::add(&mut tx, &id, "gold").await.unwrap();
            }
            tx.commit().await.unwrap();
        }
        let alone = "INSERT INTO members (id, external_id, email, email_key, name, source, created_at)
                     VALUES ('member-1004', '1004', 'd', 'd', 'D', 'x', 0)";
        sqlx::query(alone).execute(&mut *app.db.conn().await.unwrap()).await.unwrap();
        app.db.close().await;
        Self { place, line, simulator, server, config, users }
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.place.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn send(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run(&[&["send", "--config", &self.config], arguments].concat())
    }

    /// What a person's phone shows.
    async fn messages(&self, user: usize) -> Vec<Value> {
        let chat = self.line.ask(&format!("/_sim/users/{}/chat", self.users[user])).await;
        chat["messages"].as_array().unwrap().clone()
    }

    async fn app(&self) -> App {
        self.place.app(&self.config).await
    }

    async fn end(self) {
        self.server.stop();
        self.simulator.stop();
        self.place.end().await;
    }
}

fn reminder(title: &str) -> String {
    json!({ "company": "Example", "title": title, "at": "2026-12-24T18:30" }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_out_once_by_command() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let scene = Scene::start(engine).await;
        let data = scene.file("data.json", &reminder("Dinner"));
        let gold = ["--tag", "gold", "--template", "reminder", "--data", &data];

        let (code, told) = scene.send(&[&gold[..], &["--dry-run"]].concat());
        assert_eq!(code, Some(0), "{told}");
        for words in ["recipients: 2 (bulk lane, channel main)", "as member-100", "\"altText\"", "nothing was sent"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(scene.messages(0).await.is_empty() && scene.messages(1).await.is_empty());

        let keyed = [&gold[..], &["--idempotency-key", "dinner", "--wait"]].concat();
        for news in ["accepted", "accepted before under this key; nothing new is sent"] {
            let (code, told) = scene.send(&keyed);
            assert_eq!(code, Some(0), "{told}");
            assert!(told.contains(news) && told.contains("recipients: 2; 2 sent"), "{told}");
            for (user, name) in [(0, "Dear member-1001,"), (1, "Dear member-1002,")] {
                let shown = scene.messages(user).await;
                assert_eq!(shown.len(), 1, "{shown:?}");
                assert!(shown[0]["type"] == "flex" && shown[0].to_string().contains(name), "{shown:?}");
            }
        }
        let other = scene.file("other.json", &reminder("Lunch"));
        let other = ["--tag", "gold", "--template", "reminder", "--data", &other, "--idempotency-key", "dinner"];
        let (code, told) = scene.send(&other);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("idempotency key: it was used for another order (message "), "{told}");
        assert_eq!(scene.messages(0).await.len(), 1);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_tells_what_became_of_it() {
    let scene = Scene::start(Engine::Sqlite).await;
    let hello = scene.file("hello.json", r#"{ "type": "text", "text": "hello" }"#);
    let to = |member, more: &[&str]| scene.send(&[&["--member", member, "--messages", &hello], more].concat());
    for (member, more, expected, words) in [
        ("1001", &["--wait"][..], 0, &["recipients: 1; 1 sent"][..]),
        ("member-1002", &["--wait"], 0, &["recipients: 1; 1 sent"]),
        // Accepted for later: nothing is waited for.
        ("1001", &["--at", "2099-12-24T18:00"], 0, &["recipients: 1; 1 waiting"]),
        ("1002", &["--at", "2099-12-24T18:00+09:00"], 0, &["recipients: 1; 1 waiting"]),
        // LINE refuses it for good.
        ("1003", &["--wait"], 4, &["recipients: 1; 1 failed"]),
        ("1004", &["--wait"], 0, &["left out: 1 have no linked LINE account", "recipients: 0"]),
    ] {
        let (code, told) = to(member, more);
        assert_eq!(code, Some(expected), "{member} {told}");
        for words in words {
            assert!(told.contains(words), "{member} {words}: {told}");
        }
        assert!(!told.contains('\u{1b}'), "no bar where there is no terminal: {told}");
    }
    for user in [0, 1] {
        let shown = scene.messages(user).await;
        assert_eq!(shown.iter().map(|message| &message["text"]).collect::<Vec<_>>(), ["hello"]);
    }
    let db = scene.place.db().await;
    let due: Vec<i64> = sqlx::query_scalar("SELECT due_at FROM deliveries WHERE state = 'waiting' ORDER BY due_at")
        .fetch_all(&mut *db.conn().await.unwrap())
        .await
        .unwrap();
    // Both times are Tokyo's: the one without an offset is the company's.
    assert_eq!(due, [4_101_786_000_000, 4_101_786_000_000]);
    db.close().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_told_and_not_stored() {
    let scene = Scene::start(Engine::Sqlite).await;
    let (list, broken) = (scene.file("list.json", "[1]"), scene.file("broken.json", "{"));
    let six = scene.file("six.json", &json!(vec![json!({ "type": "text", "text": "x" }); 6]).to_string());
    let long = scene.file("long.json", &json!({ "type": "text", "text": "x".repeat(5001) }).to_string());
    let few = scene.file("few.json", r#"{ "company": "Example", "title": "x", "at": "soon" }"#);
    let nowhere = scene.place.path("nowhere.json").to_str().unwrap().to_owned();
    let reminder = ["--all", "--template", "reminder"];
    let with = |more: &[&'static str], file: &str| {
        let more = more.iter().map(|word| (*word).to_owned());
        more.chain([file.to_owned()]).collect::<Vec<_>>()
    };
    let reminded = |file: &str| with(&["--all", "--template", "reminder", "--data"], file);
    let plain = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (arguments, expected, words) in [
        (plain(&["--all"]), 2, "<--template <NAME>|--messages <FILE>>"),
        (plain(&["--template", "reminder"]), 2, "<--member <ID>|--tag <TAG>|--all>"),
        (plain(&["--all", "--tag", "gold", "--template", "reminder"]), 2, "cannot be used with"),
        (plain(&[&reminder[..], &["--lane", "fast"]].concat()), 2, "transactional, bulk"),
        (plain(&[&reminder[..], &["--dry-run", "--wait"]].concat()), 2, "cannot be used with"),
        (reminded(&nowhere), 1, "nowhere.json: No such file"),
        (reminded(&broken), 1, "broken.json is not JSON"),
        (reminded(&list), 1, "data: must be a JSON object"),
        (reminded(&few), 1, "{{at}} must be a date"),
        (plain(&reminder), 1, "{{at}} has no value"),
        (plain(&["--all", "--template", "nothing"]), 1, "template: there is no message template \"nothing\""),
        (with(&["--all", "--messages"], &six), 1, "messages: must hold 1 to 5 messages, not 6"),
        (with(&["--all", "--messages"], &long), 1, "messages[0].text: "),
        (with(&["--member", "9", "--messages"], &six), 1, "to.member: there is no member \"9\""),
        (
            with(&["--all", "--channel", "x", "--messages"], &six),
            1,
            "channel: there is no channel \"x\"; there are: main",
        ),
        (with(&["--all", "--at", "tomorrow", "--messages"], &six), 1, "--at \"tomorrow\" is no time"),
        (with(&["--all", "--topic", "", "--messages"], &six), 1, "topic: must be 1 to 64 letters"),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        for more in [&[][..], &["--dry-run"]] {
            if expected == 2 && !more.is_empty() {
                continue;
            }
            let (code, told) = scene.send(&[&arguments[..], more].concat());
            assert_eq!(code, Some(expected), "{arguments:?} {told}");
            assert!(told.contains(words), "{arguments:?}: {words} in {told}");
            assert!(!told.contains("panicked"), "{told}");
        }
    }
    let app = scene.app().await;
    let messages: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM messages")
        .fetch_one(&mut *app.db.conn().await.unwrap())
        .await
        .unwrap();
    assert_eq!(messages, 0);
    app.db.close().await;
    scene.end().await;
}
