// SPDX-License-Identifier: Apache-2.0
//! Hours in which only critical alerts may ring a person's phone.

use std::str::FromStr;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;

/// A span of local time of day, `22:00-06:00`; it may cross midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuietHours {
    start_minute: u16,
    end_minute: u16,
}

impl QuietHours {
    /// How long the quiet goes on from now, in milliseconds, when it is quiet now; `local_ms` is local time in
    /// milliseconds since 1970.
    pub(crate) fn remaining_ms(self, local_ms: i64) -> Option<i64> {
        let of_day = local_ms.rem_euclid(DAY_MS);
        let since_start = (of_day - i64::from(self.start_minute) * MINUTE_MS).rem_euclid(DAY_MS);
        let length =
            (i64::from(self.end_minute) - i64::from(self.start_minute)).rem_euclid(24 * 60) * MINUTE_MS;
        (since_start < length).then(|| length - since_start)
    }
}

impl FromStr for QuietHours {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected two different times of day such as 22:00-06:00";
        let (start, end) = text.split_once('-').ok_or(EXPECTED)?;
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let number = |text: &str, limit: u16| {
                let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|&number: &u16| digits && number < limit)
            };
            Some(number(hour, 24)? * 60 + number(minute, 60)?)
        };
        match (minute(start), minute(end)) {
            (Some(start_minute), Some(end_minute)) if start_minute != end_minute => {
                Ok(Self { start_minute, end_minute })
            }
            _ => Err(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64, minute: i64) -> i64 {
        400 * DAY_MS + (hour * 60 + minute) * MINUTE_MS
    }

    #[test]
    fn a_span_over_midnight() {
        let quiet: QuietHours = "22:00-06:00".parse().unwrap();
        assert_eq!(quiet.remaining_ms(at(21, 59)), None);
        assert_eq!(quiet.remaining_ms(at(22, 0)), Some(8 * 60 * MINUTE_MS));
        assert_eq!(quiet.remaining_ms(at(0, 0)), Some(6 * 60 * MINUTE_MS));
        assert_eq!(quiet.remaining_ms(at(5, 59)), Some(MINUTE_MS));
        assert_eq!(quiet.remaining_ms(at(6, 0)), None);
    }

    #[test]
    fn a_span_within_a_day() {
        let quiet: QuietHours = "12:30 - 14:00".parse().unwrap();
        assert_eq!(quiet.remaining_ms(at(12, 29)), None);
        assert_eq!(quiet.remaining_ms(at(13, 0)), Some(60 * MINUTE_MS));
        assert_eq!(quiet.remaining_ms(at(14, 0)), None);
        assert_eq!(quiet.remaining_ms(-DAY_MS + 13 * 60 * MINUTE_MS), Some(60 * MINUTE_MS));
    }

    #[test]
    fn wrong_spans() {
        for text in
            ["", "22-06", "22:00", "24:00-06:00", "22:60-06:00", "22:00-22:00", "+2:00-06:00", "a:b-c:d"]
        {
            assert!(text.parse::<QuietHours>().is_err(), "{text}");
        }
    }
}
