//! The rules of the house itself: imports go downward, every route says who may call it and holds to it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use axum::http::{Method, StatusCode};
use musubi::{member::guard::Who, routes};

use crate::support::{ORIGIN, TABLES, both_engines};

/// The rooms by rank, as in the map of `lib.rs`.
const RANKS: [&[&str]; 11] = [
    &["config", "line", "flex", "log", "kill"],
    &["db", "seal", "smtp", "error", "metrics", "egress", "oidc"],
    &["app", "web"],
    &["audit", "queue", "channel", "line_user", "mail", "hook_event", "menu_change", "member", "import"],
    &["message", "chat", "rich_menu"],
    &["link"],
    &["webhook", "hook"],
    &["privacy", "preference"],
    &["api"],
    &["worker", "routes", "doctor", "key"],
    &["serve", "demo"],
];

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms named after `use crate::`, also in braces and over lines.
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for part in text.split("use crate::").skip(1) {
        let statement = part.split(';').next().unwrap();
        if let Some(list) = statement.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        rooms.insert(std::mem::take(&mut name));
                        continue;
                    }
                    _ => {}
                }
                name.push(c);
            }
            rooms.insert(name);
        } else {
            rooms.insert(statement.to_owned());
        }
    }
    let room = |text: String| text.trim().split([':', ' ', '}', '{']).next().unwrap_or_default().to_owned();
    rooms.into_iter().map(room).filter(|room| !room.is_empty()).collect()
}

#[test]
fn imports_go_downward_only() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 50, "the sources are found");
    let mut upward = Vec::new();
    for file in files {
        let path = file.strip_prefix("src").unwrap().with_extension("");
        let room = path.iter().next().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        for import in imports(&text) {
            let allowed = match (room.as_str(), rank(&room), rank(&import)) {
                _ if import == room => true,
                // A Flex message is drawn by the one drawing there is.
                ("simulator", ..) => import == "flex",
                ("lib" | "main", ..) => true,
                // The demo alone brings both sides together.
                ("demo", ..) => true,
                // One rank is one floor: `member` is asked by nobody on it, and asks `audit`.
                (_, Some(own), Some(other)) => own > other || (own == other && (own == 2 || own == 3 || own == 10)),
                _ => false,
            };
            if !allowed {
                upward.push(format!("{}: {import}", file.display()));
            }
        }
    }
    assert_eq!(upward, Vec::<String>::new(), "imports that go upward, or rooms without a rank");
}

#[test]
fn routes_are_made_in_one_place() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for file in files.iter().filter(|file| !file.starts_with("src/simulator")) {
        // The metrics have a listener of their own, which the world does not reach.
        if ["src/routes.rs", "src/simulator.rs", "src/serve/metrics.rs"].iter().any(|known| file.ends_with(known)) {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains(".route("), "{} makes a route past the door", file.display());
    }
}

#[test]
fn nothing_is_a_stub() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["todo!", "unimplemented!", "#[allow("] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

/// A place that a test may kill at is listed, and stands once in the sources; nobody is served by a build with them.
#[test]
fn kill_points_are_the_listed_ones() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut found: Vec<String> = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("src/kill.rs")) {
        let text = fs::read_to_string(file).unwrap();
        found.extend(text.split("kill::point(").skip(1).map(|rest| rest.split('"').nth(1).unwrap().to_owned()));
    }
    found.sort();
    let mut listed = musubi::kill::POINTS.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);

    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    assert!(features["kill-points"].as_array().unwrap().is_empty());
    assert!(!features.contains_key("default"), "what is built by default has no features");
}

/// `docs/security.md` names tests that are there, and all that are named after a row.
#[test]
fn the_security_table_names_the_tests() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    sources(Path::new("tests/it"), &mut files);
    let is_row = |name: &str| {
        let bytes = name.as_bytes();
        bytes.len() > 4
            && bytes[0].is_ascii_lowercase()
            && bytes[1..3].iter().all(u8::is_ascii_digit)
            && bytes[3] == b'_'
    };
    let mut made = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap().trim().to_owned());
        made.extend(names.filter(|name| is_row(name) && !name.starts_with("t00_")));
    }
    let text = fs::read_to_string("docs/security.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 3);
    let named: BTreeSet<String> = rows
        .flat_map(|row| row.split('`').map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| is_row(name))
        .collect();
    assert_eq!(named, made);
}

both_engines! {
    /// Without a session, each route of members leads to the sign-in, and changes nothing.
    async fn member_routes_ask_for_a_sign_in(app) {
        let before = app.dump(&[]).await;
        for route in routes::all().into_iter().filter(|route| route.who == Who::Member) {
            let mut visitor = app.visitor();
            let answer = match route.method {
                Method::GET => visitor.get(route.path).await,
                _ => visitor.post(route.path, &[]).await,
            };
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{} {}", route.method, route.path);
            assert!(answer.location().starts_with("/sign-in?"), "{} {}", route.path, answer.location());
        }
        assert_eq!(app.dump(&[]).await, before);
    }

    /// Each form without a token, with a wrong one, from another site, or from nowhere, is refused.
    async fn every_form_needs_its_token_and_its_origin(app) {
        app.member("hanako@example.jp", "Hanako").await;
        for route in routes::all().into_iter().filter(|route| route.method != Method::GET && !matches!(route.who, Who::Anyone | Who::Line | Who::Key(_))) {
            let mut visitor = app.signed_in("hanako@example.jp").await;
            let token = visitor.form_token().await;
            let other = app.visitor().form_token().await;
            let good = [("sec-fetch-site", "same-origin"), ("origin", ORIGIN)];
            let before = app.dump(&[]).await;
            let attempts: [(Pairs, Pairs); 8] = [
                (&[], &good),
                (&[("csrf", "")], &good),
                (&[("csrf", &other)], &good),
                (&[("csrf", &token), ("csrf", &token)], &good),
                (&[("csrf", &token)], &[]),
                (&[("csrf", &token)], &[("origin", "https://evil.example")]),
                (&[("csrf", &token)], &[("origin", "null")]),
                (&[("csrf", &token)], &[("sec-fetch-site", "cross-site"), ("origin", ORIGIN)]),
            ];
            for (fields, headers) in attempts {
                let answer = visitor.post_raw(route.path, fields, headers).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{} {fields:?} {headers:?}", route.path);
            }
            assert_eq!(app.dump(&[]).await, before, "{}", route.path);
        }
    }

    /// The tables that tests compare are all there are.
    async fn tests_know_every_table(app) {
        let known: BTreeSet<&str> = TABLES.into_iter().collect();
        let mut made = BTreeSet::new();
        for entry in fs::read_dir("migrations").unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for part in text.split("CREATE TABLE ").skip(1) {
                // A table made anew takes the old one's name.
                made.insert(part.split_whitespace().next().unwrap().trim_end_matches("_new").to_owned());
            }
        }
        assert_eq!(made.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
        assert!(!app.dump(&[]).await.is_empty() || app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members").await == 0);
    }
}
