//! Goes wherever a person may come to, and keeps each page as it was answered.

use axum::http::{HeaderValue, header};
use musubi::{link::ticket, web::locale::Locale};

use crate::{
    account_link,
    company_sign_in::Stage,
    elsewhere, liff,
    support::{Answer, Engine, ORIGIN, PASSWORD, TestApp, Visitor, parameter},
};

pub struct Page {
    pub name: String,
    pub html: String,
    /// Its content security policy.
    pub policy: HeaderValue,
}

#[derive(Default)]
struct Album(Vec<Page>);

impl Album {
    fn keep(&mut self, name: &str, answer: Answer) {
        assert!(answer.body.starts_with("<!doctype html>"), "{name}: {} {}", answer.status, answer.body);
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].clone();
        self.0.push(Page { name: name.to_owned(), html: answer.body, policy });
    }

    async fn open(&mut self, visitor: &mut Visitor<'_>, name: &str, path: &str) {
        let answer = visitor.get(path).await;
        self.keep(name, answer);
    }

    async fn send(&mut self, visitor: &mut Visitor<'_>, name: &str, path: &str, fields: &[(&str, &str)]) {
        let answer = visitor.post(path, fields).await;
        self.keep(name, answer);
    }

    /// The page that LINE opens: as it is answered, while it waits, and with each thing that may be wrong.
    async fn liff(&mut self, visitor: &mut Visitor<'_>) {
        self.open(visitor, "liff", "/liff/main").await;
        let Some(page) = self.0.last() else { return };
        let (html, policy) = (still(&page.html), page.policy.clone());
        let mut states = vec![("waiting", html.clone())];
        for part in html.split("data-problem=\"").skip(1) {
            let name = part.split('"').next().unwrap();
            let shown = format!("data-problem=\"{name}\" tabindex=\"-1\"");
            let told = html.replace("class=\"card opening\"", "class=\"card opening\" hidden");
            let told = told.replace(&format!("{shown} hidden"), &shown);
            states.push((name, told));
        }
        assert!(states.len() > 10, "the problems are found");
        let pages = states.iter().map(|(name, html)| Page {
            name: format!("liff-{name}"),
            html: html.clone(),
            policy: policy.clone(),
        });
        self.0.extend(pages.collect::<Vec<_>>());
    }
}

/// As its script leaves it, which the picture needs no more: without scripts.
fn still(html: &str) -> String {
    let kept: Vec<&str> = html.lines().filter(|line| !line.trim_start().starts_with("<script")).collect();
    kept.join("\n")
}

/// Every page, each in the state that shows most.
pub async fn all(app: &TestApp, locale: Locale) -> Vec<Page> {
    let mut pages = visitors(app, locale).await;
    for more in
        [members(app, locale).await, links(app, locale).await, tickets(app, locale).await, company(locale).await]
    {
        pages.extend(more);
    }
    pages
}

fn reader(app: &TestApp, locale: Locale) -> Visitor<'_> {
    Visitor { language: locale.tag(), ..app.visitor() }
}

async fn signed_in<'a>(app: &'a TestApp, locale: Locale, email: &str) -> Visitor<'a> {
    let mut visitor = reader(app, locale);
    let answer = visitor.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await;
    assert_eq!(answer.location(), "/account", "{}", answer.body);
    visitor
}

/// Without an account, or not signed in to it.
pub async fn visitors(app: &TestApp, locale: Locale) -> Vec<Page> {
    let mut album = Album::default();
    let visitor = &mut reader(app, locale);
    album.open(visitor, "home", "/").await;
    album.open(visitor, "sign-in", "/sign-in").await;
    let wrong = [("email", "nobody@example.jp"), ("password", "wrong password")];
    album.send(visitor, "sign-in-wrong", "/sign-in", &wrong).await;
    album.open(visitor, "sign-up", "/sign-up").await;
    for (name, fields) in [
        ("sign-up-name", [("name", ""), ("email", "a@example.jp"), ("password", PASSWORD)]),
        ("sign-up-email", [("name", "A"), ("email", "a"), ("password", PASSWORD)]),
        ("sign-up-password", [("name", "A"), ("email", "a@example.jp"), ("password", "password1")]),
        ("check-mail", [("name", "Alexandra"), ("email", "alexandra@example.jp"), ("password", PASSWORD)]),
    ] {
        album.send(visitor, name, "/sign-up", &fields).await;
    }
    app.drain().await;
    let link = app.mailed_link("alexandra@example.jp", "/sign-up/confirm").await;
    album.open(visitor, "sign-up-confirm", &link).await;
    album.open(&mut reader(app, locale), "sign-up-confirm-elsewhere", &link).await;
    album.open(visitor, "forgot", "/password/forgot").await;
    album.send(visitor, "forgot-wrong", "/password/forgot", &[("email", "nobody")]).await;
    album.open(visitor, "not-found", "/nothing").await;
    let expired = visitor.post_raw("/sign-in", &[], &[("origin", ORIGIN)]).await;
    album.keep("form-expired", expired);
    album.open(visitor, "line-state", "/line/callback/main?code=a&state=b").await;
    album.open(visitor, "line-answer", "/line/callback/main?code=a&code=b").await;
    let came_back = app.line_user("Somebody Else").await;
    let url = visitor.start_line("sign_in", "/").await;
    let back = visitor.at_line(&url, &came_back, "consent").await;
    let elsewhere = &mut reader(app, locale);
    album.open(elsewhere, "line-cookies", &back).await;
    album.open(elsewhere, "line-elsewhere", &back).await;
    let without = reader(app, locale).post_raw("/sign-in", &[], &[("origin", ORIGIN)]).await;
    album.keep("cookies", without);
    let app_agent =
        "Mozilla/5.0 (Linux; Android 15; wv) AppleWebKit/537.36 Chrome/143.0.0.0 Mobile Safari/537.36 Instagram";
    album.open(&mut Visitor { user_agent: app_agent, ..reader(app, locale) }, "sign-in-other-app", "/sign-in").await;
    album.open(visitor, "link-gone", "/link/undo?token=none").await;
    album.open(visitor, "code", "/t").await;
    album.send(visitor, "code-wrong", "/t", &[("code", "ABCD-EF23")]).await;
    album.open(visitor, "ticket-gone", "/t/none").await;
    album.liff(visitor).await;
    let user = app.line_user("Somebody New").await;
    let answer = visitor.sign_in_by_line(&user).await;
    album.open(visitor, "not-linked", &answer.location()).await;
    album.0
}

/// An account, and all that can be done with it.
async fn members(app: &TestApp, locale: Locale) -> Vec<Page> {
    const EMAIL: &str = "maximiliane.hanako.yamada@long-company-name.example.jp";
    let mut album = Album::default();
    app.member(EMAIL, "Maximiliane Hanako Yamada-Featherstonehaugh").await;
    let visitor = &mut signed_in(app, locale, EMAIL).await;
    signed_in(app, locale, EMAIL).await;
    album.open(visitor, "home-member", "/").await;
    for (name, path) in [
        ("account", "/account"),
        ("sessions", "/account/sessions"),
        ("history-none", "/account/history"),
        ("change-password", "/password/change"),
        ("change-email", "/account/email"),
        ("data", "/account/data"),
        ("delete", "/account/delete"),
        ("preferences", "/account/preferences?done=saved"),
        ("reauth", "/sign-in?return_to=/account&reauth=1"),
    ] {
        album.open(visitor, name, path).await;
    }
    let wrong = [("quiet", "own"), ("quiet_from", ""), ("quiet_to", "07:00"), ("language", "x"), ("time_zone", "x")];
    album.send(visitor, "preferences-wrong", "/account/preferences", &wrong).await;
    let wrong = [("word", "x"), ("password", PASSWORD)];
    album.send(visitor, "delete-wrong", "/account/delete", &wrong).await;
    album.send(visitor, "data-wrong", "/account/data", &[("password", "wrong password")]).await;
    let new = [("email", "new@example.jp"), ("password", PASSWORD)];
    album.send(visitor, "check-mail-change", "/account/email", &new).await;
    app.drain().await;
    let link = app.mailed_link("new@example.jp", "/account/email/confirm").await;
    album.open(visitor, "email-confirm", &link).await;

    let stranger = &mut reader(app, locale);
    album.send(stranger, "check-mail-reset", "/password/forgot", &[("email", EMAIL)]).await;
    app.drain().await;
    let link = app.mailed_link(EMAIL, "/password/reset").await;
    album.open(stranger, "reset", &link).await;
    let token = parameter(&link, "token");
    let weak = [("token", &*token), ("password", "password1")];
    album.send(stranger, "reset-wrong", "/password/reset", &weak).await;

    app.execute("UPDATE members SET password_hash = NULL").await;
    app.clock.advance(std::time::Duration::from_secs(660));
    let reauth = "/sign-in?return_to=/account/delete&reauth=1";
    album.open(visitor, "code-ask", reauth).await;
    let sent = visitor.post("/account/code", &[("return_to", "/account/delete")]).await;
    album.open(visitor, "code-sent", &sent.location()).await;
    app.drain().await;
    let code = app.mailed_code(EMAIL).await;
    visitor.post("/account/code/check", &[("code", &code), ("return_to", "/account/delete")]).await;
    let word = locale.text("delete.word");
    album.send(visitor, "deleted", "/account/delete", &[("word", word)]).await;
    album.0
}

/// A LINE account: linked, asked about, unlinked.
async fn links(app: &TestApp, locale: Locale) -> Vec<Page> {
    const EMAIL: &str = "hanako@example.jp";
    let mut album = Album::default();
    app.member(EMAIL, "山田花子").await;
    let visitor = &mut signed_in(app, locale, EMAIL).await;
    let user = account_link::friend(app, "はなこ").await;
    let page = account_link::ask(app, &user).await;
    album.open(visitor, "account-link", &page).await;
    let attempt = visitor.reach_confirm(&user).await;
    album.open(visitor, "confirm", &format!("/link/confirm?attempt={attempt}")).await;
    let consent = format!("1:{}", locale.tag());
    let answer =
        visitor.post("/link/confirm", &[("attempt", &attempt), ("decision", "yes"), ("consent", &consent)]).await;
    assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
    album.open(visitor, "account-linked", "/account?done=linked").await;
    album.open(visitor, "unlink", "/account/unlink?provider=main").await;
    let wrong = [("provider", "main"), ("password", "wrong password")];
    album.send(visitor, "unlink-wrong", "/account/unlink", &wrong).await;
    for (name, statement) in [
        ("account-asks", "UPDATE links SET consent_version = '0'"),
        ("account-suspended", "UPDATE links SET suspended_at = 1, consent_version = '1'"),
        ("account-withdrawn", "UPDATE links SET suspended_at = NULL, permission = 'withdrawn'"),
        ("account-imported", "UPDATE links SET permission = 'given', unconfirmed_at = 1"),
    ] {
        app.execute(statement).await;
        album.open(visitor, name, "/account").await;
    }
    app.execute("UPDATE links SET unconfirmed_at = NULL").await;
    for (name, friend) in [("no", "UPDATE friends SET friend = 'no'"), ("yes", "UPDATE friends SET friend = 'yes'")] {
        app.execute(friend).await;
        album.open(visitor, &format!("friend-{name}"), "/account/friend?provider=main&done=linked").await;
    }
    app.execute("UPDATE links SET unconfirmed_at = 1").await;
    let stranger = &mut reader(app, locale);
    let answer = stranger.sign_in_by_line(&user).await;
    album.open(stranger, "imported", &answer.location()).await;
    app.execute("UPDATE links SET unconfirmed_at = NULL").await;

    app.drain().await;
    let undo = app.mailed_link(EMAIL, "/link/undo").await;
    album.open(stranger, "undo", &undo).await;
    visitor.unlink().await;
    album.open(visitor, "account-unlinking", "/account?done=unlinked").await;
    album.open(visitor, "history", "/account/history").await;
    album.send(stranger, "undone", "/link/undo", &[("token", &parameter(&undo, "token"))]).await;
    album.0
}

/// A member who was handed an address.
async fn tickets(app: &TestApp, locale: Locale) -> Vec<Page> {
    let mut album = Album::default();
    let member_id = app.member("taro@example.jp", "Taro Yamada").await;
    let mut tx = app.app.db.begin().await.unwrap();
    let new = ticket::New { member_id: &member_id, provider: "main", return_url: None, made_by: "key:test" };
    let made = ticket::create(&mut tx, &app.app, &new).await.unwrap().ok().unwrap();
    tx.commit().await.unwrap();
    let (at, watch) = (made.url.strip_prefix(ORIGIN).unwrap(), made.status_url.strip_prefix(ORIGIN).unwrap());
    let visitor = &mut reader(app, locale);
    album.open(visitor, "watch-waiting", watch).await;
    album.open(visitor, "ticket", at).await;
    let user = app.line_user("たろう").await;
    let page = visitor.get(at).await;
    let field = |name| page.field(name).unwrap();
    let fields = [("purpose", field("purpose")), ("provider", field("provider")), ("return_to", field("return_to"))];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let authorize = visitor.post("/line/start", &fields).await.location();
    let back = visitor.at_line(&authorize, &user, "consent").await;
    let confirm = visitor.get(&back).await.location();
    album.open(visitor, "watch-opened", watch).await;
    album.open(visitor, "ticket-confirm", &confirm).await;
    let consent = format!("1:{}", locale.tag());
    let yes = [("attempt", &*parameter(&confirm, "attempt")), ("decision", "yes"), ("consent", &consent)];
    let done = visitor.post("/link/confirm", &yes).await.location();
    album.open(visitor, "ticket-done", &done).await;
    app.execute("UPDATE friends SET friend = 'no'").await;
    album.open(visitor, "ticket-done-no-friend", &done).await;
    album.open(visitor, "watch-linked", watch).await;
    album.0
}

/// Of an application whose members sign in at the company's own provider.
async fn company(locale: Locale) -> Vec<Page> {
    let mut album = Album::default();
    let stage = Stage::set_with(Engine::Sqlite, |oidc| oidc.external_browser = true).await;
    let visitor = &mut reader(&stage.app, locale);
    album.open(visitor, "company-sign-in", "/sign-in").await;
    album.open(visitor, "company-state", "/company/callback?code=a&state=b").await;
    stage.sign_in(visitor).await;
    album.open(visitor, "company-again", "/sign-in?return_to=/account/data&reauth=1").await;
    album.open(visitor, "company-sessions", "/account/sessions").await;

    let inside = &mut reader(&stage.app, locale);
    let user = stage.app.line_user("はなこ").await;
    liff::open(inside, &user).await;
    let page = elsewhere::not_linked(inside).await;
    album.keep("company-not-linked", page);
    album.send(inside, "elsewhere", "/line/elsewhere", &[("provider", "main")]).await;
    let path = elsewhere::ask(inside).await;
    album.open(&mut reader(&stage.app, locale), "elsewhere-go-on", &path).await;
    album.open(&mut reader(&stage.app, locale), "elsewhere-gone", "/line/go-on/none").await;
    stage.app.end().await;
    album.0
}
