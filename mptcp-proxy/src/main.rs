// SPDX-License-Identifier: Apache-2.0
//! Transparent TCP to MPTCP proxy for OpenWrt.

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use mptcp_proxy::daemon::{self, Daemon};
use mptcp_proxy::intercept;
use mptcp_proxy::service;
use mptcp_proxy::session::Key;
use mptcp_proxy::watch::{Trend, Watch};
use openwrt::cli::{self, Command, Common, Spec, Subcommand};
use openwrt::reload::{self, Signal};

const SPEC: Spec = Spec {
    name: "mptcp-proxy",
    version: env!("CARGO_PKG_VERSION"),
    about: "transparent TCP to MPTCP proxy",
    subcommands: &[
        alerts::ALERT_TEST,
        Subcommand {
            name: "doctor",
            usage: "",
            about: "check everything the proxy needs, and say what to do",
            help: "Asks the running daemon. Each line is ok, warn or fail; the exit code is 1 if any line is fail.",
        },
        Subcommand {
            name: "dnsmasq",
            usage: "",
            about: "print what dnsmasq has to be told for the domains of bypass_domain",
            help: "One line for a file in dnsmasq's conf-dir, nothing where no domain is configured. The init script puts \
                   it there.",
        },
        Subcommand {
        name: "genkey",
        usage: "",
        about: "print a new key for an upstream and its user",
        help: "Prints 32 random bytes in base64. Both ends get the same key: `option key` of `config upstream` on the \
               client router, of `config user` on the server router.",
        },
    ],
};

fn main() -> ExitCode {
    let (common, command) = match cli::parse(&SPEC, std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(&SPEC),
    };
    match command {
        Command::Run => run(&common),
        Command::Check => cli::main_check(&daemon::read(&common.source).map(|(_, problems)| problems)),
        Command::Status { json } => cli::main_status(&SPEC, &common, json, cli::generic_status),
        Command::Call { method, params } => cli::main_call(&SPEC, &common, &method, &params),
        Command::Help { topic } => cli::main_help(&SPEC, topic.as_deref()),
        Command::Version => cli::main_version(&SPEC),
        Command::Other(name, args) if name == "alert-test" => {
            alerts::alert_test(&SPEC, &args, &common.socket(&SPEC))
        }
        Command::Other(name, _) if name == "genkey" => {
            cli::finish(&SPEC, cli::print(&format!("{}\n", Key::generate().expose())))
        }
        Command::Other(name, _) if name == "doctor" => ask_doctor(&common),
        Command::Other(name, _) if name == "dnsmasq" => print_snippet(&common),
        Command::Other(name, _) => cli::fail(&SPEC, format_args!("{name}: no such command")),
    }
}

/// Where the node exporter of OpenWrt collects; no metrics are written while it is not there.
const METRICS: &str = "/var/prometheus";

fn ask_doctor(common: &Common) -> ExitCode {
    let answer =
        match openwrt::service::client::call(&common.socket(&SPEC), "doctor", &serde_json::Value::Null) {
            Ok(answer) => answer,
            Err(error) => return cli::fail(&SPEC, error),
        };
    let mut text = String::new();
    let checks = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let part = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    for check in checks {
        text.push_str(&format!(
            "{:4}  {}: {}\n",
            part(check, "result"),
            part(check, "check"),
            part(check, "detail")
        ));
        if !part(check, "remedy").is_empty() {
            text.push_str(&format!("      -> {}\n", part(check, "remedy")));
        }
    }
    let printed = cli::finish(&SPEC, cli::print(&text));
    if checks.iter().any(|check| check["result"] == "fail") {
        return ExitCode::FAILURE;
    }
    printed
}

fn print_snippet(common: &Common) -> ExitCode {
    match daemon::read(&common.source) {
        Ok((config, _)) => {
            let clients = config.clients.iter().filter(|_| config.enabled);
            let domains = clients.flat_map(|client| client.bypass_domains.iter().map(String::as_str));
            cli::finish(&SPEC, cli::print(&intercept::dnsmasq_snippet(domains)))
        }
        Err(error) => cli::fail(&SPEC, error),
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn run(common: &Common) -> ExitCode {
    common.init_logging(&SPEC);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&SPEC, format_args!("no runtime: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, serve(common));
    // Look-ups of names run on threads of their own and may hang in the resolver.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&SPEC, error),
    }
}

async fn serve(common: &Common) -> std::io::Result<()> {
    let mut signals = reload::signals()?;
    let daemon = Daemon::new(common.source.clone(), common.ubus.clone(), &common.run_dir);
    let identity = alerts::Identity { daemon: SPEC.name.to_owned(), host: hostname(), device_id: hostname() };
    let (raise, alerts) = alerts::start(daemon.alert_config(), identity, &common.run_dir);
    let (alerts, trend) = (Rc::new(alerts), Rc::new(Trend::default()));
    let service = service::service(&daemon, &trend, &alerts).start(&common.run_dir, &common.ubus)?;
    daemon.apply().await;
    let watch = Watch::new(daemon.clone(), service.events(), raise, trend, Path::new(METRICS));
    let tasks = [
        openwrt::task::spawn(watch.run()),
        openwrt::task::spawn(Rc::clone(&daemon).sweep()),
        openwrt::task::spawn(Rc::clone(&daemon).follow_network()),
        openwrt::task::spawn(Rc::clone(&daemon.manager).run()),
    ];
    while signals.next().await == Signal::Reload {
        daemon.reload().await;
        alerts.reconfigure(daemon.alert_config());
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    daemon.stop().await;
    Ok(())
}
