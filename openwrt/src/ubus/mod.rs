// SPDX-License-Identifier: Apache-2.0
//! A peer of the ubus socket: calls methods, serves objects, notifies, subscribes, sends and receives events.
//!
//! `blob` is the attribute format, `message` the messages made of it, `peer` decides (no sockets, no clock), `connection`
//! moves bytes and runs handlers, `client` is what an application holds. The format is that of libubox and ubus; the constants carry their names.
//!
//! # What happens when
//! - **ubusd is absent or goes away**: the client connects again for ever, with back-off from 100 ms to 10 s, and then
//!   offers every object, event pattern and subscription again. Calls fail with [`Error::Unavailable`] meanwhile, events
//!   and notifications are dropped and counted.
//! - **a message is not of version 0, or longer than 1 MiB**: the connection is closed, counted in
//!   [`Counters::malformed`] and made anew.
//! - **the payload of a well-framed message is malformed** (ubusd passes it on unread): only that call or event fails.
//! - **ubusd reads slowly**: at most 2 MiB wait for it; what does not fit is dropped and counted, calls fail with
//!   [`Error::Overloaded`].
//! - **an answer is too long**: the caller gets [`Status::SystemError`] instead, counted.
//! - **callers are faster than the handlers**: 64 calls run at a time, further ones get [`Status::NoMemory`].
//! - **an application reads its events slowly**: the oldest are dropped and counted.

mod blob;
mod client;
mod connection;
mod mailbox;
mod message;
mod peer;

pub use client::{Client, Events, Object, ObjectHandle, Subscription};
pub use connection::Request;
#[doc(hidden)]
pub use peer::fuzz;

use serde_json::Value;
use std::fmt;

/// Where OpenWrt's ubusd listens.
pub const DEFAULT_SOCKET: &str = "/var/run/ubus/ubus.sock";

/// How a request ended, on the wire (`enum ubus_msg_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say what there is to say; the texts are in Display
pub enum Status {
    Ok,
    InvalidCommand,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    NoData,
    PermissionDenied,
    Timeout,
    NotSupported,
    UnknownError,
    ConnectionFailed,
    NoMemory,
    ParseError,
    SystemError,
    /// A number that is not in the list.
    Other(u32),
}

impl Status {
    const KNOWN: [(Self, &'static str); 14] = [
        (Self::Ok, "Success"),
        (Self::InvalidCommand, "Invalid command"),
        (Self::InvalidArgument, "Invalid argument"),
        (Self::MethodNotFound, "Method not found"),
        (Self::NotFound, "Not found"),
        (Self::NoData, "No response"),
        (Self::PermissionDenied, "Permission denied"),
        (Self::Timeout, "Request timed out"),
        (Self::NotSupported, "Operation not supported"),
        (Self::UnknownError, "Unknown error"),
        (Self::ConnectionFailed, "Connection failed"),
        (Self::NoMemory, "Out of memory"),
        (Self::ParseError, "Parsing message data failed"),
        (Self::SystemError, "System error"),
    ];

    /// The number on the wire.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::Other(number) => number,
            known => (0..).zip(Self::KNOWN).find(|(_, (status, _))| *status == known).map_or(9, |(n, _)| n),
        }
    }

    /// The status of a number on the wire.
    pub fn from_wire(number: u32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|index| Self::KNOWN.get(index))
            .map_or(Self::Other(number), |(status, _)| *status)
    }
}

/// The text that the `ubus` command shows.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(status, _)| status == self) {
            Some((_, text)) => f.write_str(text),
            None => write!(f, "Unknown error: {}", self.to_wire()),
        }
    }
}

/// Why a call or another request to the bus failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// No ubusd, or the connection broke while the call was under way.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// No object of this name.
    NoObject,
    /// The called object, or ubusd, answered with an error.
    Failed {
        /// What the called side says.
        status: Status,
        /// What it sent with it, if anything.
        detail: Option<Value>,
    },
    /// The message would be longer than 1 MiB.
    TooLarge,
    /// Tables and arrays nested deeper than 32 levels.
    TooDeep,
    /// An event's data, or a call's arguments, that are no JSON object.
    NotAnObject,
    /// Too much is waiting for ubusd already.
    Overloaded,
    /// The answer cannot be read.
    Malformed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("no connection to ubusd"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::NoObject => f.write_str("no object of this name"),
            Self::Failed { status, .. } => status.fmt(f),
            Self::TooLarge => f.write_str("message longer than 1 MiB"),
            Self::TooDeep => f.write_str("data nested deeper than 32 levels"),
            Self::NotAnObject => f.write_str("data is no JSON object"),
            Self::Overloaded => f.write_str("too many messages are waiting for ubusd"),
            Self::Malformed => f.write_str("malformed answer"),
        }
    }
}

impl std::error::Error for Error {}

/// A handler's answer that is not a success; from a [`Status`] when there is nothing to add.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The number that callers see; [`Status::Ok`] is sent as [`Status::UnknownError`].
    pub status: Status,
    /// Data sent before the status, which the `ubus` command prints; most other callers drop it.
    pub detail: Option<Value>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, detail: None }
    }
}

/// The type of a method's argument, as `ubus list -v` shows it.
///
/// It is a declaration: ubusd does not check it and neither does this module, the handler gets what the caller sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names of blobmsg
pub enum ArgType {
    Any,
    Array,
    Table,
    String,
    Int64,
    Int32,
    Int16,
    Bool,
    Double,
}

impl ArgType {
    const ALL: [Self; 9] = [
        Self::Any,
        Self::Array,
        Self::Table,
        Self::String,
        Self::Int64,
        Self::Int32,
        Self::Int16,
        Self::Bool,
        Self::Double,
    ];

    fn to_wire(self) -> u8 {
        (0..).zip(Self::ALL).find(|(_, arg_type)| *arg_type == self).map_or(0, |(number, _)| number)
    }

    fn from_wire(number: i64) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n)).copied().unwrap_or(Self::Any)
    }
}

/// An object on the bus, as [`Client::lookup`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Path such as `network.interface.wan`.
    pub name: String,
    /// Number that ubusd gave it; a new one each time it is offered.
    pub id: u32,
    /// The methods that this client may call, each with its arguments in alphabetical order.
    pub methods: Vec<(String, Vec<(String, ArgType)>)>,
}

/// A broadcast event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, for instance `ubus.object.add`.
    pub name: String,
    /// Its data, a JSON object.
    pub data: Value,
}

/// What becomes of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The object is on the bus and the subscription stands.
    Attached,
    /// The object notifies.
    Notification {
        /// The kind of notification, for instance `assoc`.
        kind: String,
        /// Its data, a JSON object.
        data: Value,
    },
    /// The object, or ubusd, went away; [`Update::Attached`] follows when it is back.
    Detached,
}

/// What went wrong so far, for status and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that ubusd greeted.
    pub connections: u32,
    /// Connections closed because of a message that cannot be followed, or an unanswered registration.
    pub malformed: u32,
    /// Events and notifications to others that were dropped: no ubusd, or too much waiting for it.
    pub dropped: u32,
    /// Answers that were not sent as the handler gave them: too long, or too much waiting for ubusd.
    pub lost_replies: u32,
    /// Calls from others that were refused because too many were running.
    pub refused: u32,
    /// Calls, events and notifications from others whose payload could not be read.
    pub unreadable: u32,
}
