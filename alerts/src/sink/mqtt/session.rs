// SPDX-License-Identifier: Apache-2.0
//! One MQTT connection as a state machine: bytes and time in, bytes and events out.
//!
//! Packets are encoded and decoded by rumqttc's packet types. Its event loop is not used: it drops what it has queued when
//! the broker forgot the session, tells no packet id of what it publishes, so that an acknowledgement cannot be matched,
//! and its TLS brings packages of its own. Here one alert is in flight, and its identifier is known.

use crate::config::Broker;
use crate::explain::one_line;
use crate::outbox::{Cure, Failure};
use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::{self as mqttbytes5, v5};
use std::time::Duration;

/// A link is told dead after this and [`PING_TIMEOUT`] without a sign of the broker.
const KEEP_ALIVE: Duration = Duration::from_secs(40);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a broker may take to acknowledge an alert.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// Nothing is subscribed to: only acknowledgements come in.
const LARGEST_INCOMING: usize = 16 * 1024;

/// What the peer said, as far as it concerns the connection's owner.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The broker took us in.
    Connected,
    /// The broker acknowledged the alert in flight, or refused it.
    Answered(Result<(), Failure>),
}

/// Why the connection is at its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) reason: String,
    /// The broker did not accept who we are or what we want to do.
    pub(super) not_authorised: bool,
}

impl Closed {
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), not_authorised: false }
    }
}

/// See the module. Times are durations since any origin.
#[derive(Debug)]
pub(super) struct Session {
    version5: bool,
    peer: String,
    connected: bool,
    incoming: BytesMut,
    outgoing: BytesMut,
    next_id: u16,
    /// Identifier of the alert in flight and when its acknowledgement is overdue.
    in_flight: Option<(u16, Duration)>,
    keep_alive: Duration,
    last_sent: Duration,
    ping_due: Option<Duration>,
    largest_outgoing: usize,
}

/// What the broker publishes for us when we vanish.
#[derive(Debug, Clone)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: &'static str,
}

impl Session {
    /// Starts with CONNECT in [`Session::take_outgoing`]. The session is clean: what matters is kept in the outbox, not here.
    pub(super) fn new(
        broker: &Broker,
        peer: &str,
        client_id: &str,
        will: Option<&Will>,
        now: Duration,
    ) -> Self {
        let mut session = Self {
            version5: broker.version5,
            peer: peer.to_owned(),
            connected: false,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            next_id: 0,
            in_flight: None,
            keep_alive: KEEP_ALIVE,
            last_sent: now,
            ping_due: None,
            largest_outgoing: usize::MAX,
        };
        let login = broker.login.as_ref().map(|(user, password)| (user.as_str(), password.expose()));
        #[allow(clippy::cast_possible_truncation)] // a constant far below 65536
        let keep_alive = KEEP_ALIVE.as_secs() as u16;
        if broker.version5 {
            let connect = v5::Connect {
                keep_alive,
                client_id: client_id.to_owned(),
                clean_start: true,
                properties: None,
            };
            let will = will.map(|will| {
                v5::LastWill::new(will.topic.clone(), will.payload, mqttbytes5::QoS::AtLeastOnce, true, None)
            });
            let login = login.map(|(user, password)| v5::Login::new(user, password));
            let _ = connect.write(&will, &login, &mut session.outgoing);
        } else {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = keep_alive;
            connect.last_will = will.map(|will| {
                v4::LastWill::new(will.topic.clone(), will.payload, mqttbytes::QoS::AtLeastOnce, true)
            });
            if let Some((user, password)) = login {
                connect.set_login(user, password);
            }
            let _ = connect.write(&mut session.outgoing);
        }
        session
    }

    /// Bytes for the broker; empty when there are none.
    pub(super) fn take_outgoing(&mut self, now: Duration) -> Bytes {
        if !self.outgoing.is_empty() {
            self.last_sent = now;
        }
        self.outgoing.split().freeze()
    }

    /// An alert: it is [`Event::Answered`] in the end, or the connection closes.
    pub(super) fn publish_alert(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        now: Duration,
    ) -> Result<(), Failure> {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.publish(topic, payload, Some(self.next_id), false)
            .map_err(|reason| Failure { reason, cure: Cure::Drop })?;
        self.in_flight = Some((self.next_id, now + ACK_TIMEOUT));
        Ok(())
    }

    /// A value that may be lost.
    pub(super) fn publish_value(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        retain: bool,
    ) -> Result<(), String> {
        self.publish(topic, payload, None, retain)
    }

    fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        id: Option<u16>,
        retain: bool,
    ) -> Result<(), String> {
        let before = self.outgoing.len();
        let written = if self.version5 {
            let qos = if id.is_some() { mqttbytes5::QoS::AtLeastOnce } else { mqttbytes5::QoS::AtMostOnce };
            let mut packet = v5::Publish::new(topic, qos, payload, None);
            (packet.pkid, packet.retain) = (id.unwrap_or(0), retain);
            packet.write(&mut self.outgoing).map_err(|error| error.to_string())
        } else {
            let qos = if id.is_some() { mqttbytes::QoS::AtLeastOnce } else { mqttbytes::QoS::AtMostOnce };
            let mut packet = v4::Publish::new(topic, qos, payload);
            (packet.pkid, packet.retain) = (id.unwrap_or(0), retain);
            packet.write(&mut self.outgoing).map_err(|error| error.to_string())
        };
        let size = self.outgoing.len() - before;
        match written {
            Ok(_) if size <= self.largest_outgoing => Ok(()),
            Ok(_) => {
                self.outgoing.truncate(before);
                Err(format!(
                    "{} takes at most {} bytes, this message has {size}",
                    self.peer, self.largest_outgoing
                ))
            }
            Err(error) => {
                self.outgoing.truncate(before);
                Err(format!("cannot be sent over MQTT: {error}"))
            }
        }
    }

    /// Says goodbye, so that the broker does not publish the will.
    pub(super) fn disconnect(&mut self) {
        self.outgoing.extend_from_slice(&[0xe0, 0]);
    }

    /// Whether an alert waits for its acknowledgement.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Takes in what the broker sent; call [`Session::next_event`] until it has nothing.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.ping_due = None;
        self.incoming.extend_from_slice(bytes);
    }

    /// What the received bytes mean.
    pub(super) fn next_event(&mut self) -> Result<Option<Event>, Closed> {
        const FIRST: [u8; 3] = [0x20, 0xe0, 0xf0];
        // Something else that speaks first, or answers, is not waited for.
        if !self.connected && self.incoming.first().is_some_and(|byte| !FIRST.contains(byte)) {
            return Err(self.garbage());
        }
        loop {
            let length = match mqttbytes::check(self.incoming.iter(), LARGEST_INCOMING) {
                Ok(header) => header.frame_length(),
                Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
                Err(_) => return Err(self.garbage()),
            };
            let packet = self.incoming.split_to(length).freeze();
            if let Some(event) = self.packet(packet)? {
                return Ok(Some(event));
            }
        }
    }

    fn packet(&mut self, packet: Bytes) -> Result<Option<Event>, Closed> {
        const CONNACK: u8 = 2;
        const PUBACK: u8 = 4;
        const DISCONNECT: u8 = 14;
        match (packet[0] >> 4, self.connected) {
            (CONNACK, false) => {
                self.connack(packet)?;
                self.connected = true;
                Ok(Some(Event::Connected))
            }
            (PUBACK, true) => Ok(self.puback(&packet)?.map(Event::Answered)),
            (DISCONNECT, _) if self.version5 => Err(self.goodbye(packet)),
            (_, true) => Ok(None),
            (_, false) => Err(self.garbage()),
        }
    }

    fn connack(&mut self, packet: Bytes) -> Result<(), Closed> {
        let peer = &self.peer;
        let refused = |reason: String, not_authorised| Err(Closed { reason, not_authorised });
        // A broker that knows only MQTT 3 answers MQTT 5 with its own form: code 1, no properties.
        if !self.version5 || packet.len() == 4 {
            use v4::ConnectReturnCode as Code;
            let header = mqttbytes::check(packet.iter(), usize::MAX).map_err(|_| self.garbage())?;
            let code = v4::ConnAck::read(header, packet).map_err(|_| self.garbage())?.code;
            return match code {
                Code::Success if !self.version5 => Ok(()),
                Code::Success | Code::RefusedProtocolVersion => refused(
                    format!(
                        "{peer} does not speak MQTT {}; set mqtt_version",
                        if self.version5 { "5" } else { "3.1.1" }
                    ),
                    false,
                ),
                Code::BadClientId => refused(format!("{peer} does not accept our client id"), false),
                Code::ServiceUnavailable => {
                    refused(format!("{peer}: the broker is not available now"), false)
                }
                Code::BadUserNamePassword => refused(wrong_password(peer), true),
                Code::NotAuthorized => refused(not_authorised(peer), true),
            };
        }
        let header = v5::check(packet.iter(), None).map_err(|_| self.garbage())?;
        let connack = v5::ConnAck::read(header, packet).map_err(|_| self.garbage())?;
        let properties = connack.properties;
        let said = properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
        match connack.code {
            v5::ConnectReturnCode::Success => {
                if let Some(properties) = properties {
                    if let Some(seconds) = properties.server_keep_alive {
                        self.keep_alive = match seconds {
                            0 => KEEP_ALIVE,
                            _ => Duration::from_secs(seconds.into()).min(KEEP_ALIVE),
                        };
                    }
                    if let Some(bytes) = properties.max_packet_size {
                        self.largest_outgoing = usize::try_from(bytes).unwrap_or(usize::MAX);
                    }
                    if properties.max_qos == Some(0) {
                        return refused(
                            format!("{peer} acknowledges nothing (no QoS 1): alerts need another broker"),
                            false,
                        );
                    }
                }
                Ok(())
            }
            v5::ConnectReturnCode::BadUserNamePassword => refused(wrong_password(peer), true),
            v5::ConnectReturnCode::NotAuthorized | v5::ConnectReturnCode::Banned => {
                refused(not_authorised(peer), true)
            }
            other => refused(
                format!("{peer} refused the connection: {}", spoken(&format!("{other:?}"), said)),
                false,
            ),
        }
    }

    fn puback(&mut self, packet: &Bytes) -> Result<Option<Result<(), Failure>>, Closed> {
        use v5::PubAckReason as Reason;
        let (id, reason, said) = if self.version5 {
            let header = v5::check(packet.iter(), None).map_err(|_| self.garbage())?;
            let ack = v5::PubAck::read(header, packet.clone()).map_err(|_| self.garbage())?;
            (ack.pkid, ack.reason, ack.properties.and_then(|properties| properties.reason_string))
        } else {
            let header = mqttbytes::check(packet.iter(), usize::MAX).map_err(|_| self.garbage())?;
            let ack = v4::PubAck::read(header, packet.clone()).map_err(|_| self.garbage())?;
            (ack.pkid, Reason::Success, None)
        };
        if self.in_flight.is_none_or(|(expected, _)| expected != id) {
            return Ok(None);
        }
        self.in_flight = None;
        let peer = &self.peer;
        let failure = |cure, reason: String| Some(Err(Failure { reason, cure }));
        Ok(match reason {
            Reason::Success | Reason::NoMatchingSubscribers => Some(Ok(())),
            Reason::NotAuthorized => {
                failure(Cure::Retry, format!("{peer} does not let us publish to this topic (access list)"))
            }
            Reason::PayloadFormatInvalid => {
                failure(Cure::Drop, format!("{peer} does not accept the message's form"))
            }
            other => failure(
                Cure::Retry,
                format!("{peer} refused the message: {}", spoken(&format!("{other:?}"), said.as_deref())),
            ),
        })
    }

    fn goodbye(&self, packet: Bytes) -> Closed {
        let peer = &self.peer;
        let header = v5::check(packet.iter(), None).ok();
        let Some(Ok(packet)) = header.map(|header| v5::Disconnect::read(header, packet)) else {
            return Closed::because(format!("{peer} ended the connection"));
        };
        let said = packet.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
        match packet.reason_code {
            v5::DisconnectReasonCode::SessionTakenOver => {
                Closed::because(format!("{peer}: another client with our client id took our place"))
            }
            v5::DisconnectReasonCode::NotAuthorized => {
                Closed { reason: not_authorised(peer), not_authorised: true }
            }
            other => Closed::because(format!(
                "{peer} ended the connection: {}",
                spoken(&format!("{other:?}"), said)
            )),
        }
    }

    /// When [`Session::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Duration {
        let ping = self.ping_due.unwrap_or(self.last_sent + self.keep_alive / 4 * 3);
        self.in_flight.map_or(ping, |(_, due)| ping.min(due))
    }

    /// Keeps the connection alive and finds it dead.
    pub(super) fn tick(&mut self, now: Duration) -> Result<(), Closed> {
        if self.in_flight.is_some_and(|(_, due)| now >= due) {
            return Err(Closed::because(format!("{} does not acknowledge", self.peer)));
        }
        if self.ping_due.is_some_and(|due| now >= due) {
            return Err(Closed::because(crate::explain::no_answer(&self.peer)));
        }
        if self.ping_due.is_none() && now >= self.last_sent + self.keep_alive / 4 * 3 {
            self.outgoing.extend_from_slice(&[0xc0, 0]);
            self.ping_due = Some(now + PING_TIMEOUT);
        }
        Ok(())
    }

    fn garbage(&self) -> Closed {
        Closed::because(format!("{} does not speak MQTT as it should; is this the right port?", self.peer))
    }
}

fn wrong_password(peer: &str) -> String {
    format!("{peer} does not accept the user name or password")
}

fn not_authorised(peer: &str) -> String {
    format!("{peer} does not let us in: wrong user name or password, or not on its access list")
}

/// `QuotaExceeded` as words, with what the broker added.
fn spoken(code: &str, said: Option<&str>) -> String {
    let mut words = String::new();
    for letter in code.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    match said {
        Some(said) => format!("{words} ({})", one_line(said)),
        None => words,
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
