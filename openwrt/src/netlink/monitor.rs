// SPDX-License-Identifier: Apache-2.0
//! The stream of changes.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use super::object::{self, Change};
use super::wire;
use super::Error;

/// Room the kernel gets for changes we have not read yet.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// One datagram of the kernel; larger ones (a link with hundreds of virtual functions) count as an overrun.
const DATAGRAM: usize = 32 * 1024;

/// What to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Topics {
    /// Links.
    pub links: bool,
    /// Addresses of both families.
    pub addresses: bool,
    /// Routes of both families.
    pub routes: bool,
    /// Neighbours of both families.
    pub neighbours: bool,
    /// Rules of both families.
    pub rules: bool,
}

impl Topics {
    /// Everything but neighbours, whose changes are many.
    pub const NETWORK: Topics =
        Topics { links: true, addresses: true, routes: true, neighbours: false, rules: true };

    /// `RTNLGRP_*`.
    fn groups(self) -> impl Iterator<Item = u32> {
        let chosen = [
            (self.links, &[1][..]),
            (self.neighbours, &[3]),
            (self.addresses, &[5, 9]),
            (self.routes, &[7, 11]),
            (self.rules, &[8, 19]),
        ];
        chosen.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, groups)| groups.iter().copied())
    }
}

/// What a [`Monitor`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One object changed.
    Change(Change),
    /// The kernel dropped changes because they were not read fast enough: dump everything again.
    Overrun,
}

/// Changes of links, addresses, routes, neighbours and rules, as they happen.
///
/// Start the monitor before dumping: then no change is lost between the two.
pub struct Monitor {
    socket: AsyncFd<Socket>,
    pending: VecDeque<Event>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes; needs a tokio runtime with I/O.
    pub fn new(topics: Topics) -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // A smaller buffer is no failure: an overrun is reported and repaired by a dump.
        let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER);
        for group in topics.groups() {
            socket.add_membership(group)?;
        }
        // Its successor `register` is unsafe for types that may swap their descriptor; `Socket` owns one for life.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(Monitor { socket, pending: VecDeque::new(), buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// The next change. Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let mut ready = self.socket.readable().await?;
            self.buffer.clear();
            let buffer = &mut self.buffer;
            let received = ready.try_io(|socket| socket.get_ref().recv(buffer, MSG_TRUNC));
            match received {
                Err(_not_ready) => {}
                Ok(Ok(length)) if length > DATAGRAM => self.pending.push_back(Event::Overrun),
                Ok(Ok(_)) => self.read_datagram(),
                Ok(Err(error)) if error.raw_os_error() == Some(ENOBUFS) => {
                    self.pending.push_back(Event::Overrun);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn read_datagram(&mut self) {
        for message in wire::messages(&self.buffer) {
            match message.and_then(|message| object::parse(&message)) {
                Ok(Some(change)) => self.pending.push_back(Event::Change(change)),
                Ok(None) => {}
                Err(error) => {
                    log::warn!("netlink: {error}");
                    self.pending.push_back(Event::Overrun);
                }
            }
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

const MSG_TRUNC: i32 = 0x20;
const ENOBUFS: i32 = 105;
