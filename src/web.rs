//! What every page shares: visitor and language, the shell, cookies, forms, headers, assets, error pages.

pub mod assets;
pub mod authorized;
pub mod body;
pub mod brand;
pub mod browser;
pub mod cookie;
pub mod csrf;
pub mod error_page;
pub mod form;
pub mod headers;
pub mod home;
pub mod limit;
pub mod locale;
pub mod moment;
pub mod page;
pub mod picture;
pub mod return_to;
pub mod security_txt;
pub mod texts;
pub mod visit;
