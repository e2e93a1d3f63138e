// SPDX-License-Identifier: Apache-2.0
//! What passes between the outbox and those who raise and deliver.

use crate::Alert;
use std::time::Duration;

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic, milliseconds since any origin.
    pub(crate) mono_ms: i64,
    /// UTC, milliseconds since 1970.
    pub(crate) wall_ms: i64,
    /// Local time minus UTC, seconds.
    pub(crate) utc_offset_s: i32,
}

impl Now {
    pub(super) fn wall_of(self, mono_ms: i64) -> i64 {
        self.wall_ms.saturating_add(mono_ms.saturating_sub(self.mono_ms))
    }
}

/// What a sink is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this, then say [`Outbox::delivered`] or [`Outbox::failed`].
    Deliver(Box<Message>),
    /// Ask again at this monotonic time (ms), or when woken.
    At(i64),
    /// Ask again when woken.
    Idle,
}

/// An alert on its way to one sink.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) seq: u64,
    pub(crate) alert: Alert,
    /// What this sink lost since the last message that got through.
    pub(crate) losses: Losses,
}

/// Alerts that will never arrive at a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// The outbox was full.
    pub(crate) full: u32,
    /// They waited longer than the expiry.
    pub(crate) expired: u32,
    /// The server called them malformed.
    pub(crate) refused: u32,
}

impl Losses {
    pub(crate) fn total(self) -> u32 {
        self.full.saturating_add(self.expired).saturating_add(self.refused)
    }
    pub(super) fn minus(self, told: Self) -> Self {
        Self {
            full: self.full.saturating_sub(told.full),
            expired: self.expired.saturating_sub(told.expired),
            refused: self.refused.saturating_sub(told.refused),
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A sentence for the operator, without secrets.
    pub(crate) reason: String,
    pub(crate) cure: Cure,
}

/// What may help against a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// Time: try again after the usual delay.
    Retry,
    /// Time: not before this long, says the server.
    #[cfg_attr(not(feature = "slack"), allow(dead_code))]
    RetryAfter(Duration),
    /// Nothing was tried or an acknowledgement was lost: at once, the transport has its own delays.
    Again,
    /// The server called this very message malformed.
    Drop,
}

impl Failure {
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), cure: Cure::Retry }
    }
}

/// No alert is larger than some kilobytes, whatever a daemon puts in.
pub(super) fn clip(alert: &mut Alert) {
    clip_text(&mut alert.kind, 64);
    clip_text(&mut alert.subject, 300);
    clip_text(&mut alert.id, 128);
    alert.facts.truncate(24);
    for fact in &mut alert.facts {
        clip_text(&mut fact.key, 64);
        clip_text(&mut fact.value, 500);
    }
    alert.attachments.truncate(4);
}

fn clip_text(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
