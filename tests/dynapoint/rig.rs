// SPDX-License-Identifier: Apache-2.0
//! A router and the Internet behind it, in two namespaces joined by a veth pair.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::{Daemon, Environment, Netns};

/// Address of the Internet's only host.
pub const HOST_V4: &str = "10.9.0.2";
/// The same.
pub const HOST_V6: &str = "fd09::2";

/// Router and Internet; the router's link is `wan`.
pub struct Rig {
    pub env: Environment,
    pub router: Netns,
    pub internet: Netns,
    /// `ip netns exec` lays this over `/etc/resolv.conf`.
    resolv_dir: PathBuf,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Environment::new())
    }

    pub fn with(env: Environment) -> Self {
        let (router, internet) = (Netns::new("router"), Netns::new("internet"));
        router.join("wan", &internet, "up0");
        router.ip("addr add 10.9.0.1/24 dev wan");
        router.ip("addr add fd09::1/64 dev wan nodad");
        internet.ip(&format!("addr add {HOST_V4}/24 dev up0"));
        internet.ip(&format!("addr add {HOST_V6}/64 dev up0 nodad"));
        router.ip(&format!("route add default via {HOST_V4}"));
        router.ip(&format!("-6 route add default via {HOST_V6}"));
        let resolv_dir = PathBuf::from("/etc/netns").join(router.name());
        std::fs::create_dir_all(&resolv_dir).expect("a directory below /etc/netns, needs root");
        std::fs::write(resolv_dir.join("resolv.conf"), format!("nameserver {HOST_V4}\n"))
            .expect("resolv.conf");
        Self { env, router, internet, resolv_dir }
    }

    /// A dynapoint command inside the router.
    pub fn command(&self, args: &[&str]) -> Command {
        let inner = self.env.command("dynapoint", args);
        let mut command = self.router.command(&inner.get_program().to_string_lossy());
        command.args(inner.get_args());
        command
    }

    /// Starts the daemon inside the router.
    pub fn start(&self) -> Daemon {
        let daemon =
            Daemon::start(self.command(&["--log-level", "debug"]), "dynapoint", self.env.socket("dynapoint"));
        daemon.wait_until_ready();
        daemon
    }

    /// The Internet swallows everything, in one family or both (`ip`, `ip6`, `inet`).
    pub fn black_hole(&self, family: &str) {
        self.internet.run(&format!("nft add table {family} hole"));
        self.internet
            .run(&format!("nft add chain {family} hole in {{ type filter hook input priority 0 ; }}"));
        // Neighbour discovery goes on, as it does when the trouble is further away.
        if family != "ip" {
            self.internet.run(&format!(
                "nft add rule {family} hole in icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"
            ));
        }
        self.internet.run(&format!("nft add rule {family} hole in drop"));
    }

    pub fn end_black_hole(&self, family: &str) {
        self.internet.run(&format!("nft delete table {family} hole"));
    }

    pub fn cut_link(&self) {
        self.internet.ip("link set up0 down");
    }

    pub fn mend_link(&self) {
        self.internet.ip("link set up0 up");
        // Taking a link down takes IPv6 addresses with it.
        self.internet.ip(&format!("addr replace {HOST_V6}/64 dev up0 nodad"));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.resolv_dir);
    }
}

/// A web server in the Internet, for both families.
pub struct Web {
    shared: Arc<WebShared>,
    threads: Vec<JoinHandle<()>>,
}

struct WebShared {
    stopping: AtomicBool,
    answers: Mutex<Answers>,
    requests: Mutex<Vec<Instant>>,
}

struct Answers {
    /// Given first, one by one.
    script: Vec<String>,
    /// Given from then on.
    then: String,
}

/// An answer with this status line rest, these headers and this body.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

impl Web {
    pub fn start(rig: &Rig, port: u16) -> Self {
        let shared = Arc::new(WebShared {
            stopping: AtomicBool::new(false),
            answers: Mutex::new(Answers { script: vec![], then: answer("200 OK", "", "success\n") }),
            requests: Mutex::default(),
        });
        let threads = [HOST_V4.to_owned(), format!("[{HOST_V6}]")]
            .map(|host| {
                let listener =
                    rig.internet.enter(|| TcpListener::bind(format!("{host}:{port}")).expect("a free port"));
                listener.set_nonblocking(true).expect("a socket");
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&listener, &shared))
            })
            .into();
        Self { shared, threads }
    }

    /// Answers so from now on.
    pub fn set(&self, answer: String) {
        self.shared.answers.lock().unwrap().then = answer;
    }

    /// Answers so, one by one, before it answers as before.
    pub fn script(&self, answers: Vec<String>) {
        self.shared.answers.lock().unwrap().script = answers;
    }

    pub fn script_is_done(&self) -> bool {
        self.shared.answers.lock().unwrap().script.is_empty()
    }

    /// When it was asked.
    pub fn requests(&self) -> Vec<Instant> {
        self.shared.requests.lock().unwrap().clone()
    }
}

fn serve(listener: &TcpListener, shared: &WebShared) {
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut request = Vec::new();
        let mut piece = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(length) if length > 0 => request.extend_from_slice(&piece[..length]),
                _ => break,
            }
        }
        if request.is_empty() {
            // A bare connection, from a check of type tcp.
            continue;
        }
        shared.requests.lock().unwrap().push(Instant::now());
        let mut answers = shared.answers.lock().unwrap();
        let text = if answers.script.is_empty() { answers.then.clone() } else { answers.script.remove(0) };
        drop(answers);
        let _ = stream.write_all(text.as_bytes());
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A resolver in the Internet: every name has both of the host's addresses, `v4.test` only one, `no.test` none.
pub struct Resolver {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    pub fn start(rig: &Rig) -> Self {
        let socket = rig.internet.enter(|| UdpSocket::bind((HOST_V4, 53)).expect("port 53 in the namespace"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                let _ = socket.send_to(&resolve(&question[..length]), from);
            }
        });
        Self { stopping, thread: Some(thread) }
    }
}

fn resolve(question: &[u8]) -> Vec<u8> {
    let mut reply = question.to_vec();
    let aaaa = question[question.len() - 3] == 28;
    let has = |name: &[u8]| question.windows(name.len()).any(|window| window == name);
    if has(b"\x02no\x04test") {
        reply[2..4].copy_from_slice(&[0x81, 0x83]);
        return reply;
    }
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    if aaaa && has(b"\x02v4\x04test") {
        return reply;
    }
    reply[7] = 1;
    reply.extend([0xc0, 0x0c, 0, question[question.len() - 3], 0, 1, 0, 0, 0, 1]);
    if aaaa {
        reply.extend([0, 16]);
        reply.extend(HOST_V6.parse::<std::net::Ipv6Addr>().unwrap().octets());
    } else {
        reply.extend([0, 4]);
        reply.extend(HOST_V4.parse::<std::net::Ipv4Addr>().unwrap().octets());
    }
    reply
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
