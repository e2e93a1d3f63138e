// SPDX-License-Identifier: Apache-2.0
//! Netlink messages and attributes (RFC 3549 2.3), in host byte order, padded to 4 bytes.

use std::net::IpAddr;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_DUMP_INTR`: the dump was disturbed by a change and has to be repeated.
pub const DUMP_INTERRUPTED: u16 = 0x10;

/// `NLMSG_ERROR`: a refusal, or with code 0 an acknowledgement.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Bytes that are not netlink: what was being read, and why it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The errno of an [`ERROR`] message as a positive number, 0 for an acknowledgement.
    pub fn errno(&self) -> Result<i32, Malformed> {
        let code = self.payload.first_chunk().ok_or(Malformed("error message without a code"))?;
        Ok(i32::from_ne_bytes(*code).checked_neg().unwrap_or(0))
    }
}

/// The messages of one datagram, in order; ends after the first that is malformed.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = split_message(rest);
        rest = match &message {
            Ok((_, rest)) => rest,
            Err(_) => &[],
        };
        Some(message.map(|(message, _)| message))
    })
}

fn split_message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let length = u32_at(bytes, 0).ok_or(Malformed("shorter than a header"))? as usize;
    if length < HEADER || length > bytes.len() {
        return Err(Malformed("length of a message out of range"));
    }
    let message = Message {
        kind: u16_at(bytes, 4).ok_or(Malformed("shorter than a header"))?,
        flags: u16_at(bytes, 6).ok_or(Malformed("shorter than a header"))?,
        sequence: u32_at(bytes, 8).ok_or(Malformed("shorter than a header"))?,
        payload: &bytes[HEADER..length],
    };
    Ok((message, bytes.get(aligned(length)..).unwrap_or(&[])))
}

/// One attribute: its number without the flag bits, and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    pub kind: u16,
    /// The content, without padding.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The content as one byte.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.payload.first().copied().ok_or(Malformed("attribute too short for 8 bits"))
    }

    /// The content as 16 bits in host order.
    pub fn u16(&self) -> Result<u16, Malformed> {
        u16_at(self.payload, 0).ok_or(Malformed("attribute too short for 16 bits"))
    }

    /// The content as 32 bits in host order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        u32_at(self.payload, 0).ok_or(Malformed("attribute too short for 32 bits"))
    }

    /// The content as text up to the first NUL.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        let end = self.payload.iter().position(|&byte| byte == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).map_err(|_| Malformed("attribute is not text"))
    }

    /// The content as an address: 4 or 16 bytes.
    pub fn ip(&self) -> Result<IpAddr, Malformed> {
        if let Ok(v4) = <[u8; 4]>::try_from(self.payload) {
            return Ok(v4.into());
        }
        let v6 = <[u8; 16]>::try_from(self.payload).map_err(|_| Malformed("attribute is not an address"))?;
        Ok(v6.into())
    }

    /// The attributes inside this one.
    pub fn nested(&self) -> impl Iterator<Item = Result<Attribute<'a>, Malformed>> {
        attributes(self.payload)
    }
}

/// The attributes in these bytes, in order; ends after the first that is malformed.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = split_attribute(rest);
        rest = match &attribute {
            Ok((_, rest)) => rest,
            Err(_) => &[],
        };
        Some(attribute.map(|(attribute, _)| attribute))
    })
}

fn split_attribute(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let length = usize::from(u16_at(bytes, 0).ok_or(Malformed("shorter than an attribute"))?);
    let kind = u16_at(bytes, 2).ok_or(Malformed("shorter than an attribute"))? & KIND_MASK;
    if length < 4 || length > bytes.len() {
        return Err(Malformed("length of an attribute out of range"));
    }
    let attribute = Attribute { kind, payload: &bytes[4..length] };
    Ok((attribute, bytes.get(aligned(length)..).unwrap_or(&[])))
}

/// A message being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// A message of this type; [`REQUEST`] is added to the flags.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        Builder { bytes }
    }

    /// Appends the fixed part that follows the header (`ifinfomsg`, `genlmsghdr`, …), padded.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    ///
    /// # Panics
    /// If the content does not fit an attribute (64 kB); requests are made of a handful of numbers and names.
    #[must_use]
    pub fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        let length =
            u16::try_from(payload.len() + 4).unwrap_or_else(|_| unreachable!("attribute over 64 kB"));
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(payload);
        self.pad();
        self
    }

    /// Appends a 32-bit attribute.
    #[must_use]
    pub fn attribute_u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends text with its NUL.
    #[must_use]
    pub fn attribute_text(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends an address, 4 or 16 bytes.
    #[must_use]
    pub fn attribute_ip(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// Appends an attribute that holds others.
    #[must_use]
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start)
            .unwrap_or_else(|_| unreachable!("attribute over 64 kB"));
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// The finished message.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or_else(|_| unreachable!("message over 4 GB"));
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_without_end(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
            for message in messages(&bytes).flatten() {
                let _ = message.errno();
                for attribute in attributes(message.payload).flatten() {
                    let _ = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.text(), attribute.ip());
                    prop_assert!(attribute.nested().count() <= bytes.len());
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            kind: u16, flags: u16, sequence: u32, fixed in prop::collection::vec(any::<u8>(), 0..40),
            attrs in prop::collection::vec((0u16..0x3fff, prop::collection::vec(any::<u8>(), 0..80)), 0..8),
        ) {
            let mut builder = Builder::new(kind, flags).fixed(&fixed);
            for (kind, payload) in &attrs {
                builder = builder.attribute(*kind, payload);
            }
            builder = builder.nested(7, |inner| attrs.iter().fold(inner, |inner, (k, p)| inner.attribute(*k, p)));
            let first = builder.finish(sequence);
            let two = [first.clone(), first].concat();
            let read: Vec<_> = messages(&two).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!((read[1].kind, read[1].flags, read[1].sequence), (kind, flags | REQUEST, sequence));
            let read: Vec<_> = attributes(&read[1].payload[aligned(fixed.len())..]).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), attrs.len() + 1);
            let nested: Vec<_> = read[attrs.len()].nested().collect::<Result<_, _>>().unwrap();
            for (read, (kind, payload)) in read.iter().zip(&attrs).chain(nested.iter().zip(&attrs)) {
                prop_assert_eq!(read, &Attribute { kind: *kind, payload });
            }
        }
    }

    #[test]
    fn a_cut_message_is_refused() {
        let bytes = Builder::new(16, 0).attribute_u32(1, 7).finish(1);
        for cut in 1..bytes.len() {
            assert!(messages(&bytes[..cut]).any(|message| message.is_err()), "cut at {cut}");
        }
    }
}
