// SPDX-License-Identifier: Apache-2.0
//! Who may use the tunnel, and the keys of its connections.
//!
//! One Noise handshake (`NNpsk0`, Noise Protocol Framework rev. 34, 9) per server proves the pre-shared key of both
//! sides and gives, with forward secrecy, a *ticket*: a name and a fresh secret. Every connection after it is
//! authenticated by a MAC under the ticket, without public-key operations, and has keys of its own.
//!
//! ```text
//! client → server   1 | Noise message 1                                    once per ticket
//! server → client   Noise message 2 (holds ticket and secret)
//! client → server   2 | ticket (8) | counter (8) | cipher (1) | MAC (16)    once per connection
//! server → client   MAC (16)
//! then              sealed records: request → accepted → SOCKS5 reply; payload sealed or plain, as `cipher` says
//! ```
//!
//! A counter is accepted once, so a recorded hello opens nothing. The server does not answer what it cannot verify,
//! so neither a scan nor a guess at the key learns anything. All functions are pure but for randomness.

use ring::rand::SecureRandom;
use ring::{hkdf, hmac};

use crate::noise;
use crate::record::{Cipher, Opener, Sealer};

/// First byte of a connection that asks for a ticket.
pub const ASK: u8 = 1;
/// First byte of a connection that has one.
pub const HELLO: u8 = 2;
/// Length of a question for a ticket, with its first byte.
pub const ASK_LENGTH: usize = 1 + noise::QUESTION;
/// Length of the answer to it.
pub const TICKET_LENGTH: usize = 8 + 32 + noise::OVERHEAD;
/// Length of a hello, with its first byte.
pub const HELLO_LENGTH: usize = 1 + 8 + 8 + 1 + MAC;
/// Length of the answer to a hello.
pub const MAC: usize = 16;
/// Length of a probe and of its answer.
pub const PROBE_LENGTH: usize = 8 + 8 + MAC;

const PROLOGUE: &[u8] = b"steadynode mptcp-proxy 1";

/// A pre-shared key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// A new random key.
    pub fn generate() -> Self {
        Key(random())
    }

    /// Reads 32 bytes of base64 (RFC 4648 4).
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let mut filled = 0;
        let (mut bits, mut held) = (0u32, 0);
        for symbol in text.trim().trim_end_matches('=').bytes() {
            let value = ALPHABET.iter().position(|&letter| letter == symbol)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
            held += 6;
            if held >= 8 {
                held -= 8;
                *bytes.get_mut(filled)? = u8::try_from(bits >> held & 0xff).ok()?;
                filled += 1;
            }
        }
        (filled == 32 && bits & ((1 << held) - 1) == 0).then_some(Key(bytes))
    }

    /// The key as base64, for the configuration file.
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(44);
        for chunk in self.0.chunks(3) {
            let word =
                chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let symbol = ALPHABET[(word >> (18 - 6 * place) & 0x3f) as usize];
                text.push(if place <= chunk.len() { char::from(symbol) } else { '=' });
            }
        }
        text
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

/// What was received does not prove the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the other side does not have the same key")
    }
}

impl std::error::Error for Refused {}

/// A client's question for a ticket.
pub struct Question(Box<noise::Initiator>);

impl Question {
    /// The question, and the bytes to send.
    pub fn new(key: &Key) -> (Self, [u8; ASK_LENGTH]) {
        let (initiator, message) = noise::Initiator::new(&key.0, PROLOGUE, random());
        let mut bytes = [ASK; ASK_LENGTH];
        bytes[1..].copy_from_slice(&message);
        (Question(Box::new(initiator)), bytes)
    }

    /// Reads the answer.
    pub fn finish(self, answer: &[u8; TICKET_LENGTH]) -> Result<Session, Refused> {
        let mut answer = *answer;
        let payload =
            self.0.finish(&mut answer).and_then(|payload| payload.try_into().ok()).ok_or(Refused)?;
        Ok(Session { ticket: Ticket::new(payload), next: 0 })
    }
}

/// Answers a question for a ticket: tries the key of every user. Returns the user, the session and the bytes to send.
pub fn answer<'a>(
    question: &[u8; ASK_LENGTH],
    keys: impl IntoIterator<Item = &'a Key>,
) -> Option<(usize, ServerSession, [u8; TICKET_LENGTH])> {
    let message = question[1..].first_chunk()?;
    let payload: [u8; 40] = random();
    let ephemeral = random();
    keys.into_iter().enumerate().find_map(|(user, key)| {
        let mut bytes = [0; TICKET_LENGTH];
        bytes[32..72].copy_from_slice(&payload);
        noise::answer(&key.0, PROLOGUE, message, ephemeral, &mut bytes)?;
        let session = ServerSession { ticket: Ticket::new(&payload), seen: Window::default() };
        Some((user, session, bytes))
    })
}

/// The client's side of a ticket.
pub struct Session {
    ticket: Ticket,
    next: u64,
}

/// A hello to send, the answer to expect, and the keys of the connection.
pub struct Greeting {
    /// To send.
    pub hello: [u8; HELLO_LENGTH],
    /// To compare with what comes back, by [`Greeting::verify`].
    expected: [u8; MAC],
    /// Seals what we send.
    pub sealer: Sealer,
    /// Opens what we receive.
    pub opener: Opener,
}

impl Greeting {
    /// Whether this is the server's answer.
    pub fn verify(&self, answer: &[u8; MAC]) -> Result<(), Refused> {
        same(answer, &self.expected).then_some(()).ok_or(Refused)
    }
}

impl Session {
    /// The next connection.
    pub fn greet(&mut self, cipher: Cipher) -> Box<Greeting> {
        let counter = self.next;
        self.next += 1;
        let mut hello = [HELLO; HELLO_LENGTH];
        hello[1..9].copy_from_slice(&self.ticket.name);
        hello[9..17].copy_from_slice(&counter.to_be_bytes());
        hello[17] = cipher as u8;
        let mac = self.ticket.mac(b"hello", &hello[..18]);
        hello[18..].copy_from_slice(&mac);
        let (up, down) = self.ticket.keys(counter);
        Box::new(Greeting {
            hello,
            expected: self.ticket.mac(b"welcome", &hello[..18]),
            sealer: Sealer::new(cipher, &up),
            opener: Opener::new(cipher, &down),
        })
    }

    /// A probe with this number.
    pub fn probe(&self, number: u64) -> [u8; PROBE_LENGTH] {
        self.ticket.datagram(b"probe", number)
    }

    /// The number of the probe that this datagram answers.
    pub fn read_probe_answer(&self, datagram: &[u8]) -> Option<u64> {
        self.ticket.read_datagram(b"answer", datagram)
    }
}

/// The server's side of a ticket.
pub struct ServerSession {
    ticket: Ticket,
    seen: Window,
}

/// A connection that proved to belong to a ticket.
pub struct Welcome {
    /// To send.
    pub answer: [u8; MAC],
    /// How the client wants the payload to be protected.
    pub cipher: Cipher,
    /// Seals what we send.
    pub sealer: Sealer,
    /// Opens what we receive.
    pub opener: Opener,
}

impl ServerSession {
    /// The name by which a hello or a probe refers to this session.
    pub fn name(&self) -> [u8; 8] {
        self.ticket.name
    }

    /// Verifies a hello and uses up its counter.
    pub fn welcome(&mut self, hello: &[u8; HELLO_LENGTH]) -> Option<Box<Welcome>> {
        let (signed, mac) = hello.split_at(HELLO_LENGTH - MAC);
        if !same(mac, &self.ticket.mac(b"hello", signed)) {
            return None;
        }
        let counter = u64::from_be_bytes(*hello[9..].first_chunk()?);
        let cipher = Cipher::from_byte(hello[17])?;
        if !self.seen.accept(counter) {
            return None;
        }
        let (up, down) = self.ticket.keys(counter);
        Some(Box::new(Welcome {
            answer: self.ticket.mac(b"welcome", signed),
            cipher,
            sealer: Sealer::new(cipher, &down),
            opener: Opener::new(cipher, &up),
        }))
    }

    /// Verifies a probe and makes the answer, of the same length.
    pub fn answer_probe(&self, datagram: &[u8]) -> Option<[u8; PROBE_LENGTH]> {
        let number = self.ticket.read_datagram(b"probe", datagram)?;
        Some(self.ticket.datagram(b"answer", number))
    }
}

struct Ticket {
    name: [u8; 8],
    root: hkdf::Prk,
    authenticate: hmac::Key,
}

impl Ticket {
    fn new(payload: &[u8; 40]) -> Self {
        let (name, secret) = payload.split_at(8);
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, PROLOGUE).extract(secret);
        let authenticate = hmac::Key::new(hmac::HMAC_SHA256, &derive(&root, b"authenticate", &[]));
        Ticket { name: *name.first_chunk().unwrap_or(&[0; 8]), root, authenticate }
    }

    fn mac(&self, label: &[u8], bytes: &[u8]) -> [u8; MAC] {
        let mut context = hmac::Context::with_key(&self.authenticate);
        context.update(label);
        context.update(bytes);
        *context
            .sign()
            .as_ref()
            .first_chunk()
            .unwrap_or_else(|| unreachable!("a tag of SHA-256 has 32 bytes"))
    }

    fn keys(&self, counter: u64) -> ([u8; 32], [u8; 32]) {
        let counter = counter.to_be_bytes();
        (derive(&self.root, b"client to server", &counter), derive(&self.root, b"server to client", &counter))
    }

    fn datagram(&self, label: &[u8], number: u64) -> [u8; PROBE_LENGTH] {
        let mut bytes = [0; PROBE_LENGTH];
        bytes[..8].copy_from_slice(&self.name);
        bytes[8..16].copy_from_slice(&number.to_be_bytes());
        let mac = self.mac(label, &bytes[..16]);
        bytes[16..].copy_from_slice(&mac);
        bytes
    }

    fn read_datagram(&self, label: &[u8], datagram: &[u8]) -> Option<u64> {
        let datagram: &[u8; PROBE_LENGTH] = datagram.try_into().ok()?;
        let (signed, mac) = datagram.split_at(16);
        if signed[..8] != self.name || !same(mac, &self.mac(label, signed)) {
            return None;
        }
        Some(u64::from_be_bytes(*signed[8..].first_chunk()?))
    }
}

/// Which counters were used (as RFC 6479): all below the window count as used.
struct Window {
    highest: u64,
    bits: [u64; Window::WORDS],
    started: bool,
}

impl Window {
    const WORDS: usize = 16;
    const SIZE: u64 = 64 * Self::WORDS as u64;

    fn accept(&mut self, counter: u64) -> bool {
        if !self.started {
            self.started = true;
            self.highest = counter;
        } else if counter > self.highest {
            let steps = (counter - self.highest).min(Self::SIZE);
            for step in 1..=steps {
                self.set(counter - steps + step, false);
            }
            self.highest = counter;
        } else if self.highest - counter >= Self::SIZE || self.is_set(counter) {
            return false;
        }
        self.set(counter, true);
        true
    }

    fn is_set(&self, counter: u64) -> bool {
        let (word, bit) = Self::place(counter);
        self.bits[word] & bit != 0
    }

    fn set(&mut self, counter: u64, used: bool) {
        let (word, bit) = Self::place(counter);
        self.bits[word] = if used { self.bits[word] | bit } else { self.bits[word] & !bit };
    }

    fn place(counter: u64) -> (usize, u64) {
        let place = counter % Self::SIZE;
        (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
    }
}

impl Default for Window {
    fn default() -> Self {
        Window { highest: 0, bits: [0; Self::WORDS], started: false }
    }
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .unwrap_or_else(|_| unreachable!("getrandom does not fail once the kernel is seeded"));
    bytes
}

fn derive(root: &hkdf::Prk, label: &[u8], context: &[u8]) -> [u8; 32] {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0; 32];
    root.expand(&[label, context], Length)
        .and_then(|okm| okm.fill(&mut key))
        .unwrap_or_else(|_| unreachable!("32 bytes are within the limit of HKDF"));
    key
}

/// Comparison whose duration does not tell where the difference is.
fn same(left: &[u8], right: &[u8; MAC]) -> bool {
    left.len() == MAC && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSession").field("highest", &self.seen.highest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn established() -> (Session, ServerSession) {
        let (other, key) = (Key::generate(), Key::generate());
        let (question, bytes) = Question::new(&key);
        let (user, server, ticket) = answer(&bytes, [&other, &key]).unwrap();
        assert_eq!(user, 1);
        (question.finish(&ticket).unwrap(), server)
    }

    #[test]
    fn both_sides_prove_the_key_and_derive_the_same_keys() {
        let (mut client, mut server) = established();
        for cipher in [Cipher::None, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let mut greeting = client.greet(cipher);
            let mut welcome = server.welcome(&greeting.hello).unwrap();
            greeting.verify(&welcome.answer).unwrap();
            assert_eq!(welcome.cipher, cipher);
            for (sealer, opener) in
                [(&mut greeting.sealer, &mut welcome.opener), (&mut welcome.sealer, &mut greeting.opener)]
            {
                let mut record = Vec::new();
                sealer.append(b"hello", &mut record);
                opener.open(&mut record, 0).unwrap();
                assert_eq!(&record[..5], b"hello");
            }
        }
    }

    #[test]
    fn a_wrong_key_gets_no_answer_and_is_found_out_on_both_sides() {
        let (key, wrong) = (Key::generate(), Key::generate());
        let (question, bytes) = Question::new(&key);
        assert!(answer(&bytes, [&wrong]).is_none());
        let (_, wrong_bytes) = Question::new(&wrong);
        let (_, _, for_another) = answer(&wrong_bytes, [&wrong]).unwrap();
        assert_eq!(question.finish(&for_another).unwrap_err(), Refused);
    }

    #[test]
    fn a_hello_opens_one_connection_only() {
        let (mut client, mut server) = established();
        let (first, second) = (client.greet(Cipher::None), client.greet(Cipher::None));
        assert!(server.welcome(&second.hello).is_some());
        assert!(server.welcome(&first.hello).is_some(), "another path may have been faster");
        assert!(server.welcome(&first.hello).is_none());
        assert!(server.welcome(&second.hello).is_none());
        let mut forged = client.greet(Cipher::Aes256Gcm).hello;
        forged[17] = Cipher::None as u8;
        assert!(server.welcome(&forged).is_none(), "the choice of the cipher is authenticated");
    }

    #[test]
    fn a_probe_is_answered_and_the_answer_is_not_a_probe() {
        let (client, server) = established();
        let probe = client.probe(42);
        let answer = server.answer_probe(&probe).unwrap();
        assert_eq!(client.read_probe_answer(&answer), Some(42));
        assert_eq!(client.read_probe_answer(&probe), None);
        assert_eq!(server.answer_probe(&answer), None);
        assert_eq!(established().1.answer_probe(&probe), None);
    }

    proptest! {
        #[test]
        fn the_window_accepts_each_counter_once(counters in prop::collection::vec(0u64..3000, 1..300)) {
            let mut window = Window::default();
            let mut accepted = std::collections::HashSet::new();
            let mut highest = 0;
            for counter in counters {
                let fresh = !accepted.contains(&counter);
                let inside = accepted.is_empty() || counter > highest || highest - counter < Window::SIZE;
                prop_assert_eq!(window.accept(counter), fresh && inside, "counter {}", counter);
                if fresh && inside {
                    accepted.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }

        #[test]
        fn forged_bytes_prove_nothing(ask in any::<[u8; 32]>(), hello in any::<[u8; 32]>(), probe: Vec<u8>) {
            let (_, mut server) = established();
            let mut question = [ASK; ASK_LENGTH];
            question[1..33].copy_from_slice(&ask);
            prop_assert!(super::answer(&question, [&Key::generate()]).is_none());
            let mut forged = [HELLO; HELLO_LENGTH];
            forged[1..9].copy_from_slice(&server.name());
            forged[9..].copy_from_slice(&hello[..HELLO_LENGTH - 9]);
            prop_assert!(server.welcome(&forged).is_none());
            prop_assert!(server.answer_probe(&probe).is_none());
        }

        #[test]
        fn keys_are_read_back(bytes in any::<[u8; 32]>()) {
            let key = Key(bytes);
            prop_assert_eq!(Key::parse(&key.expose()), Some(key));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = Key::parse(&text);
        }
    }

    #[test]
    fn a_key_is_what_openssl_prints() {
        let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let key = Key::parse(text).unwrap();
        assert_eq!(key.0, std::array::from_fn(|index| u8::try_from(index).unwrap()));
        assert_eq!(key.expose(), text);
        assert!(Key::parse(&text[4..]).is_none());
        assert!(Key::parse("secret").is_none());
        assert_eq!(format!("{key:?}"), "Key(***)");
    }
}
