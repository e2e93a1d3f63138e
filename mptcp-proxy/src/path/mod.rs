// SPDX-License-Identifier: Apache-2.0
//! The ways to the servers.

use std::cell::RefCell;
use std::net::IpAddr;

/// The ways to the servers, as the opening of connections needs them.
#[derive(Debug, Default)]
pub struct Paths {
    all: RefCell<Vec<IpAddr>>,
}

impl Paths {
    /// The best address to bind a connection to `remote` to, not among `tried` if there is another; `None` where no
    /// path is configured.
    pub fn choose(&self, remote: IpAddr, tried: &[IpAddr]) -> Option<IpAddr> {
        let all = self.all.borrow();
        let mut fitting = all.iter().filter(|address| address.is_ipv4() == remote.is_ipv4());
        fitting.clone().find(|address| !tried.contains(address)).or_else(|| fitting.next()).copied()
    }

    /// Notes whether a connection from this address came to speak MPTCP.
    pub fn note_mptcp(&self, _bound: Option<IpAddr>, _mptcp: bool) {}
}
