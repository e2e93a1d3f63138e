// SPDX-License-Identifier: Apache-2.0
//! `powqutyd events`: what happened, as a table, JSON or CSV, or as it happens.

use crate::export;
use crate::notify::length;
use crate::storage::csv_line;
use crate::subcommand::{ended, Error};
use lexopt::prelude::*;
use openwrt::cli;
use openwrt::service::client::{self, Client};
use serde_json::{json, Value};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

/// What `powqutyd help events` says about the options.
pub const HELP: &str = "  --since TIME   only events that began then or later, such as 2026-01-31T12:00:00Z
  --kind KIND    dip, swell, interruption, harmonic, power_loss or outage
  --limit N      the newest N (20; with --since all that are known)
  --json         one JSON object per line
  --csv          one line of CSV each, after the names of the columns
  --follow       then wait for more, until interrupted

  powqutyd events export ID|last [--output BASE]

writes the waveform of an event as COMTRADE (IEEE C37.111-2013), BASE.cfg and BASE.dat (BASE: powquty-ID); the ids
are in the output of --json. The last events have one (option waveform_count).
";

/// Runs the subcommand with its arguments against the daemon at `socket`.
///
/// # Errors
/// See [`Error`].
pub fn main(args: &[OsString], socket: &Path) -> Result<(), Error> {
    if let Some((_, args)) = args.split_first().filter(|(first, _)| *first == "export") {
        return export::main(args, socket);
    }
    let (mut params, mut limit, mut format, mut follow) = (json!({}), None, Format::Table, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("since") => params["since"] = parser.value()?.string()?.into(),
            Long("kind") => params["kind"] = parser.value()?.string()?.into(),
            Long("limit") => limit = Some(parser.value()?.parse()?),
            Long("json") => format = Format::Json,
            Long("csv") => format = Format::Csv,
            Long("follow") => follow = true,
            other => return Err(other.unexpected().into()),
        }
    }
    // Subscribed first, so that nothing falls between list and stream.
    let stream = if follow { Some(client::subscribe(socket, &["powquty.event"])?) } else { None };
    let limit = limit.unwrap_or(if params["since"].is_null() { 20 } else { u32::MAX });
    let listed = list(socket, params, limit)?;
    if listed.is_empty() && !follow && format == Format::Table {
        cli::print("no events\n")?;
    }
    let mut out = io::stdout().lock();
    let mut show = |line: String| writeln!(out, "{line}").and_then(|()| out.flush());
    if format == Format::Csv && ended(show(COLUMNS.join(",")))? {
        return Ok(());
    }
    for event in listed.iter().rev() {
        if ended(show(format.line(event)))? {
            return Ok(());
        }
    }
    for event in stream.into_iter().flatten() {
        let event = event?.data;
        if !listed.iter().any(|known| known["id"] == event["id"]) && ended(show(format.line(&event)))? {
            return Ok(());
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Table,
    Json,
    Csv,
}

/// Columns of the CSV: keys of the object, empty where it has none.
const COLUMNS: [&str; 12] = [
    "id",
    "kind",
    "start",
    "end",
    "duration",
    "extreme_voltage",
    "extreme_percent",
    "class",
    "order",
    "limit_percent",
    "value_percent",
    "share_percent",
];

impl Format {
    fn line(self, event: &Value) -> String {
        let field = |column: &&str| match &event[*column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Self::Table => row(event),
            Self::Json => event.to_string(),
            Self::Csv => csv_line(&COLUMNS.iter().map(field).collect::<Vec<_>>()),
        }
    }
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
