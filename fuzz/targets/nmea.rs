// SPDX-License-Identifier: Apache-2.0
//! Lines of a GPS receiver: no panic, a position on the Earth, and the same one however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powqutyd::gps::receiver::Receiver;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);

fuzz_target!(|input: (u8, &[u8])| {
    let (portion, bytes) = input;
    let whole = listen(bytes, bytes.len().max(1));
    let cut = listen(bytes, usize::from(portion) + 1);
    assert_eq!(whole.faults(), cut.faults());
    assert_eq!(whole.fix(NOW), cut.fix(NOW));
    assert_eq!(whole.is_talking(NOW), cut.is_talking(NOW));
    if let Some(fix) = whole.fix(NOW) {
        assert!(fix.latitude.abs() <= 90.0 && fix.longitude.abs() <= 180.0, "{fix:?}");
        assert!(fix.altitude.is_none_or(f64::is_finite) && fix.accuracy.is_none_or(f64::is_finite), "{fix:?}");
    }
});

fn listen(bytes: &[u8], portion: usize) -> Receiver {
    let mut receiver = Receiver::default();
    for bytes in bytes.chunks(portion) {
        receiver.push(bytes, NOW);
    }
    receiver
}
