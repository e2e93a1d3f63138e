// SPDX-License-Identifier: Apache-2.0
//! What storm control remembers of one kind of alert at one sink, and the digest it becomes.

use super::codec::{write_alert, write_count, write_optional_measure, write_text, write_time, Input};
use super::Now;
use crate::{Alert, Digest, Fact, Measure, Severity};
use time::{OffsetDateTime, UtcOffset};

/// A digest names this many different subjects.
const SUBJECTS: usize = 5;

/// The window of one kind at one sink: opened by a message, collecting until it ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storm {
    pub(super) kind: String,
    /// When the window ends, monotonic milliseconds.
    pub(super) until: i64,
    pub(super) held: Option<Held>,
}

/// The alerts that were held back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    count: u32,
    /// The first of them whole: a digest of one is that alert.
    first: Alert,
    first_at: OffsetDateTime,
    last_at: OffsetDateTime,
    last_id: String,
    /// The trouble of the last one has ended meanwhile.
    recovered: bool,
    pub(super) severity: Severity,
    worst: Option<Measure>,
    subjects: Vec<(String, u32)>,
    other_subjects: u32,
}

impl Storm {
    pub(super) fn fold(&mut self, alert: &Alert) {
        let Some(held) = &mut self.held else {
            self.held = Some(Held {
                count: 1,
                first: alert.clone(),
                first_at: alert.at,
                last_at: alert.at,
                last_id: alert.id.clone(),
                recovered: false,
                severity: alert.severity,
                worst: alert.measure.clone(),
                subjects: vec![(alert.subject.clone(), 1)],
                other_subjects: 0,
            });
            return;
        };
        held.count = held.count.saturating_add(1);
        held.first_at = held.first_at.min(alert.at);
        if alert.at >= held.last_at {
            held.last_at = alert.at;
        }
        held.last_id.clone_from(&alert.id);
        held.recovered = false;
        held.severity = held.severity.max(alert.severity);
        if let Some(measure) = &alert.measure {
            if held.worst.as_ref().is_none_or(|worst| measure.is_worse_than(worst)) {
                held.worst = Some(measure.clone());
            }
        }
        if let Some((_, count)) = held.subjects.iter_mut().find(|(subject, _)| *subject == alert.subject) {
            *count = count.saturating_add(1);
        } else if held.subjects.len() < SUBJECTS {
            held.subjects.push((alert.subject.clone(), 1));
        } else {
            held.other_subjects = held.other_subjects.saturating_add(1);
        }
    }

    /// The trouble `id` has ended: a digest that ends with it says so.
    pub(super) fn recovered(&mut self, id: &str) {
        if let Some(held) = self.held.as_mut().filter(|held| held.last_id == id) {
            held.recovered = true;
        }
    }

    pub(super) fn held_count(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| held.count)
    }

    /// Appends all but the time.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_text(&self.kind, out);
        out.push(self.held.is_some().into());
        let Some(held) = &self.held else { return };
        out.extend_from_slice(&held.count.to_le_bytes());
        write_alert(&held.first, out);
        write_time(held.first_at, out);
        write_time(held.last_at, out);
        write_text(&held.last_id, out);
        out.extend_from_slice(&[held.recovered.into(), held.severity as u8]);
        write_optional_measure(held.worst.as_ref(), out);
        write_count(held.subjects.len(), out);
        for (subject, count) in &held.subjects {
            write_text(subject, out);
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&held.other_subjects.to_le_bytes());
    }

    /// Reads what [`Storm::write`] wrote.
    pub(super) fn read(bytes: &[u8], until: i64) -> Option<Self> {
        let mut input = Input(bytes);
        let kind = input.text()?;
        if input.byte()? == 0 {
            return Some(Self { kind, until, held: None });
        }
        let count = input.u32()?;
        let first = input.alert()?;
        let (first_at, last_at, last_id) = (input.time()?, input.time()?, input.text()?);
        let (recovered, severity, worst) = (input.byte()? != 0, input.severity()?, input.optional_measure()?);
        let mut subjects = Vec::new();
        for _ in 0..input.byte()? {
            subjects.push((input.text()?, input.u32()?));
        }
        let other_subjects = input.u32()?;
        let held = Held {
            count,
            first,
            first_at,
            last_at,
            last_id,
            recovered,
            severity,
            worst,
            subjects,
            other_subjects,
        };
        Some(Self { kind, until, held: Some(held) })
    }

    /// Upper bound of the bytes this takes in a journal.
    pub(super) fn cost(&self) -> usize {
        self.held.as_ref().map_or(0, |held| {
            let subjects: usize = held.subjects.iter().map(|(subject, _)| subject.len() + 16).sum();
            512 + 2 * alert_cost(&held.first) + subjects
        })
    }
}

impl Held {
    /// The message that stands for what was held back.
    pub(super) fn into_digest(self, now: Now) -> Alert {
        if self.count == 1 {
            let mut alert = self.first;
            if self.recovered {
                alert.facts.push(fact("meanwhile", "recovered"));
            }
            return alert;
        }
        let offset = UtcOffset::from_whole_seconds(now.utc_offset_s).unwrap_or(UtcOffset::UTC);
        let (first, last) = (self.first_at.to_offset(offset), self.last_at.to_offset(offset));
        let worst = self.worst.as_ref().map(|worst| format!("{} {}", Number(worst.value), worst.unit));
        let subject = format!(
            "{} × {} between {} and {}{}",
            self.count,
            self.first.kind,
            stamp(first, first.date() != last.date()),
            stamp(last, first.date() != last.date()),
            worst.as_ref().map_or_else(String::new, |worst| format!(", worst {worst}")),
        );
        let mut facts = vec![fact("count", &self.count.to_string())];
        facts.extend(worst.as_deref().map(|worst| fact("worst", worst)));
        facts.extend(self.subjects.iter().map(|(subject, count)| fact(&format!("{count} ×"), subject)));
        if self.other_subjects > 0 {
            facts.push(fact(&format!("{} ×", self.other_subjects), "others"));
        }
        if self.recovered {
            facts.push(fact("meanwhile", "recovered"));
        }
        Alert {
            id: format!("{}-x{}", self.first.id, self.count),
            severity: self.severity,
            subject,
            at: self.last_at,
            facts,
            attachments: Vec::new(),
            measure: self.worst.clone(),
            digest: Some(Digest {
                count: self.count,
                first: self.first_at,
                last: self.last_at,
                worst: self.worst,
            }),
            ..self.first
        }
    }
}

/// Upper bound of the bytes of an alert.
pub(super) fn alert_cost(alert: &Alert) -> usize {
    let facts: usize = alert.facts.iter().map(|fact| fact.key.len() + fact.value.len() + 4).sum();
    let files: usize =
        alert.attachments.iter().map(|file| file.name.len() + file.path.as_os_str().len() + 96).sum();
    256 + alert.id.len() + alert.subject.len() + alert.kind.len() + facts + files
}

fn fact(key: &str, value: &str) -> Fact {
    Fact { key: key.to_owned(), value: value.to_owned() }
}

fn stamp(at: OffsetDateTime, with_date: bool) -> String {
    let (hour, minute) = (at.hour(), at.minute());
    match with_date {
        true => format!("{} {hour:02}:{minute:02}", at.date()),
        false => format!("{hour:02}:{minute:02}"),
    }
}

/// A number as a person writes it: at most two decimals, no trailing zeros.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}
