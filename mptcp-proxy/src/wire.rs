// SPDX-License-Identifier: Apache-2.0
//! What the first records of a connection hold.
//!
//! ```text
//! client → server   request (16) | SOCKS5 request | source address (as in SOCKS5)
//! server → client   1: accepted, nobody else has claimed this request  |  0: superseded
//! server → client   SOCKS5 reply, once the target has answered
//! ```
//!
//! The number of the request is random. A client that hears nothing sends the same request over another path; the
//! server serves the first that arrives and turns the others away, so that no connection is ever opened twice.

use std::net::SocketAddr;

use crate::socks::{self, Command, Target};

/// The server serves the request.
pub const ACCEPTED: u8 = 1;
/// The server serves the same request on another connection.
pub const SUPERSEDED: u8 = 0;
/// Length of a request's number.
pub const NUMBER: usize = 16;

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Random.
    pub number: [u8; NUMBER],
    /// What to do.
    pub command: Command,
    /// Where.
    pub target: Target,
    /// For whom.
    pub source: SocketAddr,
}

impl Request {
    /// The content of the first record.
    pub fn write(&self) -> Vec<u8> {
        let mut out = self.number.to_vec();
        socks::write_request(self.command, &self.target, &mut out);
        socks::write_target(&Target::Address(self.source), &mut out);
        out
    }

    /// Reads the content of the first record.
    pub fn read(bytes: &[u8]) -> Result<Self, socks::Error> {
        let (number, rest) = bytes.split_first_chunk().ok_or(socks::Error::Incomplete)?;
        let (command, target, used) = socks::read_request(rest)?;
        let (source, _) = socks::read_target(&rest[used..])?;
        let Target::Address(source) = source else {
            return Err(socks::Error::Invalid(socks::Reply::AddressNotSupported));
        };
        Ok(Request { number: *number, command, target, source })
    }
}

/// The header of PROXY protocol version 2 for a TCP connection from `source` to `target`.
pub fn proxy_header(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const VERSION_2_PROXY: u8 = 0x21;
    let mut out = SIGNATURE.to_vec();
    out.push(VERSION_2_PROXY);
    match (source, target) {
        (SocketAddr::V4(source), SocketAddr::V4(target)) => {
            out.extend([0x11, 0, 12]);
            out.extend(source.ip().octets());
            out.extend(target.ip().octets());
        }
        (source, target) => {
            out.extend([0x21, 0, 36]);
            for address in [source.ip(), target.ip()] {
                match address {
                    std::net::IpAddr::V4(v4) => out.extend(v4.to_ipv6_mapped().octets()),
                    std::net::IpAddr::V6(v6) => out.extend(v6.octets()),
                }
            }
        }
    }
    out.extend(source.port().to_be_bytes());
    out.extend(target.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..320)) {
            let _ = Request::read(&bytes);
        }

        #[test]
        fn a_request_is_read_back(number: [u8; 16], name in "[a-z.]{1,60}", port: u16, source: u32) {
            let request = Request {
                number,
                command: Command::Connect,
                target: Target::Name(name.into(), port),
                source: SocketAddr::from((std::net::Ipv4Addr::from_bits(source), port)),
            };
            let bytes = request.write();
            prop_assert_eq!(Request::read(&bytes), Ok(request));
            prop_assert!(Request::read(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn the_proxy_header_is_the_one_of_the_specification() {
        let header = proxy_header("192.0.2.1:258".parse().unwrap(), "198.51.100.2:80".parse().unwrap());
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(&header[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 0, 80]);
        let mixed = proxy_header("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
        assert_eq!((mixed.len(), mixed[15]), (16 + 36, 36));
    }
}
