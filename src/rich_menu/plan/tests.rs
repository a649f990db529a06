//! The plan as a table: what is in the files, what was applied, what LINE has, and the lines that follow.

use std::borrow::Cow;

use serde_json::json;

use super::*;
use crate::{line::rich_menu::Listed, rich_menu::rule::Rule};

/// A file: name, language, hash, alias. What it says of who sees it is its name.
type File<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

const HOME: File<'static> = ("home", "", "aaaabbbb", Some("home"));
const CLUB: File<'static> = ("club", "", "ccccdddd", None);

fn menu((name, language, hash, alias): File<'_>) -> Menu {
    Menu {
        name: name.to_owned(),
        language: language.to_owned(),
        hash: hash.to_owned(),
        alias: alias.map(str::to_owned),
        group: name.to_owned(),
        rule: Rule { when: Some(name.to_owned()), ..Rule::default() },
        object: json!({}),
        content_type: "image/png".to_owned(),
        image: Cow::Borrowed(&[]),
    }
}

/// An id that tells whose it is.
fn id((name, language, hash, _): File<'_>) -> String {
    format!("id-{name}{language}-{hash}")
}

/// Applied before, and known with its image.
fn known(files: &[File<'_>]) -> Known {
    Known {
        set: Some(Set { version: 1, menus: files.iter().map(|&file| menu(file).applied(&id(file))).collect() }),
        made: files.iter().map(|&file| Made { rich_menu_id: id(file), is_whole: true }).collect(),
        aliases: files.iter().filter_map(|file| file.3.map(str::to_owned)).collect(),
    }
}

/// As LINE is after these were applied; the default is the first.
fn at_line(files: &[File<'_>]) -> AtLine {
    let listed = |&file: &File<'_>| Listed { rich_menu_id: id(file), name: menu(file).name_at_line() };
    AtLine {
        menus: files.iter().map(listed).collect(),
        aliases: files.iter().filter_map(|&file| Some(alias(file.3?, &id(file)))).collect(),
        default: files.first().map_or(DefaultMenu::None, |&file| DefaultMenu::Menu(id(file))),
    }
}

fn alias(name: &str, rich_menu_id: &str) -> Alias {
    Alias { rich_menu_alias_id: name.to_owned(), rich_menu_id: rich_menu_id.to_owned() }
}

fn lines(files: &[File<'_>], known: &Known, at_line: &AtLine) -> Vec<String> {
    let menus: Vec<Menu> = files.iter().copied().map(menu).collect();
    let default = (!menus.is_empty()).then_some(0);
    plan(&menus, default, known, at_line).to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_fresh_channel() {
    assert_eq!(
        lines(&[HOME, CLUB], &Known::default(), &at_line(&[])),
        ["+ home", "+ club", "+ alias home → home", "~ default → home (now: none)"]
    );
    assert_eq!(lines(&[], &Known::default(), &at_line(&[])), Vec::<String>::new());
}

#[test]
fn nothing_to_do() {
    let menus: Vec<Menu> = [HOME, CLUB].map(menu).into();
    let plan = plan(&menus, Some(0), &known(&[HOME, CLUB]), &at_line(&[HOME, CLUB]));
    assert!(plan.is_applied() && plan.is_empty());
    assert_eq!(plan.to_string(), "= home\n= club");
    assert_eq!(plan.ids, [Some(id(HOME)), Some(id(CLUB))]);
}

#[test]
fn changes_of_one_file() {
    let before = [HOME, CLUB];
    for (file, line) in [
        (("home", "", "aaaaeeee", Some("home")), "~ home: picture changed"),
        (("home", "", "eeeebbbb", Some("home")), "~ home: texts or areas changed"),
        (("home", "", "eeeeffff", Some("home")), "~ home: picture, and texts or areas changed"),
    ] {
        assert_eq!(
            lines(&[file, CLUB], &known(&before), &at_line(&before)),
            [line, "~ alias home → home", "~ default → home (now: home)", "- home, as it was", "= club"]
        );
    }
}

#[test]
fn renamed_removed_and_in_languages() {
    let renamed = ("start", "", "aaaabbbb", Some("home"));
    assert_eq!(
        lines(&[renamed, CLUB], &known(&[HOME, CLUB]), &at_line(&[HOME, CLUB])),
        ["+ start", "~ alias home → start", "~ default → start (now: home)", "- home", "= club"]
    );
    assert_eq!(
        lines(&[CLUB], &known(&[HOME, CLUB]), &at_line(&[HOME, CLUB])),
        ["~ default → club (now: home)", "- alias home", "- home", "= club"]
    );
    assert_eq!(lines(&[], &known(&[HOME]), &at_line(&[HOME])), ["- default (now: home)", "- alias home", "- home"]);
    let english = ("home", "en", "aaaagggg", Some("home-en"));
    assert_eq!(
        lines(&[HOME, english, CLUB], &known(&[HOME, CLUB]), &at_line(&[HOME, CLUB])),
        ["+ home (en)", "+ alias home-en → home (en)", "= home", "= club"]
    );
}

#[test]
fn what_only_we_know_of() {
    let mut before = known(&[HOME, CLUB]);
    if let Some(set) = &mut before.set {
        set.menus[1].rule.when = Some("something else".to_owned());
    }
    let menus: Vec<Menu> = [HOME, CLUB].map(menu).into();
    let plan = plan(&menus, Some(0), &before, &at_line(&[HOME, CLUB]));
    assert_eq!(plan.to_string(), "~ club: who sees it, or how it is reached\n= home");
    assert!(plan.is_empty() && !plan.is_applied(), "LINE is asked for nothing");
    let mut there = at_line(&[HOME, CLUB]);
    there.default = DefaultMenu::Menu(id(CLUB));
    assert_eq!(
        lines(&[CLUB, HOME], &known(&[HOME, CLUB]), &there),
        ["~ the order in which rules are asked", "= club", "= home"]
    );
}

#[test]
fn what_a_crash_or_a_hand_left() {
    let all = [HOME, CLUB];
    let mut there = at_line(&all);
    there.menus.remove(0);
    assert_eq!(
        lines(&all, &known(&all), &there),
        [
            "+ home: it is gone at LINE, and is made again",
            "~ alias home → home",
            "~ default → home (now: one that LINE does not list)",
            "= club"
        ],
        "deleted by hand"
    );
    let mut there = at_line(&all);
    (there.aliases, there.default) = (Vec::new(), DefaultMenu::None);
    assert_eq!(
        lines(&all, &known(&all), &there),
        ["+ alias home → home", "~ default → home (now: none)", "= home", "= club"]
    );
    let mut before = known(&all);
    before.made[1].is_whole = false;
    assert_eq!(lines(&all, &before, &at_line(&all)), ["~ club: begun before, is finished", "= home"]);
    before.made.remove(1);
    assert_eq!(lines(&all, &before, &at_line(&all)), ["~ club: begun before, is finished", "= home"], "not recorded");
    let mut there = at_line(&all);
    there.menus.insert(0, Listed { rich_menu_id: "id-double".to_owned(), name: menu(CLUB).name_at_line() });
    assert_eq!(lines(&all, &known(&all), &there), ["- club, as it was", "= home", "= club"], "made twice");
    let old = ("home", "", "00000000", None);
    let there = at_line(&[HOME, CLUB, old]);
    assert_eq!(lines(&all, &known(&all), &there), ["- home, as it was", "= home", "= club"], "not deleted yet");
}

#[test]
fn what_is_somebody_elses() {
    let all = [HOME, CLUB];
    let summer = Listed { rich_menu_id: "id-summer".to_owned(), name: "Summer".to_owned() };
    let mut there = at_line(&all);
    there.menus.push(summer.clone());
    there.aliases.push(alias("summer", "id-summer"));
    there.aliases.push(alias("winter", "id-nowhere"));
    there.aliases.push(alias("short", &id(CLUB)));
    let left = [
        "  left alone: alias \"summer\"",
        "  left alone: alias \"winter\"",
        "  left alone: alias \"short\"",
        "  left alone: menu \"Summer\"",
    ];
    assert_eq!(lines(&all, &known(&all), &there), [&["= home", "= club"][..], &left].concat());

    for (target, ours, conflict) in [
        ("id-summer", true, Some("the menu \"Summer\"")),
        ("id-summer", false, Some("the menu \"Summer\"")),
        ("id-nowhere", false, Some("a menu that LINE does not list")),
        // Ours, and its menu was deleted.
        ("id-nowhere", true, None),
        // Made by another installation of ours.
        (&id(CLUB), false, None),
    ] {
        let mut there = at_line(&all);
        there.menus.push(summer.clone());
        there.aliases = vec![alias("home", target)];
        let mut before = known(&all);
        before.aliases.retain(|_| ours);
        let menus: Vec<Menu> = all.map(menu).into();
        let plan = plan(&menus, Some(0), &before, &there);
        let told = plan.conflicts.first().map(|told| told.contains(conflict.unwrap_or("nothing")));
        assert_eq!(told, conflict.map(|_| true), "{target} {ours}: {plan}");
        assert_eq!(plan.steps.is_empty(), conflict.is_some(), "{target} {ours}: {plan}");
    }

    for (default, words) in [
        (DefaultMenu::Menu("id-summer".to_owned()), "Summer"),
        (DefaultMenu::Foreign, "one of LINE Official Account Manager"),
    ] {
        let mut there = at_line(&all);
        there.menus.push(summer.clone());
        there.default = default;
        let menus: Vec<Menu> = all.map(menu).into();
        let with = plan(&menus, Some(0), &known(&all), &there).to_string();
        assert!(with.starts_with(&format!("~ default → home (now: {words})")), "{with}");
        let without = plan(&menus, None, &known(&all), &there);
        assert!(without.steps.is_empty(), "what others set is theirs: {without}");
    }
}
