// SPDX-License-Identifier: Apache-2.0
//! The logs on disk, written by a thread of their own so that a slow or full disk never holds up the
//! measurement.

pub mod events;
pub mod measurements;
pub mod waveforms;

mod log_file;

use crate::clock::Utc;
use crate::config::{Logs, PACKAGE};
use crate::records::file::RecordFile;
use crate::records::{Header, Stamped};
use log_file::LogFile;
use openwrt::uci::{Problem, ProblemSeverity};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use waveforms::{Encoded, Index, Shelf, Stored};

/// Lines and records that may wait for the disk.
const QUEUE: usize = 512;

/// Waveforms among them; one has some 22 kB.
const WAVEFORMS_QUEUED: usize = 4;

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
    /// Boxed: room for each is kept from the start.
    Record(Box<Stamped>),
    Waveform(Encoded),
    Reconfigure(Logs, Box<Header>),
    Stop,
}

/// One file; places in [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Events,
    Measurements,
    Records,
    Waveforms,
}

/// Names in `status`, in the order of [`Place`].
const NAMES: [&str; 4] = ["events", "measurements", "records", "waveforms"];

/// What the storage thread and its owner share.
#[derive(Debug, Default)]
struct State {
    files: [FileState; NAMES.len()],
    waveforms: Index,
    /// In the queue.
    waveforms_queued: usize,
}

#[derive(Debug, Clone, Default)]
struct FileState {
    written: u32,
    dropped: u32,
    /// What is wrong with it now.
    error: Option<String>,
}

impl Storage {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(logs: Logs, header: Header) -> std::io::Result<Self> {
        let (orders, incoming) = sync_channel(QUEUE);
        let (finish, finished) = sync_channel(1);
        let state = Arc::new(Mutex::new(State::default()));
        let mut writer = Writer::new(logs, header, Arc::clone(&state));
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
            self.dropped(log.place());
        }
    }

    /// Hands a record over; when the disk is far behind, it is dropped and counted.
    pub fn record(&self, record: Stamped) {
        if self.orders.try_send(Order::Record(Box::new(record))).is_err() {
            self.dropped(Place::Records);
        }
    }

    /// Hands a waveform over; when the disk is behind, it is dropped and counted.
    pub fn waveform(&self, waveform: Encoded) {
        let mut state = self.state();
        if state.waveforms_queued < WAVEFORMS_QUEUED
            && self.orders.try_send(Order::Waveform(waveform)).is_ok()
        {
            state.waveforms_queued += 1;
        } else {
            state.count_dropped(Place::Waveforms, 1);
        }
    }

    /// The waveforms on disk.
    #[must_use]
    pub fn waveforms(&self) -> Index {
        self.state().waveforms.clone()
    }

    /// Continues with other paths or limits.
    pub fn reconfigure(&self, logs: Logs, header: Header) {
        if self.orders.try_send(Order::Reconfigure(logs, Box::new(header))).is_err() {
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
        let files = self.state().files.clone();
        let sum = |of: fn(&FileState) -> u32| files.iter().map(of).fold(0, u32::wrapping_add);
        let mut status = json!({
            "lines": sum(|file| file.written),
            "dropped": sum(|file| file.dropped),
            "last_error": files.iter().find_map(|file| file.error.as_ref()),
        });
        for (name, file) in NAMES.into_iter().zip(&files) {
            status[name] = json!({ "written": file.written, "dropped": file.dropped, "error": file.error });
        }
        status
    }

    fn dropped(&self, place: Place) {
        self.state().count_dropped(place, 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl State {
    fn count_dropped(&mut self, place: Place, dropped: u32) {
        let file = &mut self.files[place as usize];
        file.dropped = file.dropped.wrapping_add(dropped);
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn place(self) -> Place {
        match self {
            Self::Events => Place::Events,
            Self::Measurements => Place::Measurements,
        }
    }
}

struct Writer {
    events: LogFile,
    measurements: LogFile,
    records: RecordFile,
    waveforms: Shelf,
    state: Arc<Mutex<State>>,
}

impl Writer {
    fn new(logs: Logs, header: Header, state: Arc<Mutex<State>>) -> Self {
        let first_line = |line: &'static str| if logs.header { line } else { "" };
        let persistent = !is_volatile(&logs.measurement_path);
        let sync = !is_volatile(&logs.record_path);
        let waveforms = Shelf::new(beside(&logs.record_path, ".waveforms"), logs.waveform_count, sync);
        locked(&state).waveforms = waveforms.index();
        Self {
            events: LogFile::new(logs.event_path, logs.event_limit, first_line(events::HEADER), 0),
            records: RecordFile::new(logs.record_path, logs.record_limit, sync, header),
            measurements: LogFile::new(
                logs.measurement_path,
                logs.measurement_limit,
                first_line(measurements::HEADER),
                // Flash is written in blocks; a file in memory line by line, for those who follow it.
                if persistent { 4096 } else { 0 },
            ),
            waveforms,
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
                    self.note_lines(log.place(), written);
                }
                Ok(Order::Record(record)) => {
                    let (dropped, written) = self.records.append(&record);
                    self.note(Place::Records, dropped, written.map_err(|error| error.to_string()));
                }
                Ok(Order::Waveform(waveform)) => self.store(&waveform),
                Ok(Order::Reconfigure(logs, header)) => {
                    self.flush();
                    *self = Self::new(logs, *header, Arc::clone(&self.state));
                    locked(&self.state).files.iter_mut().for_each(|file| file.error = None);
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
        self.note_lines(Place::Events, events);
        self.note_lines(Place::Measurements, measurements);
    }

    fn flush(&mut self) {
        let (events, measurements) = (self.events.flush(), self.measurements.flush());
        self.note_lines(Place::Events, events);
        self.note_lines(Place::Measurements, measurements);
        if self.records.waits() {
            let written = self.records.flush(Utc::now().millis());
            self.note(Place::Records, 0, written.map_err(|error| error.to_string()));
        }
    }

    fn store(&mut self, waveform: &Encoded) {
        let mut state = locked(&self.state);
        state.waveforms_queued -= 1;
        // Whoever asks meanwhile is not kept waiting for the disk.
        let mut index = state.waveforms.clone();
        drop(state);
        let stored = self.waveforms.store(waveform, &mut index, Instant::now());
        locked(&self.state).waveforms = index;
        match stored {
            Ok(Stored::Written) => self.note(Place::Waveforms, 0, Ok(1)),
            Ok(Stored::Refused) => self.note(Place::Waveforms, 1, Ok(0)),
            Err(error) => self.note(Place::Waveforms, 1, Err(self.waveforms.trouble(&error))),
        }
    }

    fn note_lines(&self, place: Place, written: Result<log_file::Written, log_file::WriteError>) {
        match written {
            Ok(written) => self.note(place, written.dropped, Ok(written.lines)),
            Err(error) => self.note(place, error.dropped, Err(error.to_string())),
        }
    }

    /// Counts and, on a change between working and failing, logs.
    fn note(&self, place: Place, dropped: u32, written: Result<u32, String>) {
        let mut state = locked(&self.state);
        state.count_dropped(place, dropped);
        let file = &mut state.files[place as usize];
        match written {
            Ok(written) => {
                file.written = file.written.wrapping_add(written);
                if written > 0 && file.error.take().is_some() {
                    log::info!("the {} can be written again", NAMES[place as usize]);
                }
            }
            Err(error) => {
                if file.error.as_ref() != Some(&error) {
                    log::error!("{error}; measuring goes on");
                }
                file.error = Some(error);
            }
        }
    }
}

/// Whether a path lies on a file system that a reboot empties, by OpenWrt's layout.
#[must_use]
pub fn is_volatile(path: &Path) -> bool {
    ["/tmp", "/var", "/run", "/dev/shm"].iter().any(|root| path.starts_with(root))
}

/// What an operator has to know about records in memory.
pub const VOLATILE: &str = "lies in memory: an outage of the router's own supply will not be seen";

/// The remark of `check` on records that a power loss takes along.
#[must_use]
pub fn remark(logs: &Logs) -> Option<Problem> {
    is_volatile(&logs.record_path).then(|| Problem {
        file: PACKAGE.to_owned(),
        section: PACKAGE.to_owned(),
        option: "record_path".to_owned(),
        value: logs.record_path.to_str().map(str::to_owned),
        reason: VOLATILE.to_owned(),
        severity: ProblemSeverity::Warning,
    })
}

/// The older half of a log: `powquty.log` → `powquty.log.1`.
#[must_use]
pub fn rotated(path: &Path) -> PathBuf {
    beside(path, ".1")
}

/// `powquty.rec` and `.waveforms` give `powquty.rec.waveforms`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Fields as one line of CSV without its end; those with commas, quotes or line feeds are quoted.
#[must_use]
pub fn csv_line(fields: &[String]) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing to memory has no way to fail.
    let line = writer.write_record(fields).ok().and_then(|()| writer.into_inner().ok()).unwrap_or_default();
    String::from_utf8(line).unwrap_or_default().trim_end_matches('\n').to_owned()
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
            record_path: dir.path().join("records"),
            record_limit: 1 << 20,
            waveform_count: 2,
        };
        let storage = Storage::start(logs, Header::default()).unwrap();
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
