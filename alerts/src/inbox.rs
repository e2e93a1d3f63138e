// SPDX-License-Identifier: Apache-2.0
//! Between those who raise alerts, on any thread, and the task that puts them into the outbox.

use crate::Alert;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Room for a burst of alerts that has not been taken in yet, bytes.
const CAPACITY: usize = 256 * 1024;

/// Raises alerts from anywhere; cheap to clone.
#[derive(Debug, Clone)]
pub struct AlertHandle {
    inbox: Arc<Inbox>,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    daemon: String,
    /// Distinguishes the ids of this start from those of others.
    start: u32,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Alert>,
    bytes: usize,
    raised: u32,
    lost: u32,
}

impl AlertHandle {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Hands an alert over and returns its id (for [`Alert::recovers`] of a later one). Never blocks; a burst beyond
    /// 256 kB within one turn of the runtime is counted as lost, and the count is delivered.
    pub fn raise(&self, mut alert: Alert) -> String {
        let inbox = &self.inbox;
        let mut state = inbox.lock();
        state.raised = state.raised.wrapping_add(1);
        if alert.id.is_empty() {
            alert.id = format!("{}-{:08x}-{}", inbox.daemon, inbox.start, state.raised);
        }
        if alert.daemon.is_empty() {
            alert.daemon.clone_from(&inbox.daemon);
        }
        let id = alert.id.clone();
        let bytes = size(&alert);
        if state.bytes + bytes > CAPACITY {
            state.lost = state.lost.saturating_add(1);
        } else {
            state.bytes += bytes;
            state.queue.push_back(alert);
        }
        drop(state);
        inbox.filled.notify_one();
        id
    }
}

impl Inbox {
    pub(crate) fn new(daemon: &str, start: u32) -> Self {
        Self { daemon: daemon.to_owned(), start, state: Mutex::default(), filled: Notify::new() }
    }

    /// Everything raised since the last call; waits for something.
    pub(crate) async fn wait(&self) -> VecDeque<Alert> {
        loop {
            {
                let mut state = self.lock();
                if !state.queue.is_empty() || state.lost > 0 {
                    state.bytes = 0;
                    return std::mem::take(&mut state.queue);
                }
            }
            self.filled.notified().await;
        }
    }

    /// Alerts that found no room since the last call.
    pub(crate) fn take_lost(&self) -> u32 {
        std::mem::take(&mut self.lock().lost)
    }

    /// Alerts raised so far, wrapping.
    pub(crate) fn raised(&self) -> u32 {
        self.lock().raised
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(alert: &Alert) -> usize {
    let facts: usize = alert.facts.iter().map(|fact| 48 + fact.key.len() + fact.value.len()).sum();
    std::mem::size_of::<Alert>() + alert.subject.len() + alert.kind.len() + alert.id.len() + facts
}
