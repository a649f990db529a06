//! A page that is open in the browser of another app (Instagram, Facebook, …): LINE may not come back there, so the person is
//! told how to open the page in their own browser, before they start.

use super::user_agent::{self, InApp};
use crate::{
    app::App,
    web::{page::Page, visit::Visit},
};

/// What `templates/member/other_app.html` shows.
pub struct OtherApp {
    pub text: String,
    /// Opens the page in the browser of the person's choice, where the system has such addresses.
    pub open: Option<String>,
}

impl OtherApp {
    /// The hint for this visit, where it needs one.
    pub fn of(page: &Page, app: &App, visit: &Visit) -> Option<Self> {
        let InApp { app: name, is_android } = user_agent::in_app(&visit.user_agent)?;
        let name = name.unwrap_or_else(|| page.t("other_app.some"));
        Some(if is_android {
            Self { text: page.with("other_app.android", &[name]), open: Some(intent(app, &visit.here)) }
        } else {
            Self { text: page.with("other_app.ios", &[name]), open: None }
        })
    }
}

/// Android's address for "show this page in the browser".
fn intent(app: &App, path: &str) -> String {
    let url = app.config.url(path);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    format!(
        "intent://{rest}#Intent;scheme={scheme};action=android.intent.action.VIEW;category=android.intent.category.BROWSABLE;end"
    )
}
