//! A ticket on two devices, in real browsers: the desktop shows how far it is, the phone links, and goes on to the
//! company's site. With a script and without.

use std::path::Path;

use axum::{Router, extract::RawQuery, routing};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    link::ticket::{self, Made},
    member,
};

use crate::support::{
    browser::{Browser, Screen},
    process::Process,
};

/// The company's own site: one page that shows what it was given.
async fn shop() -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let page =
        |RawQuery(query): RawQuery| async move { format!("Welcome back to the shop: {}", query.unwrap_or_default()) };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/back", routing::get(page))).await });
    origin
}

/// The company's side: makes tickets in the demo's database.
struct Company {
    app: App,
    shop: String,
}

impl Company {
    async fn of(folder: &Path, shop: &str) -> Self {
        let mut config = Config::load(Some(&folder.join("musubi.toml"))).unwrap();
        config.tickets.return_urls = vec![shop.parse().unwrap()];
        let url = format!("sqlite://{}", folder.canonicalize().unwrap().join("musubi.db").display());
        let app = App::new(config, Db::connect(&url).await.unwrap(), Clock::default()).unwrap();
        Self { app, shop: shop.to_owned() }
    }

    async fn ticket(&self, email: &str, comes_back: bool) -> Made {
        let mut tx = self.app.db.begin().await.unwrap();
        let member = member::find_by_email_key(&mut tx, email).await.unwrap().unwrap();
        let back = format!("{}/back?cart=7", self.shop);
        let return_url = comes_back.then_some(back.as_str());
        let new = ticket::New { member_id: &member.id, provider: "main", return_url, made_by: "key:test" };
        let made = ticket::create(&mut tx, &self.app, &new).await.unwrap().ok().unwrap();
        tx.commit().await.unwrap();
        made
    }
}

fn start(folder: &Path, shop: &str) -> Process {
    let arguments = ["demo", "--data", folder.to_str().unwrap(), "--port", "0", "--simulator-port", "0"];
    let mut demo = Process::start_with(&arguments, &[("MUSUBI__TICKETS__RETURN_URLS", shop)]);
    demo.wait_for("Stop with Ctrl-C");
    demo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desktop_shows_a_ticket_and_a_phone_links_by_it() {
    let (folder, shop) = (tempfile::tempdir().unwrap(), shop().await);
    let demo = start(folder.path(), &shop);
    let company = Company::of(folder.path(), &shop).await;
    let (desktop, phone) = (Browser::start_in(Screen::Desktop, "ja").await, Browser::start(Screen::Phone).await);

    let made = company.ticket("hanako@example.com", true).await;
    desktop.goto(&made.status_url).await;
    desktop.wait_for_text("スマートフォンで続けてください").await;
    desktop.screenshot("ticket-desktop-1-waiting").await;
    phone.goto(&made.url).await;
    phone.wait_for_text("H*** Y***").await;
    phone.screenshot("ticket-phone-1").await;
    phone.click_text("Link LINE account").await;
    phone.wait_for_text("はなこ").await;
    // Nobody reloads the desktop's page: it hears by itself.
    desktop.wait_for_text("スマートフォンで確認してください").await;
    desktop.screenshot("ticket-desktop-2-opened").await;
    phone.click_text("はなこ").await;
    phone.click_text("Allow").await;
    phone.wait_for_text("Are both accounts yours?").await;
    phone.screenshot("ticket-phone-2-confirm").await;
    phone.click_text("Link these accounts").await;
    phone.wait_for_text("Welcome back to the shop: cart=7&result=").await;
    desktop.wait_for_text("LINEと連携しました").await;
    desktop.screenshot("ticket-desktop-3-linked").await;
    phone.goto(&made.url).await;
    phone.wait_for_text("This link can’t be used any more").await;
    phone.screenshot("ticket-phone-3-gone").await;

    // The code is typed; nobody says where to go on.
    let made = company.ticket("taro@example.com", false).await;
    phone.click_text("Enter a code").await;
    phone.wait_for_text("Enter your code").await;
    phone.fill("code", "AAAA AAAA").await;
    phone.click_text("Continue").await;
    phone.wait_for_text("This code can’t be used").await;
    phone.screenshot("ticket-phone-4-code").await;
    phone.fill("code", &made.code.to_lowercase()).await;
    phone.click_text("Continue").await;
    phone.wait_for_text("T*** S***").await;
    phone.click_text("Link LINE account").await;
    phone.click_text("Taro").await;
    phone.click_text("Allow").await;
    phone.click_text("Link these accounts").await;
    phone.wait_for_text("You can close this page now").await;
    phone.screenshot("ticket-phone-5-done").await;
    phone.close().await;
    desktop.close().await;
    demo.stop();
}
