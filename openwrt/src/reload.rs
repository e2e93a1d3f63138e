// SPDX-License-Identifier: Apache-2.0
//! What makes a daemon re-read its configuration or stop.

use std::io;

use tokio::signal::unix::{signal, SignalKind};

/// What the system asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: save and end, within 2 s.
    Stop,
}

/// The signals of this process; from its making on none of them kills it.
#[derive(Debug)]
pub struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// Takes over SIGHUP, SIGTERM and SIGINT. Must be called within a runtime.
///
/// # Errors
/// When the system refuses the handlers.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals {
        hangup: signal(SignalKind::hangup())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl Signals {
    /// The next signal; a stop comes before a reload, and several of a kind may come as one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
