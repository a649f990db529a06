//! Rich menus: the files, the menus at LINE, and which one a person is given.

pub mod apply;
mod faults;
mod file;
mod process;

use musubi::{
    queue::Outcome,
    rich_menu::{self, Menu},
};
use serde_json::json;

use super::stub::{Answer, Call, Stage, stages};

const LIST: &str = "GET /v2/bot/richmenu/list";
const CREATE: &str = "POST /v2/bot/richmenu";
const DEFAULT: &str = "POST /v2/bot/user/all/richmenu/";
const USER: &str = "POST /v2/bot/user/U";
const RESET: &str = "DELETE /v2/bot/user/U";

fn menu<'a>(menus: &'a [Menu], name: &str) -> &'a Menu {
    menus.iter().find(|menu| menu.name == name).unwrap()
}

fn name_at_line(stage: &Stage, name: &str) -> String {
    let menus = rich_menu::load(&stage.app.config).unwrap();
    format!("musubi:{name}:{}", menu(&menus, name).hash)
}

/// Lets the stub know `listed` (id and name), and number the menus made.
fn script_menus(stage: &Stage, listed: &[(&str, &str)], made: &[&str]) {
    let listed: Vec<_> = listed.iter().map(|(id, name)| json!({ "richMenuId": id, "name": name })).collect();
    stage.line.script(LIST, Answer::Json(200, json!({ "richmenus": listed })));
    stage.line.script("GET /v2/bot/richmenu/alias/list", Answer::Json(200, json!({ "aliases": [] })));
    let none = json!({ "message": "no default richmenu", "details": [] });
    stage.line.script("GET /v2/bot/user/all/richmenu", Answer::Json(404, none));
    for _ in made {
        stage.line.script("POST /v2/bot/richmenu/validate", Answer::Json(200, json!({})));
    }
    for id in made {
        stage.line.script(CREATE, Answer::Json(200, json!({ "richMenuId": id })));
        stage.line.script(&format!("POST /v2/bot/richmenu/{id}/content"), Answer::Json(200, json!({})));
    }
}

/// Makes `linked` and `unlinked` at the stub, in this order of file names.
async fn ensured(stage: &Stage) {
    script_menus(stage, &[("other", "made by hand")], &["rm-linked", "rm-unlinked"]);
    assert_eq!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Done);
}

fn paths(stage: &Stage, call: &str) -> Vec<String> {
    stage.line.calls(call).into_iter().map(|call| call.path).collect()
}

/// The menus and images that were sent.
fn made(stage: &Stage) -> Vec<Call> {
    let calls = stage.line.calls(CREATE).into_iter();
    calls.filter(|call| call.path != "/v2/bot/richmenu/validate").collect()
}

#[tokio::test]
async fn ensure_makes_what_is_missing_once() {
    for stage in stages("").await {
        ensured(&stage).await;
        let created = made(&stage);
        let [linked, image, unlinked, _] = &created[..] else { panic!("two menus and two images: {created:?}") };
        assert_eq!(linked.json()["name"], json!(name_at_line(&stage, "linked")));
        assert_eq!(
            linked.json()["areas"][0]["action"]["uri"].as_str().unwrap().split('/').nth(2),
            Some("localhost:8080")
        );
        assert_eq!(unlinked.json()["name"], json!(name_at_line(&stage, "unlinked")));
        assert_eq!(image.path, "/v2/bot/richmenu/rm-linked/content");
        assert_eq!(image.header("content-type"), "image/png");
        assert_eq!(paths(&stage, DEFAULT), ["/v2/bot/user/all/richmenu/rm-unlinked"]);
        let (linked, unlinked) = (name_at_line(&stage, "linked"), name_at_line(&stage, "unlinked"));
        script_menus(&stage, &[("rm-linked", &linked), ("rm-unlinked", &unlinked)], &[]);
        assert_eq!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Done);
        assert_eq!(made(&stage).len(), 4, "nothing is made twice");
    }
}

#[tokio::test]
async fn ensure_finds_again_what_a_crash_left() {
    for stage in stages("").await {
        let (linked, unlinked) = (name_at_line(&stage, "linked"), name_at_line(&stage, "unlinked"));
        script_menus(&stage, &[("rm-1", &linked), ("rm-2", &unlinked)], &[]);
        let twice = json!({ "message": "An image has already been uploaded to the richmenu" });
        stage.line.script("POST /v2/bot/richmenu/rm-1/content", Answer::Json(400, twice));
        stage.line.script("POST /v2/bot/richmenu/rm-2/content", Answer::Json(500, json!({ "message": "oops" })));
        assert!(matches!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Retry { .. }));
        script_menus(&stage, &[("rm-1", &linked), ("rm-2", &unlinked)], &[]);
        assert_eq!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Done);
        let uploads = ["/v2/bot/richmenu/rm-1/content", "/v2/bot/richmenu/rm-2/content"];
        let sent: Vec<String> = made(&stage).into_iter().map(|call| call.path).collect();
        assert_eq!(sent, [uploads[0], uploads[1], uploads[1]], "nothing was made");
        assert_eq!(paths(&stage, DEFAULT), ["/v2/bot/user/all/richmenu/rm-2"]);
    }
}

#[tokio::test]
async fn ensure_makes_anew_what_vanished_and_parks_what_line_refuses() {
    for stage in stages("").await {
        ensured(&stage).await;
        let linked = name_at_line(&stage, "linked");
        script_menus(&stage, &[("rm-linked", &linked)], &["rm-new"]);
        assert_eq!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Done);
        assert_eq!(paths(&stage, DEFAULT).last().unwrap(), "/v2/bot/user/all/richmenu/rm-new");
        script_menus(&stage, &[], &[]);
        let details = json!([{ "message": "invalid uri", "property": "areas[0].action.uri" }]);
        let refused = json!({ "message": "The request body has 1 error(s)", "details": details });
        stage.line.script("POST /v2/bot/richmenu/validate", Answer::Json(400, refused));
        let Outcome::Park { why } = rich_menu::ensure(&stage.app, "shop").await else { panic!("parked") };
        assert!(why.contains("linked: areas[0].action.uri invalid uri"), "{why}");
        assert_eq!(made(&stage).len(), 6, "nothing is made where LINE would not take all");
    }
}

#[tokio::test]
async fn a_persons_menu_follows_the_link() {
    for stage in stages("").await {
        let user_id = stage.link("aiko", None).await;
        ensured(&stage).await;
        assert_eq!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Done);
        assert_eq!(paths(&stage, USER), [format!("/v2/bot/user/{user_id}/richmenu/rm-linked")]);
        assert_eq!(stage.texts("SELECT menu FROM user_menus").await, ["linked"]);

        for end in [
            "UPDATE links SET suspended_at = 1",
            "UPDATE links SET suspended_at = NULL, ended_at = 1",
            "UPDATE links SET ended_at = NULL",
        ] {
            stage.execute(end).await;
            let linked = stage.texts("SELECT id FROM links WHERE suspended_at IS NULL AND ended_at IS NULL").await;
            let before = (stage.line.calls(USER).len(), stage.line.calls(RESET).len());
            assert_eq!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Done);
            let expected = if linked.is_empty() { (before.0, before.1 + 1) } else { (before.0 + 1, before.1) };
            assert_eq!((stage.line.calls(USER).len(), stage.line.calls(RESET).len()), expected, "{end}");
        }
    }
}

#[tokio::test]
async fn an_unlinks_step_is_done_when_line_agrees() {
    const STEP: &str = "SELECT state FROM unlink_steps";
    for stage in stages("").await {
        stage.link("aiko", None).await;
        stage.execute("UPDATE links SET ended_at = 1").await;
        stage
            .execute(
                "INSERT INTO unlink_steps (link_id, step, state, updated_at) VALUES ('aiko', 'menu', 'pending', 1)",
            )
            .await;
        stage.line.script(RESET, Answer::Json(500, json!({ "message": "oops" })));
        assert!(matches!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Retry { .. }));
        assert_eq!(stage.texts(STEP).await, ["pending"]);
        assert_eq!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Done);
        assert_eq!(stage.texts(STEP).await, ["done"]);
    }
}

#[tokio::test]
async fn a_link_that_ends_meanwhile_is_seen() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        ensured(&stage).await;
        stage.line.script(USER, Answer::Hang);
        let app = stage.app.clone();
        let job = tokio::spawn(async move { rich_menu::apply(&app, "aiko", "shop").await });
        stage.line.wait_for_calls(USER, 1).await;
        stage.execute("UPDATE links SET ended_at = 1").await;
        stage.line.release();
        assert!(matches!(job.await.unwrap(), Outcome::Retry { after: Some(after), .. } if after.is_zero()));
        assert_eq!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Done);
        assert_eq!(stage.line.calls(RESET).len(), 1);
    }
}

#[tokio::test]
async fn menus_that_are_missing_are_asked_for_once() {
    const ASKED: &str =
        "SELECT subject FROM jobs WHERE kind = 'ensure_menus' AND parked_at IS NULL AND ended_at IS NULL";
    for stage in stages("").await {
        stage.link("aiko", None).await;
        for _ in 0..2 {
            assert!(matches!(
                rich_menu::apply(&stage.app, "aiko", "shop").await,
                Outcome::Retry { after: Some(_), .. }
            ));
            assert_eq!(stage.texts(ASKED).await, ["shop"]);
        }
        ensured(&stage).await;
        stage.execute("UPDATE jobs SET ended_at = 1").await;
        stage.line.script(USER, Answer::Json(404, json!({ "message": "richmenu not found" })));
        assert!(matches!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Retry { .. }));
        assert_eq!(stage.texts(ASKED).await, ["shop"]);
        assert_eq!(stage.texts("SELECT name FROM rich_menus WHERE gone_at IS NOT NULL").await, ["linked"]);
        stage.execute("UPDATE jobs SET parked_at = 9000000000000 WHERE ended_at IS NULL").await;
        stage.line.script(USER, Answer::Json(404, json!({ "message": "richmenu not found" })));
        assert!(matches!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Retry { after: Some(_), .. }));
        assert!(stage.texts(ASKED).await.is_empty(), "given up: not asked for again at once");
    }
}

#[tokio::test]
async fn a_refusal_parks_with_lines_words() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        ensured(&stage).await;
        let words = "Access to this API is not available for your account";
        stage.line.script(USER, Answer::Json(403, json!({ "message": words })));
        let Outcome::Park { why } = rich_menu::apply(&stage.app, "aiko", "shop").await else { panic!("parked") };
        assert!(why.contains(words));
        stage.line.script(USER, Answer::Json(401, json!({ "message": "invalid token" })));
        assert_eq!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Done, "with a new token");
        stage.line.script(USER, Answer::Json(401, json!({ "message": "invalid token" })));
        assert!(matches!(rich_menu::apply(&stage.app, "aiko", "shop").await, Outcome::Retry { .. }), "no third one");
    }
}
