// SPDX-License-Identifier: Apache-2.0
//! The handshake `Noise_NNpsk0_25519_ChaChaPoly_SHA256` (Noise Protocol Framework, revision 34): two messages that prove
//! a pre-shared key to both sides and give forward secrecy to what the second one carries.
//!
//! ```text
//! -> psk, e          32 bytes of key, a tag
//! <- e, ee           32 bytes of key, the payload, a tag
//! ```
//!
//! Only what this pattern needs; no transport phase. Tests hold it to the crate `snow`.

use curve25519_dalek::constants::X25519_BASEPOINT;
use curve25519_dalek::MontgomeryPoint;
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};
use ring::{digest, hmac};

const NAME: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// A public key.
const KEY: usize = 32;
/// Of ChaCha20-Poly1305.
const TAG: usize = 16;
/// Length of the first message.
pub const QUESTION: usize = KEY + TAG;

/// Bytes of the second message beside its payload.
pub const OVERHEAD: usize = KEY + TAG;

/// The side that asks.
pub struct Initiator {
    state: State,
    secret: [u8; 32],
}

impl Initiator {
    /// The first message. `ephemeral` is random and used once.
    pub fn new(key: &[u8; 32], prologue: &[u8], ephemeral: [u8; 32]) -> (Self, [u8; QUESTION]) {
        let mut state = State::new(key, prologue);
        let mut message = [0; QUESTION];
        message[..KEY].copy_from_slice(&state.send_key(&ephemeral));
        state.seal(&mut message[KEY..]);
        (Initiator { state, secret: ephemeral }, message)
    }

    /// Reads the second message: its payload, which is left where it was.
    pub fn finish(mut self, message: &mut [u8]) -> Option<&[u8]> {
        let (key, rest) = message.split_first_chunk_mut::<KEY>()?;
        self.state.receive_key(key);
        self.state.agree(&self.secret, key);
        self.state.open(rest)
    }
}

/// The side that answers: `message` is room for a key, the payload, room for a tag. `None` when the question does not
/// prove the key.
pub fn answer(
    key: &[u8; 32],
    prologue: &[u8],
    question: &[u8; QUESTION],
    ephemeral: [u8; 32],
    message: &mut [u8],
) -> Option<()> {
    let mut state = State::new(key, prologue);
    let mut question = *question;
    let (theirs, rest) = question.split_first_chunk_mut::<KEY>()?;
    state.receive_key(theirs);
    state.open(rest)?;
    let (ours, rest) = message.split_first_chunk_mut::<KEY>()?;
    *ours = state.send_key(&ephemeral);
    state.agree(&ephemeral, theirs);
    state.seal(rest);
    Some(())
}

/// The symmetric state (5.2), with the cipher of the moment; every key is used for one message only, so that the nonce
/// is 0 throughout.
struct State {
    chaining: [u8; 32],
    hash: [u8; 32],
    cipher: [u8; 32],
}

impl State {
    /// With the prologue, and the token `psk`.
    fn new(key: &[u8; 32], prologue: &[u8]) -> Self {
        let hash = sha256(&[NAME]);
        let mut state = State { chaining: hash, hash, cipher: [0; 32] };
        state.mix_hash(prologue);
        let [chaining, hash, cipher] = hkdf(&state.chaining, key);
        state.chaining = chaining;
        state.mix_hash(&hash);
        state.cipher = cipher;
        state
    }

    /// The token `e` of our message.
    fn send_key(&mut self, secret: &[u8; 32]) -> [u8; KEY] {
        let public = X25519_BASEPOINT.mul_clamped(*secret).to_bytes();
        self.receive_key(&public);
        public
    }

    /// The token `e` of their message. With a pre-shared key it is also mixed into the key (9.2).
    fn receive_key(&mut self, public: &[u8; KEY]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    /// The token `ee`.
    fn agree(&mut self, secret: &[u8; 32], public: &[u8; KEY]) {
        self.mix_key(&MontgomeryPoint(*public).mul_clamped(*secret).to_bytes());
    }

    fn mix_key(&mut self, input: &[u8; 32]) {
        let [chaining, cipher, _] = hkdf(&self.chaining, input);
        (self.chaining, self.cipher) = (chaining, cipher);
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = sha256(&[&self.hash, bytes]);
    }

    /// Seals in place; the last bytes are room for the tag.
    fn seal(&mut self, bytes: &mut [u8]) {
        let (content, room) = bytes.split_at_mut(bytes.len() - TAG);
        let tag = self
            .key()
            .seal_in_place_separate_tag(nonce(), Aad::from(self.hash), content)
            .unwrap_or_else(|_| unreachable!("the content is far below the limit of the algorithm"));
        room.copy_from_slice(tag.as_ref());
        self.mix_hash(bytes);
    }

    fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
        let aad = Aad::from(self.hash);
        self.mix_hash(bytes);
        self.key().open_in_place(nonce(), aad, bytes).ok().map(|content| &*content)
    }

    fn key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.cipher)
            .unwrap_or_else(|_| unreachable!("the key has 32 bytes"));
        LessSafeKey::new(key)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    bytes(context.finish().as_ref())
}

/// Three outputs of HKDF (4.3); the first two are the same when only two are asked for.
fn hkdf(chaining: &[u8; 32], input: &[u8; 32]) -> [[u8; 32]; 3] {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let temporary = key(hmac::sign(&key(chaining), input).as_ref());
    let mut outputs = [[0; 32]; 3];
    let mut text = [0; 33];
    for (index, output) in outputs.iter_mut().enumerate() {
        text[32] = index as u8 + 1;
        let from = if index == 0 { 32 } else { 0 };
        *output = bytes(hmac::sign(&temporary, &text[from..]).as_ref());
        text[..32].copy_from_slice(output);
    }
    outputs
}

fn bytes(digest: &[u8]) -> [u8; 32] {
    *digest.first_chunk().unwrap_or_else(|| unreachable!("SHA-256 gives 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::random;
    use proptest::prelude::*;

    const PROLOGUE: &[u8] = b"steadynode mptcp-proxy 1";

    fn builder(key: &[u8; 32]) -> snow::Builder<'_> {
        let pattern = std::str::from_utf8(NAME).unwrap().parse().unwrap();
        snow::Builder::new(pattern).prologue(PROLOGUE).unwrap().psk(0, key).unwrap()
    }

    fn answered(key: &[u8; 32], question: &[u8; QUESTION], payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = [&[0; KEY], payload, &[0; TAG]].concat();
        answer(key, PROLOGUE, question, random(), &mut message).map(|()| message)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn snow_answers_our_question(key: [u8; 32], payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let (ours, question) = Initiator::new(&key, PROLOGUE, random());
            let mut snow = builder(&key).build_responder().unwrap();
            prop_assert_eq!(snow.read_message(&question, &mut []).unwrap(), 0);
            let mut message = vec![0; payload.len() + OVERHEAD];
            prop_assert_eq!(snow.write_message(&payload, &mut message).unwrap(), message.len());
            prop_assert_eq!(ours.finish(&mut message), Some(&*payload));
        }

        #[test]
        fn we_answer_the_question_of_snow(key: [u8; 32], payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut snow = builder(&key).build_initiator().unwrap();
            let mut question = [0; QUESTION];
            prop_assert_eq!(snow.write_message(&[], &mut question).unwrap(), QUESTION);
            let message = answered(&key, &question, &payload).unwrap();
            let mut read = vec![0; payload.len()];
            prop_assert_eq!(snow.read_message(&message, &mut read).unwrap(), payload.len());
            prop_assert_eq!(read, payload);
        }

        #[test]
        fn another_key_proves_nothing(key: [u8; 32], other: [u8; 32]) {
            prop_assume!(key != other);
            let (_, question) = Initiator::new(&other, PROLOGUE, random());
            prop_assert_eq!(answered(&key, &question, b"ticket"), None);
            let mut snow = builder(&other).build_initiator().unwrap();
            let mut question = [0; QUESTION];
            snow.write_message(&[], &mut question).unwrap();
            prop_assert_eq!(answered(&key, &question, b"ticket"), None);
            let (ours, _) = Initiator::new(&key, PROLOGUE, random());
            let mut message = answered(&other, &question, b"ticket").unwrap();
            prop_assert_eq!(ours.finish(&mut message), None);
        }

        #[test]
        fn a_message_that_was_altered_anywhere_is_refused(key: [u8; 32], at: prop::sample::Index, bit in 0u32..8) {
            let (ours, question) = Initiator::new(&key, PROLOGUE, random());
            let mut altered = question;
            altered[at.index(QUESTION)] ^= 1 << bit;
            prop_assert_eq!(answered(&key, &altered, b"ticket"), None);
            let mut message = answered(&key, &question, b"ticket").unwrap();
            let place = at.index(message.len());
            message[place] ^= 1 << bit;
            // The highest bit of a public key does not count for the agreement (RFC 7748 5), but for the hash.
            prop_assert_eq!(ours.finish(&mut message), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(key: [u8; 32], bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (ours, _) = Initiator::new(&key, PROLOGUE, random());
            let mut message = bytes.clone();
            prop_assert_eq!(ours.finish(&mut message), None);
            if let Some(question) = bytes.first_chunk() {
                prop_assert_eq!(answered(&key, question, b""), None);
            }
        }
    }

    #[test]
    fn another_prologue_is_another_protocol() {
        let key = random();
        let (_, question) = Initiator::new(&key, b"steadynode mptcp-proxy 2", random());
        assert_eq!(answered(&key, &question, b""), None);
    }
}
