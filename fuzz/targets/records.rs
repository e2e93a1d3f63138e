// SPDX-License-Identifier: Apache-2.0
//! A record file: reading ends, passes damage over, and what is understood means the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openwrt::crc32::crc32;
use powqutyd::records::codec::{decode, encode, Decoded, Records};
use powqutyd::records::Record;

fuzz_target!(|bytes: &[u8]| {
    let mut records = Records::new(bytes);
    let known = records.by_ref().map(Result::unwrap).count();
    assert!(records.valid_end() <= bytes.len() as u64);
    assert!(known <= bytes.len());

    // Past the check sum: kind, time and payload are the fuzzer's.
    let Some(length) = bytes.len().checked_sub(9).filter(|&length| length <= 4096) else { return };
    let mut frame = (length as u16).to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame.extend(crc32(&frame).to_le_bytes());
    let Decoded::Frame(record, size) = decode(&frame) else { panic!("a whole frame") };
    assert_eq!(size, frame.len());
    let Some(record) = record else { return };
    // Texts of a header may grow beyond a frame by their escapes; the daemon cuts its own.
    if matches!(record.record, Record::Header(_)) {
        return;
    }
    let mut again = Vec::new();
    encode(&record, &mut again);
    let Decoded::Frame(Some(same), _) = decode(&again) else { panic!("{record:?}") };
    let mut third = Vec::new();
    encode(&same, &mut third);
    assert_eq!(again, third, "{record:?}");
});
