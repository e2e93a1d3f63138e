// SPDX-License-Identifier: Apache-2.0
//! Requests and their answers.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::object::{self, Address, Link, Neighbour, Object, Route, Rule};
use super::wire::{self, Builder, Message};
use super::Error;

/// The kernel answers within the system call; what takes longer than this is broken.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Times a dump is repeated because something changed while it ran.
const DUMP_ATTEMPTS: usize = 5;

/// A netlink socket for requests.
pub struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// A socket of the rtnetlink family.
    pub fn route() -> Result<Self, Error> {
        Self::open(NETLINK_ROUTE)
    }

    /// A socket for generic netlink families.
    pub fn generic() -> Result<Self, Error> {
        Self::open(NETLINK_GENERIC)
    }

    fn open(protocol: isize) -> Result<Self, Error> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(TIMEOUT))
            .map_err(io::Error::from)?;
        Ok(Connection { socket, sequence: 0, buffer: Vec::with_capacity(32 * 1024) })
    }

    /// All network devices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.dump(&Builder::new(object::LINK + 2, wire::DUMP).fixed(&[0; 16]), |object| match object {
            Object::Link(link) => Some(link),
            _ => None,
        })
    }

    /// All addresses of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        self.dump(&Builder::new(object::ADDRESS + 2, wire::DUMP).fixed(&[0; 8]), |object| match object {
            Object::Address(address) => Some(address),
            _ => None,
        })
    }

    /// All routes of both families and all tables.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        self.dump(&Builder::new(object::ROUTE + 2, wire::DUMP).fixed(&[0; 12]), |object| match object {
            Object::Route(route) => Some(route),
            _ => None,
        })
    }

    /// All neighbours of both families.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        self.dump(&Builder::new(object::NEIGHBOUR + 2, wire::DUMP).fixed(&[0; 12]), |object| match object {
            Object::Neighbour(neighbour) => Some(neighbour),
            _ => None,
        })
    }

    /// All routing rules of both families.
    pub fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        self.dump(&Builder::new(object::RULE + 2, wire::DUMP).fixed(&[0; 12]), |object| match object {
            Object::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    /// Adds a route, or replaces the one with the same destination, table and metric.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        self.order(route.request(true))
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        self.order(route.request(false))
    }

    /// Adds a rule; `EEXIST` when there is the same already.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), Error> {
        self.order(rule.request(true))
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), Error> {
        self.order(rule.request(false))
    }

    /// Adds an address; `EEXIST` when there is the same already.
    pub fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        self.order(address.request(true))
    }

    /// Removes an address.
    pub fn delete_address(&mut self, address: &Address) -> Result<(), Error> {
        self.order(address.request(false))
    }

    /// Sends a request that only wants to be acknowledged.
    pub fn order(&mut self, request: Builder) -> Result<(), Error> {
        self.exchange(request, |_| Ok(())).map(|_| ())
    }

    /// Sends a request and hands over every message of the answer until the kernel says that it was the last: the
    /// end of a dump, or the acknowledgement. The request has to carry [`wire::DUMP`] or [`wire::ACK`].
    ///
    /// Returns whether the answer is one consistent state; a dump that was disturbed by a change is not.
    pub fn exchange(
        &mut self,
        request: Builder,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.finish(self.sequence), 0)?;
        let mut consistent = true;
        loop {
            self.buffer.clear();
            // MSG_TRUNC makes the kernel tell the full length, so that a datagram is never cut silently.
            let needed = self.socket.recv(&mut self.buffer, libc_msg::PEEK | libc_msg::TRUNC)?;
            self.buffer.clear();
            self.buffer.reserve(needed);
            self.socket.recv(&mut self.buffer, 0)?;
            for message in wire::messages(&self.buffer) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & wire::DUMP_INTERRUPTED == 0;
                match message.kind {
                    wire::DONE => return Ok(consistent),
                    wire::ERROR => match message.errno()? {
                        0 => return Ok(consistent),
                        errno => return Err(Error::Refused(io::Error::from_raw_os_error(errno))),
                    },
                    _ => each(&message)?,
                }
            }
        }
    }

    fn dump<T>(&mut self, request: &Builder, pick: impl Fn(Object) -> Option<T>) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            let consistent = self.exchange(request.clone(), |message| {
                found.extend(object::parse(message)?.and_then(|change| pick(change.object)));
                Ok(())
            })?;
            if consistent {
                break;
            }
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

mod libc_msg {
    pub(super) const PEEK: i32 = 0x02;
    pub(super) const TRUNC: i32 = 0x20;
}
