// SPDX-License-Identifier: Apache-2.0
//! Keeps one connection to one broker, for ever, and carries alerts and values over it.

use super::session::{Closed, Event, Session, Will};
use super::values::Values;
use crate::backoff;
use crate::config::Broker;
use crate::explain::{explain, no_answer};
use crate::outbox::{Cure, Failure};
use crate::sink::stream;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch, Notify};
use tokio::time::{sleep_until, timeout, Instant};

/// TLS handshake and CONNACK.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection that lived this long was no failure.
const PROVEN: Duration = Duration::from_secs(60);

/// Everything that makes one connection differ from another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setup {
    pub(super) broker: Broker,
    pub(super) tls_verify: bool,
    pub(super) client_id: String,
    /// Where `online` and `offline` are kept.
    pub(super) status_topic: String,
}

/// What is known about the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) connected: bool,
    /// Attempts so far.
    pub(super) attempts: u32,
    /// Why the last attempt or connection failed.
    pub(super) error: Option<String>,
    /// The broker refuses the last will, so receivers are not told when this device vanishes.
    pub(super) without_will: bool,
}

/// An alert for the connection.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<(), Failure>>,
}

/// The task's side of a connection.
pub(super) struct Connection {
    pub(super) setup: Setup,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) values: Values,
    pub(super) state: watch::Sender<State>,
    /// Try now.
    pub(super) kick: Rc<Notify>,
    pub(super) stop: Rc<Notify>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Why [`Connection::drive`] ended.
enum End {
    Stopped,
    Closed(Closed),
}

impl Connection {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        let mut with_will = true;
        let stop = Rc::clone(&self.stop);
        loop {
            let stopped = async {
                stop.notified().await;
            };
            let began = Instant::now();
            self.state.send_modify(|state| state.without_will = !with_will);
            let opened = tokio::select! {
                // First: a connection that is replaced before it began is not opened.
                biased;
                () = stopped => return,
                opened = self.open(with_will) => opened,
            };
            let (closed, was_connected) = match opened {
                Ok((stream, session)) => {
                    self.state.send_modify(|state| {
                        state.connected = true;
                        state.attempts = state.attempts.wrapping_add(1);
                        state.error = None;
                    });
                    log::info!("mqtt: connected to {}", self.peer());
                    match self.drive(stream, session, with_will, &mut failures).await {
                        End::Stopped => return,
                        End::Closed(closed) => (closed, true),
                    }
                }
                Err(closed) => (closed, false),
            };
            if began.elapsed() >= PROVEN && was_connected {
                failures = 0;
            }
            // Perhaps it is only the last will that is not on the access list.
            let retry_without_will = closed.not_authorised && !was_connected && with_will;
            if !was_connected || closed.not_authorised {
                with_will = !retry_without_will;
            }
            if retry_without_will {
                continue;
            }
            if self.state.borrow().error.as_ref() != Some(&closed.reason) {
                log::warn!("mqtt: {}", closed.reason);
            }
            self.state.send_modify(|state| {
                state.connected = false;
                state.attempts = state.attempts.wrapping_add(u32::from(!was_connected));
                state.error = Some(closed.reason);
            });
            let wait = backoff::delay(failures, backoff::random());
            failures = failures.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.kick.notified() => failures = 0,
                () = stop.notified() => return,
            }
        }
    }

    fn peer(&self) -> String {
        format!("{}:{}", self.setup.broker.host, self.setup.broker.port)
    }

    async fn open(&self, with_will: bool) -> Result<(Box<dyn Stream>, Session), Closed> {
        let peer = self.peer();
        let broker = &self.setup.broker;
        let tcp = stream::connect(&peer, &broker.host, broker.port).await.map_err(Closed::because)?;
        let handshake = async {
            let mut stream = self.secure(&peer, tcp).await?;
            let will = Will { topic: self.setup.status_topic.clone(), payload: "offline" };
            let origin = Instant::now();
            let will = with_will.then_some(&will);
            let mut session =
                Session::new(&self.setup.broker, &peer, &self.setup.client_id, will, Duration::ZERO);
            let hello = session.take_outgoing(origin.elapsed());
            send(&mut stream, &peer, &hello).await?;
            let mut buffer = [0; 512];
            loop {
                let count = stream
                    .read(&mut buffer)
                    .await
                    .map_err(|error| Closed::because(explain(&peer, &error)))?;
                if count == 0 {
                    return Err(Closed::because(format!("{peer} cut the connection before it took us in")));
                }
                session.receive(&buffer[..count]);
                if session.next_event()? == Some(Event::Connected) {
                    return Ok((stream, session));
                }
            }
        };
        timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| Err(Closed::because(no_answer(&peer))))
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, peer: &str, tcp: TcpStream) -> Result<Box<dyn Stream>, Closed> {
        let Some(tls) = &self.setup.broker.tls else { return Ok(Box::new(tcp)) };
        let config = crate::tls::client_config(self.setup.tls_verify, tls.ca.as_deref(), tls.client.as_ref())
            .map_err(Closed::because)?;
        match stream::secure(peer, &self.setup.broker.host, config, tcp).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(reason) => Err(Closed::because(reason)),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async)] // as the one above
    async fn secure(&self, _: &str, tcp: TcpStream) -> Result<Box<dyn Stream>, Closed> {
        match &self.setup.broker.tls {
            None => Ok(Box::new(tcp)),
            Some(_) => Err(Closed::because(crate::explain::without_tls())),
        }
    }

    async fn drive(
        &mut self,
        mut stream: Box<dyn Stream>,
        mut session: Session,
        with_will: bool,
        failures: &mut u32,
    ) -> End {
        let peer = self.peer();
        let origin = Instant::now();
        let mut reply: Option<oneshot::Sender<Result<(), Failure>>> = None;
        let mut buffer = [0; 1024];
        if with_will {
            let _ = session.publish_value(&self.setup.status_topic, b"online".to_vec(), true);
        }
        self.values.renew();
        let closed = loop {
            self.values.take(|value| session.publish_value(&value.topic, value.payload, value.retain));
            let bytes = session.take_outgoing(origin.elapsed());
            if !bytes.is_empty() {
                let sent = tokio::select! {
                    sent = send(&mut stream, &peer, &bytes) => sent,
                    () = self.stop.notified() => return End::Stopped,
                };
                if let Err(closed) = sent {
                    break closed;
                }
            }
            tokio::select! {
                read = stream.read(&mut buffer) => {
                    match read {
                        Ok(0) => break Closed::because(format!("{peer} cut the connection")),
                        Ok(count) => session.receive(&buffer[..count]),
                        Err(error) => break Closed::because(explain(&peer, &error)),
                    }
                    let result = loop {
                        match session.next_event() {
                            Ok(None) => break Ok(()),
                            Ok(Some(Event::Connected)) => {}
                            Ok(Some(Event::Answered(answer))) => {
                                if answer.is_ok() {
                                    *failures = 0;
                                }
                                if let Some(reply) = reply.take() {
                                    let _ = reply.send(answer);
                                }
                            }
                            Err(closed) => break Err(closed),
                        }
                    };
                    if let Err(closed) = result {
                        break closed;
                    }
                }
                request = self.requests.recv(), if !session.is_busy() => {
                    let Some(request) = request else { return self.goodbye(stream, session, with_will).await };
                    // Nobody waits for it any more: its sender has been given another address.
                    if !request.reply.is_closed() {
                        match session.publish_alert(&request.topic, request.payload, origin.elapsed()) {
                            Ok(()) => reply = Some(request.reply),
                            Err(failure) => {
                                let _ = request.reply.send(Err(failure));
                            }
                        }
                    }
                }
                () = self.values.changed() => {}
                () = sleep_until(origin + session.next_tick()) => {
                    if let Err(closed) = session.tick(origin.elapsed()) {
                        break closed;
                    }
                }
                () = self.stop.notified() => return self.goodbye(stream, session, with_will).await,
            }
        };
        if let Some(reply) = reply {
            let reason = format!("{}; the alert is sent again", closed.reason);
            let _ = reply.send(Err(Failure { reason, cure: Cure::Again }));
        }
        End::Closed(closed)
    }

    async fn goodbye(&self, mut stream: Box<dyn Stream>, mut session: Session, with_will: bool) -> End {
        if with_will {
            let _ = session.publish_value(&self.setup.status_topic, b"offline".to_vec(), true);
        }
        session.disconnect();
        let bytes = session.take_outgoing(Duration::ZERO);
        let _ = timeout(GOODBYE_TIMEOUT, async {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        })
        .await;
        End::Stopped
    }
}

async fn send(stream: &mut Box<dyn Stream>, peer: &str, bytes: &[u8]) -> Result<(), Closed> {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Closed::because(explain(peer, &error))),
        Err(_) => Err(Closed::because(no_answer(peer))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A double of a broker that lets nobody in who leaves a last will.
    async fn broker_without_wills(listener: TcpListener) -> (Vec<bool>, TcpStream) {
        let mut with_will = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 256];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 12 && bytes[0] == 0x10);
            let will = bytes[9] & 0b100 != 0;
            with_will.push(will);
            stream.write_all(if will { &[0x20, 2, 0, 5] } else { &[0x20, 2, 0, 0] }).await.unwrap();
            if !will {
                return (with_will, stream);
            }
        }
    }

    #[tokio::test]
    async fn a_broker_that_refuses_the_last_will_is_used_without() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, mut seen) = watch::channel(State::default());
        let (_requests, receiver) = mpsc::channel(1);
        let broker = Broker { host: "127.0.0.1".into(), port, version5: false, login: None, tls: None };
        let setup = Setup {
            broker,
            tls_verify: true,
            client_id: "c".into(),
            status_topic: "forbidden/status".into(),
        };
        let connection = Connection {
            setup,
            requests: receiver,
            values: Values::default(),
            state,
            kick: Rc::default(),
            stop: Rc::default(),
        };
        let work = async {
            tokio::select! {
                () = connection.run() => unreachable!("it runs for ever"),
                state = seen.wait_for(|state| state.connected) => assert!(state.unwrap().without_will),
            }
        };
        let ((with_will, _open), ()) =
            timeout(Duration::from_secs(60), async { tokio::join!(broker_without_wills(listener), work) })
                .await
                .unwrap();
        assert_eq!(with_will, [true, false]);
    }
}
