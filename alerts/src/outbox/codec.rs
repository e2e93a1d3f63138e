// SPDX-License-Identifier: Apache-2.0
//! Alerts as bytes of the journal: fields in order, little-endian, texts with their length before them.
//!
//! Not JSON: reading that back costs a small router's binary 40 kB, and twice the room in the outbox.

use crate::{Alert, Attachment, Digest, Fact, Measure, Severity, Worst};
use std::path::PathBuf;
use time::OffsetDateTime;

const RECOVERS: u8 = 1;
const SUMMARY: u8 = 2;
const MEASURE: u8 = 4;
const DIGEST: u8 = 8;
const HTML: u8 = 16;

/// Appends an alert.
pub(super) fn write_alert(alert: &Alert, out: &mut Vec<u8>) {
    for text in [&alert.id, &alert.daemon, &alert.kind, &alert.subject] {
        write_text(text, out);
    }
    out.push(alert.severity as u8);
    write_time(alert.at, out);
    let flag = |bit, on| if on { bit } else { 0 };
    out.push(
        flag(RECOVERS, alert.recovers.is_some())
            | flag(SUMMARY, alert.summary)
            | flag(MEASURE, alert.measure.is_some())
            | flag(DIGEST, alert.digest.is_some())
            | flag(HTML, alert.html.is_some()),
    );
    if let Some(id) = &alert.recovers {
        write_text(id, out);
    }
    if let Some(measure) = &alert.measure {
        write_measure(measure, out);
    }
    if let Some(digest) = &alert.digest {
        out.extend_from_slice(&digest.count.to_le_bytes());
        write_time(digest.first, out);
        write_time(digest.last, out);
        write_optional_measure(digest.worst.as_ref(), out);
    }
    write_count(alert.facts.len(), out);
    for fact in &alert.facts {
        write_text(&fact.key, out);
        write_text(&fact.value, out);
    }
    write_count(alert.attachments.len(), out);
    for file in &alert.attachments {
        write_text(&file.name, out);
        write_text(&file.media_type, out);
        write_text(&file.path.to_string_lossy(), out);
    }
    if let Some(path) = &alert.html {
        write_text(&path.to_string_lossy(), out);
    }
}

pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    #[allow(clippy::cast_possible_truncation)] // limited above
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Lists are clipped far below 256 entries.
pub(super) fn write_count(count: usize, out: &mut Vec<u8>) {
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
}

pub(super) fn write_time(at: OffsetDateTime, out: &mut Vec<u8>) {
    out.extend_from_slice(&at.unix_timestamp().to_le_bytes());
    out.extend_from_slice(&at.nanosecond().to_le_bytes());
}

pub(super) fn write_optional_measure(measure: Option<&Measure>, out: &mut Vec<u8>) {
    out.push(measure.is_some().into());
    if let Some(measure) = measure {
        write_measure(measure, out);
    }
}

fn write_measure(measure: &Measure, out: &mut Vec<u8>) {
    out.extend_from_slice(&measure.value.to_le_bytes());
    write_text(&measure.unit, out);
    out.push((measure.worst == Worst::Highest).into());
}

/// Bytes that are taken from the front, never beyond the end.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.array().map(u16::from_le_bytes)?;
        let bytes = self.take(length.into())?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    pub(super) fn severity(&mut self) -> Option<Severity> {
        match self.byte()? {
            0 => Some(Severity::Info),
            1 => Some(Severity::Warning),
            2 => Some(Severity::Critical),
            _ => None,
        }
    }

    pub(super) fn time(&mut self) -> Option<OffsetDateTime> {
        let seconds = OffsetDateTime::from_unix_timestamp(self.i64()?).ok()?;
        seconds.replace_nanosecond(self.u32()?).ok()
    }

    pub(super) fn optional_measure(&mut self) -> Option<Option<Measure>> {
        match self.byte()? {
            0 => Some(None),
            _ => self.measure().map(Some),
        }
    }

    fn measure(&mut self) -> Option<Measure> {
        let value = f64::from_le_bytes(self.array()?);
        let unit = self.text()?;
        let worst = if self.byte()? == 0 { Worst::Lowest } else { Worst::Highest };
        Some(Measure { value, unit, worst })
    }

    pub(super) fn alert(&mut self) -> Option<Alert> {
        let (id, daemon, kind, subject) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let severity = self.severity()?;
        let at = self.time()?;
        let flags = self.byte()?;
        let recovers = if flags & RECOVERS != 0 { Some(self.text()?) } else { None };
        let measure = if flags & MEASURE != 0 { Some(self.measure()?) } else { None };
        let digest = if flags & DIGEST != 0 {
            let (count, first, last) = (self.u32()?, self.time()?, self.time()?);
            Some(Digest { count, first, last, worst: self.optional_measure()? })
        } else {
            None
        };
        let mut facts = Vec::new();
        for _ in 0..self.byte()? {
            facts.push(Fact { key: self.text()?, value: self.text()? });
        }
        let mut attachments = Vec::new();
        for _ in 0..self.byte()? {
            let (name, media_type) = (self.text()?, self.text()?);
            attachments.push(Attachment { name, media_type, path: PathBuf::from(self.text()?) });
        }
        let html = if flags & HTML != 0 { Some(PathBuf::from(self.text()?)) } else { None };
        let summary = flags & SUMMARY != 0;
        Some(Alert {
            id,
            daemon,
            kind,
            severity,
            subject,
            at,
            facts,
            recovers,
            summary,
            attachments,
            html,
            measure,
            digest,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Alert {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_795_176_000_123_456_789).unwrap();
        let mut alert = Alert::new("dip", Severity::Critical, "Dip to 43 % – grüß", at)
            .fact("residual_voltage", "43 %")
            .fact("", "")
            .measure(-0.5, "%", Worst::Highest)
            .recovers("x-1");
        alert.id = "x-2".into();
        alert.daemon = "powqutyd".into();
        alert.summary = true;
        alert.attachments.push(Attachment {
            name: "report.html".into(),
            media_type: "text/html".into(),
            path: "/tmp/report".into(),
        });
        alert.html = Some("/tmp/body".into());
        alert.digest = Some(Digest { count: u32::MAX, first: at, last: at, worst: alert.measure.clone() });
        alert
    }

    #[test]
    fn what_is_written_is_read() {
        let plain = Alert::new("k", Severity::Info, "", OffsetDateTime::UNIX_EPOCH);
        for alert in [full(), plain] {
            let mut bytes = Vec::new();
            write_alert(&alert, &mut bytes);
            let mut input = Input(&bytes);
            assert_eq!(input.alert(), Some(alert));
            assert!(input.0.is_empty());
        }
    }

    #[test]
    fn what_is_cut_short_is_no_alert() {
        let mut bytes = Vec::new();
        write_alert(&full(), &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Input(&bytes[..end]).alert(), None, "{end}");
        }
    }

    #[test]
    fn endless_texts_are_cut_between_characters() {
        let mut bytes = Vec::new();
        write_text(&"ü".repeat(40_000), &mut bytes);
        assert_eq!(Input(&bytes).text().map(|text| text.len()), Some(65_534));
    }
}
