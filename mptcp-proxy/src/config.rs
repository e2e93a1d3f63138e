// SPDX-License-Identifier: Apache-2.0
//! `/etc/config/mptcp-proxy` as a valid configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use openwrt::netlink::Prefix;
use openwrt::uci::{Package, Problems, Reader};

use crate::record::Cipher;
use crate::session::Key;

/// The UCI package.
pub const PACKAGE: &str = "mptcp-proxy";
const DEFAULT_PORT: u16 = 1088;
/// Shared address space (RFC 6598), where no LAN should be.
const PACKET_POOL: Ipv4Addr = Ipv4Addr::new(100, 127, 88, 0);
/// Unique local addresses (RFC 4193).
const PACKET_POOL_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x7074, 0x6370, 0, 0, 0, 0, 0);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Everything of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `globals.enabled`.
    pub enabled: bool,
    /// Where alerts go.
    pub alerts: alerts::Config,
    /// The client halves that are enabled.
    pub clients: Vec<Rc<Client>>,
    /// The server halves that are enabled.
    pub servers: Vec<Rc<Server>>,
    /// The ways to the servers.
    pub paths: Vec<PathConfig>,
    /// Where clients' addresses for other protocols come from: IPv4, IPv6.
    pub packet_pool: [Prefix; 2],
}

/// How traffic of the LAN is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// nft TPROXY.
    Tproxy,
    /// nft REDIRECT.
    Redirect,
    /// A SOCKS5 listener.
    Socks,
}

/// What happens to new connections while no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Out by plain TCP.
    Direct,
    /// Refused with a reset.
    Block,
}

/// A client half.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Name of the section.
    pub name: String,
    /// Servers in order of priority.
    pub upstreams: Vec<Rc<Upstream>>,
    /// How traffic is taken.
    pub mode: Mode,
    /// Where our listener is.
    pub listen_port: u16,
    /// Logical interfaces whose traffic is taken.
    pub interfaces: Vec<String>,
    /// Firewall zones whose traffic is taken.
    pub zones: Vec<String>,
    /// Devices whose traffic is taken.
    pub devices: Vec<String>,
    /// Destinations left alone.
    pub bypass: Vec<Prefix>,
    /// Destination ports left alone.
    pub bypass_ports: Vec<(u16, u16)>,
    /// Hosts left alone.
    pub bypass_sources: Vec<Prefix>,
    /// Domains left alone.
    pub bypass_domains: Vec<String>,
    /// Connections kept ready per server, at most.
    pub pool: usize,
    /// What happens while no server answers.
    pub fallback: Fallback,
    /// Bit of the packet mark by which intercepted packets find the listener.
    pub mark: u32,
    /// Routing table for them; path `n` gets the table `route_table + 1 + n`.
    pub route_table: u32,
    /// Congestion control of the tunnel.
    pub congestion: Option<String>,
    /// Connections of one host, at most.
    pub max_connections_per_host: usize,
    /// A connection that does nothing is ended after this.
    pub idle_timeout: Duration,
    /// The same after one direction has ended.
    pub half_open_timeout: Duration,
    /// Datagrams are taken as well (`tproxy` only).
    pub udp: bool,
    /// A socket of the LAN that neither sends nor receives is forgotten after this.
    pub udp_timeout: Duration,
    /// Packets that are neither TCP nor UDP are taken as well.
    pub other_protocols: bool,
    /// Where dnsmasq may ask for names; 0 for nowhere.
    pub dns_port: u16,
    /// Names the uplink's resolvers, for the time no server answers.
    pub resolv_file: PathBuf,
}

/// A server as its clients know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Name of the section.
    pub name: Rc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The key both sides have.
    pub key: Key,
    /// How the payload is protected.
    pub cipher: Cipher,
}

/// A server half.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Name of the section.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Private destinations that clients may reach.
    pub allow: Vec<Prefix>,
    /// Destinations that clients may not reach.
    pub deny: Vec<Prefix>,
    /// Relayed connections, at most.
    pub max_connections: usize,
    /// Tell targets the client's address (PROXY protocol version 2).
    pub proxy_protocol: bool,
    /// Congestion control of the tunnel.
    pub congestion: Option<String>,
    /// Who may use it.
    pub users: Vec<User>,
    /// Names the resolvers that answer the clients' questions.
    pub resolv_file: PathBuf,
    /// A connection that does nothing is ended after this.
    pub idle_timeout: Duration,
    /// The same after one direction has ended.
    pub half_open_timeout: Duration,
}

/// Someone who may use a server.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Name of the section.
    pub name: Rc<str>,
    /// The key both sides have.
    pub key: Key,
    /// Relayed connections, at most.
    pub max_connections: usize,
    /// May send packets that are neither TCP nor UDP.
    pub other_protocols: bool,
}

/// What a path is used for, in the words of OpenMPTCProuter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Used, and preferred for the first subflow.
    Master,
    /// Used.
    On,
    /// Used when no other is left.
    Backup,
    /// Not used.
    Off,
}

/// A way to the servers.
#[derive(Debug, Clone, PartialEq)]
pub struct PathConfig {
    /// Name of the section or interface.
    pub name: String,
    /// Logical interface.
    pub interface: Option<String>,
    /// Device, where no interface is given.
    pub device: Option<String>,
    /// What it is used for.
    pub role: Role,
    /// Pace of probes while there are connections.
    pub probe_interval: Duration,
    /// Pace of probes otherwise.
    pub idle_probe_interval: Duration,
    /// Lost probes in a row until it counts as down.
    pub down_after: u32,
    /// Answered probes in a row until it counts as up.
    pub up_after: u32,
    /// Whether we keep a routing table for it where there is none.
    pub source_routing: bool,
}

const ROLES: [(&str, Role); 4] =
    [("master", Role::Master), ("on", Role::On), ("backup", Role::Backup), ("off", Role::Off)];

impl Config {
    /// Reads the package, and `/etc/config/network` for the option `multipath` where no path is configured.
    pub fn read(package: &Package, network: Option<&Package>, problems: &mut Problems) -> Self {
        let mut globals = Reader::new(PACKAGE, package.section("globals"), problems);
        let enabled = globals.flag("enabled", true);
        let alerts = alerts::Config::read(&mut globals);
        let packet_pool = [
            packet_pool(&mut globals, "packet_pool", Prefix { address: PACKET_POOL.into(), length: 24 }),
            packet_pool(&mut globals, "packet_pool6", Prefix { address: PACKET_POOL_V6.into(), length: 64 }),
        ];
        globals.finish();
        let upstreams: Vec<Rc<Upstream>> = package
            .of_kind("upstream")
            .filter_map(|section| Upstream::read(section, problems))
            .map(Rc::new)
            .collect();
        let clients = package
            .of_kind("client")
            .filter_map(|section| Client::read(section, &upstreams, problems))
            .map(Rc::new)
            .collect();
        let users: Vec<(Option<String>, User)> =
            package.of_kind("user").filter_map(|section| User::read(section, problems)).collect();
        let servers = package
            .of_kind("server")
            .filter_map(|section| Server::read(section, &users, problems))
            .map(Rc::new)
            .collect();
        let mut paths: Vec<PathConfig> =
            package.of_kind("path").filter_map(|section| PathConfig::read(section, problems)).collect();
        if paths.is_empty() {
            paths = network.map(PathConfig::of_network).unwrap_or_default();
        }
        let (clients, servers): (Vec<Rc<Client>>, Vec<Rc<Server>>) = (clients, servers);
        for client in &clients {
            if servers.iter().any(|server| server.listen.port() == client.listen_port) {
                let mut reader = Reader::new(PACKAGE, package.section(&client.name), problems);
                let port = client.listen_port.to_string();
                reader.problem(
                    "listen_port",
                    Some(&port),
                    "the server half listens there: give each half a port of its own",
                );
            }
        }
        for section in package.sections() {
            const KINDS: [&str; 6] = ["globals", "client", "upstream", "server", "user", "path"];
            if !KINDS.contains(&section.kind()) {
                let mut reader = Reader::new(PACKAGE, Some(section), problems);
                reader.problem(
                    "",
                    None,
                    format!("unknown section type, expected one of {}", KINDS.join(", ")),
                );
            }
        }
        Config { enabled, alerts, clients, servers, paths, packet_pool }
    }
}

type Section = openwrt::uci::Section;

impl Upstream {
    fn read(section: &Section, problems: &mut Problems) -> Option<Self> {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let address: Option<IpAddr> = reader.parsed("address", |text| {
            // A name would have to be resolved before the tunnel is up, possibly through the tunnel.
            text.trim().parse().map_err(|_| "expected an IP address".to_owned())
        });
        if address.is_none() && !reader.has("address") {
            reader.problem("address", None, "missing: the address of the server");
        }
        let port = reader.port("port", DEFAULT_PORT);
        let key = read_key(&mut reader);
        let encrypt = reader.choice("encryption", &[("none", false), ("aead", true)], true);
        reader.finish();
        let cipher = if encrypt { Cipher::fastest() } else { Cipher::None };
        Some(Upstream {
            name: section.name().into(),
            address: SocketAddr::new(address?, port),
            key: key?,
            cipher,
        })
    }
}

impl Client {
    fn read(section: &Section, upstreams: &[Rc<Upstream>], problems: &mut Problems) -> Option<Self> {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let enabled = reader.flag("enabled", true);
        if !enabled {
            return None;
        }
        let chosen = reader.list_of("server", |name| {
            let found = upstreams.iter().find(|upstream| *upstream.name == *name).cloned();
            found.ok_or_else(|| "expected the name of a usable `config upstream` section".to_owned())
        });
        if chosen.is_empty() {
            reader.problem("server", None, "missing: the name of at least one `config upstream` section");
        }
        let mode = reader.choice(
            "mode",
            &[("tproxy", Mode::Tproxy), ("redirect", Mode::Redirect), ("socks", Mode::Socks)],
            Mode::Tproxy,
        );
        let client = Client {
            name: section.name().to_owned(),
            upstreams: chosen,
            mode,
            listen_port: reader.port("listen_port", DEFAULT_PORT),
            interfaces: reader.list_of("interface", word),
            zones: reader.list_of("zone", word),
            devices: reader.list_of("device", device),
            bypass: reader.list_of("bypass", str::parse),
            bypass_ports: reader.list_of("bypass_port", port_range),
            bypass_sources: reader.list_of("bypass_source", str::parse),
            bypass_domains: reader.list_of("bypass_domain", domain),
            pool: reader.integer("pool", 0..=64u32, 8) as usize,
            fallback: reader.choice(
                "fallback",
                &[("direct", Fallback::Direct), ("block", Fallback::Block)],
                Fallback::Direct,
            ),
            mark: reader
                .parsed("mark", |text| {
                    parse_mark(text).ok_or_else(|| "expected one bit, such as 0x1000000".to_owned())
                })
                .unwrap_or(0x0100_0000),
            route_table: reader.integer("route_table", 1000..=u32::MAX - 1000, 10_880),
            congestion: reader.parsed("congestion", word),
            max_connections_per_host: reader.integer("max_connections_per_host", 1..=1_000_000u32, 1024)
                as usize,
            idle_timeout: reader.duration("idle_timeout", MINUTE..=7 * DAY, 120 * MINUTE),
            half_open_timeout: reader.duration("half_open_timeout", Duration::from_secs(1)..=DAY, MINUTE),
            udp: reader.flag("udp", true),
            udp_timeout: reader.duration("udp_timeout", Duration::from_secs(1)..=DAY, MINUTE),
            other_protocols: reader.flag("other_protocols", false),
            dns_port: reader.integer("dns_port", 0..=u16::MAX, 0),
            resolv_file: resolv_file(&mut reader),
        };
        let sources = [&client.interfaces, &client.zones, &client.devices];
        if mode != Mode::Socks && sources.iter().all(|list| list.is_empty()) {
            reader.problem("interface", None, "missing: whose traffic to take (interface, zone or device)");
        }
        reader.finish();
        (!client.upstreams.is_empty()).then_some(client)
    }
}

impl Server {
    fn read(section: &Section, users: &[(Option<String>, User)], problems: &mut Problems) -> Option<Self> {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let enabled = reader.flag("enabled", true);
        let listen = reader.parsed("listen", |text| {
            text.trim().parse().map_err(|_| "expected an IP address, :: for all".to_owned())
        });
        let port = reader.port("port", DEFAULT_PORT);
        let name = section.name();
        let own = users.iter().filter(|(server, _)| server.as_deref().is_none_or(|server| server == name));
        let server = Server {
            name: name.to_owned(),
            listen: SocketAddr::new(listen.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), port),
            allow: reader.list_of("allow_target", str::parse),
            deny: reader.list_of("deny_target", str::parse),
            max_connections: reader.integer("max_connections", 1..=1_000_000u32, 4096) as usize,
            proxy_protocol: reader.flag("proxy_protocol", false),
            congestion: reader.parsed("congestion", word),
            users: own.map(|(_, user)| user.clone()).collect(),
            resolv_file: resolv_file(&mut reader),
            idle_timeout: reader.duration("idle_timeout", MINUTE..=7 * DAY, 120 * MINUTE),
            half_open_timeout: reader.duration("half_open_timeout", Duration::from_secs(1)..=DAY, MINUTE),
        };
        if enabled && server.users.is_empty() {
            reader.problem("", None, "nobody can use it: no usable `config user` section");
        }
        reader.finish();
        (enabled && !server.users.is_empty()).then_some(server)
    }
}

impl Server {
    /// Whether somebody may send it packets that are neither TCP nor UDP.
    pub fn carries_packets(&self) -> bool {
        self.users.iter().any(|user| user.other_protocols)
    }
}

impl User {
    fn read(section: &Section, problems: &mut Problems) -> Option<(Option<String>, Self)> {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let server = reader.optional_text("server");
        let key = read_key(&mut reader);
        let max_connections = reader.integer("max_connections", 1..=1_000_000u32, 4096) as usize;
        let other_protocols = reader.flag("other_protocols", false);
        reader.finish();
        Some((server, User { name: section.name().into(), key: key?, max_connections, other_protocols }))
    }
}

impl PathConfig {
    fn read(section: &Section, problems: &mut Problems) -> Option<Self> {
        let millisecond = Duration::from_millis(1);
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let interface = reader.parsed("interface", word);
        let device = reader.parsed("device", device);
        if interface.is_none() && device.is_none() {
            reader.problem("interface", None, "missing: the interface (or device) of the path");
        }
        let path = PathConfig {
            name: section.name().to_owned(),
            interface,
            device,
            role: reader.choice("role", &ROLES, Role::On),
            probe_interval: reader.duration("probe_interval", 20 * millisecond..=MINUTE, 100 * millisecond),
            idle_probe_interval: reader.duration(
                "idle_probe_interval",
                100 * millisecond..=60 * MINUTE,
                Duration::from_secs(10),
            ),
            down_after: reader.integer("down_after", 1..=100, 2),
            up_after: reader.integer("up_after", 1..=100, 3),
            source_routing: reader.flag("source_routing", true),
        };
        reader.finish();
        (path.interface.is_some() || path.device.is_some()).then_some(path)
    }

    /// The interfaces of `/etc/config/network` that carry the option `multipath`.
    fn of_network(network: &Package) -> Vec<Self> {
        let marked = network.of_kind("interface").filter_map(|section| {
            let role = section.get("multipath")?;
            let role = ROLES.iter().find(|(name, _)| *name == role)?.1;
            Some(PathConfig {
                name: section.name().to_owned(),
                interface: Some(section.name().to_owned()),
                device: section.get("device").map(str::to_owned),
                role,
                probe_interval: Duration::from_millis(100),
                idle_probe_interval: Duration::from_secs(10),
                down_after: 2,
                up_after: 3,
                source_routing: true,
            })
        });
        marked.collect()
    }
}

/// Where netifd writes the resolvers of the uplinks: those of `/etc/resolv.conf` are this router's own dnsmasq, which
/// may ask us.
fn resolv_file(reader: &mut Reader<'_>) -> PathBuf {
    reader.text("resolv_file", "/tmp/resolv.conf.d/resolv.conf.auto").into()
}

/// A network of the same family as the usual one, not so small that there is no room, and without host bits.
fn packet_pool(reader: &mut Reader<'_>, option: &str, usual: Prefix) -> Prefix {
    let read = |text: &str| {
        let network: Prefix = text.trim().parse()?;
        let (fits, length) = match (usual.address, network.address) {
            (IpAddr::V4(_), IpAddr::V4(v4)) => {
                (v4.to_bits().checked_shl(network.length.into()).unwrap_or(0) == 0, 8..=29)
            }
            (IpAddr::V6(_), IpAddr::V6(v6)) => {
                (v6.to_bits().checked_shl(network.length.into()).unwrap_or(0) == 0, 32..=120)
            }
            _ => (false, 0..=0),
        };
        let fits = length.contains(&network.length) && fits;
        fits.then_some(network).ok_or_else(|| format!("expected a network such as {usual}"))
    };
    reader.parsed(option, read).unwrap_or(usual)
}

fn read_key(reader: &mut Reader<'_>) -> Option<Key> {
    let secret = reader.secret("key");
    let key = secret.as_ref().and_then(|secret| Key::parse(secret.expose()));
    if key.is_none() {
        let reason = match secret {
            None => "missing: 32 bytes of base64, as `mptcp-proxy genkey` prints",
            Some(_) => "expected 32 bytes of base64, as `mptcp-proxy genkey` prints",
        };
        reader.problem("key", None, reason);
    }
    key
}

fn parse_mark(text: &str) -> Option<u32> {
    let text = text.trim();
    let mark = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    (mark.count_ones() == 1).then_some(mark)
}

fn word(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    fits.then(|| text.to_owned()).ok_or_else(|| "expected a name".to_owned())
}

/// A device name as the kernel takes it; nothing that could end the quotes of an nft script.
fn device(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@+".contains(&b));
    fits.then(|| text.to_owned()).ok_or_else(|| "expected the name of a network device".to_owned())
}

fn domain(text: &str) -> Result<String, String> {
    let text = text.trim().trim_start_matches("*.").trim_matches('.');
    let fits = (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    fits.then(|| text.to_ascii_lowercase()).ok_or_else(|| "expected a domain".to_owned())
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "expected a port or a range such as 5060-5061".to_owned();
    let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
    let range: (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    (range.0 >= 1 && range.0 <= range.1).then_some(range).ok_or_else(wrong)
}
