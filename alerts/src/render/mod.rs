// SPDX-License-Identifier: Apache-2.0
//! Alerts as each sink wants to read them.

#[cfg(feature = "email")]
pub(crate) mod email;
#[cfg(any(feature = "mqtt", feature = "exec"))]
pub(crate) mod json;
#[cfg(feature = "slack")]
pub(crate) mod slack;

use crate::Identity;
#[cfg(any(feature = "slack", feature = "email"))]
use crate::{outbox::Losses, Severity};
use time::{OffsetDateTime, UtcOffset};

/// What a renderer knows beside the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) identity: &'a Identity,
    /// Local time minus UTC, seconds.
    #[cfg_attr(not(any(feature = "slack", feature = "email")), allow(dead_code))]
    pub(crate) utc_offset_s: i32,
}

#[cfg(any(feature = "slack", feature = "email"))]
impl Context<'_> {
    fn local_time(&self, at: OffsetDateTime) -> String {
        local_time(at, self.utc_offset_s)
    }
}

/// A moment on clocks that are this many seconds ahead of UTC: `2026-11-20 14:02:07 +01:00`.
pub fn local_time(at: OffsetDateTime, utc_offset_s: i32) -> String {
    let offset = UtcOffset::from_whole_seconds(utc_offset_s).unwrap_or(UtcOffset::UTC);
    let at = at.to_offset(offset);
    let (hours, minutes, _) = offset.as_hms();
    let sign = if offset.is_negative() { '-' } else { '+' };
    format!(
        "{} {:02}:{:02}:{:02} {sign}{:02}:{:02}",
        at.date(),
        at.hour(),
        at.minute(),
        at.second(),
        hours.abs(),
        minutes.abs()
    )
}

/// `residual_voltage` as a person reads it.
#[cfg(any(feature = "slack", feature = "email"))]
fn label(key: &str) -> String {
    let text = key.replace('_', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the sink lost before this message, if anything.
#[cfg(any(feature = "slack", feature = "email"))]
fn losses_sentence(losses: Losses) -> Option<String> {
    let parts: Vec<_> = [
        (losses.full, "because the outbox was full"),
        (losses.expired, "because they were too old"),
        (losses.refused, "because this receiver refused them"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, why)| format!("{count} {why}"))
    .collect();
    match losses.total() {
        0 => None,
        1 => Some(format!("1 earlier alert was not delivered: {}", parts.join(", "))),
        total => Some(format!("{total} earlier alerts were not delivered: {}", parts.join(", "))),
    }
}

#[cfg(any(feature = "slack", feature = "email"))]
fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "🔴",
        Severity::Warning => "🟡",
        Severity::Info => "🟢",
    }
}
