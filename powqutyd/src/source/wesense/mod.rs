// SPDX-License-Identifier: Apache-2.0
//! The USB oscilloscope: found, opened, calibrated, started, read, and all of it again when it goes away.
//!
//! Nothing here ends before the source thread does: a device that is absent, silent or broken is looked for
//! without end, at a pace that costs nothing.

pub mod finder;
pub mod frame;
pub mod stream;

use super::decode::DecodeError;
use super::device::{Phase, Shared};
use super::{Arrival, Read, Source};
use crate::clock::monotonic;
use crate::tty::{Readiness, Tty};
use finder::Finder;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use stream::Stream;

/// Samples per second of the oscilloscope.
pub const RATE: f64 = 10_240.0;

/// A USB serial line has no speed; this is what PowQuty set.
const BAUD: u32 = 115_200;
/// Pauses between attempts to find the device: doubled from the first to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(125);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// The device is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A device that does not answer for this long is opened anew.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Nothing for this long is silence: the rest of a frame will not come any more.
const SILENCE: Duration = Duration::from_secs(1);
/// A silent device is opened anew after this.
const TOO_SILENT: Duration = Duration::from_secs(10);
/// A command of a few bytes is taken at once or not at all.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// Bytes are left to gather for this long, so that the processor wakes ten times a second and not 160 times;
/// the kernel keeps twice as much.
const GATHER: Duration = Duration::from_millis(96);
/// Longest wait in one call, so that the thread sees when it is to end.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// What the kernel holds for a tty.
const CHUNK: usize = 4096;

/// The oscilloscope as a [`Source`].
#[derive(Debug)]
pub struct Wesense {
    finder: Finder,
    link: Link,
    stream: Stream,
    read_again: Instant,
    report: Shared,
    bytes: Box<[u8; CHUNK]>,
}

#[derive(Debug)]
enum Link {
    Closed { retry_at: Instant, pause: Duration },
    Open { tty: Tty, stage: Stage },
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The calibration was asked for.
    Asked { since: Instant, last: Instant },
    /// The start was ordered; `heard` is when the last bytes came.
    Started { heard: Instant, last: Instant, silent: bool },
}

impl Wesense {
    /// Begins to look for the device; that there is none is no error.
    #[must_use]
    pub fn new(finder: Finder) -> Self {
        let now = Instant::now();
        Self {
            finder,
            link: Link::Closed { retry_at: now, pause: FIRST_RETRY },
            stream: Stream::default(),
            read_again: now,
            report: Shared::default(),
            bytes: Box::new([0; CHUNK]),
        }
    }

    /// Does what is next to be done; may leave something in `ready`.
    fn work(&mut self) {
        match &self.link {
            Link::Closed { retry_at, .. } => {
                let left = retry_at.saturating_duration_since(Instant::now());
                std::thread::sleep(left.min(LONGEST_WAIT));
                if left <= LONGEST_WAIT {
                    self.open();
                }
            }
            Link::Open { .. } => {
                if let Err(error) = self.listen() {
                    self.close(&error);
                }
            }
        }
    }

    fn open(&mut self) {
        let mut reason = None;
        for path in self.finder.candidates() {
            match self.open_at(&path) {
                Ok(()) => return,
                // The first one is the configured one.
                Err(error) => drop(reason.get_or_insert(failure(&path, &error))),
            }
        }
        let reason = reason.unwrap_or_else(|| "no device".to_owned());
        let mut report = self.report.lock();
        if report.reason.as_ref() != Some(&reason) {
            log::warn!("oscilloscope: {reason}; looking for it");
            report.reason = Some(reason);
        }
        report.phase = Phase::Absent;
        drop(report);
        if let Link::Closed { retry_at, pause } = &mut self.link {
            *retry_at = Instant::now() + *pause;
            *pause = (*pause * 2).min(LONGEST_RETRY);
        }
    }

    fn open_at(&mut self, path: &Path) -> io::Result<()> {
        let tty = Tty::open(path, BAUD)?;
        // One that an earlier process has left running is to begin with an answer.
        tty.write_all(&frame::STOP, WRITE_LIMIT)?;
        tty.write_all(&frame::REQUEST_CALIBRATION, WRITE_LIMIT)?;
        let now = Instant::now();
        self.link = Link::Open { tty, stage: Stage::Asked { since: now, last: now } };
        let device = path.display().to_string();
        log::info!("oscilloscope: opened {device}");
        let mut report = self.report.lock();
        report.phase = Phase::Starting;
        report.reason = None;
        report.device = Some(device);
        Ok(())
    }

    fn listen(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let pause = self.read_again.saturating_duration_since(now);
        if !pause.is_zero() {
            std::thread::sleep(pause.min(LONGEST_WAIT));
        }
        let Link::Open { tty, .. } = &self.link else { return Ok(()) };
        // After a pause there is something to read nearly always.
        let mut read = tty.read(&mut self.bytes[..])?;
        if read.is_none() && tty.wait(LONGEST_WAIT)? == Readiness::Readable {
            read = tty.read(&mut self.bytes[..])?;
        }
        if let Some(count) = read {
            self.heard(count, monotonic())?;
        }
        self.remind()
    }

    /// Takes the bytes that have come.
    fn heard(&mut self, count: usize, at: Duration) -> io::Result<()> {
        let now = Instant::now();
        if count < CHUNK {
            self.read_again = now + GATHER;
        }
        if let Some((offset, scale)) = self.stream.take(&self.bytes[..count], at) {
            self.calibrated(offset, scale)?;
        }
        let Link::Open { stage, .. } = &mut self.link else { return Ok(()) };
        if let Stage::Started { heard, silent, .. } = stage {
            *heard = now;
            *silent = false;
            if !self.stream.is_empty() {
                self.running();
            }
        }
        self.report.lock().faults.frames = self.stream.faults();
        Ok(())
    }

    fn calibrated(&mut self, offset: f32, scale: f32) -> io::Result<()> {
        let mut report = self.report.lock();
        if report.calibration.replace((offset, scale)) != Some((offset, scale)) {
            log::info!("oscilloscope: offset {offset} LSB, {scale} V per LSB");
        }
        drop(report);
        let Link::Open { tty, stage } = &mut self.link else { return Ok(()) };
        tty.write_all(&frame::START, WRITE_LIMIT)?;
        let now = Instant::now();
        *stage = Stage::Started { heard: now, last: now, silent: false };
        Ok(())
    }

    fn running(&self) {
        let mut report = self.report.lock();
        if report.phase != Phase::Running {
            report.phase = Phase::Running;
            report.reason = None;
            report.starts = report.starts.saturating_add(1);
            let device = report.device.clone().unwrap_or_default();
            drop(report);
            log::info!("oscilloscope: measuring with {device}");
        }
    }

    /// Asks again where no answer has come, and notices silence.
    fn remind(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let Link::Open { tty, stage } = &mut self.link else { return Ok(()) };
        match stage {
            Stage::Asked { since, .. } if now - *since > UNANSWERED => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer"));
            }
            Stage::Asked { last, .. } if now - *last > ASK_AGAIN => {
                *last = now;
                tty.write_all(&frame::REQUEST_CALIBRATION, WRITE_LIMIT)?;
            }
            Stage::Started { heard, .. } if now - *heard > TOO_SILENT => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "has been silent for too long"));
            }
            Stage::Started { heard, last, silent } if now - *heard > SILENCE => {
                if !*silent {
                    *silent = true;
                    self.silent();
                } else if now - *last > ASK_AGAIN {
                    // It may have been reset; the answer starts it again.
                    *last = now;
                    tty.write_all(&frame::REQUEST_CALIBRATION, WRITE_LIMIT)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn silent(&mut self) {
        self.stream.silence();
        let mut report = self.report.lock();
        report.faults.silences = report.faults.silences.saturating_add(1);
        report.faults.frames = self.stream.faults();
        report.phase = Phase::Silent;
        report.reason = Some("no samples come".to_owned());
        let device = report.device.clone().unwrap_or_default();
        drop(report);
        log::warn!("oscilloscope: {device} is silent");
    }

    fn close(&mut self, error: &io::Error) {
        // A frame that arrived whole before the end counts.
        self.stream.interrupted();
        self.link = Link::Closed { retry_at: Instant::now() + FIRST_RETRY, pause: FIRST_RETRY };
        let mut report = self.report.lock();
        let device = report.device.clone().unwrap_or_default();
        let reason = format!("{device}: {error}");
        if report.phase != Phase::Starting || report.reason.as_ref() != Some(&reason) {
            log::warn!("oscilloscope: {reason}; looking for it");
        }
        if matches!(report.phase, Phase::Running | Phase::Silent) {
            report.faults.hangups = report.faults.hangups.saturating_add(1);
        }
        report.faults.frames = self.stream.faults();
        report.phase = Phase::Absent;
        report.reason = Some(reason);
    }
}

fn failure(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        format!("no device at {} and none with its USB id", path.display())
    } else {
        format!("{}: {error}", path.display())
    }
}

impl Source for Wesense {
    fn read(&mut self, volts: &mut [f32]) -> Result<Read, DecodeError> {
        if self.stream.is_empty() {
            self.work();
        }
        Ok(self.stream.next(volts).unwrap_or(Read::Idle))
    }

    fn arrival(&self) -> Option<Arrival> {
        Some(self.stream.arrival())
    }

    fn is_drained(&self) -> bool {
        self.stream.is_empty()
    }

    fn report(&self) -> Option<Shared> {
        Some(self.report.clone())
    }
}

impl Drop for Wesense {
    fn drop(&mut self) {
        if let Link::Open { tty, .. } = &self.link {
            // One that is gone needs no stop.
            let _ = tty.write_all(&frame::STOP, WRITE_LIMIT);
        }
    }
}

#[cfg(test)]
mod tests;
