//! What may be wrong with an endpoint, each mistake at its place.

use url::Url;

use super::New;
use crate::{app::App, hook::Mistake, hook_event::Kind};

const LONGEST_URL: usize = 2000;
const LONGEST_DESCRIPTION: usize = 200;

pub(super) fn url(app: &App, text: &str, mistakes: &mut Vec<Mistake>) {
    let problem = match Url::parse(text) {
        _ if text.len() > LONGEST_URL => Some(format!("must not be longer than {LONGEST_URL} bytes")),
        _ if text.chars().any(|c| c.is_control() || c.is_whitespace()) => Some("must be a URL".to_owned()),
        Ok(url) => app.egress.check(&url).err().map(|forbidden| {
            format!("{forbidden}; hooks.allow_networks in the configuration opens networks of the company's own")
        }),
        Err(error) => Some(format!("must be a URL: {error}")),
    };
    mistakes.extend(problem.map(|what| Mistake::new("url", what)));
}

pub(super) fn description(text: &str, mistakes: &mut Vec<Mistake>) {
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        let what = format!("must be {LONGEST_DESCRIPTION} characters at most, without control characters");
        mistakes.push(Mistake::new("description", what));
    }
}

pub(super) fn types(types: &[String], forward_raw: bool, mistakes: &mut Vec<Mistake>) {
    if forward_raw && !types.is_empty() {
        mistakes.push(Mistake::new("types", "must be empty where forward_raw is true: only LINE's bodies go there"));
    }
    for (place, word) in types.iter().enumerate().take(100) {
        if !Kind::CHOSEN.iter().any(|kind| kind.word() == word) {
            let known: Vec<&str> = Kind::CHOSEN.iter().map(|kind| kind.word()).collect();
            mistakes.push(Mistake::new(format!("types[{place}]"), format!("must be one of {}", known.join(", "))));
        }
    }
}

/// The provider that an endpoint is limited to; a channel has its own.
pub(super) fn place<'a>(app: &'a App, new: &'a New, mistakes: &mut Vec<Mistake>) -> Option<&'a str> {
    let channel = new.channel.as_ref().map(|name| app.config.channel.get(name));
    if channel.is_some_and(|found| found.is_none()) {
        mistakes.push(Mistake::new("channel", "there is no such channel"));
    }
    if new.provider.as_ref().is_some_and(|name| !app.config.provider.contains_key(name)) {
        mistakes.push(Mistake::new("provider", "there is no such provider"));
    }
    let owner = channel.flatten().map(|channel| channel.provider.as_str());
    if let (Some(owner), Some(named)) = (owner, &new.provider)
        && owner != named
    {
        mistakes.push(Mistake::new("channel", "is of another provider"));
    }
    owner.or(new.provider.as_deref())
}
