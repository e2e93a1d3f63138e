// SPDX-License-Identifier: Apache-2.0
//! Transparent TCP to MPTCP proxy.

pub mod acl;
pub mod client;
pub mod config;
pub mod connections;
pub mod daemon;
pub mod datagram;
pub mod doctor;
pub mod early;
pub mod intercept;
pub mod interfaces;
pub mod net;
pub mod path;
pub mod pool;
pub mod record;
pub mod relay;
pub mod server;
pub mod service;
pub mod session;
pub mod socks;
pub mod sys;
pub mod udp;
pub mod upstream;
pub mod watch;
pub mod wire;
