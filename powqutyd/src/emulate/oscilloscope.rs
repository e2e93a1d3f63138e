// SPDX-License-Identifier: Apache-2.0
//! A WeSense made of arithmetic: commands in, bytes out, time as an argument.

use super::plan::{Fault, Plan, Planned, Timeline};
use super::{Device, HangUp};
use crate::source::simulator::{Produced, Simulator};
use std::time::Duration;

/// Samples per second and per frame, as the device has them.
const RATE: f64 = 10_240.0;
const SAMPLES: usize = 64;
const FRAME: usize = 134;

/// The emulated oscilloscope.
pub struct Oscilloscope {
    grid: Simulator,
    timeline: Timeline,
    scale: f32,
    offset: f32,
    jitter: f64,
    seconds_per_frame: f64,
    /// Frames sampled since the beginning.
    frame: u64,
    counter: u16,
    sampling: bool,
    command: Vec<u8>,
    skip: u16,
    silent_until: f64,
    stalled_until: f64,
    /// What is sent late keeps its order.
    sent_until: f64,
    random: u64,
}

impl Oscilloscope {
    /// Switched on at time 0, on a grid of this voltage (V) and frequency (Hz).
    #[must_use]
    pub fn new(plan: &Plan, nominal_voltage: f64, nominal_frequency: f64) -> Self {
        let rate = RATE * (1.0 + plan.ppm * 1e-6);
        Self {
            grid: Simulator::new(plan.grid.clone(), rate, nominal_voltage, nominal_frequency),
            timeline: Timeline::new(plan),
            scale: plan.scale,
            offset: plan.offset,
            jitter: plan.jitter,
            seconds_per_frame: SAMPLES as f64 / rate,
            frame: 0,
            counter: 0,
            sampling: false,
            command: Vec::new(),
            skip: 0,
            silent_until: 0.0,
            stalled_until: 0.0,
            sent_until: 0.0,
            random: plan.grid.seed,
        }
    }

    /// When the next frame goes out.
    fn due(&mut self) -> f64 {
        let taken = (self.frame + 1) as f64 * self.seconds_per_frame;
        let hash = (self.frame.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 24) as f64;
        let late = taken + self.jitter * hash;
        self.sent_until = self.sent_until.max(late).max(self.stalled_until);
        self.sent_until
    }

    fn send(&mut self, raw: &[i16; SAMPLES], fault: Option<Fault>, out: &mut Vec<u8>) {
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&[0x05, 0x85, 130, 0]);
        let counter = if fault == Some(Fault::Counter) { self.counter ^ 0x2A55 } else { self.counter };
        frame[4..6].copy_from_slice(&counter.to_le_bytes());
        for (pair, sample) in frame[6..].chunks_exact_mut(2).zip(raw) {
            pair.copy_from_slice(&sample.to_le_bytes());
        }
        match fault {
            Some(Fault::Torn) => {
                let lost = 1 + self.random() as usize % 100;
                let at = self.random() as usize % (FRAME - lost);
                out.extend(&frame[..at]);
                out.extend(&frame[at + lost..]);
            }
            Some(Fault::Duplicate) => {
                out.extend(frame);
                out.extend(frame);
            }
            Some(Fault::Garbage(count)) => {
                out.extend((0..count).map(|_| self.random() as u8));
                out.extend(frame);
            }
            _ => out.extend(frame),
        }
    }

    fn random(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Carries a command out.
    fn obey(&mut self, command: &[u8], out: &mut Vec<u8>) {
        match command {
            [0x02, 0x02, 0, 0] => {
                out.extend([0x02, 0x82, 8, 0]);
                out.extend(self.offset.to_le_bytes());
                out.extend(self.scale.to_le_bytes());
            }
            [0x03, 0x04, 1, 0, mode] => {
                if *mode != 0 && !self.sampling {
                    self.counter = 0;
                }
                self.sampling = *mode != 0;
                out.extend([0x03, 0x84, 1, 0, *mode]);
            }
            _ => {}
        }
    }
}

impl Device for Oscilloscope {
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.command.extend(bytes);
        loop {
            let [_, _, low, high, ..] = self.command[..] else { return };
            let length = 4 + usize::from(u16::from_le_bytes([low, high]));
            if length > 64 {
                // No command of the protocol is that long.
                self.command.clear();
                return;
            }
            if self.command.len() < length {
                return;
            }
            let command: Vec<u8> = self.command.drain(..length).collect();
            self.obey(&command, out);
        }
    }

    fn advance(&mut self, now: f64, out: &mut Vec<u8>) -> Option<HangUp> {
        while self.due() <= now {
            let time = self.frame as f64 * self.seconds_per_frame;
            let mut fault = None;
            let mut hang_up = None;
            // One fault of a single frame at a time; further ones come with the next frames.
            while fault.is_none() {
                let Some(Planned { start, length, fault: planned }) =
                    self.timeline.due(time + self.seconds_per_frame)
                else {
                    break;
                };
                match planned {
                    Fault::Skip(frames) => self.skip = frames,
                    Fault::Stall => self.stalled_until = start + length,
                    Fault::Silence => self.silent_until = start + length,
                    Fault::Reset => (self.sampling, self.counter) = (false, 0),
                    Fault::HangUp => hang_up = Some(HangUp { length: Duration::from_secs_f64(length) }),
                    Fault::NoFix => {}
                    Fault::Torn | Fault::Duplicate | Fault::Garbage(_) | Fault::Counter => {
                        fault = Some(planned);
                    }
                }
            }
            let mut volts = [0.0; SAMPLES];
            let produced = self.grid.fill(&mut volts);
            self.frame += 1;
            if hang_up.is_some() {
                self.power_cycle();
                return hang_up;
            }
            if !self.sampling {
                continue;
            }
            let skipped = self.skip > 0 || time < self.silent_until || produced == Produced::Nothing;
            self.skip = self.skip.saturating_sub(1);
            if !skipped {
                let raw = volts.map(|volt| (volt / self.scale + self.offset).round() as i16);
                self.send(&raw, fault, out);
            }
            self.counter = self.counter.wrapping_add(1);
        }
        None
    }

    fn next(&mut self) -> f64 {
        self.due()
    }

    fn power_cycle(&mut self) {
        self.sampling = false;
        self.counter = 0;
        self.command.clear();
    }
}
