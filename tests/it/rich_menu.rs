//! Rich menus: the files, the menus at LINE, and which one a person is given.

use std::fs;

use musubi::{
    queue::Outcome,
    rich_menu::{self, Menu},
};
use serde_json::json;

use super::stub::{Answer, Stage, stages};

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
    for id in made {
        stage.line.script("POST /v2/bot/richmenu", Answer::Json(200, json!({ "richMenuId": id })));
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

#[tokio::test]
async fn ensure_makes_what_is_missing_once() {
    for stage in stages("").await {
        ensured(&stage).await;
        let created = stage.line.calls(CREATE);
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
        assert_eq!(stage.line.calls(CREATE).len(), 4, "nothing is made twice");
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
        assert_eq!(paths(&stage, CREATE), [uploads[0], uploads[1], uploads[1]], "nothing was made");
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
        stage.line.script(CREATE, Answer::Json(400, json!({ "message": "invalid uri", "details": [] })));
        let Outcome::Park { why } = rich_menu::ensure(&stage.app, "shop").await else { panic!("parked") };
        assert!(why.contains("invalid uri"), "{why}");
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

#[tokio::test]
async fn every_mistake_in_the_companys_files_is_named() {
    let good = r#"
        name = "gold"
        chat_bar_text = "Menu"
        size = { width = 2500, height = 843 }
        image = "gold.png"
        when = "linked"
        [[areas]]
        bounds = { x = 0, y = 0, width = 2500, height = 843 }
        action = { type = "uri", label = "Account", uri = "{{public_url}}/account" }
    "#;
    for stage in stages("rich_menu = { folder = 'FOLDER' }").await {
        let file = |name: &str, text: &str| fs::write(stage.folder.path().join(name), text).unwrap();
        let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0, 0, 9, 196, 0, 0, 3, 75, 8, 2, 0, 0, 0]].concat();
        fs::write(stage.folder.path().join("gold.png"), &png).unwrap();
        file("gold.toml", good);
        let menus = rich_menu::load(&stage.app.config).unwrap();
        assert_eq!(menus.len(), 1);
        assert_eq!(menu(&menus, "gold").hash.len(), 12);
        for (from, to, mistake) in [
            ("\"gold\"", "\"Gold 1\"", "name:"),
            ("\"Menu\"", "\"This is far too long\"", "chat_bar_text: has 20"),
            ("height = 843 }\n        image", "height = 2000 }\n        image", "1.45"),
            (
                "width = 2500, height = 843 }\n        image",
                "width = 700, height = 300 }\n        image",
                "size.width: 700",
            ),
            ("gold.png", "none.png", "image: none.png"),
            ("gold.png", "gold.toml", "neither PNG nor JPEG"),
            ("\"linked\"", "\"linkd\"", "when:"),
            ("x = 0", "x = 1", "areas[0].bounds"),
            ("{{public_url}}", "http://members.example.jp", "areas[0].action.uri"),
            ("{{public_url}}", "{{privat_url}}", "privat_url"),
            ("\"uri\",", "\"camera\",", "areas[0].action.type"),
            ("chat_bar_text", "chat_bar", "unknown field"),
        ] {
            file("gold.toml", &good.replace(from, to));
            let found = rich_menu::load(&stage.app.config).expect_err(to).to_string();
            assert!(found.contains(mistake), "{to}: {found}");
        }
        file("gold.toml", good);
        file("gold-2.toml", good);
        assert!(rich_menu::load(&stage.app.config).unwrap_err().to_string().contains("already another file's"));
        fs::write(stage.folder.path().join("gold.png"), [&png[..], &[0; 1_000_000]].concat()).unwrap();
        let found = rich_menu::load(&stage.app.config).unwrap_err();
        assert_eq!(found.0.len(), 2, "both files: {found}");
        assert!(found.0[0].contains("1 MB"), "{found}");
        assert!(matches!(rich_menu::ensure(&stage.app, "shop").await, Outcome::Park { .. }));
    }
}
