//! What is to be done so that a channel has the menus of the files: the files, what was applied before and what LINE has
//! go in, the steps come out. Nothing is asked here, and nothing done.

mod words;

use super::{
    Menu,
    at_line::AtLine,
    file::{label, name_of_ours},
    set::{Applied, Set},
    store::Made,
};
use crate::line::rich_menu::{Alias, DefaultMenu};

/// What is known of a channel here.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub set: Option<Set>,
    pub made: Vec<Made>,
    /// The aliases we made.
    pub aliases: Vec<String>,
}

/// The difference, in the order in which it is carried out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// LINE's id of each menu, where LINE has it already.
    pub ids: Vec<Option<String>>,
    /// Menus that stay as they are.
    same: Vec<String>,
    /// Menus of which only the files' own part changes: rule, alias, group.
    rules: Vec<String>,
    is_order_changed: bool,
    /// Aliases that are somebody else's; with one of them nothing is done.
    pub conflicts: Vec<String>,
    left_alone: Vec<String>,
}

/// Places are those of the list of menus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Create {
        place: usize,
        label: String,
        why: Why,
    },
    /// A menu that was made, and perhaps did not get its image.
    Finish {
        place: usize,
        label: String,
        rich_menu_id: String,
    },
    Alias {
        alias: String,
        place: usize,
        label: String,
        is_new: bool,
    },
    /// None: nobody in particular sees a menu.
    Default {
        menu: Option<(usize, String)>,
        before: String,
    },
    Unalias {
        alias: String,
    },
    Delete {
        rich_menu_id: String,
        name: String,
        is_former: bool,
    },
}

/// Why a menu is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    New,
    Vanished,
    Picture,
    Content,
    Both,
}

/// The steps for `menus`, of which the one at `default` is a stranger's.
pub(super) fn plan(menus: &[Menu], default: Option<usize>, known: &Known, at_line: &AtLine) -> Plan {
    let mut plan = Plan { ids: menus.iter().map(|menu| find(menu, known, at_line)).collect(), ..Plan::default() };
    for (place, menu) in menus.iter().enumerate() {
        plan.add_menu(place, menu, known);
    }
    for (place, menu) in menus.iter().enumerate() {
        plan.add_alias(place, menu, known, at_line);
    }
    plan.add_default(menus, default, at_line);
    plan.add_ends(menus, known, at_line);
    if let Some(set) = &known.set {
        let (before, after) =
            (names(set.menus.iter().map(|menu| &menu.name)), names(menus.iter().map(|menu| &menu.name)));
        let stay = |one: &[String], other: &[String]| names(one.iter().filter(|name| other.contains(name)));
        plan.is_order_changed = stay(&before, &after) != stay(&after, &before);
    }
    plan
}

/// Names of files, each once.
fn names<'a>(all: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = all.cloned().collect();
    names.dedup();
    names
}

/// The id of a menu at LINE: the one that we know, else one that a crash left.
fn find(menu: &Menu, known: &Known, at_line: &AtLine) -> Option<String> {
    let name = menu.name_at_line();
    let mut ids: Vec<&String> =
        at_line.menus.iter().filter(|listed| listed.name == name).map(|listed| &listed.rich_menu_id).collect();
    let is_known = |id: &String| known.made.iter().any(|made| made.rich_menu_id == *id);
    ids.sort_by_key(|id| !is_known(id));
    ids.first().map(|id| (*id).clone())
}

impl Plan {
    /// Whether LINE is asked for anything.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.conflicts.is_empty()
    }

    /// Whether the files say what was applied, and LINE has it.
    pub fn is_applied(&self) -> bool {
        self.is_empty() && self.rules.is_empty() && !self.is_order_changed
    }

    /// How many menus are made, and how many deleted.
    pub fn counts(&self) -> (usize, usize) {
        let count = |is: fn(&Step) -> bool| self.steps.iter().filter(|step| is(step)).count();
        (count(|step| matches!(step, Step::Create { .. })), count(|step| matches!(step, Step::Delete { .. })))
    }

    fn add_menu(&mut self, place: usize, menu: &Menu, known: &Known) {
        let label = menu.label();
        let applied = known.set.as_ref().and_then(|set| {
            set.menus.iter().find(|applied| applied.name == menu.name && applied.language == menu.language)
        });
        match &self.ids[place] {
            None => self.steps.push(Step::Create { place, label, why: why(menu, applied) }),
            Some(id) if !known.made.iter().any(|made| made.rich_menu_id == *id && made.is_whole) => {
                self.steps.push(Step::Finish { place, label, rich_menu_id: id.clone() });
            }
            Some(id) => {
                let after = menu.applied(id);
                let is_same = |before: &Applied| {
                    (&before.rule, &before.alias, &before.group) == (&after.rule, &after.alias, &after.group)
                };
                let list = if applied.is_some_and(is_same) { &mut self.same } else { &mut self.rules };
                list.push(label);
            }
        }
    }

    fn add_alias(&mut self, place: usize, menu: &Menu, known: &Known, at_line: &AtLine) {
        let Some(alias) = &menu.alias else { return };
        let found = at_line.aliases.iter().find(|one| one.rich_menu_alias_id == *alias);
        let step = |is_new| Step::Alias { alias: alias.clone(), place, label: menu.label(), is_new };
        match found.map(|found| (found, whose(found, known, at_line))) {
            None => self.steps.push(step(true)),
            Some((found, _)) if self.ids[place].as_ref() == Some(&found.rich_menu_id) => {}
            Some((_, Whose::Ours)) => self.steps.push(step(false)),
            Some((_, Whose::Others(holder))) => self.conflicts.push(format!(
                "alias {alias:?} of {} leads to {holder} at LINE, which is not Musubi's: \
                 choose another alias in the file, or delete that one at LINE",
                menu.label()
            )),
        }
    }

    fn add_default(&mut self, menus: &[Menu], default: Option<usize>, at_line: &AtLine) {
        let (before, is_ours) = match &at_line.default {
            DefaultMenu::None => ("none".to_owned(), false),
            DefaultMenu::Foreign => ("one of LINE Official Account Manager".to_owned(), false),
            DefaultMenu::Menu(id) => match at_line.name_of(id) {
                Some(name) => (name_of_ours(name).unwrap_or(name).to_owned(), name_of_ours(name).is_some()),
                None => ("one that LINE does not list".to_owned(), false),
            },
        };
        let menu = default.and_then(|place| Some((place, menus.get(place)?.label())));
        let is_there = match (&menu, &at_line.default) {
            (Some((place, _)), DefaultMenu::Menu(id)) => self.ids[*place].as_ref() == Some(id),
            (Some(_), DefaultMenu::None | DefaultMenu::Foreign) => false,
            // What others set is theirs.
            (None, _) => !is_ours,
        };
        if !is_there {
            self.steps.push(Step::Default { menu, before });
        }
    }

    /// What is ours and no longer wanted goes last; what is not ours is left alone.
    fn add_ends(&mut self, menus: &[Menu], known: &Known, at_line: &AtLine) {
        let wanted = |alias: &Alias| menus.iter().any(|menu| menu.alias.as_ref() == Some(&alias.rich_menu_alias_id));
        for alias in at_line.aliases.iter().filter(|alias| !wanted(alias)) {
            let name = &alias.rich_menu_alias_id;
            match whose(alias, known, at_line) {
                Whose::Ours if known.aliases.contains(name) => self.steps.push(Step::Unalias { alias: name.clone() }),
                Whose::Ours | Whose::Others(_) => self.left_alone.push(format!("alias {name:?}")),
            }
        }
        for listed in &at_line.menus {
            match name_of_ours(&listed.name) {
                None => self.left_alone.push(format!("menu {:?}", listed.name)),
                Some(_) if self.ids.iter().flatten().any(|id| *id == listed.rich_menu_id) => {}
                Some(name) => self.steps.push(Step::Delete {
                    rich_menu_id: listed.rich_menu_id.clone(),
                    name: name.to_owned(),
                    is_former: menus.iter().any(|menu| menu.name == name),
                }),
            }
        }
    }
}

enum Whose {
    Ours,
    Others(String),
}

/// An alias is ours where it leads to a menu of ours. Where it leads to nothing, it is ours if we made it.
fn whose(alias: &Alias, known: &Known, at_line: &AtLine) -> Whose {
    match at_line.name_of(&alias.rich_menu_id) {
        Some(name) if name_of_ours(name).is_some() => Whose::Ours,
        Some(name) => Whose::Others(format!("the menu {name:?}")),
        None if known.aliases.contains(&alias.rich_menu_alias_id) => Whose::Ours,
        None => Whose::Others("a menu that LINE does not list".to_owned()),
    }
}

fn why(menu: &Menu, applied: Option<&Applied>) -> Why {
    let Some(applied) = applied else { return Why::New };
    let halves =
        |hash: &str| hash.split_at_checked(hash.len() / 2).map(|(object, image)| (object.to_owned(), image.to_owned()));
    match (halves(&applied.hash), halves(&menu.hash)) {
        _ if applied.hash == menu.hash => Why::Vanished,
        (Some(before), Some(after)) if before.0 == after.0 => Why::Picture,
        (Some(before), Some(after)) if before.1 == after.1 => Why::Content,
        _ => Why::Both,
    }
}

/// Labels of menus in which a set differs from others; empty where it does not.
pub(super) fn differences(set: &Set, menus: &[Menu]) -> Vec<String> {
    let after: Vec<Applied> = menus.iter().map(|menu| menu.applied("")).collect();
    let before: Vec<Applied> =
        set.menus.iter().map(|menu| Applied { rich_menu_id: String::new(), ..menu.clone() }).collect();
    let missing = |one: &[Applied], other: &[Applied]| -> Vec<String> {
        let alone = one.iter().filter(|menu| !other.contains(menu));
        alone.map(|menu| label(&menu.name, &menu.language)).collect()
    };
    let mut differing = missing(&after, &before);
    differing.extend(missing(&before, &after));
    differing.sort();
    differing.dedup();
    if differing.is_empty() && before != after {
        differing.push("the order of the rules".to_owned());
    }
    differing
}

#[cfg(test)]
mod tests;
