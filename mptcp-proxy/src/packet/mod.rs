// SPDX-License-Identifier: Apache-2.0
//! Packets of the LAN that are neither TCP nor UDP (`other_protocols`): ICMP, SCTP, GRE, ESP, ….
//!
//! The client half takes them out of its kernel by a TUN device, [`CLIENT_DEVICE`], the server half puts them into its
//! own by another, [`SERVER_DEVICE`], and the other way round. Between the halves they travel as frames on a tunnel
//! connection of their own ([`crate::udp::carrier`]): sealed as everything else, bounded, and dropped where there is no
//! room. That connection is opened when there is something to send and closed after `udp_timeout`.
//!
//! The server half gives every client a place in its pool, one IPv4 and one IPv6 address. The client's kernel
//! translates the LAN's addresses to these, in a conntrack zone of their own, so that flows beside the tunnel and flows
//! through it never share a translation and clients with equal LANs do not meet; the server's kernel masquerades the
//! pool. So answers, and ICMP errors of any router on the way, find their way back by the kernels' own means.

pub mod entry;
pub mod exit;
pub mod ip;
pub mod pool;
pub mod rules;
pub mod tun;

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::socks::Target;

/// The device of the client half.
pub const CLIENT_DEVICE: &str = "mptcp0";
/// The device of the server half.
pub const SERVER_DEVICE: &str = "mptcp1";

/// A frame of this flow is a packet.
const PACKET: u32 = 0;
/// A frame of this flow tells the client an address of its place; the port is the number of the place.
const ADDRESS: u32 = 1;
/// A frame of this flow is sent back as it is: the client asks whether the server is still there.
const ECHO: u32 = 2;
/// Packets bear their addresses themselves.
const NOWHERE: Target = Target::Address(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)));

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The tunnel has no room.
    Full,
    /// There is no tunnel.
    NoTunnel,
    /// The server's list of targets does not allow it.
    Denied,
    /// It bears an address that is not the client's.
    Foreign,
    /// TCP or UDP, which have better ways.
    Protocol,
    /// Not an IP packet.
    Malformed,
    /// The kernel did not take it.
    Device,
}

/// The names of the reasons, in their order.
pub const REASONS: [&str; 7] = ["full", "no_tunnel", "denied", "foreign", "protocol", "malformed", "device"];

/// What happened so far, of one half.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets that went into the tunnel.
    pub sent: Cell<u64>,
    /// Packets that came out of the tunnel.
    pub received: Cell<u64>,
    dropped: [Cell<u64>; REASONS.len()],
}

impl Counters {
    fn drop(&self, reason: Dropped) {
        increment(&self.dropped[reason as usize]);
    }

    /// Packets that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS.into_iter().zip(self.dropped.iter().map(Cell::get))
    }
}

fn increment(counter: &Cell<u64>) {
    counter.set(counter.get().wrapping_add(1));
}
