// SPDX-License-Identifier: Apache-2.0
//! The ground a check stands on: device, resolvers, routes. And what all network checks share: resolving a name,
//! opening a connection, saying in words why it failed.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::dns::{self, Answer};
use super::url::Host;
use crate::uplink::Network;
use crate::verdict::{Family, Outcome};

/// A resolver that has not answered by then is asked again, or the next one is.
const RESOLVER_PATIENCE: Duration = Duration::from_millis(1000);
const DNS_PORT: u16 = 53;

/// Where a check goes out, and what it may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Device it is bound to.
    pub device: Option<String>,
    /// Resolvers of the interface it is bound to.
    pub resolvers: Vec<IpAddr>,
    /// The name and the resolver whose answer is waited for.
    asked: RefCell<Option<(String, IpAddr)>>,
}

impl Ground {
    /// The ground behind a logical interface (or device), or the router's own.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(network: &Network, interface: Option<&str>) -> Result<Self, String> {
        let Some(interface) = interface else { return Ok(Self::new(None, Vec::new())) };
        let device = network.device(interface)?.to_owned();
        if network.link(&device).is_none() {
            return Err(format!("there is no device {device}"));
        }
        let resolvers =
            network.interface(interface).map_or_else(Vec::new, |interface| interface.resolvers.clone());
        Ok(Self::new(Some(device), resolvers))
    }

    fn new(device: Option<String>, resolvers: Vec<IpAddr>) -> Self {
        Self { device, resolvers, asked: RefCell::new(None) }
    }

    /// What a check whose time is up was waiting for, in words.
    #[must_use]
    pub fn waited_for(&self) -> String {
        match &*self.asked.borrow() {
            Some((name, resolver)) => format!("no answer of resolver {resolver}, asked for {name},"),
            None => "no answer".to_owned(),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(&self, address: IpAddr, port: u16) -> Result<TcpStream, String> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let open = |socket: TcpSocket| -> io::Result<TcpSocket> {
            if let Some(device) = &self.device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            Ok(socket)
        };
        let socket = socket.and_then(open).map_err(|error| words(&error))?;
        socket.connect(SocketAddr::new(address, port)).await.map_err(|error| words(&error))
    }

    /// The addresses of a host in a family.
    ///
    /// # Errors
    /// The outcome of the check that cannot go on without: skipped where the name has no address in this family.
    pub async fn resolve(&self, host: &Host, family: Family) -> Result<Vec<IpAddr>, Outcome> {
        let name = match host {
            Host::Address(address) if address.is_ipv4() == (family == Family::V4) => {
                return Ok(vec![*address])
            }
            Host::Address(_) => return Err(Outcome::Skipped(format!("the address is not {family}"))),
            Host::Name(name) => name,
        };
        if let Some(address) = read_small("/etc/hosts").and_then(|text| dns::in_hosts(&text, name, family)) {
            return Ok(vec![address]);
        }
        match self.ask(name, family, &self.resolvers()).await {
            Ok(Answer::Addresses(addresses)) if addresses.is_empty() => {
                Err(Outcome::Skipped(format!("{name} has no {family} address")))
            }
            Ok(Answer::Addresses(addresses)) => Ok(addresses),
            Ok(Answer::NoName) => Err(Outcome::Failed(format!("there is no name {name} (NXDOMAIN)"))),
            Ok(Answer::Failure(code)) => {
                Err(Outcome::Failed(format!("the resolver fails ({})", response(code))))
            }
            Ok(Answer::Truncated) => Err(Outcome::Failed("the resolver's answer is cut off".to_owned())),
            Err(reason) => Err(Outcome::Failed(format!("cannot resolve {name}: {reason}"))),
        }
    }

    /// The interface's own resolvers, or else the system's.
    #[must_use]
    pub fn resolvers(&self) -> Vec<SocketAddr> {
        let resolvers = if self.resolvers.is_empty() {
            dns::resolvers(&read_small("/etc/resolv.conf").unwrap_or_default())
        } else {
            self.resolvers.clone()
        };
        resolvers.into_iter().map(|address| SocketAddr::new(address, DNS_PORT)).collect()
    }

    /// Asks resolvers in turn until one answers; the check's own time limit ends it.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub async fn ask(&self, name: &str, family: Family, resolvers: &[SocketAddr]) -> Result<Answer, String> {
        if resolvers.is_empty() {
            return Err("no resolver is known".to_owned());
        }
        let mut refused = 0;
        for resolver in resolvers.iter().cycle() {
            let [high, low] = random();
            let id = u16::from_be_bytes([high, low]);
            let question = dns::question(id, name, family).ok_or("it is no name")?;
            *self.asked.borrow_mut() = Some((name.to_owned(), resolver.ip()));
            let answer = timeout(RESOLVER_PATIENCE, self.ask_one(&question, *resolver)).await;
            if answer.is_ok() {
                *self.asked.borrow_mut() = None;
            }
            match answer {
                Ok(Ok(Answer::Truncated)) => return self.ask_over_tcp(&question, *resolver).await,
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(reason)) if refused + 1 >= resolvers.len() * 2 => return Err(reason),
                Ok(Err(_)) => {
                    refused += 1;
                    tokio::time::sleep(RESOLVER_PATIENCE / 10).await;
                }
                Err(_silence) => {}
            }
        }
        Err("no resolver is known".to_owned())
    }

    async fn ask_one(&self, question: &[u8], resolver: SocketAddr) -> Result<Answer, String> {
        let exchange = async {
            let socket = UdpSocket::bind(any_address(resolver.ip())).await?;
            self.bind_datagram(&socket, resolver.ip())?;
            socket.connect(resolver).await?;
            socket.send(question).await?;
            let mut message = [0; 1232];
            loop {
                let length = socket.recv(&mut message).await?;
                if let Some(answer) = dns::answer(question, &message[..length]) {
                    return Ok(answer);
                }
            }
        };
        exchange.await.map_err(|error: io::Error| format!("resolver {}: {}", resolver.ip(), words(&error)))
    }

    async fn ask_over_tcp(&self, question: &[u8], resolver: SocketAddr) -> Result<Answer, String> {
        let mut stream = self.connect(resolver.ip(), resolver.port()).await?;
        let exchange = async {
            let length = u16::try_from(question.len()).unwrap_or(0);
            stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
            let length = stream.read_u16().await?;
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await?;
            Ok(dns::answer(question, &message))
        };
        let answer = exchange.await.map_err(|error: io::Error| words(&error))?;
        answer.ok_or_else(|| "the resolver's answer is malformed".to_owned())
    }

    /// Binds to the device; not for a resolver on this router itself, which no device leads to.
    fn bind_datagram(&self, socket: &UdpSocket, to: IpAddr) -> io::Result<()> {
        match &self.device {
            Some(device) if !to.is_loopback() => socket.bind_device(Some(device.as_bytes())),
            _ => Ok(()),
        }
    }
}

/// The unspecified address of the family.
#[must_use]
pub fn any_address(like: IpAddr) -> SocketAddr {
    let address = if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(address, 0)
}

/// An error as people say it.
#[must_use]
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted (or forbidden by the firewall)".to_owned(),
        _ => error.to_string(),
    }
}

/// A few unpredictable bytes: identifiers that others should not guess.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    use std::hash::{BuildHasher, Hasher};
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        // The keys come from the system's generator.
        let word = std::collections::hash_map::RandomState::new().build_hasher().finish().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    bytes
}

fn response(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE {other}"),
    }
}

/// A configuration file, as far as it is text of sane size.
fn read_small(path: &str) -> Option<String> {
    use std::io::Read;
    const LIMIT: u64 = 64 * 1024;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}
