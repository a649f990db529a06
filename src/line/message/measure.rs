//! LINE's two ways to count letters.

use unicode_segmentation::UnicodeSegmentation;

/// UTF-16 code units, as LINE counts most texts.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Grapheme clusters, as LINE counts labels, titles and other short texts.
pub fn graphemes(text: &str) -> usize {
    text.graphemes(true).count()
}
