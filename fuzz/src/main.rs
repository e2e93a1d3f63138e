// SPDX-License-Identifier: Apache-2.0
//! libFuzzer around the target that the environment names (`FUZZ_TARGET`).
#![no_main]

use fuzz_targets::{find, Bounded};
use std::sync::OnceLock;

#[global_allocator]
static MEMORY: Bounded = Bounded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    let run = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target; see run.sh");
        find(&name).unwrap_or_else(|| panic!("no target `{name}`"))
    });
    Bounded::during(|| run(bytes));
});
