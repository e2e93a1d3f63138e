// SPDX-License-Identifier: Apache-2.0
//! The JSON-lines server: one request per line, one answer per line, and event streams.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at, Instant};

use super::events::Subscription;
use super::{CallError, Table};
use crate::task::boxed;

/// Bounds of the server; a daemon uses the defaults, tests use smaller ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Longest request line, in bytes.
    pub(super) line: usize,
    /// Most connections at a time.
    pub(super) connections: usize,
    /// From the first byte of a request to its end, and for the peer to take an answer or an event.
    pub(super) transfer: Duration,
    /// How long a connection may stay without a request.
    pub(super) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 16 * 1024,
            connections: 32,
            transfer: Duration::from_secs(5),
            idle: Duration::from_secs(300),
        }
    }
}

/// What the server counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: Cell<usize>,
    pub(super) refused: Cell<u32>,
    pub(super) calls: Cell<u32>,
}

/// Serves until dropped.
pub(super) async fn serve(listener: UnixListener, table: Rc<Table>, limits: Limits, counters: Rc<Counters>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => {
                counters.connections.set(connections.len());
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) if connections.len() < limits.connections => {
                let served = connection(stream, Rc::clone(&table), limits, Rc::clone(&counters));
                connections.spawn_local(boxed(served));
                counters.connections.set(connections.len());
            }
            Ok((stream, _)) => {
                add_one(&counters.refused);
                refuse(&stream);
            }
            Err(error) => {
                // Out of file descriptors or memory: the listener stays readable, so do not spin on it.
                log::warn!("cannot accept on the service socket: {error}");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, table: Rc<Table>, limits: Limits, counters: Rc<Counters>) {
    let (reader, writer) = stream.into_split();
    let mut peer = Peer { reader: BufReader::with_capacity(1024, reader), writer, limits };
    if let Err(error) = peer.serve(&table, &counters).await {
        log::debug!("service connection ended: {error}");
    }
}

/// Tells one connection too many why it is closed; never waits for it.
fn refuse(stream: &UnixStream) {
    let answer = Reply::from(Err(CallError::busy("too many connections")));
    if let Ok(line) = line(&answer) {
        let _ = stream.try_write(&line);
    }
}

struct Peer {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limits: Limits,
}

/// What a line of the peer turned out to be.
pub(super) enum Request {
    Call { method: String, params: Value },
    Subscribe { events: Vec<String> },
}

enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

/// `{"result":…}` or `{"error":…}`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Result(Value),
    Error(CallError),
}

impl Peer {
    async fn serve(&mut self, table: &Table, counters: &Counters) -> io::Result<()> {
        loop {
            let text = match self.line().await? {
                Line::Text(text) => text,
                Line::End => return Ok(()),
                Line::TooLong => {
                    let reason = format!("a request is at most {} bytes long", self.limits.line);
                    return self.answer(Err(CallError::argument("line", reason))).await;
                }
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            add_one(&counters.calls);
            match Request::parse(&text, table) {
                Ok(Request::Call { method, params }) => {
                    let result = table.call(&method, params).await;
                    self.answer(result).await?;
                }
                Ok(Request::Subscribe { events }) => return self.stream_events(table, events).await,
                Err(error) => self.answer(Err(error)).await?,
            }
        }
    }

    /// The next line without its newline. A last line without one counts; a line that takes longer than
    /// the limit to arrive ends the connection.
    async fn line(&mut self) -> io::Result<Line> {
        let mut text = Vec::new();
        let mut deadline = Instant::now() + self.limits.idle;
        loop {
            let Ok(chunk) = timeout_at(deadline, self.reader.fill_buf()).await else {
                let what = if text.is_empty() { "no request" } else { "an unfinished request" };
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            };
            let chunk = chunk?;
            if chunk.is_empty() {
                return Ok(if text.is_empty() { Line::End } else { Line::Text(text) });
            }
            if text.is_empty() {
                deadline = Instant::now() + self.limits.transfer;
            }
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let taken = newline.unwrap_or(chunk.len());
            if text.len() + taken > self.limits.line {
                return Ok(Line::TooLong);
            }
            text.extend_from_slice(&chunk[..taken]);
            self.reader.consume(newline.map_or(taken, |at| at + 1));
            if newline.is_some() {
                return Ok(Line::Text(text));
            }
        }
    }

    async fn answer(&mut self, result: Result<Value, CallError>) -> io::Result<()> {
        self.write(&line(&Reply::from(result))?).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(self.limits.transfer, self.writer.write_all(bytes)).await
    }

    /// Turns the connection into a stream of events, which ends when the peer leaves or lags.
    async fn stream_events(&mut self, table: &Table, names: Vec<String>) -> io::Result<()> {
        let subscribed: Vec<&str> =
            table.event_names().filter(|name| names.is_empty() || names.iter().any(|n| n == name)).collect();
        let confirmation = json!({ "subscribed": subscribed });
        let Subscription { mut queue, cut_off } = table.events.subscribe(names);
        self.answer(Ok(confirmation)).await?;
        let Self { reader, writer, limits } = self;
        let deliver = async {
            while let Some(event) = queue.recv().await {
                let line = line(&*event)?;
                in_time(limits.transfer, writer.write_all(&line)).await?;
            }
            Ok(())
        };
        tokio::select! {
            // First: once cut off, what is still queued is of no use to anybody.
            biased;
            _ = cut_off => Err(io::Error::new(io::ErrorKind::TimedOut, "a subscriber did not keep up")),
            left = until_end(reader) => left,
            delivered = deliver => delivered,
        }
    }
}

impl Request {
    pub(super) fn parse(text: &[u8], table: &Table) -> Result<Self, CallError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| CallError::argument("line", format_args!("is not JSON: {error}")))?;
        let Value::Object(mut map) = value else {
            return Err(CallError::argument("line", "must be an object with `method` and `params`"));
        };
        let method = match map.remove("method") {
            Some(Value::String(method)) => method,
            Some(_) => return Err(CallError::argument("method", "must be a string")),
            None => return Err(CallError::argument("method", "is missing")),
        };
        let params = map.remove("params").unwrap_or(Value::Null);
        if let Some(key) = map.keys().next() {
            return Err(CallError::argument(key, "is unknown; a request has `method` and `params`"));
        }
        if method == super::SUBSCRIBE {
            return Ok(Self::Subscribe { events: table.wanted_events(params)? });
        }
        Ok(Self::Call { method, params })
    }
}

impl From<Result<Value, CallError>> for Reply {
    fn from(result: Result<Value, CallError>) -> Self {
        match result {
            Ok(value) => Self::Result(value),
            Err(error) => Self::Error(error),
        }
    }
}

/// Reads and forgets what a subscriber still sends, until it leaves.
async fn until_end(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<()> {
    let mut ignored = [0; 256];
    while reader.read(&mut ignored).await? > 0 {}
    Ok(())
}

async fn in_time(limit: Duration, action: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(limit, action)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
}

pub(super) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

fn add_one(counter: &Cell<u32>) {
    counter.set(counter.get().saturating_add(1));
}
