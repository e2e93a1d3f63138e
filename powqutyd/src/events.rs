// SPDX-License-Identifier: Apache-2.0
//! `powqutyd events`: what happened, as a table, JSON or CSV, or as it happens.

use crate::notify::length;
use lexopt::prelude::*;
use openwrt::cli;
use openwrt::service::client::{self, Client};
use serde_json::{json, Value};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

/// What `powqutyd help events` says about the options.
pub const HELP: &str = "\
  --since TIME   only events that began then or later, such as 2026-01-31T12:00:00Z
  --kind KIND    dip, swell, interruption or harmonic
  --limit N      the newest N (20)
  --json         one JSON object per line
  --follow       then wait for more, until interrupted
";

/// Why there is no list.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(lexopt::Error),
    /// The daemon does not answer, or refuses.
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

/// Runs the subcommand with its arguments against the daemon at `socket`.
///
/// # Errors
/// See [`Error`].
pub fn main(args: &[OsString], socket: &Path) -> Result<(), Error> {
    let (mut params, mut limit, mut as_json, mut follow) = (json!({}), 20_u32, false, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("since") => params["since"] = parser.value()?.string()?.into(),
            Long("kind") => params["kind"] = parser.value()?.string()?.into(),
            Long("limit") => limit = parser.value()?.parse()?,
            Long("json") => as_json = true,
            Long("follow") => follow = true,
            other => return Err(other.unexpected().into()),
        }
    }
    // Subscribed first, so that nothing falls between list and stream.
    let stream = if follow { Some(client::subscribe(socket, &["powquty.event"])?) } else { None };
    let listed = list(socket, params, limit)?;
    if listed.is_empty() && !follow && !as_json {
        cli::print("no events\n")?;
    }
    let mut out = io::stdout().lock();
    let mut show = |event: &Value| {
        let written = match as_json {
            true => writeln!(out, "{event}"),
            false => writeln!(out, "{}", row(event)),
        };
        written.and_then(|()| out.flush())
    };
    for event in listed.iter().rev() {
        ended(show(event))?;
    }
    for event in stream.into_iter().flatten() {
        let event = event?.data;
        if !listed.iter().any(|known| known["id"] == event["id"]) && ended(show(&event))? {
            return Ok(());
        }
    }
    Ok(())
}

/// The newest events, newest first, fetched page by page.
fn list(socket: &Path, mut params: Value, limit: u32) -> Result<Vec<Value>, Error> {
    let mut client = Client::connect(socket)?;
    let mut listed: Vec<Value> = Vec::new();
    while listed.len() < limit as usize {
        params["offset"] = listed.len().into();
        params["limit"] = (limit as usize - listed.len()).into();
        let mut answer = client.call("events", &params)?;
        match answer["events"].take() {
            Value::Array(events) if !events.is_empty() => listed.extend(events),
            _ => break,
        }
    }
    Ok(listed)
}

/// `true` when the reader has had enough.
fn ended(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        other => Ok(other.map(|()| false)?),
    }
}

/// One line of the table: start, kind, length, extreme, cell.
#[must_use]
pub fn row(event: &Value) -> String {
    let start = event["start"].as_str().unwrap_or("-").replacen('T', " ", 1);
    let kind = event["kind"].as_str().unwrap_or("-");
    let length = event["duration"].as_f64().map_or_else(|| "-".to_owned(), length);
    let mut row = format!("{start:<24}  {kind:<12} {length:>12}");
    // Writing to a String has no way to fail.
    if let (Some(volts), Some(percent)) =
        (event["extreme_voltage"].as_f64(), event["extreme_percent"].as_f64())
    {
        let _ = write!(row, "  {volts:>7.1} V {percent:>5.1} %");
    }
    if let Some(order) = event["order"].as_u64() {
        let _ = write!(row, "  order {order}");
    }
    if let Some(share) = event["share_percent"].as_f64() {
        let _ = write!(row, ", above the limit in {share:.0} % of the time");
    }
    if let Some(class) = event["class"].as_str() {
        let _ = write!(row, "  {class}");
    }
    if event["open"] == true {
        row.push_str("  (not over)");
    }
    row
}
