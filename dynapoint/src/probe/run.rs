// SPDX-License-Identifier: Apache-2.0
//! Makes a check.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::netlink::{wire::Builder, wire::ACK, Connection, Neighbour};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::dns::Answer;
use super::ground::{any_address, random, words, Ground};
use super::http::{self, Expect};
use super::url::{Host, Url};
use super::{batman, icmp};
use crate::check::{Check, Kind};
use crate::uplink::Network;
use crate::verdict::{Families, Family, Outcome};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took; `None` where nothing was asked.
    pub latency: Option<Duration>,
}

/// What a check is made with.
#[derive(Debug, Clone)]
pub struct Context {
    /// What the kernel and netifd say at the moment.
    pub network: Rc<RefCell<Network>>,
    /// Name of the rule, for scripts.
    pub rule: String,
    /// Families the rule wants.
    pub families: Families,
    /// How this check ended the last time in this lane.
    pub last: Option<Outcome>,
}

/// Makes one check in one lane. Takes at most the check's timeout; leaves no process and no socket behind.
pub async fn run(check: &Check, family: Option<Family>, context: &Context) -> Finding {
    let begin = Instant::now();
    let outcome = match not_in_this_family(check, family, context) {
        Some(reason) => Outcome::Skipped(reason),
        None => within_its_time(check, family, context).await,
    };
    let asked = !matches!(outcome, Outcome::Skipped(_));
    Finding { outcome, latency: asked.then(|| begin.elapsed()) }
}

/// With `family any` a family without a default route does not count as long as the other one has one.
fn not_in_this_family(check: &Check, family: Option<Family>, context: &Context) -> Option<String> {
    let family = family?;
    if check.families.unwrap_or(context.families) != Families::Any {
        return None;
    }
    let network = context.network.borrow();
    let device = check.interface.as_deref().and_then(|interface| network.device(interface).ok());
    let has = |family| network.gateway(family, device).is_some();
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    (!has(family) && has(other)).then(|| format!("no {family} default route"))
}

async fn within_its_time(check: &Check, family: Option<Family>, context: &Context) -> Outcome {
    let ground = match Ground::find(&context.network.borrow(), check.interface.as_deref()) {
        Ok(ground) => ground,
        Err(reason) => return Outcome::Failed(reason),
    };
    let outcome = timeout(check.timeout, attempt(check, family, &ground, context)).await;
    let late = |_| Outcome::Failed(format!("{} within {}", ground.waited_for(), seconds(check.timeout)));
    outcome.unwrap_or_else(late)
}

async fn attempt(check: &Check, family: Option<Family>, ground: &Ground, context: &Context) -> Outcome {
    let lane = family.unwrap_or(Family::V4);
    let result = match &check.kind {
        Kind::Http(url, expect) => get(url, expect, lane, ground).await,
        Kind::Dns { name, resolver } => dns(name, *resolver, lane, ground).await,
        Kind::Icmp(host) => ping(host, lane, ground).await,
        Kind::Tcp(host, port) => tcp(host, *port, lane, ground).await,
        Kind::Route => route(lane, ground, context),
        Kind::Carrier => carrier(check, context),
        Kind::Neighbour(address) => neighbour(*address, lane, ground, context).await,
        Kind::Batman { device, lower, upper } => batman::check(device, *lower, *upper, context),
        Kind::Script(program) => script(program, check, ground, context).await,
    };
    result.unwrap_or_else(|outcome| outcome)
}

type Attempt = Result<Outcome, Outcome>;

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed(reason.into())
}

async fn tcp(host: &Host, port: u16, family: Family, ground: &Ground) -> Attempt {
    let addresses = ground.resolve(host, family).await?;
    let mut last = String::new();
    for address in addresses.into_iter().take(3) {
        match ground.connect(address, port).await {
            Ok(_stream) => return Ok(Outcome::Passed),
            Err(reason) => last = reason,
        }
    }
    Err(Outcome::Failed(last))
}

async fn get(url: &Url, expect: &Expect, family: Family, ground: &Ground) -> Attempt {
    let addresses = ground.resolve(&url.host, family).await?;
    let mut last = String::new();
    for address in addresses.into_iter().take(3) {
        match ground.connect(address, url.port).await {
            Ok(stream) => return exchange_by_scheme(stream, url, expect).await.map_err(Outcome::Failed),
            Err(reason) => last = reason,
        }
    }
    Err(Outcome::Failed(last))
}

#[cfg(feature = "tls")]
async fn exchange_by_scheme(
    stream: tokio::net::TcpStream,
    url: &Url,
    expect: &Expect,
) -> Result<Outcome, String> {
    match url.scheme {
        super::url::Scheme::Http => exchange(stream, url, expect).await,
        super::url::Scheme::Https => exchange(super::tls::wrap(stream, url).await?, url, expect).await,
    }
}

#[cfg(not(feature = "tls"))]
async fn exchange_by_scheme(
    stream: tokio::net::TcpStream,
    url: &Url,
    expect: &Expect,
) -> Result<Outcome, String> {
    exchange(stream, url, expect).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    url: &Url,
    expect: &Expect,
) -> Result<Outcome, String> {
    stream.write_all(&http::request(url)).await.map_err(|error| words(&error))?;
    stream.flush().await.map_err(|error| words(&error))?;
    let mut received = Vec::with_capacity(1024);
    let head = loop {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).await.map_err(|error| words(&error))?;
        received.extend_from_slice(&piece[..length]);
        match http::parse_head(&received)? {
            Some(head) => break head,
            None if length == 0 => return Err("connection closed before an answer".to_owned()),
            None => {}
        }
    };
    let mut body = received.split_off(head.bytes.min(received.len()));
    if http::needs_body(expect, &head) {
        let wanted = head.length.unwrap_or(http::MAX_BODY).min(http::MAX_BODY);
        let text = expect.body.as_deref().unwrap_or_default().as_bytes();
        while body.len() < wanted && !body.windows(text.len().max(1)).any(|window| window == text) {
            let mut piece = [0; 1024];
            match stream.read(&mut piece).await {
                // A server that closes without TLS's goodbye has said all it will.
                Ok(0) | Err(_) => break,
                Ok(length) => body.extend_from_slice(&piece[..length]),
            }
        }
    }
    Ok(http::judge(url, expect, &head, &body))
}

async fn dns(name: &str, resolver: Option<(IpAddr, u16)>, family: Family, ground: &Ground) -> Attempt {
    let Some((address, port)) = resolver else {
        return ground.resolve(&Host::Name(name.to_owned()), family).await.map(|_| Outcome::Passed);
    };
    // A given resolver is reached over its own family; which addresses the name has is not the question.
    for family in Family::ALL {
        match ground.ask(name, family, &[SocketAddr::new(address, port)]).await.map_err(Outcome::Failed)? {
            Answer::Addresses(addresses) if addresses.is_empty() => {}
            Answer::Addresses(_) => return Ok(Outcome::Passed),
            Answer::NoName => return Err(failed("the resolver knows no such name (NXDOMAIN)")),
            Answer::Failure(code) => return Err(failed(format!("the resolver fails (RCODE {code})"))),
            Answer::Truncated => return Err(failed("the resolver's answer is cut off")),
        }
    }
    Err(failed("the name has no address"))
}

async fn ping(host: &Host, family: Family, ground: &Ground) -> Attempt {
    let address = ground.resolve(host, family).await?.into_iter().next();
    let address = address.ok_or_else(|| failed("no address"))?;
    let socket = raw_icmp(family, ground).map_err(|error| failed(words(&error)))?;
    let [a, b, c, d] = random();
    let request = icmp::request(family, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), random());
    let say = |error: io::Error| failed(words(&error));
    socket.send_to(&request, SocketAddr::new(address, 0)).await.map_err(say)?;
    let mut packet = [0; 1500];
    // A lost packet is asked for once more, halfway through a second.
    let mut again = true;
    loop {
        let received = match timeout(Duration::from_millis(500), socket.recv_from(&mut packet)).await {
            Ok(received) => received.map_err(say)?,
            Err(_) if again => {
                again = false;
                socket.send_to(&request, SocketAddr::new(address, 0)).await.map_err(say)?;
                continue;
            }
            Err(_) => continue,
        };
        let (length, from) = received;
        match icmp::reply(family, &request, &packet[..length]) {
            Some(icmp::Reply::Echo) if from.ip() == address => return Ok(Outcome::Passed),
            Some(icmp::Reply::Unreachable) => {
                return Err(failed(format!("{} says it is unreachable", from.ip())))
            }
            Some(icmp::Reply::Echo) | None => {}
        }
    }
}

/// A raw ICMP socket, as a datagram socket of the runtime: it sends, receives and polls alike.
fn raw_icmp(family: Family, ground: &Ground) -> io::Result<UdpSocket> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(device) = &ground.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    UdpSocket::from_std(std::net::UdpSocket::from(std::os::fd::OwnedFd::from(socket)))
}

fn route(family: Family, ground: &Ground, context: &Context) -> Attempt {
    let network = context.network.borrow();
    match network.gateway(family, ground.device.as_deref()) {
        Some(_) => Ok(Outcome::Passed),
        None => Err(failed(format!("no {family} default route"))),
    }
}

fn carrier(check: &Check, context: &Context) -> Attempt {
    let interface = check.interface.as_deref().unwrap_or_default();
    context.network.borrow().carrier(interface).map(|_| Outcome::Passed).map_err(Outcome::Failed)
}

/// Asks the kernel to ask the neighbour now, and waits for what it finds.
async fn neighbour(wanted: Option<IpAddr>, family: Family, ground: &Ground, context: &Context) -> Attempt {
    let (address, link) = {
        let network = context.network.borrow();
        let gateway = network.gateway(family, ground.device.as_deref());
        let own = ground.device.as_deref().and_then(|device| network.link(device));
        match (wanted, gateway) {
            (Some(address), gateway) => {
                (address, own.or(gateway.map(|gateway| gateway.link)).map(|link| link.index))
            }
            (None, Some(gateway)) => match gateway.address {
                Some(address) => (address, Some(gateway.link.index)),
                None => return Err(Outcome::Skipped("a point-to-point link has no neighbours".to_owned())),
            },
            (None, None) => return Err(failed(format!("no {family} default route"))),
        }
    };
    let mut connection = Connection::route().map_err(|error| failed(error.to_string()))?;
    let find = |connection: &mut Connection| -> Result<Option<Neighbour>, Outcome> {
        let known = connection.neighbours().map_err(|error| failed(error.to_string()))?;
        let ours = |neighbour: &Neighbour| {
            neighbour.address == address && link.is_none_or(|link| neighbour.link == link)
        };
        Ok(known.into_iter().find(ours))
    };
    // An address nobody has talked to is asked for when something is sent to it (to the discard port).
    if let Ok(socket) = UdpSocket::bind(any_address(address)).await {
        if let Some(device) = &ground.device {
            let _ = socket.bind_device(Some(device.as_bytes()));
        }
        let scope = link.filter(|_| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
        let target = match (address, scope) {
            (IpAddr::V6(v6), Some(scope)) => SocketAddr::V6(std::net::SocketAddrV6::new(v6, 9, 0, scope)),
            _ => SocketAddr::new(address, 9),
        };
        let _ = socket.send_to(&[0], target).await;
    }
    if let Some(known) = find(&mut connection)? {
        if !known.hardware.is_empty() {
            // Without a hardware address the kernel is asking already.
            let _ = connection.order(probe_request(&known));
        }
    }
    loop {
        match find(&mut connection)? {
            Some(neighbour) if neighbour.is_reachable() => return Ok(Outcome::Passed),
            Some(neighbour) if neighbour.is_failed() => {
                return Err(failed(format!("{address} does not answer")))
            }
            _ => sleep(Duration::from_millis(40)).await,
        }
    }
}

/// `RTM_NEWNEIGH` with `NUD_PROBE`: verify now, do not wait until the entry is used.
fn probe_request(neighbour: &Neighbour) -> Builder {
    const RTM_NEWNEIGH: u16 = 28;
    const NLM_F_REPLACE: u16 = 0x100;
    const NUD_PROBE: u16 = 0x10;
    const NDA_DST: u16 = 1;
    let family: u8 = if neighbour.address.is_ipv4() { 2 } else { 10 };
    let mut header = vec![family, 0, 0, 0];
    header.extend(neighbour.link.to_ne_bytes());
    header.extend(NUD_PROBE.to_ne_bytes());
    header.extend([0, 0]);
    Builder::new(RTM_NEWNEIGH, ACK | NLM_F_REPLACE).fixed(&header).attribute_ip(NDA_DST, neighbour.address)
}

async fn script(program: &Path, check: &Check, ground: &Ground, context: &Context) -> Attempt {
    let mut command = tokio::process::Command::new(program);
    command
        .env("RULE", &context.rule)
        .env("CHECK", &check.name)
        .env("DEVICE", ground.device.as_deref().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let _group = Group::of(&child);
    let status = child.wait().await.map_err(|error| failed(words(&error)))?;
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(2) => Err(Outcome::Portal("the script says so".to_owned())),
        Some(code) => Err(failed(format!("the script ended with status {code}"))),
        None => Err(failed("the script was killed")),
    }
}

/// Kills a script with everything it started, whether it ends, takes too long or the round is given up.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// `2 s`, `500 ms`.
fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
