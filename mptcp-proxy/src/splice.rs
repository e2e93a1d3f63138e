// SPDX-License-Identifier: Apache-2.0
//! Long transfers in the clear past our memory: socket to pipe to socket.
//!
//! What is spliced out of MPTCP sockets is copied by the kernel into pages of its own, at no less cost than into our
//! buffer; so only what comes from plain TCP goes this way, where it saves a copy.
//!
//! A pipe costs two descriptors and memory, so there are few of them and a direction holds one only while there are
//! bytes in it. Whether the kernel splices MPTCP sockets is tried once, at the start.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::pipe::{fcntl_setpipe_size, pipe_with, splice, PipeFlags, SpliceFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::MPTCP;

/// A direction that has carried so much is spliced from then on.
pub const LONG: u64 = 1 << 20;
/// Pipes of a thread.
const PIPES: usize = 8;
/// What a pipe takes, where the kernel allows it.
const SIZE: usize = 1 << 20;
/// Bytes of the probe: more than a pipe takes by default.
const PROBE: usize = 100_000;
/// No step of the probe takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<(Vec<Ends>, usize)> = const { RefCell::new((Vec::new(), 0)) };
    static AVAILABLE: Cell<bool> = const { Cell::new(false) };
    static SPLICED: Cell<u64> = const { Cell::new(0) };
}

struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A pipe, back in the pool when dropped.
pub struct Pipe {
    ends: Option<Ends>,
    filled: u32,
}

/// Whether directions may be spliced.
pub fn allow(available: bool) {
    AVAILABLE.set(available);
}

/// Whether they are.
pub fn is_allowed() -> bool {
    AVAILABLE.get()
}

/// Bytes that were spliced so far.
pub fn spliced_bytes() -> u64 {
    SPLICED.get()
}

impl Pipe {
    /// An empty one, if there is one left.
    pub fn take() -> Option<Self> {
        if !AVAILABLE.get() {
            return None;
        }
        POOL.with_borrow_mut(|(free, made)| {
            let ends = match free.pop() {
                Some(ends) => ends,
                None if *made < PIPES => {
                    let ends = Ends::new().ok()?;
                    *made += 1;
                    ends
                }
                None => return None,
            };
            Some(Pipe { ends: Some(ends), filled: 0 })
        })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills it from a socket: bytes, 0 at the end of the stream.
    pub fn fill(&mut self, from: &impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let length = splice(from.as_fd(), None, &ends.writer, None, SIZE, flags)?;
        // A pipe holds [`SIZE`] at most.
        self.filled += length as u32;
        Ok(length)
    }

    /// Empties it into a socket as far as that goes.
    pub fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let length = splice(&ends.reader, None, to.as_fd(), None, self.filled as usize, flags)?;
        self.filled = self.filled.saturating_sub(length as u32);
        SPLICED.set(SPLICED.get() + length as u64);
        Ok(length)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        let reusable = self.filled == 0;
        // There is no pool while the thread ends.
        let _ = POOL.try_with(|pool| {
            let (free, made) = &mut *pool.borrow_mut();
            if reusable {
                free.push(ends);
            } else {
                // What is in it belongs to a connection that is gone.
                *made -= 1;
            }
        });
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller one does, too.
        let _ = fcntl_setpipe_size(&writer, SIZE);
        Ok(Ends { reader, writer })
    }
}

/// Tries it with a connection of this machine to itself. Blocks for some milliseconds.
pub fn probe() -> io::Result<()> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(MPTCP)));
    let listener = socket()?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(1)?;
    let near = socket()?;
    near.connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (far, _) = listener.accept()?;
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
    }
    let bytes: Vec<u8> = (0..PROBE).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut back = vec![0; PROBE];
    let mut pipe = Pipe { ends: Some(Ends::new()?), filled: 0 };
    // There from memory, back through the pipe, and from the other end into memory.
    let (mut written, mut read) = (0, 0);
    while read < PROBE {
        if written < PROBE {
            let end = PROBE.min(written + 16 * 1024);
            written += (&near).write(&bytes[written..end])?;
        }
        let moved = pipe.fill(&far)?;
        while !pipe.is_empty() {
            pipe.drain(&far)?;
        }
        (&near).read_exact(&mut back[read..read + moved])?;
        read += moved;
    }
    pipe.ends = None;
    SPLICED.set(0);
    if back != bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the bytes came back altered"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn the_probe_succeeds_here() {
        probe().unwrap();
    }

    #[test]
    fn pipes_are_few_and_come_back_empty() {
        std::thread::spawn(|| {
            assert!(Pipe::take().is_none(), "not before it is allowed");
            allow(true);
            let mut pipes: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
            assert_eq!(pipes.len(), PIPES);
            let ((mut source, from), (to, mut sink)) = (pair(), pair());
            source.write_all(b"hello").unwrap();
            assert_eq!(pipes[0].fill(&from).unwrap(), 5);
            assert_eq!(pipes[0].drain(&to).unwrap(), 5);
            let mut read = [0; 5];
            sink.read_exact(&mut read).unwrap();
            assert_eq!((&read, spliced_bytes()), (b"hello", 5));
            // One that still holds something of a connection that ended is not given to another.
            source.write_all(b"secret").unwrap();
            assert_eq!(pipes[1].fill(&from).unwrap(), 6);
            drop(pipes);
            let mut pipes: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
            assert_eq!(pipes.len(), PIPES);
            for pipe in &mut pipes {
                pipe.filled = 6;
                assert_eq!(pipe.drain(&to).unwrap_err().kind(), io::ErrorKind::WouldBlock);
                pipe.filled = 0;
            }
            drop(pipes);
            drop(source);
            let mut pipe = Pipe::take().unwrap();
            assert_eq!(pipe.fill(&from).unwrap(), 0, "the end of the stream");
        })
        .join()
        .unwrap();
    }
}
