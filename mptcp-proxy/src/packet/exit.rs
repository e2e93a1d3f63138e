// SPDX-License-Identifier: Apache-2.0
//! The server half's end: packets of all clients into the kernel, and the answers back to whom they belong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use openwrt::netlink::Prefix;

use super::ip::Packet;
use super::pool::{Holder, Lease, Pool};
use super::tun::Tun;
use super::{increment, rules, Counters, Dropped, ADDRESS, ECHO, NOWHERE, PACKET, SERVER_DEVICE};
use crate::acl::Denied;
use crate::intercept;
use crate::socks::Target;
use crate::udp::carrier::{Carrier, Opened};
use crate::udp::frame;

/// The server half's place in the pool.
const OWN: u16 = 1;

/// The packets of all clients.
pub struct Exit {
    tun: Tun,
    pool: RefCell<Pool>,
    carriers: RefCell<BTreeMap<u16, Rc<Carrier>>>,
    /// What happened so far.
    pub counters: Counters,
}

impl Exit {
    /// Makes the device with its addresses, and the masquerading of the pool.
    pub fn open(v4: Prefix, v6: Prefix) -> io::Result<Rc<Self>> {
        let pool = Pool::new(v4, v6);
        let tun = Tun::open(SERVER_DEVICE)?;
        let [own_v4, own_v6] = pool.addresses(OWN);
        tun.add_address(Prefix { address: own_v4, length: v4.length })?;
        // A kernel without IPv6 carries no IPv6.
        let _ = tun.add_address(Prefix { address: own_v6, length: v6.length });
        intercept::nft(&rules::server_script(&pool))?;
        Ok(Rc::new(Exit {
            tun,
            pool: RefCell::new(pool),
            carriers: RefCell::default(),
            counters: Counters::default(),
        }))
    }

    /// Whether it has these prefixes.
    pub fn has(&self, v4: Prefix, v6: Prefix) -> bool {
        self.pool.borrow().prefixes() == [v4, v6]
    }

    /// Clients it carries packets of now.
    pub fn clients(&self) -> usize {
        self.carriers.borrow().len()
    }

    /// Takes the masquerading away and ends all clients' connections.
    pub fn take_down(&self) {
        self.carriers.borrow().values().for_each(|carrier| carrier.end());
        if let Err(error) = intercept::nft(&rules::clear(rules::SERVER_TABLE)) {
            log::warn!("other protocols: {error}");
        }
    }

    /// Brings answers back for ever.
    pub async fn run(self: Rc<Self>) {
        let mut each = |packet: &[u8]| {
            self.answer(packet);
            false
        };
        self.tun.read(&mut each).await;
    }

    /// A place for a client; `asked` is the target of its request: its daemon's number and the place it wishes.
    pub fn lease(&self, user: &str, asked: &Target) -> Option<Lease> {
        let Target::Name(instance, wish) = asked else { return None };
        let holder = Holder { user: user.into(), instance: instance.clone() };
        let lease = self.pool.borrow_mut().take(holder, *wish);
        if lease.is_none() {
            log::warn!("{user}: no address is left in packet_pool");
        }
        lease
    }

    /// Serves a client until its tunnel ends. `check` says which targets it may reach.
    pub async fn serve(
        &self,
        opened: Opened,
        lease: Lease,
        check: &dyn Fn(IpAddr) -> Result<(), Denied>,
    ) -> io::Result<()> {
        let Opened { carrier, receiver } = opened;
        let addresses = self.pool.borrow().addresses(lease.place);
        let mut frames = Vec::new();
        for address in addresses {
            let address = Target::Address(SocketAddr::new(address, lease.place));
            frame::append(ADDRESS, &address, &[], &mut frames);
        }
        carrier.append_frames(&frames);
        if let Some(former) = self.carriers.borrow_mut().insert(lease.place, carrier.clone()) {
            former.end();
        }
        let mut take = |frame: frame::Frame<'_>| match frame.flow {
            PACKET => self.take(frame.payload, addresses, check),
            // Without room it is lost, as packets are.
            ECHO => drop(carrier.send(ECHO, &NOWHERE, &[])),
            // Of a client that is younger than we are.
            _ => {}
        };
        let ended = carrier.run(receiver, &mut take).await;
        let mut carriers = self.carriers.borrow_mut();
        if carriers.get(&lease.place).is_some_and(|current| Rc::ptr_eq(current, &carrier)) {
            carriers.remove(&lease.place);
        }
        self.pool.borrow_mut().leave(lease);
        ended
    }

    /// A packet of a client that has these addresses.
    fn take(&self, bytes: &[u8], addresses: [IpAddr; 2], check: &dyn Fn(IpAddr) -> Result<(), Denied>) {
        let Some(packet) = Packet::read(bytes) else { return self.counters.drop(Dropped::Malformed) };
        if packet.is_tcp_or_udp() {
            return self.counters.drop(Dropped::Protocol);
        }
        if !addresses.contains(&packet.source) {
            return self.counters.drop(Dropped::Foreign);
        }
        let target = packet.destination;
        // Whatever range the pool lies in, clients do not meet in it.
        let checked =
            if self.pool.borrow().contains(target) { Err(Denied::Impossible) } else { check(target) };
        if let Err(reason) = checked {
            openwrt::log_repeated!(log::Level::Warn, "a packet to {target} refused: {reason}");
            return self.counters.drop(Dropped::Denied);
        }
        match self.tun.write(bytes) {
            Ok(()) => increment(&self.counters.received),
            Err(_) => self.counters.drop(Dropped::Device),
        }
    }

    /// A packet of the kernel.
    fn answer(&self, bytes: &[u8]) {
        let Some(packet) = Packet::read(bytes) else { return };
        // The kernel also sends greetings of its own to the device.
        let Some(place) = self.pool.borrow().place(packet.destination) else { return };
        if packet.is_tcp_or_udp() {
            return self.counters.drop(Dropped::Protocol);
        }
        match self.carriers.borrow().get(&place) {
            None => self.counters.drop(Dropped::NoTunnel),
            Some(carrier) if carrier.send(PACKET, &NOWHERE, bytes) => increment(&self.counters.sent),
            Some(_) => self.counters.drop(Dropped::Full),
        }
    }
}
