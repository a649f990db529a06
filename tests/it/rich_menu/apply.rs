//! `musubi rich-menu` against the simulator: files in, and LINE as it must be.

use std::{collections::BTreeMap, fs};

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use musubi::{
    app::App,
    channel::{
        self, Kind,
        hourly::{self, CREATE_RICH_MENU, Spend},
    },
    db::Db,
    doctor,
    queue::Outcome,
    rich_menu::{self, command, command::Options},
    worker,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::file::png;
use crate::support::{BOT_CHANNEL, Engine, TestApp, read};

pub const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// A company's folder of menu files.
pub struct Files(pub TempDir);

impl Files {
    /// `unlinked`, `member` and `help`, the last two with tabs to each other.
    pub fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("unlinked", "when = \"not linked\"", "");
        files.write("member", "when = \"linked\"\nalias = \"member\"", "help");
        files.write("help", "alias = \"help\"", "member");
        files
    }

    /// A file with these keys, its own picture, and an area that leads to a tab where one is named.
    pub fn write(&self, name: &str, keys: &str, tab: &str) {
        let action = if tab.is_empty() {
            "{ type = \"uri\", uri = \"{{public_url}}/account\" }".to_owned()
        } else {
            format!("{{ type = \"richmenuswitch\", richMenuAliasId = \"{tab}\", data = \"to={tab}\" }}")
        };
        let text = format!(
            "{keys}\nimage = \"{name}.png\"\nchat_bar_text = \"Menu\"\nsize = {{ width = 2500, height = 843 }}\n\
             [[areas]]\nbounds = {{ x = 0, y = 0, width = 2500, height = 843 }}\naction = {action}\n"
        );
        fs::write(self.0.path().join(format!("{name}.toml")), text).unwrap();
        if !self.0.path().join(format!("{name}.png")).exists() {
            self.draw(name, 1);
        }
    }

    pub fn draw(&self, name: &str, seed: u8) {
        fs::write(self.0.path().join(format!("{name}.png")), png(2500, 843, seed)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join(format!("{name}.toml"))).unwrap();
    }
}

pub async fn start(engine: Engine, files: &Files) -> TestApp {
    let folder = files.0.path().to_owned();
    let app = TestApp::start_with(engine, |config| config.rich_menu.folder = Some(folder)).await;
    // A test looks more often than anybody would.
    app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/rate"), unlimited()).await;
    app
}

pub fn unlimited() -> Value {
    json!({ "endpoint": "GET /v2/bot/richmenu/list", "calls": null })
}

/// The command, to its end: what it said, or why it stopped.
pub async fn apply(app: &App) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    let done = command::apply(app, &Options::default(), &mut |line: &str| said.push(line.to_owned())).await;
    done.map(|()| said).map_err(|error| error.to_string())
}

pub async fn plan(app: &App) -> Vec<String> {
    let planned = command::plan(app, &Options::default()).await.unwrap();
    let (summary, lines) = planned.lines.split_last().unwrap();
    assert!(summary.starts_with("channel main: "), "{summary}");
    let stays = |line: &&String| line.starts_with("= ") || line.starts_with("  left alone");
    assert_eq!(planned.differs, lines.iter().any(|line| !stays(&line)), "{:?}", planned.lines);
    lines.to_vec()
}

/// A call of LINE's API as the channel's owner, past our client.
pub async fn line(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let token = channel::token(&app.app, Kind::Bot("main")).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    let mut request =
        Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let host = if path.ends_with("/content") { "api-data.line.me" } else { "api.line.me" };
    request = request.header(header::HOST, host);
    let body = match body {
        Value::Null => Body::empty(),
        Value::String(picture) if picture == "picture" => {
            request = request.header(header::CONTENT_TYPE, "image/png");
            Body::from(png(2500, 843, 9))
        }
        body => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
    };
    let answer = read(app.line.clone().oneshot(request.body(body).unwrap()).await.unwrap()).await;
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    json!({ "status": answer.status.as_u16(), "body": body })
}

/// What LINE has: menu ids by name (ours without the hash), aliases by the name of their menu, and the default.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub menus: Vec<String>,
    pub aliases: BTreeMap<String, String>,
    pub default: String,
    pub ids: BTreeMap<String, String>,
}

pub async fn shown(app: &TestApp) -> Shown {
    let list = line(app, Method::GET, "/v2/bot/richmenu/list", Value::Null).await;
    let aliases = line(app, Method::GET, "/v2/bot/richmenu/alias/list", Value::Null).await;
    let default = line(app, Method::GET, "/v2/bot/user/all/richmenu", Value::Null).await;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let short = |name: String| {
        name.strip_prefix("musubi:").and_then(|n| n.split(':').next()).map_or(name.clone(), str::to_owned)
    };
    let ids: BTreeMap<String, String> = list["body"]["richmenus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|menu| (text(menu, "richMenuId"), short(text(menu, "name"))))
        .collect();
    let name = |id: String| ids.get(&id).cloned().unwrap_or(id);
    let mut menus: Vec<String> = ids.values().cloned().collect();
    menus.sort();
    let aliases = aliases["body"]["aliases"].as_array().unwrap().iter();
    let aliases = aliases.map(|one| (text(one, "richMenuAliasId"), name(text(one, "richMenuId")))).collect();
    Shown { menus, aliases, default: name(text(&default["body"], "richMenuId")), ids }
}

/// LINE has just the menus of the files as they are, each once and with its image, its aliases and its default.
pub async fn assert_right(app: &TestApp, what: &str) {
    let menus = rich_menu::load(&app.app.config).unwrap();
    let shown = shown(app).await;
    let mut names: Vec<String> = menus.iter().map(|menu| menu.name.clone()).collect();
    names.sort();
    assert_eq!(shown.menus, names, "{what}");
    let aliases: BTreeMap<String, String> =
        menus.iter().filter_map(|menu| Some((menu.alias.clone()?, menu.name.clone()))).collect();
    assert_eq!(shown.aliases, aliases, "{what}");
    assert_eq!(shown.default, "unlinked", "{what}");
    for id in shown.ids.keys() {
        let found = line(app, Method::GET, &format!("/v2/bot/richmenu/{id}"), Value::Null).await;
        let name = found["body"]["name"].as_str().unwrap().to_owned();
        assert!(menus.iter().any(|menu| name == format!("musubi:{}:{}", menu.name, menu.hash)), "{what}: {name}");
        let image = line(app, Method::GET, &format!("/v2/bot/richmenu/{id}/content"), Value::Null).await;
        assert_eq!(image["status"], 200, "{what}: {name} has its image");
    }
}

/// Lets the server move the people and end what an apply left for later.
pub async fn settle(app: &TestApp) {
    for _ in 0..3 {
        app.drain().await;
        rich_menu::look_after(&app.app).await;
    }
    app.drain().await;
}

/// The menu on a person's phone, by its file.
pub async fn on_phone(app: &TestApp, user: &str) -> String {
    let phone = app.phone(user).await;
    let name = phone["rich_menu"]["name"].as_str().unwrap_or_default().to_owned();
    name.split(':').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_channel_gets_the_menus_once() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        let new = ["+ help", "+ member", "+ unlinked", "+ alias help → help", "+ alias member → member"];
        let default = "~ default → unlinked (now: none)";
        assert_eq!(plan(&app.app).await, [&new[..], &[default]].concat());
        assert_eq!(app.calls_to("/v2/bot/richmenu").await.iter().filter(|call| call["method"] != "GET").count(), 0);

        let said = apply(&app.app).await.unwrap();
        assert_eq!(said.last().unwrap(), "applied as version 1", "{said:?}");
        assert!(
            said.iter().any(|line| line.contains("menus to make: 3 (LINE takes 100 now, 100 an hour)")),
            "{said:?}"
        );
        assert_right(&app, "fresh").await;

        let before = app.calls().await.len();
        let said = apply(&app.app).await.unwrap();
        assert_eq!(said.last().unwrap(), "everything is as the files say", "{said:?}");
        let calls = app.calls().await;
        assert!(calls[before..].iter().all(|call| call["method"] == "GET"), "nothing is made twice");
        assert_eq!(plan(&app.app).await, ["= help", "= member", "= unlinked"]);
        assert_eq!(app.count("SELECT version FROM menu_sets").await, 1);
        let listed = command::list(&app.app, &Options::default()).await.unwrap();
        assert!(listed[0].ends_with("  help  alias help") && listed[2].ends_with("  unlinked  default"), "{listed:?}");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_picture_under_the_same_name_reaches_people_before_the_former_goes() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        apply(&app.app).await.unwrap();
        let (_, user) = app.linked("hanako@example.jp").await;
        assert_eq!(on_phone(&app, &user).await, "member");
        let before = shown(&app).await;

        files.draw("member", 2);
        files.draw("unlinked", 2);
        assert_eq!(
            plan(&app.app).await,
            [
                "~ member: picture changed",
                "~ unlinked: picture changed",
                "~ alias member → member",
                "~ default → unlinked (now: unlinked)",
                "- member, as it was",
                "- unlinked, as it was",
                "= help",
            ]
        );
        let said = apply(&app.app).await.unwrap();
        assert!(said.contains(&"applied as version 2".to_owned()), "{said:?}");
        assert_eq!(said.last().unwrap(), "people who were moved to another menu: 1", "{said:?}");
        assert_eq!(on_phone(&app, &user).await, "member");
        assert!(before.ids.keys().all(|id| before.ids.len() == 3 && !id.is_empty()));
        settle(&app).await;
        assert_right(&app, "moved").await;
        let name = app.phone(&user).await["rich_menu"]["name"].as_str().unwrap().to_owned();
        let menus = rich_menu::load(&app.app.config).unwrap();
        let member = menus.iter().find(|menu| menu.name == "member").unwrap();
        assert_eq!(name, format!("musubi:member:{}", member.hash));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM rich_menus").await, 3, "and is forgotten here");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_tabs_and_default_move_and_others_are_left_alone() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        let other = json!({
            "size": { "width": 2500, "height": 843 }, "selected": false, "name": "Summer", "chatBarText": "Summer",
            "areas": [],
        });
        let made = line(&app, Method::POST, "/v2/bot/richmenu", other.clone()).await;
        let other_id = made["body"]["richMenuId"].as_str().unwrap().to_owned();
        line(&app, Method::POST, &format!("/v2/bot/richmenu/{other_id}/content"), json!("picture")).await;
        let alias = json!({ "richMenuAliasId": "summer", "richMenuId": other_id });
        assert_eq!(line(&app, Method::POST, "/v2/bot/richmenu/alias", alias).await["status"], 200);
        line(&app, Method::POST, &format!("/v2/bot/user/all/richmenu/{other_id}"), Value::Null).await;

        assert!(plan(&app.app).await.contains(&"~ default → unlinked (now: Summer)".to_owned()));
        apply(&app.app).await.unwrap();
        let (_, user) = app.linked("hanako@example.jp").await;

        // Renamed, removed, an alias given to another menu, and another menu for strangers.
        files.remove("member");
        files.remove("help");
        files.write("club", "when = \"linked\"\nalias = \"member\"", "");
        files.write("a-welcome", "when = \"not linked\"", "");
        assert_eq!(
            plan(&app.app).await,
            [
                "+ a-welcome",
                "+ club",
                "~ alias member → club",
                "~ default → a-welcome (now: unlinked)",
                "- alias help",
                "- help",
                "- member",
                "= unlinked",
                "  left alone: alias \"summer\"",
                "  left alone: menu \"Summer\"",
            ]
        );
        apply(&app.app).await.unwrap();
        settle(&app).await;
        let now = shown(&app).await;
        assert_eq!(now.menus, ["Summer", "a-welcome", "club", "unlinked"]);
        let aliases = [("member".to_owned(), "club".to_owned()), ("summer".to_owned(), "Summer".to_owned())];
        assert_eq!((now.aliases, now.default.as_str()), (aliases.into(), "a-welcome"));
        assert_eq!(on_phone(&app, &user).await, "club");
        assert!(now.ids.contains_key(&other_id), "the very same menu");

        // What only we know of it changes no menu at LINE.
        files.write("club", "when = \"linked\"\nalias = \"member\"\nhours = \"00:00-23:59\"", "");
        let calls = app.calls().await.len();
        assert!(plan(&app.app).await.contains(&"~ club: who sees it, or how it is reached".to_owned()));
        let said = apply(&app.app).await.unwrap();
        assert_eq!(said.last().unwrap(), "applied as version 3");
        assert!(app.calls().await[calls..].iter().all(|call| call["method"] == "GET"));

        // No stranger's menu any more: the default goes.
        files.write("unlinked", "", "");
        files.write("a-welcome", "", "");
        apply(&app.app).await.unwrap();
        assert_eq!(shown(&app).await.default, "");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_that_is_somebody_elses_is_told_and_not_taken() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        let other = json!({
            "size": { "width": 2500, "height": 843 }, "selected": false, "name": "Summer", "chatBarText": "Summer",
            "areas": [],
        });
        let made = line(&app, Method::POST, "/v2/bot/richmenu", other).await;
        let id = made["body"]["richMenuId"].as_str().unwrap();
        line(&app, Method::POST, &format!("/v2/bot/richmenu/{id}/content"), json!("picture")).await;
        let alias = json!({ "richMenuAliasId": "help", "richMenuId": id });
        line(&app, Method::POST, "/v2/bot/richmenu/alias", alias).await;
        let before = shown(&app).await;
        let why = apply(&app.app).await.unwrap_err();
        assert!(why.contains("alias \"help\" of help leads to the menu \"Summer\" at LINE"), "{why}");
        assert_eq!(shown(&app).await, before, "nothing was changed");
        assert!(plan(&app.app).await[0].starts_with("! alias \"help\""));
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_waits() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        let other = App::new(app.app.config.clone(), Db::connect(&app.database_url).await.unwrap(), app.clock.clone());
        let other = other.unwrap();
        app.fault(json!({ "endpoint": "POST /v2/bot/richmenu/validate", "delay_ms": 500 })).await;
        let (one, two) = tokio::join!(apply(&app.app), apply(&other));
        let (one, two) = (one.unwrap(), two.unwrap());
        let waiting = "another process works at this channel's menus; waiting for it".to_owned();
        assert_eq!([&one, &two].iter().filter(|said| said.contains(&waiting)).count(), 1, "{one:?} {two:?}");
        let ends = [one.last().unwrap().as_str(), two.last().unwrap().as_str()];
        assert!(ends.contains(&"applied as version 1") && ends.contains(&"everything is as the files say"), "{ends:?}");
        assert_right(&app, "two at once").await;
        other.db.close().await;
        app.end().await;
    }
}

/// Whose files differ from what was applied makes nothing of its own, and gives back what was applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vanished_at_line_is_made_again_from_what_was_applied() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        apply(&app.app).await.unwrap();
        let (_, user) = app.linked("hanako@example.jp").await;
        let before = shown(&app).await;
        let right = rich_menu::load(&app.app.config).unwrap();
        files.draw("member", 2);
        files.remove("help");
        fs::write(files.0.path().join("broken.toml"), "name = 1").unwrap();

        let (id, _) = before.ids.iter().find(|(_, name)| *name == "member").unwrap();
        line(&app, Method::DELETE, &format!("/v2/bot/richmenu/{id}"), Value::Null).await;
        line(&app, Method::DELETE, "/v2/bot/richmenu/alias/help", Value::Null).await;
        line(&app, Method::DELETE, "/v2/bot/user/all/richmenu", Value::Null).await;
        worker::ask(&app.app, "node").await.unwrap();
        assert_eq!(on_phone(&app, &user).await, "", "it was deleted");
        settle(&app).await;
        let after = shown(&app).await;
        assert_eq!((after.menus, after.aliases, after.default), (before.menus, before.aliases, before.default));
        assert!(!after.ids.contains_key(id));
        let phone = app.phone(&user).await;
        let member = right.iter().find(|menu| menu.name == "member").unwrap();
        assert_eq!(
            phone["rich_menu"]["name"],
            format!("musubi:member:{}", member.hash),
            "the picture that was applied"
        );
        assert_eq!(app.count("SELECT version FROM menu_sets").await, 2, "people are gone through again");

        // All is well again: nothing more is asked for.
        let jobs = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE kind = 'ensure_menus'").await;
        rich_menu::look_after(&app.app).await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE kind = 'ensure_menus'").await, jobs);
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hours_menus_are_not_exceeded_and_the_next_apply_goes_on() {
    for engine in ENGINES {
        let files = Files::new();
        let app = start(engine, &files).await;
        for _ in 0..98 {
            assert_eq!(hourly::take(&app.app, "main", CREATE_RICH_MENU).await.unwrap(), Spend::Taken);
        }
        let why = apply(&app.app).await.unwrap_err();
        assert!(why.starts_with("as many were made within an hour as LINE allows (100); the next may be at "), "{why}");
        assert_eq!(shown(&app).await.menus, ["help", "member"]);
        assert!(matches!(rich_menu::ensure(&app.app, "main").await, Outcome::Retry { after: Some(_), .. }));
        app.clock.advance(std::time::Duration::from_secs(40));
        let said = apply(&app.app).await.unwrap();
        assert!(said.contains(&"+ unlinked".to_owned()) && !said.contains(&"+ member".to_owned()), "{said:?}");
        assert_right(&app, "went on").await;
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_moves_the_default_and_doctor_tells_of_files_that_differ() {
    for engine in ENGINES {
        let files = Files::new();
        files.write("campaign", "when = \"not linked\"\npriority = 1\nhours = \"09:00-17:00\"", "");
        let app = start(engine, &files).await;
        let told = |findings: Vec<doctor::Finding>| {
            let lines = findings.iter().map(ToString::to_string).find(|line| line.contains("rich menus of main"));
            lines.unwrap()
        };
        assert!(told(doctor::examine(&app.app).await).starts_with("✓ rich menus of main: without mistakes"));
        apply(&app.app).await.unwrap();
        assert!(told(doctor::examine(&app.app).await).starts_with("✓ rich menus of main: applied as the files say"));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..12 {
            app.clock.advance(std::time::Duration::from_secs(2 * 3600));
            settle(&app).await;
            seen.insert(shown(&app).await.default);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["campaign", "unlinked"], "a day has both");
        files.draw("member", 2);
        let line = told(doctor::examine(&app.app).await);
        assert!(line.starts_with("✗ rich menus of main: the files differ from what was applied (member)"), "{line}");
        files.write("member", "when = \"linkt\"", "");
        let line = told(doctor::examine(&app.app).await);
        assert!(line.contains("member.toml:1: when: \"linkt\" is not a rule"), "{line}");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_language_has_its_menu_its_alias_and_its_people() {
    for engine in ENGINES {
        let files = Files::new();
        let text = fs::read_to_string(files.0.path().join("member.toml")).unwrap();
        let text = text.replace("\"Menu\"", "{ en = \"Menu\", ja = \"メニュー\" }");
        fs::write(files.0.path().join("member.toml"), text).unwrap();
        let app = start(engine, &files).await;
        apply(&app.app).await.unwrap();
        let aliases: Vec<String> = shown(&app).await.aliases.into_keys().collect();
        assert_eq!(aliases, ["help", "member", "member-ja"]);
        for (email, locale, bar) in [("a@example.jp", "ja", "メニュー"), ("b@example.jp", "en", "Menu")] {
            let id = app.member(email, "Hanako").await;
            let mut conn = app.app.db.conn().await.unwrap();
            sqlx::query("UPDATE members SET locale = $1 WHERE id = $2")
                .bind(locale)
                .bind(&id)
                .execute(&mut *conn)
                .await
                .unwrap();
            drop(conn);
            let user = app.line_user("はなこ").await;
            app.signed_in(email).await.link(&user).await;
            app.drain().await;
            assert_eq!(app.phone(&user).await["rich_menu"]["chatBarText"], bar);
        }
        let said = apply(&app.app).await.unwrap();
        assert!(said.contains(&"= member (ja)".to_owned()), "{said:?}");
        app.end().await;
    }
}

#[tokio::test]
async fn of_several_channels_one_is_named() {
    let files = Files::new();
    let folder = files.0.path().to_owned();
    let app = TestApp::start_with(Engine::Sqlite, |config| {
        config.rich_menu.folder = Some(folder);
        let mut second = config.channel["main"].clone();
        second.channel_id = "1000000003".to_owned();
        config.channel.insert("second".to_owned(), second);
    })
    .await;
    let refused = async |channel: Option<&str>| {
        let options = Options { channel: channel.map(str::to_owned) };
        command::plan(&app.app, &options).await.map(|planned| planned.differs).map_err(|error| error.to_string())
    };
    assert_eq!(
        refused(None).await,
        Err("--channel: there are several (main, second); name the one that is meant".into())
    );
    assert_eq!(refused(Some("third")).await, Err("--channel: there is no [channel.third] in the configuration".into()));
    assert_eq!(refused(Some("second")).await, Ok(true));
    app.end().await;
}
