// SPDX-License-Identifier: Apache-2.0
//! What the kernels have to be told for `other_protocols`: which packets to take, and under which addresses they go.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use openwrt::netlink::{Connection, NextHop, Prefix, Route, Rule};

use super::pool::Pool;
use super::{CLIENT_DEVICE, SERVER_DEVICE};
use crate::config::{Client, Fallback};
use crate::intercept::{self, Interception};

/// The table of the client half.
pub const CLIENT_TABLE: &str = "mptcp_proxy_packets";
/// The table of the server half.
pub const SERVER_TABLE: &str = "mptcp_proxy_exit";
/// Between the rule for TCP and UDP and those of the paths.
const RULE_PRIORITY: u32 = 905;
/// Behind the tables of the paths.
const TABLE_OFFSET: u32 = 1000;
const EEXIST: i32 = 17;
const UNREACHABLE: u8 = 7;

/// The nft script of the client half, which takes the packets; their source becomes the address of their family.
pub fn client_script(interception: &Interception<'_>, addresses: [Option<IpAddr>; 2]) -> String {
    let client = interception.client;
    let devices: Vec<String> = interception.devices.iter().map(|device| format!("\"{device}\"")).collect();
    let (zone, bit) = (zone(addresses), packet_bit(client.mark));
    let mut text = clear(CLIENT_TABLE);
    let _ = writeln!(text, "table inet {CLIENT_TABLE} {{");
    intercept::sets(&mut text, client, interception.own);
    // Before conntrack: a packet has its zone before it has a flow.
    text.push_str("\tchain prerouting {\n\t\ttype filter hook prerouting priority raw; policy accept;\n");
    let mut rule = |line: &str| {
        let _ = writeln!(text, "\t\t{line}");
    };
    rule(&format!("iifname \"{CLIENT_DEVICE}\" ct zone set {zone} accept"));
    rule(&format!("iifname != {{ {} }} return", devices.join(", ")));
    rule("meta l4proto { tcp, udp } return");
    rule("fib daddr type { local, broadcast, multicast } return");
    intercept::exceptions(client, "meta l4proto sctp ", &mut rule);
    rule(&format!("ct zone set {zone} meta mark set meta mark | {bit:#x}"));
    text.push_str(
        "\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat - 1; policy accept;\n",
    );
    for address in addresses.into_iter().flatten() {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let protocol = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = writeln!(
            text,
            "\t\toifname \"{CLIENT_DEVICE}\" meta nfproto {protocol} snat {family} to {address}"
        );
    }
    text.push_str("\t}\n");
    // Who is behind the server answers, and begins nothing.
    for hook in ["input", "forward"] {
        let _ = writeln!(
            text,
            "\tchain {hook} {{\n\t\ttype filter hook {hook} priority filter; policy accept;\n\
             \t\tiifname \"{CLIENT_DEVICE}\" ct state != {{ established, related }} drop\n\t}}"
        );
    }
    text.push_str("}\n");
    text
}

/// The nft script of the server half.
pub fn server_script(pool: &Pool) -> String {
    let [v4, v6] = pool.prefixes();
    let clear = clear(SERVER_TABLE);
    format!(
        "{clear}table inet {SERVER_TABLE} {{\n\
         \tchain postrouting {{\n\t\ttype nat hook postrouting priority srcnat - 1; policy accept;\n\
         \t\tip saddr {v4} oifname != \"{SERVER_DEVICE}\" masquerade\n\
         \t\tip6 saddr {v6} oifname != \"{SERVER_DEVICE}\" masquerade\n\t}}\n\
         \tchain forward {{\n\t\ttype filter hook forward priority filter; policy accept;\n\
         \t\toifname \"{SERVER_DEVICE}\" ct state != {{ established, related }} drop\n\t}}\n}}\n"
    )
}

/// The nft script that takes a table away, whether it is there or not.
pub fn clear(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

/// Marked packets go to the device of this number; with `fallback 'block'` nowhere else even when it is gone.
pub fn route(client: &Client, device: u32) -> io::Result<()> {
    let mut connection = Connection::route().map_err(io::Error::other)?;
    for (route, rule) in routing(client, device) {
        let ipv6 = rule.ipv6;
        let added = connection.add_route(&route).and_then(|()| match unreachable(client, ipv6) {
            Some(route) => connection.add_route(&route),
            None => Ok(()),
        });
        match added.and_then(|()| connection.add_rule(&rule)) {
            Err(error) if error.errno() == Some(EEXIST) => {}
            // A kernel without IPv6.
            Err(_) if ipv6 => {}
            result => result.map_err(io::Error::other)?,
        }
    }
    Ok(())
}

/// Takes back what [`route`] did; the route goes with its device.
pub fn unroute(client: &Client) {
    let Ok(mut connection) = Connection::route() else { return };
    for (_, rule) in routing(client, 0) {
        // What is not there is no error.
        let _ = connection.delete_rule(&rule);
        if let Some(route) = unreachable(client, rule.ipv6) {
            let _ = connection.delete_route(&route);
        }
    }
}

fn routing(client: &Client, device: u32) -> [(Route, Rule); 2] {
    let (table, bit) = (client.route_table + TABLE_OFFSET, packet_bit(client.mark));
    [Prefix::ANY_V4, Prefix::ANY_V6].map(|any| {
        let hop = NextHop { link: device, ..NextHop::default() };
        let rule = Rule::lookup(any.address.is_ipv6(), RULE_PRIORITY, table);
        (Route::unicast(any, table, hop), Rule { mark: Some((bit, bit)), ..rule })
    })
}

fn unreachable(client: &Client, ipv6: bool) -> Option<Route> {
    let any = if ipv6 { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
    let route = Route::unicast(any, client.route_table + TABLE_OFFSET, NextHop::default());
    let last = Route { kind: UNREACHABLE, scope: 0, metric: u32::MAX, next_hops: Vec::new(), ..route };
    (client.fallback == Fallback::Block).then_some(last)
}

/// The bit that marks packets for the device: the second neighbour of our mark.
fn packet_bit(mark: u32) -> u32 {
    mark.rotate_left(2)
}

/// Translations are made for an address: another address, another zone.
fn zone(addresses: [Option<IpAddr>; 2]) -> u32 {
    match addresses[0] {
        Some(IpAddr::V4(v4)) => (v4.to_bits() & 0xffff).max(1),
        _ => 1,
    }
}
