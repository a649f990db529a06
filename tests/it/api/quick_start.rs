//! The README's quick start, run as it is written: in the demo, by a shell.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    process::start_demo,
    support::process::{Browser, Line},
};

/// The shell's lines of a section, with this demo's places in place of the usual ones.
fn blocks(section: &str, folder: &str, base: &str) -> Vec<String> {
    let readme = fs::read_to_string("README.md").unwrap();
    let text = readme.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let here = |block: &str| {
        block
            .replace("target/debug/musubi", env!("CARGO_BIN_EXE_musubi"))
            .replace("musubi-demo/", &format!("{folder}/"))
            .replace("http://localhost:8080", base.trim_end_matches('/'))
    };
    blocks.map(here).collect()
}

/// What a shell prints that has this key.
fn shell(block: &str, key: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", block]).env("MUSUBI_KEY", key).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a person does with a ticket's address: the page's button, LINE, and the yes.
async fn link(browser: &mut Browser, line: &Line, url: &str, user: &str) {
    let page = browser.get(url.strip_prefix(browser.base.trim_end_matches('/')).unwrap()).await;
    let field = |name: &str| {
        let at = page.body.find(&format!("name=\"{name}\" value=\""))?;
        Some(page.body[at..].split("value=\"").nth(1)?.split('"').next()?.to_owned())
    };
    let found = ["purpose", "provider", "return_to", "fresh"].map(|name| (name, field(name)));
    let fields: Vec<(&str, &str)> = found.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let authorize = browser.post("/line/start", &fields).await.location;
    let callback = line.consent(&authorize, user).await;
    let confirm = browser.get(&callback).await.location;
    let attempt = confirm.strip_prefix("/link/confirm?attempt=").ok_or(&confirm).unwrap();
    let yes = browser.post("/link/confirm", &[("attempt", attempt), ("decision", "yes"), ("consent", "1:en")]).await;
    assert_eq!(yes.status, 303, "{}", yes.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quick_start_works_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, line) = start_demo(folder.path());
    let blocks = blocks("Use it from your systems", folder.path().to_str().unwrap(), &browser.base);
    assert_eq!(blocks.len(), 4, "{blocks:?}");
    let key = shell(&format!("{}printf %s \"$MUSUBI_KEY\"", blocks[0]), "");
    assert!(key.starts_with("msb_"), "{key}");
    let ticket: Value = serde_json::from_str(&shell(&blocks[1], &key)).unwrap();
    let user = line.person().await;
    link(&mut browser, &line, ticket["url"].as_str().unwrap(), &user).await;

    let once = shell(&blocks[2], &key);
    assert_eq!(shell(&blocks[2], &key), once, "it is safe to repeat");
    let sent: Value = serde_json::from_str(&once).unwrap_or_else(|error| panic!("{error}: {once}"));
    assert_eq!((&sent["accepted"], &sent["left_out"]), (&1.into(), &json!({})), "{sent}");
    crate::support::process::until(async || {
        let page: Value = serde_json::from_str(&shell(&blocks[3], &key)).unwrap();
        let delivery = &page["items"][0];
        assert_eq!((&delivery["message"], &delivery["member"]), (&sent["id"], &"1001".into()), "{page}");
        delivery["state"] == "sent"
    })
    .await;
    let chat = line.ask(&format!("/_sim/users/{user}/chat")).await;
    let dinners = chat["messages"].as_array().unwrap().iter().filter(|one| one.to_string().contains("Dinner for two"));
    assert_eq!(dinners.count(), 1, "{chat:#}");
    demo.stop();
}
