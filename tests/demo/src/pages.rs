// SPDX-License-Identifier: Apache-2.0
//! The LuCI pages over this demo: the preview host, which starts dynapoint and mptcp-proxy as well.

use crate::stage::built;
use rustix::process::{kill_process, Pid, Signal};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to end, with the daemons it has started.
const PATIENCE: Duration = Duration::from_secs(10);

/// The preview host, until it is dropped.
pub(crate) struct Pages {
    program: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Pages {
    /// Serves the daemon whose directories lie in `dir`; comes back when the pages can be had.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let mut command = Command::new(built("preview")?);
        for (option, name) in [("--config-dir", "config"), ("--state-dir", "state"), ("--run-dir", "run")] {
            command.arg(option).arg(dir.join(name));
        }
        for daemon in ["dynapoint", "mptcp-proxy"] {
            built(daemon)?;
            command.args(["--start", daemon]);
        }
        // What the other daemons say has no place on this screen.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let program = command.spawn().map_err(|error| format!("preview: {error}"))?;
        let mut pages = Self { program, address: String::new() };
        if let Some(output) = pages.program.stdout.take() {
            // An error leaves the address empty, as the end of the output does.
            let _ = BufReader::new(output).read_line(&mut pages.address);
        }
        pages.address.truncate(pages.address.trim_end().len());
        match pages.address.is_empty() {
            true => Err("the preview of the LuCI pages did not start".into()),
            false => Ok(pages),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.program.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while matches!(self.program.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
