//! LINE's rules for a rich menu object, looked at before LINE does: all that is wrong is told, each with its place.

use serde_json::Value;

use crate::line::message::check::{
    Mistake,
    action::{self, Place},
    found::{Found, Text},
};

const WIDTHS: std::ops::RangeInclusive<i64> = 800..=2500;
const LEAST_HEIGHT: i64 = 250;
const MOST_AREAS: usize = 20;
/// The path of the object, which is not told.
const ROOT: &str = "$";

/// Everything wrong with a menu; paths are such as `areas[0].action.label`.
pub fn check(menu: &Value) -> Vec<Mistake> {
    let mut found = Found::default();
    found.text(menu, ROOT, "name", Text::needed(300).by_grapheme());
    found.text(menu, ROOT, "chatBarText", Text::needed(14).by_grapheme());
    if menu.get("selected").is_none_or(|selected| !selected.is_boolean()) {
        found.add("$.selected", "must be true or false");
    }
    size(&mut found, menu);
    for (area, at) in found.list(menu, ROOT, "areas", 0..=MOST_AREAS) {
        bounds(&mut found, area, &at, menu);
        action::needed(&mut found, area, &at, Place::RichMenu);
    }
    let bare = |path: String| path.strip_prefix("$.").map(str::to_owned).unwrap_or(path);
    found.into_mistakes().into_iter().map(|one| Mistake { path: bare(one.path), ..one }).collect()
}

fn size(found: &mut Found, menu: &Value) {
    let Some((size, at)) = found.needed_object(menu, ROOT, "size") else { return };
    found.whole(size, &at, "width", WIDTHS);
    found.whole(size, &at, "height", LEAST_HEIGHT..=i64::from(i32::MAX));
    let side = |name| size.get(name).and_then(Value::as_i64).filter(|side| (1..=i64::from(i32::MAX)).contains(side));
    // 1.45 in whole numbers.
    if let Some((width, height)) = side("width").zip(side("height"))
        && width * 100 < height * 145
    {
        let text = format!("{width} x {height} is too high; the width must be 1.45 times the height or more");
        found.add(at, text);
    }
}

fn bounds(found: &mut Found, area: &Value, at: &str, menu: &Value) {
    let Some((bounds, at)) = found.needed_object(area, at, "bounds") else { return };
    for (name, length, least) in [("x", "width", 0), ("y", "height", 0), ("width", "", 1), ("height", "", 1)] {
        found.whole(bounds, &at, name, least..=i64::from(i32::MAX));
        let number = |name: &str| bounds.get(name).and_then(Value::as_i64);
        let end = number(name).zip(number(length)).and_then(|(start, length)| start.checked_add(length));
        let size = menu.get("size").and_then(|size| size.get(length)).and_then(Value::as_i64);
        if let Some((end, size)) = end.zip(size)
            && end > size
        {
            found.add(at.as_str(), format!("ends at {name} = {end}, outside of the menu's {length} of {size}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn menu() -> Value {
        json!({
            "size": { "width": 2500, "height": 843 },
            "selected": true,
            "name": "gold",
            "chatBarText": "Menu",
            "areas": [{
                "bounds": { "x": 0, "y": 0, "width": 2500, "height": 843 },
                "action": { "type": "postback", "label": "Account", "data": "a=1" },
            }],
        })
    }

    #[test]
    fn each_breach_is_told_with_its_place() {
        assert_eq!(check(&menu()), []);
        let switch = |alias: &str| json!({ "type": "richmenuswitch", "richMenuAliasId": alias, "data": "x" });
        for (pointer, value, place) in [
            ("/name", json!(""), Some("name")),
            ("/name", json!("あ".repeat(301)), Some("name")),
            // Fourteen families of seven code points each.
            ("/chatBarText", json!("👨‍👩‍👧‍👦".repeat(14)), None),
            ("/chatBarText", json!("👨‍👩‍👧‍👦".repeat(15)), Some("chatBarText")),
            ("/chatBarText", json!("か\u{3099}".repeat(14)), None),
            ("/selected", json!("yes"), Some("selected")),
            ("/size/width", json!(799), Some("size.width")),
            ("/size/width", json!(2501), Some("size.width")),
            ("/size/height", json!(249), Some("size.height")),
            ("/size/height", json!(1725), Some("size")),
            ("/size/height", json!(1724), None),
            ("/areas/0/bounds/x", json!(-1), Some("areas[0].bounds.x")),
            ("/areas/0/bounds/x", json!(1), Some("areas[0].bounds")),
            ("/areas/0/bounds/y", json!(1), Some("areas[0].bounds")),
            ("/areas/0/bounds/width", json!(0), Some("areas[0].bounds.width")),
            ("/areas/0/bounds/height", json!(1.5), Some("areas[0].bounds.height")),
            ("/areas/0/bounds/x", json!(i64::MAX), Some("areas[0].bounds.x")),
            ("/areas/0/action/label", json!("か\u{3099}".repeat(20)), None),
            ("/areas/0/action/label", json!("x".repeat(21)), Some("areas[0].action.label")),
            ("/areas/0/action/data", json!("x".repeat(301)), Some("areas[0].action.data")),
            ("/areas/0/action/displayText", json!("か\u{3099}".repeat(300)), Some("")),
            ("/areas/0/action/type", json!("camera"), Some("areas[0].action.type")),
            ("/areas/0/action/type", json!("other"), Some("areas[0].action.type")),
            ("/areas/0/action", switch("gold"), None),
            ("/areas/0/action", switch(&"x".repeat(33)), Some("areas[0].action.richMenuAliasId")),
            ("/areas/0/action", json!({ "type": "message", "text": "x".repeat(301) }), Some("areas[0].action.text")),
            ("/areas/0/action", json!({ "type": "uri", "uri": "ftp://x.example" }), Some("areas[0].action.uri")),
            ("/areas", json!(vec![menu()["areas"][0].clone(); 21]), Some("areas")),
        ] {
            let mut menu = menu();
            if place == Some("") {
                menu["areas"][0]["action"]["displayText"] = value.clone();
            } else {
                *menu.pointer_mut(pointer).unwrap() = value.clone();
            }
            let place = place.filter(|place| !place.is_empty());
            let found: Vec<String> = check(&menu).into_iter().map(|mistake| mistake.path).collect();
            // What cannot be a start cannot end anywhere either.
            assert_eq!(found.first().map(String::as_str), place, "{pointer} {value} {found:?}");
        }
    }
}
