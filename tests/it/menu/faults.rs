//! LINE refuses, is slow or down in the middle of many; a node ends there, or there are two.

use musubi::rich_menu;
use serde_json::json;

use super::{
    GIVE, LINK, READ, given, link_many, paths, progress, put_set, requests, run, set_tier, shows, shows_none, sql,
    tiers, user_id,
};
use crate::stub::{Answer, stages};

#[tokio::test]
async fn line_is_left_alone_for_as_long_as_it_says() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        let busy = json!({ "message": "The API rate limit has been exceeded. Try again later." });
        stage.line.script(LINK, Answer::With(429, &[("retry-after", "7")], busy));
        assert_eq!(run(&stage).await, 0);
        stage.advance(6);
        assert_eq!(run(&stage).await, 0);
        set_tier(&stage, &["m0".into()], "gold").await;
        assert_eq!(run(&stage).await, 0, "not for one either");
        assert_eq!(stage.line.calls("POST /v2/bot").len(), 1);
        assert!(progress(&stage).await.note.unwrap().contains("429"));
        stage.advance(2);
        run(&stage).await;
        assert_eq!((given(&stage, "gold").await, given(&stage, "member").await), (1, 2));
        assert_eq!(progress(&stage).await.note, None);
    }
}

#[tokio::test]
async fn what_was_lost_is_told_again_and_nothing_else() {
    for stage in stages("").await {
        link_many(&stage, 1100, "unknown").await;
        put_set(&stage, &tiers(), "a").await;
        for answer in
            [Answer::Json(202, json!({})), Answer::Cut, Answer::Json(500, json!({})), Answer::Json(503, json!({}))]
        {
            stage.line.script(LINK, answer);
        }
        for _ in 0..4 {
            run(&stage).await;
            stage.advance(30);
        }
        let calls = stage.line.calls(LINK);
        let bodies: Vec<_> = calls.iter().map(crate::stub::Call::json).collect();
        assert_eq!(bodies.len(), 6, "the first; the second three times in vain; then the second and the third");
        assert!(bodies[1..5].iter().all(|body| *body == bodies[1]), "the same people, again");
        assert_ne!(bodies[0], bodies[1]);
        assert_eq!(given(&stage, "member").await, 1100);
    }
}

#[tokio::test]
async fn one_bad_id_is_set_aside_and_the_rest_goes_on() {
    for stage in stages("").await {
        link_many(&stage, 6, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        for place in [2, 3] {
            let message =
                format!("The property, 'userIds[{place}]', in the request body is invalid (line: -, column: -)");
            stage.line.script(LINK, Answer::Json(400, json!({ "message": message, "details": [] })));
        }
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).iter().map(|(_, people)| *people).collect::<Vec<_>>(), [6, 5, 4]);
        let refused = stage.texts("SELECT line_user_id FROM user_menus WHERE refused IS NOT NULL ORDER BY 1").await;
        assert_eq!(refused, ["m2", "m4"]);
        let told = rich_menu::explain(&stage.app, "m2").await.unwrap().unwrap().join("\n");
        assert!(told.contains("refused by LINE"), "{told}");
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).len(), 3, "not asked for again");
    }
}

#[tokio::test]
async fn a_menu_that_vanished_is_asked_for_and_people_wait_for_it() {
    const ASKED: &str = "SELECT subject FROM jobs WHERE kind = 'ensure_menus' AND ended_at IS NULL";
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        stage.line.script(LINK, Answer::Json(404, json!({ "message": "richmenu not found", "details": [] })));
        run(&stage).await;
        assert_eq!(stage.texts(ASKED).await, ["shop"]);
        assert_eq!(stage.texts("SELECT name FROM rich_menus WHERE gone_at IS NOT NULL").await, ["member"]);
        assert_eq!(run(&stage).await, 0, "until it comes");
        sql(&stage, "UPDATE set_menus SET rich_menu_id = 'member-new' WHERE name = 'member'".into()).await;
        stage.advance(3);
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).last().unwrap(), &(json!("member-new"), 3));
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        stage.line.script(LINK, Answer::Json(401, json!({ "message": "Authentication failed" })));
        run(&stage).await;
        let calls = stage.line.calls(LINK);
        assert_eq!(calls.len(), 2);
        assert_ne!(calls[0].header("authorization"), calls[1].header("authorization"));
        assert_eq!(given(&stage, "member").await, 3);
    }
}

#[tokio::test]
async fn what_line_took_and_did_not_do_is_told_again() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        assert_eq!(run(&stage).await, 0, "it is not read back at once");
        for round in 1..=3 {
            stage.advance(9);
            stage.line.script(READ, shows_none());
            run(&stage).await;
            assert_eq!(requests(&stage, LINK).len(), 1 + round, "the whole request");
        }
        stage.advance(9);
        stage.line.script(READ, shows_none());
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).len(), 4, "not without end");
        assert_eq!(stage.line.calls(READ).len(), 4);
        stage.advance(60);
        assert_eq!(run(&stage).await, 0);
    }
}

#[tokio::test]
async fn where_line_does_not_tell_other_work_goes_on() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        stage.advance(9);
        stage.line.script(READ, Answer::Json(500, json!({})));
        assert_eq!(run(&stage).await, 0);
        stage.advance(9);
        set_tier(&stage, &["m0".into()], "gold").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        assert!(progress(&stage).await.ended_at.is_some());
        assert_eq!((stage.line.calls(READ).len(), given(&stage, "gold").await), (1, 1));
        stage.advance(60);
        stage.line.script(READ, shows("member-a"));
        run(&stage).await;
        assert!(stage.texts("SELECT line_user_id FROM menu_checks").await.is_empty());
    }
}

#[tokio::test]
async fn a_sample_that_is_so_ends_the_matter() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        stage.advance(9);
        stage.line.script(READ, shows("member-a"));
        run(&stage).await;
        assert_eq!((stage.line.calls(READ).len(), requests(&stage, LINK).len()), (1, 1));
        assert!(stage.texts("SELECT line_user_id FROM menu_checks").await.is_empty());
    }
}

/// Of whom LINE tells nothing no sample is taken.
#[tokio::test]
async fn strangers_are_told_and_not_read_back() {
    for stage in stages("").await {
        link_many(&stage, 3, "unknown").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).len(), 1);
        stage.advance(60);
        assert_eq!(run(&stage).await, 0);
        assert!(stage.line.calls(READ).is_empty());
    }
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_is_followed_by_one_that_goes_on() {
    for stage in stages("").await {
        link_many(&stage, 1600, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        stage.line.script(LINK, Answer::Json(202, json!({})));
        stage.line.script(LINK, Answer::Hang);
        let app = stage.app.clone();
        let node = tokio::spawn(async move { rich_menu::run(&app, "shop", "dead").await });
        stage.line.wait_for_calls(LINK, 2).await;
        assert_eq!(given(&stage, "member").await, 500);
        node.abort();
        assert!(node.await.unwrap_err().is_cancelled());
        assert_eq!(run(&stage).await, 0, "its lease holds still");
        sql(&stage, "UPDATE leases SET expires_at = 0".into()).await;
        run(&stage).await;
        let people: Vec<_> = requests(&stage, LINK).into_iter().map(|(_, people)| people).collect();
        assert_eq!(people, [500, 500, 500, 500, 100], "what was done is not done again");
        assert_eq!(given(&stage, "member").await, 1600);
    }
}

#[tokio::test]
async fn two_nodes_tell_nobody_twice() {
    for stage in stages("").await {
        link_many(&stage, 700, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        stage.line.script(LINK, Answer::Hang);
        let app = stage.app.clone();
        let node = tokio::spawn(async move { rich_menu::run(&app, "shop", "other").await });
        stage.line.wait_for_calls(LINK, 1).await;
        assert_eq!(run(&stage).await, 0);
        set_tier(&stage, &["m3".into()], "gold").await;
        assert_eq!(run(&stage).await, 0, "nor of a change");
        stage.line.release();
        assert!(node.await.unwrap().unwrap() > 0);
        sql(&stage, "DELETE FROM leases".into()).await;
        run(&stage).await;
        assert_eq!(requests(&stage, LINK).len(), 2);
        assert_eq!(paths(&stage, GIVE), [format!("/v2/bot/user/{}/richmenu/gold-a", user_id(3))]);
    }
}

/// LINE does what it took for many a moment later: somebody who was unlinked in between must not keep the menu.
#[tokio::test]
async fn an_unlink_while_many_are_told_wins() {
    for stage in stages("").await {
        link_many(&stage, 3, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        stage.line.script(LINK, Answer::Hang);
        let app = stage.app.clone();
        let node = tokio::spawn(async move { rich_menu::run(&app, "shop", "one").await });
        stage.line.wait_for_calls(LINK, 1).await;
        sql(&stage, "UPDATE links SET ended_at = 1 WHERE id = 'm1'".into()).await;
        assert_eq!(rich_menu::apply(&stage.app, "m1", "shop").await, musubi::queue::Outcome::Done);
        stage.line.release();
        node.await.unwrap().unwrap();
        let before = stage.line.calls(super::TAKE).len();
        stage.advance(9);
        for _ in 0..3 {
            stage.line.script(READ, shows("member-a"));
        }
        run(&stage).await;
        assert_eq!(stage.line.calls(super::TAKE).len(), before + 1, "told again after LINE had done it");

        // The job came after the request was recorded, and before LINE had done it.
        sql(&stage, "UPDATE links SET ended_at = 1 WHERE id = 'm2'".into()).await;
        sql(&stage, "UPDATE user_menus SET request = 'x', applied_at = 9000000000000 WHERE line_user_id = 'm2'".into())
            .await;
        rich_menu::apply(&stage.app, "m2", "shop").await;
        let before = stage.line.calls(super::TAKE).len();
        stage.advance(9);
        stage.line.script(READ, shows("member-a"));
        run(&stage).await;
        assert_eq!(stage.line.calls(super::TAKE).len(), before + 1);
    }
}
