//! The template files: `NAME.json`, `NAME.ja.json`, and so on, shipped ones and the company's.
//!
//! A company's `NAME`, in whatever languages it has, stands in place of the shipped one of that name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::Path,
    sync::LazyLock,
};

use serde_json::{Map, Value};

use super::{Mistake, Template};

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// The languages in which people are written to.
pub const LANGUAGES: [&str; 4] = ["en", "ja", "th", "zh-TW"];
/// Larger files are no templates.
const LARGEST: usize = 256 * 1024;

/// One template file, compiled or with what is wrong with it.
#[derive(Debug, Clone)]
pub struct File {
    pub origin: String,
    pub name: String,
    /// None in `NAME.json`, which is for everybody without one of their own.
    pub language: Option<&'static str>,
    pub compiled: Result<Template, Vec<Mistake>>,
    source: Value,
}

/// Every template, ready to be rendered.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    own: Shelf,
}

/// Templates by name, each in its languages.
type Shelf = BTreeMap<String, Vec<Sheet>>;

/// A template in one language.
#[derive(Debug, Clone)]
struct Sheet {
    language: Option<&'static str>,
    template: Template,
    source: Value,
}

/// Everything that is wrong with the template files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message templates have {} mistake(s):", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
    }
}

static SHIPPED: LazyLock<Vec<File>> = LazyLock::new(|| {
    let file = |(file, text): &(&str, &str)| read(&format!("{file} (shipped)"), file, text);
    FILES.iter().map(file).collect()
});
static SHIPPED_SHELF: LazyLock<Result<Shelf, Mistakes>> = LazyLock::new(|| shelf(SHIPPED.iter().cloned()));

impl Catalogue {
    /// Reads and compiles the company's files where there is a folder of them.
    pub fn load(folder: Option<&Path>) -> Result<Self, Mistakes> {
        SHIPPED_SHELF.as_ref().map_err(Clone::clone)?;
        Ok(Self { own: shelf(own(folder)?.into_iter())? })
    }

    /// The template of this name in this language, else for everybody, else in `default`, else in any.
    pub fn find(&self, name: &str, locale: &str, default: &str) -> Option<&Template> {
        let sheets = self.sheets(name)?;
        let of = |wanted: Option<&str>| sheets.iter().find(|sheet| sheet.language == wanted);
        let own = language(locale).and_then(|language| of(Some(language)));
        let found = own.or_else(|| of(None)).or_else(|| of(language(default))).or_else(|| sheets.first());
        found.map(|sheet| &sheet.template)
    }

    /// The files of this name as they are now, by language; `""` is for everybody.
    pub fn source(&self, name: &str) -> Option<Value> {
        let entry = |sheet: &Sheet| (sheet.language.unwrap_or_default().to_owned(), sheet.source.clone());
        Some(Value::Object(self.sheets(name)?.iter().map(entry).collect::<Map<_, _>>()))
    }

    fn sheets(&self, name: &str) -> Option<&[Sheet]> {
        let shipped = || SHIPPED_SHELF.as_ref().ok()?.get(name);
        self.own.get(name).or_else(shipped).map(Vec::as_slice)
    }
}

/// All files that count, those with mistakes too: the company's, and the shipped ones of other names.
pub fn list(folder: Option<&Path>) -> Result<Vec<File>, Mistakes> {
    let mut files = own(folder)?;
    let own: BTreeSet<String> = files.iter().map(|file| file.name.clone()).collect();
    files.extend(SHIPPED.iter().filter(|file| !own.contains(&file.name)).cloned());
    Ok(files)
}

/// Which of our languages a tag means. Chinese is ours unless it is said to be written with simplified characters.
pub fn language(locale: &str) -> Option<&'static str> {
    let tag = locale.to_ascii_lowercase().replace('_', "-");
    let mut parts = tag.split('-');
    match parts.next() {
        Some("zh") => (!is_simplified(parts)).then_some("zh-TW"),
        first => LANGUAGES.into_iter().find(|language| Some(*language) == first),
    }
}

/// Of a Chinese tag what follows `zh`: the script decides, else the region.
fn is_simplified<'a>(mut parts: impl Iterator<Item = &'a str> + Clone) -> bool {
    let script = parts.clone().find(|part| ["hans", "hant"].contains(part));
    script.map_or_else(|| parts.any(|part| ["cn", "sg", "my"].contains(&part)), |script| script == "hans")
}

fn own(folder: Option<&Path>) -> Result<Vec<File>, Mistakes> {
    folder.map_or(Ok(Vec::new()), |folder| {
        read_folder(folder).map_err(|error| Mistakes(vec![format!("{}: {error}", folder.display())]))
    })
}

fn read_folder(folder: &Path) -> io::Result<Vec<File>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let file = |path: &Path| {
        let origin = path.display().to_string();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or(Cow::Borrowed(""));
        let text =
            fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        Ok(read(&origin, &name, &text))
    };
    paths.iter().map(|path| file(path)).collect()
}

fn read(origin: &str, file_name: &str, text: &str) -> File {
    let whole = file_name.strip_suffix(".json").unwrap_or(file_name);
    let (name, tag) = whole.split_once('.').map_or((whole, None), |(name, tag)| (name, Some(tag)));
    let language = LANGUAGES.into_iter().find(|language| Some(*language) == tag);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let wrong = |text: String| Err(vec![Mistake { path: String::new(), text }]);
    let mut source = Value::Null;
    let compiled = if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        wrong(format!("{name:?} is no name: 1 to 64 letters, digits, - and _"))
    } else if tag.is_some() && language.is_none() {
        wrong(format!("{:?} is no language; there are {}", tag.unwrap_or_default(), LANGUAGES.join(", ")))
    } else if text.len() > LARGEST {
        wrong(format!("is larger than {} KB", LARGEST / 1024))
    } else {
        match serde_json::from_str(text) {
            Ok(tree) => {
                source = tree;
                Template::compile(&source)
            }
            Err(error) => wrong(format!("is not JSON: {error}")),
        }
    };
    File { origin: origin.to_owned(), name: name.to_owned(), language, compiled, source }
}

fn shelf(files: impl Iterator<Item = File>) -> Result<Shelf, Mistakes> {
    let (mut shelf, mut mistakes) = (Shelf::new(), Vec::new());
    for file in files {
        match file.compiled {
            Ok(template) => {
                let sheet = Sheet { language: file.language, template, source: file.source };
                shelf.entry(file.name).or_default().push(sheet);
            }
            Err(found) => mistakes.extend(found.iter().map(|mistake| format!("{}: {mistake}", file.origin))),
        }
    }
    if mistakes.is_empty() { Ok(shelf) } else { Err(Mistakes(mistakes)) }
}
