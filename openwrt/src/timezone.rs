// SPDX-License-Identifier: Apache-2.0
//! Local time without libc: the rule of `TZ` as POSIX writes it (`CET-1CEST,M3.5.0,M10.5.0/3`).
//!
//! OpenWrt keeps that rule in `/etc/TZ`; elsewhere it is the last line of `/etc/localtime` (RFC 9636 3.3). It is today's
//! rule: what zones did in former years is not known here.

use std::path::Path;

const DAY: i64 = 24 * 60 * 60;

/// A time zone's present rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// Local time minus UTC, seconds.
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summer {
    offset: i32,
    start: Change,
    end: Change,
}

/// When summer time starts or ends: a day of the year and a local time of day, seconds (may be negative or above a day).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: Day,
    time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// `Mm.w.d`: the w-th (5: last) weekday d (0: Sunday) of month m.
    Weekday { month: u8, week: u8, weekday: u8 },
    /// `Jn`: 1 to 365, February 29 is never counted.
    Julian(u16),
    /// `n`: 0 to 365, February 29 is counted.
    Ordinal(u16),
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self { standard: 0, summer: None };

    /// The zone this system is set to; UTC when nothing says otherwise.
    pub fn system() -> Self {
        let from_environment = std::env::var("TZ").ok().filter(|text| !text.is_empty());
        if let Some(text) = from_environment {
            let name = text.trim_start_matches(':');
            return Self::parse(name)
                .or_else(|| Self::of_file(&Path::new("/usr/share/zoneinfo").join(name)))
                .unwrap_or(Self::UTC);
        }
        let from_openwrt = std::fs::read_to_string("/etc/TZ").ok().and_then(|text| Self::parse(text.trim()));
        from_openwrt.or_else(|| Self::of_file(Path::new("/etc/localtime"))).unwrap_or(Self::UTC)
    }

    /// Reads a rule; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut input = Input(text.as_bytes());
        input.name()?;
        let standard = -input.offset()?;
        if input.0.is_empty() {
            return Some(Self { standard, summer: None });
        }
        input.name()?;
        let offset = match input.0.first() {
            None | Some(b',') => standard + 3600,
            Some(_) => -input.offset()?,
        };
        // Without dates POSIX leaves them open; everybody takes those of the United States.
        let (start, end) = match input.0.is_empty() {
            true => (Change::of(3, 2, 0), Change::of(11, 1, 0)),
            false => (input.change()?, input.change()?),
        };
        input.0.is_empty().then_some(Self { standard, summer: Some(Summer { offset, start, end }) })
    }

    /// Local time minus UTC at a moment (seconds since 1970), in seconds.
    pub fn offset_s(&self, unix_s: i64) -> i32 {
        let Some(summer) = &self.summer else { return self.standard };
        let (year, _, _) = civil(unix_s.saturating_add(self.standard.into()).div_euclid(DAY));
        // Each change is told in the time that holds before it.
        let start = summer.start.local_s(year) - i64::from(self.standard);
        let end = summer.end.local_s(year) - i64::from(summer.offset);
        let is_summer =
            if start < end { (start..end).contains(&unix_s) } else { !(end..start).contains(&unix_s) };
        if is_summer {
            summer.offset
        } else {
            self.standard
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        const LARGEST: u64 = 64 * 1024;
        if std::fs::metadata(path).ok()?.len() > LARGEST {
            return None;
        }
        Self::of_tzif(&std::fs::read(path).ok()?)
    }

    /// The last line of a TZif file, version 2 or later.
    fn of_tzif(bytes: &[u8]) -> Option<Self> {
        let version = bytes.strip_prefix(b"TZif")?.first()?;
        if *version < b'2' {
            return None;
        }
        let footer = bytes.strip_suffix(b"\n")?;
        let start = footer.iter().rposition(|&byte| byte == b'\n')? + 1;
        Self::parse(std::str::from_utf8(&footer[start..]).ok()?)
    }
}

impl Change {
    fn of(month: u8, week: u8, weekday: u8) -> Self {
        Self { day: Day::Weekday { month, week, weekday }, time: 2 * 3600 }
    }

    /// Seconds since 1970 as if local time were UTC.
    fn local_s(self, year: i64) -> i64 {
        let new_year = days_from_civil(year, 1, 1);
        let leap = days_from_civil(year, 3, 1) - new_year == 60;
        let day = match self.day {
            Day::Ordinal(day) => new_year + i64::from(day),
            Day::Julian(day) => new_year + i64::from(day) - i64::from(!leap || day < 60),
            Day::Weekday { month, week, weekday } => {
                let first = days_from_civil(year, month.into(), 1);
                let next = if month == 12 {
                    days_from_civil(year + 1, 1, 1)
                } else {
                    days_from_civil(year, i64::from(month) + 1, 1)
                };
                // 1970-01-01 was a Thursday.
                let to_weekday = (i64::from(weekday) - (first + 4)).rem_euclid(7);
                let day = first + to_weekday + 7 * (i64::from(week) - 1);
                if day >= next {
                    day - 7
                } else {
                    day
                }
            }
        };
        day * DAY + self.time
    }
}

/// Bytes of a rule, taken from the front.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// `CET` or `<+03>`.
    fn name(&mut self) -> Option<()> {
        let length = match self.0.first()? {
            b'<' => self.0.iter().position(|&byte| byte == b'>')? + 1,
            _ => self.0.iter().take_while(|byte| byte.is_ascii_alphabetic()).count(),
        };
        self.0 = self.0.get(length..)?;
        (length >= 3).then_some(())
    }

    /// `[+-]hh[:mm[:ss]]`, seconds.
    fn offset(&mut self) -> Option<i32> {
        let negative = match self.0.first()? {
            b'-' => true,
            b'+' => false,
            _ => return self.magnitude(),
        };
        self.0 = &self.0[1..];
        let magnitude = self.magnitude()?;
        Some(if negative { -magnitude } else { magnitude })
    }

    fn magnitude(&mut self) -> Option<i32> {
        let mut seconds = i32::from(self.number(167)?) * 3600;
        for unit in [60, 1] {
            if !self.skip(b':') {
                break;
            }
            seconds += i32::from(self.number(59)?) * unit;
        }
        Some(seconds)
    }

    /// `,date[/time]`
    fn change(&mut self) -> Option<Change> {
        if !self.skip(b',') {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // limited to far less than 256
        let day = if self.skip(b'M') {
            let month = self.number(12).filter(|&month| month > 0)? as u8;
            let week = self.skip(b'.').then(|| self.number(5))?.filter(|&week| week > 0)? as u8;
            let weekday = self.skip(b'.').then(|| self.number(6))?? as u8;
            Day::Weekday { month, week, weekday }
        } else if self.skip(b'J') {
            Day::Julian(self.number(365).filter(|&day| day > 0)?)
        } else {
            Day::Ordinal(self.number(365)?)
        };
        let time = if self.skip(b'/') { self.offset()? } else { 2 * 3600 };
        Some(Change { day, time: time.into() })
    }

    fn number(&mut self, most: u16) -> Option<u16> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        std::str::from_utf8(number).ok()?.parse().ok().filter(|&number| number <= most)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(there)..];
        there
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> i64 {
        days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil(20_777), (2026, 11, 20));
    }

    #[test]
    fn central_europe_changes_at_one_o_clock_utc() {
        let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(zone.offset_s(at(2026, 3, 29, 0, 59)), 3600);
        assert_eq!(zone.offset_s(at(2026, 3, 29, 1, 0)), 7200);
        assert_eq!(zone.offset_s(at(2026, 10, 25, 0, 59)), 7200);
        assert_eq!(zone.offset_s(at(2026, 10, 25, 1, 0)), 3600);
        assert_eq!(zone.offset_s(at(2026, 12, 31, 23, 59)), 3600);
    }

    #[test]
    fn the_southern_summer_spans_new_year() {
        let zone = Zone::parse("AEST-10AEDT,M10.1.0,M4.1.0/3").unwrap();
        assert_eq!(zone.offset_s(at(2027, 1, 1, 0, 0)), 11 * 3600);
        assert_eq!(zone.offset_s(at(2026, 7, 1, 0, 0)), 10 * 3600);
        assert_eq!(zone.offset_s(at(2026, 10, 3, 15, 59)), 10 * 3600);
        assert_eq!(zone.offset_s(at(2026, 10, 3, 16, 0)), 11 * 3600);
    }

    #[test]
    fn other_forms() {
        assert_eq!(Zone::parse("UTC0"), Some(Zone::UTC));
        assert_eq!(Zone::parse("<+0330>-3:30").unwrap().offset_s(0), 12_600);
        assert_eq!(Zone::parse("EST5EDT").unwrap().offset_s(at(2026, 7, 1, 0, 0)), -4 * 3600);
        let julian = Zone::parse("AAA0BBB,J60/0,J61/0").unwrap();
        assert_eq!(julian.offset_s(at(2028, 2, 29, 12, 0)), 0, "J60 is March 1 in a leap year, too");
        assert_eq!(julian.offset_s(at(2028, 3, 1, 0, 0)), 3600);
        assert_eq!(julian.offset_s(at(2027, 3, 1, 0, 0)), 3600);
        let ordinal = Zone::parse("AAA0BBB,59/0,60/0").unwrap();
        assert_eq!(ordinal.offset_s(at(2028, 2, 29, 12, 0)), 3600);
        for text in [
            "",
            "C",
            "CET",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1 ",
            "Europe/Berlin",
            "<CET-1",
            "CET-1CEST,M3.5.0,M10.5.0/3x",
            "CET-999999",
        ] {
            assert_eq!(Zone::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_compiled_zone_ends_with_its_rule() {
        let mut file = b"TZif2".to_vec();
        file.extend_from_slice(&[0; 64]);
        file.extend_from_slice(b"\nCET-1CEST,M3.5.0,M10.5.0/3\n");
        assert_eq!(Zone::of_tzif(&file), Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert_eq!(Zone::of_tzif(b"TZif\0"), None);
        assert_eq!(Zone::of_tzif(b"nonsense\n"), None);
    }
}
