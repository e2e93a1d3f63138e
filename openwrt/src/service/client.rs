// SPDX-License-Identifier: Apache-2.0
//! The other end of the socket, blocking: for command lines and tests.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{json, Value};

use super::{CallError, Event, CALL_DEADLINE, SUBSCRIBE};

/// The longest line the client takes, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Calls one method and hangs up.
///
/// # Errors
/// See [`Error`].
pub fn call(socket: &Path, method: &str, params: &Value) -> Result<Value, Error> {
    Client::connect(socket)?.call(method, params)
}

/// Subscribes to the named events, or to all for no names.
///
/// # Errors
/// See [`Error`].
pub fn subscribe(socket: &Path, events: &[&str]) -> Result<Subscription, Error> {
    Client::connect(socket)?.subscribe(events)
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// A stream of events; as an iterator it ends when the daemon does.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody serves the socket.
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    Denied(PathBuf),
    /// The daemon is there but does not answer.
    NoAnswer(PathBuf),
    /// The connection failed.
    Io(PathBuf, io::Error),
    /// The daemon answered, with an error.
    Call(CallError),
}

impl Client {
    /// Connects; answers are waited for as long as a method may take.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Denied`] or [`Error::Io`].
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).map_err(|error| Error::from_io(socket, error))?;
        let mut client = Self { stream: BufReader::new(stream), path: socket.into() };
        client.set_timeout(Some(CALL_DEADLINE + Duration::from_secs(5)))?;
        Ok(client)
    }

    /// How long to wait for an answer; `None` waits for ever.
    ///
    /// # Errors
    /// [`Error::Io`] for a timeout of zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        let stream = self.stream.get_ref();
        stream
            .set_read_timeout(timeout)
            .and_then(|()| stream.set_write_timeout(timeout))
            .map_err(|error| Error::from_io(&self.path, error))
    }

    /// Calls a method; `params` is an object, or null for none.
    ///
    /// # Errors
    /// [`Error::Call`] with the daemon's reason, or that of a lost connection.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        let mut line = json!({ "method": method, "params": params }).to_string();
        line.push('\n');
        // A daemon that has refused the connection has closed it, but its reason can still be read.
        let written = self.stream.get_mut().write_all(line.as_bytes());
        match (self.line(), written) {
            (Ok(Some(line)), _) => match self.parse(&line)? {
                Answer::Result(value) => Ok(value),
                Answer::Error(error) => Err(Error::Call(error)),
            },
            (Ok(None), Ok(())) => Err(self.io(ErrorKind::UnexpectedEof, "closed without an answer")),
            (Ok(None), Err(error)) => Err(Error::from_io(&self.path, error)),
            (Err(error), _) => Err(error),
        }
    }

    /// Turns the connection into a stream of events, which is waited for without limit; no names mean all.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn subscribe(self, events: &[&str]) -> Result<Subscription, Error> {
        self.subscribe_with(&if events.is_empty() { Value::Null } else { json!({ "events": events }) })
    }

    /// As [`Client::subscribe`], with the parameters as they go over the wire.
    pub(crate) fn subscribe_with(mut self, params: &Value) -> Result<Subscription, Error> {
        self.call(SUBSCRIBE, params)?;
        self.set_timeout(None)?;
        Ok(Subscription { client: self })
    }

    /// The next line, or `None` at the end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_ANSWER).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Error::from_io(&self.path, error))?;
        if read as u64 == MAX_ANSWER && line.last() != Some(&b'\n') {
            return Err(self.io(ErrorKind::InvalidData, "an answer is too long"));
        }
        Ok((read > 0).then_some(line))
    }

    fn parse<'a, T: Deserialize<'a>>(&self, line: &'a [u8]) -> Result<T, Error> {
        serde_json::from_slice(line)
            .map_err(|error| self.io(ErrorKind::InvalidData, &format!("not an answer: {error}")))
    }

    fn io(&self, kind: ErrorKind, what: &str) -> Error {
        Error::Io(self.path.clone(), io::Error::new(kind, what))
    }
}

impl Subscription {
    /// How long [`Iterator::next`] waits for an event before it gives [`Error::NoAnswer`]; `None` waits
    /// for ever, as at first.
    ///
    /// # Errors
    /// As [`Client::set_timeout`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.client.set_timeout(timeout)
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.client.line().transpose()?;
        Some(line.and_then(|line| self.client.parse(&line)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Result(Value),
    Error(CallError),
}

impl Error {
    fn from_io(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::NotRunning(socket),
            ErrorKind::PermissionDenied => Self::Denied(socket),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::NoAnswer(socket),
            _ => Self::Io(socket, error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(socket) => write!(f, "not running (nobody serves {})", socket.display()),
            Self::Denied(socket) => write!(f, "permission denied on {}; try as root", socket.display()),
            Self::NoAnswer(socket) => write!(f, "no answer on {}", socket.display()),
            Self::Io(socket, error) => write!(f, "{}: {error}", socket.display()),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
