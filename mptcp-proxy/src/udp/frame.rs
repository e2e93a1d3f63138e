// SPDX-License-Identifier: Apache-2.0
//! Datagrams on a stream: `length (16 bits, of what follows) | flow (32) | address (as in SOCKS5) | payload`.
//!
//! The flow is a number the client half gives to each socket of the LAN; the address is the target on the way out and
//! the sender on the way back (RFC 1928 7, with a length in place of the packet boundary).

use crate::socks::{self, Target};

/// Bytes of one frame at most.
pub const MAX_FRAME: usize = 2 + u16::MAX as usize;

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which socket of the LAN.
    pub flow: u32,
    /// Where to, or where from.
    pub address: Target,
    /// What.
    pub payload: &'a [u8],
}

/// The stream does not hold frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl From<Malformed> for std::io::Error {
    fn from(_: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "a frame does not hold a datagram")
    }
}

/// Appends a datagram; false, and nothing appended, if it is longer than any datagram of IP.
pub fn append(flow: u32, address: &Target, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend([0; 2]);
    out.extend(flow.to_be_bytes());
    socks::write_target(address, out);
    out.extend(payload);
    let Ok(length) = u16::try_from(out.len() - start - 2) else {
        out.truncate(start);
        return false;
    };
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    true
}

/// The first frame and the bytes it takes; `None` while it is incomplete.
pub fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    let Some(content) = rest.get(..length) else { return Ok(None) };
    let (flow, content) = content.split_first_chunk().ok_or(Malformed)?;
    let (address, used) = socks::read_target(content).map_err(|_| Malformed)?;
    let frame = Frame { flow: u32::from_be_bytes(*flow), address, payload: &content[used..] };
    Ok(Some((frame, 2 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    proptest! {
        #[test]
        fn frames_are_read_back_whatever_the_cut(
            sent in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 1..6),
            cut: usize,
        ) {
            let mut stream = Vec::new();
            for (flow, ip, port, payload) in &sent {
                let address = Target::Address(SocketAddr::new(std::net::Ipv4Addr::from_bits(*ip).into(), *port));
                prop_assert!(append(*flow, &address, payload, &mut stream));
            }
            let cut = cut % (stream.len() + 1);
            let (mut at, mut found) = (0, Vec::new());
            for end in [cut, stream.len()] {
                while let Some((frame, used)) = read(&stream[at..end]).unwrap() {
                    found.push((frame.flow, frame.payload.to_vec()));
                    at += used;
                }
            }
            prop_assert_eq!(at, stream.len());
            prop_assert_eq!(found, sent.into_iter().map(|(flow, _, _, payload)| (flow, payload)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_frame_that_is_too_short_for_its_parts_is_refused() {
        assert_eq!(read(&[0, 3, 1, 2, 3]), Err(Malformed));
        assert_eq!(read(&[0, 5, 1, 2, 3, 4, 9]), Err(Malformed));
        assert_eq!(read(&[0]), Ok(None));
        let mut out = Vec::new();
        let address = Target::Name("x".repeat(255).into(), 1);
        assert!(!append(1, &address, &[0; 65_507], &mut out) && out.is_empty());
    }
}
