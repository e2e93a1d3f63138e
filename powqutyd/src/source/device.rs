// SPDX-License-Identifier: Apache-2.0
//! What a source that is a device says of itself, for `status`.

use super::wesense::frame::Faults;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// There is none, or it cannot be opened; it is looked for.
    #[default]
    Absent,
    /// It is open and has not sent samples yet.
    Starting,
    /// Samples come.
    Running,
    /// It is open and has stopped sending.
    Silent,
}

/// What is known of the device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// What it is doing.
    pub phase: Phase,
    /// Where it is or was last, for instance `/dev/ttyACM0`.
    pub device: Option<String>,
    /// Why there are no samples.
    pub reason: Option<String>,
    /// How often samples began to come.
    pub starts: u32,
    /// Offset (LSB) and scale (V per LSB), where the device has told.
    pub calibration: Option<(f32, f32)>,
    /// Faults of the line.
    pub faults: LineFaults,
}

/// Faults of the line since the source was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineFaults {
    /// By the decoder.
    pub frames: Faults,
    /// The device went silent.
    pub silences: u32,
    /// The device went away.
    pub hangups: u32,
}

/// A [`Report`] that the source thread writes and the daemon reads.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Report>>);

impl Shared {
    /// The report, for a look or a change; never held for longer.
    pub fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
