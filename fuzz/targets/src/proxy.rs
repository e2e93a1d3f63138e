// SPDX-License-Identifier: Apache-2.0
//! What mptcp-proxy reads: its configuration, SOCKS5 in both directions, everything in the tunnel.

use crate::split;
use mptcp_proxy::acl;
use mptcp_proxy::config::Config;
use mptcp_proxy::intercept::{dnsmasq_snippet, Interception};
use mptcp_proxy::record::{Cipher, Opened, Opener, Sealer, MAX_CONTENT, MAX_RECORD};
use mptcp_proxy::session::{self, Key, Question, ASK_LENGTH, HELLO_LENGTH, TICKET_LENGTH};
use mptcp_proxy::socks::{self, Error, Target};
use mptcp_proxy::udp::{frame, resolver};
use mptcp_proxy::wire::Request;
use openwrt::netlink::Prefix;
use openwrt::uci::{Package, Problems};

/// `/etc/config/mptcp-proxy`, a NUL, `/etc/config/network`; and what becomes of it for nft and dnsmasq.
pub(crate) fn config(bytes: &[u8]) {
    let (own, network) = split(bytes);
    let Ok(own) = Package::parse("mptcp-proxy", own) else { return };
    let network = Package::parse("network", network).ok();
    let config = Config::read(&own, network.as_ref(), &mut Problems::new());
    for client in &config.clients {
        for draining in [false, true] {
            let taken = Interception { client, devices: &client.devices, own: &[] };
            let script = taken.script(draining);
            assert_eq!(script.matches("table inet").count(), 3, "{script}");
            assert_eq!(script.matches("chain ").count(), 1, "{script}");
            assert!(script
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\n' | b'\t')));
            assert!(!script.contains("include"), "{script}");
        }
        let snippet = dnsmasq_snippet(client.bypass_domains.iter().map(String::as_str));
        assert!(snippet.lines().count() <= 1 && !snippet.contains(' '), "{snippet}");
    }
}

/// What an application says to the proxy.
pub(crate) fn socks_client(bytes: &[u8]) {
    if let Ok((_, used)) = socks::read_greeting(bytes) {
        assert!((2..=bytes.len()).contains(&used));
    }
    grows(bytes, |bytes| socks::read_request(bytes).map(|(command, target, used)| ((command, target), used)));
    if let Ok((command, target, _)) = socks::read_request(bytes) {
        let mut again = Vec::new();
        socks::write_request(command, &target, &mut again);
        assert_eq!(socks::read_request(&again), Ok((command, target, again.len())));
    }
}

/// What a SOCKS5 server says to its client.
pub(crate) fn socks_server(bytes: &[u8]) {
    grows(bytes, |bytes| socks::read_reply(bytes).map(|(reply, target, used)| ((reply, target), used)));
    grows(bytes, socks::read_target);
    if let Ok((target, _)) = socks::read_target(bytes) {
        is_plain(&target);
    }
}

/// Every shorter beginning is incomplete, and the length told is the length read.
fn grows<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<(T, usize), Error>) {
    let Ok((value, used)) = read(bytes) else { return };
    assert!(used <= bytes.len());
    assert_eq!(read(&bytes[..used]), Ok((value, used)));
    for length in 0..used.min(300) {
        assert_eq!(read(&bytes[..length]).err(), Some(Error::Incomplete));
    }
}

fn is_plain(target: &Target) {
    match target {
        Target::Name(name, _) => assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name}"),
        Target::Address(address) => assert_eq!(address.ip(), address.ip().to_canonical()),
    }
}

/// The first record of a tunnel's connection.
pub(crate) fn tunnel_request(bytes: &[u8]) {
    let Ok(request) = Request::read(bytes) else { return };
    is_plain(&request.target);
    assert_eq!(Request::read(&request.write()), Ok(request));
}

/// Questions for a ticket, tickets, hellos, probes and their answers: nothing but the genuine ones is taken.
pub(crate) fn tunnel_session(bytes: &[u8]) {
    thread_local! {
        static KEY: Key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(key) = Key::parse(&text) {
        assert_eq!(Key::parse(&key.expose()), Some(key));
    }
    KEY.with(|key| {
        let kind = bytes.first().copied().unwrap_or(0);
        let bytes = bytes.get(1..).unwrap_or_default();
        // Public keys cost too much for every input.
        if kind & 7 == 0 {
            let question: [u8; ASK_LENGTH] = filled(bytes);
            assert!(session::answer(&question, [key]).is_none(), "a guess is answered");
            let (question, _) = Question::new(key);
            let answer: [u8; TICKET_LENGTH] = filled(bytes);
            assert!(question.finish(&answer).is_err(), "a made-up ticket is taken");
            return;
        }
        thread_local! {
            static BOTH: std::cell::RefCell<(session::Session, session::ServerSession)> = {
                let key = Key::generate();
                let (question, asked) = Question::new(&key);
                let (_, server, ticket) = session::answer(&asked, [&key]).unwrap();
                std::cell::RefCell::new((question.finish(&ticket).unwrap(), server))
            };
        }
        BOTH.with_borrow_mut(|(client, server)| {
            let probe = client.probe(7);
            let mut changed = probe;
            changed.iter_mut().zip(bytes).for_each(|(byte, change)| *byte ^= change);
            let genuine = changed == probe;
            assert_eq!(server.answer_probe(&changed).is_some(), genuine);
            assert_eq!(client.read_probe_answer(bytes), None);
            let mut greeting = client.greet(Cipher::ChaCha20Poly1305);
            let hello: [u8; HELLO_LENGTH] = greeting.hello;
            let change: [u8; HELLO_LENGTH] = filled(bytes);
            for (byte, change) in greeting.hello.iter_mut().zip(change) {
                *byte ^= change;
            }
            if greeting.hello[1..] != hello[1..] {
                assert!(server.welcome(&greeting.hello).is_none(), "a changed hello is taken");
            }
            // The first byte says what follows and is signed with the rest.
            assert_eq!(server.welcome(&greeting.hello).is_some(), greeting.hello == hello);
            assert!(server.welcome(&greeting.hello).is_none(), "a hello is taken twice");
        });
    });
}

fn filled<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0))
}

/// Records in the tunnel: what is not sealed by the peer, in its place, is refused.
pub(crate) fn tunnel_records(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let cipher = Cipher::from_byte(first & 3).unwrap_or(Cipher::Aes256Gcm);
    let mut wild = bytes.to_vec();
    match Opener::new(cipher, &[7; 32]).open(&mut wild, 0) {
        Ok(Opened::Incomplete) => assert!(bytes.len() < MAX_RECORD),
        Ok(Opened::Record { .. }) => panic!("a forgery"),
        Err(_) => {}
    }
    // Genuine ones with one byte changed, cut or swapped.
    let (mut sealer, mut opener) = (Sealer::new(cipher, &[7; 32]), Opener::new(cipher, &[7; 32]));
    let mut stream = Vec::new();
    let portion = usize::from(first) * 64 + 1;
    for content in bytes.chunks(portion).take(8) {
        sealer.append(&content[..content.len().min(MAX_CONTENT)], &mut stream);
    }
    let damage = bytes.first().map_or(0, |&byte| usize::from(byte));
    if first & 4 != 0 && !stream.is_empty() {
        let at = damage * 31 % stream.len();
        stream[at] ^= 1;
    }
    let mut read = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        match opener.open(&mut stream[at..], 0) {
            Ok(Opened::Record { used, content }) => {
                read.extend_from_slice(&stream[at..at + content]);
                at += used;
            }
            Ok(Opened::Incomplete) | Err(_) => {
                assert!(first & 4 != 0, "a genuine record is refused");
                break;
            }
        }
    }
    let sent: Vec<u8> = bytes.chunks(portion).take(8).flatten().copied().collect();
    assert!(sent.starts_with(&read), "what was not sent is read");
    assert_eq!(read == sent && !sent.is_empty(), first & 4 == 0 && !sent.is_empty());
}

/// Datagrams on a stream.
pub(crate) fn udp_frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = frame::read(rest) {
        assert!(used >= 2 && frame.payload.len() <= used);
        is_plain(&frame.address);
        let mut again = Vec::new();
        // An address may be written shorter than it came.
        assert!(frame::append(frame.flow, &frame.address, frame.payload, &mut again));
        assert_eq!(frame::read(&again), Ok(Some((frame, again.len()))));
        rest = &rest[used..];
    }
}

/// `resolv.conf` of the uplinks.
pub(crate) fn resolvers(bytes: &[u8]) {
    let found = resolver::parse(&String::from_utf8_lossy(bytes));
    assert!(found.len() <= 2 && found.iter().all(|address| address.port() == resolver::PORT));
}

/// Prefixes and the target list: however an address is written, it is judged the same.
pub(crate) fn target_list(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_whitespace();
    let address = words.next().and_then(|word| word.parse().ok());
    let prefixes: Vec<Prefix> = words.filter_map(|word| word.parse().ok()).collect();
    for prefix in &prefixes {
        assert_eq!(prefix.to_string().parse(), Ok(*prefix));
    }
    let Some(address) = address else { return };
    let (allow, deny) = prefixes.split_at(prefixes.len() / 2);
    let verdict = acl::check(address, allow, deny, &[]);
    if let std::net::IpAddr::V4(v4) = address {
        assert_eq!(acl::check(v4.to_ipv6_mapped().into(), allow, deny, &[]), verdict);
        if v4.is_loopback() || v4.is_private() || v4.is_link_local() {
            assert!(verdict.is_err() || !allow.is_empty());
        }
    }
}
