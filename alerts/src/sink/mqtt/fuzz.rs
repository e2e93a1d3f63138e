// SPDX-License-Identifier: Apache-2.0
//! What a broker could send: for the fuzzer and its kept inputs.

use super::session::{Event, Session};
use crate::config::Broker;
use std::time::Duration;

/// A broker that sends these bytes, in both versions of MQTT, while alerts and values go out.
///
/// # Panics
/// When more alerts are acknowledged than were sent, or what the operator would read is no line of a log.
pub fn broker(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else { return };
    for version5 in [false, true] {
        listen(version5, usize::from(portion) + 1, bytes);
    }
}

fn listen(version5: bool, portion: usize, bytes: &[u8]) {
    let broker = Broker { host: "broker".into(), port: 1883, version5, login: None, tls: None };
    let mut now = Duration::ZERO;
    let mut session = Session::new(&broker, "broker:1883", "client", None, now);
    let mut connected = false;
    for chunk in bytes.chunks(portion) {
        session.receive(chunk);
        loop {
            let busy = session.is_busy();
            match session.next_event() {
                Ok(Some(Event::Answered(answer))) => {
                    assert!(busy && !session.is_busy(), "an answer to nothing");
                    assert!(answer.err().is_none_or(|failure| is_line(&failure.reason)));
                }
                Ok(Some(Event::Connected)) => {
                    assert!(!connected, "connected twice");
                    connected = true;
                }
                Ok(None) => break,
                Err(closed) => return assert!(is_line(&closed.reason), "{:?}", closed.reason),
            }
        }
        if connected {
            if !session.is_busy() {
                let _ = session.publish_alert("topic", b"alert".to_vec(), now);
            }
            let _ = session.publish_value("topic", b"value".to_vec(), true);
        }
        session.take_outgoing(now);
        now += Duration::from_secs(1);
        if session.tick(now).is_err() {
            return;
        }
    }
}

fn is_line(text: &str) -> bool {
    text.len() < 2000 && !text.contains(char::is_control)
}
