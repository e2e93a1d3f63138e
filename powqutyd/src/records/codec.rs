// SPDX-License-Identifier: Apache-2.0
//! Frames of the record file, little endian: `len` u16 (of the payload), `kind` u8, `time_ms` i64, payload, CRC-32
//! (IEEE 802.3) of everything before it.
//!
//! | kind | payload |
//! |---|---|
//! | 1 header | JSON object, see [`Header`] |
//! | 2 ten minutes, 3 two hours | flags u8 (1 flagged, 2 partial); duration, voltage, smallest, largest, fundamental, THD as f32 (NaN: unknown); 24 × u16 harmonics (65535: unknown) |
//! | 4 flicker | flags u8 (1 flagged, 4 long-term), f32 |
//! | 5 frequencies | nominal Hz u8, 60 tokens: 0 absent, 1 invalid, else 2 + zigzag difference to the value before, as LEB128 |
//! | 6 signalling | tokens as in 5, 1 for flagged |
//! | 7 event | kind u8, flags u8 (8 open), duration f64, extreme V f32, extreme % f32, cell row u8, cell column u8; harmonic events: order u8, limit f32, value f32, share f32 |
//! | 8 rapid voltage change | duration, largest, steady-state difference as f32 |
//! | 9 outage | flags u8 (16 power loss), duration f64 |
//! | 10 stop, 11 summary sent | none |

use super::{
    FlickerValue, FrequencyBlock, Header, Means, Outage, Record, RvcRecord, SignallingBlock, Stamped, Tenth,
    MOST_SIGNALLING,
};
use crate::clock::Utc;
use crate::record::EventRecord;
use openwrt::crc32::crc32;
use power_quality::{Cell, EventKind, HarmonicDetail};
use std::io::{self, Read};

/// Bytes of a frame beside its payload.
const AROUND: usize = 2 + 1 + 8 + 4;
/// Longer payloads do not exist.
const MOST_PAYLOAD: usize = 4096;
/// Read at a time.
const CHUNK: usize = 16 * 1024;

const FLAGGED: u8 = 1;
const PARTIAL: u8 = 2;
const LONG: u8 = 4;
const OPEN: u8 = 8;
const POWER_LOSS: u8 = 16;

const UNKNOWN: u16 = u16::MAX;

/// Appends a record as a frame.
pub fn encode(stamped: &Stamped, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, kind(&stamped.record)]);
    out.extend_from_slice(&stamped.time_ms.to_le_bytes());
    let payload = out.len();
    encode_payload(&stamped.record, out);
    // Nothing that is encoded comes near the largest payload; texts in a header are cut where they are made.
    out.truncate(payload + MOST_PAYLOAD);
    let length = (out.len() - payload) as u16;
    out[start..start + 2].copy_from_slice(&length.to_le_bytes());
    let crc = crc32(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// What the start of some bytes is.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// A frame of this many bytes; `None` for one of a kind that this version does not know.
    Frame(Option<Stamped>, usize),
    /// The start of a frame perhaps.
    Short,
    /// No frame.
    Damaged,
}

/// Looks at the start of `bytes`.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded {
    let Some((length, _)) = bytes.split_first_chunk::<2>() else { return Decoded::Short };
    let length = usize::from(u16::from_le_bytes(*length));
    if length > MOST_PAYLOAD {
        return Decoded::Damaged;
    }
    let Some(frame) = bytes.get(..length + AROUND) else { return Decoded::Short };
    let Some((content, crc)) = frame.split_last_chunk::<4>() else { return Decoded::Damaged };
    if crc32(content) != u32::from_le_bytes(*crc) {
        return Decoded::Damaged;
    }
    let mut input = Input(&content[3..]);
    let record = input.i64().filter(|ms| ms.unsigned_abs() < FAR_MS).and_then(|time_ms| {
        let record = decode_payload(content[2], time_ms, &mut input)?;
        Some(Stamped { time_ms, record })
    });
    Decoded::Frame(record, frame.len())
}

/// Records of a stream in their order; damaged stretches are passed over.
pub struct Records<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    over: bool,
    /// Bytes read so far that precede the buffer.
    before: u64,
    valid_end: u64,
    skipped: u64,
}

impl<R: Read> Records<R> {
    /// Reads from the start of a file.
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), at: 0, over: false, before: 0, valid_end: 0, skipped: 0 }
    }

    /// End of the last whole frame so far.
    #[must_use]
    pub fn valid_end(&self) -> u64 {
        self.valid_end
    }

    /// Damaged bytes before it.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn fill(&mut self) -> io::Result<()> {
        self.before += self.at as u64;
        self.buffer.drain(..self.at);
        self.at = 0;
        let read = (&mut self.input).take(CHUNK as u64).read_to_end(&mut self.buffer)?;
        self.over = read == 0;
        Ok(())
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = io::Result<Stamped>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut damaged = 0;
        loop {
            match decode(&self.buffer[self.at..]) {
                Decoded::Frame(record, size) => {
                    self.at += size;
                    self.skipped += std::mem::take(&mut damaged);
                    self.valid_end = self.before + self.at as u64;
                    if let Some(record) = record {
                        return Some(Ok(record));
                    }
                }
                Decoded::Short if !self.over => {
                    if let Err(error) = self.fill() {
                        self.over = true;
                        self.buffer.clear();
                        self.at = 0;
                        return Some(Err(error));
                    }
                }
                // A damaged length may promise more than there is.
                Decoded::Short | Decoded::Damaged if self.at < self.buffer.len() => {
                    self.at += 1;
                    damaged += 1;
                }
                Decoded::Short | Decoded::Damaged => return None,
            }
        }
    }
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Header(_) => 1,
        Record::TenMinutes(_) => 2,
        Record::TwoHours(_) => 3,
        Record::Flicker(_) => 4,
        Record::Frequencies(_) => 5,
        Record::Signalling(_) => 6,
        Record::Event(_) => 7,
        Record::Rvc(_) => 8,
        Record::Outage(_) => 9,
        Record::Stop => 10,
        Record::SummarySent => 11,
    }
}

fn encode_payload(record: &Record, out: &mut Vec<u8>) {
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    match record {
        // Numbers and strings have no way to fail.
        Record::Header(header) => out.extend(serde_json::to_vec(header).unwrap_or_default()),
        Record::TenMinutes(means) | Record::TwoHours(means) => {
            out.push(flag(FLAGGED, means.flagged) | flag(PARTIAL, means.partial));
            let optional = |value: Option<f32>| value.unwrap_or(f32::NAN);
            let values = [
                means.duration_s,
                means.voltage,
                means.voltage_min,
                means.voltage_max,
                optional(means.fundamental),
                optional(means.thd),
            ];
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            means.harmonics.iter().for_each(|value| out.extend(value.unwrap_or(UNKNOWN).to_le_bytes()));
        }
        Record::Flicker(FlickerValue { long, value, flagged }) => {
            out.push(flag(FLAGGED, *flagged) | flag(LONG, *long));
            out.extend(value.to_le_bytes());
        }
        Record::Frequencies(block) => {
            out.push(block.nominal);
            let values = block.values.iter().map(|entry| match entry {
                Tenth::Absent => Token::Absent,
                Tenth::Invalid => Token::Invalid,
                Tenth::Deviation(steps) => Token::Value(i32::from(*steps)),
            });
            encode_tokens(values, out);
        }
        Record::Signalling(block) => {
            let value = |value: &Option<u16>| value.map_or(Token::Invalid, |it| Token::Value(i32::from(it)));
            encode_tokens(block.values.iter().take(MOST_SIGNALLING).map(value), out);
        }
        Record::Event(event) => {
            out.push(event.kind as u8);
            out.push(flag(OPEN, event.open));
            out.extend(event.duration_s.to_le_bytes());
            for extreme in [event.extreme_voltage, event.extreme_percent] {
                out.extend((extreme.unwrap_or(f64::NAN) as f32).to_le_bytes());
            }
            // Rows are the letters A to D, S, T and X.
            let (row, column) = event.class.map_or((0, 0), |cell| (cell.row as u8, cell.column));
            out.extend([row, column]);
            if let Some(harmonic) = event.harmonic {
                out.push(harmonic.order);
                for value in [harmonic.limit_percent, harmonic.value_percent, harmonic.share_percent] {
                    out.extend((value as f32).to_le_bytes());
                }
            }
        }
        Record::Rvc(RvcRecord { duration_s, du_max, du_ss }) => {
            [duration_s, du_max, du_ss].iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        Record::Outage(Outage { duration_s, power_loss }) => {
            out.push(flag(POWER_LOSS, *power_loss));
            out.extend(duration_s.to_le_bytes());
        }
        Record::Stop | Record::SummarySent => {}
    }
}

/// Far beyond any calendar, and far from where sums of times overflow: what another program wrote may say anything.
const FAR_MS: u64 = 1 << 50;

/// Seconds that something lasted.
fn is_length(seconds: &f64) -> bool {
    (0.0..1e12).contains(seconds)
}

fn decode_payload(kind: u8, time_ms: i64, input: &mut Input<'_>) -> Option<Record> {
    Some(match kind {
        1 => Record::Header(Box::new(serde_json::from_slice::<Header>(input.0).ok()?)),
        2 => Record::TenMinutes(decode_means(input)?),
        3 => Record::TwoHours(decode_means(input)?),
        4 => {
            let flags = input.u8()?;
            let value = input.f32().filter(|value| value.is_finite())?;
            Record::Flicker(FlickerValue { long: flags & LONG != 0, value, flagged: flags & FLAGGED != 0 })
        }
        5 => {
            let mut block = FrequencyBlock::new(input.u8()?);
            let mut tokens = Tokens { input, last: 0 };
            for entry in &mut block.values {
                *entry = match tokens.next()? {
                    Token::Absent => Tenth::Absent,
                    Token::Invalid => Tenth::Invalid,
                    Token::Value(steps) => Tenth::Deviation(steps.try_into().ok()?),
                };
            }
            Record::Frequencies(Box::new(block))
        }
        6 => {
            let mut values = Vec::new();
            let mut tokens = Tokens { input, last: 0 };
            while let Some(token) = tokens.next() {
                if values.len() == MOST_SIGNALLING {
                    return None;
                }
                values.push(match token {
                    Token::Absent => return None,
                    Token::Invalid => None,
                    Token::Value(value) => Some(value.try_into().ok()?),
                });
            }
            Record::Signalling(SignallingBlock { values })
        }
        7 => Record::Event(decode_event(time_ms, input)?),
        8 => Record::Rvc(RvcRecord { duration_s: input.f32()?, du_max: input.f32()?, du_ss: input.f32()? }),
        9 => {
            let power_loss = input.u8()? & POWER_LOSS != 0;
            let duration_s = input.f64().filter(is_length)?;
            Record::Outage(Outage { duration_s, power_loss })
        }
        10 => Record::Stop,
        11 => Record::SummarySent,
        _ => return None,
    })
}

fn decode_means(input: &mut Input<'_>) -> Option<Means> {
    let flags = input.u8()?;
    let mut value = || input.f32();
    let (duration_s, voltage, voltage_min, voltage_max) = (value()?, value()?, value()?, value()?);
    let (fundamental, thd) = (value()?, value()?);
    let mut harmonics = [None; super::KEPT_ORDERS];
    for harmonic in &mut harmonics {
        *harmonic = Some(input.u16()?).filter(|&value| value != UNKNOWN);
    }
    let known = |value: f32| Some(value).filter(|value| value.is_finite());
    Some(Means {
        duration_s: known(duration_s)?,
        voltage: known(voltage)?,
        voltage_min: known(voltage_min)?,
        voltage_max: known(voltage_max)?,
        fundamental: known(fundamental),
        thd: known(thd),
        harmonics,
        flagged: flags & FLAGGED != 0,
        partial: flags & PARTIAL != 0,
    })
}

fn decode_event(time_ms: i64, input: &mut Input<'_>) -> Option<EventRecord> {
    let kind = *crate::outputs::KINDS.get(usize::from(input.u8()?))?;
    let open = input.u8()? & OPEN != 0;
    let duration_s = input.f64().filter(is_length)?;
    let known = |value: f32| Some(f64::from(value)).filter(|value| value.is_finite());
    let (extreme_voltage, extreme_percent) = (known(input.f32()?), known(input.f32()?));
    let (row, column) = (input.u8()?, input.u8()?);
    let harmonic = match kind {
        EventKind::Harmonic => Some(HarmonicDetail {
            order: input.u8()?,
            limit_percent: known(input.f32()?)?,
            value_percent: known(input.f32()?)?,
            share_percent: known(input.f32()?)?,
        }),
        EventKind::Dip | EventKind::Swell | EventKind::Interruption => None,
    };
    Some(EventRecord {
        kind,
        start: Utc::from_millis(time_ms),
        duration_s,
        open,
        extreme_voltage,
        extreme_percent,
        class: (row != 0).then_some(Cell { row: char::from(row), column }),
        harmonic,
    })
}

#[derive(Clone, Copy)]
enum Token {
    Absent,
    Invalid,
    Value(i32),
}

fn encode_tokens(tokens: impl Iterator<Item = Token>, out: &mut Vec<u8>) {
    let mut last = 0;
    for token in tokens {
        let mut code = match token {
            Token::Absent => 0,
            Token::Invalid => 1,
            Token::Value(value) => {
                let difference = value - last;
                last = value;
                2 + ((difference << 1) ^ (difference >> 31)) as u32
            }
        };
        while code >= 0x80 {
            out.push(code as u8 | 0x80);
            code >>= 7;
        }
        out.push(code as u8);
    }
}

struct Tokens<'a, 'b> {
    input: &'a mut Input<'b>,
    last: i32,
}

impl Tokens<'_, '_> {
    /// The next token; `None` at the end and where there is none.
    fn next(&mut self) -> Option<Token> {
        let mut code = 0_u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.input.u8()?;
            code |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(match code {
                    0 => Token::Absent,
                    1 => Token::Invalid,
                    _ => {
                        let zigzag = code - 2;
                        let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
                        self.last = self.last.checked_add(difference)?;
                        Token::Value(self.last)
                    }
                });
            }
        }
        None
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn f32(&mut self) -> Option<f32> {
        self.array().map(f32::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
