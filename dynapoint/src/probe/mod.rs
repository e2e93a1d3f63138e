// SPDX-License-Identifier: Apache-2.0
//! Checks: what is asked, and what the answers mean.

pub mod dns;
pub mod http;
pub mod icmp;
pub mod url;
