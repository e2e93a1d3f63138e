// SPDX-License-Identifier: Apache-2.0
//! What an emulated device does besides its signal: its converter's properties and a timeline of faults.
//!
//! The lines stand among those of a simulator script, with the same times and the same `repeat`:
//!
//! ```text
//! device ppm 35                     # the converter's clock is fast by this
//! device jitter 3ms                 # frames come up to this late
//! device scale 0.025                # V per LSB
//! device offset 12                  # LSB
//! at 10s fault torn                 # a frame loses bytes
//! at 12s fault duplicate            # a frame comes twice
//! at 14s fault skip 5               # frames that never come
//! at 16s fault garbage 40           # bytes put in between
//! at 18s fault counter              # a frame with a wrong number
//! at 20s fault stall for 500ms      # frames wait and then come at once
//! at 25s fault silence for 3s       # nothing comes, sampling goes on
//! at 30s fault reset                # the device forgets that it was started, and its counter
//! at 40s fault hangup for 10s       # unplugged, and plugged in again under another name
//! at 50s fault nofix for 10s        # GPS: no satellites
//! ```

use crate::source::script::{Script, ScriptError};
use openwrt::uci::parse_duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame loses bytes.
    Torn,
    /// A frame comes twice.
    Duplicate,
    /// This many frames never come.
    Skip(u16),
    /// This many bytes are put in between.
    Garbage(u16),
    /// A frame has a wrong number.
    Counter,
    /// What is sent waits.
    Stall,
    /// Nothing is sent.
    Silence,
    /// The device begins anew.
    Reset,
    /// The device is unplugged.
    HangUp,
    /// The receiver sees no satellites.
    NoFix,
}

/// A fault on the timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// Start in seconds.
    pub start: f64,
    /// Length in seconds; 0 for a fault of one frame.
    pub length: f64,
    /// What goes wrong.
    pub fault: Fault,
}

/// An emulated device by its script.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The grid it measures.
    pub grid: Script,
    /// Deviation of its clock in parts per million.
    pub ppm: f64,
    /// Longest delay of a frame in seconds.
    pub jitter: f64,
    /// Volts per LSB.
    pub scale: f32,
    /// LSB at 0 V.
    pub offset: f32,
    /// Faults in order of their start.
    pub faults: Vec<Planned>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { grid: Script::default(), ppm: 0.0, jitter: 0.0, scale: 0.025, offset: 0.0, faults: Vec::new() }
    }
}

/// Most faults of a timeline.
const MOST_FAULTS: usize = 4096;

impl Plan {
    /// Parses the text of a script.
    ///
    /// # Errors
    /// The first line that is no statement, with its number.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut plan = Self::default();
        let mut rest = String::with_capacity(text.len());
        for (index, line) in text.lines().enumerate() {
            let statement = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = statement.split_whitespace().collect();
            let mine = plan.statement(&words).map_err(|reason| ScriptError { line: index + 1, reason })?;
            if !mine {
                rest.push_str(line);
            }
            rest.push('\n');
        }
        plan.grid = Script::parse(&rest)?;
        plan.faults.sort_by(|a, b| a.start.total_cmp(&b.start));
        if let (Some(repeat), Some(last)) = (plan.grid.repeat, plan.faults.last()) {
            if last.start >= repeat {
                let reason = format!("`repeat` after {repeat} s cuts off the fault at {} s", last.start);
                return Err(ScriptError { line: text.lines().count(), reason });
            }
        }
        Ok(plan)
    }

    /// Takes a line; `false` when it is one of the grid's.
    fn statement(&mut self, words: &[&str]) -> Result<bool, String> {
        match words {
            ["device", "ppm", ppm] => self.ppm = number(ppm, -1000.0, 1000.0)?,
            ["device", "jitter", jitter] => self.jitter = seconds(jitter)?.min(0.1),
            ["device", "scale", scale] => self.scale = number(scale, 1e-6, 1e3)? as f32,
            ["device", "offset", offset] => self.offset = number(offset, -32_768.0, 32_767.0)? as f32,
            ["device", ..] => {
                return Err("expected `device` and ppm, jitter, scale or offset with a value".into())
            }
            ["at", start, "fault", fault, "for", length] => {
                let length = seconds(length)?;
                self.plan(start, length, &[fault])?;
            }
            ["at", start, "fault", fault @ ..] => self.plan(start, 0.0, fault)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn plan(&mut self, start: &str, length: f64, fault: &[&str]) -> Result<(), String> {
        if self.faults.len() == MOST_FAULTS {
            return Err(format!("more than {MOST_FAULTS} faults"));
        }
        let count = |text: &str| match text.parse() {
            Ok(count @ 1..=10_000) => Ok(count),
            _ => Err(format!("`{text}` is no number from 1 to 10000")),
        };
        let fault = match (fault, length > 0.0) {
            (["torn"], false) => Fault::Torn,
            (["duplicate"], false) => Fault::Duplicate,
            (["skip", frames], false) => Fault::Skip(count(frames)?),
            (["garbage", bytes], false) => Fault::Garbage(count(bytes)?),
            (["counter"], false) => Fault::Counter,
            (["reset"], false) => Fault::Reset,
            (["stall"], true) => Fault::Stall,
            (["silence"], true) => Fault::Silence,
            (["hangup"], true) => Fault::HangUp,
            (["nofix"], true) => Fault::NoFix,
            _ => {
                return Err(format!(
                    "`{}` is no fault (torn, duplicate, skip N, garbage N, counter, reset; with `for LENGTH`: stall, \
                     silence, hangup, nofix)",
                    fault.join(" ")
                ))
            }
        };
        self.faults.push(Planned { start: seconds(start)?, length, fault });
        Ok(())
    }
}

/// The faults of a plan as time goes on.
#[derive(Debug, Clone)]
pub struct Timeline {
    faults: Vec<Planned>,
    repeat: Option<f64>,
    next: usize,
    round: u32,
}

impl Timeline {
    /// From the beginning.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self { faults: plan.faults.clone(), repeat: plan.grid.repeat, next: 0, round: 0 }
    }

    /// The next fault that begins before `time` (s), its start counted from the beginning of everything.
    pub fn due(&mut self, time: f64) -> Option<Planned> {
        if self.next == self.faults.len() && !self.faults.is_empty() && self.repeat.is_some() {
            self.next = 0;
            self.round += 1;
        }
        let planned = *self.faults.get(self.next)?;
        let start = planned.start + self.repeat.unwrap_or_default() * f64::from(self.round);
        if start >= time {
            return None;
        }
        self.next += 1;
        Some(Planned { start, ..planned })
    }
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| format!("`{text}` is no number from {least} to {most}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let duration = parse_duration(text).filter(|duration| duration.as_secs() <= 366 * 86_400);
    duration
        .map(|it| it.as_secs_f64())
        .ok_or_else(|| format!("`{text}` is no time (such as 150ms, 5s, 2m, 1h)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_stand_among_disturbances() {
        let plan = Plan::parse(
            "repeat 1m\ndevice ppm -35\ndevice jitter 3ms # late\nat 5s dip 40 for 100ms\nat 20s fault hangup for 10s\n\
             at 10s fault skip 5\n",
        )
        .unwrap();
        assert_eq!((plan.ppm, plan.jitter), (-35.0, 0.003));
        assert_eq!(plan.grid.timeline.len(), 1);
        let mut timeline = Timeline::new(&plan);
        assert_eq!(timeline.due(10.0), None);
        let skip = Planned { start: 10.0, length: 0.0, fault: Fault::Skip(5) };
        assert_eq!(timeline.due(10.1), Some(skip));
        assert_eq!(timeline.due(100.0).map(|planned| planned.fault), Some(Fault::HangUp));
        assert_eq!(timeline.due(100.0), Some(Planned { start: 70.0, ..skip }));
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text| Plan::parse(text).unwrap_err().to_string();
        assert!(error("seed 1\nat 5s fault dance").starts_with("line 2: `dance` is no fault"));
        assert!(error("at 5s fault torn for 3s").starts_with("line 1: `torn` is no fault"));
        assert_eq!(error("\n\ndevice ppm fast"), "line 3: `fast` is no number from -1000 to 1000");
        assert!(error("device ppm 3\nat 5s dance for 1s").starts_with("line 2:"), "of the grid's lines too");
    }
}
