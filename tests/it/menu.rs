//! Everybody is brought to the menu that the rules say: after another set, after changes, at a time, by the company's
//! choice; in as few requests as there may be, whatever LINE answers.

mod faults;
mod paced;
mod people;
mod story;

use musubi::{
    db::Millis,
    menu_change::{self, Change},
    rich_menu::{self, Rule},
};
use serde_json::{Value, json};

use crate::stub::{Answer, Call, Stage, insert_linked};

pub const LINK: &str = "POST /v2/bot/richmenu/bulk/link";
pub const UNLINK: &str = "POST /v2/bot/richmenu/bulk/unlink";
pub const BATCH: &str = "POST /v2/bot/richmenu/batch";
pub const PROGRESS: &str = "GET /v2/bot/richmenu/progress/batch";
/// One person's.
pub const GIVE: &str = "POST /v2/bot/user/U";
pub const TAKE: &str = "DELETE /v2/bot/user/U";
pub const READ: &str = "GET /v2/bot/user/U";

/// A menu of a set, by its name, its rule and its group.
pub struct Menu<'a>(pub &'a str, pub Rule, pub &'a str);

pub fn when(text: &str) -> Rule {
    Rule { when: Some(text.to_owned()), ..Rule::default() }
}

/// Gold members, members and all others.
pub fn tiers() -> [Menu<'static>; 3] {
    [
        Menu("gold", when("linked and member.tier == 'gold'"), "gold"),
        Menu("member", when("linked"), "member"),
        Menu("unlinked", when("not linked"), "unlinked"),
    ]
}

pub async fn sql(stage: &Stage, text: String) {
    let statement = sqlx::AssertSqlSafe(text);
    sqlx::query(statement).execute(&mut *stage.app.db.conn().await.unwrap()).await.unwrap();
}

/// Puts another set in the place of the channel's; a menu's id at LINE is its name and `hash`.
pub async fn put_set(stage: &Stage, menus: &[Menu<'_>], hash: &str) {
    sql(stage, "DELETE FROM set_menus".into()).await;
    sql(
        stage,
        "INSERT INTO menu_sets (channel, version, applied_at) VALUES ('shop', 1, 0)
         ON CONFLICT (channel) DO UPDATE SET version = menu_sets.version + 1"
            .into(),
    )
    .await;
    sql(stage, "UPDATE rich_menus SET retired_at = 1".into()).await;
    for (position, Menu(name, rule, group)) in menus.iter().enumerate() {
        let rule = serde_json::to_string(rule).unwrap().replace('\'', "''");
        sql(
            stage,
            format!(
                "INSERT INTO set_menus (channel, name, language, position, hash, tab_group, rule, rich_menu_id)
                 VALUES ('shop', '{name}', '', {position}, '{hash}', '{group}', '{rule}', '{name}-{hash}')"
            ),
        )
        .await;
        sql(
            stage,
            format!(
                "INSERT INTO rich_menus (channel, name, hash, rich_menu_id, created_at, image_at)
                 VALUES ('shop', '{name}', '{hash}', '{name}-{hash}', {position}, 1)
                 ON CONFLICT (channel, name, hash) DO UPDATE SET retired_at = NULL"
            ),
        )
        .await;
    }
}

/// Linked members `m0`, `m1` and so on, who are friends or not.
pub async fn link_many(stage: &Stage, count: usize, friend: &str) {
    let mut tx = stage.app.db.begin().await.unwrap();
    for number in 0..count {
        let name = format!("m{number}");
        insert_linked(&mut tx, stage.app.now(), &name, &user_id(number), Some(friend)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

pub fn user_id(number: usize) -> String {
    format!("U{number:032x}")
}

/// Does what there is to do; gives how many steps that took.
pub async fn run(stage: &Stage) -> usize {
    let mut steps = 0;
    while rich_menu::run(&stage.app, "shop", "one").await.unwrap() > 0 {
        steps += 1;
        assert!(steps < 1000, "there is no end");
    }
    steps
}

/// An attribute, and the change that commits with it.
pub async fn set_tier(stage: &Stage, members: &[String], tier: &str) {
    for member in members {
        sql(
            stage,
            format!(
                "INSERT INTO member_attributes (member_id, name, kind, value) VALUES ('{member}', 'tier', 'text', '{tier}')
                 ON CONFLICT (member_id, name) DO UPDATE SET value = excluded.value"
            ),
        )
        .await;
    }
    let mut tx = stage.app.db.begin().await.unwrap();
    menu_change::of_members(&mut tx, &stage.app, members).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn changed(stage: &Stage, line_user_id: &str, due_at: Millis) {
    let change = Change { channel: "shop".into(), line_user_id: line_user_id.into(), due_at, tries: 0 };
    let mut conn = stage.app.db.conn().await.unwrap();
    menu_change::insert(&mut conn, &stage.app.db, stage.app.now(), &[change]).await.unwrap();
}

/// To which menu, and how many people, each request for many was.
pub fn requests(stage: &Stage, call: &str) -> Vec<(Value, usize)> {
    let of = |call: Call| {
        let body = call.json();
        (body["richMenuId"].clone(), body["userIds"].as_array().unwrap().len())
    };
    stage.line.calls(call).into_iter().map(of).collect()
}

pub fn paths(stage: &Stage, call: &str) -> Vec<String> {
    stage.line.calls(call).into_iter().map(|call| call.path).collect()
}

pub fn shows(menu: &str) -> Answer {
    Answer::Json(200, json!({ "richMenuId": menu }))
}

pub fn shows_none() -> Answer {
    Answer::Json(404, json!({ "message": "the user has no richmenu", "details": [] }))
}

pub async fn given(stage: &Stage, menu: &str) -> usize {
    let given = stage.texts("SELECT COALESCE(menu, 'none') FROM user_menus").await;
    given.iter().filter(|given| *given == menu).count()
}

pub async fn progress(stage: &Stage) -> rich_menu::Progress {
    let mut conn = stage.app.db.conn().await.unwrap();
    rich_menu::progress(&mut conn, "shop", "main").await.unwrap().unwrap()
}
