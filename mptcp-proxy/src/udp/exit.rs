// SPDX-License-Identifier: Apache-2.0
//! Where datagrams leave towards their targets: a socket per flow, as a NAT has a mapping per flow.
//!
//! The mapping is endpoint-independent and its filter address-dependent (RFC 4787 4.1 and 5): one LAN socket keeps one
//! port whatever it talks to, and hears only from addresses it has sent to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use openwrt::task::spawn;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::with_buffer;
use crate::net;

/// Addresses one flow hears from; the oldest is forgotten.
const MAX_PEERS: usize = 32;
/// Datagrams one flow may hand over before the others get their turn.
const TURNS: usize = 32;

/// Told of every datagram that comes back: flow, sender, payload.
pub type Deliver = Box<dyn Fn(u32, SocketAddr, &[u8])>;

/// The sockets of some flows, all gone when it is dropped.
pub struct Exit {
    flows: RefCell<HashMap<(u32, bool), Flow>>,
    max_flows: usize,
    idle: Cell<Duration>,
    deliver: Deliver,
}

struct Flow {
    mapping: Rc<Mapping>,
    task: JoinHandle<()>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Mapping {
    socket: UdpSocket,
    peers: RefCell<Vec<IpAddr>>,
    used: Cell<Instant>,
}

impl Exit {
    /// At most so many flows (the one unused for longest makes room), each until it was unused for `idle`.
    pub fn new(max_flows: usize, idle: Duration, deliver: Deliver) -> Rc<Self> {
        Rc::new(Exit { flows: RefCell::default(), max_flows, idle: Cell::new(idle), deliver })
    }

    /// Another time until an unused flow is forgotten.
    pub fn set_idle(&self, idle: Duration) {
        self.idle.set(idle);
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.borrow().is_empty()
    }

    /// Sends a datagram; a full queue loses it, as any path may.
    pub fn send(self: &Rc<Self>, flow: u32, target: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let key = (flow, target.is_ipv6());
        let known = self.flows.borrow().get(&key).map(|flow| flow.mapping.clone());
        let mapping = match known {
            Some(mapping) => mapping,
            None => self.open(key)?,
        };
        mapping.used.set(Instant::now());
        let mut peers = mapping.peers.borrow_mut();
        if !peers.contains(&target.ip()) {
            if peers.len() == MAX_PEERS {
                peers.remove(0);
            }
            peers.push(target.ip());
        }
        // Past the runtime, which does not know yet that a new socket is ready.
        match SockRef::from(&mapping.socket).send_to(payload, &target.into()) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn open(self: &Rc<Self>, key: (u32, bool)) -> io::Result<Rc<Mapping>> {
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= self.max_flows {
            let oldest = flows.iter().min_by_key(|(_, flow)| flow.mapping.used.get()).map(|(key, _)| *key);
            oldest.map(|oldest| flows.remove(&oldest));
        }
        let socket = UdpSocket::from_std(net::udp_socket(net::any(key.1, 0))?.into())?;
        let now = Instant::now();
        let mapping = Rc::new(Mapping { socket, peers: RefCell::default(), used: Cell::new(now) });
        let task = spawn(serve(Rc::downgrade(self), key, mapping.clone()));
        flows.insert(key, Flow { mapping: mapping.clone(), task });
        Ok(mapping)
    }
}

async fn serve(exit: Weak<Exit>, key: (u32, bool), mapping: Rc<Mapping>) {
    loop {
        let Some(idle) = exit.upgrade().map(|exit| exit.idle.get()) else { return };
        let end = tokio::time::Instant::from_std(mapping.used.get() + idle);
        let ready = tokio::time::timeout_at(end, mapping.socket.readable()).await;
        let Some(exit) = exit.upgrade() else { return };
        match ready {
            Ok(Ok(())) => mapping.receive(key, &exit.deliver),
            Err(_) if mapping.used.get().elapsed() < idle => {}
            Ok(Err(_)) | Err(_) => {
                exit.flows.borrow_mut().remove(&key);
                return;
            }
        }
    }
}

impl Mapping {
    fn receive(&self, key: (u32, bool), deliver: &Deliver) {
        with_buffer(|buffer| {
            for _ in 0..TURNS {
                let Ok((length, from)) = self.socket.try_recv_from(buffer) else { return };
                if !self.peers.borrow().contains(&from.ip()) {
                    continue;
                }
                self.used.set(Instant::now());
                deliver(key.0, from, &buffer[..length]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl std::future::Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    type Heard = Rc<RefCell<Vec<(u32, SocketAddr, Vec<u8>)>>>;

    fn exit(max: usize, idle: Duration) -> (Rc<Exit>, Heard) {
        let heard = Heard::default();
        let told = heard.clone();
        let deliver: Deliver = Box::new(move |flow, from, payload| {
            told.borrow_mut().push((flow, from, payload.to_vec()));
        });
        (Exit::new(max, idle, deliver), heard)
    }

    #[test]
    fn a_flow_keeps_its_port_and_hears_only_whom_it_has_spoken_to() {
        run(async {
            let (exit, heard) = exit(8, Duration::from_secs(60));
            let (one, two) = (
                UdpSocket::bind("127.0.0.2:0").await.unwrap(),
                UdpSocket::bind("127.0.0.3:0").await.unwrap(),
            );
            let stranger = UdpSocket::bind("127.0.0.4:0").await.unwrap();
            let mut buffer = [0; 16];
            exit.send(7, one.local_addr().unwrap(), b"one").unwrap();
            let (_, port) = one.recv_from(&mut buffer).await.unwrap();
            exit.send(7, two.local_addr().unwrap(), b"two").unwrap();
            assert_eq!(two.recv_from(&mut buffer).await.unwrap(), (3, port));
            stranger.send_to(b"hey", port).await.unwrap();
            two.send_to(b"answer", port).await.unwrap();
            while heard.borrow().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(*heard.borrow(), [(7, two.local_addr().unwrap(), b"answer".to_vec())]);
        });
    }

    #[test]
    fn flows_end_when_unused_or_too_many() {
        run(async {
            let (exit, _) = exit(3, Duration::from_millis(50));
            let target = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            for flow in 0..5 {
                exit.send(flow, target, b"x").unwrap();
                assert!(exit.len() <= 3);
            }
            while !exit.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}
