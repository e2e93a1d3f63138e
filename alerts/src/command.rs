// SPDX-License-Identifier: Apache-2.0
//! `DAEMON alert-test [SINK]`, the same in every daemon.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use openwrt::cli::{self, Spec, Subcommand, UsageError};
use openwrt::service::client::{Client, Error};
use serde_json::{json, Value};

use crate::SinkKind;

/// The subcommand, for the daemon's [`Spec`].
pub const ALERT_TEST: Subcommand = Subcommand {
    name: "alert-test",
    usage: "[SINK]",
    about: "send a test alert now and print the receiver's answer",
    help: "SINK is slack, mqtt, email or exec; without it every sink of the configuration gets the alert. Asks the\n\
           running daemon. Exit code 1 if one did not take it.",
};

/// Runs it with what stood behind its name.
pub fn alert_test(spec: &Spec, args: &[OsString], socket: &Path) -> ExitCode {
    let sink = match args {
        [] => None,
        [name] => match name.to_str().filter(|name| SinkKind::from_name(name).is_some()) {
            Some(name) => Some(name.to_owned()),
            None => return usage(spec, &format!("no sink '{}'", name.to_string_lossy())),
        },
        _ => return usage(spec, "one sink at most"),
    };
    match Client::connect(socket).and_then(|client| ask(client, sink)) {
        Ok((text, true)) => cli::finish(spec, cli::print(&text)),
        Ok((text, false)) => {
            cli::finish(spec, cli::print(&text));
            ExitCode::FAILURE
        }
        Err(error) => cli::fail(spec, format_args!("alert-test: {error}")),
    }
}

/// What became of each test, and whether all arrived.
fn ask(mut client: Client, sink: Option<String>) -> Result<(String, bool), Error> {
    let sinks = match sink {
        Some(sink) => vec![sink],
        None => match client.call("alerts", &Value::Null)? {
            Value::Object(sinks) => sinks.into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        },
    };
    let sinks: Vec<String> = sinks.into_iter().filter(|name| SinkKind::from_name(name).is_some()).collect();
    if sinks.is_empty() {
        return Ok(("no sink is configured\n".into(), false));
    }
    let (mut text, mut all) = (String::new(), true);
    for sink in sinks {
        let (delivered, answer) = match client.call("alert_test", &json!({ "sink": sink })) {
            Ok(result) => (
                result["delivered"].as_bool().unwrap_or(false),
                result["answer"].as_str().unwrap_or_default().to_owned(),
            ),
            Err(error @ Error::Call(_)) => (false, error.to_string()),
            Err(error) => return Err(error),
        };
        all &= delivered;
        let verdict = if delivered { "delivered" } else { "NOT delivered" };
        text.push_str(&format!("{sink}: {verdict}: {answer}\n"));
    }
    Ok((text, all))
}

fn usage(spec: &Spec, reason: &str) -> ExitCode {
    UsageError::new(format!("alert-test: {reason}")).report(spec)
}
