// SPDX-License-Identifier: Apache-2.0
//! SOCKS5 (RFC 1928): requests, replies and the addresses inside them, as pure functions on bytes.
//!
//! The tunnel carries a request without the method negotiation of RFC 1928 3, because the connection is already
//! authenticated below it; the local listener of `mode 'socks'` speaks the whole protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const VERSION: u8 = 5;
/// Our own command.
const PACKETS: u8 = 0x80;
/// The longest request or reply: a name of 255 bytes.
pub const MAX_MESSAGE: usize = 4 + 1 + 255 + 2;

/// A destination: an address, or a name that the far end resolves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Address and port.
    Address(SocketAddr),
    /// Name (1 to 255 bytes of visible ASCII) and port.
    Name(Box<str>, u16),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// RFC 1928 4: what the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A TCP connection.
    Connect,
    /// Datagrams, framed on the same stream.
    UdpAssociate,
    /// IP packets, framed on the same stream (ours, not of the RFC).
    Packets,
}

/// RFC 1928 6: how the request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Connected.
    Succeeded = 0,
    /// Any other failure.
    GeneralFailure = 1,
    /// The target list does not allow it.
    NotAllowed = 2,
    /// No route to the network.
    NetworkUnreachable = 3,
    /// The host did not answer, or its name is unknown.
    HostUnreachable = 4,
    /// The target refused.
    Refused = 5,
    /// No answer in time.
    TimedOut = 6,
    /// The command is not served.
    CommandNotSupported = 7,
    /// The address type is not served.
    AddressNotSupported = 8,
}

impl Reply {
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Reply::Succeeded,
            2 => Reply::NotAllowed,
            3 => Reply::NetworkUnreachable,
            4 => Reply::HostUnreachable,
            5 => Reply::Refused,
            6 => Reply::TimedOut,
            7 => Reply::CommandNotSupported,
            8 => Reply::AddressNotSupported,
            _ => Reply::GeneralFailure,
        }
    }

    /// The reply that tells of this error of `connect`.
    pub fn from_error(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Reply::Refused,
            ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Reply::NetworkUnreachable,
            ErrorKind::HostUnreachable => Reply::HostUnreachable,
            ErrorKind::TimedOut => Reply::TimedOut,
            ErrorKind::PermissionDenied => Reply::NotAllowed,
            ErrorKind::AddrNotAvailable | ErrorKind::Unsupported => Reply::AddressNotSupported,
            _ => Reply::GeneralFailure,
        }
    }
}

/// Why bytes are not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// More bytes are needed.
    Incomplete,
    /// No more bytes can mend it; the reply names the reason to the peer.
    Invalid(Reply),
}

/// RFC 1928 3: the methods a client offers. Returns whether "no authentication" is among them and the bytes used.
pub fn read_greeting(bytes: &[u8]) -> Result<(bool, usize), Error> {
    let [version, count, rest @ ..] = bytes else { return Err(Error::Incomplete) };
    if *version != VERSION {
        return Err(Error::Invalid(Reply::GeneralFailure));
    }
    let count = usize::from(*count);
    let methods = rest.get(..count).ok_or(Error::Incomplete)?;
    Ok((methods.contains(&0), 2 + count))
}

/// RFC 1928 4: a request. Returns the bytes used as well.
pub fn read_request(bytes: &[u8]) -> Result<(Command, Target, usize), Error> {
    let [version, command, _reserved, rest @ ..] = bytes else { return Err(Error::Incomplete) };
    if *version != VERSION {
        return Err(Error::Invalid(Reply::GeneralFailure));
    }
    let command = match *command {
        1 => Command::Connect,
        3 => Command::UdpAssociate,
        PACKETS => Command::Packets,
        _ => return Err(Error::Invalid(Reply::CommandNotSupported)),
    };
    let (target, used) = read_target(rest)?;
    Ok((command, target, 3 + used))
}

/// Appends a request.
pub fn write_request(command: Command, target: &Target, out: &mut Vec<u8>) {
    let command = match command {
        Command::Connect => 1,
        Command::UdpAssociate => 3,
        Command::Packets => PACKETS,
    };
    out.extend([VERSION, command, 0]);
    write_target(target, out);
}

/// RFC 1928 6: a reply. Returns the bytes used as well.
pub fn read_reply(bytes: &[u8]) -> Result<(Reply, Target, usize), Error> {
    let [version, reply, _reserved, rest @ ..] = bytes else { return Err(Error::Incomplete) };
    if *version != VERSION {
        return Err(Error::Invalid(Reply::GeneralFailure));
    }
    let (bound, used) = read_target(rest)?;
    Ok((Reply::from_byte(*reply), bound, 3 + used))
}

/// Appends a reply with the address the far end is bound to.
pub fn write_reply(reply: Reply, bound: SocketAddr, out: &mut Vec<u8>) {
    out.extend([VERSION, reply as u8, 0]);
    write_target(&Target::Address(bound), out);
}

/// RFC 1928 5: type, address, port. Returns the bytes used as well. IPv4-mapped addresses become IPv4, so that a
/// target list cannot be walked around by writing the same address differently.
pub fn read_target(bytes: &[u8]) -> Result<(Target, usize), Error> {
    let (&kind, rest) = bytes.split_first().ok_or(Error::Incomplete)?;
    match kind {
        1 => {
            let address: [u8; 4] = *rest.first_chunk().ok_or(Error::Incomplete)?;
            let port = port_at(rest, 4)?;
            Ok((Target::Address(SocketAddr::new(Ipv4Addr::from(address).into(), port)), 7))
        }
        4 => {
            let address: [u8; 16] = *rest.first_chunk().ok_or(Error::Incomplete)?;
            let port = port_at(rest, 16)?;
            let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
            Ok((Target::Address(SocketAddr::new(address, port)), 19))
        }
        3 => {
            let (&length, rest) = rest.split_first().ok_or(Error::Incomplete)?;
            let length = usize::from(length);
            let name = rest.get(..length).ok_or(Error::Incomplete)?;
            let port = port_at(rest, length)?;
            Ok((named(name, port)?, 1 + 1 + length + 2))
        }
        _ => Err(Error::Invalid(Reply::AddressNotSupported)),
    }
}

/// Appends type, address and port.
pub fn write_target(target: &Target, out: &mut Vec<u8>) {
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            out.push(1);
            out.extend(address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            out.push(4);
            out.extend(address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            let name = &name.as_bytes()[..name.len().min(255)];
            out.push(3);
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend(name);
            *port
        }
    };
    out.extend(port.to_be_bytes());
}

/// A name that is an address in text becomes one, so that it meets the same target list.
fn named(name: &[u8], port: u16) -> Result<Target, Error> {
    let invalid = Error::Invalid(Reply::AddressNotSupported);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return Err(invalid);
    }
    let name = std::str::from_utf8(name).map_err(|_| invalid)?;
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(Target::Address(SocketAddr::new(address.to_canonical(), port))),
        Err(_) => Ok(Target::Name(name.into(), port)),
    }
}

fn port_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(Error::Incomplete)?;
    Ok(u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target() -> impl Strategy<Value = Target> {
        prop_oneof![
            (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| Target::Address(SocketAddr::new(
                Ipv4Addr::from_bits(ip).into(),
                port
            ))),
            (any::<u128>(), any::<u16>()).prop_map(|(ip, port)| {
                Target::Address(SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(ip)).to_canonical(), port))
            }),
            ("[a-z][a-z0-9.-]{0,253}", any::<u16>()).prop_map(|(name, port)| Target::Name(name.into(), port)),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read_greeting(&bytes), read_request(&bytes), read_reply(&bytes), read_target(&bytes));
        }

        #[test]
        fn a_request_is_read_back_and_every_prefix_is_incomplete(target in target(), kind in 0usize..3, more: Vec<u8>) {
            let command = [Command::Connect, Command::UdpAssociate, Command::Packets][kind];
            let mut bytes = Vec::new();
            write_request(command, &target, &mut bytes);
            let length = bytes.len();
            prop_assert!(length <= MAX_MESSAGE);
            for cut in 0..length {
                prop_assert_eq!(read_request(&bytes[..cut]), Err(Error::Incomplete));
            }
            bytes.extend(more);
            prop_assert_eq!(read_request(&bytes), Ok((command, target, length)));
        }

        #[test]
        fn a_reply_is_read_back(code in 0u8..=8, port: u16) {
            let (reply, bound) = (Reply::from_byte(code), SocketAddr::from(([192, 0, 2, 1], port)));
            let mut bytes = Vec::new();
            write_reply(reply, bound, &mut bytes);
            prop_assert_eq!(read_reply(&bytes), Ok((reply, Target::Address(bound), bytes.len())));
            prop_assert_eq!(reply as u8, code);
        }
    }

    #[test]
    fn an_address_in_disguise_is_the_address() {
        let mapped = [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80];
        let plain = Target::Address("127.0.0.1:80".parse().unwrap());
        assert_eq!(read_target(&mapped), Ok((plain.clone(), 19)));
        assert_eq!(read_target(b"\x03\x09127.0.0.1\x00\x50"), Ok((plain, 13)));
        assert_eq!(read_target(b"\x03\x03a b\x00\x50"), Err(Error::Invalid(Reply::AddressNotSupported)));
    }
}
