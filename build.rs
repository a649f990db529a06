//! A new migration alone rebuilds the binary that carries it; the shipped message templates are listed by their files.

use std::{env, error::Error, fs, path::Path};

#[expect(clippy::disallowed_methods, reason = "a build is told where it is by its environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=templates/messages");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("templates/messages");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        names.push(entry?.file_name().into_string().map_err(|name| format!("{name:?} is no file name"))?);
    }
    names.retain(|name| name.ends_with(".json"));
    names.sort();
    let pair = |name: &String| format!("({name:?}, include_str!({:?})),\n", folder.join(name));
    let list: String = names.iter().map(pair).collect();
    let text = format!("pub(super) static FILES: &[(&str, &str)] = &[\n{list}];\n");
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("messages.rs"), text)?)
}
