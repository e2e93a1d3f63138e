// SPDX-License-Identifier: Apache-2.0
//! What a process prints, collected while it runs; and waiting for things to happen.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long tests wait for what should happen at once: long enough for a machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is kept of one stream, in bytes; what is older goes.
const KEPT: usize = 4 << 20;

/// Waits until `look` finds something and gives it back; panics with `what` when the deadline passes.
pub fn wait_for<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    wait_or(deadline, look, || what.into())
}

/// As [`wait_for`], but finds its words only when it has failed.
pub fn wait_or<T>(
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
    what: impl FnOnce() -> String,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        if Instant::now() >= end {
            panic!("waited {} s in vain for {}", deadline.as_secs_f32(), what());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A stream that is read to its end by a thread of its own; clones share what was read.
#[derive(Debug, Clone, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// Nothing captured yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the stream until it ends; what it gives is added to what other streams gave.
    pub fn read(&self, mut stream: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let capture = self.clone();
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(length) => capture.add(&chunk[..length]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        })
    }

    /// What was read so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Whether this text was read.
    pub fn contains(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    fn add(&self, chunk: &[u8]) {
        let mut bytes = self.bytes();
        bytes.extend_from_slice(chunk);
        if bytes.len() > KEPT {
            let surplus = bytes.len() - KEPT / 2;
            bytes.drain(..surplus);
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
