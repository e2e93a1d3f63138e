// SPDX-License-Identifier: Apache-2.0
//! A GPS receiver made of arithmetic: one GGA and one RMC sentence a second.

use super::plan::{Fault, Plan, Timeline};
use super::{Device, HangUp};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// A second's sentences leave this long after it began.
const DELAY: f64 = 0.12;

/// The emulated receiver.
pub struct GpsReceiver {
    timeline: Timeline,
    latitude: f64,
    longitude: f64,
    /// UTC at time 0.
    origin: SystemTime,
    second: u32,
    silent_until: f64,
    blind_until: f64,
    random: u64,
}

impl GpsReceiver {
    /// Switched on at time 0, which is `origin`, at this place (degrees).
    #[must_use]
    pub fn new(plan: &Plan, latitude: f64, longitude: f64, origin: SystemTime) -> Self {
        Self {
            timeline: Timeline::new(plan),
            latitude,
            longitude,
            origin,
            second: 0,
            silent_until: 0.0,
            blind_until: 0.0,
            random: plan.grid.seed,
        }
    }

    fn due(&self) -> f64 {
        f64::from(self.second) + DELAY
    }

    fn sentences(&self, fix: bool) -> String {
        let at = OffsetDateTime::from(self.origin + Duration::from_secs(u64::from(self.second)));
        let time =
            format!("{:02}{:02}{:02}.{:02}", at.hour(), at.minute(), at.second(), at.millisecond() / 10);
        let date = format!("{:02}{:02}{:02}", at.day(), u8::from(at.month()), at.year() % 100);
        if !fix {
            return sentence(&format!("GPGGA,{time},,,,,0,00,99.99,,,,,,"))
                + &sentence(&format!("GPRMC,{time},V,,,,,,,{date},,,N"));
        }
        let latitude = coordinate(self.latitude, 2, ('N', 'S'));
        let longitude = coordinate(self.longitude, 3, ('E', 'W'));
        sentence(&format!("GPGGA,{time},{latitude},{longitude},1,08,0.9,34.5,M,46.9,M,,"))
            + &sentence(&format!("GPRMC,{time},A,{latitude},{longitude},0.0,0.0,{date},,,A"))
    }
}

impl Device for GpsReceiver {
    fn hear(&mut self, _: &[u8], _: &mut Vec<u8>) {}

    fn advance(&mut self, now: f64, out: &mut Vec<u8>) -> Option<HangUp> {
        while self.due() <= now {
            let time = f64::from(self.second);
            let mut garbage = 0;
            let mut hang_up = None;
            while let Some(planned) = self.timeline.due(time + 1.0) {
                let end = planned.start + planned.length;
                match planned.fault {
                    Fault::Silence => self.silent_until = end,
                    Fault::NoFix => self.blind_until = end,
                    Fault::Garbage(count) => garbage = count,
                    Fault::Torn => garbage = 20,
                    Fault::HangUp => {
                        hang_up = Some(HangUp { length: Duration::from_secs_f64(planned.length) });
                    }
                    _ => {}
                }
            }
            let sentences = self.sentences(time >= self.blind_until);
            self.second += 1;
            if hang_up.is_some() {
                return hang_up;
            }
            for _ in 0..garbage {
                self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                out.push((self.random >> 40) as u8);
            }
            if time >= self.silent_until {
                out.extend(sentences.bytes());
            }
        }
        None
    }

    fn next(&mut self) -> f64 {
        self.due()
    }

    fn power_cycle(&mut self) {}
}

fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0u8, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

/// Degrees as NMEA has them: degrees and minutes in one number, then the hemisphere.
fn coordinate(angle: f64, digits: usize, (positive, negative): (char, char)) -> String {
    // In ten-thousandths of a minute, so that rounding never gives 60 minutes.
    let units = (angle.abs() * 600_000.0).round() as u64;
    let (degrees, minutes) = (units / 600_000, (units % 600_000) as f64 / 1e4);
    format!("{degrees:0digits$}{minutes:07.4},{}", if angle < 0.0 { negative } else { positive })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gps::receiver::Receiver;

    #[test]
    fn the_reader_understands_what_the_emulator_says() {
        let origin = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_170_605_830);
        let plan = Plan::parse("at 3s fault nofix for 2s\nat 7s fault garbage 90").unwrap();
        let mut device = GpsReceiver::new(&plan, -33.856_784, 151.215_297, origin);
        let mut receiver = Receiver::default();
        for second in 1..10 {
            let mut bytes = Vec::new();
            device.advance(f64::from(second), &mut bytes);
            let now = Duration::from_secs(1000 + second as u64);
            receiver.push(&bytes, now);
            if (4..=5).contains(&second) {
                assert_eq!(receiver.fix(now), None, "second {second}");
                continue;
            }
            let fix = receiver.fix(now).expect("a fix");
            assert!((fix.latitude + 33.856_784).abs() < 1e-5 && (fix.longitude - 151.215_297).abs() < 1e-5);
            let time = receiver.time(now).expect("a time");
            let expected = 1_795_170_605.83 + f64::from(second - 1);
            assert!((time.utc - expected).abs() < 2e-3, "{} for {expected}", time.utc);
        }
    }
}
