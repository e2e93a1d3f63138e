// SPDX-License-Identifier: Apache-2.0
//! One end of a tunnel connection that carries datagrams.
//!
//! What the tunnel does not take at once is kept up to a limit, and datagrams beyond it are dropped: a datagram that
//! is late is worth less than the next one.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::frame::{self, Frame, MAX_FRAME};
use super::with_buffer;
use crate::connections::{Connection, Guard, Phase};
use crate::net;
use crate::record::{self, Cipher, Opener, Sealer, MAX_CONTENT, MAX_RECORD};
use crate::session::{Greeting, Welcome};
use crate::socks::{self, Reply, Target};
use crate::upstream::Accepted;

/// Bytes that wait for the tunnel, at most.
const MAX_WAITING: usize = 64 * 1024;
/// What the kernel may hold of ours that was not sent; more would only add delay.
const UNSENT: u32 = 64 * 1024;

/// The end that sends.
pub struct Carrier {
    stream: Rc<TcpStream>,
    connection: Rc<Connection>,
    /// The client half, whose datagrams count as up.
    opened_here: bool,
    sealer: RefCell<Option<Sealer>>,
    waiting: RefCell<Vec<u8>>,
    more: Notify,
}

/// The end that receives, to be driven by [`Carrier::run`].
pub struct Receiver {
    /// Opens records; `None` where the payload is not encrypted.
    pub opener: Option<Opener>,
    /// Opens the reply that comes before the payload, where it is not encrypted.
    pub reply: Option<Opener>,
    /// The reply is still to come.
    pub awaited: bool,
    /// Bytes of the tunnel that were not looked at.
    pub received: Vec<u8>,
}

/// Both ends of one half.
pub struct Opened {
    /// The end that sends.
    pub carrier: Rc<Carrier>,
    /// The end that receives.
    pub receiver: Receiver,
}

impl Opened {
    /// The client half's: a server has accepted the request.
    pub fn by_us(accepted: Accepted, cipher: Cipher, guard: &Guard) -> Self {
        let stream = accepted.stream;
        guard.tunnel.replace(Some(stream.clone()));
        let Greeting { sealer, opener, .. } = *accepted.greeting;
        let (sealer, opener, reply) = match cipher {
            Cipher::None => (None, None, Some(opener)),
            Cipher::ChaCha20Poly1305 | Cipher::Aes256Gcm => (Some(sealer), Some(opener), None),
        };
        let carrier = Carrier::new(stream, Rc::clone(guard), true, sealer, Vec::new());
        Opened { carrier, receiver: Receiver { opener, reply, awaited: true, received: accepted.received } }
    }

    /// The server half's, which tells the client that its request is served.
    pub fn by_them(tunnel: &Rc<TcpStream>, welcome: Welcome, received: Vec<u8>, guard: &Guard) -> Self {
        let Welcome { cipher, mut sealer, opener, .. } = welcome;
        let (mut content, mut reply) = (Vec::new(), Vec::new());
        socks::write_reply(Reply::Succeeded, net::any(false, 0), &mut content);
        sealer.append(&content, &mut reply);
        let (sealer, opener) = match cipher {
            Cipher::None => (None, None),
            Cipher::ChaCha20Poly1305 | Cipher::Aes256Gcm => (Some(sealer), Some(opener)),
        };
        let carrier = Carrier::new(tunnel.clone(), Rc::clone(guard), false, sealer, reply);
        Opened { carrier, receiver: Receiver { opener, reply: None, awaited: false, received } }
    }
}

impl Carrier {
    /// Sends on this tunnel, sealed where there is a sealer, behind bytes that are ready to be sent.
    pub fn new(
        stream: Rc<TcpStream>,
        connection: Rc<Connection>,
        opened_here: bool,
        sealer: Option<Sealer>,
        unsent: Vec<u8>,
    ) -> Rc<Self> {
        let _ = socket2::SockRef::from(&*stream).set_tcp_notsent_lowat(UNSENT);
        Rc::new(Carrier {
            stream,
            connection,
            opened_here,
            sealer: RefCell::new(sealer),
            waiting: RefCell::new(unsent),
            more: Notify::new(),
        })
    }

    /// Sends a datagram; false when there is no room for it and it is dropped.
    pub fn send(&self, flow: u32, address: &Target, payload: &[u8]) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let idle = waiting.is_empty();
        if waiting.len() + payload.len() > MAX_WAITING {
            return false;
        }
        let mut frames = Vec::new();
        if !frame::append(flow, address, payload, &mut frames) {
            return false;
        }
        self.connection.count(self.opened_here, payload.len());
        self.append(&frames, &mut waiting);
        if idle {
            // The task that runs the tunnel meets an error again.
            let written = self.stream.try_write(&waiting).unwrap_or_default();
            waiting.drain(..written);
            if !waiting.is_empty() {
                self.more.notify_one();
            }
        }
        if waiting.is_empty() {
            *waiting = Vec::new();
        }
        true
    }

    /// Ends the tunnel.
    pub fn end(&self) {
        self.connection.end();
    }

    /// Appends frames that were written elsewhere.
    pub fn append_frames(&self, frames: &[u8]) {
        self.append(frames, &mut self.waiting.borrow_mut());
        self.more.notify_one();
    }

    fn append(&self, frames: &[u8], out: &mut Vec<u8>) {
        match &mut *self.sealer.borrow_mut() {
            Some(sealer) => frames.chunks(MAX_CONTENT).for_each(|content| sealer.append(content, out)),
            None => out.extend(frames),
        }
    }

    /// Hands over what comes until the tunnel ends.
    pub async fn run(&self, mut receiver: Receiver, deliver: &mut dyn FnMut(Frame<'_>)) -> io::Result<()> {
        let mut frames = Vec::new();
        if !receiver.awaited {
            self.connection.set_phase(Phase::Open);
        }
        self.take(&mut receiver, &mut frames, deliver)?;
        loop {
            let pending = !self.waiting.borrow().is_empty();
            tokio::select! {
                ready = self.stream.readable() => {
                    ready?;
                    let read = with_buffer(|buffer| match self.stream.try_read(buffer) {
                        Ok(length) => {
                            receiver.received.extend(&buffer[..length]);
                            Ok(length > 0)
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                        Err(error) => Err(error),
                    })?;
                    if !read {
                        return Ok(());
                    }
                    self.take(&mut receiver, &mut frames, deliver)?;
                }
                ready = self.stream.writable(), if pending => {
                    ready?;
                    let mut waiting = self.waiting.borrow_mut();
                    match self.stream.try_write(&waiting) {
                        Ok(written) => drop(waiting.drain(..written)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                () = self.more.notified(), if !pending => {}
                () = self.ended() => return Ok(()),
            }
        }
    }

    async fn ended(&self) {
        std::future::poll_fn(|context| {
            if self.connection.poll_ended(context) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// Opens the records that are complete and hands over the frames that are.
    fn take(
        &self,
        receiver: &mut Receiver,
        frames: &mut Vec<u8>,
        deliver: &mut dyn FnMut(Frame<'_>),
    ) -> io::Result<()> {
        receiver.read_reply()?;
        if receiver.awaited {
            return Ok(());
        }
        self.connection.set_phase(Phase::Open);
        receiver.read_payload(frames)?;
        let mut at = 0;
        while let Some((frame, used)) = frame::read(&frames[at..])? {
            self.connection.count(!self.opened_here, frame.payload.len());
            deliver(frame);
            at += used;
        }
        frames.drain(..at);
        if frames.is_empty() {
            *frames = Vec::new();
        }
        if frames.len() > MAX_FRAME + MAX_RECORD {
            return Err(frame::Malformed.into());
        }
        Ok(())
    }
}

impl Receiver {
    fn read_reply(&mut self) -> io::Result<()> {
        if !self.awaited {
            return Ok(());
        }
        let Some(opener) = self.reply.as_mut().or(self.opener.as_mut()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let record::Opened::Record { used, content } = opener.open(&mut self.received, 0)? else {
            return too_long(&self.received);
        };
        match socks::read_reply(&self.received[..content]) {
            Ok((Reply::Succeeded, ..)) => {}
            Ok((Reply::CommandNotSupported, ..)) => return Err(io::ErrorKind::Unsupported.into()),
            Ok((reply, ..)) => return Err(io::Error::other(format!("refused: {reply:?}"))),
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        self.received.drain(..used);
        self.awaited = false;
        Ok(())
    }

    fn read_payload(&mut self, frames: &mut Vec<u8>) -> io::Result<()> {
        let Some(opener) = &mut self.opener else {
            frames.append(&mut self.received);
            return Ok(());
        };
        let mut at = 0;
        while let record::Opened::Record { used, content } = opener.open(&mut self.received[at..], 0)? {
            frames.extend(&self.received[at..at + content]);
            at += used;
        }
        self.received.drain(..at);
        if self.received.is_empty() {
            self.received = Vec::new();
        }
        too_long(&self.received)
    }
}

fn too_long(partial: &[u8]) -> io::Result<()> {
    if partial.len() >= MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is too long"));
    }
    Ok(())
}
