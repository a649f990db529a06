//! What attackers write, shown to others: names, pictures, and what happens when a handler breaks.

use axum::http::{HeaderMap, Method, StatusCode, header};
use musubi::{member::guard::Who, routes};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, Visitor, both_engines};

const NAMES: [&str; 8] = [
    "\"><img src=x onerror=alert(1)>",
    "</title><script>alert(1)</script>",
    "' onmouseover='alert(1)' x='",
    "</bdi><b>Support</b>",
    "{{7*7}} {0} {{name}} {% include 'x' %}",
    "a\u{202e}evil\u{2066}b",
    "\u{2069}\u{202e}out\u{200b}\u{feff}",
    "&lt;script&gt;&#60;b&#62;",
];

/// As it may stand in a page.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '<' => text.push_str("&#60;"),
            '>' => text.push_str("&#62;"),
            '&' => text.push_str("&#38;"),
            '"' => text.push_str("&#34;"),
            '\'' => text.push_str("&#39;"),
            c => text.push(c),
        }
    }
    text
}

/// The tags of a page, each whole: `<a href="…">`.
fn tags(page: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let end = rest.find('>').unwrap() + 1;
        tags.push(&rest[..end]);
        rest = &rest[end..];
    }
    tags
}

/// The page is ours alone: no script but our file, no inline style or handler, and headers that would stop them.
fn is_clean(answer: &Answer) {
    assert_guarded(&answer.headers, "a page");
    for tag in tags(&answer.body) {
        let lower = tag.to_lowercase();
        assert!(!lower.starts_with("<style") && !lower.contains(" style="), "{tag}");
        assert!(!lower.starts_with("<script") || lower.contains(" src=\"/static/app.js?v="), "{tag}");
        assert!(!lower.contains(" on") || !lower.split_whitespace().any(|part| part.starts_with("on")), "{tag}");
        assert!(!lower.contains("javascript:") && !lower.contains("data:"), "{tag}");
        assert!(!lower.starts_with("<iframe") && !lower.starts_with("<base") && !lower.starts_with("<object"), "{tag}");
    }
    assert_eq!(answer.body.matches("<script").count(), 1, "one script, our file");
    assert_eq!(answer.body.matches("</script>").count(), 1);
}

/// The page that LINE opens has LINE's script beside ours, and nothing inline either.
fn is_for_line(answer: &Answer) {
    let scripts: Vec<&str> = tags(&answer.body).into_iter().filter(|tag| tag.starts_with("<script")).collect();
    assert_eq!(scripts.len(), 2, "{scripts:?}");
    assert_eq!(scripts[0], "<script src=\"https://static.line-scdn.net/liff/edge/2/sdk.js\" defer>");
    assert!(scripts[1].contains(" src=\"/static/liff.js?v="), "{scripts:?}");
    let quiet = ["<style", " style=", "javascript:", "data:", "<iframe", "<base", "<object", " onclick", " onload"];
    assert!(quiet.iter().all(|word| !answer.body.contains(word)), "{}", answer.body);
}

fn assert_guarded(headers: &HeaderMap, what: &str) {
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    // The page that LINE opens has no form, and an address that is its script's alone.
    let is_liff = policy.contains("form-action 'none'");
    let forms = if is_liff { "form-action 'none'" } else { "form-action 'self' " };
    for part in ["frame-ancestors 'none'", "base-uri 'none'", "default-src 'none'", forms] {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe-") && !policy.contains('*'), "{what}: {policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", if is_liff { "no-referrer" } else { "same-origin" }),
        ("cache-control", "no-store"),
        ("strict-transport-security", "max-age=31536000"),
    ] {
        assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{what}: {name}");
    }
}

async fn line_user(app: &TestApp, name: &str, picture: Option<&str>) -> String {
    let made = app.sim(Method::POST, "/_sim/users", json!({ "display_name": name, "picture_url": picture })).await;
    made["user_id"].as_str().unwrap().to_owned()
}

/// Every page that shows a LINE user or a member, in the order of a link's life. `visitor` is signed in.
async fn pages(visitor: &mut Visitor<'_>, user: &str) -> Vec<(&'static str, Answer)> {
    let app = visitor.app;
    let attempt = visitor.reach_confirm(user).await;
    let mut pages = vec![
        ("home", visitor.get("/").await),
        ("account", visitor.get("/account").await),
        ("confirm", visitor.get(&format!("/link/confirm?attempt={attempt}")).await),
    ];
    visitor.confirm(&attempt).await;
    app.drain().await;
    pages.push(("linked", visitor.get("/account").await));
    pages.push(("unlink", visitor.get("/account/unlink?provider=main").await));
    let wrong = [("provider", "main"), ("password", "wrong")];
    pages.push(("unlink refused", visitor.post("/account/unlink", &wrong).await));
    visitor.unlink().await;
    pages.push(("unlinking", visitor.get("/account").await));
    pages.push(("not found", visitor.get("/nowhere").await));
    pages
}

/// A JSON tree with every text emptied: its shape.
fn shape(tree: &Value) -> Value {
    match tree {
        Value::String(_) => json!(""),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), shape(value))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => tree.clone(),
    }
}

async fn welcome(app: &TestApp, user: &str) -> Value {
    app.phone(user).await["messages"][0]["contents"].clone()
}

both_engines! {
    async fn j06_a_line_name_is_text_wherever_it_is_shown(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        for name in NAMES {
            let user = line_user(app, name, None).await;
            for (page, answer) in pages(&mut hanako, &user).await {
                is_clean(&answer);
                let shown = ["confirm", "linked", "unlink", "unlink refused"].contains(&page);
                let isolated = format!("<bdi>{}</bdi>", escaped(name));
                assert_eq!(answer.body.contains(&isolated), shown, "{page}: {name:?} in {}", answer.body);
                assert!(page != "unlinking" || answer.body.contains("is unlinked here"), "{}", answer.body);
                assert!(stays_isolated(&answer.body), "{page}: {name:?}");
            }
            app.drain().await;
        }
    }

    async fn j06_a_member_name_is_text_wherever_it_is_shown(app) {
        for (number, name) in NAMES.into_iter().enumerate() {
            let email = format!("m{number}@example.jp");
            app.member(&email, name).await;
            let mut visitor = app.signed_in(&email).await;
            let user = line_user(app, "はなこ", None).await;
            for (page, answer) in pages(&mut visitor, &user).await {
                is_clean(&answer);
                let shown = ["account", "confirm", "linked", "unlinking"].contains(&page);
                let isolated = format!("<bdi>{}</bdi>", escaped(name));
                assert_eq!(answer.body.contains(&isolated), shown, "{page}: {name:?} in {}", answer.body);
                assert!(stays_isolated(&answer.body), "{page}: {name:?}");
            }
        }
    }

    async fn j06_a_name_does_not_change_the_welcomes_shape(app) {
        let plain = line_user(app, "はなこ", None).await;
        app.member("plain@example.jp", "Hanako").await;
        app.signed_in("plain@example.jp").await.link(&plain).await;
        app.drain().await;
        let expected = welcome(app, &plain).await;
        assert!(expected.is_object(), "{expected}");
        let more = ["\",\"type\":\"uri\",\"uri\":\"https://evil.example", "\u{2028}\\\"}]}", "{{company}}"];
        for (number, name) in NAMES.into_iter().chain(more).enumerate() {
            let email = format!("m{number}@example.jp");
            app.member(&email, name).await;
            let user = line_user(app, name, None).await;
            app.signed_in(&email).await.link(&user).await;
            app.drain().await;
            let got = welcome(app, &user).await;
            assert_eq!(shape(&got), shape(&expected), "{name:?}");
            assert!(got.to_string().contains(&json!(format!("Hello {name}, thank you for linking.")).to_string()), "{got}");
            let uris = |tree: &Value| tree.to_string().matches("\"uri\":\"https://members.example.jp/account\"").count();
            assert_eq!(uris(&got), uris(&expected));
        }
    }

    async fn j06_a_very_long_name_is_cut(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let user = line_user(app, "はなこ", None).await;
        let profile = json!({ "userId": user, "displayName": "名".repeat(10_000) });
        for endpoint in ["GET /v2/profile", "GET /v2/bot/profile"] {
            app.fault(json!({ "endpoint": endpoint, "replace_body": profile })).await;
        }
        for (page, answer) in pages(&mut hanako, &user).await {
            is_clean(&answer);
            let shown = answer.body.matches('名').count();
            assert!(shown <= 500, "{page}: {shown}");
            assert!(shown > 0 || !["confirm", "linked", "unlink"].contains(&page), "{page}");
        }
        let user = line_user(app, "nul\0 and \u{1b}[31m and\r\nlines", None).await;
        for (_, answer) in pages(&mut hanako, &user).await {
            assert!(!answer.body.contains(['\0', '\u{1b}']));
        }
    }

    async fn j07_a_picture_from_elsewhere_is_never_shown(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        for url in [
            "javascript:alert(1)",
            "data:image/svg+xml,<svg onload=alert(1)>",
            "http://169.254.169.254/latest/meta-data",
            "https://evil.example/t.gif",
            "//evil.example/t.gif",
            "https://profile.line-scdn.net@evil.example/t.gif",
            "https://evil@profile.line-scdn.net/t.gif",
            "https://:evil@profile.line-scdn.net/t.gif",
            "http://profile.line-scdn.net/evil.gif",
            "https://profile.line-scdn.net.evil.example/t.gif",
            "https://profile.line-scdn.net:8443/evil.gif",
            "https:\\\\evil.example\\t.gif",
            "file:///etc/passwd",
            "not a url, evil",
            "",
        ] {
            let user = line_user(app, "はなこ", Some(url)).await;
            for (page, answer) in pages(&mut hanako, &user).await {
                is_clean(&answer);
                assert!(!answer.body.contains("<img"), "{page}: {url}");
                for part in ["evil", "169.254", "onload", "passwd"] {
                    assert!(!answer.body.contains(part), "{page}: {url}");
                }
                let has_stand_in = answer.body.contains("avatar stand-in\" aria-hidden=\"true\"");
                assert!(has_stand_in || !["linked", "unlink"].contains(&page), "{page}: {url}");
            }
        }
    }

    async fn j07_a_picture_of_line_is_shown_and_learns_nothing(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let url = "https://profile.line-scdn.net/0h\"><script>alert(1)</script>";
        let user = line_user(app, "はなこ", Some(url)).await;
        let mut seen = 0;
        for (page, answer) in pages(&mut hanako, &user).await {
            is_clean(&answer);
            for tag in tags(&answer.body).into_iter().filter(|tag| tag.starts_with("<img")) {
                assert!(tag.contains(" src=\"https://profile.line-scdn.net/0h%22%3E%3Cscript%3E"), "{page}: {tag}");
                assert!(tag.contains(" referrerpolicy=\"no-referrer\""), "{page}: {tag}");
                seen += 1;
            }
        }
        assert_eq!(seen, 4, "confirm, account, unlink, unlink refused");
        let policy = hanako.get("/account").await.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.contains("img-src 'self' https://profile.line-scdn.net;"), "{policy}");
    }

    /// Each route, asked by nobody, by a member, with and without what it needs: every page is guarded.
    async fn k06_every_page_is_guarded(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let mut pages = 0;
        for route in routes::all() {
            let path = route.path.replace("{provider}", "main").replace("{name}", "app.css");
            for signed_in in [false, true] {
                let mut visitor = if signed_in { hanako.clone() } else { app.visitor() };
                let ended = path == "/sign-out";
                let (token, origin) = (visitor.form_token().await, [("origin", crate::support::ORIGIN)]);
                let answers = [
                    visitor.get(&path).await,
                    visitor.post_raw(&path, &[], &[]).await,
                    visitor.post_raw(&path, &[("csrf", &token)], &origin).await,
                ];
                for answer in answers {
                    let what = format!("{} {path} {} {}", route.method, answer.status, answer.location());
                    let kind = answer.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap());
                    assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR, "{what}");
                    if kind == Some("text/html; charset=utf-8") {
                        assert_guarded(&answer.headers, &what);
                        if path.starts_with("/liff/") && answer.status == StatusCode::OK {
                            is_for_line(&answer);
                        } else {
                            is_clean(&answer);
                        }
                        pages += 1;
                    } else if !matches!(route.who, Who::Anyone | Who::Line | Who::Liff | Who::Key(_)) {
                        assert!(answer.status.is_redirection(), "{what} is neither page nor redirect: {}", answer.body);
                        assert_guarded(&answer.headers, &what);
                    }
                }
                if ended && signed_in {
                    hanako = app.signed_in("hanako@example.jp").await;
                }
            }
        }
        assert!(pages > 40, "{pages} pages");
    }

    async fn j16_a_handler_that_panics_is_one_page_and_no_more(app) {
        #[expect(clippy::panic, reason = "this is the bug")]
        async fn broken() -> &'static str {
            panic!("secret-in-a-panic")
        }
        let mut routes = routes::all();
        routes.push(routes::get("/broken", Who::Visitor, broken));
        routes.push(routes::post("/broken", Who::Member, broken));
        routes.push(routes::get("/broken/machine", Who::Anyone, broken));
        let member = {
            app.member("hanako@example.jp", "Hanako").await;
            app.signed_in("hanako@example.jp").await
        };
        let broken = crate::linking::form(&mut member.clone(), "/broken", &[]).await;
        let router = routes::router_of(&app.app, routes);
        let send = async |request| {
            use tower::ServiceExt;
            crate::support::read(router.clone().oneshot(request).await.unwrap()).await
        };
        let before = app.dump(&[]).await;
        for request in [crate::linking::page(&member, "/broken"), crate::linking::page(&app.visitor(), "/broken"), broken] {
            let answer = send(request).await;
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(answer.body.contains("error-page") && !answer.body.contains("secret-in-a-panic"), "{}", answer.body);
            let id = answer.headers["x-request-id"].to_str().unwrap();
            assert!(answer.body.contains(&format!("<code>{id}</code>")), "the page names the request");
            assert_guarded(&answer.headers, "the page of a panic");
            is_clean(&answer);
        }
        let answer = send(crate::linking::page(&member, "/broken/machine")).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, ""));
        let answer = send(crate::linking::page(&member, "/account")).await;
        assert_eq!(answer.status, StatusCode::OK, "everyone else goes on, the member is still signed in");
        assert_eq!(app.dump(&[]).await, before);
    }
}

/// No text turns the one around it: outside of `<bdi>`, each isolate is closed by its own end and holds no override.
fn stays_isolated(page: &str) -> bool {
    let outside: String =
        page.split("<bdi").map(|part| part.split_once("</bdi>").map_or(part, |(_, after)| after)).collect();
    let mut depth = 0;
    for c in outside.chars() {
        match c {
            '\u{2068}' => depth += 1,
            '\u{2069}' => depth -= 1,
            '\u{202a}'..='\u{202e}' | '\u{2066}' | '\u{2067}' => return false,
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return false;
        }
    }
    depth == 0
}
