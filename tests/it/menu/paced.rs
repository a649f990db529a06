//! What differs at LINE is found by and by, and mended; what a person chose by a tab stays.

use musubi::rich_menu;

use super::{GIVE, Menu, READ, given, link_many, paths, put_set, run, shows, shows_none, sql, tiers, user_id, when};
use crate::stub::{Stage, stages};

async fn drift(stage: &Stage) -> usize {
    rich_menu::drift(&stage.app, "shop", "one").await.unwrap()
}

/// Everybody has their menu, and was read back.
async fn settled(stage: &Stage, menus: &[Menu<'_>], people: usize) {
    link_many(stage, people, "yes").await;
    put_set(stage, menus, "a").await;
    run(stage).await;
    stage.advance(9);
    stage.line.script(READ, shows("member-a"));
    run(stage).await;
}

#[tokio::test]
async fn drift_is_found_by_a_few_questions_at_a_time_and_mended() {
    for stage in stages("").await {
        settled(&stage, &tiers(), 5).await;
        let asked = stage.line.calls(READ).len();
        assert_eq!(drift(&stage).await, 0, "just told");
        stage.advance(25 * 3600);
        for answer in [shows("member-a"), shows_none(), shows("richmenu-of-others")] {
            stage.line.script(READ, answer);
        }
        assert_eq!(drift(&stage).await, 3);
        assert_eq!(stage.line.calls(READ).len(), asked + 3);
        run(&stage).await;
        let given = super::requests(&stage, super::LINK);
        assert_eq!(given.last().unwrap().1, 2, "the two that differ");
        for _ in 0..2 {
            stage.line.script(READ, shows("member-a"));
        }
        assert_eq!(drift(&stage).await, 2, "the others");
        assert_eq!(drift(&stage).await, 0, "all were asked about");
    }
}

#[tokio::test]
async fn a_tab_that_a_person_chose_stays() {
    for stage in stages("").await {
        let menus = [
            Menu("member", when("linked"), "member"),
            Menu("support", musubi::rich_menu::Rule::default(), "member"),
            Menu("unlinked", when("not linked"), "unlinked"),
        ];
        settled(&stage, &menus, 1).await;
        stage.advance(25 * 3600);
        stage.line.script(READ, shows("support-a"));
        assert_eq!(drift(&stage).await, 1);
        assert_eq!(run(&stage).await, 0);
        stage.advance(25 * 3600);
        stage.line.script(READ, shows("unlinked-a"));
        assert_eq!(drift(&stage).await, 1);
        run(&stage).await;
        assert_eq!(paths(&stage, GIVE).last().unwrap(), &format!("/v2/bot/user/{}/richmenu/member-a", user_id(0)));
    }
}

#[tokio::test]
async fn whoever_is_no_friend_never_drifts() {
    for stage in stages("").await {
        settled(&stage, &tiers(), 2).await;
        let asked = stage.line.calls(READ).len();
        sql(&stage, "UPDATE friends SET friend = 'no' WHERE line_user_id = 'm0'".into()).await;
        sql(&stage, "UPDATE friends SET friend = 'unknown' WHERE line_user_id = 'm1'".into()).await;
        stage.advance(25 * 3600);
        assert_eq!(drift(&stage).await, 0);
        assert_eq!((run(&stage).await, drift(&stage).await), (0, 0));
        assert_eq!(stage.line.calls(READ).len(), asked);
        assert_eq!(given(&stage, "member").await, 1, "of who is no friend nothing is remembered");
    }
}
