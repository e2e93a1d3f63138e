// SPDX-License-Identifier: Apache-2.0
//! Packets by hand: raw sockets, ICMP, SCTP.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::Netns;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::PATIENCE;

/// ICMPv6, whose checksums the kernel makes.
const ICMP_V6: i32 = 58;

/// A raw socket of one protocol.
pub struct Raw {
    socket: Socket,
    ipv6: bool,
}

impl Raw {
    /// A socket that waits so long for a packet.
    pub fn open(namespace: &Netns, protocol: i32, patience: Duration) -> Self {
        let ipv6 = protocol == ICMP_V6;
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket =
            namespace.enter(|| Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))).unwrap());
        socket.set_read_timeout(Some(patience)).unwrap();
        Raw { socket, ipv6 }
    }

    /// Sends from this address.
    pub fn bind(&self, address: &str) {
        self.socket.bind(&SocketAddr::new(address.parse().unwrap(), 0).into()).unwrap();
    }

    /// Packets pass this many routers.
    pub fn set_ttl(&self, ttl: u32) {
        if self.ipv6 {
            self.socket.set_unicast_hops_v6(ttl).unwrap();
        } else {
            self.socket.set_ttl_v4(ttl).unwrap();
        }
    }

    /// Sends one packet.
    pub fn send(&self, target: &str, payload: &[u8]) {
        self.socket.send_to(payload, &SocketAddr::new(target.parse().unwrap(), 0).into()).unwrap();
    }

    /// The same, unless the kernel has no room.
    pub fn try_send(&self, target: &str, payload: &[u8]) {
        let _ = self.socket.send_to(payload, &SocketAddr::new(target.parse().unwrap(), 0).into());
    }

    /// The next packet, without its IPv4 header.
    pub fn receive(&self) -> Option<(IpAddr, Vec<u8>)> {
        let mut bytes = vec![0; 65_536];
        let (length, _, from) =
            rustix::net::recvfrom(&self.socket, &mut bytes[..], rustix::net::RecvFlags::empty()).ok()?;
        bytes.truncate(length);
        let header = if self.ipv6 { 0 } else { usize::from(bytes[0] & 15) * 4 };
        let from = SocketAddr::try_from(from?).ok()?;
        Some((from.ip(), bytes[header..].to_vec()))
    }

    /// The first packet in which `find` finds something, if one comes in time.
    pub fn wait_maybe<T>(&self, find: impl Fn(IpAddr, &[u8]) -> Option<T>) -> Option<(IpAddr, T)> {
        let begun = Instant::now();
        let patience = self.socket.read_timeout().unwrap().unwrap_or(PATIENCE);
        while begun.elapsed() < patience {
            let (from, packet) = self.receive()?;
            if let Some(found) = find(from, &packet) {
                return Some((from, found));
            }
        }
        None
    }

    /// The same, which must come.
    pub fn wait<T>(&self, find: impl Fn(IpAddr, &[u8]) -> Option<T>) -> (IpAddr, T) {
        self.wait_maybe(find).expect("no such packet came")
    }

    /// Sends until an answer comes: a packet may be lost while a tunnel is being opened or a server found to be gone.
    pub fn ask<T>(&self, target: &str, question: &[u8], find: impl Fn(IpAddr, &[u8]) -> Option<T>) -> T {
        let begun = Instant::now();
        self.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let found = loop {
            self.try_send(target, question);
            match self.wait_maybe(&find) {
                Some((_, found)) => break found,
                None => assert!(begun.elapsed() < PATIENCE, "no answer from {target}"),
            }
        };
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        found
    }
}

/// The protocol of echo requests to this address.
pub fn icmp(target: &str) -> i32 {
    if target.contains(':') {
        ICMP_V6
    } else {
        1
    }
}

/// RFC 792, RFC 4443 4.1.
pub fn echo_request(target: &str, id: u16, number: u16, payload: &[u8]) -> Vec<u8> {
    let kind = if icmp(target) == ICMP_V6 { 128 } else { 8 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(number.to_be_bytes());
    message.extend(payload);
    if kind == 8 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The payload, if this is the reply to that request.
pub fn echo_reply(message: &[u8], id: u16, number: u16) -> Option<Vec<u8>> {
    let (head, payload) = message.split_at_checked(8)?;
    let fits =
        matches!(head[0], 0 | 129) && head[4..6] == id.to_be_bytes() && head[6..8] == number.to_be_bytes();
    fits.then(|| payload.to_vec())
}

/// Whether this tells that the time of this message was over. Translated back, the quotation is what was sent.
pub fn is_time_exceeded(message: &[u8], sent: &[u8]) -> bool {
    let (v4, v6) = (message.first() == Some(&11), message.first() == Some(&3));
    let header = if v4 { 20 } else { 40 };
    (v4 || v6) && message.get(8 + header + 4..8 + header + 8) == Some(&sent[4..8])
}

/// An SCTP packet from port 3868 to itself with one INIT (1) or INIT ACK (2) chunk (RFC 9260 3): conntrack takes no
/// other for the beginning, and looks at the checksum.
pub fn sctp(kind: u8, tag: u32, own_tag: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(3868u16.to_be_bytes());
    packet.extend(3868u16.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, 0, 0, 20]);
    packet.extend(own_tag.to_be_bytes());
    packet.extend(65_536u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1u32.to_be_bytes());
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// An IPv4 packet.
pub fn ipv4(source: &str, target: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    for address in [source, target] {
        packet.extend(address.parse::<std::net::Ipv4Addr>().unwrap().octets());
    }
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
