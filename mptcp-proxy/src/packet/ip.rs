// SPDX-License-Identifier: Apache-2.0
//! What has to be known of an IP packet to let it pass. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// IPv6 extension headers that are followed to what they carry (RFC 8200 4); none of a sane packet has more.
const MAX_EXTENSIONS: usize = 8;

/// The head of a packet whose lengths agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// What it carries: an IANA protocol number, behind all extension headers.
    pub protocol: u8,
}

impl Packet {
    /// Reads a packet; `None` where these bytes are not exactly one packet of IPv4 (RFC 791 3.1) or IPv6 (RFC 8200 3).
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => read_v4(bytes),
            6 => read_v6(bytes),
            _ => None,
        }
    }

    /// Whether the tunnel has a better way for it.
    pub fn is_tcp_or_udp(&self) -> bool {
        matches!(self.protocol, TCP | UDP)
    }
}

fn read_v4(bytes: &[u8]) -> Option<Packet> {
    let fixed: &[u8; 20] = bytes.first_chunk()?;
    let header = usize::from(fixed[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header < fixed.len() || header > total || total != bytes.len() {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]).into();
    Some(Packet { source: address(12), destination: address(16), protocol: fixed[9] })
}

fn read_v6(bytes: &[u8]) -> Option<Packet> {
    let fixed: &[u8; 40] = bytes.first_chunk()?;
    if fixed.len() + usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) != bytes.len() {
        return None;
    }
    let address = |at: usize| {
        let octets: Option<&[u8; 16]> = fixed[at..].first_chunk();
        octets.map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)))
    };
    let (source, destination) = (address(8)?, address(24)?);
    let (mut protocol, mut rest) = (fixed[6], &bytes[fixed.len()..]);
    for _ in 0..MAX_EXTENSIONS {
        const FRAGMENT: u8 = 44;
        let length = match protocol {
            // Hop by hop, routing, destination options, mobility, HIP, shim6: in units of 8 bytes behind the first 8.
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*rest.get(1)?) + 1) * 8,
            FRAGMENT => 8,
            _ => return Some(Packet { source, destination, protocol }),
        };
        // A later fragment holds no more headers, but names what it is a part of.
        let later = protocol == FRAGMENT && u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 != 0;
        protocol = *rest.first()?;
        rest = rest.get(length..)?;
        if later {
            return Some(Packet { source, destination, protocol });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 1, 0, 2, 198, 51, 100, 2]);
        packet.extend(payload);
        packet
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
        packet.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    #[test]
    fn the_head_of_a_packet_is_read() {
        let packet = Packet::read(&v4(132, b"sctp")).unwrap();
        assert_eq!(
            packet,
            Packet {
                source: "10.1.0.2".parse().unwrap(),
                destination: "198.51.100.2".parse().unwrap(),
                protocol: 132
            }
        );
        assert!(!packet.is_tcp_or_udp());
        let packet = Packet::read(&v6(58, b"icmp")).unwrap();
        assert_eq!((packet.source, packet.protocol), ("2001:db8::1".parse().unwrap(), 58));
        assert_eq!(packet.destination, "2001:db8::2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn tcp_and_udp_do_not_hide_behind_extension_headers() {
        for (protocol, hidden) in [(6, true), (17, true), (58, false), (59, false)] {
            let options = [protocol, 0, 1, 4, 0, 0, 0, 0];
            let fragment = [60, 0, 0, 1, 0, 0, 0, 9];
            let later = [protocol, 0, 0, 9, 0, 0, 0, 9, 0xff, 0xff];
            let mut first = fragment.to_vec();
            first.extend(options);
            for packet in [v6(0, &options), v6(44, &first), v6(44, &later), v6(protocol, &[])] {
                let packet = Packet::read(&packet).unwrap();
                assert_eq!((packet.protocol, packet.is_tcp_or_udp()), (protocol, hidden));
            }
        }
        // Headers without an end, or beyond the packet.
        assert_eq!(Packet::read(&v6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(9))), None);
        assert_eq!(Packet::read(&v6(0, &[6, 1, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(Packet::read(&v6(44, &[6, 0])), None);
    }

    #[test]
    fn lengths_have_to_agree() {
        let good = v4(1, b"ping");
        for wrong in [&good[..23], &[good.clone(), vec![0]].concat(), &good[..19], &[]] {
            assert_eq!(Packet::read(wrong), None);
        }
        let mut long_header = good.clone();
        long_header[0] = 0x47;
        assert_eq!(Packet::read(&long_header), None);
        long_header[0] = 0x44;
        assert_eq!(Packet::read(&long_header), None);
        long_header[0] = 0x55;
        assert_eq!(Packet::read(&long_header), None);
        assert_eq!(Packet::read(&v6(58, b"ping")[..43]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 4u8..7) {
            let _ = Packet::read(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | 5;
                let _ = Packet::read(&bytes);
            }
        }
    }
}
