//! The texts of the pages: what the build refuses, the words of the glossary, and the language a person gets.

use std::fs;

use axum::http::StatusCode;
use musubi::web::locale::Locale;

use crate::support::{Engine, PASSWORD, TestApp};

#[path = "../../build/texts.rs"]
mod check;

/// What the build says of two languages, and of a page and a program that show their texts.
fn mistakes(en: &str, ja: &str) -> Vec<String> {
    let languages = [check::read("en", en).unwrap(), check::read("ja", ja).unwrap()];
    let page = r#"<h1>{{ page.t("home.title") }}</h1> {{ page.with("home.lead", [name]) }}"#;
    let program = r#"page.t(&format!("error.{key}_{part}")); refuse("not_found"); text("title")"#;
    check::mistakes(&languages, &[page.to_owned(), program.to_owned()])
}

#[test]
fn the_build_refuses_texts_that_do_not_fit() {
    let good = "[home]\ntitle = \"T\"\nlead = \"L {0}\"\n[error]\nnot_found_title = \"N\"\n";
    assert_eq!(mistakes(good, good), Vec::<String>::new());
    for (from, to, expected) in [
        ("title = \"T\"\nlead", "lead", "locales/ja.toml: home.title is missing"),
        ("title = \"T\"", "title = \" \"", "locales/ja.toml: home.title is missing"),
        ("L {0}", "L", "home.lead has other placeholders"),
        ("L {0}", "L {0} {1}", "home.lead has other placeholders"),
        ("N\"", "N\"\nnot_found_titel = \"N\"", "nothing shows error.not_found_titel"),
        ("N\"", "N\"\ngone_title = \"N\"", "nothing shows error.gone_title"),
        ("[home]", "[home]\nmore = \"M\"", "locales/en.toml: home.more is missing"),
    ] {
        let found = mistakes(good, &good.replacen(from, to, 1));
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{expected}: {found:?}");
    }
    let without = good.replacen("title = \"T\"\n", "", 1);
    assert_eq!(mistakes(&without, &without), ["home.title is asked for, and there is no such text"]);
    assert!(check::read("en", "[home").is_err());

    let languages = [check::read("en", good).unwrap(), check::read("ja", &good.replace("\"T\"", "\"題\"")).unwrap()];
    let table = check::table(&languages);
    for expected in [r#"const TAGS: [&str; 2] = ["en", "ja"];"#, r#"("home.title", ["T", "題"]),"#] {
        assert!(table.contains(expected), "{table}");
    }
}

/// `docs/glossary.md` names words that are not used, and has a column for each language.
#[test]
fn the_glossary_is_kept() {
    let glossary = fs::read_to_string("docs/glossary.md").unwrap();
    let heading = glossary.lines().find(|line| line.starts_with("| |")).unwrap();
    for locale in Locale::ALL {
        assert!(heading.contains(locale.name()), "{heading}");
    }
    let (_, table) = glossary.split_once("| language | not | but |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let words: Vec<_> = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).collect();
    for locale in Locale::ALL {
        let tag = locale.tag();
        let ours = words.iter().filter(|row| row[1] == tag).map(|row| row[2]).collect::<Vec<_>>();
        assert!(!ours.is_empty(), "{tag}");
        let (_, texts) = check::read(tag, &fs::read_to_string(format!("locales/{tag}.toml")).unwrap()).unwrap();
        let mut said: Vec<(String, String)> = texts.into_iter().collect();
        for entry in fs::read_dir("templates/messages").unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with(&format!(".{tag}.json")) {
                said.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
            }
        }
        for (place, text) in said {
            let text = text.to_lowercase();
            for word in &ours {
                assert!(!text.contains(&word.to_lowercase()), "{tag} {place} says {word}: docs/glossary.md");
            }
        }
    }
}

/// In pages, mails and the page that LINE opens; escaped as ours are, and in their own language only.
#[tokio::test]
async fn a_company_speaks_in_its_own_words() {
    let own = "[ja.home]\nheading = \"<b>ようこそ\"\n[en.nav]\nsign_in = \"Members\"\n\
               [en.liff]\ntitle = \"Our club\"\n[en.mail]\nreset_subject = \"{0}: new password\"";
    let app = TestApp::start_with(Engine::Sqlite, |config| config.texts = toml::from_str(own).unwrap()).await;
    app.member("hanako@example.jp", "Hanako").await;
    let mut visitor = app.visitor();
    let home = visitor.get("/").await;
    assert!(home.body.contains("Members") && home.body.contains(Locale::En.text("home.heading")), "{}", home.body);
    assert!(visitor.get("/liff/main").await.body.contains("<title>Our club"));
    visitor.post("/password/forgot", &[("email", "hanako@example.jp")]).await;
    app.drain().await;
    assert_eq!(app.mails("hanako@example.jp").await[0]["subject"], "Example Company: new password");
    visitor.language = "ja";
    let home = visitor.get("/").await;
    assert!(home.body.contains("&#60;b&#62;ようこそ") && !home.body.contains("Members"), "{}", home.body);
    app.end().await;
}

/// From the browser's wishes to the page, the switch, the mail and the days.
#[tokio::test]
async fn a_person_is_spoken_to_in_their_language() {
    let app = TestApp::start(Engine::Sqlite).await;
    for (wish, locale, day) in [
        ("zh-Hant-TW,zh;q=0.9,en;q=0.8", Locale::ZhTw, "2026 年"),
        ("zh", Locale::ZhTw, "2026 年"),
        ("th-TH,th;q=0.9,en-US;q=0.8", Locale::Th, " 2569"),
        ("ja-JP", Locale::Ja, "年"),
        ("en-AU", Locale::En, " 2026"),
    ] {
        let tag = locale.tag();
        let email = format!("{}-{}@example.jp", tag.to_lowercase(), wish.len());
        let mut visitor = app.visitor();
        visitor.language = wish;
        let page = visitor.get("/sign-up").await;
        assert!(page.body.contains(&format!("<html lang=\"{tag}\">")), "{}", page.body);
        assert!(page.body.contains(locale.text("sign_up.title")), "{}", page.body);
        for other in Locale::ALL {
            assert!(page.body.contains(&format!("value=\"{0}\" lang=\"{0}\"", other.tag())), "{}", page.body);
        }

        let fields = [("name", "王小明 สมชาย"), ("email", &*email), ("password", PASSWORD)];
        visitor.post("/sign-up", &fields).await;
        app.drain().await;
        let mail = app.mails(&email).await.pop().unwrap();
        assert_eq!(mail["subject"], locale.text("mail.sign_up_subject").replace("{0}", "Example Company"));
        assert!(mail["html"].as_str().unwrap().contains(&format!("<html lang=\"{tag}\">")), "{mail}");
        assert!(mail["text"].as_str().unwrap().contains(locale.text("mail.sign_up_note")), "{mail}");

        let link = app.mailed_link(&email, "/sign-up/confirm").await;
        let token = link.split_once("token=").unwrap().1.to_owned();
        let answer = visitor.post("/sign-up/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let sessions = visitor.get("/account/sessions").await;
        assert!(sessions.body.contains(day), "{day}: {}", sessions.body);

        // A new member's language is that of the sign-up; the switch goes before it.
        visitor.language = "en";
        assert!(visitor.get("/account").await.body.contains(&format!("<html lang=\"{tag}\">")));
        visitor.post("/locale", &[("locale", "th"), ("return_to", "/account")]).await;
        assert!(visitor.get("/account").await.body.contains("<html lang=\"th\">"));
    }
    app.end().await;
}

/// LINE's own pages are asked for in the language of ours.
#[tokio::test]
async fn line_is_told_the_language() {
    let app = TestApp::start(Engine::Sqlite).await;
    for locale in Locale::ALL {
        let mut visitor = app.visitor();
        visitor.language = locale.tag();
        let url = url::Url::parse(&visitor.start_line("sign_in", "/").await).unwrap();
        let told = url.query_pairs().find(|(name, _)| name == "ui_locales").map(|(_, value)| value.into_owned());
        assert_eq!(told.as_deref(), Some(locale.tag()));
    }
    app.end().await;
}
