// SPDX-License-Identifier: Apache-2.0
//! Where configuration lies on disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{delta, lex, Cause, Error, Package};

/// The largest configuration or delta file that is read; OpenWrt's are a few KiB. Names are looked up one by
/// one, as in libuci, so this bounds the time as well as the memory.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// How long a writer's lock is waited for. `uci commit` holds it for milliseconds.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(1);
pub(super) const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The directories of UCI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Committed configuration, one file per package.
    pub config_dir: PathBuf,
    /// Changes not yet committed, one delta file per package.
    pub state_dir: PathBuf,
}

impl Default for Source {
    /// `/etc/config` and `/tmp/.uci`, OpenWrt's places.
    fn default() -> Self {
        Source { config_dir: "/etc/config".into(), state_dir: "/tmp/.uci".into() }
    }
}

impl Source {
    /// Where a package's file lies.
    pub fn file(&self, package: &str) -> PathBuf {
        self.config_dir.join(package)
    }

    /// Reads a package and lays its uncommitted changes over it. Blocks, and waits up to a second for each of the two
    /// files while a writer has it locked. A delta that cannot be read or applied is
    /// left out with a warning in the log, as libuci leaves it out.
    ///
    /// # Errors
    /// [`Error`] when the configuration file itself cannot be read or is not valid UCI.
    pub fn load(&self, package: &str) -> Result<Package, Error> {
        if !lex::is_package(package) {
            return Err(Error::new(package, Cause::BadName));
        }
        let path = self.file(package);
        let error = |cause| Error::new(path.display().to_string(), cause);
        let text = read(&path).map_err(|cause| error(self.explain(cause)))?;
        let mut package = Package::parse(package, &text).map_err(|syntax| error(syntax.cause().clone()))?;
        self.overlay(&mut package);
        Ok(package)
    }

    fn explain(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Missing if !self.config_dir.is_dir() => Cause::MissingDirectory,
            cause => cause,
        }
    }

    fn overlay(&self, package: &mut Package) {
        let path = self.state_dir.join(package.name());
        let text = match read(&path) {
            Ok(text) => text,
            Err(Cause::Missing) => return,
            Err(cause) => {
                log::warn!("{}; its changes are left out", Error::new(path.display().to_string(), cause));
                return;
            }
        };
        let outcome = delta::overlay(package, &text);
        if outcome.skipped > 0 {
            log::warn!(
                "{}:{}: not a change that can be applied, left out ({} such lines, {} applied)",
                path.display(),
                outcome.first_skipped,
                outcome.skipped,
                outcome.applied
            );
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Cause> {
    // Asked before opening: to open a FIFO would block.
    if !fs::metadata(path).map_err(|error| unreadable(&error))?.is_file() {
        return Err(Cause::NotAFile);
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    lock_shared(&file);
    read_open(&file)
}

/// Reads an open file, as it is from its position on.
pub(super) fn read_open(file: &File) -> Result<Vec<u8>, Cause> {
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() > MAX_FILE_BYTES {
        return Err(Cause::TooLarge);
    }
    Ok(text)
}

/// Keeps libuci's writers out while the file is read, until it is closed. One that holds on is not waited for
/// longer than [`LOCK_WAIT`]: the file is then read as it is.
fn lock_shared(file: &File) {
    let until = Instant::now() + LOCK_WAIT;
    while let Err(rustix::io::Errno::WOULDBLOCK) =
        rustix::fs::flock(file, FlockOperation::NonBlockingLockShared)
    {
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

pub(super) fn unreadable(error: &io::Error) -> Cause {
    if error.kind() == io::ErrorKind::NotFound {
        return Cause::Missing;
    }
    Cause::Unreadable { reason: error.to_string() }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
