// SPDX-License-Identifier: Apache-2.0
//! Telemetry on standard output (`powqutyd_print`), from a thread of its own: a pager that nobody scrolls
//! must not hold the measurement up.

use std::io::{self, Write};
use std::sync::mpsc::{sync_channel, SyncSender};

/// Prints lines as fast as somebody reads them; the others are dropped.
pub struct Printer(SyncSender<String>);

impl Printer {
    /// Starts the thread, which ends with the handle.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (lines, incoming) = sync_channel::<String>(16);
        std::thread::Builder::new().name("print".to_owned()).stack_size(64 * 1024).spawn(move || {
            for line in incoming {
                let mut stdout = io::stdout().lock();
                if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(lines))
    }

    /// Hands a line over.
    pub fn print(&self, line: &str) {
        // Full or closed: nobody reads.
        let _ = self.0.try_send(line.to_owned());
    }
}
