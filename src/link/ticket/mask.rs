//! What a page shows of a member to whoever holds a ticket, or a LINE account that an import names: enough for the
//! member, too little for anyone else.

use unicode_segmentation::UnicodeSegmentation;

use crate::member;

/// `H*** Y***`, `山***`: the first letter of each of the first three words. Nothing of no name.
pub(in crate::link) fn name(name: &str) -> String {
    let first = |word: &str| word.graphemes(true).next().map(|letter| format!("{letter}***"));
    name.split_whitespace().take(3).filter_map(first).collect::<Vec<_>>().join(" ")
}

/// The masked address; without one the end of the company's own id, whose beginning is often everybody's.
pub(super) fn detail(email: &str, external_id: Option<&str>) -> String {
    if !email.is_empty() {
        return member::masked_email(email);
    }
    let Some(external_id) = external_id else { return String::new() };
    let letters: Vec<&str> = external_id.graphemes(true).collect();
    let shown = (letters.len() / 3).min(4);
    format!("***{}", letters[letters.len() - shown..].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_their_first_letters() {
        for (full, expected) in [
            ("Hanako Yamada", "H*** Y***"),
            ("山田 花子", "山*** 花***"),
            ("山田花子", "山***"),
            ("  e\u{301}lodie ", "e\u{301}***"),
            ("Aa Bb Cc Dd", "A*** B*** C***"),
            ("", ""),
        ] {
            assert_eq!(name(full), expected, "{full}");
        }
    }

    #[test]
    fn details_show_an_address_or_an_end() {
        for (email, external_id, expected) in [
            ("hanako@example.jp", Some("M-000123"), "h***@example.jp"),
            ("", Some("M-000123"), "***23"),
            ("", Some("customer-000012345"), "***2345"),
            ("", Some("ab"), "***"),
            ("", None, ""),
        ] {
            assert_eq!(detail(email, external_id), expected, "{email} {external_id:?}");
        }
    }
}
