//! Adding the official account in real browsers, on the demo: the page on one screen notices what the phone does.

use serde_json::json;

use crate::{
    story::{Stage, press},
    support::{
        browser::{Browser, Screen},
        process::Line,
    },
};

async fn sign_in(browser: &Browser, stage: &Stage, email: &str) {
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    browser.fill("email", email).await;
    browser.fill("password", musubi::demo::PASSWORD).await;
    press(browser, "main form[action='/sign-in'] button[type=submit]").await;
    browser.wait_for_text("My account").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_notices_a_new_friend() {
    let stage = Stage::set().await;
    let (desktop, phone) = (Browser::start(Screen::Desktop).await, Browser::start(Screen::Phone).await);
    let at_phone = stage.phone(&phone, "はなこ").await;
    let user = at_phone.rsplit('/').next().unwrap().to_owned();
    let does =
        async |deed: &str| Line::at(&stage.simulator).order(&format!("/_sim/users/{user}/{deed}"), json!({})).await;

    sign_in(&desktop, &stage, "hanako@example.com").await;
    desktop.click_text("Link LINE account").await;
    desktop.click_text("はなこ").await;
    desktop.wait_for_text("as a friend").await;
    press(&desktop, "input[name=add_friend]").await;
    desktop.click_text("Allow").await;
    desktop.click_text("Link these accounts").await;
    desktop.wait_for_text("Add our official account as a friend").await;
    desktop.screenshot("friend-1-asked").await;
    // Nobody reloads the page: it hears by itself.
    does("follow").await;
    desktop.wait_for_text("You are friends on LINE").await;
    desktop.screenshot("friend-2-noticed").await;
    desktop.click_text("Continue").await;
    desktop.wait_for_text("Linked since").await;

    // Blocked, the account page leads there again, on another screen.
    does("block").await;
    sign_in(&phone, &stage, "hanako@example.com").await;
    phone.click_text("Add friend").await;
    phone.wait_for_text("If you have blocked the account").await;
    phone.screenshot("friend-3-blocked").await;
    does("follow").await;
    phone.wait_for_text("You are friends on LINE").await;
    phone.screenshot("friend-4-unblocked").await;

    // Without a link yet, and a friend already: nothing is asked.
    let other = stage.phone(&phone, "Taro").await;
    let other = other.rsplit('/').next().unwrap().to_owned();
    Line::at(&stage.simulator).order(&format!("/_sim/users/{other}/follow"), json!({})).await;
    phone.client.delete_all_cookies().await.unwrap();
    sign_in(&phone, &stage, "taro@example.com").await;
    phone.click_text("Link LINE account").await;
    phone.click_text("Taro").await;
    phone.click_text("Allow").await;
    phone.click_text("Link these accounts").await;
    phone.wait_for_text("Your LINE account is now linked.").await;
    phone.wait_for_text("Linked since").await;
    phone.close().await;
    desktop.close().await;
    stage.strike().await;
}

/// What a member chooses, on a phone as on a desk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferences_are_chosen_in_a_browser() {
    let stage = Stage::set().await;
    for (screen, name, email) in
        [(Screen::Phone, "phone", "hanako@example.com"), (Screen::Desktop, "desktop", "taro@example.com")]
    {
        let browser = Browser::start(screen).await;
        sign_in(&browser, &stage, email).await;
        browser.click_text("Preferences").await;
        browser.wait_for_text("Quiet hours").await;
        browser.picture(&format!("preferences-{name}-1")).await;
        browser.click_text("My own hours:").await;
        browser.fill("quiet_to", "10:00PM").await;
        browser.click_text("Save").await;
        browser.wait_for_text("Enter two different times").await;
        browser.picture(&format!("preferences-{name}-2-wrong")).await;
        browser.fill("quiet_to", "06:30AM").await;
        browser.fill("language", "ja").await;
        let choose = "document.getElementById('zone').value = 'Asia/Bangkok'";
        browser.client.execute(choose, vec![]).await.unwrap();
        browser.click_text("Save").await;
        browser.wait_for_text("設定を保存しました。").await;
        browser.picture(&format!("preferences-{name}-3-saved")).await;
        browser.close().await;
    }
    stage.strike().await;
}
