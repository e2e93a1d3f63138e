// SPDX-License-Identifier: Apache-2.0
//! The ways to the servers: which there are, which of them carry packets, which to use.
//!
//! [`health`] decides from probes, [`manager`] keeps the kernel in line (endpoints, limits, source routing) and sends
//! the probes, [`pm`] speaks to the kernel's path manager. [`Paths`] is what the rest of the daemon asks.

pub mod blocked;
pub mod health;
pub mod manager;
pub mod pm;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::config::{PathConfig, Role};
use crate::sys::Subflow;
use blocked::Blocked;
use health::{Health, Settings, State};

/// A way to the servers.
pub struct Path {
    /// Its configuration.
    pub config: PathConfig,
    /// What probes say.
    pub health: RefCell<Health>,
    /// Its device, once there is one.
    pub device: RefCell<Option<String>>,
    /// Its addresses: IPv4, IPv6.
    pub addresses: Cell<[Option<IpAddr>; 2]>,
    /// The device is up and has a carrier.
    pub link: Cell<bool>,
    /// Switched off by the operator, until switched on again.
    pub off: Cell<bool>,
    /// Whether its last connection that tells came to speak MPTCP.
    pub mptcp: Cell<Option<bool>>,
    /// Whether something on the way drops MPTCP.
    blocked: Cell<Blocked>,
    /// Bytes of connections that have ended: received, sent.
    bytes: Cell<(u64, u64)>,
    /// Its prober has to look again.
    changed: Notify,
}

/// Why a path is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Used.
    Up,
    /// Used, nothing is known against it.
    Unproven,
    /// Its probes are not answered.
    Silent,
    /// Its device has no carrier.
    LinkDown,
    /// Its device has no address.
    NoAddress,
    /// There is no such device.
    NoDevice,
    /// Switched off by the operator.
    SwitchedOff,
    /// `role 'off'`.
    RoleOff,
}

impl Standing {
    /// `up`, `unknown` or `down`.
    pub fn state(self) -> &'static str {
        match self {
            Standing::Up => "up",
            Standing::Unproven => "unknown",
            _ => "down",
        }
    }

    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Standing::Up => "probes are answered",
            Standing::Unproven => "no probe was answered yet",
            Standing::Silent => "probes are not answered",
            Standing::LinkDown => "the device has no carrier",
            Standing::NoAddress => "the device has no usable address",
            Standing::NoDevice => "there is no such device",
            Standing::SwitchedOff => "switched off by the operator",
            Standing::RoleOff => "its role is off",
        }
    }

    /// Whether connections may begin on it.
    pub fn is_usable(self) -> bool {
        matches!(self, Standing::Up | Standing::Unproven)
    }
}

impl Path {
    fn new(config: PathConfig) -> Rc<Self> {
        let settings = Settings {
            interval: config.probe_interval,
            idle_interval: config.idle_probe_interval,
            down_after: config.down_after,
            up_after: config.up_after,
        };
        Rc::new(Path {
            config,
            health: RefCell::new(Health::new(settings, Instant::now())),
            device: RefCell::default(),
            addresses: Cell::default(),
            link: Cell::new(false),
            off: Cell::new(false),
            mptcp: Cell::new(None),
            blocked: Cell::default(),
            bytes: Cell::default(),
            changed: Notify::new(),
        })
    }

    /// Why it is as it is.
    pub fn standing(&self) -> Standing {
        if self.config.role == Role::Off {
            return Standing::RoleOff;
        }
        if self.off.get() {
            return Standing::SwitchedOff;
        }
        if self.device.borrow().is_none() {
            return Standing::NoDevice;
        }
        if !self.link.get() {
            return Standing::LinkDown;
        }
        if self.addresses.get() == [None, None] {
            return Standing::NoAddress;
        }
        match self.health.borrow().state() {
            State::Unknown => Standing::Unproven,
            State::Up => Standing::Up,
            State::Down => Standing::Silent,
        }
    }

    /// Its address of this family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.addresses.get()[usize::from(ipv6)]
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.get().contains(&Some(address))
    }

    /// Lower is better.
    fn rank(&self) -> u32 {
        let standing = match self.standing() {
            Standing::Up => 0,
            Standing::Unproven => 1,
            Standing::Silent => 4,
            _ => 8,
        };
        let role = match self.config.role {
            Role::Master => 0,
            Role::On => 1,
            Role::Backup | Role::Off => 2,
        };
        // A backup that works is better than a path that does not.
        standing * 4 + role + if self.config.role == Role::Backup { 8 } else { 0 }
    }
}

/// The ways to the servers.
#[derive(Default)]
pub struct Paths {
    all: RefCell<Vec<Rc<Path>>>,
    /// Something changed that the manager has to act on.
    pub changed: Notify,
    /// A first connection was opened.
    pub traffic: Notify,
}

impl Paths {
    /// Takes over the configured paths; those that did not change keep what is known of them.
    pub fn configure(&self, wanted: &[PathConfig]) {
        let old = self.all.take();
        let new = wanted.iter().map(|config| {
            let known = old.iter().find(|path| path.config == *config).cloned();
            known.unwrap_or_else(|| Path::new(config.clone()))
        });
        self.all.replace(new.collect());
        self.changed.notify_one();
    }

    /// All paths.
    pub fn all(&self) -> Vec<Rc<Path>> {
        self.all.borrow().clone()
    }

    /// The best address to bind a connection to `remote` to, not among `tried` if there is another; `None` where no
    /// path is configured or none has an address of the family.
    pub fn choose(&self, remote: IpAddr, tried: &[IpAddr]) -> Option<IpAddr> {
        let all = self.all.borrow();
        let mut fitting: Vec<(bool, u32, IpAddr)> = all
            .iter()
            .filter(|path| !matches!(path.standing(), Standing::RoleOff | Standing::SwitchedOff))
            .filter_map(|path| {
                let address = path.address(remote.is_ipv6())?;
                Some((tried.contains(&address), path.rank(), address))
            })
            .collect();
        fitting.sort_by_key(|(tried, rank, _)| (*tried, *rank));
        fitting.first().map(|(_, _, address)| *address)
    }

    /// Whether a connection from this address should try MPTCP.
    pub fn tries_mptcp(&self, bound: Option<IpAddr>) -> bool {
        self.of(bound).is_none_or(|path| path.blocked.get().tries_mptcp(Instant::now()))
    }

    /// Whether the last connection from this address that tells spoke MPTCP.
    pub fn spoke_mptcp(&self, bound: Option<IpAddr>) -> bool {
        self.of(bound).is_some_and(|path| path.mptcp.get() == Some(true))
    }

    fn of(&self, bound: Option<IpAddr>) -> Option<Rc<Path>> {
        let address = bound?;
        self.all.borrow().iter().find(|path| path.has(address)).cloned()
    }

    /// Notes that a connection from this address that tried MPTCP was opened, whether it speaks it, and when it was
    /// begun.
    pub fn note_connection(&self, bound: Option<IpAddr>, mptcp: bool, begun: Instant) {
        let Some(path) = self.of(bound) else { return };
        let (mut blocked, now) = (path.blocked.get(), Instant::now());
        let sound = path.health.borrow().is_sound_since(begun);
        blocked.connected(mptcp, begun, now, sound);
        path.blocked.set(blocked);
        let tells = mptcp || !blocked.is_unclear(begun, now);
        if tells && path.mptcp.replace(Some(mptcp)) != Some(mptcp) && !mptcp {
            log::warn!(
                "path {}: MPTCP is stripped or blocked on the way, plain TCP is used",
                path.config.name
            );
        }
        let changed = path.health.borrow_mut().proven(now);
        if changed.is_some() {
            self.changed.notify_one();
        }
    }

    /// Adds what the subflows of a connection that has ended have carried.
    pub fn account(&self, subflows: &[Subflow]) {
        let all = self.all.borrow();
        for subflow in subflows {
            if let Some(path) = all.iter().find(|path| path.has(subflow.local.ip())) {
                let (received, sent) = path.bytes.get();
                path.bytes.set((received + subflow.received, sent + subflow.sent));
            }
        }
    }

    /// Bytes of connections that have ended: received, sent.
    pub fn bytes(path: &Path) -> (u64, u64) {
        path.bytes.get()
    }

    /// Whether every path with an address is known not to carry packets.
    pub fn all_silent(&self) -> bool {
        let all = self.all.borrow();
        let mut standings = all
            .iter()
            .map(|path| path.standing())
            .filter(|standing| matches!(standing, Standing::Up | Standing::Unproven | Standing::Silent));
        let mut any = false;
        standings.all(|standing| {
            any = true;
            standing == Standing::Silent
        }) && any
    }
}
