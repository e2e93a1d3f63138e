// SPDX-License-Identifier: Apache-2.0
//! A device on a pseudo-terminal: what a serial driver and a cable are for a real one.

use crate::tty::{self, make_raw, Readiness};
use nix::poll::PollFlags;
use rustix::fs::{fcntl_getfl, fcntl_setfl, open, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A pseudo-terminal, of which the device has the one end and the daemon under test opens the other.
#[derive(Debug)]
pub struct Pty {
    device: OwnedFd,
    /// Held open, so that the line does not hang up whenever its reader closes it.
    _line: OwnedFd,
    path: PathBuf,
}

impl Pty {
    /// A new one, raw from the beginning.
    ///
    /// # Errors
    /// The system has none left or gives none out.
    pub fn open() -> io::Result<Self> {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&device)?;
        unlockpt(&device)?;
        let name = ptsname(&device, Vec::new())?;
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
        let line = open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        make_raw(line.as_fd(), 115_200)?;
        let flags = fcntl_getfl(&device)?;
        fcntl_setfl(&device, flags | OFlags::NONBLOCK)?;
        Ok(Self { device, _line: line, path })
    }

    /// Where the other end is to be opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for commands, at most `limit`, and reads them.
    ///
    /// # Errors
    /// The terminal is broken.
    pub fn receive(&self, bytes: &mut [u8], limit: Duration) -> io::Result<usize> {
        if tty::wait(self.device.as_fd(), PollFlags::POLLIN, limit)? == Readiness::Silent {
            return Ok(0);
        }
        match rustix::io::read(&self.device, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends as much as the reader has room for, as a device does that cannot wait; returns how much that was.
    ///
    /// # Errors
    /// The terminal is broken.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        tty::send(self.device.as_fd(), bytes)
    }
}

/// A symbolic link that names the device wherever it is now; removed on drop.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
}

impl Link {
    /// Points `path` at a terminal; only a symbolic link is ever replaced.
    ///
    /// # Errors
    /// Something else is there, or the link cannot be made.
    pub fn new(path: &Path, target: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_symlink()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no symbolic link"));
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        symlink(target, &fresh)?;
        fs::rename(&fresh, path).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One that somebody has removed is gone already.
        let _ = fs::remove_file(&self.path);
    }
}
