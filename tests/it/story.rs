//! The story in real browsers, on the demo as a newcomer starts it: sign up, link, welcome and menu on the
//! phone, sign out, sign in with LINE, unlink, menu gone, LINE sign-in refused.

use musubi::{
    app::Clock,
    demo::{self, Demo},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::browser::{Browser, Screen};

pub struct Stage {
    pub app: String,
    pub simulator: String,
    /// The application's; the simulator has its own.
    pub clock: Clock,
    stop: CancellationToken,
    playing: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

impl Stage {
    pub async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = demo::Options { data: folder.path().to_owned(), port: 0, simulator_port: 0 };
        let stop = CancellationToken::new();
        let demo: Demo = demo::start(&options, stop.clone()).await.unwrap();
        let (app, simulator) = (demo.app_url.clone(), demo.simulator_url.clone());
        let clock = demo.app.clock.clone();
        let playing = tokio::spawn({
            let stop = stop.clone();
            async move { demo.play(stop).await.unwrap() }
        });
        Self { app, simulator, clock, stop, playing, _folder: folder }
    }

    /// The phone of the person of this name.
    pub async fn phone(&self, browser: &Browser, name: &str) -> String {
        browser.goto(&format!("{}/_sim/users", self.simulator)).await;
        let users: serde_json::Value = serde_json::from_str(&browser.text().await).unwrap();
        let user = users["users"].as_array().unwrap().iter().find(|user| user["display_name"] == name).unwrap();
        format!("{}/_sim/phone/{}", self.simulator, user["user_id"].as_str().unwrap())
    }

    /// Opens the newest mail with this subject and presses its button, which leaves the mailbox.
    async fn press_in_mail(&self, browser: &Browser, subject: &str, button: &str, screenshot: &str) {
        browser.goto(&format!("{}/_sim/mailbox", self.simulator)).await;
        browser.wait_for_text(subject).await;
        browser.click_text(subject).await;
        browser.wait_for_text("The mail as plain text").await;
        browser.screenshot(screenshot).await;
        let frame = browser.client.find(fantoccini::Locator::Css("iframe.letter")).await.unwrap();
        frame.enter_frame().await.unwrap();
        browser.click_text(button).await;
        browser.client.clone().enter_parent_frame().await.unwrap();
    }

    pub async fn strike(self) {
        self.stop.cancel();
        self.playing.await.unwrap();
    }
}

pub async fn press(browser: &Browser, selector: &str) {
    browser.client.find(fantoccini::Locator::Css(selector)).await.unwrap().click().await.unwrap();
}

/// Signs out and waits for the first page: going on at once would be overtaken by the way there.
pub async fn sign_out(browser: &Browser) {
    browser.click_text("Sign out").await;
    browser.wait_for_text("Your account and LINE, tied together.").await;
}

/// Passes LINE's pages as a new person of this name.
async fn be_someone_new_at_line(browser: &Browser, name: &str) {
    browser.wait_for_text("Someone new").await;
    browser.fill("display_name", name).await;
    browser.click_text("Create and log in").await;
    browser.click_text("Allow").await;
}

#[expect(clippy::too_many_lines, reason = "one story")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_on_a_phone() {
    let stage = Stage::set().await;
    let browser = Browser::start(Screen::Phone).await;
    let shot = async |name: &str| browser.screenshot(&format!("phone-{name}")).await;

    browser.goto(&stage.app).await;
    shot("1-home").await;
    browser.click_text("Sign up").await;
    browser.fill("name", "Hanako Yamada").await;
    browser.fill("email", "hanako@example.jp").await;
    browser.fill("password", "correct horse battery").await;
    shot("2-sign-up").await;
    browser.click_text("Create an account").await;
    browser.wait_for_text("Please check your mail").await;
    shot("2a-check-mail").await;
    stage.press_in_mail(&browser, "confirm your e-mail address", "Confirm my address", "phone-2b-mail").await;
    browser.wait_for_text("One more step").await;
    shot("2c-confirm-address").await;
    browser.click_text("Create my account").await;
    browser.wait_for_text("Not linked").await;
    shot("3-account-unlinked").await;

    browser.click_text("Link LINE account").await;
    shot("4-line-authorize").await;
    be_someone_new_at_line(&browser, "花子").await;
    browser.wait_for_text("Link these two accounts?").await;
    shot("5-confirm").await;
    browser.click_text("Link these accounts").await;
    browser.wait_for_text("Linked since").await;
    browser.wait_for_text("花子").await;
    shot("6-account-linked").await;

    let phone = stage.phone(&browser, "花子").await;
    browser.goto(&phone).await;
    browser.wait_for_text("thank you for linking").await;
    browser.wait_for_text("会員メニュー").await;
    shot("7-line-chat").await;

    browser.goto(&format!("{}/account", stage.app)).await;
    sign_out(&browser).await;
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    shot("8-sign-in").await;
    browser.click_text("Log in with LINE").await;
    browser.click_text("花子").await;
    browser.wait_for_text("Linked since").await;

    browser.click_text("Unlink").await;
    browser.wait_for_text("What happens when you unlink").await;
    shot("9-unlink").await;
    browser.fill("password", "correct horse battery").await;
    browser.click_text("Unlink").await;
    browser.wait_for_text("Not linked").await;
    shot("10-unlinked").await;

    browser.goto(&phone).await;
    browser.wait_for_text("連携・ログイン").await;
    assert!(!browser.text().await.contains("会員メニュー"));
    shot("11-menu-gone").await;

    browser.goto(&format!("{}/account", stage.app)).await;
    sign_out(&browser).await;
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    browser.click_text("Log in with LINE").await;
    browser.click_text("花子").await;
    // The permission is gone at LINE, so LINE asks for it anew.
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    shot("12-not-linked").await;
    browser.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_at_line_is_explained_on_a_desktop() {
    let stage = Stage::set().await;
    let browser = Browser::start_in(Screen::Desktop, "ja").await;
    let shot = async |name: &str| browser.screenshot(&format!("desktop-{name}")).await;

    browser.goto(&stage.app).await;
    shot("1-home").await;
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    shot("2-sign-in").await;
    browser.fill("email", "hanako@example.com").await;
    browser.fill("password", "wrong password").await;
    press(&browser, "main form[action='/sign-in'] button[type=submit]").await;
    browser.wait_for_text("正しくありません").await;
    shot("3-wrong-password").await;
    browser.fill("password", demo::PASSWORD).await;
    press(&browser, "main form[action='/sign-in'] button[type=submit]").await;
    browser.wait_for_text("hanako@example.com").await;
    shot("4-account").await;

    // Cancelled at LINE, then auto login fails, then the fresh start works.
    browser.click_text("LINEと連携する").await;
    browser.click_text("Play a fault").await;
    browser.click_text("Cancel").await;
    browser.wait_for_text("キャンセル").await;
    shot("5-denied").await;
    browser.goto(&format!("{}/account", stage.app)).await;
    browser.click_text("LINEと連携する").await;
    browser.click_text("Play a fault").await;
    browser.click_text("Auto login fails").await;
    browser.wait_for_text("やり直してください").await;
    shot("6-auto-login-failure").await;
    browser.click_text("LINEでやり直す").await;
    browser.click_text("はなこ").await;
    browser.click_text("Allow").await;
    browser.wait_for_text("はなこ").await;
    shot("7-confirm").await;
    press(&browser, "button[name=decision][value=yes]").await;
    browser.wait_for_text("連携中").await;
    shot("8-linked").await;
    browser.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_sees_where_they_are_signed_in_and_ends_the_other() {
    let stage = Stage::set().await;
    let (phone, desktop) = (Browser::start(Screen::Phone).await, Browser::start_in(Screen::Desktop, "ja").await);
    for browser in [&phone, &desktop] {
        browser.goto(&format!("{}/sign-in", stage.app)).await;
        browser.fill("email", "hanako@example.com").await;
        browser.fill("password", demo::PASSWORD).await;
        press(browser, "main form[action='/sign-in'] button[type=submit]").await;
        browser.wait_for_text("hanako@example.com").await;
    }
    desktop.click_text("ログイン中の端末").await;
    desktop.wait_for_text("このブラウザ").await;
    desktop.screenshot("desktop-sessions").await;
    phone.click_text("Where you are signed in").await;
    phone.wait_for_text("Sign out everywhere else").await;
    phone.screenshot("phone-sessions").await;
    phone.click_text("Sign out there").await;
    phone.wait_until_gone("Sign out everywhere else").await;
    phone.wait_for_text("This browser").await;
    phone.screenshot("phone-sessions-one").await;
    desktop.goto(&format!("{}/account", stage.app)).await;
    desktop.wait_for_text("パスワード").await;
    phone.close().await;
    desktop.close().await;
    stage.strike().await;
}

/// From a word in the chat over our page and LINE's dialog to a link, and out of it by a button in the chat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_begins_and_ends_in_the_chat() {
    for screen in [Screen::Phone, Screen::Desktop] {
        let stage = Stage::set().await;
        let browser = Browser::start(screen).await;
        let shot = async |name: &str| browser.screenshot(&format!("chat-{screen:?}-{name}").to_lowercase()).await;
        let phone = stage.phone(&browser, "はなこ").await;
        browser.goto(&phone).await;
        browser.fill("text", "連携").await;
        browser.click_text("Send").await;
        // In Japanese, or in the company's language where the profile is not read yet: both name the ten minutes.
        browser.wait_for_text("10").await;
        press(&browser, "#chat a[href*='/account-link']").await;
        browser.fill("email", "hanako@example.com").await;
        browser.fill("password", demo::PASSWORD).await;
        press(&browser, "main form[action='/sign-in'] button[type=submit]").await;
        browser.wait_for_text("Did you ask for this yourself").await;
        shot("1-page").await;
        browser.fill("password", "wrong password").await;
        browser.click_text("Confirm and go on to LINE").await;
        browser.wait_for_text("The password is not right.").await;
        shot("2-wrong-password").await;
        browser.fill("password", demo::PASSWORD).await;
        browser.click_text("Confirm and go on to LINE").await;
        browser.click_text("はなこ").await;
        browser.wait_for_text("Linked").await;
        browser.goto(&phone).await;
        // In the language of her LINE, as all of this chat; the page was English.
        browser.wait_for_text("LINE連携が完了しました").await;
        shot("3-linked").await;

        browser.fill("text", "unlink").await;
        browser.click_text("Send").await;
        browser.wait_for_text("解除しない").await;
        browser.click_text("解除する").await;
        browser.wait_for_text("との連携を解除しました").await;
        shot("5-unlinked").await;
        browser.goto(&format!("{}/account-link?linkToken=NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EY", stage.app)).await;
        browser.wait_for_text("This link no longer works").await;
        shot("4-gone").await;
        stage.strike().await;
    }
}
