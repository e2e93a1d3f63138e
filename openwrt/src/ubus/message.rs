// SPDX-License-Identifier: Apache-2.0
//! Messages of the ubus socket: framing, kinds and attributes (ubus `ubusmsg.h`); no I/O.
//!
//! A message is an 8-byte header (version 0, kind, big-endian `u16` sequence number, big-endian `u32` peer) and one blob
//! attribute that holds the message's attributes.

use super::blob::{attributes, decode_table, kind, Malformed, Writer, MAX_LENGTH};
use super::{Error, Status};
use serde_json::{Map, Value};

const HEADER: usize = 8;
const ROOT: usize = 4;

/// What a message is for (`enum ubus_msg_type`), as far as a client sends or receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 0,
    Status = 1,
    Data = 2,
    Lookup = 4,
    Invoke = 5,
    AddObject = 6,
    RemoveObject = 7,
    Subscribe = 8,
    Unsubscribe = 9,
    Notify = 10,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Self> {
        use Kind::*;
        [Hello, Status, Data, Lookup, Invoke, AddObject, RemoveObject, Subscribe, Unsubscribe, Notify]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The ids of a message's attributes (`enum ubus_msg_attr`).
mod attr {
    pub(super) const STATUS: u8 = 1;
    pub(super) const PATH: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const METHOD: u8 = 4;
    pub(super) const SIGNATURE: u8 = 6;
    pub(super) const DATA: u8 = 7;
    pub(super) const TARGET: u8 = 8;
    pub(super) const ACTIVE: u8 = 9;
    pub(super) const NO_REPLY: u8 = 10;
    pub(super) const USER: u8 = 12;
    pub(super) const GROUP: u8 = 13;
}

/// A message as it came; the attributes are read on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// `None`: a kind that no client needs to know.
    pub(crate) kind: Option<Kind>,
    pub(crate) seq: u16,
    pub(crate) peer: u32,
    body: Vec<u8>,
}

/// The attributes of a [`Message`]; one that is absent or of the wrong form is `None`, as in libubus and ubusd.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) status: Option<Status>,
    pub(crate) path: Option<String>,
    pub(crate) object: Option<u32>,
    pub(crate) method: Option<String>,
    pub(crate) signature: Option<&'a [u8]>,
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) target: Option<u32>,
    pub(crate) active: Option<bool>,
    pub(crate) no_reply: bool,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
}

impl Message {
    pub(crate) fn fields(&self) -> Fields<'_> {
        let mut fields = Fields::default();
        for attribute in attributes(&self.body).map_while(Result::ok) {
            match attribute.id {
                attr::STATUS => fields.status = attribute.int32().map(Status::from_wire),
                attr::PATH => fields.path = attribute.string(),
                attr::OBJECT => fields.object = attribute.int32(),
                attr::METHOD => fields.method = attribute.string(),
                attr::SIGNATURE => fields.signature = Some(attribute.payload),
                attr::DATA => fields.data = Some(attribute.payload),
                attr::TARGET => fields.target = attribute.int32(),
                attr::ACTIVE => fields.active = attribute.int8().map(|byte| byte != 0),
                attr::NO_REPLY => fields.no_reply = attribute.int8().is_some_and(|byte| byte != 0),
                attr::USER => fields.user = attribute.string(),
                attr::GROUP => fields.group = attribute.string(),
                _ => {}
            }
        }
        fields
    }

    /// Bytes of the attributes.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }
}

/// Cuts a byte stream into messages; holds at most one incomplete message.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

/// Why a byte stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// Not version 0.
    Version(u8),
    /// Shorter than its own length field or longer than [`MAX_LENGTH`].
    Length(usize),
}

impl Decoder {
    /// Takes what was read; call [`Decoder::next`] until it has no more before feeding again.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() {
            // A long message must not hold its memory for ever.
            self.bytes.shrink_to(4096);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, FrameFault> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some((head, after)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [version, kind, s0, s1, p0, p1, p2, p3] = *head;
        if version != 0 {
            return Err(FrameFault::Version(version));
        }
        let Some((root, after)) = after.split_first_chunk::<ROOT>() else { return Ok(None) };
        let length = (u32::from_be_bytes(*root) & 0x00ff_ffff) as usize;
        if !(ROOT..=MAX_LENGTH).contains(&length) {
            return Err(FrameFault::Length(length));
        }
        let Some(body) = after.get(..length - ROOT) else { return Ok(None) };
        let message = Message {
            kind: Kind::from_wire(kind),
            seq: u16::from_be_bytes([s0, s1]),
            peer: u32::from_be_bytes([p0, p1, p2, p3]),
            body: body.to_vec(),
        };
        self.start += HEADER + length;
        Ok(Some(message))
    }
}

/// A message to be sent, without its sequence number.
#[derive(Debug)]
pub(crate) struct Draft {
    kind: Kind,
    peer: u32,
    body: Writer,
}

impl Draft {
    /// Offers an object; without `path` it is anonymous, good for receiving events and notifications only.
    pub(crate) fn add_object(path: Option<&str>, signature: &[u8]) -> Self {
        let mut draft = Self::new(Kind::AddObject, 0);
        if let Some(path) = path {
            draft.body.put_string(attr::PATH, path);
            draft.body.put(attr::SIGNATURE, signature);
        }
        draft
    }

    pub(crate) fn remove_object(id: u32) -> Self {
        Self::new(Kind::RemoveObject, 0).int32(attr::OBJECT, id)
    }

    /// Asks for an object, or with a trailing `*` for all that begin so.
    pub(crate) fn lookup(pattern: &str) -> Self {
        let mut draft = Self::new(Kind::Lookup, 0);
        draft.body.put_string(attr::PATH, pattern);
        draft
    }

    pub(crate) fn invoke(object: u32, method: &str, data: &[u8]) -> Self {
        let mut draft = Self::new(Kind::Invoke, object).int32(attr::OBJECT, object);
        draft.body.put_string(attr::METHOD, method);
        draft.body.put(attr::DATA, data);
        draft
    }

    /// Tells the subscribers of `object`, which are not asked for an answer.
    pub(crate) fn notify(object: u32, kind: &str, data: &[u8]) -> Self {
        let mut draft = Self::new(Kind::Notify, object).int32(attr::OBJECT, object);
        draft.body.put_string(attr::METHOD, kind);
        draft.body.put(attr::DATA, data);
        draft.body.put(attr::NO_REPLY, &[1]);
        draft
    }

    pub(crate) fn subscribe(subscriber: u32, target: u32) -> Self {
        Self::new(Kind::Subscribe, 0).int32(attr::OBJECT, subscriber).int32(attr::TARGET, target)
    }

    /// The data of an answer to `caller`, sent before its [`Draft::status`].
    pub(crate) fn data(caller: u32, object: u32, data: &[u8]) -> Self {
        let mut draft = Self::new(Kind::Data, caller).int32(attr::OBJECT, object);
        draft.body.put(attr::DATA, data);
        draft
    }

    /// The end of an answer to `caller`.
    pub(crate) fn status(caller: u32, object: u32, status: Status) -> Self {
        Self::new(Kind::Status, caller).int32(attr::STATUS, status.to_wire()).int32(attr::OBJECT, object)
    }

    /// The peer that the answer will name.
    pub(crate) fn peer(&self) -> u32 {
        self.peer
    }

    /// The message as it goes to the socket.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(crate) fn encode(self, seq: u16) -> Result<Vec<u8>, Error> {
        let body = self.body.into_bytes();
        let length = body.len() + ROOT;
        if length > MAX_LENGTH {
            return Err(Error::TooLarge);
        }
        let mut bytes = Vec::with_capacity(HEADER + length);
        bytes.extend_from_slice(&[0, self.kind as u8]);
        bytes.extend_from_slice(&seq.to_be_bytes());
        bytes.extend_from_slice(&self.peer.to_be_bytes());
        bytes.extend_from_slice(&(length as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    fn new(kind: Kind, peer: u32) -> Self {
        Self { kind, peer, body: Writer::default() }
    }

    fn int32(mut self, id: u8, value: u32) -> Self {
        self.body.put_int32(id, value);
        self
    }
}

/// The payload of a data attribute: an object as it is, null as nothing, anything else as `{"result": …}`, because ubus
/// knows only tables here.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::TooDeep`].
pub(crate) fn encode_data(value: &Value) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::default();
    match value {
        Value::Null => {}
        Value::Object(table) => writer.put_table(table)?,
        other => writer.put_table(&Map::from_iter([("result".to_owned(), other.clone())]))?,
    }
    Ok(writer.into_bytes())
}

/// The payload of a data attribute as a JSON object.
pub(crate) fn decode_data(bytes: &[u8]) -> Result<Value, Malformed> {
    decode_table(bytes).map(Value::Object)
}

/// A signature attribute: one table per method, name of the argument → its blobmsg type.
pub(crate) fn encode_signature<'a>(
    methods: impl Iterator<Item = (&'a str, &'a [(String, super::ArgType)])>,
) -> Vec<u8> {
    let mut writer = Writer::default();
    for (name, args) in methods {
        let start = writer.open_named(kind::TABLE, name);
        for (arg, arg_type) in args {
            let start = writer.open_named(kind::INT32, arg);
            writer.put_raw(&u32::from(arg_type.to_wire()).to_be_bytes());
            writer.close(start);
        }
        writer.close(start);
    }
    writer.into_bytes()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
