// SPDX-License-Identifier: Apache-2.0
//! A bounded queue between the client's task and an application's task on the same thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Notify;

const ITEMS: usize = 256;
const BYTES: usize = 1 << 20;

/// Keeps the newest items: at most 256, and at most 1 MiB of payload unless a single item is longer.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    items: RefCell<VecDeque<(usize, T)>>,
    bytes: Cell<usize>,
    lost: Cell<u32>,
    closed: Cell<bool>,
    ready: Notify,
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Self {
        Self {
            items: RefCell::default(),
            bytes: Cell::new(0),
            lost: Cell::new(0),
            closed: Cell::new(false),
            ready: Notify::new(),
        }
    }

    /// Adds an item whose payload is of `size` bytes and drops the oldest ones that no longer fit.
    pub(super) fn push(&self, size: usize, item: T) {
        let mut items = self.items.borrow_mut();
        items.push_back((size, item));
        let mut bytes = self.bytes.get() + size;
        while items.len() > ITEMS || (bytes > BYTES && items.len() > 1) {
            let Some((size, _)) = items.pop_front() else { break };
            bytes -= size;
            self.lost.set(self.lost.get().saturating_add(1));
        }
        self.bytes.set(bytes);
        self.ready.notify_one();
    }

    /// The oldest item; waits for one, or for [`Mailbox::close`].
    pub(super) async fn pop(&self) -> Option<T> {
        loop {
            if let Some((size, item)) = self.items.borrow_mut().pop_front() {
                self.bytes.set(self.bytes.get() - size);
                return Some(item);
            }
            if self.closed.get() {
                return None;
            }
            self.ready.notified().await;
        }
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
        self.ready.notify_one();
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost.get()
    }
}
