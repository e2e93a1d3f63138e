// SPDX-License-Identifier: Apache-2.0
//! Delivery of alerts, whatever the network does.
//!
//! [`start`] gives a handle to raise alerts with and the running delivery. Where an alert goes through:
//! `inbox.rs` (any thread, never blocks) → `outbox/` (pure: who gets it, storm control, quiet hours, back-off, what is
//! lost when it is full) → `journal.rs` (on file before the first attempt) → `delivery.rs` (one worker per sink) →
//! `sink/` (Slack, MQTT, email, a program) in the words of `render/`. It leaves the outbox when the receiver has
//! acknowledged it: at least once, always with the same id.

// Without any sink nothing is sent; such a build is of use for checking this crate alone.
#![cfg_attr(
    not(any(feature = "slack", feature = "email", feature = "mqtt", feature = "exec")),
    allow(dead_code, unused_variables, clippy::unused_self)
)]

mod alert;
mod backoff;
mod command;
mod config;
mod delivery;
#[cfg(any(feature = "slack", feature = "email", feature = "mqtt", feature = "tls"))]
mod explain;
mod inbox;
mod journal;
mod outbox;
mod quiet;
mod render;
mod sink;
#[cfg(feature = "tls")]
mod tls;

pub use alert::{Alert, Attachment, Digest, Fact, Measure, Severity, Worst};
pub use command::{alert_test, ALERT_TEST};
pub use config::{Broker, BrokerTls, Config, Email, Exec, Mqtt, Security, Slack, SummaryTime};
pub use delivery::{start, Alerts, Identity, TestResult};
#[cfg(feature = "tls")]
pub use explain::explain;
pub use inbox::AlertHandle;
pub use outbox::SinkKind;
pub use render::local_time;
#[cfg(feature = "mqtt")]
pub use sink::mqtt::Telemetry;
#[cfg(feature = "tls")]
pub use tls::client_config;

/// What is read from outside, for the fuzzer and its kept inputs. Each panics when a promise is broken.
#[doc(hidden)]
pub mod fuzz {
    /// Reads any bytes as a journal of alerts and returns the length of the part that is whole.
    pub fn journal(bytes: &[u8]) -> usize {
        crate::outbox::fuzz(bytes)
    }

    #[cfg(feature = "mqtt")]
    pub use crate::sink::mqtt::fuzz::broker;

    #[cfg(feature = "email")]
    pub use crate::sink::email::fuzz::mail_server;
}
