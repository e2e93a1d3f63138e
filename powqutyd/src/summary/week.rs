// SPDX-License-Identifier: Apache-2.0
//! Weeks of the calendar in the router's time zone: from Monday 0:00 to Monday 0:00 local time (ISO 8601).

use crate::clock::Utc;
use openwrt::timezone::Zone;
use std::fmt;
use time::{Date, OffsetDateTime, UtcOffset, Weekday};

/// An ISO week such as `2026-W47`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Week {
    monday: Date,
}

impl Week {
    /// The week that holds a moment.
    #[must_use]
    pub fn of(at: Utc, zone: &Zone) -> Self {
        let (year, week, _) = local(at, zone).date().to_iso_week_date();
        // Each date lies in a week.
        Self { monday: Date::from_iso_week_date(year, week, Weekday::Monday).unwrap_or(Date::MIN) }
    }

    /// Parses `2026-W47`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, week) = text.split_once("-W")?;
        if year.len() != 4 || week.len() != 2 {
            return None;
        }
        let year = year.parse().ok().filter(|year| (1970..=9000).contains(year))?;
        let monday = Date::from_iso_week_date(year, week.parse().ok()?, Weekday::Monday).ok()?;
        Some(Self { monday })
    }

    /// The week before.
    #[must_use]
    pub fn before(self) -> Self {
        Self { monday: self.monday.saturating_sub(time::Duration::WEEK) }
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self, zone: &Zone) -> Utc {
        midnight(self.monday, zone)
    }

    /// The first moment of the week after.
    #[must_use]
    pub fn end(self, zone: &Zone) -> Utc {
        midnight(self.monday.saturating_add(time::Duration::WEEK), zone)
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, week, _) = self.monday.to_iso_week_date();
        write!(f, "{year:04}-W{week:02}")
    }
}

/// A moment on the clocks of a zone.
#[must_use]
pub fn local(at: Utc, zone: &Zone) -> OffsetDateTime {
    let at = at.calendar();
    let offset = UtcOffset::from_whole_seconds(zone.offset_s(at.unix_timestamp())).unwrap_or(UtcOffset::UTC);
    at.checked_to_offset(offset).unwrap_or(at)
}

/// `Mon 16 Nov 14:20` on the clocks of a zone.
#[must_use]
pub fn short(at: Utc, zone: &Zone) -> String {
    let at = local(at, zone);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    format!("{} {} {} {:02}:{:02}", &weekday[..3], at.day(), &month[..3], at.hour(), at.minute())
}

/// `16 November 2026` on the clocks of a zone.
#[must_use]
pub fn day(at: Utc, zone: &Zone) -> String {
    let at = local(at, zone);
    format!("{} {} {}", at.day(), at.month(), at.year())
}

/// The first moment of a local date; a change to or from summer time never falls on it in the zones of this world
/// that matter, elsewhere it is off by the change.
fn midnight(date: Date, zone: &Zone) -> Utc {
    let local = date.midnight().assume_utc().unix_timestamp();
    let guess = local - i64::from(zone.offset_s(local));
    let seconds = local - i64::from(zone.offset_s(guess));
    Utc::from_millis(seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn utc(text: &str) -> Utc {
        Utc::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn weeks_begin_on_monday_in_local_time() {
        let week = Week::parse("2026-W47").unwrap();
        assert_eq!(week.start(&berlin()), utc("2026-11-16T00:00:00+01:00"));
        assert_eq!(week.end(&berlin()), utc("2026-11-23T00:00:00+01:00"));
        assert_eq!(Week::of(utc("2026-11-15T23:00:00Z"), &berlin()), week);
        assert_eq!(Week::of(utc("2026-11-15T22:59:59Z"), &berlin()), week.before());
        assert_eq!(week.to_string(), "2026-W47");
        assert_eq!(Week::parse("2026-W01").unwrap().start(&Zone::UTC), utc("2025-12-29T00:00:00Z"));
        assert_eq!(Week::parse("2026-W53").unwrap().before(), Week::parse("2026-W52").unwrap());
    }

    #[test]
    fn the_weeks_of_the_clock_change_are_an_hour_longer_and_shorter() {
        let hours = |week: &str| {
            let week = Week::parse(week).unwrap();
            (week.end(&berlin()).millis() - week.start(&berlin()).millis()) / 3_600_000
        };
        assert_eq!((hours("2026-W13"), hours("2026-W43"), hours("2026-W44")), (167, 169, 168));
    }

    #[test]
    fn what_is_no_week_is_refused() {
        for text in ["2026-47", "2026-W54", "2025-W53", "26-W01", "2026-W1", "0000-W01", "2026-Wab", ""] {
            assert_eq!(Week::parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_for_people() {
        assert_eq!(short(utc("2026-11-16T13:20:59Z"), &berlin()), "Mon 16 Nov 14:20");
        assert_eq!(day(utc("2026-11-15T23:30:00Z"), &berlin()), "16 November 2026");
    }
}
