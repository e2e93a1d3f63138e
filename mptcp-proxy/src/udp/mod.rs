// SPDX-License-Identifier: Apache-2.0
//! Datagrams of the LAN through the tunnel.
//!
//! They travel as frames on a few tunnel connections (lanes) of their own: DNS on one, everything else spread over the
//! others by flow. So they get the tunnel's keys, its paths and its failover, and a path that dies loses none of them.
//! The price is order: a datagram that is lost on a path is sent again, and those behind it in its lane wait for it.
//! Telephony, games, DNS and time are well served; bulk transfers that bring a congestion control of their own (QUIC)
//! do better by TCP or past the proxy (`bypass_port`).

pub mod carrier;
pub mod dns;
pub mod entry;
pub mod exit;
pub mod frame;
pub mod resolver;
pub mod serve;
pub mod transparent;

use std::cell::RefCell;

/// The longest datagram fits.
const BUFFER: usize = 64 * 1024;

/// Lends the thread's buffer, which must not be asked for again before it is given back.
fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SHARED.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER, 0);
        use_it(buffer)
    })
}
