// SPDX-License-Identifier: Apache-2.0
//! The relay: bytes from one socket to the other, and their ends exactly.
//!
//! - Sockets are edge-triggered; one buffer per thread serves all connections, and a connection owns memory only for
//!   what the other side did not take yet (`buffer.rs`). Long transfers in the clear go past it (`splice.rs`).
//! - The end of one direction is passed on as such (half-close); between the halves by the record that ends the stream
//!   alone, because the kernel makes no new subflow for a connection whose one direction has ended.
//! - A tunnel is closed once the other half has acknowledged everything: what the kernel still holds then is lost when
//!   the last subflow goes. A reset of one side, a time-out or a forged record
//!   resets the other: a cut transfer must never look complete.
//! - With a [`Shield`] the tunnel side is cut into records (`record.rs`); plaintext is read with gaps for headers and
//!   tags and decrypted in place, so that sealing costs no copy.

use std::future::{poll_fn, Future};
use std::io::{self, IoSliceMut};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::buffer::{self, Rest};
use crate::connections::{Connection, Phase};
use crate::net;
use crate::record::{Opened, Opener, Sealer, HEADER, MAX_CONTENT, MAX_RECORD, TAG};
use crate::socks::{self, Reply};
use crate::splice::{self, Pipe};
use crate::sys;

/// Records that are read at once.
const RECORDS: usize = buffer::SIZE / MAX_RECORD;
/// Buffers that one connection may move before the others get their turn.
const TURNS: usize = 8;

/// What comes by the faster path waits for what is still queued on the slower one, up to the window. Left to itself the
/// kernel (6.18) may stay at 64 kB for the whole of a transfer, and the faster path idle (bytes).
const WINDOW: i32 = 1 << 20;
/// A transfer that has brought so much is worth a wider one, where the kernel allows that much: on fast paths a megabyte is
/// on its way while the processor does something else (bytes).
const LARGE: u64 = 32 << 20;
const WIDE_WINDOW: i32 = 4 << 20;

/// How long a tunnel that has ended may wait for its last acknowledgements, and how often it looks.
const LINGER: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(500);

/// Keys of a connection whose payload is encrypted.
pub struct Shield {
    /// Towards the tunnel.
    pub sealer: Sealer,
    /// From the tunnel.
    pub opener: Opener,
}

/// A connection about to be relayed.
pub struct Relay {
    /// The plain side: a LAN host, or on the server half the target.
    pub local: TcpStream,
    /// The other side.
    pub tunnel: Rc<TcpStream>,
    /// Keys of the payload.
    pub shield: Option<Box<Shield>>,
    /// Bytes that were read from the tunnel and not looked at.
    pub received: Vec<u8>,
    /// Bytes for the tunnel that it did not take yet, sealed already where they have to be.
    pub unsent: Vec<u8>,
    /// The tunnel's first record is the reply to our request.
    pub awaited: Option<Awaited>,
    /// The local side opened the connection (client half); it decides which direction counts as up.
    pub opened_locally: bool,
}

/// A reply that has to come before the payload.
pub struct Awaited {
    /// Opens it, when the payload is not encrypted; otherwise the shield does.
    pub opener: Option<Opener>,
    /// The local side speaks SOCKS5 and wants the reply as well.
    pub pass_on: bool,
}

/// How a relay ended before its time.
#[derive(Debug)]
pub enum Broken {
    /// A socket failed, a record was forged, the peer reset.
    Failed(io::Error),
    /// The far end could not connect.
    Refused(Reply),
    /// A time limit, or the operator.
    Ended,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Failed(error)
    }
}

/// Relays until both directions have ended, and resets both sides if that is not how it ends.
#[expect(clippy::boxed_local, reason = "a box of the caller's would stay with its task, emptied")]
pub fn run(relay: Box<Relay>, connection: &Connection) -> impl Future<Output = Result<(), Broken>> + use<'_> {
    let mut pumps = pumps(*relay);
    // One that cannot is as good as before.
    let _ = sys::widen_window(&*pumps.tunnel, WINDOW);
    if !matches!(pumps.inward.codec, Codec::Reply { .. }) {
        connection.set_phase(Phase::Open);
    }
    async move {
        let result = poll_fn(|context| pumps.poll(context, connection)).await;
        match &result {
            Ok(()) => {
                let tunnel = pumps.tunnel.clone();
                drop(pumps);
                // Apart, for its timer must not stay with every connection.
                Box::pin(acknowledged(tunnel, connection)).await;
            }
            Err(Broken::Refused(_)) if pumps.pass_on => {
                // The reply says it; it fits the empty buffer of a socket that was sent nothing yet.
                let _ = pumps.local.try_write(pumps.inward.rest.bytes());
            }
            Err(_) => {
                net::reset(&pumps.local);
                net::reset(&pumps.tunnel);
            }
        }
        result
    }
}

/// Both directions of a connection, in the size they have while it is idle. Apart from the task, whose memory the runtime
/// rounds up to whole cache lines.
struct Pumps {
    local: TcpStream,
    tunnel: Rc<TcpStream>,
    /// Towards the tunnel.
    outward: Pump,
    /// From the tunnel.
    inward: Pump,
    opened_locally: bool,
    pass_on: bool,
}

impl Pumps {
    fn poll(&mut self, context: &mut Context<'_>, connection: &Connection) -> Poll<Result<(), Broken>> {
        let Pumps { local, tunnel, outward, inward, opened_locally, .. } = self;
        if connection.poll_ended(context) {
            return Poll::Ready(Err(Broken::Ended));
        }
        if !outward.done {
            if let Poll::Ready(result) = outward.poll(context, local, tunnel, connection, *opened_locally) {
                result?;
            }
        }
        if !inward.done {
            if let Poll::Ready(result) = inward.poll(context, tunnel, local, connection, !*opened_locally) {
                result?;
            }
        }
        match (outward.done, inward.done) {
            (true, true) => return Poll::Ready(Ok(())),
            (false, false) => {}
            _ if connection.phase() == Phase::Open => connection.set_phase(Phase::HalfClosed),
            _ => {}
        }
        // While the receiver takes nothing, nobody reads from the sender, and its reset would not be noticed.
        let (out, back) = (outward.is_blocked(), inward.is_blocked());
        if connection.looks(out || back) {
            for (blocked, from) in [(out, &*local), (back, &**tunnel)] {
                if let Some(error) = SockRef::from(from).take_error()?.filter(|_| blocked) {
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        Poll::Pending
    }
}

fn pumps(relay: Relay) -> Box<Pumps> {
    let Relay { local, tunnel, shield, received, unsent, awaited, opened_locally } = relay;
    let (sealer, opener) = match shield {
        Some(shield) => (Some(shield.sealer), Some(shield.opener)),
        None => (None, None),
    };
    let mut outward = Pump::new(unsent);
    if let Some(sealer) = sealer {
        outward.codec = Codec::Seal(Box::new(sealer));
    }
    let mut inward = Pump { from_tunnel: true, ..Pump::new(Vec::new()) };
    let pass_on = awaited.as_ref().is_some_and(|awaited| awaited.pass_on);
    match (awaited, opener) {
        (Some(Awaited { opener: Some(reply), .. }), _) => {
            let incoming =
                Incoming { opener: reply, unread: !received.is_empty(), partial: received, ended: false };
            inward.codec = Codec::Reply { incoming: Box::new(incoming), sealed: false, pass_on };
        }
        (Some(_), Some(opener)) => {
            let incoming = Incoming { opener, unread: !received.is_empty(), partial: received, ended: false };
            inward.codec = Codec::Reply { incoming: Box::new(incoming), sealed: true, pass_on };
        }
        (_, Some(opener)) => {
            inward.codec = Codec::Open(Box::new(Incoming {
                opener,
                unread: !received.is_empty(),
                partial: received,
                ended: false,
            }));
        }
        (_, None) => inward.rest = Rest::of(received),
    }
    Box::new(Pumps { local, tunnel, outward, inward, opened_locally, pass_on })
}

/// Waits until the peer has acknowledged what was sent, for a while.
async fn acknowledged(tunnel: Rc<TcpStream>, connection: &Connection) {
    let (begun, mut pause) = (Instant::now(), FIRST_LOOK);
    while sys::unacknowledged(&*tunnel).is_ok_and(|bytes| bytes > 0) && begun.elapsed() < LINGER {
        // One that was reset has no peer any more, and nothing will be acknowledged.
        if connection.has_ended() || tunnel.peer_addr().is_err() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// One direction.
struct Pump {
    /// What the receiver did not take yet.
    rest: Rest,
    /// What it did not take of a spliced direction.
    pipe: Option<Pipe>,
    /// Bytes so far.
    moved: u64,
    /// Whether they are spliced by now, once it is known.
    spliced: Option<bool>,
    /// The sender is the tunnel, whose window is ours to widen.
    from_tunnel: bool,
    /// The sender has ended.
    ended: bool,
    /// And the receiver was told.
    done: bool,
    codec: Codec,
}

enum Codec {
    Plain,
    Seal(Box<Sealer>),
    Open(Box<Incoming>),
    /// The first record is the reply to our request.
    Reply {
        incoming: Box<Incoming>,
        /// Whether records follow it.
        sealed: bool,
        pass_on: bool,
    },
}

impl Codec {
    fn incoming(&self) -> Option<&Incoming> {
        match self {
            Codec::Open(incoming) | Codec::Reply { incoming, .. } => Some(incoming),
            Codec::Plain | Codec::Seal(_) => None,
        }
    }

    /// Bytes that were read before.
    fn kept(&self) -> usize {
        self.incoming().map_or(0, |incoming| incoming.partial.len())
    }

    fn has_unread(&self) -> bool {
        self.incoming().is_some_and(|incoming| incoming.unread)
    }
}

struct Incoming {
    opener: Opener,
    /// The beginning of a record.
    partial: Vec<u8>,
    /// It was not looked at yet, and may hold whole records.
    unread: bool,
    /// The record that ends the stream was read.
    ended: bool,
}

/// What one read brought, as bytes at the beginning of the buffer for the receiver.
enum Step {
    Bytes(usize),
    /// The sender has nothing at the moment.
    Blocked,
    /// These are the last.
    End(usize),
}

impl Pump {
    fn new(rest: Vec<u8>) -> Self {
        let rest = Rest::of(rest);
        Pump {
            rest,
            pipe: None,
            moved: 0,
            spliced: None,
            from_tunnel: false,
            ended: false,
            done: false,
            codec: Codec::Plain,
        }
    }

    fn is_blocked(&self) -> bool {
        !self.done && (!self.rest.is_empty() || self.pipe.is_some())
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        connection: &Connection,
        upward: bool,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURNS {
            ready!(self.poll_flush(context, to))?;
            if self.ended {
                if !matches!(self.codec, Codec::Seal(_)) {
                    SockRef::from(to).shutdown(Shutdown::Write)?;
                }
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if !self.codec.has_unread() {
                ready!(from.poll_read_ready(context))?;
            }
            if self.is_for_splice(from) {
                if let Some(pipe) = Pipe::take() {
                    self.fill(pipe, from, connection, upward)?;
                    continue;
                }
            }
            self.step(from, to, connection, upward)?;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_flush(&mut self, context: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            ready!(to.poll_write_ready(context))?;
            let written = try_write(to, self.rest.bytes())?;
            self.rest.taken(written);
        }
        while let Some(pipe) = &mut self.pipe {
            ready!(to.poll_write_ready(context))?;
            match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
                Ok(_) if pipe.is_empty() => self.pipe = None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether it is a long transfer that the kernel can carry on with at less cost.
    fn is_for_splice(&mut self, from: &TcpStream) -> bool {
        if self.moved < splice::LONG || !matches!(self.codec, Codec::Plain) {
            return false;
        }
        *self.spliced.get_or_insert_with(|| !sys::is_mptcp(from))
    }

    /// Fills a pipe, to be emptied next.
    fn fill(
        &mut self,
        mut pipe: Pipe,
        from: &TcpStream,
        connection: &Connection,
        upward: bool,
    ) -> io::Result<()> {
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                connection.count(upward, length);
                self.pipe = Some(pipe);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Not these sockets, whatever the probe said.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => splice::allow(false),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads once and writes what came; what is not taken is kept.
    fn step(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        connection: &Connection,
        upward: bool,
    ) -> Result<(), Broken> {
        if let Codec::Reply { .. } = self.codec {
            return buffer::with(self.codec.kept(), |buffer| self.read_reply(from, buffer, connection));
        }
        let mut at = 0;
        let end = buffer::with(self.codec.kept(), |buffer| -> Result<usize, Broken> {
            let step = match &mut self.codec {
                Codec::Seal(sealer) => read_sealing(from, buffer, sealer)?,
                Codec::Open(incoming) => read_opening(from, buffer, incoming)?,
                Codec::Plain | Codec::Reply { .. } => read_plain(from, buffer)?,
            };
            let length = match step {
                Step::Blocked => return Ok(0),
                Step::End(length) => {
                    self.ended = true;
                    length
                }
                Step::Bytes(length) => length,
            };
            if length == 0 {
                return Ok(0);
            }
            connection.count(upward, length);
            let before = self.moved;
            self.moved += length as u64;
            if self.from_tunnel && before < LARGE && self.moved >= LARGE {
                let _ = sys::widen_window(from, WIDE_WINDOW);
            }
            at = try_write(to, &buffer[..length])?;
            Ok(length)
        })?;
        if at < end {
            self.rest = Rest::of_shared(at, end);
        }
        Ok(())
    }

    /// Reads the reply, and turns to the payload behind it.
    fn read_reply(
        &mut self,
        from: &TcpStream,
        buffer: &mut [u8],
        connection: &Connection,
    ) -> Result<(), Broken> {
        let Codec::Reply { incoming, sealed, pass_on } = &mut self.codec else { return Ok(()) };
        let (sealed, pass_on) = (*sealed, *pass_on);
        let Some(filled) = incoming.read(from, buffer)? else { return Ok(()) };
        let Opened::Record { used, content } =
            incoming.opener.open(&mut buffer[..filled], 0).map_err(io::Error::from)?
        else {
            incoming.keep(&buffer[..filled])?;
            return Ok(());
        };
        let (reply, _bound, _) = socks::read_reply(&buffer[..content])
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the reply is not SOCKS5"))?;
        if pass_on {
            self.rest = Rest::of(buffer[..content].to_vec());
        }
        if reply != Reply::Succeeded {
            return Err(Broken::Refused(reply));
        }
        connection.set_phase(Phase::Open);
        let mut behind = buffer[used..filled].to_vec();
        let Codec::Reply { mut incoming, .. } = std::mem::replace(&mut self.codec, Codec::Plain) else {
            return Ok(());
        };
        if sealed {
            behind = incoming.open_all(behind)?;
            self.ended = incoming.ended;
            self.codec = Codec::Open(incoming);
        }
        connection.count(false, behind.len());
        let mut rest = self.rest.bytes().to_vec();
        rest.extend(behind);
        self.rest = Rest::of(rest);
        Ok(())
    }
}

/// Writes what the receiver takes. When that is not all, it is known to be full without asking again.
fn try_write(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.try_write(bytes) {
        Ok(written) => {
            if written < bytes.len() {
                let _ = to.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
            Ok(written)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// After a read that did not fill the buffer: the sender is known to have nothing more. An end that came with the bytes
/// is not forgotten by this, for the runtime keeps that apart.
fn emptied(from: &TcpStream) {
    let _ = from.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}

fn read_plain(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Step> {
    match from.try_read(buffer) {
        Ok(0) => Ok(Step::End(0)),
        Ok(length) => {
            if length < buffer.len() {
                emptied(from);
            }
            Ok(Step::Bytes(length))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Blocked),
        Err(error) => Err(error),
    }
}

/// Reads with room for headers and tags and seals in place.
fn read_sealing(from: &TcpStream, buffer: &mut [u8], sealer: &mut Sealer) -> io::Result<Step> {
    let room = buffer.len() / MAX_RECORD * MAX_CONTENT;
    let mut records = buffer.chunks_exact_mut(MAX_RECORD);
    let mut places: [IoSliceMut<'_>; RECORDS] = std::array::from_fn(|_| {
        let place = records.next().map(|record| &mut record[HEADER..HEADER + MAX_CONTENT]);
        IoSliceMut::new(place.unwrap_or_default())
    });
    let mut length = match from.try_read_vectored(&mut places) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Blocked),
        Err(error) => return Err(error),
    };
    let ended = length == 0;
    if length < room && !ended {
        emptied(from);
    }
    let (mut end, mut sealer) = (0, sealer.ready());
    for record in buffer.chunks_exact_mut(MAX_RECORD) {
        let content = length.min(MAX_CONTENT);
        sealer.seal(&mut record[..HEADER + content + TAG]);
        end += HEADER + content + TAG;
        length -= content;
        if length == 0 {
            break;
        }
    }
    // The record without content is the end.
    Ok(if ended { Step::End(end) } else { Step::Bytes(end) })
}

fn read_opening(from: &TcpStream, buffer: &mut [u8], incoming: &mut Incoming) -> io::Result<Step> {
    let Some(filled) = incoming.read(from, buffer)? else { return Ok(Step::Blocked) };
    let (content, used) = incoming.open_in_place(&mut buffer[..filled])?;
    incoming.keep(&buffer[used..filled])?;
    Ok(if incoming.ended { Step::End(content) } else { Step::Bytes(content) })
}

impl Incoming {
    /// Fills the buffer with what was kept and what the socket has; `None` if that is nothing new.
    fn read(&mut self, from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let kept = self.partial.len();
        if self.unread {
            self.unread = false;
            buffer[..kept].copy_from_slice(&self.partial);
            self.partial = Vec::new();
            return Ok(Some(kept));
        }
        match from.try_read(&mut buffer[kept..]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tunnel was cut")),
            Ok(length) => {
                if kept + length < buffer.len() {
                    emptied(from);
                }
                buffer[..kept].copy_from_slice(&self.partial);
                self.partial = Vec::new();
                Ok(Some(kept + length))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= MAX_RECORD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is too long"));
        }
        self.partial = bytes.to_vec();
        Ok(())
    }

    /// Opens every whole record: bytes of content (moved to the front), bytes used.
    fn open_in_place(&mut self, bytes: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut content, mut used) = (0, 0);
        let mut opener = self.opener.ready();
        loop {
            match opener.open(&mut bytes[content..], used - content)? {
                Opened::Incomplete => return Ok((content, used)),
                Opened::Record { used: more, content: 0 } => {
                    self.ended = true;
                    return Ok((content, used + more));
                }
                Opened::Record { used: more, content: length } => {
                    used += more;
                    content += length;
                }
            }
        }
    }

    fn open_all(&mut self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (content, used) = self.open_in_place(&mut bytes)?;
        self.keep(&bytes[used..])?;
        bytes.truncate(content);
        Ok(bytes)
    }
}
