// SPDX-License-Identifier: Apache-2.0
//! What any daemon needs to live on OpenWrt.

pub mod cli;
pub mod crc32;
pub mod interfaces;
pub mod logging;
pub mod metrics;
pub mod netlink;
pub mod reload;
pub mod service;
pub mod small_map;
pub mod task;
pub mod timezone;
pub mod ubus;
pub mod uci;
