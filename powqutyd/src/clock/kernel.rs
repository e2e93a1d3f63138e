// SPDX-License-Identifier: Apache-2.0
//! The clocks of the system, read together.

use super::reference::Reading;
use nix::time::{clock_gettime, ClockId};
use std::time::Duration;

/// Two readings of the monotonic clock further apart than this had something between them.
const CLOSE: Duration = Duration::from_micros(200);
const ATTEMPTS: usize = 5;

/// Time since some moment in the past; it never steps.
#[must_use]
pub fn monotonic() -> Duration {
    time_of(ClockId::CLOCK_MONOTONIC)
}

/// Reads the monotonic and the system clock at one moment, and whether the latter is synchronised.
#[must_use]
pub fn read() -> Reading {
    let mut best: Option<(Duration, Reading)> = None;
    let synchronised = is_synchronised();
    for _ in 0..ATTEMPTS {
        let before = monotonic();
        let utc = time_of(ClockId::CLOCK_REALTIME).as_secs_f64();
        let apart = monotonic().saturating_sub(before);
        let reading = Reading { monotonic: (before + apart / 2).as_secs_f64(), utc, synchronised };
        if best.as_ref().is_none_or(|(least, _)| apart < *least) {
            best = Some((apart, reading));
        }
        if apart < CLOSE {
            break;
        }
    }
    best.map(|(_, reading)| reading).unwrap_or_default()
}

fn time_of(clock: ClockId) -> Duration {
    // Neither call can fail: both clocks exist.
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// Whether some daemon disciplines the system clock, by what it has told the kernel.
#[allow(unsafe_code)] // adjtimex has no safe wrapper among the dependencies
fn is_synchronised() -> bool {
    // SAFETY: `timex` is a C struct of integers, for which all-zero bytes are a value; with `modes` 0 the call only
    // writes to it.
    let (result, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    result >= 0 && result != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_read_together() {
        let (first, second) = (read(), read());
        assert!(second.monotonic >= first.monotonic);
        let apart = (second.utc - second.monotonic) - (first.utc - first.monotonic);
        assert!(apart.abs() < 0.05, "{apart} s apart");
        assert!(first.utc > 1_577_836_800.0, "this machine has no clock");
    }
}
