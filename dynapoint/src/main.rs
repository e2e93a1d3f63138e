// SPDX-License-Identifier: Apache-2.0
//! Command line of dynapoint.

use std::future::Future;
use std::process::ExitCode;

use dynapoint::{config, oneshot, run, service};
use openwrt::cli::{self, Command, Common, Spec, Subcommand, UsageError};
use serde_json::Value;

const SPEC: Spec = Spec {
    name: service::NAME,
    version: env!("CARGO_PKG_VERSION"),
    about: "switches access points by whether the Internet behind them works",
    subcommands: &[
        alerts::ALERT_TEST,
        Subcommand {
            name: "probe",
            usage: "[RULE]",
            about: "make every check once and print result, time and verdict",
            help: "Needs no running daemon and switches nothing. Exit code 0 if every rule is online or degraded.",
        },
        Subcommand {
            name: "plan",
            usage: "",
            about: "print what would be done to which BSS now, without doing it",
            help: "Asks the running daemon. Nothing to do prints `nothing to do`.",
        },
    ],
};

fn main() -> ExitCode {
    let (common, command) = match cli::parse(&SPEC, std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(&SPEC),
    };
    match command {
        Command::Run => {
            common.init_logging(&SPEC);
            match on_one_thread(run::run(common)) {
                Ok(Ok(())) => ExitCode::SUCCESS,
                Ok(Err(error)) | Err(error) => cli::fail(&SPEC, error),
            }
        }
        Command::Check => cli::main_check(&config::load(&common.source).map(|(_, problems)| problems)),
        Command::Status { json } => cli::main_status(&SPEC, &common, json, service::pretty),
        Command::Call { method, params } => cli::main_call(&SPEC, &common, &method, &params),
        Command::Help { topic } => cli::main_help(&SPEC, topic.as_deref()),
        Command::Version => cli::main_version(&SPEC),
        Command::Other(name, args) if name == "alert-test" => {
            alerts::alert_test(&SPEC, &args, &common.socket(&SPEC))
        }
        Command::Other(name, args) => {
            let args: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
            match (name.as_str(), args.as_deref()) {
                ("probe", Some([])) => probe(&common, None),
                ("probe", Some([rule])) if !rule.starts_with('-') => probe(&common, Some(rule)),
                ("plan", Some([])) => plan(&common),
                _ => UsageError::new(format!("{name}: unexpected arguments")).report(&SPEC),
            }
        }
    }
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}

fn probe(common: &Common, rule: Option<&str>) -> ExitCode {
    match on_one_thread(oneshot::probe(common, rule)) {
        Ok(Ok((text, all_up))) => match cli::finish(&SPEC, cli::print(&text)) {
            ExitCode::SUCCESS if !all_up => ExitCode::FAILURE,
            code => code,
        },
        Ok(Err(reason)) => cli::fail(&SPEC, reason),
        Err(error) => cli::fail(&SPEC, error),
    }
}

fn plan(common: &Common) -> ExitCode {
    let answer = match openwrt::service::client::call(&common.socket(&SPEC), "plan", &Value::Null) {
        Ok(answer) => answer,
        Err(error) => return cli::fail(&SPEC, error),
    };
    let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let mut text = String::new();
    if let Some(reason) = answer["paused"].as_str() {
        text.push_str(&format!("paused: {reason}\n"));
    }
    for step in list("steps") {
        text.push_str(&format!("{}\n", step.as_str().unwrap_or_default()));
    }
    for held in list("held") {
        let part = |key: &str| held[key].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("{} waits: {}\n", part("section"), part("reason")));
    }
    if text.is_empty() {
        text.push_str("nothing to do\n");
    }
    cli::finish(&SPEC, cli::print(&text))
}
