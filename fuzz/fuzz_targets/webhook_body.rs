//! Any bytes as a signed webhook's body: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use musubi::{db::Millis, webhook::unpack};

fuzz_target!(|body: &[u8]| {
    let _ = unpack::read_events(body, "body", Millis(1_760_000_000_000));
});
