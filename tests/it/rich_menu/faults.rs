//! LINE refusing, cutting or slow at every call of an apply: the former menus work on, and the next apply goes on.

use std::time::Duration;

use serde_json::{Value, json};

use super::apply::{ENGINES, Files, apply, assert_right, on_phone, settle, shown, start};
use crate::{kill::rounds, support::TestApp};

/// Two states of the files, so that each round changes all there is: pictures, an alias's menu, names, the default.
fn write(files: &Files, round: usize) {
    let (here, gone) = if round.is_multiple_of(2) { ("extra", "other") } else { ("other", "extra") };
    files.draw("member", u8::try_from(round % 200).unwrap());
    files.draw("unlinked", u8::try_from(round % 200).unwrap());
    files.write(here, &format!("alias = \"more\"\npriority = {round}"), "member");
    if files.0.path().join(format!("{gone}.toml")).exists() {
        files.remove(gone);
    }
}

async fn set_fault(app: &TestApp, after: usize, fault: &Value) {
    app.clear_faults().await;
    if after > 0 {
        // One that does nothing lets so many calls pass.
        app.fault(json!({ "endpoint": "*", "count": after })).await;
    }
    app.fault(fault.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_line_does_at_any_call_the_next_apply_goes_on() {
    let faults = [
        json!({ "endpoint": "*", "status": 500 }),
        json!({ "endpoint": "*", "cut": "after" }),
        json!({ "endpoint": "*", "status": 403 }),
        json!({ "endpoint": "*", "status": 429 }),
        json!({ "endpoint": "*", "cut": "before" }),
    ];
    let faults = &faults[..rounds(3, 5)];
    // Each call by one of the faults; all by all in the full run.
    let step = rounds(3, 1);
    for (begin, engine) in ENGINES.into_iter().enumerate() {
        let files = Files::new();
        let app = start(engine, &files).await;
        write(&files, 0);
        apply(&app.app).await.unwrap();
        let (_, user) = app.linked("hanako@example.jp").await;
        let mut round = 0;
        for (offset, fault) in faults.iter().enumerate() {
            let mut after = (begin + offset) % step;
            loop {
                round += 1;
                // An hour later LINE takes another hundred.
                app.clock.advance(Duration::from_secs(3600));
                write(&files, round);
                // With a token at hand, the calls are those of the menus.
                super::apply::plan(&app.app).await;
                set_fault(&app, after, fault).await;
                let what = format!("round {round}, after {after} calls: {fault}");
                let before = app.calls().await.len();
                let first = apply(&app.app).await;
                assert_eq!(on_phone(&app, &user).await, "member", "{what}: a menu that works");
                let calls = app.calls().await.len() - before;
                app.clear_faults().await;
                assert_eq!(shown(&app).await.default, "unlinked", "{what}");
                let second = apply(&app.app).await;
                assert!(second.is_ok(), "{what}: {first:?} {second:?}");
                settle(&app).await;
                assert_right(&app, &what).await;
                if calls <= after {
                    assert!(first.is_ok(), "{what}: {first:?}");
                    break;
                }
                after += step;
            }
            assert!(after > 10, "an apply has many calls: {after}");
        }
        app.end().await;
    }
}
