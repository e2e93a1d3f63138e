// SPDX-License-Identifier: Apache-2.0
//! Programs that are run on transitions, as hotplug scripts are.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use openwrt::task::spawn;
use tokio::process::Command;
use tokio::time::timeout;

use crate::rule::Transition;

/// OpenWrt's way to run the scripts of a directory below `/etc/hotplug.d`.
const HOTPLUG: &str = "/sbin/hotplug-call";
const HOTPLUG_SCRIPTS: &str = "/etc/hotplug.d/dynapoint";
const PATIENCE: Duration = Duration::from_secs(60);
/// A link that flaps must not pile up programs that hang.
const MAX_RUNNING: u32 = 8;

/// Starts the configured program and the hotplug scripts, if there are any. Returns at once.
///
/// They find `ACTION` (the new state), `RULE`, `PREVIOUS`, `REASON` and `LASTED` (s) in their environment.
pub fn run(hook: Option<PathBuf>, rule: &str, transition: &Transition) {
    let hotplug = Path::new(HOTPLUG).exists() && Path::new(HOTPLUG_SCRIPTS).is_dir();
    let hotplug = hotplug.then(|| (PathBuf::from(HOTPLUG), Some("dynapoint")));
    for (program, argument) in hook.map(|hook| (hook, None)).into_iter().chain(hotplug) {
        let mut command = Command::new(&program);
        command
            .args(argument)
            .env("ACTION", transition.to.word())
            .env("RULE", rule)
            .env("PREVIOUS", transition.from.word())
            .env("REASON", &transition.reason)
            .env("LASTED", transition.lasted.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        start(program, command);
    }
}

fn start(program: PathBuf, mut command: Command) {
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
