//! Who sees what, and when it changes.

use std::collections::BTreeSet;

use musubi::rich_menu::{self, Rule, overrule};
use serde_json::json;

use super::{
    BATCH, GIVE, LINK, Menu, PROGRESS, TAKE, UNLINK, changed, given, link_many, paths, progress, put_set, requests,
    run, set_tier, sql, tiers, user_id,
};
use crate::stub::{Answer, Stage, stages};

/// For everybody, until so many seconds from now.
fn until(stage: &Stage, seconds: i64) -> Rule {
    Rule { when: Some("true".into()), until: local(stage, seconds), ..Rule::default() }
}

/// A moment as files write it.
fn local(stage: &Stage, seconds: i64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(stage.app.now().0).unwrap() + jiff::SignedDuration::from_secs(seconds);
    Some(at.to_zoned(stage.app.zone.clone()).datetime().round(jiff::Unit::Second).unwrap().to_string())
}

async fn choose(stage: &Stage, member: &str, menu: &str, seconds: Option<u64>) -> Result<(), overrule::Refusal> {
    let until = seconds.map(|seconds| stage.app.now().plus(std::time::Duration::from_secs(seconds)));
    let new = overrule::Overrule { channel: "shop".into(), menu: menu.into(), until };
    let mut tx = stage.app.db.begin().await.unwrap();
    let set = overrule::set(&mut tx, &stage.app, member, &new).await.unwrap();
    tx.commit().await.unwrap();
    set
}

#[tokio::test]
async fn a_set_is_brought_to_all_in_as_few_requests_as_there_may_be() {
    for stage in stages("").await {
        link_many(&stage, 1203, "yes").await;
        sql(&stage, "UPDATE friends SET friend = 'no' WHERE line_user_id IN ('m7', 'm700', 'm900')".into()).await;
        sql(&stage, "UPDATE links SET ended_at = 1 WHERE id = 'm8'".into()).await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        let all: Vec<_> = requests(&stage, LINK);
        assert_eq!(all.iter().map(|(_, people)| people).collect::<Vec<_>>(), [&500, &500, &199]);
        assert!(all.iter().all(|(menu, _)| menu == "member-a"), "{all:?}");
        let told: Vec<String> = stage
            .line
            .calls(LINK)
            .iter()
            .flat_map(|call| call.json()["userIds"].as_array().unwrap().clone())
            .map(|id| id.as_str().unwrap().to_owned())
            .collect();
        let once: BTreeSet<&String> = told.iter().collect();
        assert_eq!(once.len(), told.len(), "nobody is told twice");
        for nobody in [7, 8, 700, 900] {
            assert!(!once.contains(&user_id(nobody)), "{nobody}");
        }
        assert_eq!(given(&stage, "member").await, 1199);
        let walked = progress(&stage).await;
        assert_eq!((walked.seen, walked.moved, walked.people), (1203, 1199, 1203));
        assert!(walked.ended_at.is_some());

        // The same menus as another version: all are walked, nobody is told.
        put_set(&stage, &tiers(), "a").await;
        assert!(run(&stage).await > 0);
        assert_eq!(progress(&stage).await.version, 2);
        assert_eq!((requests(&stage, LINK).len(), requests(&stage, UNLINK).len()), (3, 0));
    }
}

#[tokio::test]
async fn many_who_change_are_told_together_and_one_alone_at_once() {
    for stage in stages("").await {
        link_many(&stage, 620, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        let many: Vec<String> = (0..510).map(|number| format!("m{number}")).collect();
        set_tier(&stage, &many, "gold").await;
        run(&stage).await;
        let gold: Vec<_> = requests(&stage, LINK).into_iter().filter(|(menu, _)| menu == "gold-a").collect();
        assert_eq!(gold, [(json!("gold-a"), 500), (json!("gold-a"), 10)]);
        assert_eq!((given(&stage, "gold").await, given(&stage, "member").await), (510, 110));

        set_tier(&stage, &["m600".into()], "gold").await;
        run(&stage).await;
        assert_eq!(paths(&stage, GIVE), [format!("/v2/bot/user/{}/richmenu/gold-a", user_id(600))]);

        // Of what no rule of theirs asks for nothing follows.
        sql(&stage, "UPDATE members SET name = 'x'".into()).await;
        changed(&stage, "m601", stage.app.now()).await;
        let before = stage.line.calls("").len();
        run(&stage).await;
        assert_eq!(stage.line.calls("").len(), before);
        assert!(stage.texts("SELECT mark FROM menu_changes").await.is_empty());
    }
}

#[tokio::test]
async fn whoever_is_disabled_loses_the_menu_and_gets_it_back() {
    for stage in stages("").await {
        link_many(&stage, 1, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        musubi::member::disabling::disable(&stage.app, "m0").await.unwrap();
        sql(&stage, "UPDATE members SET email_key = 'm0@example.jp'".into()).await;
        musubi::member::disabling::disable(&stage.app, "m0@example.jp").await.unwrap();
        run(&stage).await;
        assert_eq!(paths(&stage, TAKE).len(), 1);
        musubi::member::disabling::enable(&stage.app, "m0@example.jp").await.unwrap();
        run(&stage).await;
        assert_eq!(paths(&stage, GIVE).len(), 2);
    }
}

#[tokio::test]
async fn a_menu_opens_and_closes_with_its_time() {
    for stage in stages("").await {
        link_many(&stage, 3, "unknown").await;
        let rule =
            Rule { when: Some("true".into()), from: local(&stage, 3600), until: local(&stage, 7200), hours: None };
        let [_, member, unlinked] = tiers();
        put_set(&stage, &[Menu("sale", rule, "sale"), member, unlinked], "a").await;
        run(&stage).await;
        assert_eq!(given(&stage, "member").await, 3);
        stage.advance(3000);
        assert_eq!(run(&stage).await, 0, "the time is not reached, and nobody is looked at");
        stage.advance(700);
        run(&stage).await;
        // It is everybody's now: the default shows, and nobody needs one of their own.
        assert_eq!(paths(&stage, "POST /v2/bot/user/all/richmenu/"), ["/v2/bot/user/all/richmenu/sale-a"]);
        assert_eq!(requests(&stage, UNLINK).len(), 1);
        assert_eq!(given(&stage, "none").await, 3);
        stage.advance(3600);
        run(&stage).await;
        assert_eq!(
            paths(&stage, "POST /v2/bot/user/all/richmenu/").last().unwrap(),
            "/v2/bot/user/all/richmenu/unlinked-a"
        );
        assert_eq!(given(&stage, "member").await, 3);
        stage.advance(100_000);
        assert_eq!(run(&stage).await, 0);
    }
}

#[tokio::test]
async fn a_default_that_ends_with_its_time_is_taken_away_where_it_is_ours() {
    for stage in stages("").await {
        for (shown, cleared) in [("sale-a", 1), ("richmenu-of-others", 1), ("sale-a", 2)] {
            put_set(&stage, &[Menu("sale", until(&stage, 60), "sale")], "a").await;
            run(&stage).await;
            stage.advance(61);
            stage.line.script("GET /v2/bot/user/all/richmenu", super::shows(shown));
            run(&stage).await;
            assert_eq!(paths(&stage, "DELETE /v2/bot/user/all/richmenu").len(), cleared, "{shown}");
        }
    }
}

#[tokio::test]
async fn the_companys_choice_goes_before_the_rules_until_it_ends() {
    for stage in stages("").await {
        link_many(&stage, 2, "yes").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        let refused = choose(&stage, "m0", "platinum", None).await.unwrap_err();
        assert_eq!(refused, overrule::Refusal::Unknown(vec!["gold".into(), "member".into(), "unlinked".into()]));
        assert_eq!(choose(&stage, "m0", "gold", Some(0)).await.unwrap_err(), overrule::Refusal::Over);
        choose(&stage, "m0", "gold", Some(3600)).await.unwrap();
        choose(&stage, "m1", "gold", None).await.unwrap();
        run(&stage).await;
        assert_eq!(given(&stage, "gold").await, 2);
        let told = rich_menu::explain(&stage.app, "m0").await.unwrap().unwrap().join("\n");
        assert!(told.contains("shop: gold, by its override") && told.contains("override: gold, until"), "{told}");
        stage.advance(3599);
        assert_eq!(run(&stage).await, 0);
        stage.advance(2);
        run(&stage).await;
        assert_eq!((given(&stage, "gold").await, given(&stage, "member").await), (1, 1));
        let mut tx = stage.app.db.begin().await.unwrap();
        assert!(overrule::clear(&mut tx, &stage.app, "m1", "shop").await.unwrap());
        assert!(!overrule::clear(&mut tx, &stage.app, "m1", "shop").await.unwrap());
        tx.commit().await.unwrap();
        run(&stage).await;
        assert_eq!(given(&stage, "member").await, 2);
        let audit = stage.texts("SELECT action FROM audit ORDER BY id").await;
        assert_eq!(audit, ["menu_overridden", "menu_overridden", "menu_override_ended"]);
    }
}

#[tokio::test]
async fn languages_have_menus_of_their_own() {
    for stage in stages("default_locale = 'ja'").await {
        link_many(&stage, 4, "yes").await;
        sql(&stage, "UPDATE members SET locale = 'en' WHERE id = 'm0'".into()).await;
        sql(&stage, "UPDATE line_users SET language = 'en' WHERE id IN ('m1', 'm3')".into()).await;
        sql(&stage, "UPDATE members SET locale = 'th' WHERE id = 'm2'".into()).await;
        sql(&stage, "UPDATE links SET ended_at = 1 WHERE id = 'm3'".into()).await;
        put_set(&stage, &tiers(), "ja").await;
        sql(&stage, "UPDATE set_menus SET language = 'ja', position = position * 2".into()).await;
        sql(
            &stage,
            "INSERT INTO set_menus (channel, name, language, position, hash, tab_group, rule, rich_menu_id)
             SELECT channel, name, 'en', position + 1, 'en', tab_group, rule, name || '-en' FROM set_menus"
                .into(),
        )
        .await;
        run(&stage).await;
        let menus =
            stage.texts("SELECT line_user_id || ' ' || rich_menu_id FROM user_menus ORDER BY line_user_id").await;
        assert_eq!(menus, ["m0 member-en", "m1 member-en", "m2 member-ja", "m3 unlinked-en"]);
    }
}

/// Everybody on the former menu moves, also those who came to it by a tab; without a request for each 500.
#[tokio::test]
async fn a_changed_picture_moves_everybody_in_one_batch() {
    for stage in stages("").await {
        link_many(&stage, 3, "unknown").await;
        put_set(&stage, &tiers(), "a").await;
        run(&stage).await;
        let told = requests(&stage, LINK).len();
        put_set(&stage, &tiers(), "b").await;
        stage.line.script(PROGRESS, Answer::Json(200, json!({ "phase": "ongoing", "acceptedTime": "x" })));
        stage.line.script(PROGRESS, Answer::Json(200, json!({ "phase": "succeeded", "acceptedTime": "x" })));
        run(&stage).await;
        let [batch] = &stage.line.calls(BATCH)[..] else { panic!("one batch") };
        let operations = &batch.json()["operations"];
        let moved: BTreeSet<_> = operations.as_array().unwrap().iter().map(ToString::to_string).collect();
        let expected = ["gold", "member", "unlinked"]
            .map(|name| json!({ "type": "link", "from": format!("{name}-a"), "to": format!("{name}-b") }).to_string());
        assert_eq!(moved, expected.into_iter().collect());
        // Somebody who changes meanwhile does not wait for it.
        set_tier(&stage, &["m1".into()], "gold").await;
        run(&stage).await;
        assert_eq!(paths(&stage, GIVE).len(), 1);
        for seconds in [5, 60] {
            stage.advance(seconds);
            run(&stage).await;
        }
        assert_eq!(stage.line.calls(PROGRESS).len(), 2);
        let menus = stage.texts("SELECT rich_menu_id FROM user_menus ORDER BY line_user_id").await;
        assert_eq!(menus, ["member-b", "gold-b", "member-b"]);
        assert_eq!(requests(&stage, LINK).len(), told, "nobody is told one by one");
        assert!(progress(&stage).await.ended_at.is_some());
    }
}

#[tokio::test]
async fn where_line_takes_no_batch_people_are_told_in_bulk() {
    let refused = || Answer::Json(400, json!({ "message": "richmenu not found", "details": [] }));
    let busy = || Answer::Json(429, json!({ "message": "The API rate limit has been exceeded" }));
    let failed = || Answer::Json(200, json!({ "phase": "failed", "acceptedTime": "x" }));
    for stage in stages("").await {
        link_many(&stage, 3, "unknown").await;
        put_set(&stage, &tiers(), "0").await;
        run(&stage).await;
        for (hash, call, answer) in [("1", BATCH, refused()), ("2", BATCH, busy()), ("3", PROGRESS, failed())] {
            put_set(&stage, &tiers(), hash).await;
            stage.line.script(call, answer);
            run(&stage).await;
            stage.advance(3);
            run(&stage).await;
            assert_eq!(requests(&stage, LINK).last().unwrap(), &(json!(format!("member-{hash}")), 3), "{hash}");
        }
        // The hour's batches are used up: LINE is not even asked.
        put_set(&stage, &tiers(), "4").await;
        run(&stage).await;
        assert_eq!((stage.line.calls(BATCH).len(), requests(&stage, LINK).len()), (3, 5));
        assert_eq!(requests(&stage, LINK).last().unwrap().0, "member-4");
    }
}

#[tokio::test]
async fn explain_says_what_decides() {
    for stage in stages("").await {
        link_many(&stage, 2, "yes").await;
        let nobody = rich_menu::explain(&stage.app, "nobody").await.unwrap();
        assert_eq!(nobody, None);
        let told = async |member: &str| rich_menu::explain(&stage.app, member).await.unwrap().unwrap().join("\n");
        assert!(told("m0").await.contains("no menus were applied"));
        put_set(&stage, &tiers(), "a").await;
        let pending = told("m0").await;
        for words in [
            "shop: member, by its rule",
            "rule of gold `linked and member.tier == 'gold'`: does not hold: they have no member.tier",
            "rule of member `linked`: holds",
            "rule of unlinked `not linked`: does not hold",
            "pending: LINE is not told yet",
        ] {
            assert!(pending.contains(words), "{words}: {pending}");
        }
        run(&stage).await;
        let given = told("m0").await;
        assert!(given.contains("given at ") && given.ends_with(": member"), "{given}");
        sql(&stage, "UPDATE links SET ended_at = 1 WHERE id = 'm1'".into()).await;
        assert!(told("m1").await.contains("not linked in main"));
        sql(&stage, "UPDATE friends SET friend = 'no'".into()).await;
        assert!(told("m0").await.contains("LINE is told when they follow"));
    }
}
