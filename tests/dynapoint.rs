// SPDX-License-Identifier: Apache-2.0
//! dynapoint as a process, on a router made of network namespaces (root). hostapd and netifd are doubles here and are
//! called so; `tests/wifi.rs` has a real hostapd.

#[path = "dynapoint/air.rs"]
mod air;
#[path = "dynapoint/checks.rs"]
mod checks;
#[path = "dynapoint/cost.rs"]
mod cost;
#[path = "dynapoint/faults.rs"]
mod faults;
#[path = "dynapoint/links.rs"]
mod links;
#[path = "dynapoint/netifd_double.rs"]
mod netifd_double;
#[path = "dynapoint/procd_double.rs"]
mod procd_double;
#[path = "dynapoint/rig.rs"]
mod rig;
#[path = "dynapoint/told.rs"]
mod told;
