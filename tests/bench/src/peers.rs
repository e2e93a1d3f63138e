// SPDX-License-Identifier: Apache-2.0
//! Who is measured: each in routers of its own, set up as its documentation says.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::process::Environment;
use lab::{Daemon, Netns};

use crate::bed::{client_config, Bed, HOST2, KEY, R2};
use crate::load::{ask, Service};

/// Where a peer's client half listens for redirected connections.
pub const LOCAL_PORT: u16 = 1100;
/// Where its server half listens.
pub const TUNNEL_PORT: u16 = 1101;
/// What every socket of the run uses, the only one that any namespace may choose.
pub const CONGESTION: &str = "reno";

/// Programs that are not in the PATH.
pub struct Programs {
    ours: PathBuf,
    shadowsocks: PathBuf,
}

impl Programs {
    /// Ours, and the directory with shadowsocks-rust.
    pub fn new(ours: PathBuf, shadowsocks: PathBuf) -> Self {
        assert!(ours.is_file(), "{} is missing", ours.display());
        assert!(shadowsocks.join("sslocal").is_file(), "{}/sslocal is missing", shadowsocks.display());
        Self { ours, shadowsocks }
    }

    /// The size of our binary.
    pub fn our_size(&self) -> u64 {
        fs::metadata(&self.ours).map_or(0, |file| file.len())
    }
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The routers forward; one path.
    Forwarding,
    /// [`crate::relay`]; one path.
    SpliceRelay,
    /// Ours, the payload as it is.
    OursNone,
    /// Ours, sealed.
    OursAead,
    /// Ours, the payload as it is, nothing ready in advance.
    OursNoPool,
    /// shadowsocks-rust without encryption.
    RustNone,
    /// shadowsocks-rust with AES-128-GCM.
    RustAes,
    /// shadowsocks-libev with its default, ChaCha20-Poly1305.
    Libev,
    /// A pair of haproxies.
    Haproxy,
    /// redsocks and microsocks.
    Redsocks,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "plain forwarding",
            Self::SpliceRelay => "TCP splice relay",
            Self::OursNone => "**mptcp-proxy** `none`",
            Self::OursAead => "**mptcp-proxy** `aead`",
            Self::OursNoPool => "**mptcp-proxy** `none`, pool 0",
            Self::RustNone => "shadowsocks-rust `none`",
            Self::RustAes => "shadowsocks-rust aes-128-gcm",
            Self::Libev => "shadowsocks-libev chacha20",
            Self::Haproxy => "haproxy pair",
            Self::Redsocks => "redsocks + microsocks",
        }
    }

    /// Whether it is ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::OursNone | Self::OursAead | Self::OursNoPool)
    }
}

/// Two routers with their halves at work, and their hosts.
pub struct Setup {
    pub kind: Kind,
    pub bed: Bed,
    /// Client and server half; none where the kernel forwards.
    pub halves: Vec<Daemon>,
    _environment: Environment,
}

impl Setup {
    /// Starts a pair and waits until it carries.
    pub fn new(kind: Kind, programs: &Programs, delays: Option<[Duration; 2]>) -> Self {
        let bed = delays.map_or_else(Bed::new, Bed::with_delays);
        for namespace in [&bed.host1, &bed.r1, &bed.r2, &bed.host2] {
            namespace.sysctl("net.ipv4.tcp_congestion_control", CONGESTION);
        }
        // The way back where nothing is between the hosts.
        bed.r2.ip("route add 10.1.0.0/24 via 10.11.0.1");
        let environment = Environment::new();
        let halves = match kind {
            Kind::Forwarding => vec![],
            Kind::OursNone => ours(&bed, programs, "", "none"),
            Kind::OursNoPool => ours(&bed, programs, "\toption pool '0'", "none"),
            Kind::OursAead => ours(&bed, programs, "", "aead"),
            _ => {
                join_paths(&bed);
                redirect(&bed);
                peer(kind, &bed, programs, &environment)
            }
        };
        let setup = Self { kind, bed, halves, _environment: environment };
        setup.wait_until_it_carries();
        setup
    }

    fn wait_until_it_carries(&self) {
        let service = Service::start(&self.bed.host2, 1);
        let limit = Instant::now() + Duration::from_secs(30);
        while ask(&self.bed.host1, service.address, Duration::from_secs(3)).is_err() {
            assert!(Instant::now() < limit, "{} does not carry", self.kind.name());
            std::thread::sleep(Duration::from_millis(50));
        }
        if self.kind.is_ours() {
            self.wait_for_paths();
        }
    }

    /// Waits until our daemon sees both paths up.
    pub fn wait_for_paths(&self) {
        self.halves[0].wait_for_status("both paths", |status| {
            (0..2).all(|path| status["paths"][path]["state"] == "up")
        });
    }

    /// Waits until so many connections are ready, where there is a pool.
    pub fn wait_for_pool(&self, least: u64) {
        if matches!(self.kind, Kind::OursNone | Kind::OursAead) {
            self.halves[0].wait_for_status("a warm pool", |status| {
                status["servers"][0]["pool"].as_u64() >= Some(least)
            });
        }
    }

    /// Limits the paths, both ways, to these rates in Mbit/s, with 4 ms of burst and 60 ms of queue.
    pub fn shape(&self, rates: [u32; 2]) {
        for router in [&self.bed.r1, &self.bed.r2] {
            for (path, rate) in ["p1", "p2"].into_iter().zip(rates) {
                // 4 ms are 500 bytes per Mbit/s.
                let burst = (rate * 500).max(5000);
                router.run(&format!(
                    "tc qdisc replace dev {path} root tbf rate {rate}mbit burst {burst} latency 60ms"
                ));
            }
        }
    }
}

fn ours(bed: &Bed, programs: &Programs, client: &str, encryption: &str) -> Vec<Daemon> {
    let start = |namespace: &Netns, environment: &Environment| {
        let command = environment.command_of(&programs.ours, ["--log-level", "warn"]);
        let socket = environment.socket("mptcp-proxy");
        namespace.enter(|| Daemon::start(command, "mptcp-proxy", socket))
    };
    bed.env2.write_config(
        "mptcp-proxy",
        &format!(
            "config server 'vps'\n\toption congestion '{CONGESTION}'\nconfig user 'r1'\n\toption key '{KEY}'\n"
        ),
    );
    let server = start(&bed.r2, &bed.env2);
    server.wait_until_ready();
    bed.env1
        .write_config("mptcp-proxy", &client_config(client, &format!("\toption encryption '{encryption}'")));
    let client = start(&bed.r1, &bed.env1);
    client.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
    vec![client, server]
}

/// What an operator does by hand: a routing table per path, and endpoints for both.
fn join_paths(bed: &Bed) {
    for (path, net) in [("p1", 11), ("p2", 12)] {
        bed.r1.ip(&format!("route add default via 10.{net}.0.2 dev {path} table {net}"));
        bed.r1.ip(&format!("rule add from 10.{net}.0.1 lookup {net}"));
        bed.r1.ip(&format!("mptcp endpoint add 10.{net}.0.1 dev {path} subflow"));
    }
    for router in [&bed.r1, &bed.r2] {
        router.ip("mptcp limits set subflow 4 add_addr_accepted 4");
    }
}

fn redirect(bed: &Bed) {
    bed.r1.run_with_input(
        "nft -f -",
        &format!(
            "table ip bench {{ chain pre {{ type nat hook prerouting priority dstnat; \
             iifname lan ip daddr {HOST2} meta l4proto tcp redirect to :{LOCAL_PORT}; }}; }}"
        ),
    );
}

fn peer(kind: Kind, bed: &Bed, programs: &Programs, environment: &Environment) -> Vec<Daemon> {
    let any = Ipv4Addr::UNSPECIFIED;
    let write = |name: &str, text: String| {
        let path = environment.data(name);
        fs::write(&path, text).expect("a file of configuration");
        path.to_string_lossy().into_owned()
    };
    let rust = |method: &str| {
        let server = format!(
            "{{\"server\":\"{any}\",\"server_port\":{TUNNEL_PORT},\"password\":\"bench\",\"method\":\"{method}\",\
             \"mode\":\"tcp_only\",\"mptcp\":true}}"
        );
        let client = format!(
            "{{\"server\":\"{R2}\",\"server_port\":{TUNNEL_PORT},\"password\":\"bench\",\"method\":\"{method}\",\
             \"mode\":\"tcp_only\",\"mptcp\":true,\"protocol\":\"redir\",\"tcp_redir\":\"redirect\",\
             \"local_address\":\"{any}\",\"local_port\":{LOCAL_PORT}}}"
        );
        let program = |name: &str| programs.shadowsocks.join(name).to_string_lossy().into_owned();
        [
            format!("{} -c {}", program("sslocal"), write("local.json", client)),
            format!("{} -c {}", program("ssserver"), write("server.json", server)),
        ]
    };
    let [client, server] = match kind {
        Kind::SpliceRelay => {
            let this = std::env::current_exe().expect("this program").to_string_lossy().into_owned();
            [format!("{this} relay client"), format!("{this} relay server")]
        }
        Kind::RustNone => rust("none"),
        Kind::RustAes => rust("aes-128-gcm"),
        Kind::Libev => {
            let common = format!("-p {TUNNEL_PORT} -k bench -m chacha20-ietf-poly1305 -n 8192");
            [
                format!("mptcpize run ss-redir -s {R2} -b {any} -l {LOCAL_PORT} {common}"),
                format!("mptcpize run ss-server -s {any} {common}"),
            ]
        }
        Kind::Haproxy => {
            let half = |name: &str, bind: String, server: String| {
                let text = format!(
                    "global\n maxconn 4096\n nbthread 1\ndefaults\n mode tcp\n option splice-auto\n \
                     timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten relay\n bind {bind}\n \
                     server other {server}\n"
                );
                format!("mptcpize run /usr/sbin/haproxy -q -db -f {}", write(name, text))
            };
            [
                half(
                    "client.cfg",
                    format!("{any}:{LOCAL_PORT}"),
                    format!("{R2}:{TUNNEL_PORT} send-proxy-v2"),
                ),
                half("server.cfg", format!("{any}:{TUNNEL_PORT} accept-proxy"), format!("{any}:0")),
            ]
        }
        Kind::Redsocks => {
            let text = format!(
                "base {{ log_debug = off; log_info = off; log = \"stderr\"; daemon = off; redirector = iptables; }}\n\
                 redsocks {{ local_ip = {any}; local_port = {LOCAL_PORT}; ip = {R2}; port = {TUNNEL_PORT}; \
                 type = socks5; }}\n"
            );
            [
                format!("mptcpize run /usr/sbin/redsocks -c {}", write("redsocks.conf", text)),
                format!("mptcpize run microsocks -i {any} -p {TUNNEL_PORT}"),
            ]
        }
        Kind::Forwarding | Kind::OursNone | Kind::OursAead | Kind::OursNoPool => unreachable!("no peer"),
    };
    let start = |namespace: &Netns, line: &str| {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        namespace.enter(|| Daemon::start(command, kind.name(), environment.socket("none")))
    };
    let server = start(&bed.r2, &server);
    vec![start(&bed.r1, &client), server]
}
