// SPDX-License-Identifier: Apache-2.0
//! The record layer: a stream cut into sealed records.
//!
//! A record is `length (16 bits, big-endian) | ciphertext | tag (16)`, where `length` counts ciphertext and tag and is
//! authenticated. The nonce is the number of the record, so that a dropped, repeated or swapped record is an error.
//! A record of no content ends the stream: a FIN without it is a cut, and is passed on as a reset.

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM, CHACHA20_POLY1305};

/// Bytes before the ciphertext.
pub const HEADER: usize = 2;
/// Bytes behind the ciphertext.
pub const TAG: usize = 16;
/// Content of one record at most.
pub const MAX_CONTENT: usize = 16 * 1024;
/// One record at most.
pub const MAX_RECORD: usize = HEADER + MAX_CONTENT + TAG;

/// How the payload of a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cipher {
    /// Only the request and its answer are sealed.
    None = 0,
    /// RFC 8439.
    ChaCha20Poly1305 = 1,
    /// NIST SP 800-38D.
    Aes256Gcm = 2,
}

impl Cipher {
    /// The number on the wire.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Cipher::None),
            1 => Some(Cipher::ChaCha20Poly1305),
            2 => Some(Cipher::Aes256Gcm),
            _ => None,
        }
    }

    /// The faster AEAD of this CPU: AES where it has instructions for it.
    pub fn fastest() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq") {
            return Cipher::Aes256Gcm;
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
        {
            return Cipher::Aes256Gcm;
        }
        Cipher::ChaCha20Poly1305
    }

    fn key(self, secret: &[u8; 32]) -> LessSafeKey {
        let algorithm = match self {
            Cipher::None | Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Cipher::Aes256Gcm => &AES_256_GCM,
        };
        let key =
            UnboundKey::new(algorithm, secret).unwrap_or_else(|_| unreachable!("both keys have 32 bytes"));
        LessSafeKey::new(key)
    }
}

/// The record of this number, from 0, is not what the peer sealed, or not in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forged(pub u64);

impl Forged {
    /// Whether this is why.
    pub fn is_behind(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Forged>)
    }
}

impl std::fmt::Display for Forged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} does not verify", self.0)
    }
}

impl std::error::Error for Forged {}

impl From<Forged> for std::io::Error {
    fn from(forged: Forged) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, forged)
    }
}

/// Seals the records of one direction. Between records it is small: most connections are idle most of the time.
pub struct Sealer {
    cipher: Cipher,
    secret: [u8; 32],
    next: u64,
}

/// A [`Sealer`] with its key expanded, for several records in a row.
pub struct ReadySealer<'a> {
    key: LessSafeKey,
    next: &'a mut u64,
}

impl Sealer {
    /// The secret must not be used for anything else, in particular not for the other direction.
    pub fn new(cipher: Cipher, secret: &[u8; 32]) -> Self {
        Sealer { cipher, secret: *secret, next: 0 }
    }

    /// Expands the key.
    pub fn ready(&mut self) -> ReadySealer<'_> {
        ReadySealer { key: self.cipher.key(&self.secret), next: &mut self.next }
    }

    /// Appends a sealed record with this content (at most [`MAX_CONTENT`]).
    pub fn append(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; HEADER]);
        out.extend(content);
        out.extend([0; TAG]);
        self.ready().seal(&mut out[start..]);
    }
}

impl ReadySealer<'_> {
    /// Seals in place: `record` is `HEADER` bytes of room, the content, `TAG` bytes of room.
    pub fn seal(&mut self, record: &mut [u8]) {
        let length = u16::try_from(record.len() - HEADER)
            .unwrap_or_else(|_| unreachable!("the caller's record has at most MAX_RECORD bytes"));
        let header = length.to_be_bytes();
        record[..HEADER].copy_from_slice(&header);
        let (content, tag) = record[HEADER..].split_at_mut(usize::from(length) - TAG);
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce(*self.next), Aad::from(header), content)
            .unwrap_or_else(|_| unreachable!("the content is far below the limit of the algorithm"));
        tag.copy_from_slice(sealed.as_ref());
        *self.next += 1;
    }
}

/// Opens the records of one direction; as small as a [`Sealer`].
pub struct Opener {
    cipher: Cipher,
    secret: [u8; 32],
    next: u64,
}

/// An [`Opener`] with its key expanded, for several records in a row.
pub struct ReadyOpener<'a> {
    key: LessSafeKey,
    next: &'a mut u64,
}

/// What the beginning of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Not yet a whole record.
    Incomplete,
    /// A record: bytes it took, bytes of content.
    Record {
        /// Bytes of the buffer that are used up.
        used: usize,
        /// Bytes of content, 0 at the end of the stream.
        content: usize,
    },
}

impl Opener {
    /// The secret of the peer's [`Sealer`].
    pub fn new(cipher: Cipher, secret: &[u8; 32]) -> Self {
        Opener { cipher, secret: *secret, next: 0 }
    }

    /// Expands the key.
    pub fn ready(&mut self) -> ReadyOpener<'_> {
        ReadyOpener { key: self.cipher.key(&self.secret), next: &mut self.next }
    }

    /// As [`ReadyOpener::open`], once.
    pub fn open(&mut self, buffer: &mut [u8], at: usize) -> Result<Opened, Forged> {
        if buffer.len() < at + HEADER {
            return Ok(Opened::Incomplete);
        }
        self.ready().open(buffer, at)
    }
}

impl ReadyOpener<'_> {
    /// Opens the record that starts at `at` and moves its content to the front of the buffer, so that the contents
    /// of several records lie next to each other.
    pub fn open(&mut self, buffer: &mut [u8], at: usize) -> Result<Opened, Forged> {
        let Some(&header) = buffer.get(at..).and_then(<[u8]>::first_chunk::<HEADER>) else {
            return Ok(Opened::Incomplete);
        };
        let length = usize::from(u16::from_be_bytes(header));
        if !(TAG..=MAX_CONTENT + TAG).contains(&length) {
            return Err(Forged(*self.next));
        }
        let start = at + HEADER;
        let Some(sealed) = buffer.get_mut(..start + length) else { return Ok(Opened::Incomplete) };
        let content = self
            .key
            .open_within(nonce(*self.next), Aad::from(header), sealed, start..)
            .map_err(|_| Forged(*self.next))?
            .len();
        *self.next += 1;
        Ok(Opened::Record { used: HEADER + length, content })
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = [7; 32];

    fn ciphers() -> impl Strategy<Value = Cipher> {
        prop_oneof![Just(Cipher::ChaCha20Poly1305), Just(Cipher::Aes256Gcm), Just(Cipher::None)]
    }

    fn open_all(opener: &mut Opener, stream: &mut [u8]) -> Result<(Vec<u8>, usize), Forged> {
        let (mut at, mut content) = (0, 0);
        loop {
            match opener.open(&mut stream[content..], at - content)? {
                Opened::Incomplete => return Ok((stream[..content].to_vec(), at)),
                Opened::Record { used, content: more } => {
                    at += used;
                    content += more;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_read_back_wherever_it_is_cut(
            cipher in ciphers(), parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..6), cut: usize,
        ) {
            let (mut sealer, mut opener) = (Sealer::new(cipher, &SECRET), Opener::new(cipher, &SECRET));
            let mut stream = Vec::new();
            parts.iter().for_each(|part| sealer.append(part, &mut stream));
            let cut = cut % (stream.len() + 1);
            let (mut content, used) = open_all(&mut opener, &mut stream.clone()[..cut]).unwrap();
            let (more, rest) = open_all(&mut opener, &mut stream[used..]).unwrap();
            content.extend(more);
            prop_assert_eq!(content, parts.concat());
            prop_assert_eq!(used + rest, stream.len());
        }

        #[test]
        fn a_changed_bit_is_never_accepted(cipher in ciphers(), content in prop::collection::vec(any::<u8>(), 0..200), bit: usize) {
            let mut stream = Vec::new();
            Sealer::new(cipher, &SECRET).append(&content, &mut stream);
            let bit = bit % (stream.len() * 8);
            stream[bit / 8] ^= 1 << (bit % 8);
            let opened = Opener::new(cipher, &SECRET).open(&mut stream, 0);
            prop_assert!(matches!(opened, Err(Forged(0)) | Ok(Opened::Incomplete)), "{:?}", opened);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(mut bytes: Vec<u8>, at in 0usize..300) {
            let opened = Opener::new(Cipher::Aes256Gcm, &SECRET).open(&mut bytes, at);
            prop_assert!(matches!(opened, Err(Forged(0)) | Ok(Opened::Incomplete)));
        }
    }

    #[test]
    fn a_repeated_or_skipped_record_is_refused() {
        let mut sealer = Sealer::new(Cipher::ChaCha20Poly1305, &SECRET);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sealer.append(b"one", &mut first);
        sealer.append(b"two", &mut second);
        let mut opener = Opener::new(Cipher::ChaCha20Poly1305, &SECRET);
        assert_eq!(opener.open(&mut second.clone(), 0), Err(Forged(0)));
        assert!(opener.open(&mut first.clone(), 0).is_ok());
        assert_eq!(opener.open(&mut first, 0), Err(Forged(1)));
        assert!(opener.open(&mut second, 0).is_ok());
    }
}
