// SPDX-License-Identifier: Apache-2.0
//! The record file: appended frame by frame, at most two halves (`PATH` and, older, `PATH.1`) on disk.
//!
//! A half is full when it spans five weeks or half of the size limit; so five whole weeks are always there unless
//! events by the ten thousand filled the file. A torn end is cut when the file is opened; reading passes damaged
//! stretches over.

use super::codec::{self, Records};
use super::{Header, Record, Stamped};
use crate::storage::rotated;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Span of one half.
const HALF_MS: i64 = 5 * 7 * 86_400_000;

/// Most bytes that wait for a disk that cannot be written: two days of an undisturbed supply.
const BACKLOG: usize = 64 * 1024;

/// Appends records.
pub struct RecordFile {
    path: PathBuf,
    limit: u64,
    /// Each block is forced to the medium.
    sync: bool,
    header: Header,
    open: Option<Open>,
    pending: VecDeque<u8>,
    /// Lengths of the frames in `pending`.
    frames: VecDeque<usize>,
}

struct Open {
    file: File,
    size: u64,
    oldest_ms: Option<i64>,
}

/// The file cannot be written now; the records wait.
#[derive(Debug)]
pub struct WriteError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot write: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for WriteError {}

impl RecordFile {
    /// A file of at most `limit` bytes, both halves together; `sync` for paths that survive a power cut. Nothing
    /// is opened before the first record.
    #[must_use]
    pub fn new(path: PathBuf, limit: u64, sync: bool, header: Header) -> Self {
        let (pending, frames) = (VecDeque::new(), VecDeque::new());
        Self { path, limit, sync, header, open: None, pending, frames }
    }

    /// Takes a record over and tries to write all that waits; the number of older records that had to be given up
    /// for want of room, and what came of writing.
    pub fn append(&mut self, record: &Stamped) -> (u32, Result<u32, WriteError>) {
        let mut frame = Vec::new();
        codec::encode(record, &mut frame);
        let mut dropped = 0;
        while self.pending.len() + frame.len() > BACKLOG {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.pending.drain(..oldest);
            dropped += 1;
        }
        self.frames.push_back(frame.len());
        self.pending.extend(frame);
        (dropped, self.flush(record.time_ms))
    }

    /// Tries to write what waits; `now_ms` decides about the age of the file. Gives the number of records written.
    ///
    /// # Errors
    /// See [`WriteError`]; what waits goes on waiting.
    pub fn flush(&mut self, now_ms: i64) -> Result<u32, WriteError> {
        if self.frames.is_empty() {
            return Ok(0);
        }
        match self.write_pending(now_ms) {
            Ok(()) => {
                self.pending.clear();
                Ok(std::mem::take(&mut self.frames).len() as u32)
            }
            Err(error) => {
                self.open = None;
                Err(WriteError { path: self.path.clone(), error })
            }
        }
    }

    /// Something waits for the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.frames.is_empty()
    }

    fn write_pending(&mut self, now_ms: i64) -> io::Result<()> {
        // A file that was moved or deleted under us is not ours any more.
        if self.open.is_some() && fs::symlink_metadata(&self.path).is_err() {
            self.open = None;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_file(now_ms)?,
        };
        let too_large = open.size + self.pending.len() as u64 > self.limit / 2;
        let too_old = open.oldest_ms.is_some_and(|oldest| now_ms - oldest >= HALF_MS);
        if open.oldest_ms.is_some() && (too_large || too_old) {
            drop(open);
            fs::rename(&self.path, rotated(&self.path))?;
            open = self.open_file(now_ms)?;
        }
        let block = self.pending.make_contiguous();
        let written = open.file.write_all(block).and_then(|()| match self.sync {
            true => open.file.sync_data(),
            false => Ok(()),
        });
        if let Err(error) = written {
            // Half a frame must not stay behind; where even that fails, opening again cuts it.
            let _ = open.file.set_len(open.size);
            return Err(error);
        }
        open.size += self.pending.len() as u64;
        open.oldest_ms.get_or_insert(now_ms);
        self.open = Some(open);
        Ok(())
    }

    /// Opens for appending, cuts a torn end and begins with the header unless the file ends with the same one.
    fn open_file(&self, now_ms: i64) -> io::Result<Open> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        let mut records = Records::new(&file);
        let (mut oldest_ms, mut header) = (None, None);
        for record in &mut records {
            let record = record?;
            match record.record {
                Record::Header(last) => header = Some(*last),
                _ => {
                    oldest_ms =
                        Some(oldest_ms.map_or(record.time_ms, |oldest: i64| oldest.min(record.time_ms)));
                }
            }
        }
        let mut size = records.valid_end();
        let length = file.seek(SeekFrom::End(0))?;
        if length > 0 && size == 0 {
            // Not one record in it: somebody else's file, perhaps by a slip in the configuration.
            let aside = aside(&self.path);
            fs::rename(&self.path, &aside)?;
            log::warn!("{} is no record file; it is {} now", self.path.display(), aside.display());
            file = OpenOptions::new().read(true).append(true).create_new(true).open(&self.path)?;
        } else if length > size {
            log::warn!("{}: a torn end was cut off", self.path.display());
            file.set_len(size)?;
        }
        if header.as_ref() != Some(&self.header) {
            let mut frame = Vec::new();
            let record = Record::Header(Box::new(self.header.clone()));
            codec::encode(&Stamped { time_ms: now_ms, record }, &mut frame);
            if let Err(error) = file.write_all(&frame) {
                let _ = file.set_len(size);
                return Err(error);
            }
            size += frame.len() as u64;
        }
        if self.sync {
            file.sync_all()?;
            // The name, too, has to outlast a power cut.
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(Open { file, size, oldest_ms })
    }
}

/// Where a file goes that is none of ours.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unreadable");
    name.into()
}

/// The records of both halves, oldest first.
///
/// # Errors
/// There is neither half, or `path` cannot be opened for another reason.
pub fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Stamped>>> {
    let older = File::open(rotated(path)).ok();
    let newer = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound && older.is_some() => None,
        Err(error) => return Err(error),
    };
    Ok(older.into_iter().chain(newer).flat_map(Records::new))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
