//! Pictures of LINE users: shown only from where LINE keeps them.

use url::Url;

use crate::app::App;

/// `url` where it lies on LINE's picture host, else none; the page then shows a placeholder.
pub fn allowed(app: &App, url: Option<&str>) -> Option<String> {
    let url = Url::parse(url?).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    (url.origin() == app.config.line.pictures.origin() && is_plain).then(|| url.to_string())
}
