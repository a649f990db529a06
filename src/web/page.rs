//! The shell of every page, and how a page becomes an answer.

use std::sync::Arc;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::{assets, csrf, locale::Locale, texts::Texts, visit::Visit};
use crate::{
    app::App,
    config::{Config, Link},
    error::{Error, Result},
};

/// What `templates/web/page.html` shows around the content.
pub struct Page {
    locale: Locale,
    texts: Arc<Texts>,
    pub lang: String,
    pub csrf: String,
    pub company: String,
    pub member: Option<String>,
    pub here: String,
    /// Address of the style with the company's colours.
    pub style: Option<String>,
    pub logo: Option<String>,
    pub privacy_url: Option<String>,
    pub terms_url: Option<String>,
    /// Address and text.
    pub links: Vec<(String, String)>,
    /// Whether mails leave.
    pub has_mail: bool,
    pub has_passwords: bool,
    pub has_sign_up: bool,
}

impl Page {
    pub fn new(app: &App, visit: &Visit) -> Self {
        Self {
            locale: visit.locale,
            texts: app.texts.clone(),
            lang: visit.locale.tag().to_owned(),
            csrf: csrf::token(app, visit),
            company: app.config.company.clone(),
            member: visit.viewer.as_ref().map(|viewer| viewer.name.clone()),
            here: visit.here.clone(),
            style: app.brand.style.as_ref().map(|file| file.url.clone()),
            logo: app.brand.logo.as_ref().map(|file| file.url.clone()),
            privacy_url: app.config.privacy_url.as_ref().map(ToString::to_string),
            terms_url: app.config.terms_url.as_ref().map(ToString::to_string),
            links: links(&app.config, visit.locale),
            has_mail: app.config.mail.is_some(),
            has_passwords: app.config.has_passwords(),
            has_sign_up: app.config.has_sign_up(),
        }
    }

    /// The text under `key` in the visitor's language.
    pub fn t(&self, key: &str) -> &str {
        self.texts.get(self.locale, key)
    }

    /// The text under `key` with `{0}`, `{1}` filled. What is filled in is isolated, so that a name
    /// written right to left cannot turn the sentence around it.
    pub fn with<const N: usize>(&self, key: &str, values: &[&str; N]) -> String {
        fill(self.t(key), values)
    }

    /// What to call a LINE account: LINE does not tell everybody's name.
    pub fn line_name<'n>(&'n self, name: &'n str) -> &'n str {
        if name.is_empty() { self.t("line.nameless") } else { name }
    }

    pub fn languages(&self) -> [Locale; Locale::ALL.len()] {
        Locale::ALL
    }

    pub fn asset(&self, name: &str) -> String {
        assets::url(name)
    }
}

fn links(config: &Config, locale: Locale) -> Vec<(String, String)> {
    let shown = |link: &Link| (link.url.to_string(), link.text(locale.tag(), &config.default_locale).to_owned());
    config.brand.links.iter().map(shown).collect()
}

/// Fills `{0}`, `{1}` … in one pass, so that braces in a value stay what they are.
pub fn fill<const N: usize>(text: &str, values: &[&str; N]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find('}').map_or(rest.len(), |end| end + 1);
        let value = rest[1..end].trim_end_matches('}').parse::<usize>().ok().and_then(|index| values.get(index));
        match value {
            Some(value) => {
                filled.push('\u{2068}');
                filled.extend(value.chars().filter(|c| !is_direction(*c)));
                filled.push('\u{2069}');
            }
            None => filled.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    filled + rest
}

/// A mark that turns the text after it, or ends such a turn: in a value it could leave its isolation.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A rendered page as an answer.
pub fn html(page: &impl Template) -> Result<Response> {
    Ok(Html(page.render().map_err(Error::internal)?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_once_and_isolated() {
        for (text, expected) in [
            ("Hello {0}!", "Hello \u{2068}{1}\u{2069}!"),
            ("{1} and {0}", "\u{2068}b\u{2069} and \u{2068}{1}\u{2069}"),
            ("no {2} here", "no {2} here"),
            ("open { end", "open { end"),
        ] {
            assert_eq!(fill(text, &["{1}", "b"]), expected);
        }
        assert_eq!(fill("{0} is out", &["a\u{2069}\u{202e}b"]), "\u{2068}ab\u{2069} is out");
    }
}
