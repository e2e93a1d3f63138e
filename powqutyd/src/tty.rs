// SPDX-License-Identifier: Apache-2.0
//! A serial line in raw mode, read without ever waiting longer than asked.

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use rustix::fs::{flock, open, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{self, ControlModes, OptionalActions, QueueSelector};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// An open serial line; closing it drops DTR, as for every tty.
#[derive(Debug)]
pub struct Tty {
    fd: OwnedFd,
}

/// What [`Tty::wait`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There is something to read, be it the news that the other end is gone.
    Readable,
    /// Nothing came.
    Silent,
}

impl Tty {
    /// Opens `path` raw, 8N1 at `baud` without flow control, and throws away what waits in it.
    ///
    /// # Errors
    /// The device is absent, refuses, is no tty, or is in use by another program that locks it.
    pub fn open(path: &Path, baud: u32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        if !termios::isatty(&fd) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no serial line"));
        }
        // A file system without locks has none to respect.
        if flock(&fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "is in use by another program"));
        }
        make_raw(fd.as_fd(), baud)?;
        termios::tcflush(&fd, QueueSelector::IOFlush)?;
        Ok(Self { fd })
    }

    /// Waits for input, at most `limit`.
    ///
    /// # Errors
    /// The descriptor cannot be polled.
    pub fn wait(&self, limit: Duration) -> io::Result<Readiness> {
        wait(self.fd.as_fd(), PollFlags::POLLIN, limit)
    }

    /// Reads what is there; `None` when nothing is.
    ///
    /// # Errors
    /// The device is gone ([`io::ErrorKind::UnexpectedEof`]) or broken.
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.fd, bytes) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device is gone")),
            Ok(count) => Ok(Some(count)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(Errno::IO | Errno::NODEV | Errno::NXIO) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device is gone"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends as much as there is room for; returns how much that was.
    ///
    /// # Errors
    /// The device is gone.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        send(self.fd.as_fd(), bytes)
    }

    /// Writes a short command.
    ///
    /// # Errors
    /// The device is gone, or has not taken the bytes after `limit`.
    pub fn write_all(&self, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while !bytes.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "the device takes no commands"));
                    }
                    wait(self.fd.as_fd(), PollFlags::POLLOUT, left)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Sets a terminal to raw 8N1 without flow control.
///
/// # Errors
/// `fd` is no terminal, or the speed is none it knows.
pub fn make_raw(fd: BorrowedFd<'_>, baud: u32) -> io::Result<()> {
    let mut settings = termios::tcgetattr(fd)?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    settings.control_modes &= !(ControlModes::CSTOPB | ControlModes::CRTSCTS);
    settings.set_speed(baud)?;
    termios::tcsetattr(fd, OptionalActions::Now, &settings)?;
    Ok(())
}

/// Writes what `fd`, which does not block, has room for; returns how much that was.
///
/// # Errors
/// The other end is gone.
pub fn send(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => {
                sent += count;
                bytes = &bytes[count..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

/// Waits until `fd` is ready for `what`, at most `limit`; errors and hang-ups count as ready.
///
/// # Errors
/// The descriptor cannot be polled.
pub fn wait(fd: BorrowedFd<'_>, what: PollFlags, limit: Duration) -> io::Result<Readiness> {
    let mut polled = [PollFd::new(fd, what)];
    let milliseconds = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let limit = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, limit) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(Readiness::Silent),
        Ok(_) => Ok(Readiness::Readable),
        Err(error) => Err(error.into()),
    }
}
