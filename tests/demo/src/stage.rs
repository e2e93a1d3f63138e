// SPDX-License-Identifier: Apache-2.0
//! What the demo puts up: a directory with a configuration, the daemon, and a receiver for its alerts.

use crate::pages::Pages;
use lab::{Daemon, Webhook};
use openwrt::service::client::{self, Client};
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{channel, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Seconds of signal per second.
pub(crate) const SPEED: u32 = 10;

const CONFIGURATION: &str = include_str!("powquty");
const GRID: &str = include_str!("grid.txt");

/// Everything that has to be taken down again; dropping it does.
pub(crate) struct Stage {
    // In the order in which it is taken down.
    pages: Option<Pages>,
    daemon: Option<Daemon>,
    receiver: Webhook,
    dir: TempDir,
    events: Receiver<Value>,
    configuration: String,
    log_seen: usize,
    requests_seen: usize,
}

/// Something worth a line of its own.
pub(crate) enum Happening {
    /// The daemon detected an event: the object of `powquty.event`.
    Event(Value),
    /// The web hook received an alert.
    Delivered {
        /// The message as a person sees it.
        text: String,
    },
    /// The configuration file was changed; the daemon was told.
    Edited,
    /// What the daemon says to that.
    Reload(String),
    /// A warning or an error of the daemon.
    Complaint(String),
}

/// What is to be shown.
pub(crate) struct News {
    pub(crate) happened: Vec<Happening>,
    pub(crate) now: Now,
}

/// The values of the moment.
#[derive(Default)]
pub(crate) struct Now {
    pub(crate) status: Value,
    /// Lowest voltage of each of the last seconds of signal (V).
    pub(crate) voltage: Vec<f64>,
}

impl Stage {
    /// Writes the configuration, starts the receiver and the daemon, and waits until it answers.
    pub(crate) fn set_up() -> Result<Self, String> {
        let binary = built("powqutyd")?;
        let dir = TempDir::with_prefix("powquty-demo-")
            .map_err(|error| format!("no temporary directory: {error}"))?;
        for name in ["config", "run", "state"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let receiver = Webhook::start();
        let configuration = CONFIGURATION
            .replace("@DIR@", &dir.path().to_string_lossy())
            .replace("@HOOK@", &receiver.url("/services/demo"))
            .replace("@SPEED@", &SPEED.to_string());
        for (name, text) in [("config/powquty", configuration.as_str()), ("grid.txt", GRID)] {
            let path = dir.path().join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let socket = dir.path().join("run/powqutyd.sock");
        let mut command = Command::new(&binary);
        for (option, name) in [("--config-dir", "config"), ("--state-dir", "state"), ("--run-dir", "run")] {
            command.arg(option).arg(dir.path().join(name));
        }
        command.arg("--ubus").arg(dir.path().join("run/ubus.sock")).args(["--log-to", "stderr"]);
        let daemon = Daemon::start(command, "powqutyd", socket.clone());
        let mut stage = Self {
            pages: None,
            daemon: Some(daemon),
            receiver,
            dir,
            events: channel().1,
            configuration,
            log_seen: 0,
            requests_seen: 0,
        };
        stage.await_socket()?;
        stage.events = follow(&socket)?;
        stage.pages = Some(Pages::open(stage.dir.path())?);
        Ok(stage)
    }

    /// Where the LuCI pages are.
    pub(crate) fn address(&self) -> &str {
        self.pages.as_ref().map_or("", |pages| &pages.address)
    }

    /// The directory of everything.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where alerts go.
    pub(crate) fn hook(&self) -> String {
        self.receiver.url("")
    }

    /// What has happened since the last call, in an order that makes sense.
    pub(crate) fn news(&mut self) -> Result<News, String> {
        let mut happened = Vec::new();
        if self.edited() {
            happened.push(Happening::Edited);
            if let Some(daemon) = &self.daemon {
                daemon.reload();
            }
        }
        happened.extend(self.log_lines());
        happened.extend(self.events.try_iter().map(Happening::Event));
        happened.extend(self.deliveries());
        self.check_alive()?;
        Ok(News { happened, now: self.now().unwrap_or_default() })
    }

    /// Ends the daemon and removes everything; a line about it.
    pub(crate) fn tear_down(mut self) -> String {
        let started = Instant::now();
        drop(self.pages.take());
        let status = self.daemon.take().map(Daemon::stop);
        let path = self.dir.path().display().to_string();
        let took = started.elapsed().as_secs_f64();
        let ended = match status {
            Some(status) if status.success() => format!("powqutyd ended within {took:.2} s"),
            Some(status) => format!("powqutyd ended with {status}"),
            None => "powqutyd had ended".to_owned(),
        };
        match self.dir.close() {
            Ok(()) => format!("{ended}; {path} is removed."),
            Err(error) => format!("{ended}; {path} cannot be removed: {error}"),
        }
    }

    fn await_socket(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(20);
        while Client::connect(&self.path("run/powqutyd.sock")).is_err() {
            self.check_alive()?;
            if Instant::now() > end {
                return Err(format!("powqutyd does not answer; it said:\n{}", self.log()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), String> {
        let alive = self.daemon.as_mut().is_some_and(Daemon::is_running);
        if alive {
            Ok(())
        } else {
            Err(format!("powqutyd has ended; it said:\n{}", self.log()))
        }
    }

    fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    fn edited(&mut self) -> bool {
        // While an editor replaces the file there is none for a moment.
        let Ok(text) = fs::read_to_string(self.path("config/powquty")) else { return false };
        let edited = text != self.configuration;
        self.configuration = text;
        edited
    }

    fn log_lines(&mut self) -> Vec<Happening> {
        let log = self.log();
        let complete = log.rfind('\n').map_or(0, |at| at + 1);
        let fresh = log.get(self.log_seen.min(complete)..complete).unwrap_or_default();
        self.log_seen = complete;
        fresh.lines().filter_map(happening).collect()
    }

    fn deliveries(&mut self) -> Vec<Happening> {
        let requests = self.receiver.requests();
        let fresh = requests.get(self.requests_seen..).unwrap_or_default();
        self.requests_seen = requests.len();
        fresh.iter().map(|request| Happening::Delivered { text: message(&request.body) }).collect()
    }

    fn now(&self) -> Option<Now> {
        let mut client = Client::connect(&self.path("run/powqutyd.sock")).ok()?;
        client.set_timeout(Some(Duration::from_secs(2))).ok()?;
        let status = client.call("status", &Value::Null).ok()?;
        let trend = client.call("trend", &json!({ "quantity": "voltage", "span": "3m" })).ok()?;
        let points = trend["points"].as_array()?;
        let voltage = points.iter().filter_map(|point| point[1].as_f64()).collect();
        Some(Now { status, voltage })
    }
}

/// A program built beside this one.
pub(crate) fn built(name: &str) -> Result<PathBuf, String> {
    let demo = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let binary = demo.parent().unwrap_or(Path::new(".")).join(name);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("{} is not built; use `make demo`", binary.display()))
    }
}

/// Events of the daemon, from a thread that ends with the daemon.
fn follow(socket: &Path) -> Result<Receiver<Value>, String> {
    let stream = client::subscribe(socket, &["powquty.event"]).map_err(|error| error.to_string())?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for event in stream.map_while(Result::ok) {
            if sender.send(event.data).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// What of the daemon's log is worth a line here.
fn happening(line: &str) -> Option<Happening> {
    let text =
        |level: &str| line.split_once(level).map(|(_, text)| text.trim_start_matches([':', ' ']).to_owned());
    if let Some(complaint) = text("WARN").or_else(|| text("ERROR")) {
        return Some(match complaint.starts_with("configuration:") || complaint.starts_with("powquty:") {
            true => Happening::Reload(complaint),
            false => Happening::Complaint(complaint),
        });
    }
    let note = text("INFO")?;
    note.starts_with("configuration:").then_some(Happening::Reload(note))
}

/// The text of a Slack message, whatever shape it has.
fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match value["text"].as_str() {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    }
}
