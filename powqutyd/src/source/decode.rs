// SPDX-License-Identifier: Apache-2.0
//! Bytes of a file or a pipe to volts.
//!
//! Reading is incremental with constant memory, and the samples do not depend on how the bytes were cut.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// How samples are written in a file or pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 16-bit little-endian integers without header, as sound cards and most converters give them.
    S16le,
    /// 32-bit little-endian floats without header; PowQuty's own dumps are of this kind, in volts.
    F32le,
    /// Text, one sample per line in one column; a header line is skipped.
    Csv,
}

impl Format {
    /// Names as they appear in the configuration and on the command line.
    pub const NAMES: [(&'static str, Self); 3] =
        [("s16le", Self::S16le), ("f32le", Self::F32le), ("csv", Self::Csv)];

    /// The format a file name suggests: `.csv` and `.txt` are text, `.f32`, `.raw` and `.dat` floats, `.s16`
    /// and `.pcm` integers.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" | "txt" | "tsv" => Some(Self::Csv),
            "f32" | "f32le" => Some(Self::F32le),
            "s16" | "s16le" | "pcm" => Some(Self::S16le),
            _ => None,
        }
    }

    /// Bytes of one sample; `None` for text.
    #[must_use]
    pub fn width(self) -> Option<usize> {
        match self {
            Self::S16le => Some(2),
            Self::F32le => Some(4),
            Self::Csv => None,
        }
    }
}

/// Raw values to volts: `(raw - offset) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Volts per raw unit.
    pub scale: f32,
    /// Raw value at 0 V.
    pub offset: f32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { scale: 1.0, offset: 0.0 }
    }
}

impl Scaling {
    /// Volts at the two ends of a 16-bit converter, the lower first; samples there are clipped.
    #[must_use]
    pub fn range_of_s16(self) -> (f32, f32) {
        let volts = |raw: i16| (f32::from(raw) - self.offset) * self.scale;
        let (a, b) = (volts(i16::MIN), volts(i16::MAX));
        (a.min(b), a.max(b))
    }
}

/// Why the samples of an input cannot be read.
#[derive(Debug)]
pub enum DecodeError {
    /// The bytes could not be read.
    Io(io::Error),
    /// The bytes are no samples of the format.
    Malformed {
        /// Offset of the offending sample from the start of the input, in bytes.
        byte: u64,
        /// Line number for text, counted from 1.
        line: Option<u64>,
        /// What is wrong there.
        reason: String,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read: {error}"),
            Self::Malformed { byte, line: Some(line), reason } => {
                write!(f, "byte {byte} (line {line}): {reason}")
            }
            Self::Malformed { byte, line: None, reason } => write!(f, "byte {byte}: {reason}"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Malformed { .. } => None,
        }
    }
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Samples of an input, one call after the other.
pub struct SampleReader<R> {
    samples: Samples<R>,
    scaling: Scaling,
}

enum Samples<R> {
    Binary(Binary<R>),
    Csv(Box<Csv<R>>),
}

impl<R: Read> SampleReader<R> {
    /// Reads `input` in `format`; `column` (from 1) picks the CSV column, the last one by default.
    ///
    /// # Errors
    /// The first bytes of a text input cannot be read.
    pub fn new(
        input: R,
        format: Format,
        scaling: Scaling,
        column: Option<usize>,
    ) -> Result<Self, DecodeError> {
        let samples = match format {
            Format::S16le => Samples::Binary(Binary::new(input, 2)),
            Format::F32le => Samples::Binary(Binary::new(input, 4)),
            Format::Csv => Samples::Csv(Box::new(Csv::new(input, column)?)),
        };
        Ok(Self { samples, scaling })
    }

    /// Fills the front of `volts` and says how many samples it holds; 0 is the end of the input.
    ///
    /// A binary input returns as soon as it has one sample, so that a slow pipe is not held back.
    ///
    /// # Errors
    /// The input cannot be read, ends inside a sample, or holds something that is no sample. Samples before
    /// the offending one have been returned by earlier calls.
    pub fn read(&mut self, volts: &mut [f32]) -> Result<usize, DecodeError> {
        match &mut self.samples {
            Samples::Binary(binary) => binary.read(volts, self.scaling),
            Samples::Csv(csv) => csv.read(volts, self.scaling),
        }
    }

    /// Bytes consumed so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        match &self.samples {
            Samples::Binary(binary) => binary.position,
            Samples::Csv(csv) => csv.reader.position().byte(),
        }
    }
}

const BUFFER: usize = 16 * 1024;

struct Binary<R> {
    input: R,
    width: usize,
    buffer: Box<[u8]>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    position: u64,
    failure: Option<DecodeError>,
}

impl<R: Read> Binary<R> {
    fn new(input: R, width: usize) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { input, width, buffer, start: 0, end: 0, position: 0, failure: None }
    }

    fn read(&mut self, volts: &mut [f32], scaling: Scaling) -> Result<usize, DecodeError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if volts.is_empty() {
            return Ok(0);
        }
        if self.end - self.start < self.width && !self.refill()? {
            return Ok(0);
        }
        let available = (self.end - self.start) / self.width;
        let mut count = 0;
        for volt in volts.iter_mut().take(available) {
            let raw = match self.buffer[self.start..self.start + self.width] {
                [a, b] => f32::from(i16::from_le_bytes([a, b])),
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => f32::NAN, // the width is 2 or 4 by construction
            };
            if !raw.is_finite() {
                self.failure = Some(DecodeError::Malformed {
                    byte: self.position,
                    line: None,
                    reason: format!("{raw} is no voltage (is this really little-endian 32-bit float?)"),
                });
                break;
            }
            *volt = (raw - scaling.offset) * scaling.scale;
            self.start += self.width;
            self.position += self.width as u64;
            count += 1;
        }
        match self.failure.take() {
            Some(failure) if count == 0 => Err(failure),
            failure => {
                self.failure = failure;
                Ok(count)
            }
        }
    }

    /// Gets at least one whole sample; `false` at a clean end.
    fn refill(&mut self) -> Result<bool, DecodeError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < self.width {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.end == 0 => return Ok(false),
                Ok(0) => {
                    return Err(DecodeError::Malformed {
                        byte: self.position,
                        line: None,
                        reason: format!(
                            "the input ends inside a sample ({} of {} bytes)",
                            self.end, self.width
                        ),
                    })
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

struct Csv<R> {
    reader: csv::Reader<BufReader<Capped<R>>>,
    record: csv::ByteRecord,
    column: Option<usize>,
    /// `;` files of continental Europe write `230,5`.
    decimal_comma: bool,
    header_possible: bool,
    failure: Option<DecodeError>,
}

impl<R: Read> Csv<R> {
    fn new(input: R, column: Option<usize>) -> Result<Self, DecodeError> {
        let mut input = BufReader::with_capacity(BUFFER, Capped::new(input));
        let first = input.fill_buf()?;
        let line = first.split(|&byte| byte == b'\n').find(|line| !line.starts_with(b"#")).unwrap_or(first);
        let delimiter = [b'\t', b';'].into_iter().find(|candidate| line.contains(candidate)).unwrap_or(b',');
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .comment(Some(b'#'))
            .quoting(false)
            .buffer_capacity(BUFFER)
            .from_reader(input);
        Ok(Self {
            reader,
            record: csv::ByteRecord::new(),
            column,
            decimal_comma: delimiter != b',',
            header_possible: true,
            failure: None,
        })
    }

    fn read(&mut self, volts: &mut [f32], scaling: Scaling) -> Result<usize, DecodeError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut count = 0;
        while count < volts.len() {
            match self.next() {
                Ok(Some(raw)) => {
                    volts[count] = (raw - scaling.offset) * scaling.scale;
                    count += 1;
                }
                Ok(None) => break,
                Err(error) if count == 0 => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(count)
    }

    fn next(&mut self) -> Result<Option<f32>, DecodeError> {
        loop {
            if !self.read_record()? {
                return Ok(None);
            }
            let (byte, line) =
                self.record.position().map_or((0, 0), |position| (position.byte(), position.line()));
            let malformed = |reason: String| DecodeError::Malformed { byte, line: Some(line), reason };
            let header_possible = std::mem::replace(&mut self.header_possible, false);
            let index = self.column.map_or(self.record.len().saturating_sub(1), |column| column - 1);
            let Some(field) = self.record.get(index) else {
                return Err(malformed(format!(
                    "column {} of a line with {} columns",
                    index + 1,
                    self.record.len()
                )));
            };
            match parse_number(field, self.decimal_comma) {
                Some(value) => return Ok(Some(value)),
                None if header_possible && is_text(field) => {}
                None => return Err(malformed(format!("{} is not a number", shown(field)))),
            }
        }
    }

    fn read_record(&mut self) -> Result<bool, DecodeError> {
        let position = self.reader.position().clone();
        self.reader.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                DecodeError::Malformed {
                    byte: position.byte(),
                    line: Some(position.line()),
                    reason: error.to_string(),
                }
            }
            csv::ErrorKind::Io(error) => DecodeError::Io(error),
            other => DecodeError::Malformed {
                byte: position.byte(),
                line: Some(position.line()),
                reason: format!("{other:?}"),
            },
        })
    }
}

/// Refuses a line that never ends, so that a binary file taken for text costs no memory.
struct Capped<R> {
    input: R,
    line: usize,
}

const LONGEST_LINE: usize = 64 * 1024;

impl<R> Capped<R> {
    fn new(input: R) -> Self {
        Self { input, line: 0 }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.line = match buffer[..read].iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => read - newline,
            None => self.line + read,
        };
        if self.line > LONGEST_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a line longer than 64 KiB is no CSV of samples",
            ));
        }
        Ok(read)
    }
}

fn parse_number(field: &[u8], decimal_comma: bool) -> Option<f32> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let value: f32 = match text.parse() {
        Ok(value) => value,
        Err(_) if decimal_comma => text.replacen(',', ".", 1).parse().ok()?,
        Err(_) => return None,
    };
    value.is_finite().then_some(value)
}

/// A header is made of words; anything else in the first line is a broken file.
fn is_text(field: &[u8]) -> bool {
    std::str::from_utf8(field)
        .is_ok_and(|text| !text.trim().is_empty() && text.chars().all(|letter| !letter.is_control()))
}

fn shown(field: &[u8]) -> String {
    if field.is_empty() {
        return "an empty field".to_owned();
    }
    let start = &field[..field.len().min(16)];
    match std::str::from_utf8(start) {
        Ok(text) if !text.contains(|letter: char| letter.is_control()) => format!("\"{text}\""),
        _ => format!("\"{}\"", start.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out at most `step` bytes per read, as a pipe may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all<R: Read>(
        input: R,
        format: Format,
        column: Option<usize>,
        chunk: usize,
    ) -> (Vec<f32>, Option<String>) {
        let mut reader =
            SampleReader::new(input, format, Scaling { scale: 0.5, offset: 2.0 }, column).unwrap();
        let mut chunk = vec![0.0; chunk];
        let mut volts = Vec::new();
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return (volts, None),
                Ok(count) => volts.extend_from_slice(&chunk[..count]),
                Err(error) => return (volts, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn integers_are_scaled_and_cuts_do_not_matter() {
        let bytes: Vec<u8> = [0_i16, 2, -32768, 32767, 100].iter().flat_map(|v| v.to_le_bytes()).collect();
        let whole = all(&bytes[..], Format::S16le, None, 64);
        assert_eq!(whole, (vec![-1.0, 0.0, -16385.0, 16382.5, 49.0], None));
        for step in 1..7 {
            assert_eq!(all(Dribble(&bytes, step), Format::S16le, None, 3), whole);
        }
    }

    #[test]
    fn torn_tail_and_not_a_number_name_their_byte() {
        let mut bytes: Vec<u8> = [1.0_f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let (volts, error) = all(&bytes[..], Format::F32le, None, 8);
        assert_eq!(volts, [-0.5]);
        assert!(error.unwrap().starts_with("byte 4: NaN is no voltage"));
        bytes.truncate(7);
        let (volts, error) = all(&bytes[..], Format::F32le, None, 8);
        assert_eq!(volts, [-0.5]);
        assert_eq!(error.unwrap(), "byte 4: the input ends inside a sample (3 of 4 bytes)");
    }

    #[test]
    fn csv_takes_the_last_column_and_skips_one_header() {
        let (volts, error) = all(&b"time,volts\n0,2\n1, 4.0\n"[..], Format::Csv, None, 8);
        assert_eq!((volts, error), (vec![0.0, 1.0], None));
        let (volts, error) = all(&b"# scope\n2;230,5\n4;231\n"[..], Format::Csv, Some(1), 8);
        assert_eq!((volts, error), (vec![0.0, 1.0], None));
        let (volts, error) = all(&b"0;230,5\n"[..], Format::Csv, None, 8);
        assert_eq!((volts, error), (vec![114.25], None));
    }

    #[test]
    fn csv_errors_name_byte_and_line() {
        let (volts, error) = all(&b"volts\n2\noops\n"[..], Format::Csv, None, 8);
        assert_eq!((volts.len(), error.unwrap().as_str()), (1, "byte 8 (line 3): \"oops\" is not a number"));
        let (_, error) = all(&b"a,b\n1,2\n"[..], Format::Csv, Some(3), 8);
        assert_eq!(error.unwrap(), "byte 0 (line 1): column 3 of a line with 2 columns");
        let (_, error) = all(&b"\x7fELF\x00\x01\x02\n"[..], Format::Csv, None, 8);
        assert!(error.unwrap().starts_with("byte 0 (line 1): "));
    }

    #[test]
    fn an_endless_line_is_refused_with_constant_memory() {
        let (_, error) = all(Read::take(io::repeat(b'1'), 1 << 24), Format::Csv, None, 8);
        assert!(error.unwrap().contains("64 KiB"));
    }
}
