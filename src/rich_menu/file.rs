//! The menu files: `NAME.toml` beside its image, the company's or the shipped ones, as menus that LINE would take.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use serde_json::Value;

use super::{alias::Aliases, draft::Draft, rule::Rule, set::Applied};
use crate::config::Config;

/// A menu that is fit to be made at LINE: a file in one of its languages.
#[derive(Debug, Clone)]
pub struct Menu {
    pub name: String,
    /// Empty where the file knows one language only.
    pub language: String,
    /// Of the content, then of the image; a changed file is another menu.
    pub hash: String,
    pub alias: Option<String>,
    /// The smallest name of the menus whose taps lead to each other.
    pub group: String,
    pub rule: Rule,
    /// LINE's rich menu object.
    pub(super) object: Value,
    pub(super) content_type: String,
    pub(super) image: Cow<'static, [u8]>,
}

/// Everything that is wrong with the menu files, each with file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

/// A file's own name, its text, and where its image is.
#[derive(Debug)]
pub(super) struct Source {
    /// For people, as in `menus/gold.toml`.
    pub origin: String,
    /// The menu's name, where the file has no other.
    pub stem: String,
    pub text: Cow<'static, str>,
    folder: Beside,
}

#[derive(Debug)]
enum Beside {
    Shipped(&'static [u8]),
    Folder(PathBuf),
}

impl Menu {
    /// Of a file's object, which is given its name at LINE.
    pub(super) fn new(draft: &Draft<'_>, language: &str, mut object: Value, image: Cow<'static, [u8]>) -> Self {
        let hash = format!("{}{}", short_hash(&[language, &object.to_string()]), short_hash(&[&image]));
        object["name"] = Value::String(name_at_line(&draft.name, &hash));
        Self {
            name: draft.name.clone(),
            language: language.to_owned(),
            hash,
            alias: draft.alias_in(language),
            group: draft.name.clone(),
            rule: draft.rule.clone(),
            object,
            content_type: String::new(),
            image,
        }
    }

    /// The name it carries at LINE.
    pub(super) fn name_at_line(&self) -> String {
        name_at_line(&self.name, &self.hash)
    }

    /// The name for people.
    pub(super) fn label(&self) -> String {
        label(&self.name, &self.language)
    }

    /// As it stands in a set, once LINE has given it an id.
    pub(super) fn applied(&self, rich_menu_id: &str) -> Applied {
        Applied {
            name: self.name.clone(),
            language: self.language.clone(),
            hash: self.hash.clone(),
            group: self.group.clone(),
            alias: self.alias.clone(),
            rule: self.rule.clone(),
            rich_menu_id: rich_menu_id.to_owned(),
        }
    }
}

pub(super) fn label(name: &str, language: &str) -> String {
    if language.is_empty() { name.to_owned() } else { format!("{name} ({language})") }
}

fn name_at_line(name: &str, hash: &str) -> String {
    format!("musubi:{name}:{hash}")
}

/// The file's name in a name at LINE; none where the menu is not ours.
pub(super) fn name_of_ours(name_at_line: &str) -> Option<&str> {
    name_at_line.strip_prefix("musubi:")?.split_once(':').map(|(name, _)| name)
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rich menu files have {} mistake(s):", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
    }
}

/// Reads and checks all menu files, in the order in which their rules are asked. Reads the disk where a folder is
/// configured.
pub fn load(config: &Config) -> Result<Vec<Menu>, Mistakes> {
    let sources = match &config.rich_menu.folder {
        None => Ok(shipped()),
        Some(folder) => list(folder).map_err(|error| Mistakes(vec![format!("{}: {error}", folder.display())])),
    }?;
    let (mut drafts, mut mistakes) = (Vec::<Draft<'_>>::new(), Vec::new());
    for source in &sources {
        match Draft::read(config, source) {
            Ok(draft) => match drafts.iter().find(|other| other.name == draft.name) {
                Some(other) => mistakes.push(draft.mistake("name", &format!("is the name of {} too", other.origin()))),
                None => drafts.push(draft),
            },
            Err(found) => mistakes.extend(found),
        }
    }
    // Files come ordered by their names.
    drafts.sort_by_key(|draft| std::cmp::Reverse(draft.priority));
    let aliases = Aliases::of(&drafts, &mut mistakes);
    let mut menus = Vec::new();
    for draft in &drafts {
        for language in &draft.languages {
            match draft.menu(config, language, &aliases) {
                Ok(menu) => menus.push(menu),
                Err(found) => mistakes.extend(found),
            }
        }
    }
    // What is wrong in all languages is told once.
    let mut told = std::collections::BTreeSet::new();
    mistakes.retain(|mistake| told.insert(mistake.clone()));
    if mistakes.is_empty() {
        group(&mut menus);
        Ok(menus)
    } else {
        Err(Mistakes(mistakes))
    }
}

/// Gives the menus that lead to each other by taps one group.
fn group(menus: &mut [Menu]) {
    let names: BTreeMap<String, String> =
        menus.iter().filter_map(|menu| Some((menu.alias.clone()?, menu.name.clone()))).collect();
    let taps = |menu: &Menu| -> Vec<(String, String)> {
        let areas = menu.object["areas"].as_array().into_iter().flatten();
        let to = areas.filter_map(|area| names.get(area["action"]["richMenuAliasId"].as_str()?));
        to.map(|to| (menu.name.clone(), to.clone())).collect()
    };
    let taps: Vec<(String, String)> = menus.iter().flat_map(taps).collect();
    let mut groups: BTreeMap<&str, &str> = names.values().map(|name| (name.as_str(), name.as_str())).collect();
    groups.extend(taps.iter().map(|(from, _)| (from.as_str(), from.as_str())));
    let mut is_changed = true;
    while is_changed {
        is_changed = false;
        for (from, to) in &taps {
            let least = groups[from.as_str()].min(groups[to.as_str()]);
            for name in [from, to] {
                is_changed |= groups.insert(name, least) != Some(least);
            }
        }
    }
    for menu in menus {
        if let Some(group) = groups.get(menu.name.as_str()) {
            menu.group = (*group).to_owned();
        }
    }
}

fn shipped() -> Vec<Source> {
    let source = |name: &str, text: &'static str, image: &'static [u8]| Source {
        origin: format!("(shipped) {name}.toml"),
        stem: name.to_owned(),
        text: Cow::Borrowed(text),
        folder: Beside::Shipped(image),
    };
    vec![
        source("linked", include_str!("../../rich-menus/linked.toml"), include_bytes!("../../rich-menus/linked.png")),
        source(
            "unlinked",
            include_str!("../../rich-menus/unlinked.toml"),
            include_bytes!("../../rich-menus/unlinked.png"),
        ),
    ]
}

fn list(folder: &Path) -> io::Result<Vec<Source>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path);
        Ok(Source {
            origin: path.display().to_string(),
            stem: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            text: Cow::Owned(text.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?),
            folder: Beside::Folder(folder.to_owned()),
        })
    };
    paths.into_iter().map(read).collect()
}

impl Source {
    /// Another file of the same folder, by its bare name.
    pub fn beside(&self, name: &str) -> Result<Cow<'static, [u8]>, String> {
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(format!("{name:?} is not the name of a file in the same folder"));
        }
        match &self.folder {
            Beside::Shipped(bytes) => Ok(Cow::Borrowed(*bytes)),
            Beside::Folder(folder) => match fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(error) => Err(format!("{name} cannot be read: {error}")),
            },
        }
    }
}

fn short_hash<T: AsRef<[u8]>>(parts: &[T]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part.as_ref()));
    context.finish().as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
