//! What makes a menu file fit for LINE, each rule with the words that help to mend it.

use serde_json::Value;
use url::{Host, Url};

use super::{
    file::{Area, File, Size},
    image,
    rule::Rule,
};
use crate::flex::Mistake;

/// LINE says 1 MB; the smaller reading is safe under both.
const LARGEST_IMAGE: usize = 1_000_000;
const WIDTHS: std::ops::RangeInclusive<u32> = 800..=2500;
const LEAST_HEIGHT: u32 = 250;
const MOST_AREAS: usize = 20;
/// LINE counts grapheme clusters. Characters are never fewer, so what passes here passes there.
const LONGEST_BAR_TEXT: usize = 14;
const LONGEST_LABEL: usize = 20;
const LONGEST_URI: usize = 1000;

/// Checks a file and gives back LINE's object and the image's content type, or every mistake.
pub(super) fn check(
    file: &File,
    rendered: Result<Value, Vec<Mistake>>,
    bytes: &[u8],
) -> Result<(Value, &'static str), Vec<String>> {
    let mut mistakes = Vec::new();
    check_texts(file, &mut mistakes);
    check_size(file.size, &mut mistakes);
    check_areas(file, &mut mistakes);
    let content_type = check_image(file.size, bytes, &mut mistakes);
    let object = match rendered {
        Ok(object) => {
            check_actions(&object, &mut mistakes);
            Some(object)
        }
        Err(found) => {
            mistakes.extend(found.iter().map(Mistake::to_string));
            None
        }
    };
    match object {
        Some(object) if mistakes.is_empty() => Ok((object, content_type)),
        Some(_) | None => Err(mistakes),
    }
}

fn check_texts(file: &File, mistakes: &mut Vec<String>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if file.name.is_empty() || file.name.len() > 32 || !file.name.chars().all(plain) {
        mistakes.push("name: must be 1 to 32 of a-z, 0-9, - and _".into());
    }
    let length = file.chat_bar_text.chars().count();
    if !(1..=LONGEST_BAR_TEXT).contains(&length) {
        mistakes.push(format!("chat_bar_text: has {length} characters; LINE shows 1 to {LONGEST_BAR_TEXT}"));
    }
    if let Err(why) = (Rule { when: Some(file.when.clone()), ..Rule::default() }).check() {
        mistakes.push(why);
    }
}

fn check_size(size: Size, mistakes: &mut Vec<String>) {
    let Size { width, height } = size;
    if !WIDTHS.contains(&width) {
        mistakes.push(format!("size.width: {width} is not in {} to {}", WIDTHS.start(), WIDTHS.end()));
    }
    if height < LEAST_HEIGHT {
        mistakes.push(format!("size.height: {height} is less than {LEAST_HEIGHT}"));
    }
    // 1.45 in whole numbers.
    if u64::from(width) * 100 < u64::from(height) * 145 {
        mistakes.push(format!("size: {width} x {height} is too high; the width must be 1.45 times the height or more"));
    }
}

fn check_areas(file: &File, mistakes: &mut Vec<String>) {
    if file.areas.len() > MOST_AREAS {
        mistakes.push(format!("areas: there are {}; LINE takes {MOST_AREAS}", file.areas.len()));
    }
    for (index, Area { bounds, .. }) in file.areas.iter().enumerate() {
        let inside = |start: u32, length: u32, end: u32| length > 0 && start.saturating_add(length) <= end;
        if !inside(bounds.x, bounds.width, file.size.width) || !inside(bounds.y, bounds.height, file.size.height) {
            mistakes.push(format!("areas[{index}].bounds: is empty or reaches outside of the menu"));
        }
    }
}

fn check_image(size: Size, bytes: &[u8], mistakes: &mut Vec<String>) -> &'static str {
    if bytes.len() > LARGEST_IMAGE {
        mistakes.push(format!("image: has {} bytes; LINE takes 1 MB", bytes.len()));
    }
    let Some(image) = image::read(bytes) else {
        mistakes.push("image: is neither PNG nor JPEG".into());
        return "";
    };
    if (image.width, image.height) != (size.width, size.height) {
        mistakes.push(format!(
            "image: is {} x {}, the menu is {} x {}",
            image.width, image.height, size.width, size.height
        ));
    }
    image.content_type
}

/// The actions after rendering: links are what they will be at LINE.
fn check_actions(object: &Value, mistakes: &mut Vec<String>) {
    let areas = object["areas"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, area) in areas.iter().enumerate() {
        let action = &area["action"];
        let path = format!("areas[{index}].action");
        if action["label"].as_str().is_some_and(|label| label.chars().count() > LONGEST_LABEL) {
            mistakes.push(format!("{path}.label: is longer than {LONGEST_LABEL} characters"));
        }
        match action["type"].as_str() {
            None => mistakes.push(format!("{path}.type: is missing")),
            Some("uri") => check_uri(&path, action["uri"].as_str().unwrap_or_default(), mistakes),
            Some("postback" | "message" | "datetimepicker" | "richmenuswitch" | "clipboard") => {}
            Some(other) => mistakes.push(format!("{path}.type: {other:?} is not an action of rich menus")),
        }
    }
}

/// LINE opens https; loopback is the one exemption, for development.
fn check_uri(path: &str, uri: &str, mistakes: &mut Vec<String>) {
    let good = Url::parse(uri).is_ok_and(|url| match url.scheme() {
        "https" | "tel" => true,
        "http" => match url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    });
    if !good {
        mistakes.push(format!("{path}.uri: {uri:?} must be https (http is for localhost only) or tel"));
    }
    if uri.chars().count() > LONGEST_URI {
        mistakes.push(format!("{path}.uri: is longer than {LONGEST_URI} characters"));
    }
}
