// SPDX-License-Identifier: Apache-2.0
//! Position and time from a GPS receiver on a serial line, read by a thread of its own that never gives up.

pub mod receiver;

use crate::clock::monotonic;
use crate::clock::reference::GpsTime;
use crate::tty::{Readiness, Tty};
use receiver::{Faults, Fix, Receiver};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An absent receiver is looked for at this pace.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait, so that the thread sees when it is to end.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Bytes are left to gather for this long; a sentence is late by as much at most.
const GATHER: Duration = Duration::from_millis(50);

/// `gps_tty` and `gps_baud`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The serial line.
    pub tty: PathBuf,
    /// Its speed in bits per second.
    pub baud: u32,
}

/// A receiver that is being listened to; dropping it ends its thread.
#[derive(Debug)]
pub struct Gps {
    /// What it is connected to.
    pub settings: Settings,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Shared {
    receiver: Receiver,
    /// Why the line is not open.
    reason: Option<String>,
}

/// What is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// One of the words of `status`: `fix`, `no fix`, `silent`, `absent`.
    pub state: &'static str,
    /// Where the device is.
    pub fix: Option<Fix>,
    /// What time it is.
    pub time: Option<GpsTime>,
    /// Why there is no receiver.
    pub reason: Option<String>,
    /// Faults of the line.
    pub faults: Faults,
}

impl Gps {
    /// Begins to listen; that there is no receiver is no error.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let listener =
            Listener { settings: settings.clone(), shared: Arc::clone(&shared), stop: Arc::clone(&stop) };
        std::thread::Builder::new()
            .name("gps".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || listener.run())?;
        Ok(Self { settings, shared, stop })
    }

    /// What is known at `now` (monotonic).
    #[must_use]
    pub fn look(&self, now: Duration) -> Look {
        let shared = lock(&self.shared);
        let fix = shared.receiver.fix(now);
        let state = match (&shared.reason, fix) {
            (Some(_), _) => "absent",
            (None, Some(_)) => "fix",
            (None, None) if shared.receiver.is_talking(now) => "no fix",
            (None, None) => "silent",
        };
        Look {
            state,
            fix,
            time: shared.receiver.time(now),
            reason: shared.reason.clone(),
            faults: shared.receiver.faults(),
        }
    }
}

impl Drop for Gps {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Listener {
    settings: Settings,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn run(self) {
        while !self.stopped() {
            let Err(error) =
                Tty::open(&self.settings.tty, self.settings.baud).and_then(|tty| self.listen(&tty))
            else {
                return;
            };
            let reason = format!("{}: {error}", self.settings.tty.display());
            let mut shared = lock(&self.shared);
            shared.receiver.reopened();
            if shared.reason.as_ref() != Some(&reason) {
                log::warn!("gps: {reason}; looking for it");
                shared.reason = Some(reason);
            }
            drop(shared);
            for _ in 0..RETRY.as_millis() / LONGEST_WAIT.as_millis() {
                if self.stopped() {
                    return;
                }
                std::thread::sleep(LONGEST_WAIT);
            }
        }
    }

    /// Reads until the line is gone, which is an error, or the thread is to end.
    fn listen(&self, tty: &Tty) -> io::Result<()> {
        log::info!("gps: listening on {}", self.settings.tty.display());
        lock(&self.shared).reason = None;
        let mut bytes = [0; 512];
        while !self.stopped() {
            if tty.wait(LONGEST_WAIT)? == Readiness::Silent {
                continue;
            }
            if let Some(count) = tty.read(&mut bytes)? {
                lock(&self.shared).receiver.push(&bytes[..count], monotonic());
                std::thread::sleep(GATHER);
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
