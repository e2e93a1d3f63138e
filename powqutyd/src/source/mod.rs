// SPDX-License-Identifier: Apache-2.0
//! Where samples come from: a thread of its own reads them in frames of 6.25 ms and hands them on through a
//! bounded queue, so that nothing behind the queue can hold the reader up.

pub mod command;
pub mod decode;
pub mod device;
pub mod script;
pub mod simulator;
pub mod wesense;

mod reader;
mod thread;

pub use reader::{open, OpenError};
pub use thread::{start, Delivery, Frame, Intake};

use crate::clock::monotonic;
use decode::{DecodeError, Format, Scaling};
use std::path::PathBuf;
use std::time::Duration;

/// Frames per second; 64 samples each at the oscilloscope's 10 240 Hz.
pub const FRAMES_PER_SECOND: f64 = 160.0;

/// Something that produces samples, driven by the source thread.
pub trait Source: Send {
    /// Fills the front of `volts`; blocks until there is at least one sample, a gap or the end.
    ///
    /// # Errors
    /// The input is broken; the source is not read again.
    fn read(&mut self, volts: &mut [f32]) -> Result<Read, DecodeError>;

    /// When the last samples that were read had arrived; `None` where that says nothing about when they were taken.
    fn arrival(&self) -> Option<Arrival> {
        Some(Arrival { at: monotonic(), ahead: 0 })
    }

    /// Nothing more is ready to be read at once: what has been handed on is worth a look.
    fn is_drained(&self) -> bool {
        true
    }

    /// Where a device says what it is doing.
    fn report(&self) -> Option<device::Shared> {
        None
    }
}

/// A moment and what had arrived by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// By the monotonic clock.
    pub at: Duration,
    /// Samples that had arrived beyond those handed on.
    pub ahead: u32,
}

/// What a [`Source`] delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// This many samples are at the front of the buffer.
    Samples(usize),
    /// This many samples are known to be missing.
    Gap(u64),
    /// The input was interrupted; only a clock knows how many samples are missing.
    Break,
    /// Nothing has come; it is worth asking again at once.
    Idle,
    /// There will be no more.
    End,
}

/// Which input, and how to understand it (`input*` options).
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What is read.
    pub kind: InputKind,
    /// Samples per second.
    pub rate: f64,
    /// How fast a file or the simulator runs.
    pub speed: Speed,
}

/// The kinds of input.
#[derive(Debug, Clone, PartialEq)]
pub enum InputKind {
    /// The USB oscilloscope on this tty.
    Wesense {
        /// `device_tty`.
        tty: PathBuf,
    },
    /// A recording.
    File {
        /// `input_path`.
        path: PathBuf,
        /// `input_format`.
        format: Format,
        /// `input_scale`, `input_offset`.
        scaling: Scaling,
    },
    /// Standard input.
    Stdin {
        /// `input_format`.
        format: Format,
        /// `input_scale`, `input_offset`.
        scaling: Scaling,
    },
    /// A simulated grid.
    Simulator {
        /// `simulator_script`; a quiet grid without.
        script: script::Script,
        /// V RMS.
        nominal_voltage: f64,
        /// Hz.
        nominal_frequency: f64,
    },
    /// A program that writes samples to its standard output.
    Command {
        /// `input_command`.
        command: String,
        /// `input_format`.
        format: Format,
        /// `input_scale`, `input_offset`.
        scaling: Scaling,
    },
}

impl InputKind {
    /// The name in the configuration and in `status`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Wesense { .. } => "wesense",
            Self::File { .. } => "file",
            Self::Stdin { .. } => "stdin",
            Self::Simulator { .. } => "simulator",
            Self::Command { .. } => "command",
        }
    }

    /// Lowest and highest voltage the converter can give, where the format tells.
    #[must_use]
    pub fn converter_limits(&self) -> Option<(f32, f32)> {
        self.steps().map(Scaling::range_of_s16)
    }

    /// How the steps of the converter become volts, where the format tells.
    #[must_use]
    pub fn steps(&self) -> Option<Scaling> {
        match self {
            Self::File { format: Format::S16le, scaling, .. }
            | Self::Stdin { format: Format::S16le, scaling }
            | Self::Command { format: Format::S16le, scaling, .. } => Some(*scaling),
            Self::File { .. }
            | Self::Stdin { .. }
            | Self::Command { .. }
            | Self::Wesense { .. }
            | Self::Simulator { .. } => None,
        }
    }
}

/// How fast a file or the simulator runs (`input_speed`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many seconds of signal per second; 1 is real time.
    Times(f64),
    /// As fast as the analysis goes.
    Max,
}

/// How an input meets a consumer that is too slow.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// The input waits.
    Waits,
    /// The input goes on at this many seconds of signal per second; frames are lost and counted.
    Live(f64),
    /// The input goes on at its own pace; frames are lost and counted.
    Device,
}

impl Input {
    fn pace(&self) -> Pace {
        match (&self.kind, self.speed) {
            (InputKind::Wesense { .. } | InputKind::Command { .. }, _) => Pace::Device,
            // A pipe has its own pace: its writer's.
            (InputKind::Stdin { .. }, _) | (_, Speed::Max) => Pace::Waits,
            (_, Speed::Times(times)) => Pace::Live(times),
        }
    }

    /// The samples are taken by a clock of their own, whose rate and place in time can be told from their arrival.
    #[must_use]
    pub fn has_own_clock(&self) -> bool {
        self.pace() == Pace::Device
    }

    /// Samples of one frame.
    #[must_use]
    pub fn frame_samples(&self) -> usize {
        (self.rate / FRAMES_PER_SECOND).round().max(1.0) as usize
    }
}
