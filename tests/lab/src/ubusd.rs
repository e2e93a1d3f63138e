// SPDX-License-Identifier: Apache-2.0
//! The real ubusd, where the machine has one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A real ubusd of its own on a temporary socket, killed on drop.
#[derive(Debug)]
pub struct Ubusd {
    dir: tempfile::TempDir,
    program: PathBuf,
    running: Mutex<Option<Child>>,
}

impl Ubusd {
    /// Starts the program that the environment variable `UBUSD` names; without it, or as another user than root (whom
    /// ubusd would allow nothing), says so and gives `None`.
    #[allow(clippy::print_stderr)] // a skipped test has to be seen
    pub fn from_env() -> Option<Self> {
        let Some(program) = std::env::var_os("UBUSD").map(PathBuf::from) else {
            eprintln!("SKIPPED: UBUSD does not name a real ubusd");
            return None;
        };
        if std::fs::metadata("/proc/self").expect("/proc is mounted").uid() != 0 {
            eprintln!("SKIPPED: a real ubusd is of use to root only");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ubusd-").tempdir().expect("a temporary directory");
        let ubusd = Self { dir, program, running: Mutex::default() };
        ubusd.start_again();
        Some(ubusd)
    }

    /// The socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ubus.sock")
    }

    /// Kills it.
    pub fn stop(&self) {
        let child = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut child) = child {
            child.kill().expect("ubusd can be killed");
            child.wait().expect("ubusd ends");
        }
    }

    /// Starts it on the same socket and waits until it listens.
    pub fn start_again(&self) {
        self.stop();
        let _ = std::fs::remove_file(self.path());
        let child = Command::new(&self.program)
            .arg("-s")
            .arg(self.path())
            .arg("-A")
            .arg(self.dir.path())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        *self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(child);
        let end = Instant::now() + Duration::from_secs(10);
        while !self.path().exists() {
            assert!(Instant::now() < end, "{} makes no socket", self.program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The `ubus` command for this ubusd: the one that `UBUS` names, or beside ubusd (`../bin/ubus`, `./ubus`), or in
    /// the PATH.
    pub fn command(&self) -> Command {
        let beside = |path: &str| self.program.parent().unwrap_or(Path::new(".")).join(path);
        let program = std::env::var_os("UBUS")
            .map(PathBuf::from)
            .into_iter()
            .chain([beside("../bin/ubus"), beside("ubus")])
            .find(|path| path.exists())
            .unwrap_or_else(|| PathBuf::from("ubus"));
        let mut command = Command::new(program);
        command.arg("-s").arg(self.path());
        command
    }

    /// Runs the `ubus` command and gives what it printed.
    pub fn ubus(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().expect("the ubus command runs")
    }
}

impl Drop for Ubusd {
    fn drop(&mut self) {
        self.stop();
    }
}
