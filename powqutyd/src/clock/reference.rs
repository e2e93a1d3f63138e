// SPDX-License-Identifier: Apache-2.0
//! Which clock says what time it is: the system's, or a GPS receiver's while nobody has set the system's.

use std::time::Duration;

/// A jump between monotonic time and UTC larger than this (s) is a step, a smaller one is slewing.
pub const STEP_S: f64 = 0.05;

/// Readings over which the least delay of the receiver is looked for.
const GPS_READINGS: usize = 30;

/// The clocks of the system at one moment (s).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Monotonic clock.
    pub monotonic: f64,
    /// System clock, since 1970.
    pub utc: f64,
    /// The system clock is being disciplined.
    pub synchronised: bool,
}

/// A time that a GPS receiver has told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpsTime {
    /// Seconds since 1970 named in the sentence.
    pub utc: f64,
    /// Monotonic moment at which the sentence was complete: later than `utc` by the receiver's delay.
    pub arrival: Duration,
}

/// Where UTC comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeSource {
    /// The system clock.
    #[default]
    System,
    /// The GPS receiver.
    Gps,
}

impl TimeSource {
    /// The word in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Gps => "gps",
        }
    }
}

/// UTC for the monotonic clock.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    offset: Option<f64>,
    source: TimeSource,
    synchronised: bool,
    gps: [Option<GpsTime>; GPS_READINGS],
    next: usize,
    steps: u32,
}

impl Reference {
    /// Takes a reading, and what the GPS receiver says where it has a fix; returns the size of a step (s), if UTC has
    /// made one. Slewing is followed silently.
    pub fn read(&mut self, reading: &Reading, gps: Option<GpsTime>) -> Option<f64> {
        if let Some(time) = gps {
            self.gps[self.next] = Some(time);
            self.next = (self.next + 1) % GPS_READINGS;
        } else {
            self.gps = [None; GPS_READINGS];
        }
        self.source =
            if gps.is_some() && !reading.synchronised { TimeSource::Gps } else { TimeSource::System };
        self.synchronised = reading.synchronised || self.source == TimeSource::Gps;
        let offset = match self.source {
            TimeSource::Gps => self.gps_offset().unwrap_or(reading.utc - reading.monotonic),
            TimeSource::System => reading.utc - reading.monotonic,
        };
        let step = offset - self.offset.replace(offset)?;
        if step.abs() <= STEP_S {
            return None;
        }
        self.steps = self.steps.saturating_add(1);
        Some(step)
    }

    /// UTC minus monotonic time (s); `None` before the first reading.
    #[must_use]
    pub fn offset(&self) -> Option<f64> {
        self.offset
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> TimeSource {
        self.source
    }

    /// It is UTC, as far as anyone can tell.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.synchronised
    }

    /// Steps since the start.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The sentence that came with the least delay says it best.
    fn gps_offset(&self) -> Option<f64> {
        let offsets = self.gps.iter().flatten().map(|time| time.utc - time.arrival.as_secs_f64());
        offsets.reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(monotonic: f64, utc: f64, synchronised: bool) -> Reading {
        Reading { monotonic, utc, synchronised }
    }

    #[test]
    fn steps_are_told_and_slewing_is_followed() {
        let mut clock = Reference::default();
        assert_eq!(clock.offset(), None);
        assert_eq!(clock.read(&reading(1.0, 1_000_001.0, false), None), None);
        assert_eq!(clock.read(&reading(2.0, 1_000_002.000_4, false), None), None);
        let step = clock.read(&reading(3.0, 1_795_170_000.0, true), None).expect("a step");
        assert!((step - 1_794_169_996.999_6).abs() < 1e-3);
        assert_eq!(clock.offset(), Some(1_795_169_997.0));
        assert_eq!((clock.steps(), clock.is_synchronised()), (1, true));
    }

    #[test]
    fn gps_sets_what_nobody_else_has_set() {
        let mut clock = Reference::default();
        clock.read(&reading(10.0, 10.0, false), None);
        assert!(!clock.is_synchronised());
        let mut step = None;
        for (second, delay) in [(11, 0.6), (12, 0.3), (13, 0.5)] {
            let gps = GpsTime {
                utc: 1_795_170_000.0 + f64::from(second),
                arrival: Duration::from_secs_f64(f64::from(second) + delay),
            };
            step = clock.read(&reading(f64::from(second) + 0.9, 12.0, false), Some(gps)).or(step);
        }
        assert!(step.is_some());
        assert_eq!((clock.source(), clock.is_synchronised()), (TimeSource::Gps, true));
        assert!((clock.offset().unwrap() - 1_795_169_999.7).abs() < 1e-6, "the least delay counts");
        // The network's time is better than a sentence over a serial line.
        clock
            .read(&reading(14.0, 1_795_170_014.0, true), Some(GpsTime { utc: 1.0, arrival: Duration::ZERO }));
        assert_eq!((clock.source(), clock.offset()), (TimeSource::System, Some(1_795_170_000.0)));
        clock.read(&reading(15.0, 1_795_170_015.0, false), None);
        assert!(!clock.is_synchronised());
    }
}
