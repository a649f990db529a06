//! The one test binary: a module per feature.

mod house;
mod link;
mod member;
mod simulator;
mod support;
