// SPDX-License-Identifier: Apache-2.0
//! The double's own reading and writing of ubus messages, shared with nothing, and strict where ubusd is lenient.

use serde_json::{Map, Value};

pub(super) const HELLO: u8 = 0;
pub(super) const STATUS: u8 = 1;
pub(super) const DATA: u8 = 2;
pub(super) const PING: u8 = 3;
pub(super) const LOOKUP: u8 = 4;
pub(super) const INVOKE: u8 = 5;
pub(super) const ADD_OBJECT: u8 = 6;
pub(super) const REMOVE_OBJECT: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const UNSUBSCRIBE: u8 = 9;
pub(super) const NOTIFY: u8 = 10;

/// Message attributes as they go over the wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attr {
    Status(u32),
    Path(String),
    Object(u32),
    Method(String),
    ObjectType(u32),
    Signature(Value),
    Data(Value),
    Target(u32),
    Active(bool),
    NoReply(bool),
    User(String),
    Group(String),
}

/// A message of either direction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) seq: u16,
    pub(super) peer: u32,
    pub(super) attrs: Vec<Attr>,
}

macro_rules! getter {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(super) fn $name(&self) -> Option<$type> {
            self.attrs.iter().find_map(|attr| match attr {
                Attr::$variant(value) => Some(value.clone()),
                _ => None,
            })
        }
    };
}

impl Message {
    getter!(path, Path, String);
    getter!(object, Object, u32);
    getter!(method, Method, String);
    getter!(signature, Signature, Value);
    getter!(data, Data, Value);
    getter!(target, Target, u32);
    getter!(status, Status, u32);
    getter!(no_reply, NoReply, bool);

    /// `head` is the 8-byte header and the 4-byte root attribute; `body` what follows it.
    pub(super) fn decode(head: &[u8; 12], body: &[u8]) -> Result<Self, String> {
        if head[0] != 0 {
            return Err(format!("version {}", head[0]));
        }
        if head[8] & 0x80 != 0 {
            return Err("the root attribute has a name".into());
        }
        let attrs = split(body)?
            .into_iter()
            .map(|(tag, payload)| attr(tag, payload).map_err(|why| format!("attribute {tag:#x}: {why}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            kind: head[1],
            seq: u16::from(head[2]) << 8 | u16::from(head[3]),
            peer: number(&head[4..8])?,
            attrs,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> = self.attrs.iter().flat_map(encode_attr).collect();
        let mut bytes = vec![0, self.kind, (self.seq >> 8) as u8, self.seq as u8];
        bytes.extend(self.peer.to_be_bytes());
        bytes.extend(((body.len() + 4) as u32).to_be_bytes());
        bytes.extend(body);
        bytes
    }
}

/// Cuts attributes apart and insists on whole lengths and zeroed padding.
fn split(mut bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, String> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        if bytes.len() < 4 {
            return Err(format!("{} stray bytes", bytes.len()));
        }
        let length = number(&[0, bytes[1], bytes[2], bytes[3]])? as usize;
        let whole = length.div_ceil(4) * 4;
        if length < 4 || whole > bytes.len() {
            return Err(format!("length {length} of {}", bytes.len()));
        }
        if bytes[length..whole].iter().any(|pad| *pad != 0) {
            return Err("padding is not zero".into());
        }
        parts.push((bytes[0], &bytes[4..length]));
        bytes = &bytes[whole..];
    }
    Ok(parts)
}

fn attr(tag: u8, payload: &[u8]) -> Result<Attr, String> {
    Ok(match tag {
        1 => Attr::Status(number(payload)?),
        2 => Attr::Path(string(payload)?),
        3 => Attr::Object(number(payload)?),
        4 => Attr::Method(string(payload)?),
        5 => Attr::ObjectType(number(payload)?),
        6 => Attr::Signature(table(payload)?),
        7 => Attr::Data(table(payload)?),
        8 => Attr::Target(number(payload)?),
        9 => Attr::Active(flag(payload)?),
        10 => Attr::NoReply(flag(payload)?),
        12 => Attr::User(string(payload)?),
        13 => Attr::Group(string(payload)?),
        _ => return Err("not one that a client sends".into()),
    })
}

fn number(payload: &[u8]) -> Result<u32, String> {
    match payload {
        [a, b, c, d] => Ok(u32::from(*a) << 24 | u32::from(*b) << 16 | u32::from(*c) << 8 | u32::from(*d)),
        _ => Err(format!("{} bytes for an int32", payload.len())),
    }
}

fn flag(payload: &[u8]) -> Result<bool, String> {
    match payload {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(format!("{payload:?} for a flag")),
    }
}

fn string(payload: &[u8]) -> Result<String, String> {
    let Some((0, text)) = payload.split_last() else { return Err("string without NUL".into()) };
    if text.contains(&0) {
        return Err("string with a NUL inside".into());
    }
    String::from_utf8(text.to_vec()).map_err(|_| "not UTF-8".into())
}

fn table(payload: &[u8]) -> Result<Value, String> {
    let mut map = Map::new();
    for (tag, payload) in split(payload)? {
        let (name, value) = member(tag, payload)?;
        if name.is_empty() {
            return Err("a table member without a name".into());
        }
        if map.insert(name.clone(), value).is_some() {
            return Err(format!("{name} comes twice"));
        }
    }
    Ok(Value::Object(map))
}

fn member(tag: u8, payload: &[u8]) -> Result<(String, Value), String> {
    if tag & 0x80 == 0 {
        return Err("blobmsg attribute without a name header".into());
    }
    let [high, low, rest @ ..] = payload else { return Err("no name length".into()) };
    let length = usize::from(*high) << 8 | usize::from(*low);
    let start = (length + 3).div_ceil(4) * 4;
    if payload.len() < start || rest[length] != 0 || payload[2 + length..start].iter().any(|pad| *pad != 0) {
        return Err("name is not ended and padded with zeroes".into());
    }
    let name = string(&rest[..=length])?;
    let value = typed(tag & 0x7f, &payload[start..]).map_err(|why| format!("{name}: {why}"))?;
    Ok((name, value))
}

fn typed(kind: u8, data: &[u8]) -> Result<Value, String> {
    let wide = || <[u8; 8]>::try_from(data).map_err(|_| format!("{} bytes for 64 bits", data.len()));
    Ok(match kind {
        0 if data.is_empty() => Value::Null,
        1 => Value::Array(
            split(data)?
                .into_iter()
                .map(|(tag, payload)| member(tag, payload).map(|(_, value)| value))
                .collect::<Result<_, _>>()?,
        ),
        2 => table(data)?,
        3 => Value::String(string(data)?),
        4 => i64::from_be_bytes(wide()?).into(),
        5 => (number(data)? as i32).into(),
        7 => Value::Bool(flag(data)?),
        8 => f64::from_be_bytes(wide()?).into(),
        _ => return Err(format!("{} bytes of type {kind}", data.len())),
    })
}

fn encode_attr(attr: &Attr) -> Vec<u8> {
    match attr {
        Attr::Status(n) => block(1, &n.to_be_bytes()),
        Attr::Path(text) => block(2, &ended(text)),
        Attr::Object(n) => block(3, &n.to_be_bytes()),
        Attr::Method(text) => block(4, &ended(text)),
        Attr::ObjectType(n) => block(5, &n.to_be_bytes()),
        Attr::Signature(table) => block(6, &members(table)),
        Attr::Data(table) => block(7, &members(table)),
        Attr::Target(n) => block(8, &n.to_be_bytes()),
        Attr::Active(flag) => block(9, &[u8::from(*flag)]),
        Attr::NoReply(flag) => block(10, &[u8::from(*flag)]),
        Attr::User(text) => block(12, &ended(text)),
        Attr::Group(text) => block(13, &ended(text)),
    }
}

fn block(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 4) as u32;
    let mut bytes = (u32::from(tag) << 24 | length).to_be_bytes().to_vec();
    bytes.extend(payload);
    bytes.resize(bytes.len().div_ceil(4) * 4, 0);
    bytes
}

fn ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn members(table: &Value) -> Vec<u8> {
    let table = table.as_object().expect("ubus data is a JSON object");
    table.iter().flat_map(|(name, value)| encode_member(name, value)).collect()
}

fn encode_member(name: &str, value: &Value) -> Vec<u8> {
    let (tag, data) = match value {
        Value::Null => (0, vec![]),
        Value::Array(values) => (1, values.iter().flat_map(|value| encode_member("", value)).collect()),
        Value::Object(_) => (2, members(value)),
        Value::String(text) => (3, ended(text)),
        Value::Bool(flag) => (7, vec![u8::from(*flag)]),
        Value::Number(number) => match number.as_i64() {
            Some(n) if n == i64::from(n as i32) => (5, (n as i32).to_be_bytes().to_vec()),
            Some(n) => (4, n.to_be_bytes().to_vec()),
            None => (8, number.as_f64().expect("a number").to_be_bytes().to_vec()),
        },
    };
    let mut payload = (name.len() as u16).to_be_bytes().to_vec();
    payload.extend(ended(name));
    payload.resize(payload.len().div_ceil(4) * 4, 0);
    payload.extend(data);
    block(0x80 | tag, &payload)
}
