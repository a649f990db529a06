//! The demo's rich menus: files beside its configuration, for the person who plays to change and apply.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const MENUS: [(&str, &str, &[u8]); 5] = [
    ("unlinked", include_str!("../../rich-menus/unlinked.toml"), include_bytes!("../../rich-menus/unlinked.png")),
    ("member", include_str!("../../rich-menus/demo/member.toml"), include_bytes!("../../rich-menus/demo/member.png")),
    (
        "member-support",
        include_str!("../../rich-menus/demo/member-support.toml"),
        include_bytes!("../../rich-menus/demo/member-support.png"),
    ),
    ("gold", include_str!("../../rich-menus/demo/gold.toml"), include_bytes!("../../rich-menus/demo/gold.png")),
    (
        "gold-benefits",
        include_str!("../../rich-menus/demo/gold-benefits.toml"),
        include_bytes!("../../rich-menus/demo/gold-benefits.png"),
    ),
];

/// Where the menus of a demo are.
pub(super) fn folder(data: &Path) -> io::Result<PathBuf> {
    Ok(fs::canonicalize(data)?.join("rich-menus"))
}

/// Writes the files where that folder is not there yet; what it holds is the person's own.
pub(super) fn write(data: &Path) -> io::Result<()> {
    let folder = folder(data)?;
    if folder.exists() {
        return Ok(());
    }
    // Whole or not at all, also where the demo is stopped meanwhile.
    let fresh = folder.with_extension("new");
    fs::create_dir_all(&fresh)?;
    for (name, text, image) in MENUS {
        fs::write(fresh.join(format!("{name}.toml")), text)?;
        fs::write(fresh.join(format!("{name}.png")), image)?;
    }
    fs::rename(fresh, folder)
}
