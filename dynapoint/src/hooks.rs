// SPDX-License-Identifier: Apache-2.0
//! Programs that are run on transitions, as hotplug scripts are.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use openwrt::task::spawn;
use openwrt::ubus;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::rule::Transition;

/// procd's object for the scripts in [`HOTPLUG_SCRIPTS`]; it runs them as root, whoever asks.
const HOTPLUG_OBJECT: &str = "hotplug.dynapoint";
/// The same without procd.
const HOTPLUG: &str = "/sbin/hotplug-call";
const HOTPLUG_SCRIPTS: &str = "/etc/hotplug.d/dynapoint";
const PATIENCE: Duration = Duration::from_secs(60);
/// A link that flaps must not pile up programs that hang.
const MAX_RUNNING: u32 = 8;

/// Starts the configured program and has procd run the hotplug scripts, if there are any. Returns at once.
///
/// They find `ACTION` (the new state), `RULE`, `PREVIOUS`, `REASON` and `LASTED` (s) in their environment.
pub fn run(hook: Option<PathBuf>, bus: &ubus::Client, rule: &str, transition: &Transition) {
    let variables: Variables = [
        ("ACTION", transition.to.word().to_owned()),
        ("RULE", rule.to_owned()),
        ("PREVIOUS", transition.from.word().to_owned()),
        ("REASON", transition.reason.clone()),
        ("LASTED", transition.lasted.as_secs().to_string()),
    ];
    if let Some(hook) = hook {
        start(hook, &[], &variables);
    }
    let bus = bus.clone();
    spawn(async move {
        let env: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        match bus.call(HOTPLUG_OBJECT, "call", &json!({ "env": env })).await {
            Ok(_) => {}
            Err(ubus::Error::NoObject | ubus::Error::Unavailable) => {
                if Path::new(HOTPLUG).exists() && Path::new(HOTPLUG_SCRIPTS).is_dir() {
                    start(HOTPLUG.into(), &["dynapoint"], &variables);
                }
            }
            Err(error) => log::warn!("{HOTPLUG_OBJECT}: {error}"),
        }
    });
}

type Variables = [(&'static str, String); 5];

fn start(program: PathBuf, arguments: &[&str], variables: &Variables) {
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    supervise(program, command);
}

fn supervise(program: PathBuf, mut command: Command) {
    thread_local! {
        static RUNNING: Cell<u32> = const { Cell::new(0) };
    }
    if RUNNING.get() >= MAX_RUNNING {
        openwrt::log_repeated!(
            log::Level::Warn,
            "{}: {MAX_RUNNING} are still running; skipped",
            program.display()
        );
        return;
    }
    RUNNING.set(RUNNING.get() + 1);
    spawn(async move {
        match command.spawn() {
            Err(error) => log::warn!("{}: {error}", program.display()),
            Ok(mut child) => match timeout(PATIENCE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => log::warn!("{}: {status}", program.display()),
                Ok(Err(error)) => log::warn!("{}: {error}", program.display()),
                Err(_) => {
                    log::warn!("{}: killed after {} s", program.display(), PATIENCE.as_secs());
                    let group = child.id().and_then(|id| i32::try_from(id).ok());
                    if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
                        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                    }
                }
            },
        }
        RUNNING.set(RUNNING.get() - 1);
    });
}
