// SPDX-License-Identifier: Apache-2.0
//! Power quality monitor for OpenWrt: arguments and wiring.

use openwrt::cli::{self, Command, Spec, Subcommand, UsageError};
use powqutyd::analyze::{self, AnalyzeError};
use powqutyd::emulate::{self, EmulateError};
use powqutyd::subcommand::Error;
use powqutyd::{config, daemon, events, options, report, screen, storage, watch};
use std::process::ExitCode;

const SPEC: Spec = Spec {
    name: "powqutyd",
    version: env!("CARGO_PKG_VERSION"),
    about: "power quality monitor after EN 50160 and IEC 61000-4-30",
    subcommands: &[
        alerts::ALERT_TEST,
        Subcommand {
            name: "run",
            usage: "[-f FILE] [-r] [-w FILE] [-d]",
            about: "run in the foreground until SIGTERM (the default)",
            help: options::HELP,
        },
        Subcommand {
            name: "analyze",
            usage: "FILE|- [OPTIONS]",
            about: "measure a recording, one JSON object per result",
            help: analyze::HELP,
        },
        Subcommand {
            name: "emulate",
            usage: "[--pty PATH | --tty PATH] [--script FILE] [--gps]",
            about: "play an oscilloscope or a GPS receiver on a serial line",
            help: emulate::HELP,
        },
        Subcommand {
            name: "events",
            usage: "[OPTIONS] | export ID",
            about: "list the events of the running daemon, follow them, export one",
            help: events::HELP,
        },
        Subcommand {
            name: "report",
            usage: "[OPTIONS]",
            about: "judge a week after EN 50160 from the record file alone",
            help: report::HELP,
        },
        Subcommand { name: "watch", usage: "", about: "the status, drawn again each second", help: "" },
    ],
};

fn main() -> ExitCode {
    let mut own = options::Options::default();
    let args = std::env::args_os().skip(1);
    let (mut common, command) = match cli::parse_with(&SPEC, args, |name, value| own.take(name, value)) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(&SPEC),
    };
    match command {
        Command::Run => {
            own.apply(&mut common);
            common.init_logging(&SPEC);
            match daemon::run(&common, &own) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => cli::fail(&SPEC, error),
            }
        }
        Command::Check => {
            let read = config::load(&common.source).map(|(config, mut problems)| {
                if let Some(problem) = storage::remark(&config.logs).filter(|_| !problems.has_errors()) {
                    problems.push(problem);
                }
                problems
            });
            cli::main_check(&read)
        }
        Command::Status { json } => cli::main_status(&SPEC, &common, json, screen::status),
        Command::Call { method, params } => cli::main_call(&SPEC, &common, &method, &params),
        Command::Help { topic } => cli::main_help(&SPEC, topic.as_deref()),
        Command::Version => cli::main_version(&SPEC),
        Command::Other(name, args) => match name.as_str() {
            "alert-test" => alerts::alert_test(&SPEC, &args, &common.socket(&SPEC)),
            "analyze" => match analyze::main(&args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error @ AnalyzeError::Usage(_)) => {
                    UsageError::new(format!("analyze: {error}")).report(&SPEC)
                }
                Err(error) => cli::fail(&SPEC, error),
            },
            "emulate" => match emulate::main(&args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error @ EmulateError::Usage(_)) => {
                    UsageError::new(format!("emulate: {error}")).report(&SPEC)
                }
                Err(error) => cli::fail(&SPEC, error),
            },
            "events" => match events::main(&args, &common.socket(&SPEC)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(Error::Usage(error)) => UsageError::new(format!("events: {error}")).report(&SPEC),
                Err(error) => cli::fail(&SPEC, error),
            },
            "report" => match report::main(&args, &common.source) {
                Ok(()) => ExitCode::SUCCESS,
                Err(Error::Usage(error)) => UsageError::new(format!("report: {error}")).report(&SPEC),
                Err(error) => cli::fail(&SPEC, error),
            },
            "watch" if args.is_empty() => match watch::main(&common.socket(&SPEC)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => cli::fail(&SPEC, error),
            },
            "watch" => UsageError::new("watch takes no arguments".to_owned()).report(&SPEC),
            // The parser knows no others.
            _ => UsageError::new(format!("unknown command '{name}'")).report(&SPEC),
        },
    }
}
