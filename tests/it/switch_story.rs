//! The ways between browsers, walked in real ones, on the demo.

use musubi::demo;

use crate::{
    story::{Stage, press},
    support::browser::{Browser, Nature, Screen},
};

const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    Version/18.6 Mobile/15E148 Safari/604.1";
const LINE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    Mobile/15E148 Safari Line/15.19.0";
const INSTAGRAM: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    Mobile/15E148 Instagram 300.0.0.0 (iPhone15,3; iOS 18_6)";
const FACEBOOK: &str = "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) AppleWebKit/537.36 (KHTML, like Gecko) \
    Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/500.0.0.0;]";
const SIGN_IN: &str = "main form[action='/sign-in'] button[type=submit]";

async fn browser(screen: Screen, user_agent: Option<&'static str>) -> Browser {
    Browser::start_as(screen, "en", &Nature { user_agent, ..Default::default() }).await
}

async fn sign_in(browser: &Browser) {
    browser.fill("email", "hanako@example.com").await;
    browser.fill("password", demo::PASSWORD).await;
    press(browser, SIGN_IN).await;
}

/// Begun in one browser, LINE comes back in another: there it goes on, once signed in, and is done. Then back, and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_back_in_another_browser_is_made_there() {
    for screen in [Screen::Phone, Screen::Desktop] {
        let stage = Stage::set().await;
        let is_phone = screen == Screen::Phone;
        let (one, two) =
            (browser(screen, is_phone.then_some(SAFARI)).await, browser(screen, is_phone.then_some(LINE)).await);
        let shot = async |name: &str| two.screenshot(&format!("switch-{screen:?}-{name}").to_lowercase()).await;
        one.goto(&format!("{}/sign-in", stage.app)).await;
        sign_in(&one).await;
        one.click_text("Link LINE account").await;
        one.wait_for_text("はなこ").await;
        let at_line = one.client.current_url().await.unwrap();

        two.goto(at_line.as_str()).await;
        two.click_text("はなこ").await;
        two.click_text("Allow").await;
        two.wait_for_text("This browser does not know your start").await;
        shot("1-no-cookies").await;
        let callback = two.client.current_url().await.unwrap();
        two.goto(callback.as_str()).await;
        two.wait_for_text("LINE came back in another browser").await;
        shot("2-elsewhere").await;
        two.click_text("Start again with LINE").await;
        two.wait_for_text("Sign in").await;
        sign_in(&two).await;
        two.click_text("Link LINE account").await;
        two.wait_for_text("はなこ").await;
        assert!(two.client.current_url().await.unwrap().as_str().contains("disable_auto_login=true"));
        two.click_text("はなこ").await;
        two.wait_for_text("Link these two accounts?").await;
        shot("3-confirm").await;
        two.click_text("Link these accounts").await;
        two.wait_for_text("Linked since").await;
        shot("4-linked").await;

        // Back to the page that asked, further to LINE's, and through there once more.
        two.client.back().await.unwrap();
        two.client.refresh().await.unwrap();
        two.wait_for_text("Linked since").await;
        two.client.back().await.unwrap();
        two.client.back().await.unwrap();
        two.client.refresh().await.unwrap();
        shot("5-back").await;
        // The browser that began holds an answer of LINE's that came too late.
        one.goto(callback.as_str()).await;
        one.wait_for_text("Already linked").await;
        one.screenshot(&format!("switch-{screen:?}-6-began").to_lowercase()).await;
        one.click_text("Go to my account").await;
        one.wait_for_text("Linked since").await;
        // From the history, signed in.
        one.goto(callback.as_str()).await;
        one.wait_for_text("This step is already done").await;
        one.screenshot(&format!("switch-{screen:?}-7-history").to_lowercase()).await;
        one.click_text("Go to my account").await;
        one.wait_for_text("Linked since").await;
        one.close().await;
        two.close().await;
        stage.strike().await;
    }
}

/// After a sign-in the sign-in page works as ever, and a form that is sent twice signs in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pressed_twice_is_done_once() {
    let stage = Stage::set().await;
    let browser = browser(Screen::Phone, Some(SAFARI)).await;
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    sign_in(&browser).await;
    browser.wait_for_text("Not linked").await;
    // Without our script, which would hold the second press back.
    let twice = "const form = document.querySelector(arguments[0]).form; form.submit(); form.submit();";
    let selector = vec![serde_json::json!("form[action='/line/start'] button")];
    browser.client.execute(twice, selector).await.unwrap();
    browser.click_text("はなこ").await;
    browser.click_text("Allow").await;
    browser.wait_for_text("Link these two accounts?").await;
    let url = browser.client.current_url().await.unwrap();
    let twice = "const yes = document.querySelector('button[name=decision][value=yes]');
        const field = Object.assign(document.createElement('input'), { type: 'hidden', name: 'decision', value: 'yes' });
        yes.form.append(field); yes.form.submit(); yes.form.submit();";
    browser.client.execute(twice, vec![]).await.unwrap();
    browser.wait_for_text("Linked since").await;
    browser.screenshot("switch-phone-8-pressed-twice").await;
    browser.goto(url.as_str()).await;
    browser.wait_for_text("Linked since").await;
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    browser.click_text("Log in with LINE").await;
    browser.click_text("はなこ").await;
    browser.wait_for_text("Linked since").await;
    browser.client.back().await.unwrap();
    browser.goto(&format!("{}/sign-in", stage.app)).await;
    sign_in(&browser).await;
    browser.wait_for_text("Linked since").await;
    browser.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_keeps_no_cookies_is_told_so() {
    for screen in [Screen::Phone, Screen::Desktop] {
        let stage = Stage::set().await;
        let browser = Browser::start_as(screen, "en", &Nature { refuses_cookies: true, ..Default::default() }).await;
        browser.goto(&format!("{}/sign-in", stage.app)).await;
        browser.click_text("Log in with LINE").await;
        browser.wait_for_text("Please allow cookies").await;
        browser.screenshot(&format!("switch-{screen:?}-9-cookies").to_lowercase()).await;
        browser.click_text("Open the page again").await;
        browser.wait_for_text("Log in with LINE").await;
        browser.close().await;
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_another_apps_browser_the_way_out_is_shown() {
    let stage = Stage::set().await;
    for (name, user_agent) in [("instagram", INSTAGRAM), ("facebook", FACEBOOK)] {
        let browser = browser(Screen::Phone, Some(user_agent)).await;
        browser.goto(&format!("{}/sign-in", stage.app)).await;
        browser.wait_for_text("LINE may not find its way back there").await;
        browser.screenshot(&format!("switch-{name}-sign-in")).await;
        sign_in(&browser).await;
        browser.wait_for_text("Not linked").await;
        browser.wait_for_text("LINE may not find its way back there").await;
        browser.screenshot(&format!("switch-{name}-account")).await;
        browser.close().await;
    }
    stage.strike().await;
}
