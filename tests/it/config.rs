//! The configuration: each mistake is named with its key, all of them at once, and no secret is ever told.

use musubi::config::{Config, ConfigError};
use secrecy::ExposeSecret;

use crate::support::{BOT_SECRET, LOGIN_SECRET};

const SEALING_KEY: &str = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=";
const PASSWORD: &str = "hunter2hunter2";
const SECRETS: [&str; 4] = [LOGIN_SECRET, BOT_SECRET, SEALING_KEY, PASSWORD];

const GOOD: &str = r#"
public_url = "https://members.example.jp"
database_url = "postgres://musubi:hunter2hunter2@127.0.0.1/musubi"
company = "Example Company"

[security]
sealing_key = "one"
sealing_keys = { one = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }

[provider.main.login]
channel_id = "1000000001"
channel_secret = "5f1c0b7a9d3e4f60812233445566778a"
channel = "main"

[channel.main]
provider = "main"
channel_id = "1000000002"
channel_secret = "0a9b8c7d6e5f40312233445566778899"
"#;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let result = Config::parse("musubi.toml", text, environment);
    let told = match &result {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    for secret in SECRETS {
        assert!(!told.contains(secret) && !told.contains(&secret[..12]), "a secret is told: {told}");
    }
    result
}

/// The good configuration with changes.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "nothing to change: {from}");
        text.replacen(from, to, 1)
    })
}

fn mistakes(text: &str) -> Vec<String> {
    parse(text, &[]).err().map(|error| error.mistakes).unwrap_or_default()
}

#[test]
fn the_good_one_is_good() {
    let config = parse(GOOD, &[]).unwrap();
    assert_eq!(config.callback_url("main"), "https://members.example.jp/line/callback/main");
    assert_eq!(config.channel["main"].channel_secret.expose_secret(), BOT_SECRET);
}

#[test]
fn times_to_keep_are_days() {
    let with = |section: &str| changed(&[("[security]", &format!("{section}\n[security]"))]);
    for (section, expected) in [
        ("[retention]\nmessages_days = 2\nmessage_contents_days = 1", vec![]),
        ("[retention]\nmessages_days = 1", vec!["retention.messages_days: must be 2 or more"]),
        ("[retention]\nmessage_contents_days = 0", vec!["retention: a time must be a day or more"]),
        ("[log]\nfolder = \"/var/log/musubi\"", vec![]),
        ("[log]\nfolder = \"/var/log/musubi\"\nkeep_days = 0", vec!["log.keep_days: must be 1 or more"]),
        ("[log]\nfolder = \"\"", vec!["log.folder: must name a folder"]),
        ("[log]\nkeep_days = 10", vec!["log.folder: is missing"]),
    ] {
        let found = mistakes(&with(section));
        let is_right =
            found.len() == expected.len() && found.iter().zip(&expected).all(|(one, start)| one.starts_with(start));
        assert!(is_right, "{section}: {found:?}");
    }
    let config = parse(&with("[log]\nfolder = \"logs\""), &[]).unwrap();
    assert_eq!(config.log.unwrap().keep_days, 180);
    assert_eq!((config.retention.messages_days, config.retention.message_contents_days), (365, 90));
}

#[test]
fn mistakes_in_mail() {
    let with = |url: &str, from: &str| {
        changed(&[("[security]", &format!("[mail]\nurl = \"{url}\"\nfrom = \"{from}\"\n[security]"))])
    };
    let good = "Example <no-reply@example.jp>";
    for url in [
        "smtps://musubi:hunter2hunter2@mail.example.jp:465",
        "smtp://musubi:hunter2hunter2@mail.example.jp:587?tls=required",
        "smtp://127.0.0.1:1025",
        "smtp://localhost:1025",
    ] {
        assert_eq!(mistakes(&with(url, good)), Vec::<String>::new(), "{url}");
    }
    for (url, from, words) in [
        ("smtp://musubi:hunter2hunter2@mail.example.jp:587", good, "mail.url: must be smtps://, or smtp:// with"),
        ("smtp://mail.example.jp?tls=opportunistic", good, "mail.url: must be smtps://, or smtp:// with"),
        ("https://mail.example.jp", good, "mail.url: must be such as smtps://"),
        ("hunter2hunter2", good, "mail.url: must be such as smtps://"),
        ("smtps://mail.example.jp", "Example", "mail.from: must be a mailbox"),
    ] {
        let named = mistakes(&with(url, from));
        assert!(named.len() == 1 && named[0].starts_with(words), "{url} {from}: {named:#?}");
    }
}

#[test]
fn mistakes_in_the_chat_and_its_keywords() {
    let with = |more: &str| format!("{GOOD}\n{more}");
    let good = r#"
        [chat]
        greeting = false
        default_answer = false
        media_max_bytes = 1000
        [[keyword]]
        exact = ["営業時間", "hours"]
        channel = "main"
        text = { ja = "10時から", en = "From ten", zh-TW = "十點", th = "สิบโมง" }
        [[keyword]]
        contains = ["menu"]
        text = { en = "The menu" }
    "#;
    let config = parse(&with(good), &[]).unwrap();
    assert_eq!((config.keyword.len(), config.chat.greeting, config.chat.media_max_bytes), (2, false, 1000));
    let answers = ["th", "fr"].map(|language| config.keyword[0].answer(language, "ja").unwrap());
    assert_eq!(answers, ["สิบโมง", "10時から"]);
    assert_eq!(config.keyword[1].answer("th", "ja"), Some("The menu"));
    assert_eq!(parse(GOOD, &[]).unwrap().chat.media_max_bytes, 10 * 1024 * 1024);
    let long = format!("[[keyword]]\nexact = [\"a\"]\ntext = {{ en = \"{}\" }}", "あ".repeat(5001));
    for (more, key, words) in [
        ("[chat]\nmedia_max_bytes = 999999999", "chat.media_max_bytes", "at most"),
        ("[chat]\nmedia_max_bytes = -1", "chat.media_max_bytes", "expected usize"),
        ("[chat]\ngreetings = true", "chat.greetings", "no such key"),
        ("[[keyword]]\ntext = { en = \"a\" }", "keyword[0]", "exact = ["),
        ("[[keyword]]\nexact = [\" \"]\ntext = { en = \"a\" }", "keyword[0]", "exact = ["),
        ("[[keyword]]\nexact = [\"a\"]\ntext = {}", "keyword[0].text", "is missing, such as"),
        ("[[keyword]]\nexact = [\"a\"]\ntext = { fr = \"a\" }", "keyword[0].text.fr", "use en, ja, th or zh-TW"),
        ("[[keyword]]\nexact = [\"a\"]\ntext = { en = \" \" }", "keyword[0].text.en", "1 to 5000"),
        (long.as_str(), "keyword[0].text.en", "1 to 5000"),
        (
            "[[keyword]]\nexact = [\"a\"]\ntext = { en = \"a\" }\nchannel = \"x\"",
            "keyword[0].channel",
            "no [channel.x]",
        ),
        ("[[keyword]]\nexact = [\"a\"]", "keyword", "text"),
        ("[[keyword]]\nexact = \"a\"\ntext = { en = \"a\" }", "keyword", "expected a sequence"),
        ("[[keyword]]\nwords = [\"a\"]\nexact = [\"a\"]\ntext = { en = \"a\" }", "keyword", "words"),
        ("[keyword]\nexact = [\"a\"]", "keyword", "expected a sequence"),
    ] {
        let named = mistakes(&with(more));
        let found = named.iter().any(|mistake| mistake.starts_with(key) && mistake.contains(words));
        assert!(found && named.len() == 1, "{more:?} should say {key}: … {words} …, and says {named:#?}");
    }
}

/// Takes what is replaced, what is written instead, the key to be named, and words that help.
fn assert_named(from: &str, to: &str, key: &str, words: &str) {
    let named = mistakes(&changed(&[(from, to)]));
    let found = named.iter().any(|mistake| mistake.starts_with(&format!("{key}: ")) && mistake.contains(words));
    assert!(found, "{to:?} should say {key}: … {words} …, and says {named:#?}");
}

#[test]
fn mistakes_in_the_keys_above_all_sections() {
    let database = r#"database_url = "postgres://musubi:hunter2hunter2@127.0.0.1/musubi""#;
    let public = r#"public_url = "https://members.example.jp""#;
    let company = r#"company = "Example Company""#;
    for (from, to, key, words) in [
        (public, "", "public_url", "is missing"),
        (public, r#"public_url = "members.example.jp""#, "public_url", "relative URL"),
        (public, "public_url = 7", "public_url", "expected a"),
        (public, r#"public_url = "http://members.example.jp""#, "public_url", "must be https"),
        (public, r#"public_url = "http://localhost.example.jp""#, "public_url", "must be https"),
        (public, r#"public_url = "ftp://localhost""#, "public_url", "must be https"),
        (public, r#"public_url = "https://members.example.jp/line""#, "public_url", "without path"),
        (public, r#"public_url = "https://members.example.jp/?a=b""#, "public_url", "without path"),
        (public, r##"public_url = "https://members.example.jp/#a""##, "public_url", "without path"),
        (public, r#"public_url = "https://me:hunter2hunter2@members.example.jp""#, "public_url", "a password"),
        (company, "company = \" \"", "company", "your members know"),
        (company, "company = \"C\"\nprivacy_url = \"javascript:alert(1)\"", "privacy_url", "must be https"),
        (company, "company = \"C\"\nterms_url = \"http://example.jp\"", "terms_url", "must be https"),
        (company, "company = \"C\"\nsecurity_contact = \"tel:+81\"", "security_contact", "mailto: or https:"),
        (company, "company = \"C\"\nlisten = \"8080\"", "listen", "socket address"),
        (company, "company = \"C\"\nlocale = \"ja\"", "locale", "no such key"),
        (company, "company = \"C\"\ndefault_locale = \"fr\"", "default_locale", "there are en, ja, th, zh-TW"),
        (company, "company = \"C\"\nbrand.color = \"red\"", "brand.color", "a colour such as"),
        (company, "company = \"C\"\nbrand.color = \"#ffcc00\"", "brand.color", "is 1.4 and must be 4.5"),
        (company, "company = \"C\"\nbrand.logo = \"/nowhere/logo.svg\"", "brand.logo", "cannot be read"),
        (company, "company = \"C\"\nbrand.logo = \"Cargo.toml\"", "brand.logo", "neither SVG nor PNG"),
        (company, "company = \"C\"\nbrand.logo = \"static/app.css\"", "brand.logo", "larger than 10 kB"),
        (
            company,
            "company = \"C\"\nbrand.links = [{ url = \"http://a.example\", text = { ja = \"a\" } }]",
            "brand.links[0].url",
            "must be https",
        ),
        (
            company,
            "company = \"C\"\nbrand.links = [{ url = \"https://a.example\", text = { en = \"a\" } }]",
            "brand.links[0].text.ja",
            "is missing",
        ),
        (company, "company = \"C\"\ntopic.news.label.en = \"News\"", "topic.news.label.ja", "is missing"),
        (company, "company = \"C\"\ntopic.news.label = { ja = \"a\", fr = \"b\" }", "topic.news", "fr is not known"),
        (company, "company = \"C\"\ntopic.news.description.ja = \"a\"", "topic.news.label", "is missing"),
        (company, "company = \"C\"\ntopic.\"a\\u0007b\".label.ja = \"a\"", "topic.a\u{7}b", "a name is 1 to 64"),
        (company, "company = \"C\"\ntopic.news.labels.ja = \"a\"", "topic.news.labels", "no such key"),
        (company, "company = \"C\"\ntime_zone = \"Mars/Olympus\"", "time_zone", "Asia/Tokyo"),
        (company, "company = \"C\"\nline.api = \"http://api.line.me\"", "line.api", "must be https"),
        (company, "company = \"C\"\nline.apis = \"https://api.line.me\"", "line.apis", "no such key"),
        (company, "company = \"C\"\nconsent.version = \"\"", "consent.version", "version"),
        (company, "company = \"C\"\nconsent.text.en = \"I agree\"", "consent.text.ja", "is missing"),
        (database, "", "database_url", "is missing"),
        (database, r#"database_url = "mysql://me:hunter2hunter2@host/db""#, "database_url", "sqlite:// or postgres://"),
        (database, r#"database_url = "sqlite::memory:""#, "database_url", "in-memory"),
        (database, r#"database_url = "sqlite://:memory:""#, "database_url", "in-memory"),
        (database, r#"database_url = "sqlite://x.db?mode=memory""#, "database_url", "in-memory"),
        (database, r#"database_url = "sqlite://""#, "database_url", "in-memory"),
    ] {
        assert_named(from, to, key, words);
    }
}

#[test]
fn mistakes_in_keys_that_seal() {
    let sealing_keys = r#"sealing_keys = { one = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }"#;
    for (from, to, key, words) in [
        (r#"sealing_key = "one""#, "", "security.sealing_key", "is missing"),
        (r#"sealing_key = "one""#, r#"sealing_key = "two""#, "security.sealing_key", "id of one of"),
        (
            r#"sealing_key = "one""#,
            r#"sealing_key = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=""#,
            "security.sealing_key",
            "id of one of",
        ),
        (sealing_keys, "", "security.sealing_keys", "is missing"),
        (
            sealing_keys,
            r#"sealing_keys = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=""#,
            "security.sealing_keys",
            "expected a map",
        ),
        (sealing_keys, r#"sealing_keys = { one = "c2hvcnQ=" }"#, "security.sealing_keys.one", "musubi key new"),
        (sealing_keys, r#"sealing_keys = { one = "not base64 !" }"#, "security.sealing_keys.one", "musubi key new"),
        (
            sealing_keys,
            r#"sealing_keys = { one = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }"#,
            "security.sealing_keys.one",
            "32 random bytes",
        ),
        (
            r#"sealing_key = "one""#,
            "sealing_key = \"one\"\npassword_hash.passes = 0",
            "security.password_hash",
            "passes >= 1",
        ),
        (
            r#"sealing_key = "one""#,
            "sealing_key = \"one\"\npassword_hash.memory_kib = \"much\"",
            "security.password_hash.memory_kib",
            "expected u32",
        ),
    ] {
        assert_named(from, to, key, words);
    }
}

#[test]
fn mistakes_in_providers_and_channels() {
    let login_id = r#"channel_id = "1000000001""#;
    let login_secret = r#"channel_secret = "5f1c0b7a9d3e4f60812233445566778a""#;
    let provider = r#"provider = "main""#;
    let bot_secret = r#"channel_secret = "0a9b8c7d6e5f40312233445566778899""#;
    let secret = "provider.main.login.channel_secret";
    for (from, to, key, words) in [
        (login_secret, "", secret, "is missing"),
        (login_secret, r#"channel_secret = """#, secret, "is missing"),
        (login_secret, r#"channel_secret = "5f1c0b7a""#, secret, "looks like an example"),
        (login_secret, r#"channel_secret = "your-channel-secret-here""#, secret, "looks like an example"),
        (login_secret, "channel_secret = 500000000000000000", secret, "expected a string"),
        (
            login_secret,
            "channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"\n\
             former_channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"",
            "provider.main.login.former_channel_secret",
            "is the same as channel_secret",
        ),
        (
            login_secret,
            "channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"\nformer_channel_secret = \"your-former-secret\"",
            "provider.main.login.former_channel_secret",
            "looks like an example",
        ),
        (
            bot_secret,
            "channel_secret = \"0a9b8c7d6e5f40312233445566778899\"\nformer_channel_secret = \"\"",
            "channel.main.former_channel_secret",
            "is missing",
        ),
        (login_secret, r#"channel_secrets = "5f1c0b7a9d3e4f60812233445566778a""#, secret, "is missing"),
        (login_id, "", "provider.main.login.channel_id", "is missing"),
        (login_id, "channel_id = true", "provider.main.login.channel_id", "a text or a number"),
        (
            login_id,
            r#"channel_id = "5f1c0b7a9d3e4f60812233445566778a""#,
            "provider.main.login.channel_id",
            "number shown in LINE's console",
        ),
        (login_id, "channel_id = 1000000002", "channel.main.channel_id", "configured twice"),
        (r#"channel = "main""#, r#"channel = "shop""#, "provider.main.login.channel", "there is no [channel.shop]"),
        (r#"channel = "main""#, r#"bot_prompt = "always""#, "provider.main.login.bot_prompt", "expected one of"),
        (provider, "", "channel.main.provider", "is missing"),
        (provider, r#"provider = "other""#, "channel.main.provider", "there is no [provider.other]"),
        (provider, r#"provider = "other""#, "provider.main.login.channel", "within one provider only"),
        ("[channel.main]", "[channel.\"The Main\"]", "channel.The Main", "a-z"),
        ("[provider.main.login]", "[provider.MAIN.login]", "provider.MAIN", "a-z"),
    ] {
        assert_named(from, to, key, words);
    }
}

#[test]
fn ten_mistakes_are_ten_lines() {
    let text = changed(&[
        ("https://members.example.jp", "http://members.example.jp"),
        ("postgres://", "mysql://"),
        (
            "company = \"Example Company\"",
            "company = \"Example Company\"\ncompani = \"C\"\ntime_zone = \"Mars\"\nline.api = \"nowhere\"",
        ),
        (SEALING_KEY, "c2hvcnQ="),
        ("\"1000000001\"", "true"),
        ("channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"", ""),
        ("provider = \"main\"", "provider = \"other\""),
    ]);
    let error = parse(&text, &[]).unwrap_err();
    let mut keys: Vec<_> = error.mistakes.iter().map(|mistake| mistake.split(": ").next().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "channel.main.provider",
            "compani",
            "database_url",
            "line.api",
            "provider.main.login.channel",
            "provider.main.login.channel_id",
            "provider.main.login.channel_secret",
            "public_url",
            "security.sealing_keys.one",
            "time_zone",
        ]
    );
    let told = error.to_string();
    assert!(told.starts_with("the configuration (musubi.toml) has 10 mistake(s):\n  - "), "{told}");
    assert_eq!(told.lines().count(), 11, "a line each: {told}");
}

/// A line that is no TOML is named by its number; it may hold a secret.
#[test]
fn what_is_no_toml_is_named_by_line() {
    for (from, to, line) in [
        ("\"5f1c0b7a9d3e4f60812233445566778a\"", "5f1c0b7a9d3e4f60812233445566778a", "line 12"),
        ("5f1c0b7a9d3e4f60812233445566778a\"", "5f1c0b7a9d3e4f60812233445566778a", "line 12"),
        ("channel_id = \"1000000001\"", "channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"", "line 12"),
        ("[provider.main.login]", "[provider.main.login", "line 10"),
    ] {
        let named = mistakes(&changed(&[(from, to)]));
        assert!(named.len() == 1 && named[0].starts_with(line), "{named:?}");
    }
}

#[test]
fn the_environment_wins() {
    let config = parse(
        GOOD,
        &[
            ("MUSUBI__PROVIDER__MAIN__LOGIN__CHANNEL_SECRET", "11112222333344445555666677778888"),
            ("MUSUBI__PROVIDER__MAIN__LOGIN__CHANNEL_ID", "1234567890"),
            ("MUSUBI__SECURITY__PASSWORD_HASH__PASSES", "3"),
            // Digits and an `e`, which TOML would take for a number.
            ("MUSUBI__CHANNEL__MAIN__CHANNEL_SECRET", "123456789012345678901234567890e1"),
            ("MUSUBI__COMPANY", "0123"),
            ("DATABASE_URL", "sqlite://other.db"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let login = config.provider["main"].login.as_ref().unwrap();
    assert_eq!(login.channel_secret.expose_secret(), "11112222333344445555666677778888");
    assert_eq!(login.channel_id, "1234567890");
    assert_eq!(config.security.password_hash.passes, 3);
    assert_eq!(config.channel["main"].channel_secret.expose_secret(), "123456789012345678901234567890e1");
    assert_eq!(config.company, "0123");
    assert_eq!(config.database_url.expose_secret(), "sqlite://other.db");

    let own = [("MUSUBI__DATABASE_URL", "sqlite://own.db"), ("DATABASE_URL", "sqlite://other.db")];
    for environment in [own, [own[1], own[0]]] {
        assert_eq!(parse(GOOD, &environment).unwrap().database_url.expose_secret(), "sqlite://own.db");
    }
    let named = parse(GOOD, &[("MUSUBI__COMPANI", "x"), ("MUSUBI__SECURITY", "x")]).unwrap_err().mistakes;
    assert!(named.iter().any(|mistake| mistake == "compani: there is no such key"), "{named:?}");
    assert!(named.iter().any(|mistake| mistake.starts_with("security: expected")), "{named:?}");
}

#[test]
fn the_environment_alone_is_enough() {
    let environment = [
        ("MUSUBI__PUBLIC_URL", "http://localhost:8080"),
        ("DATABASE_URL", "sqlite://musubi.db"),
        ("MUSUBI__COMPANY", "Example"),
        ("MUSUBI__SECURITY__SEALING_KEY", "one"),
        ("MUSUBI__SECURITY__SEALING_KEYS__ONE", SEALING_KEY),
    ];
    assert!(parse("", &environment).unwrap().is_plain_http());
}

#[test]
fn secrets_may_be_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (login, key) = (file("login", &format!("{LOGIN_SECRET}\n")), file("key", &format!("{SEALING_KEY}\n")));
    let in_files = changed(&[
        ("channel_secret = \"5f1c0b7a9d3e4f60812233445566778a\"", &format!("channel_secret_file = {login:?}")),
        ("one = \"yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=\"", &format!("one_file = {key:?}")),
    ]);
    let login_secret = |config: Config| config.provider["main"].login.clone().unwrap().channel_secret;
    let config = parse(&in_files, &[]).unwrap();
    assert_eq!(config.security.sealing_keys["one"].expose_secret(), SEALING_KEY);
    assert_eq!(login_secret(config).expose_secret(), LOGIN_SECRET);

    // The environment wins in each of the two ways.
    let other = "11112222333344445555666677778888";
    let plain = [("MUSUBI__PROVIDER__MAIN__LOGIN__CHANNEL_SECRET", other)];
    assert_eq!(login_secret(parse(&in_files, &plain).unwrap()).expose_secret(), other);
    let other_file = file("other", other);
    let by_file = [("MUSUBI__PROVIDER__MAIN__LOGIN__CHANNEL_SECRET_FILE", other_file.as_str())];
    assert_eq!(login_secret(parse(GOOD, &by_file).unwrap()).expose_secret(), other);

    let both = changed(&[("channel_id = \"1000000001\"", &format!("channel_id = 1\nchannel_secret_file = {login:?}"))]);
    let named = mistakes(&both);
    assert!(named[0].starts_with("provider.main.login.channel_secret_file: ") && named.len() == 1, "{named:?}");
    let missing = in_files.replace("/login", "/nowhere");
    let named = mistakes(&missing);
    let key = "provider.main.login.channel_secret_file: ";
    assert!(named.iter().any(|mistake| mistake.starts_with(key) && mistake.contains("cannot be read")), "{named:?}");
}

#[test]
fn mistakes_in_the_companys_own_sign_in() {
    let with = |more: &str| {
        format!(
            "{GOOD}\n[member.oidc]\nissuer = \"https://id.your-company.jp\"\nclient_id = 77\nlabel = \"ID\"\n{more}"
        )
    };
    let config = parse(&with("attributes = { tier = \"membership\" }"), &[("MUSUBI__MEMBER__OIDC__CREATE", "false")]);
    let oidc = config.unwrap().member.oidc.unwrap();
    assert_eq!(
        (oidc.client_id.as_str(), oidc.scopes.as_str(), oidc.external_id.as_str()),
        ("77", "openid profile email", "sub")
    );
    assert!(!oidc.create && oidc.passwords && oidc.attributes["tier"] == "membership");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("oidc");
    std::fs::write(&file, format!("{LOGIN_SECRET}\n")).unwrap();
    let by_file = parse(&with(&format!("client_secret_file = {:?}", file.to_str().unwrap())), &[]).unwrap();
    assert_eq!(by_file.member.oidc.unwrap().client_secret.unwrap().expose_secret(), LOGIN_SECRET);

    for (more, key, words) in [
        ("client_secret = \"\"", "client_secret", "looks like an example"),
        ("client_secret = \"your-secret-here-please\"", "client_secret", "looks like an example"),
        ("scopes = \"profile email\"", "scopes", "openid among them"),
        ("scopes = \"openid  email\"", "scopes", "one space between"),
        ("external_id = \"email\"", "external_id", "never changes hands"),
        ("external_id = \"preferred_username\"", "external_id", "never changes hands"),
        ("external_id = \"\"", "external_id", "name of a claim"),
        ("attributes = { Tier = \"a\" }", "attributes.Tier", "is no name"),
        ("attributes = { email = \"a\" }", "attributes.email", "is no name"),
        ("attributes = { tier = \"\" }", "attributes.tier", "name of a claim"),
        ("attributes = { tier = 1 }", "attributes.tier", "expected a string"),
        ("create = \"maybe\"", "create", "expected a boolean"),
        ("secret = \"x\"", "secret", "no such key"),
    ] {
        let named = mistakes(&with(more));
        let found =
            named.iter().any(|mistake| mistake.starts_with(&format!("member.oidc.{key}: ")) && mistake.contains(words));
        assert!(found && named.len() == 1, "{more:?} should say {key}: … {words} …, and says {named:#?}");
    }
    for (from, to, key) in [
        ("https://id.your-company.jp", "http://id.your-company.jp", "issuer"),
        ("https://id.your-company.jp", "id.your-company.jp", "issuer"),
        ("https://id.your-company.jp", "https://id.your-company.jp?a=b", "issuer"),
        ("https://id.your-company.jp", "https://a:b@id.your-company.jp", "issuer"),
        ("client_id = 77", "client_id = \"\"", "client_id"),
        ("label = \"ID\"", "label = \" \"", "label"),
        ("label = \"ID\"", "", "label"),
    ] {
        let named = mistakes(&with("").replacen(from, to, 1));
        assert!(named.len() == 1 && named[0].starts_with(&format!("member.oidc.{key}: ")), "{to:?} says {named:#?}");
    }
    assert!(mistakes(&with("").replacen("https://id.your-company.jp", "http://127.0.0.1:9/realm/", 1)).is_empty());
}
