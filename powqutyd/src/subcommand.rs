// SPDX-License-Identifier: Apache-2.0
//! What the subcommands that talk to the daemon or read its files have in common.

use openwrt::service::client;
use std::fmt;
use std::io;

/// Why a subcommand did not do its work.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(lexopt::Error),
    /// No answer, nothing there, or it cannot be read or written.
    Failed(String),
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("cannot write: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

/// Whether the reader has had enough.
///
/// # Errors
/// Writing failed for another reason.
pub fn ended(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        other => Ok(other.map(|()| false)?),
    }
}
