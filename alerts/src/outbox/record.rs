// SPDX-License-Identifier: Apache-2.0
//! The journal's records as bytes: `length u32 | crc32 u32 | payload`, little-endian.
//!
//! Reading takes any bytes, stops at the first frame that is torn or wrong, and says how far it came: a torn tail is cut,
//! never guessed at.

use openwrt::crc32::crc32;

use super::codec::Input;
use super::SinkSet;
use crate::Severity;

/// First bytes of every journal; another version of the format gets another line.
pub(crate) const MAGIC: &[u8] = b"steadynode outbox 1\n";

/// No record is longer; a length above it is damage.
const MAX_PAYLOAD: usize = 64 * 1024;
const FRAME_HEADER: usize = 8;

/// One change of the outbox. Times are UTC in milliseconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An alert waits for `sinks`.
    Queued {
        seq: u64,
        sinks: SinkSet,
        severity: Severity,
        role: Role,
        queued_ms: i64,
        kind: &'a str,
        alert: &'a [u8],
    },
    /// The alert `seq` leaves the queues of `sinks`.
    Gone { seq: u64, sinks: SinkSet },
    /// Storm control holds an alert back until `until_ms` for `sinks`.
    Held { sinks: SinkSet, until_ms: i64, alert: &'a [u8] },
    /// The whole state of one storm (compaction only).
    Storm { sinks: SinkSet, until_ms: i64, state: &'a [u8] },
    /// What `sinks` lost and nobody has been told yet.
    Losses { sinks: SinkSet, full: u32, expired: u32, refused: u32 },
}

/// What queueing an alert means for storm control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing: a recovery, or storm control is off.
    Plain = 0,
    /// It is the first of its kind: the next ones are held back for a window.
    OpensWindow = 1,
    /// It is the digest of its kind: what was held back is now in it, and the next window starts.
    IsDigest = 2,
}

impl Record<'_> {
    /// Appends the record as a frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER]);
        match *self {
            Record::Queued { seq, sinks, severity, role, queued_ms, kind, alert } => {
                out.push(1);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&[sinks.bits(), severity as u8, role as u8]);
                out.extend_from_slice(&queued_ms.to_le_bytes());
                let kind = &kind.as_bytes()[..kind.len().min(usize::from(u8::MAX))];
                #[allow(clippy::cast_possible_truncation)] // limited above
                out.push(kind.len() as u8);
                out.extend_from_slice(kind);
                out.extend_from_slice(alert);
            }
            Record::Gone { seq, sinks } => {
                out.push(2);
                out.extend_from_slice(&seq.to_le_bytes());
                out.push(sinks.bits());
            }
            Record::Held { sinks, until_ms, alert } => {
                out.extend_from_slice(&[3, sinks.bits()]);
                out.extend_from_slice(&until_ms.to_le_bytes());
                out.extend_from_slice(alert);
            }
            Record::Storm { sinks, until_ms, state } => {
                out.extend_from_slice(&[4, sinks.bits()]);
                out.extend_from_slice(&until_ms.to_le_bytes());
                out.extend_from_slice(state);
            }
            Record::Losses { sinks, full, expired, refused } => {
                out.extend_from_slice(&[5, sinks.bits()]);
                for number in [full, expired, refused] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        let payload = start + FRAME_HEADER;
        #[allow(clippy::cast_possible_truncation)] // alerts are clipped far below 4 GiB
        let length = (out.len() - payload) as u32;
        let crc = crc32(&out[payload..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..payload].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Option<Record<'_>> {
        let mut input = Input(payload);
        Some(match input.byte()? {
            1 => {
                let seq = input.u64()?;
                let sinks = SinkSet::from_bits(input.byte()?)?;
                let severity = input.severity()?;
                let role = match input.byte()? {
                    0 => Role::Plain,
                    1 => Role::OpensWindow,
                    2 => Role::IsDigest,
                    _ => return None,
                };
                let queued_ms = input.i64()?;
                let kind_length = usize::from(input.byte()?);
                let kind = std::str::from_utf8(input.take(kind_length)?).ok()?;
                Record::Queued { seq, sinks, severity, role, queued_ms, kind, alert: input.0 }
            }
            2 => Record::Gone { seq: input.u64()?, sinks: SinkSet::from_bits(input.byte()?)? },
            tag @ (3 | 4) => {
                let sinks = SinkSet::from_bits(input.byte()?)?;
                let until_ms = input.i64()?;
                match tag {
                    3 => Record::Held { sinks, until_ms, alert: input.0 },
                    _ => Record::Storm { sinks, until_ms, state: input.0 },
                }
            }
            5 => Record::Losses {
                sinks: SinkSet::from_bits(input.byte()?)?,
                full: input.u32()?,
                expired: input.u32()?,
                refused: input.u32()?,
            },
            _ => return None,
        })
    }
}

/// Reads a journal: hands every whole record to `on_record` with its frame and returns the length of the part that is
/// whole; 0 when even the first line is not ours.
pub(crate) fn read<'a>(journal: &'a [u8], mut on_record: impl FnMut(Record<'a>, &'a [u8])) -> usize {
    let Some(mut rest) = journal.strip_prefix(MAGIC) else { return 0 };
    while let Some((record, frame)) = next_frame(rest) {
        on_record(record, frame);
        rest = &rest[frame.len()..];
    }
    journal.len() - rest.len()
}

fn next_frame(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let mut input = Input(bytes);
    let length = usize::try_from(input.u32()?).ok().filter(|&length| length <= MAX_PAYLOAD)?;
    let crc = input.u32()?;
    let payload = input.take(length)?;
    if crc32(payload) != crc {
        return None;
    }
    Some((Record::decode(payload)?, &bytes[..FRAME_HEADER + length]))
}

/// Makes every frame's check sum right for what is in it.
#[cfg(test)]
pub(super) fn repair_check_sums(journal: &mut [u8]) {
    let mut at = MAGIC.len();
    while at + FRAME_HEADER <= journal.len() {
        let length =
            u32::from_le_bytes([journal[at], journal[at + 1], journal[at + 2], journal[at + 3]]) as usize;
        let Some(payload) = journal.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else { return };
        let crc = crc32(payload);
        journal[at + 4..at + FRAME_HEADER].copy_from_slice(&crc.to_le_bytes());
        at += FRAME_HEADER + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record<'static>> {
        let both = SinkSet::from_bits(3).unwrap();
        vec![
            Record::Queued {
                seq: 7,
                sinks: both,
                severity: Severity::Critical,
                role: Role::OpensWindow,
                queued_ms: -5,
                kind: "dip",
                alert: b"{}",
            },
            Record::Gone { seq: 7, sinks: both },
            Record::Held { sinks: both, until_ms: i64::MAX, alert: b"[1]" },
            Record::Storm { sinks: both, until_ms: 0, state: b"" },
            Record::Losses { sinks: both, full: 1, expired: 2, refused: u32::MAX },
        ]
    }

    fn journal() -> Vec<u8> {
        let mut journal = MAGIC.to_vec();
        for record in samples() {
            record.encode(&mut journal);
        }
        journal
    }

    #[test]
    fn what_is_written_is_read() {
        let journal = journal();
        let mut seen = Vec::new();
        assert_eq!(read(&journal, |record, _| seen.push(record)), journal.len());
        assert_eq!(seen, samples());
    }

    #[test]
    fn every_torn_tail_leaves_the_whole_records_before_it() {
        let journal = journal();
        let mut ends = vec![MAGIC.len()];
        read(&journal, |_, frame| ends.push(ends.last().unwrap() + frame.len()));
        for cut in MAGIC.len()..journal.len() {
            let expected = *ends.iter().rev().find(|&&end| end <= cut).unwrap();
            assert_eq!(read(&journal[..cut], |_, _| {}), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_reading_before_its_record() {
        let journal = journal();
        for position in MAGIC.len()..journal.len() {
            for bit in 0..8 {
                let mut damaged = journal.clone();
                damaged[position] ^= 1 << bit;
                let mut count = 0;
                let whole = read(&damaged, |_, _| count += 1);
                assert!(whole <= position && count < samples().len(), "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn a_foreign_file_is_not_read() {
        assert_eq!(read(b"", |_, _| unreachable!()), 0);
        assert_eq!(read(b"#!/bin/sh\necho hello\n", |_, _| unreachable!()), 0);
    }
}
