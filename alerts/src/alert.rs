// SPDX-License-Identifier: Apache-2.0
//! The one thing every daemon has to say.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use time::OffsetDateTime;

/// Something an operator wants to know, on its way to every sink that is configured for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Unique and stable over retries and restarts, so that a receiver can drop a duplicate.
    pub id: String,
    /// `powqutyd`, `dynapoint` or `mptcp-proxy`.
    pub daemon: String,
    /// Machine-readable kind, for instance `dip`, `offline`, `path_lost`; the unit of storm control.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One line for a person.
    pub subject: String,
    /// When it happened (UTC), not when it is delivered.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Details in the order they should be read.
    pub facts: Vec<Fact>,
    /// Id of the alert whose trouble this one ends; such alerts pass storm control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<String>,
    /// A periodic summary rather than a single event (`*_notify events|summary|both`).
    #[serde(default)]
    pub summary: bool,
    /// Files to send along where the sink can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// A detail of an [`Alert`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Name, for instance `residual_voltage`.
    pub key: String,
    /// Value as it should be read, unit included.
    pub value: String,
}

/// A file that goes with an [`Alert`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// File name the receiver sees.
    pub name: String,
    /// Media type such as `text/html`.
    pub media_type: String,
    /// Where the file lies until it is sent.
    pub path: PathBuf,
}

/// How much an alert matters; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; recoveries and summaries.
    Info,
    /// Needs a look.
    Warning,
    /// Needs a hand.
    Critical,
}
