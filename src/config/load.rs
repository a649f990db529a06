//! Reads the file and the environment into one table, then into [`Config`].

use std::{env, fmt, fs, net::IpAddr, path::Path};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};
use url::Url;

use super::{Config, shape};

const PREFIX: &str = "MUSUBI__";
/// Ends the name of a key whose value is in a file.
const FILE: &str = "_file";

/// What is wrong with the configuration, all of it.
#[derive(Debug)]
pub struct ConfigError {
    pub source: String,
    pub mistakes: Vec<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration ({}) has {} mistake(s):", self.source, self.mistakes.len())?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
    }
}

impl Config {
    /// Reads `path` (where given) and this process's environment.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        let environment = env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect::<Vec<_>>();
        let source = path.map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
        let text = match path {
            Some(path) => fs::read_to_string(path).map_err(|error| ConfigError {
                source: source.clone(),
                mistakes: vec![format!("the file cannot be read: {error}")],
            })?,
            None => String::new(),
        };
        Self::parse(&source, &text, environment)
    }

    /// Parses `text` and lays `environment` over it, then checks the whole.
    pub fn parse(
        source: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let fail = |mistakes| ConfigError { source: source.to_owned(), mistakes };
        let mut table = text.parse::<Table>().map_err(|error| fail(vec![unreadable(text, &error)]))?;
        let mut environment: Vec<_> = environment.into_iter().collect();
        // Musubi's own names come after, and so win over, `DATABASE_URL`.
        environment.sort();
        for (name, value) in environment {
            match name.strip_prefix(PREFIX) {
                Some(path) => set(&mut table, &path.to_lowercase(), value),
                None if name == "DATABASE_URL" => set(&mut table, "database_url", value),
                None => {}
            }
        }
        let mut mistakes = Vec::new();
        read_secret_files(&mut table, "", &mut mistakes);
        let config = shape::read(table, &mut mistakes);
        let mut broken_rules = config.as_ref().map(Self::mistakes).unwrap_or_default();
        broken_rules.retain(|rule| !shape::is_named(&mistakes, rule.split(": ").next().unwrap_or_default()));
        mistakes.extend(broken_rules);
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(fail(mistakes)),
        }
    }
}

/// Where the text is not TOML. The line itself is not shown: it may hold a secret.
fn unreadable(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {}, column {column}: {}", before.matches('\n').count() + 1, error.message())
}

/// Sets `section__key` to `value`. The other way to give a secret, in a file or as it is, gives way.
fn set(table: &mut Table, path: &str, value: String) {
    match path.split_once("__") {
        Some((section, rest)) => {
            let entry = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                set(inner, rest, value);
            }
        }
        None => {
            match path.strip_suffix(FILE) {
                Some(plain) => table.remove(plain),
                None => table.remove(&format!("{path}{FILE}")),
            };
            table.insert(path.to_owned(), typed(value));
        }
    }
}

/// A number or a flag where the text is just that, else text: a secret of digits and an `e` is not a number.
fn typed(value: String) -> Value {
    match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) if number.to_string() == value => Value::Integer(number),
        (_, Ok(flag)) => Value::Boolean(flag),
        _ => Value::String(value),
    }
}

/// Replaces each `NAME_file = "path"` by `NAME = "the file's text"`, so that secrets can live in files.
fn read_secret_files(table: &mut Table, path: &str, mistakes: &mut Vec<String>) {
    let names: Vec<String> = table.keys().filter(|name| name.ends_with(FILE)).cloned().collect();
    for name in names {
        let Some(Value::String(file)) = table.remove(&name) else {
            mistakes.push(format!("{path}{name}: must be the path of a file"));
            continue;
        };
        match fs::read_to_string(&file) {
            Ok(text) => {
                let target = name.strip_suffix(FILE).unwrap_or(&name).to_owned();
                if table.insert(target, Value::String(text.trim_end().to_owned())).is_some() {
                    mistakes.push(format!("{path}{name}: the same is given without {FILE}; keep one of them"));
                }
            }
            Err(error) => mistakes.push(format!("{path}{name}: {file} cannot be read: {error}")),
        }
    }
    for (name, value) in table.iter_mut() {
        if let Value::Table(inner) = value {
            read_secret_files(inner, &format!("{path}{name}."), mistakes);
        }
    }
}

/// Several things, as a list or in one text with commas between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    List(Vec<String>),
}

impl Given {
    fn texts(self) -> Vec<String> {
        let texts = match self {
            Self::Text(text) => text.split(',').map(str::to_owned).collect(),
            Self::List(list) => list,
        };
        texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }
}

/// Addresses or networks, as a list or in one text.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Given::deserialize(deserializer)?.texts();
    let network = |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let read = |text: &String| {
        network(text).map_err(|_| serde::de::Error::custom("not an address or network such as 10.0.0.0/8"))
    };
    texts.iter().map(read).collect()
}

/// URLs, as a list or in one text.
pub(super) fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    let texts = Given::deserialize(deserializer)?.texts();
    let read = |text: &String| {
        Url::parse(text).map_err(|_| serde::de::Error::custom("not a URL such as https://shop.example.jp"))
    };
    texts.iter().map(read).collect()
}

/// Accepts `1234567890` and `"1234567890"`: LINE's channel IDs look like numbers and are not.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a number")]
    enum Either {
        Text(String),
        Number(i64),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    })
}
