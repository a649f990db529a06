//! The company's colours and logo, as the pages load them.

use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    config::{self, Color, Palette},
    error::{Error, Result},
    seal,
};

/// Read once at the start, named by content, so that browsers may keep it for good.
#[derive(Debug, Default)]
pub struct Brand {
    pub style: Option<File>,
    pub logo: Option<File>,
    /// On light and dark screens.
    pub palettes: Option<[Palette; 2]>,
}

#[derive(Debug)]
pub struct File {
    pub url: String,
    kind: &'static str,
    bytes: Vec<u8>,
}

impl Brand {
    /// The logo cannot be read where a mistake of the configuration says so.
    pub fn new(brand: &config::Brand) -> Result<Self, String> {
        Ok(Self {
            style: brand
                .color
                .map(|color| File::new("style.css", "text/css; charset=utf-8", style(color).into_bytes())),
            logo: brand.read_logo()?.map(|(kind, bytes)| File::new("logo", kind, bytes)),
            palettes: brand.color.map(|color| [Palette::light(color), Palette::dark(color)]),
        })
    }
}

impl File {
    fn new(name: &str, kind: &'static str, bytes: Vec<u8>) -> Self {
        let version = seal::hash(&bytes);
        Self { url: format!("/brand/{name}?v={}", version.get(..10).unwrap_or_default()), kind, bytes }
    }
}

fn style(color: Color) -> String {
    let rules = |Palette { brand, hover, press, on_brand, tint }: Palette| {
        format!(
            ":root {{ --brand: {brand}; --brand-hover: {hover}; --brand-press: {press}; --on-brand: {on_brand}; \
             --brand-tint: {tint}; --link: {brand}; --focus: {brand}; --cord-a: {brand}; }}"
        )
    };
    let (light, dark) = (rules(Palette::light(color)), rules(Palette::dark(color)));
    format!("{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n")
}

/// `GET /brand/{name}`
pub async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Response> {
    let file = match name.as_str() {
        "style.css" => app.brand.style.as_ref(),
        "logo" => app.brand.logo.as_ref(),
        _ => None,
    };
    let file = file.ok_or(Error::NotFound)?;
    let headers = [(header::CONTENT_TYPE, file.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, file.bytes.clone()).into_response())
}
