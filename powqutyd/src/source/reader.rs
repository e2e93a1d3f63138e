// SPDX-License-Identifier: Apache-2.0
//! Opens what the configuration names: devices, programs, files, pipes and the simulator.

use super::command::CommandSource;
use super::decode::{DecodeError, Format, SampleReader, Scaling};
use super::simulator::{Produced, Simulator};
use super::wesense::{finder::Finder, Wesense};
use super::{Input, InputKind, Read, Source};
use std::fmt;
use std::fs::File;
use std::io;

/// Why an input cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be opened or its first bytes cannot be read.
    Unreadable(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens an input.
///
/// # Errors
/// What stands in the way, in words for the operator.
pub fn open(input: &Input) -> Result<Box<dyn Source>, OpenError> {
    match &input.kind {
        InputKind::File { path, format, scaling } => {
            let shown = path.display();
            let unreadable =
                |error: io::Error| OpenError::Unreadable(format!("{shown}: cannot open: {error}"));
            let file = File::open(path).map_err(unreadable)?;
            if file.metadata().map_err(unreadable)?.is_dir() {
                return Err(OpenError::Unreadable(format!("{shown}: is a directory")));
            }
            samples(file, *format, *scaling, &shown.to_string())
        }
        InputKind::Stdin { format, scaling } => samples(io::stdin(), *format, *scaling, "standard input"),
        InputKind::Simulator { script, nominal_voltage, nominal_frequency } => {
            Ok(Box::new(Simulator::new(script.clone(), input.rate, *nominal_voltage, *nominal_frequency)))
        }
        InputKind::Wesense { tty } => Ok(Box::new(Wesense::new(Finder::new(tty.clone())))),
        InputKind::Command { command, format, scaling } => {
            Ok(Box::new(CommandSource::new(command.clone(), *format, *scaling)))
        }
    }
}

fn samples<R: io::Read + Send + 'static>(
    input: R,
    format: Format,
    scaling: Scaling,
    shown: &str,
) -> Result<Box<dyn Source>, OpenError> {
    let reader = SampleReader::new(input, format, scaling, None)
        .map_err(|error| OpenError::Unreadable(format!("{shown}: {error}")))?;
    Ok(Box::new(reader))
}

impl<R: io::Read + Send> Source for SampleReader<R> {
    fn read(&mut self, volts: &mut [f32]) -> Result<Read, DecodeError> {
        Ok(match SampleReader::read(self, volts)? {
            0 => Read::End,
            count => Read::Samples(count),
        })
    }
}

impl Source for Simulator {
    fn read(&mut self, volts: &mut [f32]) -> Result<Read, DecodeError> {
        Ok(match self.fill(volts) {
            Produced::Samples => Read::Samples(volts.len()),
            Produced::Nothing => Read::Gap(volts.len() as u64),
        })
    }
}
