// SPDX-License-Identifier: Apache-2.0
//! Writes the raw recording in a thread of its own: a slow or full disk costs counted samples of the recording,
//! never one of the measurement.

use super::format::{self, Place, BLOCK, MOST_SAMPLES};
use super::{reader, Mode, Settings};
use crate::source::decode::Scaling;
use crate::storage::is_volatile;
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Chunks of 0.2 s that may wait for the disk.
const QUEUE: usize = 64;

/// How often what was written is forced to a persistent medium.
const SYNC: Duration = Duration::from_secs(10);

/// A file that could not be opened or written is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// The measurement's end of the recording; dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct Recorder {
    settings: Settings,
    orders: SyncSender<Order>,
    spares: Receiver<Vec<f32>>,
    finished: Receiver<()>,
    chunk: Chunk,
    state: Arc<Mutex<State>>,
}

/// What came of it so far.
#[derive(Debug, Clone, Default)]
struct State {
    blocks: u32,
    dropped_samples: u64,
    error: Option<String>,
}

#[derive(Debug)]
enum Order {
    Chunk(Chunk),
    /// What follows is another stretch.
    Cut,
    Stop,
}

/// Consecutive samples.
#[derive(Debug, Default)]
struct Chunk {
    volts: Vec<f32>,
    place: Option<Place>,
    scaling: Option<Scaling>,
    /// There was an event within.
    event: bool,
}

impl Recorder {
    /// Starts the thread. Nothing is opened before the first samples come.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (orders, incoming) = sync_channel(QUEUE);
        let (give_back, spares) = sync_channel(QUEUE);
        let (finish, finished) = sync_channel(1);
        let state = Arc::new(Mutex::new(State::default()));
        let mut writer = Writer::new(settings.clone(), Arc::clone(&state));
        std::thread::Builder::new().name("raw".to_owned()).stack_size(64 * 1024).spawn(move || {
            while let Ok(order) = incoming.recv() {
                match order {
                    Order::Chunk(chunk) => {
                        let mut volts = writer.take(chunk);
                        volts.clear();
                        // More spares than the queue is long are not needed.
                        let _ = give_back.try_send(volts);
                    }
                    Order::Cut => writer.cut(),
                    Order::Stop => break,
                }
            }
            writer.sync();
            // The owner may have stopped waiting.
            let _ = finish.send(());
        })?;
        Ok(Self { settings, orders, spares, finished, chunk: Chunk::default(), state })
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes samples; `scaling` is that of the converter where it is known, `event` says that a dip, a swell or an
    /// interruption is under way.
    pub fn take(&mut self, volts: &[f32], place: Place, scaling: Option<Scaling>, event: bool) {
        let follows = self.chunk.place.is_none_or(|first| {
            first.position + self.chunk.volts.len() as u64 == place.position && self.chunk.scaling == scaling
        });
        if !follows || self.chunk.volts.len() + volts.len() > MOST_SAMPLES {
            self.hand_over();
        }
        let chunk = &mut self.chunk;
        if chunk.place.is_none() {
            chunk.place = Some(place);
            chunk.scaling = scaling;
        }
        chunk.volts.extend_from_slice(volts);
        chunk.event |= event;
    }

    /// Positions begin anew.
    pub fn cut(&mut self) {
        self.hand_over();
        if self.orders.try_send(Order::Cut).is_err() {
            log::warn!("the raw recording is so far behind that a new beginning is not marked in it");
        }
    }

    /// What `status` says about it.
    #[must_use]
    pub fn status(&self) -> Value {
        let State { blocks, dropped_samples, error } = self.state().clone();
        let Settings { path, limit, mode } = &self.settings;
        let mode = if *mode == Mode::Continuous { "continuous" } else { "events" };
        json!({
            "path": path,
            "mode": mode,
            "limit": limit,
            "blocks": blocks,
            "dropped_samples": dropped_samples,
            "error": error,
        })
    }

    /// Writes what waits and ends, within `limit`.
    pub fn stop(mut self, limit: Duration) {
        self.hand_over();
        let sent = self.orders.try_send(Order::Stop).is_ok();
        if !sent || self.finished.recv_timeout(limit).is_err() {
            log::warn!("the disk did not take the end of the raw recording in time");
        }
    }

    fn hand_over(&mut self) {
        if self.chunk.place.is_none() {
            return;
        }
        let volts = self.spares.try_recv().unwrap_or_else(|_| Vec::with_capacity(MOST_SAMPLES));
        let full = std::mem::replace(&mut self.chunk, Chunk { volts, ..Chunk::default() });
        let count = full.volts.len() as u64;
        if self.orders.try_send(Order::Chunk(full)).is_err() {
            self.state().dropped_samples += count;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    settings: Settings,
    places: u64,
    open: Option<Open>,
    retry_at: Option<Instant>,
    /// Stretches since the start; added to the highest one in the file.
    stretch: u32,
    /// Chunks before an event, oldest first.
    before: VecDeque<Chunk>,
    /// Position up to which the margin behind the last event reaches.
    until: u64,
    state: Arc<Mutex<State>>,
}

struct Open {
    file: File,
    next: u64,
    number: u64,
    stretch: u32,
    synced: Instant,
}

impl Writer {
    fn new(settings: Settings, state: Arc<Mutex<State>>) -> Self {
        let places = (settings.limit / BLOCK as u64).max(2);
        Self {
            settings,
            places,
            open: None,
            retry_at: None,
            stretch: 1,
            before: VecDeque::new(),
            until: 0,
            state,
        }
    }

    /// Writes or keeps a chunk; gives back a buffer that is free again.
    fn take(&mut self, chunk: Chunk) -> Vec<f32> {
        let (Some(place), Mode::Events { margin }) = (chunk.place, self.settings.mode) else {
            self.write(&chunk);
            return chunk.volts;
        };
        let margin = (margin.as_secs_f64() * place.nominal_rate) as u64;
        let end = place.position + chunk.volts.len() as u64;
        if chunk.event {
            for kept in std::mem::take(&mut self.before) {
                self.write(&kept);
            }
            self.until = end + margin;
        }
        if place.position < self.until {
            self.write(&chunk);
            return chunk.volts;
        }
        if self.until > 0 {
            // An event is whole with what follows it.
            self.until = 0;
            self.sync();
        }
        self.before.push_back(chunk);
        let out_of_reach = self.before.front().and_then(|oldest| {
            let begin = oldest.place?.position;
            (begin + oldest.volts.len() as u64 + margin < end).then_some(())
        });
        match out_of_reach {
            Some(()) => self.before.pop_front().map_or_else(Vec::new, |oldest| oldest.volts),
            None => Vec::with_capacity(MOST_SAMPLES),
        }
    }

    fn cut(&mut self) {
        self.before.clear();
        self.until = 0;
        self.stretch += 1;
        if let Some(open) = &mut self.open {
            open.stretch += 1;
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        let Some(place) = chunk.place else { return };
        let mut rest = &chunk.volts[..];
        let mut position = place.position;
        while !rest.is_empty() {
            let ahead = (position - place.position) as f64 / place.rate;
            let here = Place { position, unix_s: place.unix_s + ahead, ..place };
            match self.write_block(here, chunk.scaling, rest) {
                Ok(count) => {
                    rest = &rest[count..];
                    position += count as u64;
                }
                Err(error) => {
                    self.failed(&error, rest.len());
                    return;
                }
            }
        }
        if self.open.as_ref().is_some_and(|open| open.synced.elapsed() >= SYNC) {
            self.sync();
        }
    }

    fn write_block(&mut self, place: Place, scaling: Option<Scaling>, volts: &[f32]) -> io::Result<usize> {
        let (places, state) = (self.places, Arc::clone(&self.state));
        let open = self.opened()?;
        let mut block = [0; BLOCK];
        let count = format::encode(open.number + 1, open.stretch, place, scaling, volts, &mut block);
        open.file.write_all_at(&block, open.next * BLOCK as u64)?;
        open.number += 1;
        open.next = (open.next + 1) % places;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.blocks = state.blocks.wrapping_add(1);
        if state.error.take().is_some() {
            log::info!("the raw recording can be written again");
        }
        Ok(count)
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let error = state.error.clone().unwrap_or_default();
            return Err(io::Error::other(error));
        }
        self.retry_at = None;
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        Ok(self.open.insert(open))
    }

    /// Goes on behind the newest block of a recording that is there; anything else is left alone.
    fn open_file(&self) -> io::Result<Open> {
        let path = &self.settings.path;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(named)?;
        let length = file.metadata().map_err(named)?.len();
        if length > 0 && !reader::is_recording(&file).map_err(named)? {
            return Err(named(io::Error::new(
                io::ErrorKind::InvalidData,
                "is there and is no raw recording",
            )));
        }
        let end = reader::end(&file).map_err(named)?;
        if length > self.places * BLOCK as u64 {
            file.set_len(self.places * BLOCK as u64).map_err(named)?;
        }
        let next = end.place.map_or(0, |place| (place + 1) % self.places);
        Ok(Open {
            file,
            next,
            number: end.number,
            stretch: end.stretch + self.stretch,
            synced: Instant::now(),
        })
    }

    fn failed(&mut self, error: &io::Error, samples: usize) {
        let text = match self.open.take() {
            Some(_) => format!("{}: cannot write: {error}", self.settings.path.display()),
            None => error.to_string(),
        };
        if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + RETRY);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.dropped_samples += samples as u64;
        if state.error.as_ref() != Some(&text) {
            log::error!("{text}; measuring goes on without the raw recording");
        }
        state.error = Some(text);
    }

    fn sync(&mut self) {
        if let Some(open) = &mut self.open {
            open.synced = Instant::now();
            if !is_volatile(&self.settings.path) {
                // What a medium that refuses this has lost shows when it is written next.
                let _ = open.file.sync_data();
            }
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
