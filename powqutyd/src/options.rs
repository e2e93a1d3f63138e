// SPDX-License-Identifier: Apache-2.0
//! The options of `powqutyd run`, named as PowQuty named them.

use log::LevelFilter;
use openwrt::cli::{Common, UsageError};
use std::ffi::OsString;
use std::path::PathBuf;

/// What `powqutyd help run` says.
pub const HELP: &str = "  -f, --file FILE     measure this recording instead of the configured input (headerless 32-bit floats in volts
                      unless its name or the options input_format, input_rate, input_scale and input_offset say
                      otherwise; input_speed is how fast); the daemon goes on when it is at its end
  -r, --raw           print the samples on standard output, one line per frame of 6.25 ms:
                        -> OFFSET, SCALE, REALTIME, MONOTONIC: [BYTES-LENGTH-NUMBER] <tab> VOLTS VOLTS ...
                      (LSB; V per LSB; two clocks in microseconds when the frame had arrived; size and payload of
                      the frame on the oscilloscope's line; frames since the start, missing ones counted)
  -w, --rawfile FILE  write the same to a file, 90 kB a second without end; the option raw_path keeps a fifth of
                      that within a limit
  -d, --debug         the same as --log-level debug; tells each fault of the oscilloscope's line

SIGHUP reads the configuration again; a configuration with errors leaves the last good one in force. Without a
configuration that can be read the daemon runs and does nothing.
";

/// What the command line of `run` asks for beyond the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `-f`: the input, whatever is configured.
    pub file: Option<PathBuf>,
    /// `-r`: samples on standard output.
    pub print_raw: bool,
    /// `-w`: samples in a text file.
    pub raw_file: Option<PathBuf>,
    /// `-d`: everything in the log.
    pub debug: bool,
}

impl Options {
    /// Takes an option if it is one of these; `value` gives what stands behind it.
    ///
    /// # Errors
    /// Nothing stands behind one that needs it.
    pub fn take(
        &mut self,
        name: &str,
        value: &mut dyn FnMut() -> Result<OsString, UsageError>,
    ) -> Result<bool, UsageError> {
        match name {
            "-f" | "--file" => self.file = Some(value()?.into()),
            "-r" | "--raw" => self.print_raw = true,
            "-w" | "--rawfile" => self.raw_file = Some(value()?.into()),
            "-d" | "--debug" => self.debug = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Changes the common options accordingly.
    pub fn apply(&self, common: &mut Common) {
        if self.debug {
            common.log_level = common.log_level.max(LevelFilter::Debug);
        }
    }
}
