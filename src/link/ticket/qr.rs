//! A QR code as SVG: black on white with its quiet zone, whatever page it is put on.

use qrcode::{EcLevel, QrCode, render::svg::Color};

use crate::error::{Error, Result};

/// Side of the picture, at least; SVG scales.
const SIDE: u32 = 240;

pub(super) fn svg(text: &str) -> Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(Error::internal)?;
    let (dark, light) = (Color("#000"), Color("#fff"));
    Ok(code.render::<Color>().min_dimensions(SIDE, SIDE).dark_color(dark).light_color(light).build())
}
