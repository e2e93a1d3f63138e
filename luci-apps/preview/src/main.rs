// SPDX-License-Identifier: Apache-2.0
//! Shows the LuCI apps in a browser without a router, with the real daemons behind them.
//!
//! The page files, menus and ACLs are the ones of the packages. What a router has around them is done here, and small:
//! `http.rs` serves pages, `rpc.rs` answers `/ubus` after `acl.rs` has permitted it, `uci_object.rs` is rpcd's `uci`,
//! `system.rs` the few other objects, `services.rs` starts daemons and forwards calls to their sockets. The browser's
//! half, our own small version of LuCI's client API, is in `web/`.

mod acl;
mod http;
mod menu;
mod rpc;
mod scratch;
mod services;
mod session;
mod system;
mod translation;
mod uci_object;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use lexopt::ValueExt as _;
use openwrt::logging;
use openwrt::reload::signals;
use openwrt::uci::Source;
use tokio::net::TcpListener;

const USAGE: &str = "\
Usage: preview [OPTIONS]

Serves the LuCI pages of powqutyd, dynapoint and mptcp-proxy on this machine, with the real daemons behind them.

  --listen ADDRESS:PORT  where (127.0.0.1:8080; another port if that one is taken)
  --apps DIR             the directory of the LuCI apps (luci-apps of this source tree)
  --bin-dir DIR          where the daemons are (beside this program)
  --config-dir DIR       configuration; without this option a scratch directory with examples, removed at the end
  --state-dir DIR        uncommitted changes of the daemons
  --run-dir DIR          the daemons' sockets
  --start DAEMON         start this daemon (all of them in a scratch directory); may be repeated
  -h, --help             this text
";

/// Where to listen if nothing is said.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&format!("{error}\n\n{USAGE}"), 2),
    };
    logging::init(log::LevelFilter::Info, "preview");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}"), 1),
    };
    match tokio::task::LocalSet::new().block_on(&runtime, run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

#[allow(clippy::print_stderr)] // this is what stderr is for
fn failed(reason: &str, code: u8) -> ExitCode {
    eprintln!("preview: {reason}");
    ExitCode::from(code)
}

async fn run(options: Options) -> Result<(), String> {
    // Before anything is put up, so that nothing is left behind.
    let mut signals = signals().map_err(|error| format!("cannot await signals: {error}"))?;
    let listener = listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let scratch = match &options.source {
        Some(_) => None,
        None => Some(scratch::Scratch::new()?),
    };
    let (source, run_dir) = match (&options.source, &scratch) {
        (Some(source), _) => (source.clone(), options.run_dir.clone()),
        (None, Some(scratch)) => (scratch.source(), scratch.run_dir()),
        (None, None) => return Err("no configuration".into()),
    };
    scratch::fill_in(&source.config_dir, address)?;
    let services = services::Services::new(options.bin_dir, source.clone(), run_dir);
    let start: Vec<String> = match options.start.is_empty() && scratch.is_some() {
        true => services::NAMES.map(str::to_owned).into(),
        false => options.start,
    };
    for name in &start {
        services.start(name).map_err(|error| format!("{name}: {error}"))?;
    }
    let host = Rc::new(rpc::Host::new(options.apps, source, services)?);
    println!("http://{address}");
    tokio::task::spawn_local(http::serve(listener, Rc::clone(&host)));
    signals.next().await;
    host.services.stop_all().await;
    for session in host.sessions.ids() {
        host.uci.forget(&session);
    }
    Ok(())
}

/// The wanted address, or without one the usual port or any other.
async fn listen(wanted: Option<SocketAddr>) -> Result<TcpListener, String> {
    let local = |port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    if let Some(wanted) = wanted {
        return TcpListener::bind(wanted).await.map_err(|error| format!("{wanted}: {error}"));
    }
    match TcpListener::bind(local(PORT)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(local(0)).await.map_err(|error| format!("127.0.0.1: {error}")),
    }
}

struct Options {
    listen: Option<SocketAddr>,
    apps: PathBuf,
    bin_dir: PathBuf,
    /// `None`: a scratch directory.
    source: Option<Source>,
    run_dir: PathBuf,
    start: Vec<String>,
}

impl Options {
    /// `None` where help is wanted.
    fn read(args: impl Iterator<Item = OsString>) -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options {
            listen: None,
            apps: concat!(env!("CARGO_MANIFEST_DIR"), "/..").into(),
            bin_dir: std::env::current_exe()
                .ok()
                .and_then(|program| Some(program.parent()?.to_owned()))
                .unwrap_or_default(),
            source: None,
            run_dir: "/var/run".into(),
            start: Vec::new(),
        };
        let (mut config_dir, mut state_dir) = (None, None);
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("listen") => options.listen = Some(parser.value()?.parse()?),
                lexopt::Arg::Long("apps") => options.apps = parser.value()?.into(),
                lexopt::Arg::Long("bin-dir") => options.bin_dir = parser.value()?.into(),
                lexopt::Arg::Long("config-dir") => config_dir = Some(PathBuf::from(parser.value()?)),
                lexopt::Arg::Long("state-dir") => state_dir = Some(PathBuf::from(parser.value()?)),
                lexopt::Arg::Long("run-dir") => options.run_dir = parser.value()?.into(),
                lexopt::Arg::Long("start") => options.start.push(parser.value()?.string()?),
                lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if let Some(config_dir) = config_dir {
            let state_dir = state_dir.ok_or("--config-dir needs --state-dir and --run-dir")?;
            options.source = Some(Source { config_dir, state_dir });
        }
        Ok(Some(options))
    }
}
