//! What makes the pages the company's: its colour, its logo, its links.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

use super::{check::check_https, in_language};

/// WCAG 2.2 AA for text.
const READABLE: f64 = 4.5;
/// What the pages are drawn on (`--ground` in `static/app.css`), light and dark.
const GROUND: Color = Color([0xf4, 0xf6, 0xf9]);
const DARK_SURFACE: Color = Color([0x1d, 0x26, 0x36]);
const WHITE: Color = Color([255; 3]);
const BLACK: Color = Color([0; 3]);
/// With it a page still comes in under 50 kB.
pub const LARGEST_LOGO: usize = 10 * 1024;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brand {
    /// Of buttons and marks, such as `#0b5d36`: dark enough to be read on white. For dark screens a lighter one is made.
    pub color: Option<Color>,
    /// File of an SVG or PNG that stands in place of the name at the top of each page.
    pub logo: Option<PathBuf>,
    /// Shown at the foot of each page.
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub url: Url,
    /// In each language.
    pub text: BTreeMap<String, String>,
}

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color([u8; 3]);

/// A brand's colours on one kind of screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    pub brand: Color,
    pub hover: Color,
    pub press: Color,
    pub on_brand: Color,
    pub tint: Color,
}

impl Brand {
    pub(super) fn check(&self, default_locale: &str, mistakes: &mut Vec<String>) {
        if let Some(color) = self.color.filter(|color| color.contrast(GROUND) < READABLE) {
            let (found, better) = (color.contrast(GROUND), color.toward(BLACK, GROUND, READABLE));
            mistakes.push(format!(
                "brand.color: {color} is too light to be read: its contrast with the page is {found:.1} and must be \
                 {READABLE} (WCAG AA); {better} has enough"
            ));
        }
        if let Some(Err(problem)) = self.logo.as_ref().map(|_| self.read_logo()) {
            mistakes.push(format!("brand.logo: {problem}"));
        }
        for (place, link) in self.links.iter().enumerate() {
            check_https(&format!("brand.links[{place}].url"), &link.url, mistakes);
            if link.text.get(default_locale).is_none_or(|text| text.trim().is_empty()) {
                mistakes.push(format!("brand.links[{place}].text.{default_locale}: is missing"));
            }
        }
    }

    /// The logo with its media type, where there is one.
    pub fn read_logo(&self) -> Result<Option<(&'static str, Vec<u8>)>, String> {
        let Some(path) = &self.logo else { return Ok(None) };
        let file = path.display();
        let bytes = fs::read(path).map_err(|error| format!("{file} cannot be read: {error}"))?;
        if bytes.len() > LARGEST_LOGO {
            return Err(format!("{file} is larger than {} kB", LARGEST_LOGO / 1024));
        }
        if bytes.starts_with(b"\x89PNG\r\n") {
            return Ok(Some(("image/png", bytes)));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.contains("<svg") => Ok(Some(("image/svg+xml", bytes))),
            _ => Err(format!("{file} is neither SVG nor PNG")),
        }
    }
}

impl Link {
    /// Its text in `locale`, else in `default`.
    pub fn text(&self, locale: &str, default: &str) -> &str {
        in_language(&self.text, locale, default)
    }
}

impl Palette {
    pub fn light(color: Color) -> Self {
        let [hover, press] = [0.15, 0.3].map(|share| color.mixed(BLACK, share));
        Self { brand: color, hover, press, on_brand: WHITE, tint: color.mixed(WHITE, 0.9) }
    }

    /// As light as text must be on a dark page, and somewhat more, since light letters glow.
    pub fn dark(color: Color) -> Self {
        let brand = color.toward(WHITE, DARK_SURFACE, 7.0);
        let [hover, press] = [0.3, 0.6].map(|share| brand.mixed(WHITE, share));
        Self { brand, hover, press, on_brand: brand.mixed(BLACK, 0.88), tint: DARK_SURFACE.mixed(brand, 0.12) }
    }
}

impl Color {
    /// The least mixture with `end` that is readable on `ground`.
    fn toward(self, end: Self, ground: Self, contrast: f64) -> Self {
        let mixtures = (0..=100).map(|share| self.mixed(end, f64::from(share) / 100.0));
        mixtures.into_iter().find(|color| color.contrast(ground) >= contrast).unwrap_or(end)
    }

    fn mixed(self, other: Self, share: f64) -> Self {
        let mix = |place: usize| {
            let value = f64::from(self.0[place]) * (1.0 - share) + f64::from(other.0[place]) * share;
            value.round().clamp(0.0, 255.0) as u8
        };
        Self([mix(0), mix(1), mix(2)])
    }

    /// WCAG's contrast ratio, 1 to 21.
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, red, green, blue] =
            number.ok_or_else(|| D::Error::custom("not a colour such as #0b5d36"))?.to_be_bytes();
        Ok(Self([red, green, blue]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_as_wcag_counts_it() {
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 0.001);
        assert!((Color([0x77; 3]).contrast(WHITE) - 4.48).abs() < 0.01);
    }

    /// Whatever colour a company has, what is made of it can be read.
    #[test]
    fn every_palette_is_readable() {
        for step in 0..=u32::from(u8::MAX) {
            let color = Color([step as u8, (step * 7 % 256) as u8, (step * 31 % 256) as u8]);
            let color = color.toward(BLACK, GROUND, READABLE);
            let (light, dark) = (Palette::light(color), Palette::dark(color));
            for palette in [light, dark] {
                for ground in [palette.brand, palette.hover, palette.press] {
                    assert!(palette.on_brand.contrast(ground) >= READABLE, "{palette:?}");
                }
                assert!(palette.brand.contrast(palette.tint) >= 3.0, "{palette:?}");
            }
            assert!(dark.brand.contrast(DARK_SURFACE) >= READABLE, "{dark:?}");
        }
    }
}
