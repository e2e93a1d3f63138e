// SPDX-License-Identifier: Apache-2.0
//! Real parts for tests, each with its clean-up.
//!
//! Everything here is for tests alone: it panics with a clear message where a part cannot be had.

pub mod broker;
pub mod capture;
pub mod certs;
pub mod delay_tun;
pub mod dnsmasq;
pub mod hostapd_double;
pub mod netns;
pub mod openwrt_root;
pub mod process;
pub mod smtp;
pub mod tcp_fault;
pub mod ubusd;
pub mod ubusd_double;
pub mod usage;
pub mod vm;
pub mod webhook;

pub use broker::Broker;
pub use capture::{wait_for, wait_or, Capture, PATIENCE};
pub use certs::Authority;
pub use delay_tun::DelayTun;
pub use dnsmasq::Dnsmasq;
pub use hostapd_double::HostapdDouble;
pub use netns::Netns;
pub use openwrt_root::OpenwrtRoot;
pub use process::{ask, binary, Daemon, Environment, Finished};
pub use smtp::MailServer;
pub use tcp_fault::FaultyLink;
pub use ubusd::Ubusd;
pub use ubusd_double::UbusdDouble;
pub use vm::Vm;
pub use webhook::Webhook;
