// SPDX-License-Identifier: Apache-2.0
//! A text log of bounded size that survives crashes, full disks and vanished paths.

use super::rotated;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Most bytes that wait for a disk that cannot be written.
const BACKLOG: usize = 16 * 1024;

/// Appends lines; at half its limit the file becomes `PATH.1` and a new one begins, so that both together
/// stay within the limit.
pub(super) struct LogFile {
    path: PathBuf,
    limit: u64,
    header: &'static str,
    block: usize,
    open: Option<(File, u64)>,
    pending: String,
    pending_lines: u32,
}

/// Lines that reached the file, and lines given up for want of room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) lines: u32,
    pub(super) dropped: u32,
}

/// The file cannot be written now; the lines wait, up to 16 KiB of them.
#[derive(Debug)]
pub(super) struct WriteError {
    path: PathBuf,
    error: io::Error,
    pub(super) dropped: u32,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot write: {}", self.path.display(), self.error)
    }
}

impl LogFile {
    /// A log at `path` of at most `limit` bytes; lines are written in blocks of `block` bytes (0: each at
    /// once).
    pub(super) fn new(path: PathBuf, limit: u64, header: &'static str, block: usize) -> Self {
        Self { path, limit, header, block, open: None, pending: String::new(), pending_lines: 0 }
    }

    /// Opens the file ahead of the first line, so that a wrong path is known at once.
    pub(super) fn prepare(&mut self) -> Result<Written, WriteError> {
        match self.open_file() {
            Ok(open) => {
                self.open = Some(open);
                Ok(Written::default())
            }
            Err(error) => Err(WriteError { path: self.path.clone(), error, dropped: 0 }),
        }
    }

    pub(super) fn append(&mut self, line: &str) -> Result<Written, WriteError> {
        let mut dropped = 0;
        while self.pending.len() + line.len() >= BACKLOG.max(self.block) && self.pending_lines > 0 {
            let end = self.pending.find('\n').map_or(self.pending.len(), |at| at + 1);
            self.pending.drain(..end);
            self.pending_lines -= 1;
            dropped += 1;
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        self.pending_lines += 1;
        if self.pending.len() < self.block {
            return Ok(Written { lines: 0, dropped });
        }
        match self.flush() {
            Ok(written) => Ok(Written { dropped, ..written }),
            Err(error) => Err(WriteError { dropped, ..error }),
        }
    }

    pub(super) fn flush(&mut self) -> Result<Written, WriteError> {
        if self.pending.is_empty() {
            return Ok(Written::default());
        }
        match self.write_pending() {
            Ok(()) => {
                self.pending.clear();
                Ok(Written { lines: std::mem::take(&mut self.pending_lines), dropped: 0 })
            }
            Err(error) => {
                self.open = None;
                Err(WriteError { path: self.path.clone(), error, dropped: 0 })
            }
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        // A file that was moved or deleted under us is not the log any more.
        if self.open.is_some() && fs::symlink_metadata(&self.path).is_err() {
            self.open = None;
        }
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        if size > 0 && size + self.pending.len() as u64 > self.limit / 2 {
            drop(file);
            fs::rename(&self.path, rotated(&self.path))?;
            (file, size) = self.open_file()?;
        }
        if let Err(error) = file.write_all(self.pending.as_bytes()) {
            // Half a line must not stay behind; where even that fails, opening again repairs the end.
            let _ = file.set_len(size);
            return Err(error);
        }
        size += self.pending.len() as u64;
        self.open = Some((file, size));
        Ok(())
    }

    /// Opens for appending, and ends a line that a power cut tore.
    fn open_file(&self) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        let mut size = file.seek(SeekFrom::End(0))?;
        if size == 0 && !self.header.is_empty() {
            writeln!(file, "{}", self.header)?;
            size = self.header.len() as u64 + 1;
        } else if size > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &tempfile::TempDir, limit: u64, block: usize) -> LogFile {
        LogFile::new(dir.path().join("log"), limit, "", block)
    }

    #[test]
    fn size_stays_within_the_limit_and_the_newest_lines_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = log(&dir, 1000, 0);
        for number in 0..500 {
            file.append(&format!("line {number:04}")).unwrap();
        }
        let (new, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let size = fs::metadata(&new).unwrap().len() + fs::metadata(&old).unwrap().len();
        assert!(size <= 1000, "{size}");
        let text = fs::read_to_string(old).unwrap() + &fs::read_to_string(new).unwrap();
        assert!(text.ends_with("line 0499\n"));
        let numbers: Vec<u32> = text.lines().map(|line| line[5..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is missing");
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log"), "whole\nto").unwrap();
        log(&dir, 1000, 0).append("next").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "whole\nto\nnext\n");
    }

    #[test]
    fn lines_wait_for_a_path_that_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(dir.path().join("stick/log"), 1000, "", 0);
        let error = file.append("first").unwrap_err().to_string();
        assert!(error.contains("stick/log: cannot write: "), "{error}");
        fs::create_dir(dir.path().join("stick")).unwrap();
        assert_eq!(file.append("second").unwrap(), Written { lines: 2, dropped: 0 });
        assert_eq!(fs::read_to_string(dir.path().join("stick/log")).unwrap(), "first\nsecond\n");
        fs::remove_file(dir.path().join("stick/log")).unwrap();
        file.append("third").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("stick/log")).unwrap(), "third\n");
    }

    #[test]
    fn a_backlog_is_bounded_and_drops_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(dir.path().join("missing/log"), 1 << 20, "", 0);
        let mut dropped = 0;
        for number in 0..4000 {
            dropped += file.append(&format!("line {number:04}")).unwrap_err().dropped;
        }
        assert!(file.pending.len() <= BACKLOG);
        assert!(file.pending.ends_with("line 3999\n"));
        assert_eq!(dropped + file.pending_lines, 4000);
    }

    #[test]
    fn blocks_are_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = log(&dir, 1 << 20, 100);
        for _ in 0..9 {
            assert_eq!(file.append("123456789").unwrap().lines, 0);
        }
        assert_eq!(file.append("123456789").unwrap().lines, 10);
    }
}
