// SPDX-License-Identifier: Apache-2.0
//! What `help` says.

use std::fmt::Write as _;

use super::{Spec, Subcommand};

/// The subcommands every daemon has.
pub(super) const COMMON: &[Subcommand] = &[
    Subcommand {
        name: "run",
        usage: "",
        about: "run in the foreground until SIGTERM (the default)",
        help: "SIGHUP reads the configuration again; a configuration with errors leaves the last good one in\nforce. \
               Without a configuration that can be read the daemon runs and does nothing.\n",
    },
    Subcommand {
        name: "check",
        usage: "",
        about: "check the configuration and print every problem",
        help: "Each problem is one line: file:section.option: value: reason. Exit status 1 if there is an error;\n\
               warnings, marked as such, leave it at 0.\n",
    },
    Subcommand {
        name: "status",
        usage: "[--json]",
        about: "print what the running daemon says of itself",
        help: "  --json    the whole answer, as JSON\n",
    },
    Subcommand {
        name: "call",
        usage: "METHOD [JSON]",
        about: "call a method of the running daemon",
        help: "JSON is an object with the arguments. 'call help' lists the methods, 'call subscribe' prints events\n\
               as they happen, one JSON object per line.\n",
    },
    Subcommand { name: "help", usage: "[COMMAND]", about: "explain a command, or list them all", help: "" },
    Subcommand { name: "version", usage: "", about: "print the version", help: "" },
];

const OPTIONS: &str = "\
Options:
  -c, --config-dir DIR   UCI configuration (default /etc/config)
      --state-dir DIR    uncommitted UCI changes (default /tmp/.uci)
      --run-dir DIR      the socket of the daemon is here (default /var/run)
      --ubus PATH        the socket of ubusd (default /var/run/ubus/ubus.sock; need not exist)
  -l, --log-level LEVEL  off, error, warn, info (default), debug or trace
      --log-to WHERE     stderr, syslog or auto (default: stderr on a terminal, else syslog)
  -h, --help             explain the command
  -V, --version          print the version

Exit status: 0 success, 1 failure, 2 usage.
";

/// A subcommand of this daemon by name.
pub(super) fn find(spec: &Spec, name: &str) -> Option<Subcommand> {
    all(spec).find(|command| command.name == name)
}

/// The whole text for one command.
pub(super) fn of_command(spec: &Spec, command: &Subcommand) -> String {
    let usage = if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
    let mut text = format!("{} {}{usage}: {}\n", spec.name, command.name, command.about);
    if !command.help.is_empty() {
        let _ = write!(text, "\n{}", command.help);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// The whole text for the daemon.
pub(super) fn of_daemon(spec: &Spec) -> String {
    let Spec { name, version, about, .. } = spec;
    let title = |command: &Subcommand| format!("{} {}", command.name, command.usage).trim_end().to_owned();
    let width = all(spec).map(|command| title(&command).chars().count()).max().unwrap_or(0);
    // Writing to a String cannot fail.
    let mut text = format!("{name} {version}: {about}\n\nUsage: {name} [OPTIONS] [COMMAND]\n\nCommands:\n");
    for command in all(spec) {
        let _ = writeln!(text, "  {:width$}  {}", title(&command), command.about);
    }
    text.push('\n');
    text.push_str(OPTIONS);
    text
}

/// The daemon's own commands stand between what is used daily and what explains; one that is named as a common one
/// takes its place.
fn all(spec: &Spec) -> impl Iterator<Item = Subcommand> {
    let replaced = |common: &'static Subcommand| {
        spec.subcommands.iter().find(|own| own.name == common.name).unwrap_or(common)
    };
    let is_own = |own: &&Subcommand| COMMON.iter().all(|common| common.name != own.name);
    let (daily, explaining) = COMMON.split_at(4);
    let own = spec.subcommands.iter().filter(is_own);
    daily
        .iter()
        .map(replaced)
        .chain(own)
        .chain(explaining.iter().map(replaced))
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
}
