// SPDX-License-Identifier: Apache-2.0
//! Every parser of outside input as a function of bytes. It returns whatever the bytes are; it panics when something that
//! must hold for all bytes does not. The fuzzer calls them (`fuzz/src`), and `tests/kept.rs` with every kept input.

// Whoever calls this wants the panic.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod dynapoint;
mod kernel;
mod memory;
mod powqutyd;
mod proxy;
mod router;

pub use memory::Bounded;

/// A target: its name, which is that of its folder of seeds, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    // openwrt
    ("uci_text", router::uci_text),
    ("uci_delta", router::uci_delta),
    ("uci_values", router::uci_values),
    ("ubus_messages", openwrt::ubus::fuzz::messages),
    ("ubus_peer", openwrt::ubus::fuzz::peer),
    ("json_socket", openwrt::service::fuzz::request),
    ("timezone", router::timezone),
    ("netlink", kernel::netlink),
    ("generic_netlink", kernel::generic_netlink),
    // alerts
    ("alert_config", router::alert_config),
    ("outbox_journal", router::outbox_journal),
    ("mqtt_broker", alerts::fuzz::broker),
    ("mail_server", alerts::fuzz::mail_server),
    // powqutyd
    ("powquty_config", powqutyd::config),
    ("wesense", powqutyd::wesense),
    ("nmea", powqutyd::nmea),
    ("samples", powqutyd::samples),
    ("script", powqutyd::script),
    ("records", powqutyd::records),
    ("summary", powqutyd::summary),
    ("event_log", powqutyd::event_log),
    ("waveform", powqutyd::waveform),
    ("raw_block", powqutyd::raw_block),
    ("raw_ring", powqutyd::raw_ring),
    ("comtrade", powqutyd::comtrade),
    ("clock_text", powqutyd::clock_text),
    // dynapoint
    ("dynapoint_config", dynapoint::config),
    ("url", dynapoint::url),
    ("http_answer", dynapoint::http_answer),
    ("dns_answer", dynapoint::dns_answer),
    ("icmp", dynapoint::icmp),
    ("hostapd_status", dynapoint::hostapd_status),
    ("hostapd_config", dynapoint::hostapd_config),
    ("netifd", dynapoint::netifd),
    // mptcp-proxy
    ("proxy_config", proxy::config),
    ("socks_client", proxy::socks_client),
    ("socks_server", proxy::socks_server),
    ("tunnel_request", proxy::tunnel_request),
    ("tunnel_session", proxy::tunnel_session),
    ("tunnel_records", proxy::tunnel_records),
    ("udp_frames", proxy::udp_frames),
    ("resolvers", proxy::resolvers),
    ("target_list", proxy::target_list),
];

/// The target of that name.
pub fn find(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// The bytes before and behind the first NUL, for targets that take two texts.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}
