// SPDX-License-Identifier: Apache-2.0
//! Where alerts go, and what the operator asked for.

use crate::quiet::QuietHours;
use crate::{Alert, Severity};
use std::time::Duration;

/// Where alerts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// An incoming webhook of Slack or of something that speaks like it.
    Slack = 0,
    /// An MQTT broker.
    Mqtt = 1,
    /// A mail server.
    Email = 2,
    /// A program of the operator's.
    Exec = 3,
}

impl SinkKind {
    /// All of them, in the order of status and journal.
    pub const ALL: [Self; 4] = [Self::Slack, Self::Mqtt, Self::Email, Self::Exec];

    /// The word of the options, of `alert_test` and of status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Mqtt => "mqtt",
            Self::Email => "email",
            Self::Exec => "exec",
        }
    }

    /// The sink with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A set of sinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SinkSet(u8);

impl SinkSet {
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        (bits < 1 << SinkKind::ALL.len()).then_some(Self(bits))
    }
    pub(crate) fn bits(self) -> u8 {
        self.0
    }
    pub(crate) fn of(sink: SinkKind) -> Self {
        Self(1 << sink as u8)
    }
    pub(crate) fn contains(self, sink: SinkKind) -> bool {
        self.0 & (1 << sink as u8) != 0
    }
    pub(super) fn insert(&mut self, sink: SinkKind) {
        self.0 |= 1 << sink as u8;
    }
    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(super) fn iter(self) -> impl Iterator<Item = SinkKind> {
        SinkKind::ALL.into_iter().filter(move |&sink| self.contains(sink))
    }
}

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// Per sink; `None`: off.
    pub(crate) routes: [Option<Route>; 4],
    /// Storm control's window; zero: off.
    pub(crate) window: Duration,
    /// Messages per hour and sink; zero: no limit.
    pub(crate) rate: u32,
    /// Older alerts are given up.
    pub(crate) expiry: Duration,
    pub(crate) quiet_hours: Option<QuietHours>,
    /// Bytes of alerts kept.
    pub(crate) capacity: usize,
}

/// What one sink gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) min_severity: Severity,
    /// Empty: all kinds.
    pub(crate) kinds: Vec<String>,
    pub(crate) events: bool,
    pub(crate) summaries: bool,
    /// Read by a person: honours quiet hours.
    pub(crate) quiet: bool,
}

impl Route {
    pub(super) fn wants(&self, alert: &Alert) -> bool {
        let notify = if alert.summary { self.summaries } else { self.events };
        notify
            && alert.severity >= self.min_severity
            && (self.kinds.is_empty() || self.kinds.contains(&alert.kind))
    }
}
