// SPDX-License-Identifier: Apache-2.0
//! Transparent TCP to MPTCP proxy for OpenWrt.

use std::process::ExitCode;
use std::rc::Rc;

use mptcp_proxy::daemon::{self, Daemon};
use mptcp_proxy::service;
use mptcp_proxy::session::Key;
use openwrt::cli::{self, Command, Common, Spec, Subcommand};
use openwrt::reload::{self, Signal};

const SPEC: Spec = Spec {
    name: "mptcp-proxy",
    version: env!("CARGO_PKG_VERSION"),
    about: "transparent TCP to MPTCP proxy",
    subcommands: &[Subcommand {
        name: "genkey",
        usage: "",
        about: "print a new key for an upstream and its user",
        help: "Prints 32 random bytes in base64. Both ends get the same key: `option key` of `config upstream` on the \
               client router, of `config user` on the server router.",
    }],
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
        Command::Other(name, _) if name == "genkey" => {
            cli::finish(&SPEC, cli::print(&format!("{}\n", Key::generate().expose())))
        }
        Command::Other(name, _) => cli::fail(&SPEC, format_args!("{name}: no such command")),
    }
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
    let _service = service::service(&daemon).start(&common.run_dir, &common.ubus)?;
    daemon.apply().await;
    let tasks = [
        tokio::task::spawn_local(Rc::clone(&daemon).sweep()),
        tokio::task::spawn_local(Rc::clone(&daemon).follow_network()),
        tokio::task::spawn_local(Rc::clone(&daemon.manager).run()),
    ];
    while signals.next().await == Signal::Reload {
        daemon.reload().await;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    daemon.stop().await;
    Ok(())
}
