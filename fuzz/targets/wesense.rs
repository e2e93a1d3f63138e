// SPDX-License-Identifier: Apache-2.0
//! The oscilloscope's byte stream: no panic, no more samples than bytes, and the same items however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powqutyd::source::wesense::frame::{Decoder, Faults, Item};

fuzz_target!(|input: (u8, &[u8])| {
    let (portion, bytes) = input;
    let (whole, faults) = decode(bytes, bytes.len().max(1));
    let (cut, cut_faults) = decode(bytes, usize::from(portion) + 1);
    assert_eq!(whole, cut);
    assert_eq!(faults, cut_faults);
    let frames = whole.iter().filter(|item| item.len() > 16).count();
    assert!(frames * 134 <= bytes.len());
});

fn decode(bytes: &[u8], portion: usize) -> (Vec<String>, Faults) {
    let mut items = Vec::new();
    let mut decoder = Decoder::default();
    let mut take = |item: Item<'_>| {
        items.push(match item {
            Item::Frame { missing, samples } => format!("frame {missing:?} {samples:?}"),
            Item::Calibration { .. } => "calibration".to_owned(),
            Item::Acknowledged => "ack".to_owned(),
        });
    };
    for bytes in bytes.chunks(portion) {
        decoder.push(bytes, &mut take);
    }
    decoder.silence(&mut take);
    (items, decoder.faults())
}
