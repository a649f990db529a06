//! What every page shares: visitor and language, the shell, cookies, forms, headers, assets, error pages.

pub mod assets;
pub mod cookie;
pub mod csrf;
pub mod error_page;
pub mod form;
pub mod headers;
pub mod home;
pub mod locale;
pub mod page;
pub mod picture;
pub mod return_to;
pub mod visit;
