// SPDX-License-Identifier: Apache-2.0
//! From the text of options to typed values: a configuration that exists is valid.
//!
//! A [`Reader`] is asked for each option by type, range and default. A value that does not fit takes its default
//! and leaves a [`Problem`]; so all mistakes of a file are found in one pass. What is never asked for is
//! reported as unknown by [`Reader::finish`].

mod problem;
mod reader;
mod value;

pub use problem::{Problem, ProblemSeverity, Problems, Secret};
pub use reader::Reader;
pub use value::{format_duration, parse_duration, Integer};
