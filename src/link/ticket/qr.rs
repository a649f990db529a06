//! A QR code as SVG: black on white with its quiet zone, whatever page it is put on or in.

use qrcode::{EcLevel, QrCode, render::svg::Color};

use crate::error::{Error, Result};

/// Side of the picture, at least; SVG scales.
const SIDE: u32 = 240;

pub fn svg(text: &str) -> Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(Error::internal)?;
    let (dark, light) = (Color("#000"), Color("#fff"));
    let svg = code.render::<Color>().min_dimensions(SIDE, SIDE).dark_color(dark).light_color(light).build();
    // Within a page nothing may stand before it.
    let start = svg.find("<svg").unwrap_or_default();
    Ok(svg[start..].to_owned())
}
