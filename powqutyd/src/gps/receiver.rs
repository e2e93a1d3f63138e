// SPDX-License-Identifier: Apache-2.0
//! A GPS receiver's NMEA 0183 lines, put together from bytes and turned into a fix; no I/O, no clock.

use crate::clock::reference::GpsTime;
use nmea::sentences::rmc::RmcStatusOfFix;
use nmea::sentences::{FixType, GgaData, RmcData};
use nmea::ParseResult;
use std::time::Duration;

/// Longest sentence by the standard is 82 characters; receivers are known to exceed it a little.
const MAX_LINE: usize = 120;
/// A fix that nothing has confirmed for this long is no fix.
const STALE: Duration = Duration::from_secs(10);
/// Metres of horizontal error per unit of HDOP for a single-frequency receiver.
const METRES_PER_HDOP: f64 = 5.0;

/// Where the device is, by GPS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// Metres above mean sea level.
    pub altitude: Option<f64>,
    /// Estimated horizontal error in metres.
    pub accuracy: Option<f64>,
    /// Satellites in use.
    pub satellites: Option<u32>,
}

/// How often which fault was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Lines with a wrong checksum or no sentence at all.
    pub garbage_lines: u32,
    /// Lines longer than any sentence.
    pub long_lines: u32,
}

/// Bytes in, [`Fix`] and [`GpsTime`] out; holds one line.
#[derive(Debug)]
pub struct Receiver {
    line: [u8; MAX_LINE],
    length: usize,
    overflow: bool,
    fix: Option<(Fix, Duration)>,
    time: Option<GpsTime>,
    heard: Option<Duration>,
    faults: Faults,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            line: [0; MAX_LINE],
            length: 0,
            overflow: false,
            fix: None,
            time: None,
            heard: None,
            faults: Faults::default(),
        }
    }
}

impl Receiver {
    /// Takes bytes in any portions; `now` is monotonic.
    pub fn push(&mut self, bytes: &[u8], now: Duration) {
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' => self.end_line(now),
                // A sentence that begins inside another ends it.
                b'$' => {
                    self.end_line(now);
                    self.append(byte);
                }
                _ => self.append(byte),
            }
        }
    }

    /// The device is gone or was opened anew: half a line is nothing.
    pub fn reopened(&mut self) {
        self.length = 0;
        self.overflow = false;
    }

    /// The position, while it is fresh.
    #[must_use]
    pub fn fix(&self, now: Duration) -> Option<Fix> {
        self.fix.filter(|(_, at)| now.saturating_sub(*at) < STALE).map(|(fix, _)| fix)
    }

    /// The newest time with a fix behind it, while it is fresh.
    #[must_use]
    pub fn time(&self, now: Duration) -> Option<GpsTime> {
        self.time.filter(|time| now.saturating_sub(time.arrival) < STALE)
    }

    /// Some valid sentence has arrived lately.
    #[must_use]
    pub fn is_talking(&self, now: Duration) -> bool {
        self.heard.is_some_and(|at| now.saturating_sub(at) < STALE)
    }

    /// Counters since construction.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    fn append(&mut self, byte: u8) {
        match self.line.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.overflow = true,
        }
    }

    fn end_line(&mut self, now: Duration) {
        let length = std::mem::take(&mut self.length);
        if std::mem::take(&mut self.overflow) {
            self.faults.long_lines = self.faults.long_lines.saturating_add(1);
            return;
        }
        if length == 0 {
            return;
        }
        let line = self.line;
        match nmea::parse_bytes(&line[..length]) {
            Ok(ParseResult::GGA(gga)) => self.take_gga(&gga, now),
            Ok(ParseResult::RMC(rmc)) => self.take_rmc(&rmc, now),
            Ok(_) | Err(nmea::Error::DisabledSentence | nmea::Error::Unsupported(_)) => {}
            Err(_) => {
                self.faults.garbage_lines = self.faults.garbage_lines.saturating_add(1);
                return;
            }
        }
        self.heard = Some(now);
    }

    fn take_gga(&mut self, gga: &GgaData, now: Duration) {
        let measured = gga.fix_type.is_some_and(|kind| {
            !matches!(kind, FixType::Invalid | FixType::Estimated | FixType::Manual | FixType::Simulation)
        });
        let (Some((latitude, longitude)), true) = (on_earth(gga.latitude, gga.longitude), measured) else {
            self.fix = None;
            return;
        };
        let fix = Fix {
            latitude,
            longitude,
            altitude: gga.altitude.map(f64::from),
            accuracy: gga.hdop.map(|hdop| f64::from(hdop) * METRES_PER_HDOP),
            satellites: gga.fix_satellites,
        };
        self.fix = Some((fix, now));
    }

    /// Time, and position for receivers that send no GGA.
    fn take_rmc(&mut self, rmc: &RmcData, now: Duration) {
        if rmc.status_of_fix == RmcStatusOfFix::Invalid {
            self.fix = None;
            self.time = None;
            return;
        }
        if let (Some(date), Some(clock)) = (rmc.fix_date, rmc.fix_time) {
            let utc = date.and_time(clock).and_utc();
            let seconds = utc.timestamp() as f64 + f64::from(utc.timestamp_subsec_millis()) / 1e3;
            self.time = Some(GpsTime { utc: seconds, arrival: now });
        }
        if let Some((latitude, longitude)) = on_earth(rmc.lat, rmc.lon) {
            let known = self.fix(now);
            let fix = Fix {
                latitude,
                longitude,
                altitude: known.and_then(|fix| fix.altitude),
                accuracy: known.and_then(|fix| fix.accuracy),
                satellites: known.and_then(|fix| fix.satellites),
            };
            self.fix = Some((fix, now));
        }
    }
}

/// A checksum of eight bits lets some garbage pass; what lies beyond the poles is garbage.
fn on_earth(latitude: Option<f64>, longitude: Option<f64>) -> Option<(f64, f64)> {
    let latitude = latitude.filter(|degrees| degrees.abs() <= 90.0)?;
    Some((latitude, longitude.filter(|degrees| degrees.abs() <= 180.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn sentence(body: &str) -> String {
        let sum = body.bytes().fold(0u8, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    }

    fn gga(quality: u8) -> String {
        sentence(&format!("GPGGA,103005.83,5231.2005,N,01324.2972,E,{quality},08,0.9,34.5,M,46.9,M,,"))
    }

    fn rmc(status: char) -> String {
        sentence(&format!("GPRMC,103005.83,{status},5231.2005,N,01324.2972,E,0.0,0.0,201126,,,A"))
    }

    fn receive(text: &str, chunk: usize) -> Receiver {
        let mut receiver = Receiver::default();
        for portion in text.as_bytes().chunks(chunk) {
            receiver.push(portion, NOW);
        }
        receiver
    }

    #[test]
    fn position_and_time_in_any_portions() {
        for chunk in [1, 7, 200] {
            let receiver = receive(&(gga(1) + &rmc('A')), chunk);
            let fix = receiver.fix(NOW).expect("a fix");
            assert!((fix.latitude - 52.520_008).abs() < 1e-5 && (fix.longitude - 13.404_953).abs() < 1e-5);
            assert!((fix.altitude.unwrap() - 34.5).abs() < 1e-6);
            assert!((fix.accuracy.unwrap() - 4.5).abs() < 1e-6);
            assert_eq!(fix.satellites, Some(8));
            let time = receiver.time(NOW).expect("a time");
            assert!((time.utc - 1_795_170_605.83).abs() < 1e-3, "{}", time.utc);
            assert_eq!(receiver.faults(), Faults::default());
        }
    }

    #[test]
    fn a_place_beyond_the_earth_is_none() {
        let far = "GPGGA,123519,4807.038,N,01130010.,E,1,08,0.9,545.4,M,46.9,M,,";
        assert_eq!(receive(&sentence(far), 200).fix(NOW), None);
    }

    #[test]
    fn without_a_fix_there_is_no_position() {
        let mut receiver = receive(&gga(1), 50);
        receiver.push(gga(0).as_bytes(), NOW);
        assert_eq!(receiver.fix(NOW), None);
        receiver.push(rmc('A').as_bytes(), NOW);
        assert!(receiver.fix(NOW).is_some(), "RMC alone carries a position");
        receiver.push(rmc('V').as_bytes(), NOW);
        assert_eq!((receiver.fix(NOW), receiver.time(NOW)), (None, None));
        assert!(receiver.is_talking(NOW));
    }

    #[test]
    fn what_is_old_is_gone() {
        let receiver = receive(&(gga(1) + &rmc('A')), 50);
        let later = NOW + STALE;
        assert_eq!((receiver.fix(later), receiver.time(later)), (None, None));
        assert!(!receiver.is_talking(later));
    }

    #[test]
    fn garbage_is_counted_and_the_next_sentence_is_read() {
        let mut wrong_sum = gga(1);
        wrong_sum.replace_range(10..11, "9");
        let text = format!("\u{fffd}half a li\n{wrong_sum}{}$GPGGA,1030{}", "x".repeat(500), gga(1));
        let receiver = receive(&text, 13);
        assert!(receiver.fix(NOW).is_some());
        assert_eq!(receiver.faults(), Faults { garbage_lines: 3, long_lines: 1 });
    }

    #[test]
    fn sentences_nobody_asked_for_are_no_fault() {
        let receiver = receive(&sentence("GPGSV,1,1,00"), 50);
        assert_eq!(receiver.faults(), Faults::default());
        assert!(receiver.is_talking(NOW));
    }
}
