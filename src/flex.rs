//! Message templates: LINE message objects as JSON whose texts hold `{{path.to.value | filter: argument}}`.
//!
//! A template is compiled once into pieces of JSON text and the places of values between them, so that rendering only
//! appends. Values are escaped where they stand, and only once: a value can neither change the tree's shape nor bring
//! placeholders of its own. In a link a value cannot choose where the link leads: scheme and host are the template's,
//! unless the template hands the whole beginning to one placeholder.
//!
//! What may be written in a template is told in `docs/templates.md`.
//!
//! - `compile`: the JSON tree to a [`Template`], or every mistake with its JSON path; `syntax`: what stands in texts
//! - `render`: a template and data to JSON text; `filter`, `moment`: how values are written; `link`: where links lead
//! - `schema`: what data a template asks for; `catalogue`: the files, shipped and the company's
//! - `preview`: a Flex message as HTML, for looking at

mod catalogue;
mod compile;
mod filter;
mod link;
mod moment;
pub mod preview;
mod render;
mod schema;
mod syntax;

use std::fmt;

pub use self::{
    catalogue::{Catalogue, File, LANGUAGES, Mistakes, language, list},
    compile::Template,
    moment::day_in_words,
    render::{Context, RenderError},
};

/// What is wrong at one place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Such as `messages[0].contents.body`.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.text),
            path => write!(f, "{path}: {}", self.text),
        }
    }
}

/// Fills a tree that is no list of messages, such as a rich menu.
pub fn fill(
    tree: &serde_json::Value,
    data: &serde_json::Value,
    context: &Context<'_>,
) -> Result<serde_json::Value, Vec<Mistake>> {
    let whole = |text: String| vec![Mistake { path: String::new(), text }];
    let text = Template::tree(tree)?.render(data, context).map_err(|error| whole(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| whole(error.to_string()))
}

#[cfg(test)]
mod tests;
