//! The menu files: what may stand in them, and every mistake with file and line.

use std::fs;

use musubi::{
    queue::Outcome,
    rich_menu::{self, Menu},
};

use crate::stub::{Stage, stages};

const GOLD: &str = r#"name = "gold"
when = "linked"
priority = 10
alias = "gold"
chat_bar_text = "Menu"
size = { width = 2500, height = 843 }
image = "gold.png"

[[areas]]
bounds = { x = 0, y = 0, width = 1000, height = 843 }
action = { type = "uri", label = "Account", uri = "{{public_url}}/account" }

[[areas]]
bounds = { x = 1000, y = 0, width = 1500, height = 843 }
action = { type = "richmenuswitch", label = "Help", richMenuAliasId = "help", data = "to=help" }
"#;

const HELP: &str = r#"alias = "help"
image = "gold.png"
object = "help.json"
"#;

const HELP_JSON: &str = r#"{
  "size": { "width": 2500, "height": 843 },
  "selected": true,
  "name": "whatever LINE called it",
  "chatBarText": "Help",
  "areas": [
    {
      "bounds": { "x": 0, "y": 0, "width": 2500, "height": 843 },
      "action": { "type": "richmenuswitch", "richMenuAliasId": "gold", "data": "to=gold" }
    }
  ]
}"#;

const BY_LANGUAGE: &str = r#"alias = "gold"
            when = "linked"
            chat_bar_text = { en = "Menu", ja = "メニュー", zh-TW = "選單" }
            size = { width = 2500, height = 843 }
            image = "gold.png"
            [[areas]]
            bounds = { x = 0, y = 0, width = 2500, height = 843 }
            [areas.action]
            type = "richmenuswitch"
            richMenuAliasId = "help"
            data = "x"
            label = { en = "Help", ja = "ヘルプ", zh-TW = "幫助" }
        "#;

/// What is changed in [`GOLD`], to what, and how the mistake begins that is told then.
const MISTAKES: [(&str, &str, &str); 27] = [
    ("name = \"gold\"", "name = \"Gold 1\"", "gold.toml:1: name: \"Gold 1\" must be 1 to 32 of a-z"),
    ("\"linked\"", "\"linkd\"", "gold.toml:2: when: \"linkd\" is not a rule"),
    ("\"linked\"", "\"linked and\"", "gold.toml:2: when: "),
    ("priority = 10", "priority = \"high\"", "gold.toml:3: priority: must be a whole number"),
    ("priority = 10", "until = \"soon\"", "gold.toml:3: until: \"soon\" is no date and time"),
    (
        "priority = 10",
        "from = \"2027-01-01T00:00\"\nuntil = \"2026-01-01T00:00\"",
        "gold.toml:4: until: until must be later",
    ),
    ("priority = 10", "hours = \"18-23\"", "gold.toml:3: hours: \"18-23\" are no hours"),
    ("alias = \"gold\"", "alias = \"Gold\"", "gold.toml:4: alias: must be 1 to 32"),
    ("alias = \"gold\"", "alias = \"help\"", "help.toml:1: alias: \"help\" is another file's too"),
    ("chat_bar_text = \"Menu\"", "", "gold.toml:1: chat_bar_text: is missing"),
    ("\"Menu\"", "\"This is far too long\"", "gold.toml:5: chat_bar_text: has 20 letters, more than 14"),
    ("\"Menu\"", "12", "gold.toml:5: chat_bar_text: must be a text"),
    ("height = 843 }\nimage", "height = 2000 }\nimage", "gold.toml:6: size: 2500 x 2000 is too high"),
    (
        "width = 2500, height = 843 }\nimage",
        "width = 700, height = 300 }\nimage",
        "gold.toml:6: size.width: must be a whole number from 800 to 2500",
    ),
    ("\"gold.png\"", "\"none.png\"", "gold.toml:7: image: none.png cannot be read"),
    ("\"gold.png\"", "\"../gold.png\"", "gold.toml:7: image: \"../gold.png\" is not the name of a file"),
    ("\"gold.png\"", "\"gold.toml\"", "gold.toml:7: image: is neither PNG nor JPEG"),
    ("height = 843 }\nimage", "height = 844 }\nimage", "gold.toml:7: image: is 2500 x 843, the menu is 2500 x 844"),
    ("bounds = { x = 0,", "bounds = { x = 1501,", "gold.toml:10: areas[0].bounds: ends at x = 2501"),
    ("bounds = { x = 0,", "bounds = { z = 0,", "gold.toml:10: areas[0].bounds.z: is not known here"),
    (
        "{{public_url}}",
        "http://members.example.jp",
        "gold.toml:11: areas[0].action.uri: \"http://members.example.jp/account\" must be https",
    ),
    ("{{public_url}}", "{{privat_url}}", "gold.toml:11: areas[0].action.uri: {{privat_url}} has no value"),
    ("\"uri\",", "\"camera\",", "gold.toml:11: areas[0].action.type: is for quick replies only"),
    (
        "\"Account\"",
        "\"This is far too long for a label\"",
        "gold.toml:11: areas[0].action.label: has 32 letters, more than 20",
    ),
    ("= \"help\"", "= \"halp\"", "gold.toml:15: areas[1].action.richMenuAliasId: \"halp\" is no file's alias"),
    ("chat_bar_text", "chat_bar", "gold.toml:5: chat_bar: is not known; there are name, "),
    ("[[areas]]\nbounds = { x = 0", "[areas]]\nbounds = { x = 0", "gold.toml:9: "),
];

const MISTAKES_IN_JSON: [(&str, &str, &str); 5] = [
    ("2500, \"height\": 843 },\n  \"sel", "700, \"height\": 300 },\n  \"sel", "help.json:2: size.width: "),
    ("\"Help\"", "\"\"", "help.json:5: chatBarText: must not be empty"),
    ("\"to=gold\"", "7", "help.json:9: areas[0].action.data: must be a text"),
    ("\"gold\",", "\"golden\",", "help.json:9: areas[0].action.richMenuAliasId: \"golden\" is no file's alias"),
    ("true,", "true;", "help.json:3: is not JSON"),
];

/// A PNG of this size, as far as its head goes; `seed` makes it another picture.
pub fn png(width: u32, height: u32, seed: u8) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &size, &[8, 2, 0, 0, 0, seed]].concat()
}

fn write(stage: &Stage, name: &str, text: &str) {
    fs::write(stage.folder.path().join(name), text).unwrap();
}

async fn stages_with_files() -> Vec<Stage> {
    let stages = stages("rich_menu = { folder = 'FOLDER' }\ndefault_locale = 'ja'").await;
    for stage in &stages {
        fs::write(stage.folder.path().join("gold.png"), png(2500, 843, 1)).unwrap();
        write(stage, "gold.toml", GOLD);
        write(stage, "help.toml", HELP);
        write(stage, "help.json", HELP_JSON);
    }
    stages
}

fn load(stage: &Stage) -> Vec<Menu> {
    rich_menu::load(&stage.app.config).unwrap()
}

fn mistakes(stage: &Stage) -> Vec<String> {
    let folder = format!("{}/", stage.folder.path().display());
    let found = rich_menu::load(&stage.app.config).unwrap_err().0;
    found.into_iter().map(|mistake| mistake.replace(&folder, "")).collect()
}

#[tokio::test]
async fn files_become_menus_in_the_order_of_their_rules() {
    for stage in stages_with_files().await {
        write(&stage, "a.toml", &GOLD.replace("\"gold\"", "\"a\"").replace("priority = 10", "from = 2026-12-01T09:00"));
        let menus = load(&stage);
        let shown: Vec<_> = menus.iter().map(|menu| (menu.name.as_str(), menu.alias.as_deref().unwrap())).collect();
        assert_eq!(shown, [("gold", "gold"), ("a", "a"), ("help", "help")], "by priority, then by file name");
        assert!(menus.iter().all(|menu| menu.group == "a" && menu.hash.len() == 16), "{menus:?}");
        assert_eq!(menus[1].rule.from.as_deref(), Some("2026-12-01T09:00"));
        assert_eq!(menus[2].rule.when, None, "reached by a tab");
        assert_eq!(menus[0].hash[8..], menus[1].hash[8..], "the same picture");
    }
}

#[tokio::test]
async fn texts_by_language_make_a_menu_for_each() {
    for stage in stages_with_files().await {
        let menu = BY_LANGUAGE;
        write(&stage, "gold.toml", menu);
        write(
            &stage,
            "help.toml",
            &menu
                .replace("alias = \"gold\"", "alias = \"help\"")
                .replace("\"help\"\n            data", "\"gold\"\n            data")
                .replace(", zh-TW = \"選單\"", "")
                .replace(", zh-TW = \"幫助\"", ""),
        );
        let menus = load(&stage);
        let shown: Vec<_> = menus
            .iter()
            .map(|menu| {
                (menu.name.as_str(), menu.language.as_str(), menu.alias.as_deref().unwrap(), menu.group.as_str())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("gold", "ja", "gold", "gold"),
                ("gold", "en", "gold-en", "gold"),
                ("gold", "zh-TW", "gold-zh-tw", "gold"),
                ("help", "ja", "help", "gold"),
                ("help", "en", "help-en", "gold"),
            ],
            "the installation's language first, with the plain alias"
        );
        let text = |menu: &Menu| format!("{menu:?}");
        for (place, words) in
            [(0, "\"メニュー\""), (0, "\"help\""), (1, "\"help-en\""), (2, "\"help\""), (4, "\"gold-en\"")]
        {
            let menu = text(&menus[place]);
            assert!(menu.contains(&format!("String({words})")), "{words}: {menu}");
        }

        write(
            &stage,
            "gold.toml",
            &menu.replace(", zh-TW = \"幫助\"", "").replace("en = \"Menu\"", "english = \"Menu\""),
        );
        assert_eq!(
            mistakes(&stage),
            [
                "gold.toml:3: chat_bar_text.english: is no language such as ja, en, zh-TW or th",
                "gold.toml:3: chat_bar_text: has no text in en, as others in this file have",
                "gold.toml:12: areas[0].action.label: has no text in english, as others in this file have",
                "gold.toml:12: areas[0].action.label: has no text in zh-TW, as others in this file have",
                "help.toml:10: areas[0].action.richMenuAliasId: \"gold\" is no file's alias",
            ]
        );
    }
}

#[tokio::test]
async fn every_mistake_is_told_with_file_and_line() {
    let families = "👨‍👩‍👧‍👦".repeat(14);
    let good = GOLD.replace("\"Menu\"", &format!("\"{families}\"")).replace("\"Account\"", &format!("\"{families}\""));
    for stage in stages_with_files().await {
        write(&stage, "gold.toml", &good);
        assert_eq!(load(&stage).len(), 2, "LINE counts letters as people do");
        for (from, to, mistake) in MISTAKES {
            assert!(GOLD.contains(from), "{from}");
            write(&stage, "gold.toml", &GOLD.replace(from, to));
            let found = mistakes(&stage);
            assert!(found.iter().any(|one| one.starts_with(mistake)), "{to}: {mistake}: {found:#?}");
        }
        write(&stage, "gold.toml", GOLD);
        for (from, to, mistake) in MISTAKES_IN_JSON {
            assert!(HELP_JSON.contains(from), "{from}");
            write(&stage, "help.json", &HELP_JSON.replace(from, to));
            let found = mistakes(&stage);
            assert!(found.iter().any(|one| one.starts_with(mistake)), "{to}: {mistake}: {found:#?}");
        }
        write(&stage, "help.json", HELP_JSON);
        write(&stage, "help.toml", &format!("{HELP}selected = true\n"));
        assert_eq!(mistakes(&stage)[0], "help.toml:4: selected: stands beside object; it belongs into help.json");
        write(&stage, "help.toml", HELP);
        write(&stage, "gold-2.toml", &GOLD.replace("alias = \"gold\"", ""));
        assert!(mistakes(&stage)[0].starts_with("gold.toml:1: name: is the name of "), "{:?}", mistakes(&stage));
        fs::write(stage.folder.path().join("gold.png"), [png(2500, 843, 1), vec![0; 1_000_000]].concat()).unwrap();
        let found = mistakes(&stage);
        assert!(found.iter().filter(|one| one.contains("LINE takes 1 MB")).count() >= 2, "each file: {found:#?}");
        let Outcome::Park { why } = rich_menu::ensure(&stage.app, "shop").await else { panic!("parked") };
        assert!(why.contains("mistake(s)"), "{why}");
        assert_eq!(stage.line.calls("").len(), 0, "nothing is sent");
    }
}
