//! The command in a process of its own: killed in the middle it goes on, and its exit code tells a script what is.

#![expect(clippy::assertions_on_constants, reason = "a failure says how to run it")]

use musubi::{
    channel::{self, Kind},
    rich_menu,
};

use super::apply::{ENGINES, Files, unlimited};
use crate::support::{
    BOT_CHANNEL, Engine,
    process::{Place, Process, run, start_simulator},
};

const POINTS: [&str; 8] = [
    "menu.created",
    "menu.created:2",
    "menu.uploaded",
    "menu.aliased",
    "menu.aliased:2",
    "menu.default",
    "menu.stored",
    "menu.deleted",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_the_next_apply_goes_on() {
    assert!(cfg!(feature = "kill-points"), "this needs `cargo test --features kill-points`, as tests/run does it");
    for engine in ENGINES {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        line.order(&format!("/_sim/bots/{BOT_CHANNEL}/rate"), unlimited()).await;
        let files = Files::new();
        let more = format!("rich_menu = {{ folder = '{}' }}", files.0.path().display());
        let config = place.config("musubi.toml", &line.0.base, &more);
        assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
        let command = |verb: &'static str| ["rich-menu", verb, "--config", &config];
        let (code, told) = run(&[&command("plan")[..], &["--check"]].concat());
        assert_eq!(code, Some(2), "{told}");
        assert_eq!(run(&command("plan")).0, Some(0), "without --check a difference is no failure");
        let app = place.app(&config).await;
        for (round, point) in (1_u8..).zip(POINTS) {
            for name in ["member", "unlinked", "help"] {
                files.draw(name, round);
            }
            // An alias that is to be moved, and in the next round another one.
            let alias = format!("alias = \"a{round}\"");
            files.write("extra", &alias, "member");
            let name = point.split(':').next().unwrap();
            assert!(musubi::kill::POINTS.contains(&name), "{point}");
            Process::start_with(&command("apply"), &[("MUSUBI_KILL_AT", point)]).end_by_abort();
            // As if its minute were over.
            place.execute("DELETE FROM leases").await;
            let (code, told) = run(&command("apply"));
            assert_eq!(code, Some(0), "{point}: {told}");
            let (code, told) = run(&[&command("plan")[..], &["--check"]].concat());
            assert_eq!(code, Some(0), "{point}: {told}");

            let token = channel::token(&app, Kind::Bot("main")).await.unwrap();
            let mut names: Vec<String> =
                app.line.list_rich_menus(&token).await.unwrap().into_iter().map(|menu| menu.name).collect();
            names.sort();
            let menus = rich_menu::load(&app.config).unwrap();
            let mut expected: Vec<String> =
                menus.iter().map(|menu| format!("musubi:{}:{}", menu.name, menu.hash)).collect();
            expected.sort();
            assert_eq!(names, expected, "{point}: each once");
            let aliases = app.line.list_rich_menu_aliases(&token).await.unwrap();
            let mut aliases: Vec<String> = aliases.into_iter().map(|alias| alias.rich_menu_alias_id).collect();
            aliases.sort();
            assert_eq!(aliases, [&format!("a{round}"), "help", "member"], "{point}");
        }
        let made = line.calls_to("/v2/bot/richmenu").await;
        let made = made.iter().filter(|call| call["method"] == "POST" && call["path"] == "/v2/bot/richmenu").count();
        let rounds = POINTS.len();
        assert!(made <= rounds * 3 + rounds + 1, "nothing is made twice: {made}");
        app.db.close().await;
        simulator.stop();
        place.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_ends_the_command_with_its_file_and_line() {
    let place = Place::new(Engine::Sqlite).await;
    let files = Files::new();
    let more = format!("rich_menu = {{ folder = '{}' }}", files.0.path().display());
    let config = place.config("musubi.toml", "http://127.0.0.1:9", &more);
    assert_eq!(run(&["migrate", "--config", &config]).0, Some(0));
    files.write("member", "when = \"linkt\"\nalias = \"Member\"", "help");
    for verb in ["plan", "apply"] {
        let (code, told) = run(&["rich-menu", verb, "--config", &config]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("member.toml:1: when: \"linkt\" is not a rule"), "{told}");
        assert!(told.contains("member.toml:2: alias: must be 1 to 32 of a-z"), "{told}");
    }
    files.write("member", "when = \"linked\"\nalias = \"member\"", "help");
    let (code, told) = run(&["rich-menu", "plan", "--config", &config]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("LINE could not be reached"), "{told}");
    place.end().await;
}
