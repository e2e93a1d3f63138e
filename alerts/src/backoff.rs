// SPDX-License-Identifier: Apache-2.0
//! How long to wait after a failure.

use std::time::Duration;

const FIRST_MS: u64 = 2_000;
const LONGEST_MS: u64 = 15 * 60 * 1000;

/// Doubles from two seconds to fifteen minutes, spread by ±20 % with `random` (0..1), never above the fifteen minutes.
pub(crate) fn delay(failures_before: u32, random: f64) -> Duration {
    let middle = (FIRST_MS << failures_before.min(16)).min(LONGEST_MS);
    Duration::from_millis(middle)
        .mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
        .min(Duration::from_millis(LONGEST_MS))
}

/// A number from 0 to 1 that differs between calls and devices; good enough to spread retries.
pub(crate) fn random() -> f64 {
    f64::from(random_u32()) / f64::from(u32::MAX)
}

/// Random bits from the seed the standard library takes for its hash tables.
#[allow(clippy::cast_possible_truncation)] // half of the bits are enough
pub(crate) fn random_u32() -> u32 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_quarter_of_an_hour() {
        assert_eq!(delay(0, 0.5), Duration::from_secs(2));
        assert_eq!(delay(1, 0.5), Duration::from_secs(4));
        assert_eq!(delay(8, 0.5), Duration::from_secs(512));
        for failures in [9, 16, u32::MAX] {
            assert_eq!(delay(failures, 1.0), Duration::from_secs(900));
            assert_eq!(delay(failures, 0.0), Duration::from_secs(720));
        }
    }
}
