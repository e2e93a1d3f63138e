// SPDX-License-Identifier: Apache-2.0
//! The alert as one JSON object, for MQTT and for the hook program.

use super::Context;
use crate::outbox::Message;
use crate::{Attachment, Fact};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fs::File;
use std::io::Read as _;

/// Many brokers take no more than 256 kB, and it is held in memory.
const DATA_BYTES: u64 = 96 * 1024;

#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    daemon: &'a str,
    host: &'a str,
    device: &'a str,
    kind: &'a str,
    severity: crate::Severity,
    subject: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    at: time::OffsetDateTime,
    #[serde(serialize_with = "facts_as_object")]
    facts: &'a [Fact],
    #[serde(skip_serializing_if = "Option::is_none")]
    recovers: Option<&'a str>,
    summary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    measure: Option<&'a crate::Measure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a crate::Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    attachments: &'a [Attachment],
    /// Attached JSON, for receivers that cannot get files.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<Lost>,
}

/// What this receiver lost before this message.
#[derive(Serialize)]
struct Lost {
    outbox_full: u32,
    expired: u32,
    refused: u32,
}

/// The object; `with_files`: name the attachments' paths, for a program on this machine.
pub(crate) fn render(context: Context<'_>, message: &Message, with_files: bool) -> Vec<u8> {
    let alert = &message.alert;
    let losses = message.losses;
    let event = Event {
        id: &alert.id,
        daemon: &alert.daemon,
        host: &context.identity.host,
        device: &context.identity.device_id,
        kind: &alert.kind,
        severity: alert.severity,
        subject: &alert.subject,
        at: alert.at,
        facts: &alert.facts,
        recovers: alert.recovers.as_deref(),
        summary: alert.summary,
        measure: alert.measure.as_ref(),
        digest: alert.digest.as_ref(),
        attachments: if with_files { &alert.attachments } else { &[] },
        data: if with_files { None } else { alert.attachments.iter().find_map(data) },
        lost: (losses.total() > 0).then_some(Lost {
            outbox_full: losses.full,
            expired: losses.expired,
            refused: losses.refused,
        }),
    };
    // The times came out of JSON: they can go back in.
    serde_json::to_vec(&event).unwrap_or_default()
}

/// The content of a JSON file of moderate size.
fn data(file: &Attachment) -> Option<Value> {
    if file.media_type != "application/json" {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(&file.path).ok()?.take(DATA_BYTES + 1).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|_| bytes.len() as u64 <= DATA_BYTES)
}

/// In their order; `value_json.facts.residual_voltage` is what templates of receivers want to write.
fn facts_as_object<S: Serializer>(facts: &[Fact], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(facts.len()))?;
    for fact in facts {
        map.serialize_entry(&fact.key, &fact.value)?;
    }
    map.end()
}
