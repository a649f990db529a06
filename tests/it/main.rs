//! The one test binary: a module per feature.

mod simulator;
