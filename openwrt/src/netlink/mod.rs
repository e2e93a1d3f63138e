// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes, neighbours and rules of the kernel, and generic netlink families.
//!
//! - [`wire`] reads and writes messages and attributes; it is pure and takes bytes from outside.
//! - [`object`] gives the five rtnetlink objects their types; pure as well.
//! - [`Connection`] asks and orders: [`Connection::links`], [`Connection::add_rule`], … Requests are answered by the
//!   kernel within the system call, so the calls are blocking (with a time limit) and safe to use from an async task.
//! - [`Monitor`] is the async stream of changes. When the kernel had to drop some ([`Event::Overrun`]), the
//!   listener has to dump again.
//! - [`Family`] is a resolved generic netlink family (`mptcp_pm`, …).

mod connection;
mod generic;
mod monitor;
pub mod object;
mod prefix;
#[cfg(test)]
mod tests;
pub mod wire;

use std::io;

pub use connection::Connection;
pub use generic::Family;
pub use monitor::{Event, Monitor, Topics};
pub use object::{Address, Change, Link, Neighbour, NextHop, Object, Route, Rule};
pub use prefix::Prefix;
pub use wire::Malformed;

/// Why a request failed.
#[derive(Debug)]
pub enum Error {
    /// The socket could not be made, read or written; also a kernel that does not answer in time.
    Io(io::Error),
    /// The kernel refused the request (`EEXIST`, `ENODEV`, …).
    Refused(io::Error),
    /// The kernel sent something that is not netlink.
    Malformed(Malformed),
    /// There is no generic netlink family of this name: the kernel lacks the feature or its module.
    NoFamily(String),
}

impl Error {
    /// The errno of a refusal, for callers to whom "exists already" or "is gone already" is no failure.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused(error) | Error::Io(error) => error.raw_os_error(),
            Error::Malformed(_) | Error::NoFamily(_) => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "netlink: {error}"),
            Error::Refused(error) => write!(f, "the kernel refused: {error}"),
            Error::Malformed(error) => write!(f, "netlink: {error}"),
            Error::NoFamily(name) => write!(f, "the kernel has no netlink family `{name}`"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Error::Malformed(error)
    }
}
