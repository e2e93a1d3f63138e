// SPDX-License-Identifier: Apache-2.0
//! A block of a raw recording with a sum that fits: no panic, no more samples than there is room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openwrt::crc32::crc32;
use powqutyd::raw::format::{decode, BLOCK, MAGIC, MOST_SAMPLES};

fuzz_target!(|bytes: &[u8]| {
    let mut block = [0; BLOCK];
    let length = bytes.len().min(BLOCK - 8);
    block[8..8 + length].copy_from_slice(&bytes[..length]);
    block[..4].copy_from_slice(&MAGIC);
    let sum = crc32(&block[8..]);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
    if let Some(block) = decode(&block) {
        assert!(block.volts.len() <= MOST_SAMPLES);
        assert!(block.place.rate.is_finite() && block.place.nominal_rate.is_finite());
    }
});
