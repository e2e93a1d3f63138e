// SPDX-License-Identifier: Apache-2.0
//! `doctor`: everything the proxy needs of this router and of the way to the servers, each with its remedy.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::config::{self, Mode};
use crate::daemon::Daemon;
use crate::intercept::{self, Interception};
use crate::net::{self, Outgoing};
use crate::packet::entry::Standing;
use crate::packet::{CLIENT_DEVICE, SERVER_DEVICE};
use crate::path::{manager, Path};
use crate::server::Server;
use crate::upstream::State;

/// A server has this long to take a connection over a path.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// IPv6's least (RFC 8200 5); below it, subflows suffer.
const LEAST_MTU: u32 = 1280;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// It does not work.
    Fail,
}

/// One line of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it ended.
    pub result: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

impl Check {
    fn new(check: impl Into<String>, result: Verdict, detail: impl Into<String>, remedy: &str) -> Self {
        let remedy = if result == Verdict::Ok { String::new() } else { remedy.to_owned() };
        Check { check: check.into(), result, detail: detail.into(), remedy }
    }
}

/// Looks at everything.
pub async fn examine(daemon: &Daemon) -> Vec<Check> {
    let mut checks = vec![kernel()];
    checks.extend(blackholes());
    checks.push(splice(daemon.unspliced.as_deref()));
    let config = daemon.configuration.borrow().current().cloned();
    let Some(config) = config else {
        checks.push(Check::new(
            "configuration",
            Verdict::Fail,
            "none could be read",
            "run `mptcp-proxy check`",
        ));
        return checks;
    };
    let problems = daemon.configuration.borrow().problems().len();
    let verdict = if problems == 0 { Verdict::Ok } else { Verdict::Warn };
    checks.push(Check::new(
        "configuration",
        verdict,
        format!("{problems} problems"),
        "run `mptcp-proxy check`",
    ));
    if !config.enabled || (config.clients.is_empty() && config.servers.is_empty()) {
        checks.push(Check::new(
            "halves",
            Verdict::Warn,
            "neither half is enabled",
            "set `enabled` of a client or server",
        ));
    }
    for client in &config.clients {
        checks.push(interception(client));
        checks.extend(congestion(client.congestion.as_deref()));
    }
    for server in &config.servers {
        checks.extend(congestion(server.congestion.as_deref()));
    }
    for server in daemon.servers() {
        checks.push(served(&server, daemon.connections.len()));
    }
    checks.extend(packets(daemon, &config));
    let paths = daemon.paths.all();
    if !config.clients.is_empty() && paths.len() < 2 {
        let detail = format!("{} configured", paths.len());
        checks.push(Check::new(
            "paths",
            Verdict::Warn,
            detail,
            "add `config path` sections: one path is plain TCP's lot",
        ));
    }
    for path in &paths {
        let standing = path.standing();
        let verdict = if standing.is_usable() { Verdict::Ok } else { Verdict::Fail };
        let remedy = "look after its device, address and route, or set its role to off";
        checks.push(Check::new(format!("path {}", path.config.name), verdict, standing.reason(), remedy));
        checks.extend(mtu(path));
    }
    for upstream in daemon.clients().iter().flat_map(|client| client.upstreams()) {
        let name = &upstream.config.name;
        let (verdict, detail) = match upstream.state() {
            State::Up => (Verdict::Ok, "answers, and has our key"),
            State::Unknown => (Verdict::Warn, "nothing is known yet"),
            State::Down => (Verdict::Fail, "does not answer, or does not have our key"),
        };
        let remedy = "compare `key` on both ends, and open TCP and UDP of its port in the server's firewall";
        checks.push(Check::new(format!("server {name}"), verdict, detail, remedy));
        for path in &paths {
            checks.extend(reach(path, name, upstream.config.address).await);
        }
    }
    checks
}

/// What can be said of a server half from its own side.
fn served(server: &Server, connections: usize) -> Check {
    let (config, counters) = (server.config(), &server.counters);
    let (served, plain) = (counters.served.get(), counters.without_mptcp.get());
    let name = format!("server half {}", config.name);
    let detail = format!(
        "listens on {} for {} users; {connections} connections now, {served} served, {} unproven, {plain} without MPTCP",
        config.listen,
        config.users.len(),
        counters.unproven.get()
    );
    if plain > 0 {
        let remedy = "run the doctor on the clients: it says which of their paths strips MPTCP";
        return Check::new(name, Verdict::Warn, detail, remedy);
    }
    Check::new(name, Verdict::Ok, detail, "")
}

/// Packets of other protocols, of both halves.
fn packets(daemon: &Daemon, config: &config::Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let no_device = "install kmod-tun; /dev/net/tun has to be open to the daemon's user";
    if config.clients.iter().any(|client| client.other_protocols && client.mode != Mode::Socks) {
        let name = "other protocols (client)";
        checks.push(match daemon.entry().map(|entry| entry.standing()) {
            None => Check::new(name, Verdict::Fail, "there is no device", no_device),
            Some(_) if is_strict(CLIENT_DEVICE) => Check::new(
                name,
                Verdict::Fail,
                format!("rp_filter lets no answer in by {CLIENT_DEVICE}"),
                "sysctl -w net.ipv4.conf.mptcp0.rp_filter=2",
            ),
            Some(Standing::Carried) => Check::new(
                name,
                Verdict::Ok,
                format!("carried; the firewall has to forward from the LAN to {CLIENT_DEVICE}"),
                "",
            ),
            Some(Standing::NoServer) => {
                Check::new(name, Verdict::Warn, "no server carries them now", "see its line")
            }
            Some(Standing::Refused) => Check::new(
                name,
                Verdict::Fail,
                "the server does not carry them for us",
                "set `option other_protocols '1'` in our user's section on the server",
            ),
        });
    }
    if config.servers.iter().any(|server| server.carries_packets()) {
        let name = "other protocols (server)";
        checks.push(match daemon.exit() {
            None => Check::new(name, Verdict::Fail, "there is no device", no_device),
            Some(_) if sysctl("net/ipv4/ip_forward").as_deref() != Some("1") => Check::new(
                name,
                Verdict::Fail,
                "this machine forwards nothing",
                "sysctl -w net.ipv4.ip_forward=1",
            ),
            Some(exit) => Check::new(
                name,
                Verdict::Ok,
                format!(
                    "carried for {} clients now; the firewall has to forward from {SERVER_DEVICE}",
                    exit.clients()
                ),
                "",
            ),
        });
    }
    checks
}

/// Whether packets have to come by the device that leads back to whom they are from. The stricter of both counts.
fn is_strict(device: &str) -> bool {
    let of = |name: &str| {
        sysctl(&format!("net/ipv4/conf/{name}/rp_filter")).and_then(|text| text.parse::<u8>().ok())
    };
    of("all").max(of(device)) == Some(1)
}

fn kernel() -> Check {
    let enabled = sysctl("net/mptcp/enabled");
    match enabled.as_deref() {
        Some("1") if net::kernel_has_mptcp() => Check::new("kernel", Verdict::Ok, "speaks MPTCP", ""),
        Some(_) => {
            Check::new("kernel", Verdict::Fail, "MPTCP is switched off", "sysctl -w net.mptcp.enabled=1")
        }
        None => Check::new(
            "kernel",
            Verdict::Fail,
            "was built without MPTCP",
            "use an image with CONFIG_MPTCP (OpenWrt: not one for small flash)",
        ),
    }
}

/// Whether the kernel moves long transfers by itself.
fn splice(reason: Option<&str>) -> Check {
    match reason {
        None => Check::new("splice", Verdict::Ok, "long transfers in the clear stay in the kernel", ""),
        Some(reason) => Check::new(
            "splice",
            Verdict::Warn,
            format!("long transfers are copied: {reason}"),
            "a kernel of 6.6 or later splices MPTCP sockets; it works without, for some more of the CPU",
        ),
    }
}

/// The kernel gives MPTCP up on all paths when packets of one were lost, unless told not to.
fn blackholes() -> Option<Check> {
    let timeout = std::fs::read_to_string(manager::BLACKHOLE_TIMEOUT).ok()?;
    let name = "lost packets";
    if timeout.trim() == "0" {
        return Some(Check::new(name, Verdict::Ok, "the kernel does not give MPTCP up for them", ""));
    }
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let count = counter(&text, "MPTcpExt:", "Blackhole").unwrap_or(0);
    Some(Check::new(
        name,
        Verdict::Warn,
        format!(
            "the kernel gives MPTCP up for {} s when packets are lost; it has {count} times",
            timeout.trim()
        ),
        "sysctl -w net.mptcp.blackhole_timeout=0",
    ))
}

/// A counter of `/proc/net/netstat`, whose lines come in pairs of names and values.
fn counter(text: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let position = names.split_whitespace().position(|known| known == name)?;
    values.split_whitespace().nth(position)?.parse().ok()
}

fn interception(client: &config::Client) -> Check {
    let name = format!("interception of {}", client.name);
    if client.mode == Mode::Socks {
        return Check::new(name, Verdict::Ok, "not needed for SOCKS5", "");
    }
    let devices = ["lo".to_owned()];
    let script = Interception { client, devices: &devices, own: &[] }.script(false);
    match intercept::check(&script) {
        Ok(()) => Check::new(name, Verdict::Ok, "nft takes the rules", ""),
        Err(error) => {
            let remedy = "install kmod-nft-tproxy and kmod-nft-socket, or set `mode` to redirect";
            Check::new(name, Verdict::Fail, error.to_string(), remedy)
        }
    }
}

fn congestion(name: Option<&str>) -> Option<Check> {
    let name = name?;
    let available = sysctl("net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    let verdict =
        if available.split_whitespace().any(|known| known == name) { Verdict::Ok } else { Verdict::Warn };
    let remedy = "install its kernel module, or choose another";
    Some(Check::new(
        format!("congestion control {name}"),
        verdict,
        format!("the kernel has: {available}"),
        remedy,
    ))
}

fn mtu(path: &Path) -> Option<Check> {
    let device = path.device.borrow().clone()?;
    let mtu: u32 =
        std::fs::read_to_string(format!("/sys/class/net/{device}/mtu")).ok()?.trim().parse().ok()?;
    let verdict = if mtu >= LEAST_MTU { Verdict::Ok } else { Verdict::Warn };
    Some(Check::new(
        format!("MTU of path {}", path.config.name),
        verdict,
        mtu.to_string(),
        "raise the MTU of its device",
    ))
}

async fn reach(path: &Path, server: &str, address: std::net::SocketAddr) -> Option<Check> {
    let name = format!("server {server} by path {}", path.config.name);
    let local: IpAddr = path.address(address.is_ipv6())?;
    let outgoing = Outgoing { mptcp: true, bind: Some(local), ..Outgoing::default() };
    Some(match outgoing.connect(address, CONNECT_LIMIT).await {
        Ok(stream) if net::is_mptcp(&stream) => Check::new(name, Verdict::Ok, "MPTCP", ""),
        Ok(_) => Check::new(
            name,
            Verdict::Warn,
            "plain TCP: MPTCP is stripped on the way, or the server's kernel lacks it",
            "run the doctor on the server; if it has MPTCP, put a VPN or tcp-in-udp under this path",
        ),
        Err(error) => Check::new(
            name,
            Verdict::Fail,
            error.to_string(),
            "look after the route of this path and the server's firewall",
        ),
    })
}

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_in_its_pair_of_lines() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: MPCapableSYNRX Blackhole\nMPTcpExt: 7 3\n";
        assert_eq!(counter(text, "MPTcpExt:", "Blackhole"), Some(3));
        assert_eq!(counter(text, "MPTcpExt:", "Missing"), None);
        assert_eq!(counter("", "MPTcpExt:", "Blackhole"), None);
    }
}
