// SPDX-License-Identifier: Apache-2.0
//! The spelling of single values: durations, integers, flags, hosts.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The integers that [`Reader::integer`](super::Reader::integer) reads.
pub trait Integer: Copy + PartialOrd + fmt::Display + sealed::Sealed {
    /// Decimal or, after `0x`, hexadecimal.
    #[doc(hidden)]
    fn parse(text: &str) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl sealed::Sealed for $integer {}
        impl Integer for $integer {
            fn parse(text: &str) -> Option<Self> {
                match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                    // from_str_radix would take a sign here.
                    Some(hex) if hex.starts_with(['+', '-']) => None,
                    Some(hex) => <$integer>::from_str_radix(hex, 16).ok(),
                    None => text.parse().ok(),
                }
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: a number with `ms`, `s`, `m`, `h` or `d`, or a bare number of seconds. Fractions are
/// allowed (`0.5s`) and rounded down to the nanosecond.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let number_ends = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit_ms = match unit {
        "" => 1_000,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let whole: u64 = whole.parse().ok()?;
    let whole = Duration::from_millis(whole.checked_mul(unit_ms)?);
    if fraction.is_empty() {
        return Some(whole);
    }
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // 15 digits of a day are below a nanosecond, and 10^15 days' worth of nanoseconds fit into 128 bits.
    let digits = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let nanoseconds = digits.parse::<u128>().ok()? * u128::from(unit_ms) * 1_000_000 / scale;
    whole.checked_add(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

/// Writes a duration in the largest unit that leaves no fraction, to the millisecond: `10m`, `90s`, `250ms`.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    let fitting = UNITS.iter().find(|(_, unit)| ms.is_multiple_of(u128::from(*unit)));
    let (name, unit) = fitting.unwrap_or(&("ms", 1));
    format!("{}{name}", ms / u128::from(*unit))
}

/// Every spelling of OpenWrt's own scripts.
pub(super) fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "on" | "yes" | "true" | "enabled" => Some(true),
        "0" | "off" | "no" | "false" | "disabled" => Some(false),
        _ => None,
    }
}

pub(super) fn parse_number(text: &str) -> Option<f64> {
    // Rust also reads "inf" and "nan", in any case.
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// An IPv4 or IPv6 address (with a zone if it is link-local), or a host name (RFC 1123 2.1, with `_` as DNS has it).
pub(super) fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    if let Some((address, zone)) = text.split_once('%') {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        return matches!(address.parse(), Ok(IpAddr::V6(_))) && !zone.is_empty() && zone.chars().all(named);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // An all-numeric last label is an IPv4 address that is none.
    let last_is_number =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(is_label)
}

/// " from a to b", " of at least a", " of at most b"; `f64::MAX` and the infinities are no limits.
pub(super) fn describe_range(range: &RangeInclusive<f64>) -> String {
    let (start, end) = (range.start(), range.end());
    match (*start > f64::MIN, *end < f64::MAX) {
        (true, true) => format!(" from {start} to {end}"),
        (true, false) => format!(" of at least {start}"),
        (false, true) => format!(" of at most {end}"),
        (false, false) => String::new(),
    }
}

/// The candidate that was probably meant: at most two slips (insertion, deletion, substitution, swap of neighbours), and
/// fewer than half of the word.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let most = (word.chars().count().saturating_sub(1) / 2).min(2);
    candidates
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (slips(word, candidate), candidate))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
