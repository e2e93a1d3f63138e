// SPDX-License-Identifier: Apache-2.0
//! Power quality monitor for OpenWrt: what the binary `powqutyd` is made of.
//!
//! Data enters through [`source`] (a thread of its own), is judged by the crate `power-quality` inside
//! [`monitor`], and leaves through [`outputs`]: logs ([`storage`]), telemetry, alerts, subscribers. The clock of it all
//! is the sample counter ([`clock`]).

pub mod analyze;
pub mod clock;
pub mod comtrade;
pub mod config;
pub mod daemon;
pub mod dump;
pub mod emulate;
pub mod events;
pub mod export;
pub mod gps;
pub mod homeassistant;
pub mod lights;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod options;
pub mod outage;
pub mod outputs;
pub mod printer;
pub mod raw;
pub mod record;
pub mod records;
pub mod report;
pub mod screen;
pub mod second;
pub mod service;
pub mod source;
pub mod storage;
pub mod subcommand;
pub mod summary;
pub mod taps;
pub mod telemetry;
pub mod trend;
pub mod tty;
pub mod watch;
pub mod weekly;

// The made-up week is shared with the end-to-end tests, which see this crate under its name.
#[cfg(test)]
extern crate self as powqutyd;
