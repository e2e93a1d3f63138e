// SPDX-License-Identifier: Apache-2.0
//! Time from the sample counter: pure arithmetic between samples, seconds of signal and UTC.
//!
//! Durations come from the counter alone, so that arrival jitter never changes the length of an event; UTC
//! is asked once, when the first sample arrives.

use std::time::{Duration, SystemTime};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// Times before this are those of a router that has no clock yet (2020-01-01T00:00:00Z).
const PLAUSIBLE: Duration = Duration::from_secs(1_577_836_800);

/// Sample counter ↔ UTC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    rate: f64,
    origin: Option<Duration>,
    samples: u64,
}

impl Clock {
    /// A clock for samples at `rate` (Hz), not started yet.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate, origin: None, samples: 0 }
    }

    /// Counts `samples`, the last of which arrived at `now`; `true` when this started the clock.
    pub fn advance(&mut self, samples: u64, now: SystemTime) -> bool {
        self.samples += samples;
        if self.origin.is_some() {
            return false;
        }
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let signal = Duration::from_secs_f64(self.samples as f64 / self.rate);
        self.origin = Some(now.saturating_sub(signal));
        true
    }

    /// Samples counted so far, missing ones included.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// UTC of the first sample in seconds since 1970; `None` before it has arrived.
    #[must_use]
    pub fn origin(&self) -> Option<f64> {
        self.origin.map(|origin| origin.as_secs_f64())
    }

    /// UTC of a moment `seconds` after the first sample, in nanoseconds since 1970.
    #[must_use]
    pub fn utc(&self, seconds: f64) -> Utc {
        let offset = (seconds * 1e9).round() as i128;
        Utc(self.origin.unwrap_or_default().as_nanos() as i128 + offset)
    }

    /// The router knew the time when the first sample arrived.
    #[must_use]
    pub fn plausible(&self) -> bool {
        self.origin.is_some_and(|origin| origin >= PLAUSIBLE)
    }
}

/// A moment in UTC with the resolution of a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(i128);

impl Utc {
    /// From milliseconds since 1970.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(i128::from(millis) * 1_000_000)
    }

    /// The system's idea of now.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// This moment and `seconds` more.
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0 + (seconds * 1e9).round() as i128)
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

impl From<SystemTime> for Utc {
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128)
    }
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
    fn utc_comes_from_the_first_arrival_and_the_counter() {
        let mut clock = Clock::new(10_240.0);
        let arrival = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_170_326_006);
        assert!(clock.advance(64, arrival));
        assert!(!clock.advance(64, arrival + Duration::from_secs(3)), "a late frame moves nothing");
        assert_eq!(clock.samples(), 128);
        assert_eq!(clock.utc(0.0).millis(), 1_795_170_326_000);
        assert_eq!(clock.utc(1.5).rfc3339(), "2026-11-20T10:25:27.500Z");
        assert!(clock.plausible());
    }

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
