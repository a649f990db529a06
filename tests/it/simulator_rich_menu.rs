//! The simulator's rich menus for many people, its aliases and tabs, against what LINE documents.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    simulator::{Answer, BOT, Line, png},
    simulator_webhook::Receiver,
    support::browser::{Browser, Screen},
};

const MISSING: &str = "richmenu-00000000000000000000000000000000";

fn object(name: &str, areas: &Value) -> Value {
    json!({
        "size": { "width": 2500, "height": 843 }, "selected": false, "name": name, "chatBarText": "Menu",
        "areas": areas,
    })
}

/// A detail as LINE answers it, of a body with one error.
fn one_error(message: &str, property: &str) -> Value {
    let details = [json!({ "message": message, "property": property })];
    json!({ "message": "The request body has 1 error(s)", "details": details })
}

fn menu_error(message: &str) -> Value {
    json!({ "message": message, "details": [] })
}

/// A bot with its token, as which the menus are handled.
pub struct Bot {
    pub line: Line,
    token: String,
}

impl Bot {
    pub async fn open() -> Self {
        let line = Line::open(None);
        let token = line.bot_token().await;
        Self { line, token }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.line.get(path, &self.token).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.line.post(path, &self.token, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.line.call(Method::DELETE, path, &[("authorization", &bearer)], "").await
    }

    async fn bare_menu(&self, name: &str, areas: Value) -> String {
        let made = self.post("/v2/bot/richmenu", object(name, &areas)).await;
        made.json()["richMenuId"].as_str().unwrap().to_owned()
    }

    /// A menu that can be shown.
    pub async fn menu(&self, name: &str, areas: Value) -> String {
        let id = self.bare_menu(name, areas).await;
        let (bearer, path) = (format!("Bearer {}", self.token), format!("/v2/bot/richmenu/{id}/content"));
        let headers = [("authorization", bearer.as_str()), ("content-type", "image/png")];
        assert_eq!(self.line.call(Method::POST, &path, &headers, png(2500, 843)).await.status, StatusCode::OK);
        id
    }

    pub async fn alias(&self, alias: &str, menu: &str) -> Answer {
        self.post("/v2/bot/richmenu/alias", json!({ "richMenuAliasId": alias, "richMenuId": menu })).await
    }

    /// The id of the person's own menu.
    pub async fn menu_of(&self, user: &str) -> Value {
        self.get(&format!("/v2/bot/user/{user}/richmenu")).await.json()["richMenuId"].clone()
    }

    pub async fn link(&self, user: &str, menu: &str) {
        let linked = self.post(&format!("/v2/bot/user/{user}/richmenu/{menu}"), json!({})).await;
        assert_eq!(linked.json(), json!({}));
    }

    async fn order(&self, deed: &str, order: Value) -> Value {
        let answer = self.line.post(&format!("/_sim/bots/{BOT}/rich-menus/{deed}"), "", order).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn batch(&self, body: Value) -> String {
        let accepted = self.post("/v2/bot/richmenu/batch", body).await;
        assert_eq!((accepted.status, accepted.json()), (StatusCode::ACCEPTED, json!({})));
        accepted.header("x-line-request-id").to_owned()
    }

    async fn progress(&self, request_id: &str) -> Value {
        self.get(&format!("/v2/bot/richmenu/progress/batch?requestId={request_id}")).await.json()
    }
}

#[tokio::test]
async fn many_are_linked_a_moment_later() {
    let bot = Bot::open().await;
    let (first, second) = (bot.line.friend("First").await, bot.line.friend("Second").await);
    let stranger = bot.line.user("Stranger", None).await;
    let menu = bot.menu("members", json!([])).await;
    let people = json!([first, stranger, second, "Uffffffffffffffffffffffffffffffff"]);
    let body = json!({ "richMenuId": menu, "userIds": people });
    let accepted = bot.post("/v2/bot/richmenu/bulk/link", body).await;
    assert_eq!((accepted.status, accepted.json()), (StatusCode::ACCEPTED, json!({})));
    assert_eq!(bot.menu_of(&first).await, Value::Null, "it is only accepted");
    bot.line.pass(1000);
    for (person, has) in [(&first, json!(menu)), (&second, json!(menu)), (&stranger, Value::Null)] {
        assert_eq!(bot.menu_of(person).await, has);
    }
    assert_eq!(bot.line.chat(&stranger).await["rich_menu"], Value::Null, "who is no friend is passed over");

    let unlinked = bot.post("/v2/bot/richmenu/bulk/unlink", json!({ "userIds": [second] })).await;
    assert_eq!((unlinked.status, unlinked.json()), (StatusCode::ACCEPTED, json!({})));
    assert_eq!(bot.menu_of(&second).await, json!(menu));
    assert_eq!(bot.order("finish", json!({})).await, json!({ "finished": 1 }));
    assert_eq!((bot.menu_of(&first).await, bot.menu_of(&second).await), (json!(menu), Value::Null));

    // Accepted, and yet only some get it.
    bot.order("fail", json!({ "after": 1 })).await;
    bot.post("/v2/bot/richmenu/bulk/unlink", json!({ "userIds": [second, first] })).await;
    bot.order("finish", json!({})).await;
    assert_eq!(bot.menu_of(&first).await, json!(menu));
}

#[tokio::test]
async fn a_bulk_request_with_a_mistake_links_nobody() {
    let bot = Bot::open().await;
    let friend = bot.line.friend("Friend").await;
    let (menu, bare) = (bot.menu("members", json!([])).await, bot.bare_menu("bare", json!([])).await);
    let invalid = |place: usize| {
        let text = format!("The property, 'userIds[{place}]', in the request body is invalid (line: -, column: -)");
        json!({ "message": text })
    };
    let no_image = menu_error("must upload richmenu image before applying it to user");
    let many: Vec<&str> = vec![&friend; 501];
    for (body, status, answer) in [
        (json!({ "richMenuId": menu, "userIds": ["nobody"] }), 400, invalid(0)),
        (json!({ "richMenuId": menu, "userIds": [friend, friend, 5] }), 400, invalid(2)),
        (json!({ "richMenuId": "menu", "userIds": [friend] }), 400, one_error("invalid richMenuId", "richMenuId")),
        (json!({ "richMenuId": MISSING, "userIds": [friend] }), 404, menu_error("richmenu not found")),
        (json!({ "richMenuId": bare, "userIds": [friend] }), 400, no_image),
        (json!({ "richMenuId": menu, "userIds": many }), 400, one_error("Size must be between 1 and 500", "userIds")),
        (json!({ "richMenuId": menu, "userIds": [] }), 400, one_error("Size must be between 1 and 500", "userIds")),
    ] {
        let refused = bot.post("/v2/bot/richmenu/bulk/link", body).await;
        assert_eq!((refused.status.as_u16(), refused.json()), (status, answer));
    }
    let refused = bot.post("/v2/bot/richmenu/bulk/unlink", json!({ "userIds": [friend, "U1"] })).await;
    assert_eq!((refused.status.as_u16(), refused.json()), (400, invalid(1)));
    assert_eq!(bot.order("finish", json!({})).await, json!({ "finished": 0 }));
    assert_eq!(bot.menu_of(&friend).await, Value::Null);
    let most: Vec<&str> = vec![&friend; 500];
    let accepted = bot.post("/v2/bot/richmenu/bulk/link", json!({ "richMenuId": menu, "userIds": most })).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn the_operations_of_a_batch_do_not_chain() {
    let bot = Bot::open().await;
    let mut menus = Vec::new();
    let mut people = Vec::new();
    for name in ["a", "b", "c"] {
        let (menu, person) = (bot.menu(name, json!([])).await, bot.line.friend(name).await);
        bot.link(&person, &menu).await;
        menus.push(menu);
        people.push(person);
    }
    let [a, b, c] = [&menus[0], &menus[1], &menus[2]];
    let id = bot
        .batch(json!({ "operations": [
            { "type": "link", "from": a, "to": b }, { "type": "link", "from": b, "to": c }, { "type": "unlink", "from": c },
        ] }))
        .await;
    let accepted = "2027-01-15T08:00:00.000Z";
    assert_eq!(bot.progress(&id).await, json!({ "phase": "ongoing", "acceptedTime": accepted }));
    assert_eq!(bot.menu_of(&people[0]).await, json!(a));
    bot.line.pass(2000);
    let done = json!({
        "phase": "succeeded", "acceptedTime": accepted, "completedTime": "2027-01-15T08:00:02.000Z",
    });
    assert_eq!(bot.progress(&id).await, done);
    for (person, has) in people.iter().zip([json!(b), json!(c), Value::Null]) {
        assert_eq!(bot.menu_of(person).await, has);
    }
    bot.batch(json!({ "operations": [{ "type": "unlinkAll" }] })).await;
    bot.order("finish", json!({})).await;
    for person in &people {
        assert_eq!(bot.menu_of(person).await, Value::Null);
    }

    let unknown = bot.get("/v2/bot/richmenu/progress/batch?requestId=none").await;
    assert_eq!((unknown.status.as_u16(), unknown.json()), (404, menu_error("Not found")));
    assert_eq!(bot.get("/v2/bot/richmenu/progress/batch").await.status, StatusCode::BAD_REQUEST);
    bot.line.pass(14 * 24 * 3600 * 1000);
    let token = bot.line.bot_token().await;
    let late = bot.line.get(&format!("/v2/bot/richmenu/progress/batch?requestId={id}"), &token).await;
    assert_eq!(late.status, StatusCode::NOT_FOUND, "progress is told for 14 days");
}

#[tokio::test]
async fn a_failed_batch_is_resumed_by_its_key() {
    let bot = Bot::open().await;
    let (a, b) = (bot.menu("a", json!([])).await, bot.menu("b", json!([])).await);
    let mut people = Vec::new();
    for name in ["1", "2", "3"] {
        let person = bot.line.friend(name).await;
        bot.link(&person, &a).await;
        people.push(person);
    }
    let body = json!({ "operations": [{ "type": "link", "from": a, "to": b }], "resumeRequestKey": "set-1_A" });
    bot.order("fail", json!({ "after": 2 })).await;
    let first = bot.batch(body.clone()).await;
    bot.line.pass(2000);
    assert_eq!(bot.progress(&first).await["phase"], "failed");
    let overview = async || bot.line.get(&format!("/_sim/bots/{BOT}/rich-menus"), "").await.json();
    let counts = async || {
        let menus = overview().await["menus"].clone();
        let count = |name: &str| {
            let menu = menus.as_array().unwrap().iter().find(|menu| menu["name"] == name);
            menu.unwrap()["people"].as_u64().unwrap()
        };
        (count("a"), count("b"))
    };
    assert_eq!(counts().await, (1, 2));

    // Who came to the first menu since is no part of what is resumed.
    let late = bot.line.friend("late").await;
    bot.link(&late, &a).await;
    let second = bot.batch(body.clone()).await;
    assert_ne!(first, second);
    bot.line.pass(2000);
    assert_eq!(bot.progress(&second).await["phase"], "succeeded");
    assert_eq!(bot.progress(&first).await["phase"], "failed");
    assert_eq!((counts().await, bot.menu_of(&late).await), ((1, 3), json!(a)));
    let third = bot.batch(body.clone()).await;
    bot.line.pass(2000);
    assert_eq!(bot.progress(&third).await["phase"], "succeeded");
    assert_eq!(counts().await, (1, 3), "all was done");

    let fourth = bot.post("/v2/bot/richmenu/batch", body).await;
    assert_eq!(fourth.status, StatusCode::TOO_MANY_REQUESTS, "3 in an hour");
    assert_eq!(fourth.json(), json!({ "message": "The API rate limit has been exceeded. Try again later." }));
}

#[tokio::test]
async fn a_batch_with_a_mistake_does_nothing() {
    let bot = Bot::open().await;
    let (menu, bare) = (bot.menu("a", json!([])).await, bot.bare_menu("bare", json!([])).await);
    let no_image = menu_error("must upload richmenu image before applying it to user");
    let unlink = json!({ "type": "unlink", "from": menu });
    let link = |from: &str, to: &str| json!({ "type": "link", "from": from, "to": to });
    let words = "Must be one of the following values: [link, unlink, unlinkAll]";
    let duplicated = format!("from richmenu ({menu}) is duplicated");
    let combined = "'unlinkAll' type can't be combined with other type";
    let key = json!({ "operations": [unlink], "resumeRequestKey": "a key" });
    let many: Vec<Value> = vec![json!({ "type": "unlinkAll" }); 1001];
    for (operations, status, answer) in [
        (json!([link("menu", &menu)]), 400, one_error("invalid richMenuId", "operations[0].from")),
        (json!([unlink, link(&bare, "")]), 400, one_error("invalid richMenuId", "operations[1].to")),
        (json!([unlink, unlink]), 400, one_error(&duplicated, "operations[].from")),
        (json!([unlink, { "type": "unlinkAll" }]), 400, one_error(combined, "operations[].type")),
        (json!([{ "type": "move" }]), 400, one_error(words, "operations[0].type")),
        (json!([link(&menu, MISSING)]), 404, menu_error("richmenu not found")),
        (json!([link(MISSING, &menu)]), 404, menu_error("richmenu not found")),
        (json!([link(&menu, &bare)]), 400, no_image),
        (json!(many), 400, one_error("Size must be between 1 and 1000", "operations")),
    ] {
        let body = json!({ "operations": operations });
        let refused = bot.post("/v2/bot/richmenu/validate/batch", body).await;
        assert_eq!((refused.status.as_u16(), refused.json()), (status, answer));
    }
    let refused = bot.post("/v2/bot/richmenu/batch", key).await;
    assert_eq!(refused.json(), one_error("invalid resumeRequestKey", "resumeRequestKey"));
    let valid = bot.post("/v2/bot/richmenu/validate/batch", json!({ "operations": [unlink] })).await;
    assert_eq!((valid.status.as_u16(), valid.json()), (200, json!({})));
    assert_eq!(bot.order("finish", json!({})).await, json!({ "finished": 0 }));
}

#[tokio::test]
async fn an_alias_leads_to_a_menu() {
    let bot = Bot::open().await;
    let (a, b) = (bot.menu("a", json!([])).await, bot.menu("b", json!([])).await);
    let bare = bot.bare_menu("bare", json!([])).await;
    let list = "/v2/bot/richmenu/alias/list";
    assert_eq!(bot.get(list).await.json(), json!({ "aliases": [] }));
    assert_eq!(bot.alias("tab-a", &a).await.json(), json!({}));
    for (alias, menu, answer) in [
        ("tab-a", &*b, menu_error("conflict richmenu alias id")),
        ("tab-b", &bare, menu_error("richmenu not found")),
        ("tab-b", MISSING, menu_error("richmenu not found")),
        ("tab-b", "menu", one_error("invalid richMenuId", "richMenuId")),
        ("Tab", &b, one_error("invalid richMenuAliasId", "richMenuAliasId")),
        (&"a".repeat(33), &b, one_error("invalid richMenuAliasId", "richMenuAliasId")),
    ] {
        let refused = bot.alias(alias, menu).await;
        assert_eq!((refused.status.as_u16(), refused.json()), (400, answer));
    }
    let path = "/v2/bot/richmenu/alias/tab-a";
    assert_eq!(bot.get(path).await.json(), json!({ "richMenuAliasId": "tab-a", "richMenuId": a }));
    assert_eq!(bot.post(path, json!({ "richMenuId": b })).await.json(), json!({}));
    let aliases = json!({ "aliases": [{ "richMenuAliasId": "tab-a", "richMenuId": b }] });
    assert_eq!(bot.get(list).await.json(), aliases);
    let refused = bot.post(path, json!({ "richMenuId": bare })).await;
    assert_eq!((refused.status.as_u16(), refused.json()), (400, menu_error("richmenu not found")));

    let missing = "/v2/bot/richmenu/alias/tab-b";
    let not_found = menu_error("richmenu alias not found");
    for answer in
        [bot.get(missing).await, bot.post(missing, json!({ "richMenuId": a })).await, bot.delete(missing).await]
    {
        assert_eq!((answer.status.as_u16(), answer.json()), (404, not_found.clone()));
    }
    // An alias outlives its menu.
    bot.delete(&format!("/v2/bot/richmenu/{b}")).await;
    assert_eq!(bot.get(list).await.json(), aliases);
    assert_eq!(bot.delete(path).await.json(), json!({}));
    assert_eq!(bot.get(list).await.json(), json!({ "aliases": [] }));
}

/// Two menus, each with a tab to the other, the first for all; the first one's other areas are `more`.
async fn tabs(bot: &Bot, more: Vec<Value>) -> (String, String) {
    let area =
        |x: i64, action: Value| json!({ "bounds": { "x": x, "y": 0, "width": 500, "height": 843 }, "action": action });
    let tab = |label: &str, alias: &str| json!({ "type": "richmenuswitch", "label": label, "richMenuAliasId": alias, "data": format!("to={alias}") });
    let actions = [vec![tab("To support", "support")], more].concat();
    let areas: Vec<Value> = (0..).zip(actions).map(|(place, action)| area(place * 500, action)).collect();
    let home = bot.menu("home", json!(areas)).await;
    let support = bot.menu("support", json!([area(0, tab("To home", "home"))])).await;
    bot.alias("home", &home).await;
    bot.alias("support", &support).await;
    bot.post(&format!("/v2/bot/user/all/richmenu/{home}"), json!({})).await;
    (home, support)
}

#[tokio::test]
async fn a_tab_gives_the_person_the_other_menu_and_tells_the_bot() {
    let bot = Bot::open().await;
    let receiver = Receiver::of(&bot.line).await;
    let (home, support) = tabs(&bot, Vec::new()).await;
    let friend = bot.line.friend("Friend").await;
    let tap = async |user: &str| {
        let tapped = bot.line.post(&format!("/_sim/users/{user}/tap"), "", json!({ "area": 0 })).await;
        assert_eq!(tapped.status, StatusCode::OK, "{}", tapped.text());
        receiver.event()["postback"].clone()
    };
    let done = |alias: &str| {
        let params = json!({ "newRichMenuAliasId": alias, "status": "SUCCESS" });
        json!({ "data": format!("to={alias}"), "params": params })
    };
    assert_eq!(tap(&friend).await, done("support"));
    assert_eq!(bot.menu_of(&friend).await, json!(support), "it is the person's own now");
    assert_eq!(tap(&friend).await, done("home"));
    assert_eq!(bot.menu_of(&friend).await, json!(home));

    // Phones know a moved alias a moment later.
    let third = bot.menu("third", json!([])).await;
    bot.post("/v2/bot/richmenu/alias/support", json!({ "richMenuId": third })).await;
    tap(&friend).await;
    assert_eq!(bot.menu_of(&friend).await, json!(support));
    bot.line.pass(1000);
    tap(&friend).await;
    tap(&friend).await;
    assert_eq!(bot.menu_of(&friend).await, json!(third));

    let failed = |status: &str| json!({ "data": "to=support", "params": { "status": status } });
    let stranger = bot.line.user("Stranger", None).await;
    assert_eq!(tap(&stranger).await, failed("FAILED"), "who is no friend has no menu of their own");
    bot.link(&friend, &home).await;
    bot.delete(&format!("/v2/bot/richmenu/{third}")).await;
    assert_eq!(tap(&friend).await, failed("RICHMENU_NOTFOUND"));
    bot.delete("/v2/bot/richmenu/alias/support").await;
    assert_eq!(tap(&friend).await, failed("RICHMENU_ALIAS_ID_NOTFOUND"));
    assert_eq!(bot.menu_of(&friend).await, json!(home));
}

#[tokio::test]
async fn a_tap_does_to_the_phone_what_its_action_says() {
    let bot = Bot::open().await;
    let friend = bot.line.friend("Friend").await;
    let plain = format!("/_sim/phone/{friend}?channel={BOT}");
    for (action, more) in [
        (json!({ "type": "postback", "data": "a" }), ""),
        (json!({ "type": "postback", "data": "a", "inputOption": "closeRichMenu" }), "&menu=closed"),
        (json!({ "type": "postback", "data": "a", "inputOption": "openRichMenu" }), "&menu=open"),
        (
            json!({ "type": "postback", "data": "a", "inputOption": "openKeyboard", "fillInText": "No. <1>" }),
            "&menu=closed&text=No.+%3C1%3E",
        ),
        (json!({ "type": "clipboard", "clipboardText": "A&B" }), "&copied=A%26B"),
    ] {
        let fields = [("channel", BOT), ("action", &action.to_string())];
        let done = bot.line.form(&format!("/_sim/phone/{friend}/tap"), &fields).await;
        assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, &*format!("{plain}{more}")));
    }
    tabs(&bot, Vec::new()).await;
    let page = async |more: &str| bot.line.get(&format!("{plain}{more}"), "").await.text();
    assert!(!page("").await.contains("open>"), "a menu that is not selected is folded");
    assert!(page("&menu=open").await.contains("open>"));
    let filled = page("&text=No.+%3C1%3E&copied=A%26B").await;
    assert!(filled.contains("value=\"No. &#60;1&#62;\"") && filled.contains("Copied: A&#38;B"), "{filled}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_uses_the_menu_on_the_phone() {
    let bot = Bot::open().await;
    let friend = bot.line.friend("Friend").await;
    let receiver = Receiver::of(&bot.line).await;
    let ask = json!({
        "type": "postback", "label": "Ask", "data": "ask", "displayText": "May I ask?", "inputOption": "openKeyboard",
        "fillInText": "About my order",
    });
    let pick = json!({
        "type": "datetimepicker", "label": "Reserve", "data": "at", "mode": "datetime", "initial": "2027-02-01t10:00",
    });
    let code = json!({ "type": "clipboard", "label": "Coupon", "clipboardText": "MUSUBI-10" });
    tabs(&bot, vec![ask, pick, code]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/_sim/phone/{friend}", listener.local_addr().unwrap());
    let router = bot.line.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let browser = Browser::start(Screen::Phone).await;
    browser.goto(&url).await;
    browser.click_text("Menu").await;
    browser.click_text("To support").await;
    browser.wait_for_text("To home").await;
    browser.click_text("To home").await;
    browser.wait_for_text("Coupon").await;
    browser.click_text("Coupon").await;
    browser.wait_for_text("Copied: MUSUBI-10").await;
    browser.click_text("Reserve").await;
    browser.click_text("Pick").await;
    receiver.wait_for(3).await;
    let picked = json!({ "data": "at", "params": { "datetime": "2027-02-01T10:00" } });
    assert_eq!(receiver.event()["postback"], picked);
    browser.click_text("Ask").await;
    browser.wait_until_gone("Coupon").await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "ask" }));
    browser.click_text("Send").await;
    browser.wait_for_text("May I ask? About my order").await;
    assert_eq!(receiver.event()["message"]["text"], "About my order");
    browser.close().await;
}

#[tokio::test]
async fn what_is_counted_by_the_hour_is_limited() {
    let bot = Bot::open().await;
    for (method, path, most) in [
        (Method::POST, "/v2/bot/richmenu", 100),
        (Method::DELETE, "/v2/bot/richmenu/x", 100),
        (Method::DELETE, "/v2/bot/richmenu/alias/x", 100),
        (Method::GET, "/v2/bot/richmenu/progress/batch?requestId=x", 100),
        (Method::POST, "/v2/bot/richmenu/batch", 3),
    ] {
        let bearer = format!("Bearer {}", bot.token);
        let mut count = 0;
        while bot.line.call(method.clone(), path, &[("authorization", &bearer)], "").await.status
            != StatusCode::TOO_MANY_REQUESTS
        {
            count += 1;
            assert!(count <= most, "{method} {path}");
        }
        assert_eq!(count, most, "{method} {path}");
    }
    // Another limit can be set, of these as of any, and a fault reaches them.
    let rate = json!({ "endpoint": "POST /v2/bot/richmenu/batch", "calls": null });
    bot.line.post(&format!("/_sim/bots/{BOT}/rate"), "", rate).await;
    bot.batch(json!({ "operations": [{ "type": "unlinkAll" }] })).await;
    let fault = json!({ "endpoint": "POST /v2/bot/richmenu/bulk/link", "status": 500 });
    bot.line.post("/_sim/faults", "", fault).await;
    let broken = bot.post("/v2/bot/richmenu/bulk/link", json!({})).await;
    assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn the_managers_default_menu_is_not_the_apis() {
    let bot = Bot::open().await;
    let default = "/v2/bot/user/all/richmenu";
    bot.order("manager", json!({ "default": true })).await;
    let foreign = bot.get(default).await;
    let text = "the richmenu is owned by another channel";
    assert_eq!((foreign.status.as_u16(), foreign.json()), (403, menu_error(text)));
    let menu = bot.menu("a", json!([])).await;
    bot.post(&format!("{default}/{menu}"), json!({})).await;
    assert_eq!(bot.get(default).await.json(), json!({ "richMenuId": menu }));
    bot.delete(default).await;
    assert_eq!(bot.get(default).await.status, StatusCode::FORBIDDEN);
    bot.order("manager", json!({ "default": false })).await;
    assert_eq!(bot.get(default).await.json(), menu_error("no default richmenu"));
}

#[tokio::test]
async fn aliases_and_what_is_to_come_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let line = Line::open(Some(folder.path()));
    let token = line.bot_token().await;
    let bot = Bot { line, token };
    let friend = bot.line.friend("Friend").await;
    let (a, b) = (bot.menu("a", json!([])).await, bot.menu("b", json!([])).await);
    bot.alias("tab", &a).await;
    bot.link(&friend, &a).await;
    let id = bot.batch(json!({ "operations": [{ "type": "link", "from": a, "to": b }] })).await;
    bot.line.simulator.save().unwrap();
    let Bot { line, token } = bot;
    drop(line);

    let bot = Bot { line: Line::open(Some(folder.path())), token };
    assert_eq!(bot.get("/v2/bot/richmenu/alias/tab").await.json()["richMenuId"], a);
    assert_eq!(bot.progress(&id).await["phase"], "ongoing");
    bot.line.pass(2000);
    assert_eq!(bot.progress(&id).await["phase"], "succeeded");
    assert_eq!(bot.menu_of(&friend).await, json!(b));
    let overview = bot.line.get(&format!("/_sim/bots/{BOT}/rich-menus"), "").await.json();
    assert_eq!((&overview["aliases"], &overview["pending"]), (&json!({ "tab": a }), &json!(0)));
}
