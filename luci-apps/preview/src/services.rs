// SPDX-License-Identifier: Apache-2.0
//! The daemons: started and stopped as procd would, asked over their sockets as ubus would.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::service::client::{self, Error};
use openwrt::uci::Source;
use rustix::process::{kill_process, Pid, Signal};
use serde_json::{json, Value};

use crate::rpc::{status, Arguments, Failure, Reply};

/// The daemons that there are pages for.
pub(crate) const NAMES: [&str; 3] = ["powqutyd", "dynapoint", "mptcp-proxy"];

/// Name, ubus object, and the packages it reads.
const DAEMONS: [(&str, &str, &[&str]); 3] = [
    ("powqutyd", "powquty", &["powquty", "system"]),
    ("dynapoint", "dynapoint", &["dynapoint", "wireless", "system", "network"]),
    ("mptcp-proxy", "mptcp-proxy", &["mptcp-proxy", "network"]),
];

/// How long a daemon may take to end, and how often it is looked after.
const STOP_PATIENCE: Duration = Duration::from_secs(4);
const STOP_PACE: Duration = Duration::from_millis(20);

/// Starts, stops and asks daemons.
pub(crate) struct Services {
    bin_dir: PathBuf,
    source: Source,
    run_dir: PathBuf,
    children: RefCell<BTreeMap<&'static str, Child>>,
}

/// Tells daemons that their configuration has changed.
#[derive(Clone)]
pub(crate) struct Reloader {
    run_dir: Rc<Path>,
}

impl Services {
    pub(crate) fn new(bin_dir: PathBuf, source: Source, run_dir: PathBuf) -> Self {
        Self { bin_dir, source, run_dir, children: RefCell::default() }
    }

    /// Calls a method of a daemon. `None`: the object belongs to no daemon. `Some(None)`: its daemon does not run.
    pub(crate) async fn forward(
        &self,
        object: &str,
        method: &str,
        arguments: &Arguments,
    ) -> Option<Option<Reply>> {
        let (daemon, ..) = DAEMONS.iter().find(|(_, name, _)| *name == object)?;
        let socket = self.socket(daemon);
        let (method, params) = (method.to_owned(), Value::Object(arguments.clone()));
        let asked = tokio::task::spawn_blocking(move || client::call(&socket, &method, &params)).await;
        Some(match asked {
            Ok(Ok(result)) => Some(Ok(result)),
            Ok(Err(Error::Call(error))) => {
                let data = json!({ "error": { "code": error.code, "message": error.message } });
                Some(Err(Failure { status: error.code.ubus_status(), data: Some(data) }))
            }
            Ok(Err(Error::NoAnswer(_))) => Some(Err(7.into())),
            Ok(Err(_)) => None,
            Err(_) => Some(Err(status::UNKNOWN_ERROR.into())),
        })
    }

    /// Starts a daemon that does not run.
    pub(crate) fn start(&self, name: &str) -> Result<(), String> {
        let (name, ..) = daemon(name)?;
        if self.runs(name) {
            return Ok(());
        }
        let binary = self.binary(name);
        let mut command = Command::new(&binary);
        command
            .arg("--config-dir")
            .arg(&self.source.config_dir)
            .arg("--state-dir")
            .arg(&self.source.state_dir)
            .arg("--run-dir")
            .arg(&self.run_dir)
            .arg("--ubus")
            .arg(self.run_dir.join("ubus.sock"))
            .args(["--log-to", "stderr", "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        self.children.borrow_mut().insert(name, child);
        Ok(())
    }

    /// What an init script does with its argument; the text is what it prints when it fails.
    pub(crate) async fn act(&self, name: &str, action: &str) -> Result<(), String> {
        match action {
            "start" => self.start(name),
            "stop" => self.stop(name).await,
            "restart" => {
                self.stop(name).await?;
                self.start(name)
            }
            "reload" => {
                let (name, _, packages) = daemon(name)?;
                if !self.runs(name) {
                    return self.start(name);
                }
                self.reloader().reload(&[packages[0].to_owned()]);
                Ok(())
            }
            "enable" | "disable" => Err("the preview has no boot to start at".into()),
            _ => Err(format!("unknown action {action}")),
        }
    }

    /// Whether somebody serves the daemon's socket.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.reap();
        client::Client::connect(&self.socket(name)).is_ok() || self.children.borrow().contains_key(name)
    }

    /// Whether the program is there.
    pub(crate) fn is_installed(&self, name: &str) -> bool {
        self.binary(name).is_file()
    }

    pub(crate) fn reloader(&self) -> Reloader {
        Reloader { run_dir: self.run_dir.as_path().into() }
    }

    /// Ends what was started here.
    pub(crate) async fn stop_all(&self) {
        for name in NAMES {
            if self.children.borrow().contains_key(name) {
                if let Err(error) = self.stop(name).await {
                    log::warn!("{name}: {error}");
                }
            }
        }
    }

    async fn stop(&self, name: &str) -> Result<(), String> {
        let (name, ..) = daemon(name)?;
        let child = self.children.borrow_mut().remove(name);
        let Some(mut child) = child else {
            return match self.runs(name) {
                true => Err("it was not started by the preview".into()),
                false => Ok(()),
            };
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + STOP_PATIENCE;
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < until => tokio::time::sleep(STOP_PACE).await,
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("it did not end and was killed".into());
                }
                Ok(Some(_)) | Err(_) => return Ok(()),
            }
        }
    }

    /// Forgets children that have ended.
    fn reap(&self) {
        self.children.borrow_mut().retain(|name, child| {
            let ended = child.try_wait().ok().flatten();
            if let Some(status) = ended.filter(|status: &ExitStatus| !status.success()) {
                log::warn!("{name} ended with {status}");
            }
            ended.is_none()
        });
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.run_dir.join(format!("{name}.sock"))
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

impl Reloader {
    /// Calls `reload` of every daemon that reads one of the packages, without waiting for it.
    pub(crate) fn reload(&self, changed: &[String]) {
        for (daemon, _, packages) in DAEMONS {
            if !packages.iter().any(|package| changed.iter().any(|name| name == package)) {
                continue;
            }
            let socket = self.run_dir.join(format!("{daemon}.sock"));
            tokio::task::spawn_blocking(move || match client::call(&socket, "reload", &Value::Null) {
                Ok(_) | Err(Error::NotRunning(_)) => {}
                Err(error) => log::warn!("{daemon} was not reloaded: {error}"),
            });
        }
    }
}

fn daemon(name: &str) -> Result<(&'static str, &'static str, &'static [&'static str]), String> {
    DAEMONS
        .into_iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| "there is no such service".to_owned())
}
