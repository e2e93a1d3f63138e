// SPDX-License-Identifier: Apache-2.0
//! ICMP echo (RFC 792, RFC 4443 4.1). Pure.

use crate::verdict::Family;

/// What came back on a raw ICMP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The echo of our request.
    Echo,
    /// A router says that our request cannot get there.
    Unreachable,
}

const TOKEN: usize = 8;

/// An echo request; the token (beside identifier and sequence number) tells its echo from others'.
#[must_use]
pub fn request(family: Family, identifier: u16, sequence: u16, token: [u8; TOKEN]) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(token);
    if family == Family::V4 {
        // ICMPv6's covers a pseudo header and is the kernel's work (RFC 3542, 3.1).
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Reads what a raw socket received: IPv4 with its IP header, IPv6 without. `None` for what is not about `request`.
#[must_use]
pub fn reply(family: Family, request: &[u8], packet: &[u8]) -> Option<Reply> {
    let message = match family {
        Family::V4 => payload_v4(packet)?,
        Family::V6 => packet,
    };
    let ours = request.get(4..)?;
    let kind = *message.first()?;
    match (family, kind) {
        (Family::V4, 0) | (Family::V6, 129) => {
            message.get(4..).is_some_and(|rest| rest.starts_with(ours)).then_some(Reply::Echo)
        }
        (Family::V4, 3 | 11) => about_us(payload_v4(message.get(8..)?)?, ours),
        (Family::V6, 1 | 3) => about_us(message.get(8 + 40..)?, ours),
        _ => None,
    }
}

/// Routers quote at least the first 8 bytes of what they could not deliver: identifier and sequence number.
fn about_us(quoted: &[u8], ours: &[u8]) -> Option<Reply> {
    (quoted.get(4..8)? == ours.get(..4)?).then_some(Reply::Unreachable)
}

fn payload_v4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop leaves 16 bits.
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn echo_v4(request: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45; 20];
        packet.extend(request);
        packet[20] = 0;
        packet
    }

    #[test]
    fn the_checksum_verifies() {
        let request = request(Family::V4, 0x1234, 7, *b"dynaping");
        assert_eq!(checksum(&request), 0);
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2,
            "the example of RFC 1071"
        );
    }

    #[test]
    fn only_our_echo_counts() {
        let ours = request(Family::V4, 1, 2, *b"dynaping");
        assert_eq!(reply(Family::V4, &ours, &echo_v4(&ours)), Some(Reply::Echo));
        let theirs = request(Family::V4, 1, 2, *b"somebody");
        assert_eq!(reply(Family::V4, &ours, &echo_v4(&theirs)), None);
        let six = request(Family::V6, 1, 2, *b"dynaping");
        let mut echo = six.clone();
        echo[0] = 129;
        assert_eq!(reply(Family::V6, &six, &echo), Some(Reply::Echo));
        assert_eq!(reply(Family::V6, &six, &six), None, "our own request on loopback");
    }

    #[test]
    fn a_router_that_gives_up_is_heard() {
        let ours = request(Family::V4, 1, 2, *b"dynaping");
        let mut packet = vec![0x45; 20];
        packet.extend([3, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend([0x45; 20]);
        packet.extend(&ours[..8]);
        assert_eq!(reply(Family::V4, &ours, &packet), Some(Reply::Unreachable));
        packet[28 + 20 + 5] ^= 1;
        assert_eq!(reply(Family::V4, &ours, &packet), None);
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(packet in prop::collection::vec(any::<u8>(), 0..120), six in any::<bool>()) {
            let family = if six { Family::V6 } else { Family::V4 };
            let _ = reply(family, &request(family, 1, 2, *b"dynaping"), &packet);
        }
    }
}
