// SPDX-License-Identifier: Apache-2.0
//! The raw recording: every sample, or those around events, in a ring file of bounded size.
//!
//! [`format`] is the file, block by block; [`recorder`] writes it in a thread of its own; [`reader`] reads it in the
//! order of time, for `powqutyd analyze`.

pub mod format;
pub mod reader;
pub mod recorder;

use std::path::PathBuf;
use std::time::Duration;

/// What is recorded, and where (`raw_*` options).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `raw_path`.
    pub path: PathBuf,
    /// `raw_size_kb`, in bytes.
    pub limit: u64,
    /// `raw_mode`.
    pub mode: Mode,
}

/// Which samples are recorded (`raw_mode`, `raw_margin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of them.
    Continuous,
    /// Those around dips, swells and interruptions.
    Events {
        /// As much before and after each.
        margin: Duration,
    },
}
