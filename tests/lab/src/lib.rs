// SPDX-License-Identifier: Apache-2.0
//! Real parts for tests, each with its clean-up.
//!
//! Everything here is for tests alone: it panics with a clear message where a part cannot be had.

pub mod netns;
pub mod ubusd;
pub mod ubusd_double;

pub use netns::Netns;
pub use ubusd::Ubusd;
pub use ubusd_double::UbusdDouble;
