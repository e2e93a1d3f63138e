// SPDX-License-Identifier: Apache-2.0
//! Two routers with the proxy between two hosts without MPTCP.

#[path = "mptcp_proxy/bed.rs"]
mod bed;
#[path = "mptcp_proxy/datagrams.rs"]
mod datagrams;
#[path = "mptcp_proxy/domains.rs"]
mod domains;
#[path = "mptcp_proxy/ends.rs"]
mod ends;
#[path = "mptcp_proxy/failover.rs"]
mod failover;
#[path = "mptcp_proxy/flaps.rs"]
mod flaps;
#[path = "mptcp_proxy/guard.rs"]
mod guard;
#[path = "mptcp_proxy/load.rs"]
mod load;
#[path = "mptcp_proxy/manual.rs"]
mod manual;
#[path = "mptcp_proxy/memory.rs"]
mod memory;
#[path = "mptcp_proxy/paths.rs"]
mod paths;
#[path = "mptcp_proxy/protocols.rs"]
mod protocols;
#[path = "mptcp_proxy/raw.rs"]
mod raw;
#[path = "mptcp_proxy/speed.rs"]
mod speed;
#[path = "mptcp_proxy/transfer.rs"]
mod transfer;
