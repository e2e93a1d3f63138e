// SPDX-License-Identifier: Apache-2.0
//! UCI configuration: a reader in safe Rust and a typed layer above it.
//!
//! The reader accepts what libuci accepts and gives what libuci gives, oddities included: the crate
//! `uci-oracle` holds it to the genuine libuci (its default, strict mode) on generated files. Where the data enters:
//!
//! - [`Source::load`] reads `/etc/config/<package>` and lays the uncommitted changes of
//!   `/tmp/.uci/<package>` over it (`source.rs`, the only file here that touches the file system);
//! - `lex.rs` knows quoting, comments and continued lines, `parse.rs` the commands of a configuration
//!   file, `delta.rs` the lines of a delta file, `edit.rs` what each change does to a [`Package`];
//! - [`Reader`] turns a [`Section`] into typed values and collects every [`Problem`].
//!
//! With the feature `write` (no daemon has it) [`Writer`] changes configuration the way the `uci` command and LuCI
//! do: `write.rs` decides what goes into a delta, `write_file.rs` locks, appends, commits.
//!
//! Differences to libuci, all on the safe side: a file with a NUL byte is refused as binary, a file above
//! [`MAX_FILE_BYTES`] is refused, package names cannot leave the directory.

mod delta;
mod edit;
mod error;
mod lex;
mod package;
mod parse;
mod source;
mod typed;
#[cfg(feature = "write")]
mod write;
#[cfg(feature = "write")]
mod write_file;

pub use error::{Cause, Error};
pub use package::{Opt, Package, Section, Text};
pub use source::{Source, MAX_FILE_BYTES};
pub use typed::{
    format_duration, parse_duration, Integer, Problem, ProblemSeverity, Problems, Reader, Secret,
};
#[cfg(feature = "write")]
pub use write::{Change, Command, WriteError};
#[cfg(feature = "write")]
pub use write_file::Writer;
