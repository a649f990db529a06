//! Any bytes as a signed webhook's body: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use musubi::{db::Millis, webhook::receive};

fuzz_target!(|body: &[u8]| {
    let _ = receive::read_events(body, Millis(1_760_000_000_000));
});
