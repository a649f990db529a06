//! One test binary: each feature in a file of its own.

mod message;
mod rich_menu;
mod stub;
