// SPDX-License-Identifier: Apache-2.0
//! What the common subcommands do.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::{help, Common, Spec};
use crate::service::client::{Client, Error};
use crate::uci::{self, Problem, ProblemSeverity, Problems};

/// How long `status` waits for the daemon.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);

/// `check`: prints every problem, one per line, to stdout. Exit code 1 if a value cannot be used or the file
/// cannot be read; warnings alone are no failure.
pub fn main_check(read: &Result<Problems, uci::Error>) -> ExitCode {
    let mut text = String::new();
    let failed = match read {
        Ok(problems) if problems.is_empty() => {
            text.push_str("no problems\n");
            false
        }
        Ok(problems) => {
            for problem in problems {
                let note = if problem.severity == ProblemSeverity::Warning { " (warning)" } else { "" };
                text.push_str(&format!("{problem}{note}\n"));
            }
            problems.has_errors()
        }
        Err(error) => {
            text.push_str(&format!("{}\n", Problem::unreadable(error)));
            true
        }
    };
    let printed = print(&text).is_ok();
    if failed || !printed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// `status`: asks the running daemon and prints its answer by `pretty`, or as JSON.
pub fn main_status(
    spec: &Spec,
    common: &Common,
    json: bool,
    pretty: impl FnOnce(&Value, &mut dyn Write) -> io::Result<()>,
) -> ExitCode {
    let answer = Client::connect(&common.socket(spec)).and_then(|mut client| {
        client.set_timeout(Some(STATUS_PATIENCE))?;
        client.call("status", &Value::Null)
    });
    match answer {
        Ok(status) if json => finish(spec, print_json(&status)),
        Ok(status) => finish(spec, pretty(&status, &mut io::stdout().lock())),
        Err(error) => fail(spec, error),
    }
}

/// `call`: prints the method's answer as JSON; for `subscribe`, events one per line until the daemon ends.
pub fn main_call(spec: &Spec, common: &Common, method: &str, params: &Value) -> ExitCode {
    let client = match Client::connect(&common.socket(spec)) {
        Ok(client) => client,
        Err(error) => return fail(spec, error),
    };
    if method == "subscribe" {
        return match follow(client, params) {
            Ok(printed) => finish(spec, printed),
            Err(error) => fail(spec, error),
        };
    }
    let mut client = client;
    match client.call(method, params) {
        Ok(answer) => finish(spec, print_json(&answer)),
        Err(error) => fail(spec, format_args!("{method}: {error}")),
    }
}

/// `help`, of a command or of all.
pub fn main_help(spec: &Spec, topic: Option<&str>) -> ExitCode {
    let text = topic
        .and_then(|name| help::find(spec, name))
        .map_or_else(|| help::of_daemon(spec), |command| help::of_command(spec, &command));
    finish(spec, print(&text))
}

/// `version`.
pub fn main_version(spec: &Spec) -> ExitCode {
    finish(spec, print(&format!("{} {}\n", spec.name, spec.version)))
}

/// Says why on stderr, in one line, and gives exit code 1.
pub fn fail(spec: &Spec, reason: impl fmt::Display) -> ExitCode {
    complain(spec, reason);
    ExitCode::FAILURE
}

/// The exit code for output that was written: a reader that has had enough is no failure.
pub fn finish(spec: &Spec, written: io::Result<()>) -> ExitCode {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(spec, format_args!("cannot write the output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints to stdout; a reader that has gone is no error.
///
/// # Errors
/// Any other failure, a full disk for example.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints any status as indented `key: value` lines, for daemons without a form of their own.
///
/// # Errors
/// What writing gives.
pub fn generic_status(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    outline(status, 0, &mut text);
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[allow(clippy::print_stderr)] // this is what stderr is for
pub(super) fn complain(spec: &Spec, reason: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{}: {reason}", spec.name);
}

fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{key}:"));
                below(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let start = text.len();
                outline(item, depth + 1, text);
                if text.len() == start {
                    text.push_str(&format!("{indent}  none\n"));
                }
                // The dash takes the place of the deeper indent, which is two blanks of ASCII.
                text.replace_range(start + indent.len()..start + indent.len() + 2, "- ");
            }
        }
        scalar => text.push_str(&format!("{indent}{}\n", plain(scalar))),
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    let empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&format!(" {}\n", plain(value)));
            return;
        }
    };
    if empty {
        text.push_str(" none\n");
        return;
    }
    text.push('\n');
    outline(value, depth + 1, text);
}

/// A scalar without quotes; control characters stay harmless.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "unknown".into(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.into(),
        Value::String(text) if !text.chars().any(char::is_control) => text.clone(),
        other => other.to_string(),
    }
}

/// Readable on a terminal, one line for programs.
fn print_json(value: &Value) -> io::Result<()> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(value)? } else { value.to_string() };
    print(&format!("{text}\n"))
}

/// The outer result is the daemon's side, the inner one that of stdout.
fn follow(client: Client, params: &Value) -> Result<io::Result<()>, Error> {
    let subscription = client.subscribe_with(params)?;
    let mut out = io::stdout().lock();
    for event in subscription {
        let written = serde_json::to_vec(&event?).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            out.write_all(&line)?;
            out.flush()
        });
        if written.is_err() {
            return Ok(written);
        }
    }
    Ok(Ok(()))
}
