// SPDX-License-Identifier: Apache-2.0
//! The test bed: host1 – r1 =(p1, p2)= r2 – host2, each in a namespace of its own.
//!
//! r2 is reached at one address (as a rented server is), r1 has one address per path. The hosts do not speak MPTCP.
//! Nothing routes host1's network back, so that only the proxy can connect the hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::process::{Daemon, Environment};
use lab::{DelayTun, Netns};

/// Nothing in these tests takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// 32 bytes of base64.
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Another key.
pub const OTHER_KEY: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
/// Where r2 is reached.
pub const R2: &str = "203.0.113.2";
/// A public address of host2.
pub const HOST2: &str = "198.51.100.2";
/// Its IPv6 address.
pub const HOST2_V6: &str = "2001:db8:2::2";
/// An address of host2 in r2's private network.
pub const HOST2_PRIVATE: &str = "10.2.0.2";

/// The namespaces and the two routers' daemons.
pub struct Bed {
    pub host1: Netns,
    pub r1: Netns,
    pub r2: Netns,
    pub host2: Netns,
    pub env1: Environment,
    pub env2: Environment,
    /// The paths, where they have a delay.
    pub links: Vec<DelayTun>,
}

impl Bed {
    /// Paths without delay.
    pub fn new() -> Self {
        Self::build(None)
    }

    /// Paths with this delay each way.
    pub fn with_delays(delays: [Duration; 2]) -> Self {
        Self::build(Some(delays))
    }

    fn build(delays: Option<[Duration; 2]>) -> Self {
        let mut bed = Bed {
            host1: Netns::new("host1"),
            r1: Netns::new("r1"),
            r2: Netns::new("r2"),
            host2: Netns::new("host2"),
            env1: Environment::new(),
            env2: Environment::new(),
            links: Vec::new(),
        };
        for (index, path) in ["p1", "p2"].into_iter().enumerate() {
            match delays {
                Some(delays) => bed.links.push(DelayTun::join(&bed.r1, &bed.r2, path, delays[index])),
                None => bed.r1.join(path, &bed.r2, path),
            }
        }
        let Bed { host1, r1, r2, host2, .. } = &bed;
        for namespace in [host1, r1, r2, host2] {
            namespace.sysctl("net.ipv6.conf.all.accept_dad", "0");
            namespace.sysctl("net.ipv6.conf.default.accept_dad", "0");
        }
        host1.sysctl("net.mptcp.enabled", "0");
        host2.sysctl("net.mptcp.enabled", "0");
        for router in [r1, r2] {
            router.sysctl("net.ipv4.ip_forward", "1");
            router.sysctl("net.ipv6.conf.all.forwarding", "1");
            router.sysctl("net.ipv4.conf.all.rp_filter", "0");
            router.sysctl("net.ipv4.conf.default.rp_filter", "0");
        }
        host1.join("eth0", r1, "lan");
        host2.join("eth0", r2, "lan");

        host1.ip("addr add 10.1.0.2/24 dev eth0");
        host1.ip("addr add 2001:db8:1::2/64 dev eth0 nodad");
        r1.ip("addr add 10.1.0.1/24 dev lan");
        r1.ip("addr add 2001:db8:1::1/64 dev lan nodad");
        host1.ip("route add default via 10.1.0.1");
        host1.ip("-6 route add default via 2001:db8:1::1");
        for (path, net) in [("p1", 11), ("p2", 12)] {
            r1.ip(&format!("addr add 10.{net}.0.1/24 dev {path}"));
            r2.ip(&format!("addr add 10.{net}.0.2/24 dev {path}"));
        }
        r1.ip("route add default via 10.11.0.2 dev p1 metric 1");
        r1.ip("route add default via 10.12.0.2 dev p2 metric 2");
        r2.ip(&format!("addr add {R2}/32 dev lo"));
        r2.ip("addr add 10.2.0.1/24 dev lan");
        r2.ip("addr add 198.51.100.1/24 dev lan");
        r2.ip("addr add 2001:db8:2::1/64 dev lan nodad");
        host2.ip("addr add 10.2.0.2/24 dev eth0");
        host2.ip("addr add 198.51.100.2/24 dev eth0");
        host2.ip("addr add 2001:db8:2::2/64 dev eth0 nodad");
        host2.ip("route add default via 198.51.100.1");
        host2.ip("-6 route add default via 2001:db8:2::1");
        bed
    }

    /// Limits both paths, both ways, to so many Mbit/s.
    pub fn shape(&self, mbit: u32) {
        for router in [&self.r1, &self.r2] {
            for path in ["p1", "p2"] {
                router.run(&format!(
                    "tc qdisc replace dev {path} root tbf rate {mbit}mbit burst 4kb latency 60ms"
                ));
            }
        }
    }

    /// Starts the server half on r2 with the usual configuration and these further lines in its server section.
    pub fn start_server(&self, more: &str) -> Daemon {
        self.env2.write_config(
            "mptcp-proxy",
            &format!(
                "config server 'vps'\n\toption congestion 'reno'\n{more}\nconfig user 'r1'\n\toption server 'vps'\n\toption key '{KEY}'\n"
            ),
        );
        start(&self.r2, &self.env2)
    }

    /// Starts the client half on r1; `client` and `upstream` are further lines of these sections.
    pub fn start_client(&self, client: &str, upstream: &str) -> Daemon {
        self.env1.write_config("mptcp-proxy", &client_config(client, upstream));
        let daemon = start(&self.r1, &self.env1);
        daemon.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
        daemon
    }

    /// A listener on host2 whose connections are handed to `serve`, each on a thread.
    pub fn serve(&self, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> Service {
        self.serve_at(&format!("{HOST2}:0"), serve)
    }

    /// The same at this address of host2.
    pub fn serve_at(
        &self,
        address: &str,
        serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
    ) -> Service {
        service(&self.host2, address, serve)
    }

    /// A connection of host1.
    pub fn connect(&self, address: SocketAddr) -> TcpStream {
        connect(&self.host1, address)
    }
}

/// The client's configuration, with path sections.
pub fn client_config(client: &str, upstream: &str) -> String {
    format!(
        "config client 'lan'\n\tlist server 'vps'\n\tlist device 'lan'\n\toption congestion 'reno'\n{client}\n\
         config upstream 'vps'\n\toption address '{R2}'\n\toption key '{KEY}'\n{upstream}\n\
         config path 'one'\n\toption device 'p1'\n\nconfig path 'two'\n\toption device 'p2'\n"
    )
}

/// Starts a daemon inside a namespace.
pub fn start(namespace: &Netns, environment: &Environment) -> Daemon {
    let daemon = namespace.enter(|| environment.spawn("mptcp-proxy"));
    // It answers once its halves are up.
    daemon.call("status", &serde_json::json!({})).unwrap();
    daemon
}

/// A service on a host, until it is dropped.
pub struct Service {
    pub address: SocketAddr,
}

/// A listener whose connections are handed to `serve`, each on a thread of the test.
pub fn service(
    namespace: &Netns,
    address: &str,
    serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
) -> Service {
    let listener = namespace.enter(|| TcpListener::bind(address).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    Service { address }
}

pub fn connect(namespace: &Netns, address: SocketAddr) -> TcpStream {
    try_connect(namespace, address).unwrap()
}

pub fn try_connect(namespace: &Netns, address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = namespace.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends back what comes, and ends when the other side has.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Bytes without a pattern that a mistake could hide in.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends everything and ends, while another thread reads everything; returns what came back.
pub fn exchange(stream: &TcpStream, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut writer = stream.try_clone().unwrap();
    let sender: JoinHandle<std::io::Result<()>> = std::thread::spawn(move || {
        writer.write_all(&bytes)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut received = Vec::new();
    let read = (&*stream).read_to_end(&mut received);
    sender.join().unwrap()?;
    read.map(|_| received)
}

/// The path stops passing packets, its links stay up.
pub fn silence(bed: &Bed, path: &str) {
    for router in [&bed.r1, &bed.r2] {
        let script = format!(
            "table inet silence {{ chain input {{ type filter hook prerouting priority -400; iifname {path} drop; }}; \
             chain output {{ type filter hook postrouting priority 400; oifname {path} drop; }}; }}"
        );
        router.run_with_input("nft -f -", &script);
    }
}

/// The end of [`silence`].
pub fn end_silence(bed: &Bed) {
    for router in [&bed.r1, &bed.r2] {
        router.run("nft delete table inet silence");
    }
}
