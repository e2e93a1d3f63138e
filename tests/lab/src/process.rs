// SPDX-License-Identifier: Apache-2.0
//! Daemons as processes, each in directories of its own.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::capture::{wait_for, wait_or, Capture, PATIENCE};
use crate::usage;

/// The binary of this name, built in the profile of the running test.
///
/// # Panics
/// Says which `cargo build` is missing.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("where is this test? {error}"));
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
    let profile = test.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    let profile = profile.unwrap_or_else(|| panic!("{} lies in no target directory", test.display()));
    let binary = profile.join(name);
    assert!(
        binary.is_file(),
        "{} is not built: run `cargo build -p {name}` first (with --release if the test is built so)",
        binary.display()
    );
    binary
}

/// Directories for one daemon, as on a router: configuration, uncommitted changes, sockets, data. They are
/// deleted on drop, and outlive any number of starts of the daemon until then.
#[derive(Debug)]
pub struct Environment {
    dir: TempDir,
    ubus: PathBuf,
}

impl Environment {
    /// Empty directories and no ubusd.
    pub fn new() -> Self {
        let dir =
            TempDir::with_prefix("lab-").unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        for name in ["config", "state", "run", "data"] {
            fs::create_dir(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let ubus = dir.path().join("run/ubus.sock");
        Self { dir, ubus }
    }

    /// The daemon will look for ubusd here.
    #[must_use]
    pub fn with_ubus(mut self, socket: &Path) -> Self {
        self.ubus = socket.into();
        self
    }

    /// Where the configuration lies.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Where uncommitted changes lie.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where the service socket will lie.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A place for anything else, below a directory that exists.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// Writes `/etc/config/<package>`.
    pub fn write_config(&self, package: &str, text: &str) {
        let path = self.config_dir().join(package);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The service socket of a daemon.
    pub fn socket(&self, daemon: &str) -> PathBuf {
        self.run_dir().join(format!("{daemon}.sock"))
    }

    /// A command that runs the daemon's binary with these directories; what it logs goes to stderr.
    pub fn command<A: AsRef<OsStr>>(&self, daemon: &str, args: impl IntoIterator<Item = A>) -> Command {
        self.command_of(&binary(daemon), args)
    }

    /// As [`Environment::command`], for a program that lies elsewhere.
    pub fn command_of<A: AsRef<OsStr>>(&self, program: &Path, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--config-dir")
            .arg(self.config_dir())
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--run-dir")
            .arg(self.run_dir())
            .arg("--ubus")
            .arg(&self.ubus)
            .args(["--log-to", "stderr"])
            .args(args);
        command
    }

    /// Starts the daemon; it need not be ready when this returns.
    pub fn spawn(&self, daemon: &str) -> Daemon {
        self.spawn_with(daemon, ["--log-level", "debug"])
    }

    /// Starts the daemon with further arguments.
    pub fn spawn_with<A: AsRef<OsStr>>(&self, daemon: &str, args: impl IntoIterator<Item = A>) -> Daemon {
        Daemon::start(self.command(daemon, args), daemon, self.socket(daemon))
    }

    /// Runs a subcommand to its end.
    pub fn run<A: AsRef<OsStr>>(&self, daemon: &str, args: impl IntoIterator<Item = A>) -> Finished {
        finish(self.command(daemon, args), b"")
    }

    /// Runs a subcommand to its end with this on stdin.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        daemon: &str,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Finished {
        finish(self.command(daemon, args), input)
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

/// What a command that ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs a command to its end with this on stdin; panics if it takes longer than five minutes.
pub fn finish(mut command: Command, input: &[u8]) -> Finished {
    const LONGEST: Duration = Duration::from_secs(300);
    let mut process = Process::start(command.stdin(Stdio::piped()), true);
    if let Some(mut stdin) = process.child.stdin.take() {
        let input = input.to_vec();
        // A thread, since the command may print before it has read everything; it may also not read at all.
        thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }
    let status = process.wait(LONGEST);
    process.join_readers();
    Finished { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() }
}

/// A running daemon, killed on drop. Its log is printed when the test fails.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    socket: PathBuf,
    process: Process,
}

impl Daemon {
    /// Starts any command as a daemon that serves this socket.
    pub fn start(mut command: Command, name: &str, socket: PathBuf) -> Self {
        let process = Process::start(command.stdin(Stdio::null()), false);
        Self { name: name.into(), socket, process }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// As [`usage::memory_kb`].
    ///
    /// # Panics
    /// When it has ended.
    pub fn memory_kb(&self, field: &str) -> u64 {
        usage::memory_kb(self.pid(), field).unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    /// As [`usage::descriptors`].
    ///
    /// # Panics
    /// When it has ended.
    pub fn descriptors(&self) -> Vec<u32> {
        usage::descriptors(self.pid()).unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// What it logged so far (stdout and stderr).
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// Waits until its log contains this.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_for(&format!("'{text}' in the log"), || self.process.stderr.contains(text).then_some(()));
    }

    /// Waits until `look` finds something; panics after [`PATIENCE`], or at once if the daemon has ended.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let pid = self.process.pid();
        wait_for(&format!("{what} of {}", self.name), PATIENCE, || {
            // Asked before the look: what it did last is still found.
            let ended = has_ended(pid);
            if ended {
                self.process.join_readers();
            }
            let found = look();
            assert!(found.is_some() || !ended, "{} ended while the test waited for {what}", self.name);
            found
        })
    }

    /// Waits until it serves its socket.
    pub fn wait_until_ready(&self) {
        self.wait_for("the service socket", || UnixStream::connect(&self.socket).ok());
    }

    /// Calls a method, waiting for the socket first; the error is the daemon's `{code, message}`.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Value> {
        self.wait_until_ready();
        ask(&self.socket, method, params)
    }

    /// Waits until the answer of `status` satisfies the test, and gives it.
    pub fn wait_for_status(&self, what: &str, mut test: impl FnMut(&Value) -> bool) -> Value {
        self.wait_until_ready();
        let last = RefCell::new(Value::Null);
        let pid = self.process.pid();
        let look = || {
            assert!(!has_ended(pid), "{} ended while the test waited for {what}", self.name);
            let status = ask(&self.socket, "status", &Value::Null).ok()?;
            let found = test(&status);
            last.replace(status);
            found.then(|| last.take())
        };
        wait_or(PATIENCE, look, || format!("{what} of {}; its status was {:#}", self.name, last.borrow()))
    }

    /// Subscribes to all its events.
    pub fn subscribe(&self) -> Subscription {
        self.wait_until_ready();
        Subscription::open(&self.socket)
    }

    /// SIGHUP: read the configuration again.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for the end; gives the exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.process.wait(PATIENCE)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            self.process.join_readers();
            eprintln!("--- log of {} ---\n{}---", self.name, self.log());
        }
    }
}

/// Calls one method over a service socket, byte by byte as the interface is written down, so that tests do
/// not depend on the daemons' own client. Panics if there is no well-formed answer.
pub fn ask(socket: &Path, method: &str, params: &Value) -> Result<Value, Value> {
    let mut stream = connect(socket);
    send(&mut stream, &json!({ "method": method, "params": params }));
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .unwrap_or_else(|error| panic!("{method}: no answer: {error}"));
    match serde_json::from_str(&answer) {
        Ok(Value::Object(mut answer)) if answer.len() == 1 && answer.contains_key("result") => {
            Ok(answer["result"].take())
        }
        Ok(Value::Object(mut answer)) if answer.len() == 1 && answer.contains_key("error") => {
            Err(answer["error"].take())
        }
        _ => panic!("{method}: not an answer: {answer:?}"),
    }
}

/// A stream of events over a service socket.
#[derive(Debug)]
pub struct Subscription(BufReader<UnixStream>);

impl Subscription {
    /// Subscribes to all events of the daemon that serves this socket.
    pub fn open(socket: &Path) -> Self {
        let mut stream = connect(socket);
        send(&mut stream, &json!({ "method": "subscribe" }));
        let mut subscription = Self(BufReader::new(stream));
        let confirmed = subscription.line();
        assert!(confirmed["result"]["subscribed"].is_array(), "not subscribed: {confirmed}");
        subscription
    }

    /// The next event, `{event, data}`; waits up to [`PATIENCE`].
    pub fn next_event(&mut self) -> Value {
        self.line()
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap_or_else(|error| panic!("no event came: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not an event: {line:?}: {error}"))
    }
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        set(&stream, Some(PATIENCE)).unwrap_or_else(|error| panic!("no timeout: {error}"));
    }
    stream
}

fn send(stream: &mut UnixStream, request: &Value) {
    stream.write_all(format!("{request}\n").as_bytes()).unwrap_or_else(|error| panic!("{request}: {error}"));
}

/// A child process with what it prints; killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts the command and collects what it prints: apart, or both together as `stderr`.
    pub(crate) fn start(command: &mut Command, apart: bool) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", command.get_program().display()));
        let stderr = Capture::new();
        let stdout = if apart { Capture::new() } else { stderr.clone() };
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stream| stdout.read(stream)));
        readers.extend(child.stderr.take().map(|stream| stderr.read(stream)));
        Self { child, ended: None, stdout, stderr, readers }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal, unless the process has been waited for: then its id may be another's.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            kill_process(self.pid(), signal)
                .unwrap_or_else(|error| panic!("cannot send {signal:?}: {error}"));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait: {error}"));
        }
        self.ended.is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        wait_for("the end of the process", deadline, || {
            self.is_running();
            self.ended
        })
    }

    /// Kills it, if it still lives, and waits for its end.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits until everything it printed has been read. A grandchild may hold the pipes open, so not for ever.
    fn join_readers(&self) {
        for _ in 0..200 {
            if self.readers.iter().all(thread::JoinHandle::is_finished) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a child has ended, without taking its exit status from whoever will ask for it.
fn has_ended(pid: Pid) -> bool {
    use rustix::process::{waitid, WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn daemon(script: &str) -> Daemon {
        Daemon::start(shell(script), "script", "/nonexistent".into())
    }

    #[test]
    fn a_command_gets_its_input_and_leaves_output_and_code() {
        let done = finish(shell("cat; echo oops >&2; exit 3"), b"some input");
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (Some(3), "some input", "oops\n")
        );
        // More than a pipe holds, and nobody reads it.
        assert_eq!(finish(shell("exit 0"), &[b'x'; 1 << 20]).code, Some(0));
    }

    #[test]
    fn signals_reach_the_daemon() {
        let script = daemon(
            "trap 'echo hup' HUP; trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
        );
        script.wait_for_log("ready");
        script.reload();
        script.wait_for_log("hup");
        script.freeze();
        script.thaw();
        assert_eq!(script.stop().code(), Some(7));
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let mut script = daemon("exec sleep 1000");
        let pid = script.process.pid();
        assert!(script.is_running());
        drop(script);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    #[should_panic(expected = "script ended while the test waited for")]
    fn waiting_for_a_dead_daemon_ends_at_once() {
        daemon("exit 0").wait_for_log("never");
    }

    #[test]
    #[should_panic(expected = "run `cargo build -p no-such-daemon` first")]
    fn a_missing_binary_says_what_to_do() {
        binary("no-such-daemon");
    }
}
