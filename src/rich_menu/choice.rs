//! Which menu a person should see: pure, over the applied set and what is known of the person.
//!
//! Rules are asked in the order of the set; the first one that holds decides. What a stranger would be given is the
//! channel's default at LINE, and whoever is given the same needs no menu of their own.

use super::{
    fact::{Facts, Person},
    rule::Compiled,
    set::{Applied, Set},
};
use crate::{app::App, db::Millis};

/// The applied set, its rules read once for all people, at a moment.
pub(super) struct Choices {
    pub set: Set,
    entries: Vec<Entry>,
    default_locale: String,
    /// The channel's default, as a place in the set.
    default: Option<usize>,
    /// When a rule's time opens or closes next.
    pub boundary_at: Option<Millis>,
    /// Whether a rule asks for what the company says of members.
    pub asks_member: bool,
}

/// A menu of a file, whatever its languages.
struct Entry {
    name: String,
    rule: Compiled,
    is_open: bool,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Overrule,
    Rule,
    /// No rule holds.
    Nothing,
}

impl Choices {
    /// Reads the rules; says what is wrong where one cannot be read.
    pub fn new(app: &App, set: Set, now: Millis) -> Result<Self, String> {
        let mut entries = Vec::<Entry>::new();
        let mut boundary_at: Option<Millis> = None;
        for menu in &set.menus {
            if entries.iter().any(|entry| entry.name == menu.name) {
                continue;
            }
            let rule = menu.rule.compile().map_err(|why| format!("{}: {why}", menu.name))?;
            let next = rule.window().next_boundary(now, &app.zone);
            boundary_at = boundary_at.into_iter().chain(next).min();
            let is_open = rule.window().is_open(now, &app.zone);
            entries.push(Entry { name: menu.name.clone(), rule, is_open });
        }
        let asks_member = entries.iter().any(|entry| entry.rule.asks_member());
        let default_locale = app.config.default_locale.clone();
        let mut choices = Self { set, entries, default_locale, default: None, boundary_at, asks_member };
        let stranger = choices.by_rule(&Facts::stranger(app)).and_then(|entry| choices.variant(&entry.name, &[]));
        choices.default = stranger.and_then(|menu| choices.set.menus.iter().position(|other| other == menu));
        Ok(choices)
    }

    /// What everybody sees who has no menu of their own.
    pub fn default(&self) -> Option<&Applied> {
        self.default.map(|place| &self.set.menus[place])
    }

    pub fn default_place(&self) -> Option<usize> {
        self.default
    }

    /// The menu that a person should see, and what decided it.
    pub fn of(&self, person: &Person) -> (Option<&Applied>, By) {
        let overruled = person.overrule.as_ref().and_then(|name| self.entries.iter().find(|entry| entry.name == *name));
        let (entry, by) = match (overruled, self.by_rule(&person.facts)) {
            (Some(entry), _) => (entry, By::Overrule),
            (None, Some(entry)) => (entry, By::Rule),
            (None, None) => return (None, By::Nothing),
        };
        (self.variant(&entry.name, &person.languages), by)
    }

    /// The menu of their own that a person should have; none where they should see the default.
    pub fn own(&self, person: &Person) -> Option<&Applied> {
        let default = self.default().map(|menu| menu.rich_menu_id.as_str());
        self.of(person).0.filter(|menu| Some(menu.rich_menu_id.as_str()) != default)
    }

    /// Whether what a person has at LINE is right, where they should have `own`: a tab of the same group is.
    pub fn is_right(&self, own: Option<&Applied>, at_line: Option<&str>) -> bool {
        let Some(at_line) = at_line else { return own.is_none() };
        let group = |id: &str| self.find(id).map(|menu| menu.group.as_str());
        own.is_some_and(|own| own.rich_menu_id == at_line)
            || own.or(self.default()).is_some_and(|wanted| group(at_line) == Some(wanted.group.as_str()))
    }

    pub fn find(&self, rich_menu_id: &str) -> Option<&Applied> {
        self.set.menus.iter().find(|menu| menu.rich_menu_id == rich_menu_id)
    }

    /// The menus by their names, in the order in which they are asked, each with whether its rule holds for a person, or
    /// why not.
    pub fn explain<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = (&'a str, Result<(), String>)> {
        self.entries.iter().map(|entry| {
            let holds = entry.is_open && entry.rule.holds(facts);
            let why = || match entry.is_open {
                false => "its time is not now".to_owned(),
                true => entry.rule.why_not(facts).unwrap_or_default(),
            };
            (entry.name.as_str(), if holds { Ok(()) } else { Err(why()) })
        })
    }

    fn by_rule(&self, facts: &Facts) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_open && entry.rule.holds(facts))
    }

    /// In the first language of a person's that there is, else in the company's, else the first.
    fn variant(&self, name: &str, languages: &[String]) -> Option<&Applied> {
        let company = std::slice::from_ref(&self.default_locale);
        self.set.variant(name, &[languages, company].concat())
    }
}
