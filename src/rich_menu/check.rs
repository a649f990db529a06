//! What makes a menu fit for LINE, beyond LINE's rules for the object (`line::rich_menu::check`).

use serde_json::Value;
use url::{Host, Url};

use super::image;
use crate::line::{message::check::Mistake, rich_menu};

/// LINE says 1 MB; the smaller reading is safe under both.
const LARGEST_IMAGE: usize = 1_000_000;

/// Everything wrong with LINE's object.
pub(super) fn object(menu: &Value) -> Vec<Mistake> {
    let mut mistakes = rich_menu::check(menu);
    let mut known = |path: &str, holder: Option<&Value>, names: &[&str]| {
        for name in holder.and_then(Value::as_object).into_iter().flat_map(serde_json::Map::keys) {
            if !names.contains(&name.as_str()) {
                let text = format!("is not known here; there are {}", names.join(", "));
                mistakes.push(Mistake { path: format!("{path}.{name}"), text });
            }
        }
    };
    known("size", menu.get("size"), &["width", "height"]);
    let areas = menu["areas"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (place, area) in areas.iter().enumerate() {
        let path = format!("areas[{place}]");
        known(&path, Some(area), &["bounds", "action"]);
        known(&format!("{path}.bounds"), area.get("bounds"), &["x", "y", "width", "height"]);
    }
    for (place, area) in areas.iter().enumerate() {
        let uri = area["action"]["uri"].as_str().unwrap_or_default();
        if Url::parse(uri).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url)) {
            let text = format!("{uri:?} must be https; plain http is for localhost only");
            mistakes.push(Mistake { path: format!("areas[{place}].action.uri"), text });
        }
    }
    mistakes
}

/// The image's content type, or everything wrong with it. It must be just as large as the menu.
pub(super) fn image(menu: &Value, bytes: &[u8]) -> Result<&'static str, Vec<String>> {
    let mut mistakes = Vec::new();
    if bytes.len() > LARGEST_IMAGE {
        mistakes.push(format!("has {} bytes; LINE takes 1 MB", bytes.len()));
    }
    let Some(image) = image::read(bytes) else {
        mistakes.push("is neither PNG nor JPEG".to_owned());
        return Err(mistakes);
    };
    let side = |name: &str| menu["size"][name].as_u64();
    if let Some((width, height)) = side("width").zip(side("height"))
        && (u64::from(image.width), u64::from(image.height)) != (width, height)
    {
        mistakes.push(format!("is {} x {}, the menu is {width} x {height}", image.width, image.height));
    }
    if mistakes.is_empty() { Ok(image.content_type) } else { Err(mistakes) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
