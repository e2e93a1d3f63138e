// SPDX-License-Identifier: Apache-2.0
//! What a hostile ubusd could say: for the fuzzer and its kept inputs.

use super::*;
use crate::ubus::message::{decode_data, encode_data};

const HELLO: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4];

/// A peer with an object, a pattern, a subscription and pending calls hears these bytes in portions, a second apart.
///
/// # Panics
/// When the peer breaks one of its own promises.
pub fn peer(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else { return };
    let mut now = Instant::now();
    let mut peer = Peer::new();
    let object = peer.publish("object".into(), vec![], now);
    peer.listen("event.*".into(), now);
    peer.subscribe("target".into(), now);
    begin(&mut peer, now);
    for chunk in bytes.chunks(usize::from(portion & 0x7f) + 1) {
        let heard = peer.received(chunk, now);
        act(&mut peer, object);
        now += Duration::from_secs(1);
        if let Err(fault) = heard.and_then(|()| peer.tick(now)) {
            peer.disconnected(Some(&fault));
            act(&mut peer, object);
            assert!(peer.requests.is_empty() && peer.out.is_empty());
            begin(&mut peer, now);
        }
        assert!(peer.requests.len() <= REQUESTS + 8 && peer.invocations <= INVOCATIONS);
        assert!(peer.out_bytes <= QUEUE_BYTES && peer.entries.len() == 4);
    }
}

/// Connects, and asks for something: calls wait for the greeting.
fn begin(peer: &mut Peer, now: Instant) {
    peer.connecting(now);
    let deadline = now + Duration::from_secs(30);
    let _ = peer.call("network.interface", "dump", &Value::Null, deadline);
    let _ = peer.list("hostapd.*", deadline);
    let _ = peer.received(&HELLO, now);
}

fn act(peer: &mut Peer, object: Key) {
    while let Some(action) = peer.action() {
        match action {
            Action::Invoke { ticket, args, .. } => peer.reply(ticket, Ok(args)),
            Action::Notification { data, .. } => {
                let _ = peer.notify(object, "seen", &data);
            }
            _ => {}
        }
    }
    let mut ours = Decoder::default();
    while let Some(bytes) = peer.outgoing() {
        ours.feed(&bytes);
        let sent = ours.next();
        assert!(matches!(sent, Ok(Some(Message { kind: Some(_), .. }))), "{sent:?}");
    }
}

/// A byte stream is cut into messages, and what is read of one means the same when written and read again.
///
/// # Panics
/// When it does not.
pub fn messages(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else { return };
    let whole = cut(bytes, bytes.len().max(1));
    assert_eq!(whole, cut(bytes, usize::from(portion) + 1));
    for data in whole.iter().filter_map(|message| message.fields().data) {
        let Ok(read) = decode_data(data) else { continue };
        // Names beyond a NUL and doubled ones are gone after the first turn.
        let Ok(Ok(once)) = encode_data(&read).map(|bytes| decode_data(&bytes)) else { continue };
        let twice = encode_data(&once).map(|bytes| decode_data(&bytes));
        assert_eq!(twice, Ok(Ok(once)));
    }
}

fn cut(bytes: &[u8], portion: usize) -> Vec<Message> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for chunk in bytes.chunks(portion) {
        decoder.feed(chunk);
        while let Ok(Some(message)) = decoder.next() {
            messages.push(message);
        }
        if decoder.next().is_err() {
            break;
        }
    }
    messages
}
