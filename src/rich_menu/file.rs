//! The menu files: `NAME.toml` beside its image, the company's or the shipped ones.

use std::{
    borrow::Cow,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::check;
use crate::{config::Config, flex};

/// A menu that is fit to be made at LINE.
#[derive(Debug, Clone)]
pub struct Menu {
    pub name: String,
    /// Of the content and the image; a changed file is another menu.
    pub hash: String,
    pub(super) when: String,
    /// LINE's rich menu object.
    pub(super) object: Value,
    pub(super) content_type: &'static str,
    pub(super) image: Cow<'static, [u8]>,
}

/// Everything that is wrong with the menu files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

/// A menu file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub name: String,
    pub chat_bar_text: String,
    #[serde(default)]
    pub selected: bool,
    pub size: Size,
    /// File name of the image, in the same folder.
    pub image: String,
    pub when: String,
    pub areas: Vec<Area>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Size {
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Area {
    pub bounds: Bounds,
    /// LINE's action object.
    pub action: Value,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A file's own name, its text, and where its image is.
struct Source {
    origin: String,
    text: Cow<'static, str>,
    images: Images,
}

enum Images {
    Shipped(&'static [u8]),
    Folder(PathBuf),
}

impl Menu {
    /// The name it carries at LINE.
    pub(super) fn name_at_line(&self) -> String {
        format!("musubi:{}:{}", self.name, self.hash)
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rich menu files have {} mistake(s): {}", self.0.len(), self.0.join("; "))
    }
}

/// Reads and checks all menu files, ordered by file name. Reads the disk where a folder is configured.
pub fn load(config: &Config) -> Result<Vec<Menu>, Mistakes> {
    let sources = match &config.rich_menu.folder {
        None => Ok(shipped()),
        Some(folder) => list(folder).map_err(|error| Mistakes(vec![format!("{}: {error}", folder.display())])),
    }?;
    let (mut menus, mut mistakes) = (Vec::<Menu>::new(), Vec::new());
    for source in &sources {
        match read(config, source) {
            Ok(menu) if menus.iter().any(|other| other.name == menu.name) => {
                mistakes.push(format!("{}: name: {:?} is already another file's", source.origin, menu.name));
            }
            Ok(menu) => menus.push(menu),
            Err(found) => mistakes.extend(found.into_iter().map(|mistake| format!("{}: {mistake}", source.origin))),
        }
    }
    if mistakes.is_empty() { Ok(menus) } else { Err(Mistakes(mistakes)) }
}

fn shipped() -> Vec<Source> {
    let source = |name: &str, text: &'static str, image: &'static [u8]| Source {
        origin: format!("{name}.toml (shipped)"),
        text: Cow::Borrowed(text),
        images: Images::Shipped(image),
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
        let text = Cow::Owned(fs::read_to_string(&path)?);
        Ok(Source { origin: path.display().to_string(), text, images: Images::Folder(folder.to_owned()) })
    };
    paths.into_iter().map(read).collect()
}

fn read(config: &Config, source: &Source) -> Result<Menu, Vec<String>> {
    let file: File = toml::from_str(&source.text).map_err(|error| vec![error.to_string().trim().to_owned()])?;
    let image = match &source.images {
        Images::Shipped(bytes) => Cow::Borrowed(*bytes),
        Images::Folder(folder) => match fs::read(folder.join(&file.image)) {
            Ok(bytes) => Cow::Owned(bytes),
            Err(error) => return Err(vec![format!("image: {} cannot be read: {error}", file.image)]),
        },
    };
    let (object, content_type) = check::check(&file, render(config, &file), &image)?;
    Ok(named(Menu { hash: hash(&object, &image), name: file.name, when: file.when, object, content_type, image }))
}

/// LINE's object without its name, which depends on the rest.
fn render(config: &Config, file: &File) -> Result<Value, Vec<flex::Mistake>> {
    let areas: Vec<Value> = file
        .areas
        .iter()
        .map(|Area { bounds, action }| {
            let Bounds { x, y, width, height } = bounds;
            json!({ "bounds": { "x": x, "y": y, "width": width, "height": height }, "action": action })
        })
        .collect();
    let template = json!({
        "size": { "width": file.size.width, "height": file.size.height },
        "selected": file.selected,
        "chatBarText": file.chat_bar_text,
        "areas": areas,
    });
    let data = json!({ "public_url": config.url(""), "company": config.company });
    flex::fill(&template, &data, &flex::Context { zone: &TimeZone::UTC, locale: &config.default_locale })
}

fn named(mut menu: Menu) -> Menu {
    menu.object["name"] = Value::String(menu.name_at_line());
    menu
}

fn hash(object: &Value, image: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(object.to_string().as_bytes());
    context.update(image);
    context.finish().as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
