//! A new migration alone rebuilds the binary that carries it; the shipped message templates are listed by their files;
//! the texts of the pages are checked and made into a table.

#[path = "build/texts.rs"]
mod texts;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::disallowed_methods, reason = "a build is told where it is by its environment")]
fn main() -> Result<()> {
    for path in ["migrations", "locales", "src", "templates"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let home = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    write(&out.join("messages.rs"), &messages(&home.join("templates/messages"))?)?;
    write(&out.join("texts.rs"), &catalogue(&home)?)
}

fn messages(folder: &Path) -> Result<String> {
    let pair = |path: &PathBuf| Ok(format!("({:?}, include_str!({path:?})),\n", name(path)?));
    let list: String = files(folder, &["json"])?.iter().map(pair).collect::<Result<_>>()?;
    Ok(format!("pub(super) static FILES: &[(&str, &str)] = &[\n{list}];\n"))
}

fn catalogue(home: &Path) -> Result<String> {
    let mut languages = Vec::new();
    for path in files(&home.join("locales"), &["toml"])? {
        languages.push(texts::read(name(&path)?.trim_end_matches(".toml"), &fs::read_to_string(&path)?)?);
    }
    let mut sources = Vec::new();
    for path in files(&home.join("src"), &["rs"])?.into_iter().chain(files(&home.join("templates"), &["html", "txt"])?)
    {
        sources.push(fs::read_to_string(path)?);
    }
    let mistakes = texts::mistakes(&languages, &sources);
    if mistakes.is_empty() { Ok(texts::table(&languages)) } else { Err(mistakes.join("\n").into()) }
}

/// The files below a folder that end so, by name.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| format!("{} has no name", path.display()).into())
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text)?)
}
