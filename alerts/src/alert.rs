// SPDX-License-Identifier: Apache-2.0
//! The one thing every daemon has to say.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use time::OffsetDateTime;

/// Something an operator wants to know, on its way to every sink that is configured for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Unique and stable over retries and restarts, so that a receiver can drop a duplicate. Empty until it is raised.
    pub id: String,
    /// `powqutyd`, `dynapoint` or `mptcp-proxy`. Empty until it is raised.
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
    /// HTML that mails show in place of the facts, in a file: the inside of a body, styles inline, 128 kB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<PathBuf>,
    /// The number by which alerts of this kind compare; a digest names the worst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// Present when this message stands for several alerts that storm control held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Alert {
    /// An alert without details; `raise` gives it its id.
    pub fn new(kind: &str, severity: Severity, subject: impl Into<String>, at: OffsetDateTime) -> Self {
        Self {
            id: String::new(),
            daemon: String::new(),
            kind: kind.to_owned(),
            severity,
            subject: subject.into(),
            at,
            facts: Vec::new(),
            recovers: None,
            summary: false,
            attachments: Vec::new(),
            html: None,
            measure: None,
            digest: None,
        }
    }

    /// Adds a detail; the value carries its unit.
    #[must_use]
    pub fn fact(mut self, key: &str, value: impl Into<String>) -> Self {
        self.facts.push(Fact { key: key.to_owned(), value: value.into() });
        self
    }

    /// Names the number by which alerts of this kind compare.
    #[must_use]
    pub fn measure(mut self, value: f64, unit: &str, worst: Worst) -> Self {
        self.measure = Some(Measure { value, unit: unit.to_owned(), worst });
        self
    }

    /// Says that this alert ends the trouble of an earlier one.
    #[must_use]
    pub fn recovers(mut self, id: impl Into<String>) -> Self {
        self.recovers = Some(id.into());
        self
    }
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

impl Severity {
    /// The word of the options and of the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The number by which alerts of one kind compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// For instance the residual voltage of a dip.
    pub value: f64,
    /// Unit of `value`, for instance `%`.
    pub unit: String,
    /// Which end is the bad one.
    pub worst: Worst,
}

impl Measure {
    /// Whether this one is worse than `other`.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        match self.worst {
            Worst::Lowest => self.value < other.value,
            Worst::Highest => self.value > other.value,
        }
    }
}

/// Which end of a [`Measure`] is the bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worst {
    /// Small values are bad: the residual voltage of a dip.
    Lowest,
    /// Large values are bad: the voltage of a swell, a loss rate.
    Highest,
}

/// What one message says about many alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// How many alerts it stands for.
    pub count: u32,
    /// When the first of them happened (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub first: OffsetDateTime,
    /// When the last of them happened (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub last: OffsetDateTime,
    /// The worst of them, where they compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Measure>,
}
