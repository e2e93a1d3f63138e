// SPDX-License-Identifier: Apache-2.0
//! Moments on the calendar and their forms on the interfaces.

use std::time::SystemTime;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// A moment in UTC with the resolution of a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(i128);

impl Utc {
    /// From milliseconds since 1970.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(i128::from(millis) * 1_000_000)
    }

    /// From seconds since 1970.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Self {
        Self(nanoseconds(seconds))
    }

    /// The system's idea of now.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// This moment and `seconds` more.
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0.saturating_add(nanoseconds(seconds)))
    }

    /// Milliseconds since 1970, rounded to the nearest.
    #[must_use]
    pub fn millis(self) -> i64 {
        ((self.0 + 500_000).div_euclid(1_000_000)) as i64
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Seconds since 1970 with nine decimals, as PowQuty's logs have it.
    #[must_use]
    pub fn decimal(self) -> String {
        format!("{}.{:09}", self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000))
    }

    /// As a calendar date and time; the epoch where it lies outside the calendar.
    #[must_use]
    pub fn calendar(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// RFC 3339 with milliseconds, for instance `2026-11-20T10:30:05.828Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let at = Self::from_millis(self.millis()).calendar();
        let (date, clock) = (at.date(), at.time());
        format!("{}T{}Z", iso(date), clock_text(clock))
    }

    /// PowQuty's form in telemetry: `2026-11-20 10:30:05.828`.
    #[must_use]
    pub fn spaced(self) -> String {
        let at = Self::from_millis(self.millis()).calendar();
        format!("{} {}", iso(at.date()), clock_text(at.time()))
    }

    /// Parses RFC 3339.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(|at| Self(at.unix_timestamp_nanos()))
    }
}

impl serde::Serialize for Utc {
    /// As RFC 3339.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl From<SystemTime> for Utc {
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128)
    }
}

/// Files of others may say anything: 30 million years are far enough, and leave room for every sum.
fn nanoseconds(seconds: f64) -> i128 {
    const FAR: f64 = 1e15;
    (seconds.clamp(-FAR, FAR) * 1e9).round() as i128
}

fn iso(date: time::Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn clock_text(clock: time::Time) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", clock.hour(), clock.minute(), clock.second(), clock.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let at = Utc::from_millis(1_795_170_605_828);
        assert_eq!(at.spaced(), "2026-11-20 10:30:05.828");
        assert_eq!(at.decimal(), "1795170605.828000000");
        assert_eq!(Utc::parse_rfc3339(&at.rfc3339()), Some(at));
        assert_eq!(Utc::parse_rfc3339("2026-11-20T11:30:05.828+01:00"), Some(at));
        assert_eq!(Utc::parse_rfc3339("yesterday"), None);
    }
}
