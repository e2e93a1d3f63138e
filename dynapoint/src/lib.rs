// SPDX-License-Identifier: Apache-2.0
//! Access points that tell the truth about the Internet behind them.
//!
//! Decisions live in modules without clock, sockets or runtime ([`rule`], [`verdict`], [`ssid`], [`wireless::plan`]); the rest carries them out.

pub mod announce;
pub mod check;
pub mod condition;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod hooks;
pub mod oneshot;
pub mod probe;
pub mod round;
pub mod rule;
pub mod run;
pub mod service;
pub mod ssid;
pub mod uplink;
pub mod verdict;
pub mod wireless;
