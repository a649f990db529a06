//! The file in which the state outlives the process: `simulator.json`, replaced as a whole, never written in place.

use std::{fs, io, path::Path};

use super::state::State;

const FILE: &str = "simulator.json";

/// Reads the snapshot; a folder without one is an empty state. A damaged one is an error and is not overwritten.
pub(super) fn read(folder: &Path) -> io::Result<State> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

/// Writes beside the old snapshot and renames, so that a reader sees the old or the new one.
pub(super) fn write(folder: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let fresh = folder.join("simulator.json.new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, folder.join(FILE))
}
