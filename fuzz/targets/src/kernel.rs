// SPDX-License-Identifier: Apache-2.0
//! What the kernel says over netlink.

use mptcp_proxy::path::pm;
use openwrt::netlink::object::{self, Object};
use openwrt::netlink::{wire, Family};

/// A datagram of the routing family.
pub(crate) fn netlink(bytes: &[u8]) {
    let mut taken = 0;
    for message in wire::messages(bytes).map_while(Result::ok) {
        taken += 16 + message.payload.len();
        let _ = message.errno();
        let Ok(Some(change)) = object::parse(&message) else { continue };
        match change.object {
            Object::Link(link) => {
                assert!(!link.is_running() || link.is_up());
            }
            Object::Route(route) => {
                assert!(!route.is_default() || route.destination.length == 0);
                assert!(route.next_hops.len() <= bytes.len());
            }
            Object::Address(address) => {
                let _ = address.is_usable();
            }
            Object::Neighbour(neighbour) => {
                let _ = (neighbour.is_reachable(), neighbour.is_failed());
            }
            Object::Rule(_) => {}
        }
    }
    assert!(taken <= bytes.len());
}

/// Answers of generic families: endpoints of MPTCP, gateways of batman-adv.
pub(crate) fn generic_netlink(bytes: &[u8]) {
    for message in wire::messages(bytes).map_while(Result::ok) {
        if let Ok(Some(quality)) = dynapoint::probe::batman::gateway(&message) {
            assert!((0.0..=f64::from(u32::MAX) / 10.0).contains(&quality.1));
        }
        let Ok(attributes) = Family::attributes(&message) else { continue };
        for attribute in attributes.map_while(Result::ok) {
            let _ = pm::parse(&attribute);
            let _ = (attribute.text(), attribute.u16(), attribute.ip());
        }
    }
}
