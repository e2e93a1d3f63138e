// SPDX-License-Identifier: Apache-2.0
//! Taking the traffic of the LAN: one nft table of our own and, for TPROXY, one routing rule and route.
//!
//! The table is put up in one transaction that replaces whatever was there, so that it is never half there, survives a
//! reload of firewall4 (which only touches its own table) and is clean after a crash. The sets that dnsmasq fills live
//! in a table of their own, because putting up the chains again must not erase what dnsmasq has learned.
//!
//! Loops are impossible: only packets that come in by the listed devices are taken, never our own; packets to this
//! router, to the servers and to the bypass lists are left alone; and a connection that began before the table was
//! there stays as it is, because only its first packet is taken.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use openwrt::netlink::{Connection, NextHop, Prefix, Route, Rule};

use crate::config::{Client, Mode};

/// Our table.
pub const TABLE: &str = "mptcp_proxy";
/// The table with the sets that dnsmasq fills.
pub const DOMAINS: &str = "mptcp_proxy_domains";
const EEXIST: i32 = 17;
const LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
/// Before the rules of mwan3 and pbr (which start at 1000) and after `local`.
const RULE_PRIORITY: u32 = 900;

/// Ranges that lead nowhere on the internet and are always left alone (RFC 6890). Private ranges are not among them:
/// a private network behind the server may be a target. The networks of this router are left alone by routing.
const SPECIAL_V4: [&str; 5] = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"];
const SPECIAL_V6: [&str; 3] = ["::1/128", "fe80::/10", "ff00::/8"];

/// What to take, with devices already found.
#[derive(Debug, Clone, PartialEq)]
pub struct Interception<'a> {
    /// The client half.
    pub client: &'a Client,
    /// Devices by which LAN traffic comes in.
    pub devices: &'a [String],
    /// Networks of this router's own, which are reached without a proxy.
    pub own: &'a [Prefix],
}

impl Interception<'_> {
    /// The nft script of the chains; `draining` only keeps the packets of connections that are open.
    pub fn script(&self, draining: bool) -> String {
        let devices: Vec<String> = self.devices.iter().map(|device| format!("\"{device}\"")).collect();

        let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
        text.push_str(&format!("table inet {TABLE} {{\n"));
        sets(&mut text, self.client, self.own);
        let hook = match self.client.mode {
            Mode::Redirect => "nat hook prerouting priority dstnat",
            Mode::Tproxy | Mode::Socks => "filter hook prerouting priority mangle",
        };
        let _ = writeln!(text, "\tchain prerouting {{\n\t\ttype {hook}; policy accept;");
        let mut rule = |line: &str| {
            let _ = writeln!(text, "\t\t{line}");
        };
        if !draining {
            rule(&format!("iifname != {{ {} }} return", devices.join(", ")));
        }
        let udp = self.client.udp && self.client.mode == Mode::Tproxy && !draining;
        let taken = if udp { "{ tcp, udp }" } else { "tcp" };
        rule(&format!("meta l4proto != {taken} return"));
        rule("fib daddr type { local, broadcast, multicast } return");
        let mark = self.client.mark;
        if self.client.mode == Mode::Tproxy {
            // Not for datagrams: the socket that answers in a target's name would swallow them.
            rule(&format!(
                "meta l4proto tcp socket transparent 1 meta mark set meta mark | {mark:#x} accept"
            ));
            rule("tcp flags & (syn | ack) != syn return");
        }
        if draining {
            text.push_str("\t}\n}\n");
            return text;
        }
        exceptions(self.client, "", &mut rule);
        let port = self.client.listen_port;
        match self.client.mode {
            Mode::Tproxy => {
                for family in ["ip", "ip6"] {
                    rule(&format!(
                        "meta nfproto {} meta l4proto {taken} tproxy {family} to :{port} meta mark set meta mark | {mark:#x} accept",
                        if family == "ip" { "ipv4" } else { "ipv6" }
                    ));
                }
            }
            Mode::Redirect | Mode::Socks => rule(&format!("meta l4proto tcp redirect to :{port}")),
        }
        text.push_str("\t}\n}\n");
        text
    }

    /// Puts the table up, and what TPROXY needs of routing.
    pub fn put_up(&self) -> io::Result<()> {
        if self.client.mode == Mode::Tproxy {
            route_marked(self.client, true)?;
        }
        nft(&self.script(false))
    }
}

/// The sets of what is left alone.
pub(crate) fn sets(text: &mut String, client: &Client, own: &[Prefix]) {
    let (mut v4, mut v6) = (SPECIAL_V4.map(str::to_owned).to_vec(), SPECIAL_V6.map(str::to_owned).to_vec());
    let servers = client.upstreams.iter().map(|upstream| Prefix::host(upstream.address.ip()));
    for prefix in client.bypass.iter().copied().chain(own.iter().copied()).chain(servers) {
        let list = if prefix.address.is_ipv4() { &mut v4 } else { &mut v6 };
        list.push(prefix.to_string());
    }
    let (mut sources_v4, mut sources_v6) = (Vec::new(), Vec::new());
    for prefix in &client.bypass_sources {
        let list = if prefix.address.is_ipv4() { &mut sources_v4 } else { &mut sources_v6 };
        list.push(prefix.to_string());
    }
    set(text, "bypass4", "ipv4_addr", &v4);
    set(text, "bypass6", "ipv6_addr", &v6);
    set(text, "source4", "ipv4_addr", &sources_v4);
    set(text, "source6", "ipv6_addr", &sources_v6);
}

/// The rules that leave those alone; `ported` selects the packets that have ports.
pub(crate) fn exceptions(client: &Client, ported: &str, rule: &mut dyn FnMut(&str)) {
    if !client.bypass_domains.is_empty() {
        let bit = bypass_bit(client.mark);
        rule(&format!("meta mark & {bit:#x} == {bit:#x} return"));
    }
    rule("ip daddr @bypass4 return");
    rule("ip6 daddr @bypass6 return");
    rule("ip saddr @source4 return");
    rule("ip6 saddr @source6 return");
    for (first, last) in &client.bypass_ports {
        rule(&format!("{ported}th dport {first}-{last} return"));
    }
}

/// The bit that marks packets to addresses dnsmasq has learned: the neighbour of our mark.
fn bypass_bit(mark: u32) -> u32 {
    mark.rotate_left(1)
}

/// Puts up the table of the domains, or takes it away where none is left alone. What dnsmasq has put into its sets stays
/// there unless `anew`: dnsmasq adds an address when it learns it, and not again while it remembers it.
pub fn put_up_domains(client: &Client, anew: bool) -> io::Result<()> {
    let mut text = format!("add table inet {DOMAINS}\n");
    if anew || client.bypass_domains.is_empty() {
        text.push_str(&format!("delete table inet {DOMAINS}\n"));
    }
    if !client.bypass_domains.is_empty() {
        let bit = bypass_bit(client.mark);
        text.push_str(&format!(
            "add table inet {DOMAINS}\n\
             add set inet {DOMAINS} domain4 {{ type ipv4_addr; size 65535; }}\n\
             add set inet {DOMAINS} domain6 {{ type ipv6_addr; size 65535; }}\n\
             add chain inet {DOMAINS} first {{ type filter hook prerouting priority raw - 1; }}\n\
             flush chain inet {DOMAINS} first\n\
             add rule inet {DOMAINS} first ip daddr @domain4 meta mark set meta mark | {bit:#x}\n\
             add rule inet {DOMAINS} first ip6 daddr @domain6 meta mark set meta mark | {bit:#x}\n"
        ));
    }
    nft(&text)
}

/// What dnsmasq has to be told for these domains; nothing where there are none.
pub fn dnsmasq_snippet<'a>(domains: impl IntoIterator<Item = &'a str>) -> String {
    let names: String = domains.into_iter().map(|domain| format!("/{domain}")).collect();
    if names.is_empty() {
        return names;
    }
    format!("nftset={names}/4#inet#{DOMAINS}#domain4,6#inet#{DOMAINS}#domain6\n")
}

/// Takes the table away, and the rule and route; what is not there is no error.
pub fn take_down(client: &Client) -> io::Result<()> {
    let routed = if client.mode == Mode::Tproxy { route_marked(client, false) } else { Ok(()) };
    nft(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n"))?;
    routed
}

/// Packets with our mark are delivered to this machine, whatever their destination.
fn route_marked(client: &Client, add: bool) -> io::Result<()> {
    let mut connection = Connection::route().map_err(io::Error::other)?;
    let links = connection.links().map_err(io::Error::other)?;
    let lo = links.iter().find(|link| link.is_loopback()).map_or(1, |link| link.index);
    for any in [Prefix::ANY_V4, Prefix::ANY_V6] {
        let ipv6 = any.address.is_ipv6();
        let hop = NextHop { link: lo, gateway: None, dead: false };
        let route = Route { kind: LOCAL, scope: SCOPE_HOST, ..Route::unicast(any, client.route_table, hop) };
        let rule = Rule {
            mark: Some((client.mark, client.mark)),
            ..Rule::lookup(ipv6, RULE_PRIORITY, client.route_table)
        };
        let result = if add {
            connection.add_route(&route).and_then(|()| connection.add_rule(&rule))
        } else {
            connection.delete_rule(&rule).and_then(|()| connection.delete_route(&route))
        };
        match result {
            Ok(()) => {}
            Err(error) if add && error.errno() == Some(EEXIST) => {}
            // A kernel without IPv6; or nothing to take away.
            Err(_) if ipv6 || !add => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

fn set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    let _ = writeln!(text, "\tset {name} {{\n\t\ttype {kind}; flags interval; auto-merge;");
    if !elements.is_empty() {
        let _ = writeln!(text, "\t\telements = {{ {} }}", elements.join(", "));
    }
    text.push_str("\t}\n");
}

/// Runs one nft transaction.
pub fn nft(script: &str) -> io::Result<()> {
    run_nft(&["-f", "-"], script)
}

/// Whether nft and the kernel would take the script.
pub fn check(script: &str) -> io::Result<()> {
    run_nft(&["-c", "-f", "-"], script)
}

fn run_nft(arguments: &[&str], script: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("nft: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft: {}", text.lines().next().unwrap_or("failed without a message"))))
}

/// The networks of this router: what it reaches on a link, and its own addresses.
pub fn own_networks() -> io::Result<(Vec<Prefix>, Vec<IpAddr>)> {
    let mut connection = Connection::route().map_err(io::Error::other)?;
    let addresses = connection.addresses().map_err(io::Error::other)?;
    let networks = addresses
        .iter()
        .filter(|address| address.scope == 0)
        .map(|address| address.prefix)
        .filter(|prefix| prefix.length > 0)
        .collect();
    Ok((networks, addresses.iter().map(|address| address.prefix.address).collect()))
}
