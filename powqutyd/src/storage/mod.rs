// SPDX-License-Identifier: Apache-2.0
//! The logs on disk, written by a thread of their own so that a slow or full disk never holds up the
//! measurement.

pub mod events;
pub mod measurements;

mod log_file;

use crate::config::Logs;
use log_file::LogFile;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines that may wait for the disk.
const QUEUE: usize = 512;

/// Longest time a line waits in memory before it goes to persistent storage.
const FLUSH_AFTER: Duration = Duration::from_secs(60);

/// Handle of the storage thread.
pub struct Storage {
    orders: SyncSender<Order>,
    finished: Receiver<()>,
    state: Arc<Mutex<State>>,
}

/// Which log a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// `powquty_event_path`.
    Events,
    /// `powquty_path`.
    Measurements,
}

enum Order {
    Line(Log, String),
    Reconfigure(Logs),
    Stop,
}

#[derive(Debug, Clone, Default)]
struct State {
    lines: u32,
    dropped: u32,
    /// What is wrong with each [`Log`] now.
    errors: [Option<String>; 2],
}

impl Storage {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(logs: Logs) -> std::io::Result<Self> {
        let (orders, incoming) = sync_channel(QUEUE);
        let (finish, finished) = sync_channel(1);
        let state = Arc::new(Mutex::new(State::default()));
        let mut writer = Writer::new(logs, Arc::clone(&state));
        std::thread::Builder::new().name("storage".to_owned()).stack_size(128 * 1024).spawn(move || {
            writer.run(&incoming);
            // The owner may have stopped waiting.
            let _ = finish.send(());
        })?;
        Ok(Self { orders, finished, state })
    }

    /// Hands a line (without line feed) over; when the disk is far behind, the line is dropped and counted.
    pub fn write(&self, log: Log, line: String) {
        if self.orders.try_send(Order::Line(log, line)).is_err() {
            let mut state = self.state();
            state.dropped = state.dropped.wrapping_add(1);
        }
    }

    /// Continues with other paths or limits.
    pub fn reconfigure(&self, logs: Logs) {
        if self.orders.try_send(Order::Reconfigure(logs)).is_err() {
            log::warn!("the disk is too slow to take new log paths now; reload again");
        }
    }

    /// Writes what waits and ends, within `limit`.
    pub fn stop(self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Stop) {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.finished.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            log::warn!("the disk did not take the last log lines in time");
        }
    }

    /// What `status` says about the logs.
    #[must_use]
    pub fn status(&self) -> Value {
        let state = self.state().clone();
        json!({ "lines": state.lines, "dropped": state.dropped, "last_error": state.errors.iter().flatten().next() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    events: LogFile,
    measurements: LogFile,
    state: Arc<Mutex<State>>,
}

impl Writer {
    fn new(logs: Logs, state: Arc<Mutex<State>>) -> Self {
        let header = |header: &'static str| if logs.header { header } else { "" };
        let persistent = !is_volatile(&logs.measurement_path);
        Self {
            events: LogFile::new(logs.event_path, logs.event_limit, header(events::HEADER), 0),
            measurements: LogFile::new(
                logs.measurement_path,
                logs.measurement_limit,
                header(measurements::HEADER),
                // Flash is written in blocks; a file in memory line by line, for those who follow it.
                if persistent { 4096 } else { 0 },
            ),
            state,
        }
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        self.prepare();
        let mut flushed = Instant::now();
        loop {
            match orders.recv_timeout(FLUSH_AFTER) {
                Ok(Order::Line(log, line)) => {
                    let file = match log {
                        Log::Events => &mut self.events,
                        Log::Measurements => &mut self.measurements,
                    };
                    let written = file.append(&line);
                    self.note(log, written);
                }
                Ok(Order::Reconfigure(logs)) => {
                    self.flush();
                    *self = Self::new(logs, Arc::clone(&self.state));
                    self.state.lock().unwrap_or_else(PoisonError::into_inner).errors = [None, None];
                    self.prepare();
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.flush();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if flushed.elapsed() >= FLUSH_AFTER {
                self.flush();
                flushed = Instant::now();
            }
        }
    }

    fn prepare(&mut self) {
        let (events, measurements) = (self.events.prepare(), self.measurements.prepare());
        self.note(Log::Events, events);
        self.note(Log::Measurements, measurements);
    }

    fn flush(&mut self) {
        let (events, measurements) = (self.events.flush(), self.measurements.flush());
        self.note(Log::Events, events);
        self.note(Log::Measurements, measurements);
    }

    /// Counts and, on a change between working and failing, logs.
    fn note(&mut self, log: Log, written: Result<log_file::Written, log_file::WriteError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(written) => {
                state.lines = state.lines.wrapping_add(written.lines);
                state.dropped = state.dropped.wrapping_add(written.dropped);
                if written.lines > 0 && state.errors[log as usize].take().is_some() {
                    log::info!("the log of {} can be written again", log.name());
                }
            }
            Err(error) => {
                state.dropped = state.dropped.wrapping_add(error.dropped);
                let text = error.to_string();
                if state.errors[log as usize].as_ref() != Some(&text) {
                    log::error!("{text}; measuring goes on");
                }
                state.errors[log as usize] = Some(text);
            }
        }
    }
}

impl Log {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Measurements => "measurements",
        }
    }
}

/// Whether a path lies on a file system that a reboot empties, by OpenWrt's layout.
#[must_use]
pub fn is_volatile(path: &Path) -> bool {
    ["/tmp", "/var", "/run", "/dev/shm"].iter().any(|root| path.starts_with(root))
}

/// The older half of a log: `powquty.log` → `powquty.log.1`.
#[must_use]
pub fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// A path beside `path`: `/tmp/powquty.log` and `_event` give `/tmp/powquty_event.log`.
#[must_use]
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(String::new, |it| format!(".{}", it.to_string_lossy()));
    path.with_file_name(format!("{stem}{suffix}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_log_that_cannot_be_written_does_not_touch_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs {
            measurement_path: dir.path().join("measurements"),
            measurement_limit: 1 << 20,
            event_path: dir.path().join("missing/events"),
            event_limit: 1 << 20,
            header: true,
        };
        let storage = Storage::start(logs).unwrap();
        for _ in 0..10 {
            storage.write(Log::Measurements, "m".to_owned());
            storage.write(Log::Events, "e".to_owned());
        }
        let written = |lines: u32| {
            lab::wait_for("the lines", lab::PATIENCE, || (storage.status()["lines"] == lines).then_some(()));
        };
        written(10);
        let status = storage.status();
        assert!(status["last_error"].as_str().unwrap().contains("missing/events: cannot write"), "{status}");
        std::fs::create_dir(dir.path().join("missing")).unwrap();
        storage.write(Log::Events, "last".to_owned());
        written(21);
        assert!(storage.status()["last_error"].is_null());
        storage.stop(Duration::from_secs(10));
        let events = std::fs::read_to_string(dir.path().join("missing/events")).unwrap();
        assert_eq!(events, format!("{}\n{}last\n", events::HEADER, "e\n".repeat(10)));
        let measurements = std::fs::read_to_string(dir.path().join("measurements")).unwrap();
        assert_eq!(measurements.lines().count(), 11);
    }
}
