// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]

mod aggregate;
mod analyzer;
mod buffer;
mod clock;
pub mod compliance;
mod config;
pub mod en50160;
mod events;
mod fft;
mod flags;
mod flicker;
mod frequency;
mod harmonic_events;
mod integrate;
mod phase;
mod rank;
mod recording;
mod resample;
mod result;
mod rvc;
mod spectrum;

pub use analyzer::{Analyzer, Live};
pub use clock::TimeMap;
pub use config::{
    Config, ConfigError, Lamp, NetworkType, NominalFrequency, Recording, Reference, Thresholds,
};
pub use result::{
    Aggregate, Cell, Event, EventKind, Flicker, FlickerKind, Frequency, Gap, HarmonicDetail, Interval,
    Measurement, Rvc, Spectrum, Waveform, Window, ORDERS,
};
