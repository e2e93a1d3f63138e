// SPDX-License-Identifier: Apache-2.0
//! The attribute format of ubus and its JSON form; no I/O, and no panic on any bytes.
//!
//! A *blob attribute* is a big-endian `u32` (bit 31: carries a name; bits 30–24: id; bits 23–0: length with these four
//! bytes) and its payload, padded with zeroes to a multiple of four (libubox `blob.h`). A *blobmsg attribute* has the
//! type as id and, before the payload, a big-endian `u16` name length, the name, a NUL and padding (`blobmsg.h`).
//!
//! | JSON | blobmsg |
//! |---|---|
//! | object, array | table, array |
//! | string (up to its first NUL, as any C reader sees it) | string |
//! | true, false | int8 |
//! | integer | int32, else int64, else (above `i64::MAX`) double |
//! | other number | double |
//! | null | unspec |
//!
//! In the other direction int8 is a boolean, int16 an integer, a double that is not finite null, a string that is not
//! UTF-8 is repaired with U+FFFD, and of equal names in a table the first counts.

use super::Error;
use serde_json::{Map, Number, Value};

/// Longest message that a peer or ubusd accepts, in bytes without the 8-byte header (`UBUS_MAX_MSGLEN`).
pub(crate) const MAX_LENGTH: usize = 1 << 20;
/// Deepest nesting of tables and arrays that is read or written.
pub(crate) const MAX_DEPTH: usize = 32;

const NAMED: u32 = 1 << 31;
const LENGTH_MASK: u32 = 0x00ff_ffff;
const HEADER: usize = 4;

/// The types of blobmsg attributes (`enum blobmsg_type`).
pub(crate) mod kind {
    pub(crate) const NULL: u8 = 0;
    pub(crate) const ARRAY: u8 = 1;
    pub(crate) const TABLE: u8 = 2;
    pub(crate) const STRING: u8 = 3;
    pub(crate) const INT64: u8 = 4;
    pub(crate) const INT32: u8 = 5;
    pub(crate) const INT16: u8 = 6;
    pub(crate) const INT8: u8 = 7;
    pub(crate) const DOUBLE: u8 = 8;
}

/// Bytes that are no attribute, or a nesting deeper than [`MAX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One attribute where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) id: u8,
    pub(crate) named: bool,
    pub(crate) payload: &'a [u8],
}

/// Walks the attributes of `bytes`; ends after the first that is malformed.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, _) = rest.split_first_chunk::<HEADER>()?;
        let word = u32::from_be_bytes(*head);
        let length = (word & LENGTH_MASK) as usize;
        let Some(payload) = rest.get(HEADER..length) else {
            rest = &[];
            return Some(Err(Malformed));
        };
        rest = rest.get(padded(length)..).unwrap_or_default();
        let id = (word >> 24) as u8 & 0x7f;
        Some(Ok(Attribute { id, named: word & NAMED != 0, payload }))
    })
}

impl Attribute<'_> {
    pub(crate) fn int32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    pub(crate) fn int8(&self) -> Option<u8> {
        let [byte] = self.payload else { return None };
        Some(*byte)
    }

    pub(crate) fn string(&self) -> Option<String> {
        text(self.payload)
    }
}

/// Reads the named attributes of `bytes` as a JSON object.
pub(crate) fn decode_table(bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    table(bytes, 0)
}

fn table(bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Malformed> {
    let mut map = Map::new();
    for attribute in attributes(bytes) {
        let (name, value) = named_value(attribute?, depth)?;
        map.entry(name).or_insert(value);
    }
    Ok(map)
}

fn named_value(attribute: Attribute<'_>, depth: usize) -> Result<(String, Value), Malformed> {
    let (name, payload) = match attribute.named {
        true => split_name(attribute.payload)?,
        false => (&[][..], attribute.payload),
    };
    Ok((String::from_utf8_lossy(name).into_owned(), value(attribute.id, payload, depth)?))
}

fn split_name(payload: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = payload.split_first_chunk::<2>().ok_or(Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if rest.get(length) != Some(&0) {
        return Err(Malformed);
    }
    let data = payload.get(padded(2 + length + 1)..).ok_or(Malformed)?;
    Ok((&rest[..length], data))
}

fn value(id: u8, payload: &[u8], depth: usize) -> Result<Value, Malformed> {
    if depth >= MAX_DEPTH && matches!(id, kind::ARRAY | kind::TABLE) {
        return Err(Malformed);
    }
    Ok(match id {
        kind::NULL => Value::Null,
        kind::ARRAY => attributes(payload)
            .map(|a| named_value(a?, depth + 1).map(|(_, value)| value))
            .collect::<Result<_, _>>()
            .map(Value::Array)?,
        kind::TABLE => Value::Object(table(payload, depth + 1)?),
        kind::STRING => Value::String(text(payload).ok_or(Malformed)?),
        kind::INT64 => i64::from_be_bytes(fixed(payload)?).into(),
        kind::INT32 => i32::from_be_bytes(fixed(payload)?).into(),
        kind::INT16 => i16::from_be_bytes(fixed(payload)?).into(),
        kind::INT8 => Value::Bool(fixed::<1>(payload)? != [0]),
        kind::DOUBLE => {
            let bits = u64::from_be_bytes(fixed(payload)?);
            Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
        }
        _ => return Err(Malformed),
    })
}

fn fixed<const N: usize>(payload: &[u8]) -> Result<[u8; N], Malformed> {
    payload.try_into().map_err(|_| Malformed)
}

fn text(payload: &[u8]) -> Option<String> {
    if payload.last() != Some(&0) {
        return None;
    }
    Some(String::from_utf8_lossy(until_nul(payload)).into_owned())
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

const fn padded(length: usize) -> usize {
    (length + 3) & !3
}

/// Builds attributes one after another.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An attribute without a name.
    pub(crate) fn put(&mut self, id: u8, payload: &[u8]) {
        let start = self.open(id);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    pub(crate) fn put_int32(&mut self, id: u8, value: u32) {
        self.put(id, &value.to_be_bytes());
    }

    /// A string attribute, cut at its first NUL.
    pub(crate) fn put_string(&mut self, id: u8, text: &str) {
        let start = self.open(id);
        self.bytes.extend_from_slice(until_nul(text.as_bytes()));
        self.bytes.push(0);
        self.close(start);
    }

    /// Starts an attribute that holds what is written until [`Writer::close`] gets the returned mark.
    pub(crate) fn open(&mut self, id: u8) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&(u32::from(id) << 24).to_be_bytes());
        start
    }

    /// Starts an attribute with a name, cut at its first NUL and 65 535 bytes.
    pub(crate) fn open_named(&mut self, id: u8, name: &str) -> usize {
        let name = until_nul(name.as_bytes());
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&(NAMED | u32::from(id) << 24).to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(&name[..usize::from(length)]);
        self.bytes.push(0);
        self.pad();
        start
    }

    /// Ends the attribute that was opened at `start`: sets its length and pads it.
    pub(crate) fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u32 & LENGTH_MASK;
        if let Some(word) = self.bytes.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<HEADER>()) {
            *word = (u32::from_be_bytes(*word) | length).to_be_bytes();
        }
        self.pad();
    }

    /// The members of `table` as named attributes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooDeep`].
    pub(crate) fn put_table(&mut self, table: &Map<String, Value>) -> Result<(), Error> {
        self.members(table, 0)
    }

    fn members(&mut self, table: &Map<String, Value>, depth: usize) -> Result<(), Error> {
        table.iter().try_for_each(|(name, value)| self.put_value(name, value, depth))
    }

    fn put_value(&mut self, name: &str, value: &Value, depth: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH && (value.is_array() || value.is_object()) {
            return Err(Error::TooDeep);
        }
        match value {
            Value::Null => self.put_named(kind::NULL, name, &[]),
            Value::Bool(flag) => self.put_named(kind::INT8, name, &[u8::from(*flag)]),
            Value::Number(number) => self.put_number(name, number),
            Value::String(text) => {
                let start = self.open_named(kind::STRING, name);
                self.bytes.extend_from_slice(until_nul(text.as_bytes()));
                self.bytes.push(0);
                self.close(start);
            }
            Value::Array(values) => {
                let start = self.open_named(kind::ARRAY, name);
                values.iter().try_for_each(|value| self.put_value("", value, depth + 1))?;
                self.close(start);
            }
            Value::Object(table) => {
                let start = self.open_named(kind::TABLE, name);
                self.members(table, depth + 1)?;
                self.close(start);
            }
        }
        // Checked after every value, so that the buffer never grows far beyond the limit.
        if self.bytes.len() > MAX_LENGTH {
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    fn put_number(&mut self, name: &str, number: &Number) {
        let Some(integer) = number.as_i64() else {
            let float = number.as_f64().unwrap_or(f64::NAN);
            return self.put_named(kind::DOUBLE, name, &float.to_bits().to_be_bytes());
        };
        match i32::try_from(integer) {
            Ok(small) => self.put_named(kind::INT32, name, &small.to_be_bytes()),
            Err(_) => self.put_named(kind::INT64, name, &integer.to_be_bytes()),
        }
    }

    fn put_named(&mut self, id: u8, name: &str, payload: &[u8]) {
        let start = self.open_named(id, name);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    pub(crate) fn put_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(padded(self.bytes.len()), 0);
    }
}

#[cfg(test)]
#[path = "blob_tests.rs"]
mod tests;
