// SPDX-License-Identifier: Apache-2.0
//! What the simulated grid does: a steady state and a timeline of disturbances, written as plain text.
//!
//! ```text
//! # one statement per line
//! seed 7                        # of noise, wander and random disturbances
//! voltage 231                   # RMS in V; the nominal voltage by default
//! frequency 50.01               # Hz
//! noise 0.1                     # V RMS
//! wander on                     # slow drift of voltage and frequency, as on a real grid
//! harmonic 5 2.5                # order, % of the fundamental, all the time
//! repeat 60s                    # the timeline starts over
//! random 20                     # disturbances per hour: dips, swells, interruptions
//! at 5s dip 40 for 120ms        # residual voltage in % of nominal
//! at 12s swell 118 for 300ms
//! at 20s interruption for 700ms # 0 %, or the number before `for`
//! at 30s frequency 49.8 for 5s
//! at 40s harmonic 7 6.5 for 10s
//! at 50s gap for 20ms           # samples that never arrive
//! ```

use openwrt::uci::parse_duration;
use std::fmt;
use std::time::Duration;

/// A parsed script; times are seconds of simulated time.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Seed of everything random.
    pub seed: u64,
    /// Steady RMS voltage (V); the nominal voltage where absent.
    pub voltage: Option<f64>,
    /// Steady frequency (Hz); the nominal frequency where absent.
    pub frequency: Option<f64>,
    /// White noise (V RMS).
    pub noise: f64,
    /// Slow drift of voltage and frequency.
    pub wander: bool,
    /// Harmonics that are always there: order and % of the fundamental.
    pub harmonics: Vec<(u8, f64)>,
    /// The timeline starts over after this many seconds.
    pub repeat: Option<f64>,
    /// Random disturbances per hour.
    pub random_per_hour: f64,
    /// Disturbances in order of their start.
    pub timeline: Vec<Disturbance>,
}

impl Default for Script {
    /// A quiet grid that drifts a little.
    fn default() -> Self {
        Self {
            seed: 1,
            voltage: None,
            frequency: None,
            noise: 0.0,
            wander: false,
            harmonics: Vec::new(),
            repeat: None,
            random_per_hour: 0.0,
            timeline: Vec::new(),
        }
    }
}

/// One entry of the timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disturbance {
    /// Start in seconds.
    pub start: f64,
    /// Length in seconds.
    pub length: f64,
    /// What happens.
    pub effect: Effect,
}

/// What a disturbance does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// The voltage goes to this many % of nominal (dip, swell, interruption).
    Level(f64),
    /// The frequency goes to this many Hz.
    Frequency(f64),
    /// A harmonic: order and % of the fundamental.
    Harmonic(u8, f64),
    /// The samples never arrive.
    Gap,
}

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Line, counted from 1.
    pub line: usize,
    /// What was expected there.
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScriptError {}

/// Most entries of a timeline, so that a script cannot take the router's memory.
pub const MOST_DISTURBANCES: usize = 4096;

impl Script {
    /// Parses the text of a script.
    ///
    /// # Errors
    /// The first line that is no statement, with its number.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut script = Self::default();
        for (index, line) in text.lines().enumerate() {
            let statement = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = statement.split_whitespace().collect();
            script.statement(&words).map_err(|reason| ScriptError { line: index + 1, reason })?;
        }
        script.timeline.sort_by(|a, b| a.start.total_cmp(&b.start));
        if let (Some(repeat), Some(last)) = (script.repeat, script.timeline.last()) {
            if last.start >= repeat {
                return Err(ScriptError {
                    line: text.lines().count(),
                    reason: format!("`repeat` after {repeat} s cuts off what begins at {} s", last.start),
                });
            }
        }
        Ok(script)
    }

    fn statement(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [] => {}
            ["seed", seed] => {
                self.seed = seed.parse().map_err(|_| format!("`{seed}` is no whole number"))?;
            }
            ["voltage", volts] => self.voltage = Some(number(volts, 0.0, 1e6)?),
            ["frequency", hertz] => self.frequency = Some(number(hertz, 10.0, 100.0)?),
            ["noise", volts] => self.noise = number(volts, 0.0, 1e6)?,
            ["wander", "on"] => self.wander = true,
            ["wander", "off"] => self.wander = false,
            ["harmonic", order, percent] => self.harmonics.push(harmonic(order, percent)?),
            ["repeat", length] => self.repeat = Some(seconds(length)?).filter(|&length| length > 0.0),
            ["random", rate] => self.random_per_hour = number(rate, 0.0, 36_000.0)?,
            ["at", start, effect @ .., "for", length] => {
                if self.timeline.len() == MOST_DISTURBANCES {
                    return Err(format!("more than {MOST_DISTURBANCES} disturbances"));
                }
                let disturbance =
                    Disturbance { start: seconds(start)?, length: seconds(length)?, effect: parse_effect(effect)? };
                self.timeline.push(disturbance);
            }
            ["at", ..] => return Err("expected `at TIME WHAT [VALUE] for LENGTH`".to_owned()),
            [word, ..] => {
                return Err(format!(
                    "`{word}` with {} value(s) is no statement (seed, voltage, frequency, noise, wander, harmonic, \
                     repeat, random, at)",
                    words.len() - 1
                ))
            }
        }
        Ok(())
    }
}

fn parse_effect(words: &[&str]) -> Result<Effect, String> {
    match words {
        ["dip", percent] => Ok(Effect::Level(number(percent, 0.0, 100.0)?)),
        ["swell", percent] => Ok(Effect::Level(number(percent, 100.0, 1000.0)?)),
        ["interruption"] => Ok(Effect::Level(0.0)),
        ["interruption", percent] => Ok(Effect::Level(number(percent, 0.0, 10.0)?)),
        ["frequency", hertz] => Ok(Effect::Frequency(number(hertz, 10.0, 100.0)?)),
        ["harmonic", order, percent] => {
            let (order, percent) = harmonic(order, percent)?;
            Ok(Effect::Harmonic(order, percent))
        }
        ["gap"] => Ok(Effect::Gap),
        _ => Err(format!(
            "`{}` is no disturbance (dip P, swell P, interruption [P], frequency HZ, harmonic ORDER P, gap)",
            words.join(" ")
        )),
    }
}

fn harmonic(order: &str, percent: &str) -> Result<(u8, f64), String> {
    let order = order.parse().ok().filter(|order| (2..=100).contains(order));
    Ok((order.ok_or("the order of a harmonic is 2 to 100")?, number(percent, 0.0, 100.0)?))
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let text = text.trim_end_matches('%');
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| format!("`{text}` is no number from {least} to {most}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let duration = parse_duration(text).filter(|&duration| duration <= Duration::from_secs(366 * 86_400));
    duration
        .map(|duration| duration.as_secs_f64())
        .ok_or_else(|| format!("`{text}` is no time (such as 150ms, 5s, 2m, 1h)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_script() {
        let script = Script::parse(
            "seed 7\nwander on\nharmonic 5 2.5%\nrepeat 1m\nat 12s swell 118 for 300ms # comment\n\nat 5s dip 40% for 120ms\nat 20 interruption for 1.5s\n",
        )
        .unwrap();
        assert_eq!(script.seed, 7);
        assert_eq!(script.harmonics, [(5, 2.5)]);
        assert_eq!(script.repeat, Some(60.0));
        assert_eq!(
            script.timeline,
            [
                Disturbance { start: 5.0, length: 0.12, effect: Effect::Level(40.0) },
                Disturbance { start: 12.0, length: 0.3, effect: Effect::Level(118.0) },
                Disturbance { start: 20.0, length: 1.5, effect: Effect::Level(0.0) },
            ]
        );
    }

    #[test]
    fn errors_name_line_and_reason() {
        let error = |text| Script::parse(text).unwrap_err().to_string();
        assert_eq!(error("seed 1\nat 5s dip 140 for 1s"), "line 2: `140` is no number from 0 to 100");
        assert_eq!(error("at 5s dip 40"), "line 1: expected `at TIME WHAT [VALUE] for LENGTH`");
        assert_eq!(error("at 5 minutes dip 40 for 1s").split(' ').next(), Some("line"));
        assert_eq!(error("dance 3").split('(').next(), Some("line 1: `dance` with 1 value"));
        assert_eq!(
            error("at 2m dip 40 for 1s\nrepeat 1m"),
            "line 2: `repeat` after 60 s cuts off what begins at 120 s"
        );
    }
}
