//! The files of `static/`, compiled in and named by content, so that browsers may keep them for good.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    error::{Error, Result},
    seal,
};

struct Asset {
    kind: &'static str,
    text: &'static str,
}

static ASSETS: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    HashMap::from([
        ("app.css", Asset { kind: "text/css; charset=utf-8", text: include_str!("../../static/app.css") }),
        ("app.js", Asset { kind: "text/javascript; charset=utf-8", text: include_str!("../../static/app.js") }),
        ("liff.js", Asset { kind: "text/javascript; charset=utf-8", text: include_str!("../../static/liff.js") }),
        ("watch.js", Asset { kind: "text/javascript; charset=utf-8", text: include_str!("../../static/watch.js") }),
        ("icon.svg", Asset { kind: "image/svg+xml", text: include_str!("../../static/icon.svg") }),
    ])
});

/// The URL of an asset; changes with its content.
pub fn url(name: &str) -> String {
    let version = ASSETS.get(name).map(|asset| seal::hash(asset.text)).unwrap_or_default();
    format!("/static/{name}?v={}", version.get(..10).unwrap_or_default())
}

/// `GET /static/{name}`
pub async fn show(Path(name): Path<String>) -> Result<Response> {
    let asset = ASSETS.get(name.as_str()).ok_or(Error::NotFound)?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.text).into_response())
}
