//! LIFF in real browsers, on the demo as a newcomer starts it: from the phone in LINE to a link and out of it, and
//! outside of LINE; and what goes wrong, each with its words and its one button.

use musubi::demo;
use serde_json::{Value, json};

use crate::{
    story::{Stage, press, sign_out},
    support::{
        browser::{Browser, Screen},
        process::Line,
    },
};

const LIFF_ID: &str = "2000000001-MusubiLi";

/// Opens the LIFF app from the person's phone.
async fn open_from_phone(browser: &Browser, phone: &str) {
    browser.goto(phone).await;
    browser.click_text("Stickers, picture").await;
    browser.click_text("Open the LIFF app").await;
}

async fn sign_in(browser: &Browser) {
    browser.fill("email", "hanako@example.com").await;
    browser.fill("password", demo::PASSWORD).await;
    press(browser, "main form[action='/sign-in'] button[type=submit]").await;
}

/// The id of the LINE user whose phone this is.
fn user_of(phone: &str) -> &str {
    phone.rsplit('/').next().unwrap()
}

/// Puts an ID token in the place of the one that LIFF keeps.
async fn replace_id_token(browser: &Browser, store: &str, token: &Value) {
    let script = format!("{store}.setItem('LIFF_STORE:{LIFF_ID}:IDToken', arguments[0])");
    browser.client.execute(&script, vec![token.clone()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_phone_to_a_link_and_out_of_it() {
    let stage = Stage::set().await;
    let browser = Browser::start(Screen::Line).await;
    let shot = async |name: &str| browser.screenshot(&format!("liff-{name}")).await;
    let phone = stage.phone(&browser, "はなこ").await;

    open_from_phone(&browser, &phone).await;
    browser.wait_for_text("The service asks for").await;
    shot("1-consent").await;
    press(&browser, "input[name=add_friend]").await;
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    shot("2-not-linked").await;
    browser.click_text("Sign in and link").await;
    sign_in(&browser).await;
    browser.wait_for_text("Do you want to link it now?").await;
    shot("3-signed-in").await;
    browser.click_text("Link LINE account").await;
    browser.wait_for_text("Link these two accounts?").await;
    shot("4-confirm").await;
    browser.click_text("Link these accounts").await;
    browser.wait_for_text("Add our official account as a friend").await;
    shot("5-linked").await;
    browser.click_text("Not now").await;
    browser.wait_for_text("Linked since").await;

    // Another day: LINE opens the page, and she is in; the path leads on to a page of ours.
    sign_out(&browser).await;
    open_from_phone(&browser, &phone).await;
    browser.wait_for_text("Linked since").await;
    browser.click_text("Preferences").await;
    browser.wait_for_text("Quiet hours").await;
    browser.goto(&format!("{}/{LIFF_ID}/account/preferences", stage.simulator)).await;
    browser.wait_for_text("Quiet hours").await;
    browser.goto(&phone).await;
    browser.goto(&format!("{}/{LIFF_ID}/account/unlink", stage.simulator)).await;
    browser.wait_for_text("What happens when you unlink").await;
    shot("6-unlink").await;
    browser.fill("password", demo::PASSWORD).await;
    browser.click_text("Unlink").await;
    browser.wait_for_text("Not linked").await;
    shot("7-unlinked").await;
    let ledger = Line::at(&stage.simulator).ask("/_sim/ledger").await;
    let told = |path: &str| {
        let calls = ledger["calls"].as_array().unwrap().iter();
        calls.filter(|call| call["path"] == path).map(|call| call["status"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(told("/oauth2/v2.1/authorize"), Vec::<i64>::new(), "LINE Login was not needed");
    browser.close().await;
    stage.strike().await;
}

/// Outside of LINE the page asks for a login, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_of_line_it_asks_for_a_login_once() {
    let stage = Stage::set().await;
    let browser = Browser::start(Screen::Desktop).await;
    let shot = async |name: &str| browser.screenshot(&format!("liff-desktop-{name}")).await;
    let liff = format!("{}/{LIFF_ID}/account", stage.simulator);

    browser.goto(&liff).await;
    browser.wait_for_text("Someone new").await;
    browser.click_text("Play a fault").await;
    browser.click_text("Cancel").await;
    browser.wait_for_text("You are not logged in to LINE").await;
    shot("1-outside").await;
    browser.client.refresh().await.unwrap();
    browser.wait_for_text("You are not logged in to LINE").await;

    browser.click_text("Log in with LINE").await;
    browser.wait_for_text("Someone new").await;
    browser.click_text("はなこ").await;
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;
    shot("2-not-linked").await;
    browser.click_text("Sign in and link").await;
    sign_in(&browser).await;
    browser.click_text("Link LINE account").await;
    browser.click_text("Link these accounts").await;
    browser.wait_for_text("Linked since").await;
    sign_out(&browser).await;
    // LIFF remembers her here.
    browser.goto(&liff).await;
    browser.wait_for_text("Linked since").await;

    // What LIFF keeps has expired: one login more, which LINE knows her for, and she is in.
    let phone = stage.phone(&browser, "はなこ").await;
    let path = format!("/_sim/users/{}/liff", user_of(&phone));
    let old = Line::at(&stage.simulator).order(&path, json!({ "seconds_ago": 3700 })).await;
    browser.goto(&format!("{}/account", stage.app)).await;
    replace_id_token(&browser, "localStorage", &old["id_token"]).await;
    sign_out(&browser).await;
    browser.goto(&liff).await;
    browser.click_text("はなこ").await;
    browser.wait_for_text("Linked since").await;

    // In another browser the token of this one is of no use, and the page says so in the end.
    let kept = format!("return localStorage.getItem('LIFF_STORE:{LIFF_ID}:IDToken')");
    let token = browser.client.execute(&kept, vec![]).await.unwrap();
    browser.client.delete_all_cookies().await.unwrap();
    browser.goto(&format!("{}/", stage.app)).await;
    let life = format!("document.cookie = 'LIFF_STORE:expires:{LIFF_ID}=' + (Date.now() + 1e6) + '; path=/'");
    browser.client.execute(&life, vec![]).await.unwrap();
    browser.client.execute("sessionStorage.setItem('musubi.liff.login', '1')", vec![]).await.unwrap();
    replace_id_token(&browser, "localStorage", &token).await;
    browser.goto(&format!("{}/liff/main", stage.app)).await;
    browser.wait_for_text("Please open the page again").await;
    shot("3-replayed").await;
    browser.close().await;
    stage.strike().await;
}

/// Each thing that goes wrong has its words and one button, and the button mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_in_line_has_its_words() {
    let stage = Stage::set().await;
    let browser = Browser::start(Screen::Line).await;
    let shot = async |name: &str| browser.screenshot(&format!("liff-problem-{name}")).await;
    let phone = stage.phone(&browser, "はなこ").await;
    let fault = async |fault: Value| Line::at(&stage.simulator).order("/_sim/faults", fault).await;

    open_from_phone(&browser, &phone).await;
    browser.click_text("Allow").await;
    browser.wait_for_text("This LINE account is not linked yet").await;

    fault(json!({ "endpoint": "/liff/edge/2/sdk.js", "status": 503 })).await;
    open_from_phone(&browser, &phone).await;
    browser.wait_for_text("A part of LINE could not be loaded").await;
    shot("sdk").await;
    fault(json!({ "endpoint": "GET /liff/v2/apps/", "status": 500 })).await;
    browser.click_text("Try again").await;
    browser.wait_for_text("LINE cannot be reached").await;
    shot("unavailable").await;
    browser.click_text("Try again").await;
    browser.wait_for_text("This LINE account is not linked yet").await;

    // Expired: LINE opens the page again.
    let path = format!("/_sim/users/{}/liff", user_of(&phone));
    let old = Line::at(&stage.simulator).order(&path, json!({ "seconds_ago": 3700 })).await;
    replace_id_token(&browser, "sessionStorage", &old["id_token"]).await;
    browser.goto(&format!("{}/liff/main", stage.app)).await;
    browser.wait_for_text("Your sign-in with LINE is too old").await;
    shot("expired").await;
    browser.click_text("Open again in LINE").await;
    browser.wait_for_text("This LINE account is not linked yet").await;

    // What LIFF was handed does not hold.
    fault(json!({ "endpoint": "GET /oauth2/v2.1/certs", "replace_body": { "keys": [] } })).await;
    open_from_phone(&browser, &phone).await;
    browser.wait_for_text("Signing in is stuck in this browser").await;
    shot("storage").await;
    browser.click_text("Start afresh").await;
    browser.wait_for_text("This LINE account is not linked yet").await;

    // Our clock and the device's are hours apart.
    stage.clock.advance(std::time::Duration::from_secs(2 * 3600));
    open_from_phone(&browser, &phone).await;
    browser.wait_for_text("The clock of this device is wrong").await;
    shot("clock").await;
    browser.close().await;
    stage.strike().await;
}
