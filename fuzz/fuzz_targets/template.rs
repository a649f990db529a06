//! Any bytes as a message template and its data: refused with a reason, or rendered to messages, never a panic.
#![no_main]

#[path = "../play/template.rs"]
mod play;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    play::play(bytes);
});
