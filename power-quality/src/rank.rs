// SPDX-License-Identifier: Apache-2.0
//! Order statistics: the smallest value that a share of all values do not exceed.

/// The smallest value that `percent` of all values do not exceed.
pub(crate) fn of_values(values: &mut [f64], percent: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let (_, value, _) = values.select_nth_unstable_by(rank(values.len(), percent) - 1, f64::total_cmp);
    Some(*value)
}

/// The same of whole numbers, for which no copy is made: first the upper byte of the rank's value, then the lower.
pub(crate) fn of_steps<I: Iterator<Item = u16>>(steps: impl Fn() -> I, percent: f64) -> Option<u16> {
    let mut left = match steps().count() {
        0 => return None,
        count => rank(count, percent),
    };
    let mut locate = |bytes: &mut dyn Iterator<Item = u8>| {
        let mut counts = [0_usize; 256];
        bytes.for_each(|byte| counts[usize::from(byte)] += 1);
        for (byte, &count) in (0_u8..=255).zip(&counts) {
            if left <= count {
                return Some(byte);
            }
            left -= count;
        }
        None
    };
    let upper = locate(&mut steps().map(|value| value.to_be_bytes()[0]))?;
    let mut lower = steps().map(u16::to_be_bytes).filter(|bytes| bytes[0] == upper).map(|bytes| bytes[1]);
    Some(u16::from_be_bytes([upper, locate(&mut lower)?]))
}

/// Place, from 1, of the value that `percent` of `count` do not exceed.
fn rank(count: usize, percent: f64) -> usize {
    libm::ceil(percent / 100.0 * count as f64 - 1e-9).max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_ranked_as_in_a_sorted_list() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16
        };
        for count in [1, 2, 3, 199, 200, 201, 1_000, 60_480] {
            let spread = if count % 2 == 0 { u16::MAX } else { 300 };
            let steps: Vec<u16> = (0..count).map(|_| random() % spread).collect();
            let mut sorted: Vec<f64> = steps.iter().map(|&step| f64::from(step)).collect();
            for percent in [0.0, 50.0, 95.0, 99.5, 100.0] {
                let ours = of_steps(|| steps.iter().copied(), percent).map(f64::from);
                assert_eq!(ours, of_values(&mut sorted, percent), "{percent} % of {count}");
            }
        }
        assert_eq!(of_steps(std::iter::empty, 95.0), None);
    }
}
