// SPDX-License-Identifier: Apache-2.0
//! The daemons on a router that fails around them: no room, no memory, no processor, foreign files, odd networks. What is
//! tested where is the table in `docs/RELIABILITY.md`. Needs root.

#[allow(dead_code)]
#[path = "mptcp_proxy/bed.rs"]
mod bed;
#[path = "reliability/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "dynapoint/rig.rs"]
mod rig;
#[path = "reliability/router.rs"]
mod router;
