//! The image of a rich menu: JPEG or PNG, at most 1 MB, as large as the menu says, uploaded once.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{bad_request, not_found, with_account};
use crate::simulator::{
    Simulator, answer,
    state::{Menu, MenuImage},
};

const MAX_BYTES: usize = 1024 * 1024;
const WRONG_SIZE: &str = "The image size is not allowed for richmenu";

pub(super) async fn upload(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("null").to_owned();
    with_account(&sim, &headers, |account| {
        let Some(menu) = account.menus.get_mut(&id) else {
            return not_found();
        };
        if kind != "image/png" && kind != "image/jpeg" {
            let text = format!("The content type, {kind}, is not supported");
            return answer::menu_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text);
        }
        if menu.image.is_some() {
            return bad_request("An image has already been uploaded to the richmenu");
        }
        let size = if kind == "image/png" { png_size(&body) } else { jpeg_size(&body) };
        if body.len() > MAX_BYTES || size.is_none() || size != menu_size(menu) {
            return bad_request(WRONG_SIZE);
        }
        menu.image = Some(MenuImage { content_type: kind, base64: STANDARD.encode(&body) });
        answer::ok(json!({}))
    })
}

pub(super) async fn download(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| {
        let image = account.menus.get(&id).and_then(|menu| menu.image.as_ref());
        image.and_then(bytes_of).unwrap_or_else(not_found)
    })
}

/// The image of a menu of any bot, for the phone.
pub(in crate::simulator) fn picture(sim: &Simulator, id: &str) -> Response {
    let state = sim.state();
    let menu = state.accounts.values().find_map(|account| account.menus.get(id));
    let image = menu.and_then(|menu| menu.image.as_ref());
    image.and_then(bytes_of).unwrap_or_else(not_found)
}

fn bytes_of(image: &MenuImage) -> Option<Response> {
    let bytes = STANDARD.decode(&image.base64).ok()?;
    Some(([(header::CONTENT_TYPE, image.content_type.clone())], bytes).into_response())
}

fn menu_size(menu: &Menu) -> Option<(u64, u64)> {
    let size = menu.object.get("size")?;
    Some((size.get("width").and_then(Value::as_u64)?, size.get("height")?.as_u64()?))
}

/// Width and height out of the first chunk.
fn png_size(bytes: &[u8]) -> Option<(u64, u64)> {
    let head = bytes.get(..24)?;
    if !head.starts_with(b"\x89PNG\r\n\x1a\n") || head.get(12..16)? != b"IHDR" {
        return None;
    }
    Some((number(head.get(16..20)?), number(head.get(20..24)?)))
}

/// Width and height out of the first frame header.
fn jpeg_size(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let (&marker, length) = (rest.get(1)?, number(rest.get(2..4)?));
        if rest.first() != Some(&0xff) || length < 2 {
            return None;
        }
        // The frame headers; C4, C8 and CC are tables and extensions.
        if (0xc0..=0xcf).contains(&marker) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return Some((number(rest.get(7..9)?), number(rest.get(5..7)?)));
        }
        rest = rest.get(2 + usize::try_from(length).ok()?..)?;
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum * 256 + u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::jpeg_size;

    #[test]
    fn a_jpeg_tells_its_size() {
        let bytes = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 11, 8, 0x03, 0x2a, 0x04, 0xe2, 1, 1, 1, 1];
        assert_eq!(jpeg_size(&bytes), Some((1250, 810)));
        assert_eq!(jpeg_size(&bytes[..12]), None);
    }
}
