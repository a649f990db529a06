//! The company's own sign-in in real browsers, on the demo: in, linked after the proof that is asked for again, and out.

use std::path::Path;

use musubi::config::Config;
use serde_json::json;

use crate::{
    company_sign_in::provider::{CLIENT, Provider, SECRET},
    story::press,
    support::{
        browser::{Browser, Screen},
        process::Process,
    },
};

fn start(folder: &Path, issuer: &str) -> (Process, String) {
    let arguments = ["demo", "--data", folder.to_str().unwrap(), "--port", "0", "--simulator-port", "0"];
    let environment = [
        ("MUSUBI__MEMBER__OIDC__ISSUER", issuer),
        ("MUSUBI__MEMBER__OIDC__CLIENT_ID", CLIENT),
        ("MUSUBI__MEMBER__OIDC__CLIENT_SECRET", SECRET),
        ("MUSUBI__MEMBER__OIDC__LABEL", "Example ID"),
    ];
    let mut demo = Process::start_with(&arguments, &environment);
    demo.wait_for("Stop with Ctrl-C");
    let config = Config::load(Some(&folder.join("musubi.toml"))).unwrap();
    (demo, config.public_url.as_str().trim_end_matches('/').to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_company_signs_in_links_and_signs_out() {
    for screen in [Screen::Phone, Screen::Desktop] {
        let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
        provider.script().person = json!({ "sub": "id-77", "name": "Hanako Yamada" });
        let (demo, app) = start(folder.path(), &provider.issuer);
        let browser = Browser::start(screen).await;
        let shot = async |name: &str| browser.screenshot(&format!("company-{screen:?}-{name}").to_lowercase()).await;

        browser.goto(&format!("{app}/sign-in")).await;
        shot("1-sign-in").await;
        press(&browser, "form[action='/company/start'] button").await;
        browser.click_text("Continue as Hanako").await;
        browser.wait_for_text("Hanako Yamada").await;
        browser.wait_for_text("Not linked").await;

        // Passed silently: before a link the person is asked again, there.
        browser.click_text("Link LINE account").await;
        browser.wait_for_text("Please sign in").await;
        press(&browser, "main a.button").await;
        browser.wait_for_text("sign in once more").await;
        shot("2-again").await;
        provider.script().proved_ago = Some(0);
        press(&browser, "form[action='/company/start'] button").await;
        browser.click_text("Continue as Hanako").await;
        browser.click_text("Link LINE account").await;
        browser.click_text("はなこ").await;
        browser.click_text("Allow").await;
        browser.wait_for_text("Link these two accounts?").await;
        browser.click_text("Link these accounts").await;
        browser.wait_for_text("Linked since").await;

        // Out here and there, and back on the first page.
        browser.click_text("Sign out").await;
        browser.wait_for_text("Your account and LINE, tied together.").await;
        assert_eq!(provider.calls("logout"), 1);
        assert!(!browser.text().await.contains("Hanako Yamada"));

        // Cancelled there: a page that starts afresh.
        browser.goto(&format!("{app}/company/callback?error=access_denied&state=x")).await;
        browser.wait_for_text("Please start again in this browser").await;
        shot("3-refused").await;
        press(&browser, "form[action='/company/start'] button").await;
        browser.click_text("Continue as Hanako").await;
        browser.wait_for_text("Linked since").await;
        browser.close().await;
        drop(demo);
    }
}
