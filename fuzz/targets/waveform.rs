// SPDX-License-Identifier: Apache-2.0
//! The file of a waveform with a sum that fits: no panic, no more samples than there may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openwrt::crc32::crc32;
use powqutyd::storage::waveforms::{Recorded, MOST_SAMPLES};

fuzz_target!(|bytes: &[u8]| {
    let mut file = b"PQWAVE1\n".to_vec();
    file.extend_from_slice(bytes);
    file.extend(crc32(&file).to_le_bytes());
    if let Some(recorded) = Recorded::decode(&file) {
        assert!(recorded.samples.len() <= MOST_SAMPLES);
        assert!(recorded.rate > 0.0 && recorded.rate.is_finite());
    }
});
