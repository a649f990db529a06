//! The real binary: starting, stopping, being killed, and standing in its own way.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
    time::Duration,
};

use musubi::db::Db;
use serde_json::{Value, json};

use crate::support::{
    Engine, PASSWORD,
    process::{Browser, Line, PUBLIC, Place, Process, add_member, run, start_simulator, until, word},
};

impl Browser {
    async fn sign_up(&mut self, line: &Line, email: &str) {
        let page = self.post("/sign-up", &[("email", email), ("name", "Hanako"), ("password", PASSWORD)]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let path = format!("/_sim/mails?to={email}");
        until(async || line.ask(&path).await["mails"][0].is_object()).await;
        let mail = line.ask(&path).await["mails"][0]["text"].as_str().unwrap().to_owned();
        let token = mail.split("/sign-up/confirm?token=").nth(1).unwrap().split_whitespace().next().unwrap();
        let page = self.post("/sign-up/confirm", &[("token", token)]).await;
        assert_eq!(page.location, "/account?done=signed_up", "{} {}", page.status, page.body);
    }
}

// ---- the demo

pub fn start_demo(folder: &Path) -> (Process, Browser, Line) {
    let folder = folder.to_str().unwrap();
    let mut demo = Process::start(&["demo", "--data", folder, "--port", "0", "--simulator-port", "0"]);
    let members = demo.wait_for("Members' pages");
    let line = demo.wait_for("LINE (simulator)");
    demo.wait_for("Stop with Ctrl-C");
    let (members, line) = (word(&members, "pages"), word(&line, "(simulator)"));
    let browser = Browser::new(members, members);
    (demo, browser, Line::at(line.strip_suffix("/_sim/").unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x37_the_demo_stops_on_sigterm_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, mut line) = start_demo(folder.path());
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(line.0.get("/_sim/").await.status, 200);
    browser.sign_up(&line, "new@example.com").await;
    line.person().await;
    let people = line.ask("/_sim/users").await;
    assert_eq!(people["users"].as_array().unwrap().len(), 3);
    demo.stop();

    let (demo, mut browser, line) = start_demo(folder.path());
    assert_eq!(line.ask("/_sim/users").await, people);
    for (email, password) in [("new@example.com", PASSWORD), ("hanako@example.com", musubi::demo::PASSWORD)] {
        let page = browser.post("/sign-in", &[("email", email), ("password", password)]).await;
        assert_eq!(page.status, 303, "{email} {}", page.body);
    }
    demo.stop();
}

/// What the demo prints can be pasted: whoever is linked gets it, with their name, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demos_command_sends_as_it_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, line) = start_demo(folder.path());
    let printed = demo.told.iter().find(|told| told.contains(" send --config ")).unwrap().clone();
    let printed: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!(printed[0], env!("CARGO_BIN_EXE_musubi"));

    let member = [("email", "hanako@example.com"), ("password", musubi::demo::PASSWORD)];
    assert_eq!(browser.post("/sign-in", &member).await.status, 303);
    let user = line.person().await;
    let attempt = browser.reach_confirm(&line, &user).await;
    browser.confirm(&attempt).await;

    let (code, told) = run(&[&printed[1..], &["--idempotency-key", "once", "--wait"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("recipients: 1; 1 sent"), "{told}");
    assert!(told.contains("left out: 1 have no linked LINE account"), "{told}");
    let (code, told) = run(&[&printed[1..], &["--idempotency-key", "once", "--wait"]].concat());
    assert!(code == Some(0) && told.contains("nothing new is sent"), "{told}");
    let chat = line.ask(&format!("/_sim/users/{user}/chat")).await;
    let dinners = chat["messages"].as_array().unwrap().iter().filter(|one| one.to_string().contains("Dinner for two"));
    let dinners: Vec<_> = dinners.collect();
    assert_eq!(dinners.len(), 1, "{chat:#}");
    assert!(dinners[0].to_string().contains("Dear Hanako Yamada,"), "{dinners:?}");
    demo.stop();
}

/// The other command that is printed changes the phone's menu, whose tabs lead to the other menu of the same tier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demos_other_command_makes_a_gold_member() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, line) = start_demo(folder.path());
    let printed = demo.told.iter().find(|told| told.contains("curl -X PUT")).unwrap().trim().to_owned();
    let member = [("email", "hanako@example.com"), ("password", musubi::demo::PASSWORD)];
    assert_eq!(browser.post("/sign-in", &member).await.status, 303);
    let user = line.person().await;
    let attempt = browser.reach_confirm(&line, &user).await;
    browser.confirm(&attempt).await;
    let chat = format!("/_sim/users/{user}/chat");
    let shows = async |menu: &str| {
        let name = format!("musubi:{menu}:");
        until(async || line.ask(&chat).await["rich_menu"]["name"].as_str().is_some_and(|is| is.starts_with(&name)))
            .await;
    };
    shows("member").await;
    let ended = Command::new("sh").args(["-c", &printed]).output().unwrap();
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains(r#""tier":"gold""#), "{told} {}", String::from_utf8_lossy(&ended.stderr));
    shows("gold").await;
    line.order(&format!("/_sim/users/{user}/tap"), json!({ "label": "特典" })).await;
    shows("gold-benefits").await;
    demo.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_demo_leaves_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, line) = start_demo(folder.path());
    let read = || fs::read_to_string(folder.path().join("musubi.toml")).unwrap();
    let before = read();
    let data = folder.path().to_str().unwrap();
    let (code, told) = run(&["demo", "--data", data, "--port", "0", "--simulator-port", "0"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("another `musubi serve` already works on"), "{told}");
    assert_eq!(read(), before);
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(line.ask("/_sim/users").await["users"].as_array().unwrap().len(), 2);
    demo.stop();
}

/// With a host at an address of its own each, a call to the wrong one fails as it would at LINE.
#[tokio::test]
async fn a_simulator_may_play_each_host_alone() {
    let place = Place::new(Engine::Sqlite).await;
    let config = place.config("line.toml", "http://127.0.0.1:9", "");
    let arguments = ["simulator", "--config", &config, "--listen", "127.0.0.1:0", "--strict-hosts"];
    let mut simulator = Process::start(&arguments);
    let hosts = ["access", "api", "api_data", "liff"].map(|name| {
        let told = simulator.wait_for(&format!("{name} = "));
        (name, told.split('"').nth(1).unwrap().to_owned())
    });
    simulator.wait_for(&format!("is played on {}/_sim/", hosts[0].1));
    for (path, home) in [
        ("/_sim/health", "access"),
        ("/.well-known/openid-configuration", "access"),
        ("/v2/bot/info", "api"),
        ("/v2/bot/richmenu/list", "api"),
        ("/v2/bot/message/1/content", "api_data"),
        ("/v2/bot/richmenu/richmenu-1/content", "api_data"),
    ] {
        for (name, base) in &hosts {
            let status = Browser::new(base, base).get(path).await.status.as_u16();
            assert_eq!(status == 404, *name != home, "{path} at {name}: {status}");
        }
    }
    simulator.stop();
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_chooses_another() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (taken.local_addr().unwrap().to_string(), taken.local_addr().unwrap().port().to_string());
    let place = Place::new(Engine::Sqlite).await;
    let data = place.path("demo").to_str().unwrap().to_owned();
    let config = place.config("musubi.toml", "http://127.0.0.1:9", &format!("listen = \"{address}\""));
    for (arguments, words) in [
        (vec!["demo", "--data", &data, "--port", &port, "--simulator-port", "0"], "with --port"),
        (vec!["demo", "--data", &data, "--port", "0", "--simulator-port", &port], "with --simulator-port"),
        (vec!["serve", "--config", &config], "with listen in the configuration"),
        (vec!["simulator", "--config", &config, "--listen", &address], "with --listen"),
    ] {
        let (code, told) = run(&arguments);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(words) && told.contains(&address), "{arguments:?}: {told}");
    }
}

/// A browser may open connections ahead of need and hold them.
#[tokio::test]
async fn x37_silent_connections_do_not_delay_the_end() {
    let place = Place::new(Engine::Sqlite).await;
    let mut server = Process::start(&["serve", "--config", &place.alone()]);
    let serving = server.wait_for("serving");
    let address = word(&serving, "listen=");
    let silent = std::net::TcpStream::connect(address).unwrap();
    let mut half = std::net::TcpStream::connect(address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
    assert_eq!(Browser::new(&format!("http://{address}"), PUBLIC).get("/healthz").await.status, 200);
    let told = server.stop();
    drop((silent, half));
    assert!(told.contains("request_id=") && !told.contains("request_id=\"\""), "each request has its id: {told}");
}

/// No file descriptor is left for a while: what comes waits or is refused, and afterwards all is as before.
#[tokio::test]
async fn x43_a_server_out_of_file_descriptors_recovers() {
    let place = Place::new(Engine::Sqlite).await;
    let mut server = Process::start_with_files(64, &["serve", "--config", &place.alone()]);
    let serving = server.wait_for("serving");
    let address = word(&serving, "listen=").to_owned();
    let mut browser = Browser::new(&format!("http://{address}"), PUBLIC);
    assert_eq!(browser.get("/readyz").await.status, 200);
    let crowd: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    server.wait_for("no connection can be accepted");
    drop(crowd);
    assert_eq!(browser.get("/readyz").await.status, 200);
    server.stop();
}

// ---- the log

/// Into a folder: a file for each day, the old ones go, and each call to LINE is a line.
#[tokio::test]
async fn the_log_is_kept_in_a_folder_for_so_many_days() {
    let place = Place::new(Engine::Sqlite).await;
    let (simulator, line) = start_simulator(&place);
    let folder = place.path("log");
    let log = format!("listen = \"127.0.0.1:0\"\nlog = {{ folder = \"{}\", keep_days = 30 }}", folder.display());
    let config = place.config("musubi.toml", &line.0.base, &log);
    fs::create_dir(&folder).unwrap();
    let day = |days: i64| {
        let day = jiff::Timestamp::now() - jiff::Span::new().hours(24 * days);
        folder.join(format!("musubi.{}.log", day.strftime("%F")))
    };
    let foreign = folder.join("musubi.notes.log");
    for file in [&day(500), &day(32), &day(29), &foreign] {
        fs::write(file, "before\n").unwrap();
    }
    let mut server = Process::start(&["serve", "--config", &config]);
    server.wait_for("the log is written to");
    let read = || {
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        files.map(|file| fs::read_to_string(file).unwrap()).collect::<String>()
    };
    until(async || read().contains("path=\"/v2/bot/info\"") || read().contains("path=/v2/bot/info")).await;
    let told = server.stop();
    assert!(!told.contains("serving") && !told.contains("called"), "{told}");
    let text = read();
    for words in ["serving", "stopping", "method=GET path=\"/v2/bot/info\" status=200 request_id="] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    for (file, is_kept) in [(day(500), false), (day(32), false), (day(29), true), (foreign, true)] {
        assert_eq!(file.exists(), is_kept, "{}", file.display());
    }

    // A folder that cannot be one is told at the start.
    let config = place.config("other.toml", &line.0.base, "log = { folder = \"/dev/null/log\" }");
    let (code, told) = run(&["serve", "--config", &config]);
    assert!(code == Some(1) && told.contains("log"), "{told}");
    simulator.stop();
    place.end().await;
}

/// Whatever a caller or an error says, an event is one line.
#[tokio::test]
async fn j11_hostile_words_stay_on_their_line() {
    for format in ["text", "json"] {
        let place = Place::new(Engine::Sqlite).await;
        let mut server = Process::start(&["serve", "--log", format, "--config", &place.alone()]);
        let serving = server.wait_for("serving");
        let address = match format {
            "json" => serde_json::from_str::<Value>(&serving).unwrap()["fields"]["listen"].as_str().unwrap().to_owned(),
            _ => word(&serving, "listen=").to_owned(),
        };
        let mut wire = std::net::TcpStream::connect(&address).unwrap();
        let hostile = "/a%0a2026-01-01T00:00:00Z%20INFO%20forged%1b[31m\"quoted\"\u{2028}\u{202e}";
        let request = format!(
            "GET {hostile} HTTP/1.1\r\nHost: localhost:9\r\nUser-Agent: a\tb\u{2028}\"c\"\r\nConnection: close\r\n\r\n"
        );
        wire.write_all(request.as_bytes()).unwrap();
        wire.read_to_end(&mut Vec::new()).unwrap();
        let mut callback = Browser::new(&format!("http://{address}"), PUBLIC);
        callback.get("/line/callback/main?state=x&error=%E2%80%A8forged%1b").await;
        let told = server.stop();
        assert!(told.contains("forged"), "{told}");
        for line in told.lines() {
            assert!(!line.contains(['\u{1b}', '\u{2028}', '\u{202e}', '\t']), "{line:?}");
            match format {
                "json" => assert!(serde_json::from_str::<Value>(line).unwrap()["timestamp"].is_string(), "{line}"),
                // A line of ours begins with our time, of today.
                _ => assert!(line.starts_with("20") && !line.starts_with("2026-01-01T00:00:00Z"), "{line}"),
            }
        }
        place.end().await;
    }
}

// ---- members

#[tokio::test]
async fn an_operator_disables_and_enables_a_member() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let config = place.alone();
        let of = |command, email| run(&["member", command, email, "--config", &config]);
        if engine == Engine::Sqlite {
            let (code, told) = of("disable", "hanako@example.jp");
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains("musubi migrate"), "{told}");
        }
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        place
            .execute(
                "INSERT INTO members (id, email, email_key, name, source, created_at)
                 VALUES ('m', 'Hanako@example.jp', 'hanako@example.jp', 'Hanako', 'company', 0)",
            )
            .await;
        for (command, email, expected, words) in [
            ("disable", "nobody@example.jp", 1, "there is no member with the address \"nobody@example.jp\""),
            ("enable", "a\nb", 1, "there is no member with the address \"a\\nb\""),
            ("enable", "hanako@example.jp", 0, "was not disabled"),
            ("disable", "HANAKO@example.jp", 0, "is disabled; sessions ended: 0"),
            ("disable", "hanako@example.jp", 0, "was disabled already"),
            ("enable", "hanako@example.jp", 0, "can sign in again"),
        ] {
            let (code, told) = of(command, email);
            assert_eq!(code, Some(expected), "{told}");
            assert!(told.contains(words) && told.lines().count() == 1, "{told}");
        }
        assert_eq!(run(&["member", "disable", "--config", &config]).0, Some(2));
        place.end().await;
    }
}

// ---- the database

#[tokio::test]
async fn x16_one_server_a_sqlite_file() {
    let place = Place::new(Engine::Sqlite).await;
    let config = place.alone();
    let mut first = Process::start(&["serve", "--config", &config]);
    first.wait_for("serving");

    fs::create_dir(place.path("other")).unwrap();
    std::os::unix::fs::symlink(place.path("musubi.db"), place.path("other/link.db")).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let by_link = place.path("link.toml").to_str().unwrap().to_owned();
    fs::write(&by_link, text.replace("/musubi.db", "/other/link.db")).unwrap();
    for config in [&config, &by_link] {
        let (code, told) = run(&["serve", "--config", config]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("already works on") && told.contains("use PostgreSQL"), "{told}");
    }
    first.stop();
    let mut second = Process::start(&["serve", "--config", &config]);
    second.wait_for("serving");
    second.stop();
}

#[tokio::test]
async fn a_killed_server_leaves_no_lock() {
    let place = Place::new(Engine::Sqlite).await;
    let config = place.alone();
    for _ in 0..2 {
        let mut server = Process::start(&["serve", "--config", &config]);
        server.wait_for("serving");
        server.kill();
    }
    place.end().await;
}

#[tokio::test]
async fn x42_migrating_twice_at_once_is_migrating_once() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = empty(engine).await;
        let config = place.alone();
        let racing: Vec<_> = (0..3).map(|_| Process::start(&["migrate", "--config", &config])).collect();
        for process in racing {
            let (code, told) = process.end();
            assert_eq!(code, Some(0), "{engine:?} {told}");
            assert!(told.contains("up to date"), "{told}");
        }
        place.end().await;

        let place = empty(engine).await;
        let (one, other) = (place.db().await, place.db().await);
        let (first, second, third) = tokio::join!(one.migrate(), other.migrate(), one.migrate());
        first.and(second).and(third).unwrap();
        one.check_schema().await.unwrap();
        one.migrate().await.unwrap();
        one.close().await;
        other.close().await;
        place.end().await;
    }
}

#[tokio::test]
async fn x42_a_newer_schema_is_refused() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let config = place.alone();
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        place
            .execute(match engine {
                Engine::Sqlite => {
                    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (9999, 'from the future', TRUE, x'00', 1)"
                }
                Engine::Postgres => {
                    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (9999, 'from the future', TRUE, '\\x00', 1)"
                }
            })
            .await;
        for command in ["serve", "migrate", "doctor"] {
            let (code, told) = run(&[command, "--config", &config]);
            assert_eq!(code, Some(1), "{command} {told}");
            assert!(told.contains("newer musubi") && told.contains("9999"), "{command} {told}");
        }
        let db = place.db().await;
        for _ in 0..2 {
            assert!(db.migrate().await.unwrap_err().to_string().contains("newer musubi"), "no lock is left");
        }
        db.close().await;
        place.end().await;
    }
}

#[tokio::test]
async fn roles_need_postgres() {
    let place = Place::new(Engine::Sqlite).await;
    let config = place.alone();
    for role in ["web", "worker"] {
        let (code, told) = run(&["serve", "--config", &config, "--role", role]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("SQLite serves one process"), "{told}");
    }
}

/// Both roles of one machine share a configuration, and so `listen`: only the one that serves uses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_and_worker_share_a_machine() {
    let place = Place::new(Engine::Postgres).await;
    let mut web = Process::start(&["serve", "--role", "web", "--config", &place.alone()]);
    let serving = web.wait_for("serving");
    let address = word(&serving, "listen=");
    let more = format!("listen = \"{address}\"");
    let shared = place.config("shared.toml", "http://127.0.0.1:9", &more);
    let mut worker = Process::start(&["serve", "--role", "worker", "--config", &shared]);
    worker.wait_for("working");
    let mut browser = Browser::new(&format!("http://{address}"), PUBLIC);
    assert_eq!(browser.get("/readyz").await.status, 200);
    assert!(!worker.stop().contains("serving"));
    assert!(!web.stop().contains("working"));
    place.end().await;
}

#[tokio::test]
async fn a_database_password_is_never_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(Engine::Postgres).await;
    let server = url::Url::parse(&place.database_url).unwrap();
    let at = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap());
    place.end().await;
    for database_url in [
        format!("postgres://musubi:hunter2@{at}/there-is-no-such-database"),
        format!("postgres://there-is-no-such-user:hunter2@{at}/postgres"),
        "postgres://musubi:hunter2@nowhere.invalid/musubi".to_owned(),
        "postgres://musubi:hunter2@127.0.0.1:port/musubi".to_owned(),
        "postgres://musubi:hunter2/x@127.0.0.1/musubi".to_owned(),
        "postgres://musubi:hunter2@127.0.0.1/musubi?sslmode=hunter".to_owned(),
    ] {
        let error = Db::connect(&database_url).await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("hunter2"), "{told}");

        let place =
            Place { folder: tempfile::tempdir_in(folder.path()).unwrap(), database_url, engine: Engine::Sqlite };
        for command in ["serve", "migrate", "doctor"] {
            let (code, told) = run(&[command, "--config", &place.alone()]);
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains("the database cannot be opened") && !told.contains("hunter2"), "{told}");
            assert_eq!(told.lines().count(), 1, "each cause once: {told}");
        }
    }
}

async fn empty(engine: Engine) -> Place {
    let place = Place::new(engine).await;
    if engine == Engine::Postgres {
        place.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    }
    place
}

// ---- the command line

#[test]
fn help_tells_what_each_command_does() {
    for (arguments, words) in [
        (&["--help"][..], &["demo", "serve", "simulator", "migrate", "doctor", "key", "events", "--log"][..]),
        (&["demo", "--help"], &["--data", "--port", "--simulator-port", "no LINE channel needed"]),
        (&["serve", "--help"], &["--config", "MUSUBI_CONFIG", "--role", "all, web, worker"]),
        (&["simulator", "--help"], &["--listen", "--strict-hosts", "--data", "loopback"]),
        (
            &["send", "--help"],
            &[
                "--member",
                "--tag",
                "--all",
                "--idempotency-key",
                "--at",
                "--dry-run",
                "--wait",
                "Ends with 0",
                "with 4",
            ],
        ),
        (&["template", "--help"], &["check", "render"]),
        (&["template", "check", "--help"], &["--folder", "every mistake", "ends with 1"]),
        (&["template", "render", "--help"], &["--data", "--locale", "LINE would not take"]),
        (&["migrate", "--help"], &["--config", "schema"]),
        (&["member", "--help"], &["disable", "enable"]),
        (&["events", "--help"], &["list", "show", "retry"]),
        (&["doctor", "--help"], &["--config", "going live"]),
        (&["key", "--help"], &["new", "rotate", "sealing keys"]),
        (&["key", "new", "--help"], &["fresh sealing key", "what to write where"]),
        (&["key", "rotate", "--help"], &["--config", "goes on meanwhile", "sealing_key", "ends with 1"]),
    ] {
        let (code, told) = run(arguments);
        assert_eq!(code, Some(0), "{told}");
        for word in words {
            assert!(told.contains(word), "{arguments:?} without {word:?}: {told}");
        }
    }
    every_command_has_help(&[]);
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&["fly"]).0, Some(2));
    let (code, told) = run(&["serve", "--config", "/nowhere/musubi.toml"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("/nowhere/musubi.toml") && told.contains("cannot be read"), "{told}");
}

/// Whoever reads the answer may stop reading, as `| head` does.
#[test]
fn nobody_need_read_to_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_musubi"));
    let ended = command.args(["template", "check"]).env_clear().stdout(writer).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*told), (Some(0), ""));

    // A full disk is another matter.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_musubi"));
    let ended = command.args(["key", "new"]).env_clear().stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && told.contains("the answer cannot be written"), "{told}");
}

/// Each command says in its first line what it does, and so do those below it.
fn every_command_has_help(command: &[&str]) {
    let (code, told) = run(&[command, &["--help"]].concat());
    assert_eq!(code, Some(0), "{command:?} {told}");
    assert!(!told.starts_with("Usage"), "{command:?} tells nothing: {told}");
    let below = told.split("\nCommands:\n").nth(1).unwrap_or_default().lines().take_while(|line| !line.is_empty());
    for name in below.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help") {
        every_command_has_help(&[command, &[name]].concat());
    }
}

// ---- kill -9

/// What happens between the yes and the kill.
enum Killed {
    /// Nothing but so much time.
    After(Duration),
    /// LINE took the welcome; its answer is still on the way.
    InFlight,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_a_server_killed_after_the_yes_welcomes_once() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let (simulator, mut line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let after = |milliseconds| Killed::After(Duration::from_millis(milliseconds));
        for (round, killed) in [after(0), after(4), after(20), Killed::InFlight].into_iter().enumerate() {
            kill_after_the_yes(&place, &config, &mut line, &format!("{round}@example.com"), killed).await;
        }
        simulator.stop();
        place.end().await;
    }
}

async fn kill_after_the_yes(place: &Place, config: &str, line: &mut Line, email: &str, killed: Killed) {
    let push = "/v2/bot/message/push";
    let mut server = Process::start(&["serve", "--config", config]);
    let serving = server.wait_for("serving");
    let mut browser = Browser::new(&format!("http://{}", word(&serving, "listen=")), PUBLIC);
    add_member(&place.app(config).await, email).await;
    browser.sign_in(email).await;
    let user = line.person().await;
    let attempt = browser.reach_confirm(line, &user).await;
    if matches!(killed, Killed::InFlight) {
        line.order("/_sim/faults", json!({ "endpoint": push, "delay_ms": 60_000 })).await;
    }
    let page = browser.post("/link/confirm", &[("attempt", &attempt), ("decision", "yes"), ("consent", "1:en")]).await;
    assert_eq!(page.location, "/account?done=linked", "{} {}", page.status, page.body);
    match killed {
        Killed::After(delay) => tokio::time::sleep(delay).await,
        Killed::InFlight => until(async || !line.delivered(&user).await.is_empty()).await,
    }
    server.kill();

    // As if the leases of the dead had run out.
    place
        .execute("UPDATE requests SET next_attempt_at = 0; DELETE FROM leases; UPDATE jobs SET leased_until = NULL")
        .await;
    let mut server = Process::start(&["serve", "--config", config]);
    server.wait_for("serving");
    let db = place.db().await;
    until(async || {
        let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state <> 'sent'";
        let mut conn = db.conn().await.unwrap();
        sqlx::query_scalar::<_, i64>(open).fetch_one(&mut *conn).await.unwrap() == 0
    })
    .await;
    let sent = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries d JOIN line_users u ON u.id = d.line_user_id
                WHERE d.state = 'sent' AND u.user_id = $1";
    let sent: i64 = sqlx::query_scalar(sent).bind(&user).fetch_one(&mut *db.conn().await.unwrap()).await.unwrap();
    assert_eq!(sent, 1, "the welcome committed with the link");
    db.close().await;
    server.stop();
    assert_eq!(line.delivered(&user).await, [1]);
    if matches!(killed, Killed::InFlight) {
        let ledger = line.ask("/_sim/ledger").await;
        let last = ledger["calls"].as_array().unwrap().iter().rfind(|call| call["path"] == push).unwrap();
        assert_eq!(last["status"], 409);
    }
}
