// SPDX-License-Identifier: Apache-2.0
//! The outbox's file: appended to, compacted when it reaches its limit, synced where that means something.

use crate::outbox::record::MAGIC;
use rustix::fs::{flock, fstatfs, FlockOperation};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// File systems in memory, where syncing is for nothing: tmpfs and ramfs (statfs(2)).
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// The predecessor of this process may be about to end: its lock is waited for, for two seconds.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// An open journal; what it cannot write it keeps trying to, and says so in [`Journal::trouble`].
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` while there is no usable file.
    file: Option<File>,
    length: u64,
    limit: u64,
    durable: bool,
    unsynced: bool,
    trouble: Option<String>,
    /// Writes that failed since the trouble began.
    failures: u32,
}

impl Journal {
    /// Opens or creates the file and returns what lies in it. Never fails: without a file the outbox lives in memory,
    /// and [`Journal::trouble`] says why.
    pub(crate) fn open(path: &Path, limit: u64) -> (Self, Vec<u8>) {
        let mut journal = Self {
            path: path.to_owned(),
            file: None,
            length: 0,
            limit,
            durable: false,
            unsynced: false,
            trouble: None,
            failures: 0,
        };
        let mut opened = journal.try_open();
        for _ in 0..LOCK_ATTEMPTS {
            match &opened {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(LOCK_PAUSE);
                    opened = journal.try_open();
                }
                _ => break,
            }
        }
        match opened {
            Ok(content) => (journal, content),
            Err(error) => {
                journal.note(&error);
                (journal, Vec::new())
            }
        }
    }

    fn try_open(&mut self) -> io::Result<Vec<u8>> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut file = open_file(&self.path)?;
        let mut content = Vec::new();
        // A foreign file of any size must not fill the memory.
        (&mut file as &mut dyn Read).take(self.limit.saturating_mul(4)).read_to_end(&mut content)?;
        self.durable = !is_in_memory(&file);
        self.length = file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        Ok(content)
    }

    /// Keeps the first `whole` bytes, which are good, and cuts the rest. A file that is none of ours is set aside.
    pub(crate) fn keep(&mut self, whole: usize) {
        let whole = whole as u64;
        if self.file.is_none() || (whole == self.length && whole > 0) {
            return;
        }
        let length = self.length;
        if whole > 0 {
            log::warn!("outbox {}: cut {} torn bytes at its end", self.path.display(), length - whole);
            self.attempt(|journal| journal.cut(whole));
            return;
        }
        if length > 0 {
            let aside = self.path.with_extension("unreadable");
            log::warn!(
                "outbox {}: not a journal of alerts; moved to {}",
                self.path.display(),
                aside.display()
            );
            self.attempt(|journal| {
                fs::rename(&journal.path, &aside)?;
                journal.file = None;
                journal.try_open().map(|_| ())
            });
        }
        self.attempt(|journal| journal.write(MAGIC));
    }

    /// Appends `frames`; when that passes the limit, or the file has been unusable, writes `snapshot` anew instead.
    pub(crate) fn append(&mut self, frames: &[u8], snapshot: impl FnOnce() -> Vec<u8>) {
        if frames.is_empty() {
            return;
        }
        // After a failed write the file lacks what memory knows.
        let anew = self.length + frames.len() as u64 > self.limit || self.trouble.is_some();
        self.attempt(|journal| match anew || journal.file.is_none() || journal.length == 0 {
            true => journal.replace(&snapshot()),
            false => journal.write(frames),
        });
    }

    /// Writes the whole state anew.
    pub(crate) fn rewrite(&mut self, snapshot: impl FnOnce() -> Vec<u8>) {
        self.attempt(|journal| journal.replace(&snapshot()));
    }

    /// Removes the file, before the alerts move elsewhere.
    pub(crate) fn remove(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// What keeps the alerts from surviving a restart, if anything does, and how often.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        Some(format!("{trouble} ({} failed writes)", self.failures))
    }

    /// A handle to sync off the runtime's thread, when the last records are not on the medium yet.
    pub(crate) fn take_unsynced(&mut self) -> Option<File> {
        if !std::mem::take(&mut self.unsynced) {
            return None;
        }
        self.file.as_ref().and_then(|file| file.try_clone().ok())
    }

    fn attempt(&mut self, action: impl FnOnce(&mut Self) -> io::Result<()>) {
        match action(self) {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    log::info!(
                        "outbox {}: writable again after {} failed writes; what waits is saved",
                        self.path.display(),
                        self.failures
                    );
                    self.failures = 0;
                }
            }
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &io::Error) {
        let sentence = format!(
            "outbox {}: {error}; alerts are kept in memory only and do not survive a restart",
            self.path.display()
        );
        self.failures = self.failures.saturating_add(1);
        if self.trouble.as_ref() != Some(&sentence) {
            log::warn!("{sentence}");
            self.trouble = Some(sentence);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("not open")) };
        if let Err(error) = file.write_all(bytes) {
            // Half a frame would hide everything behind it.
            let length = self.length;
            if self.cut(length).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.unsynced = self.durable;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("not open")) };
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        self.length = length;
        Ok(())
    }

    /// Writes a new file beside the old one and renames it over: at every instant one of the two is whole.
    fn replace(&mut self, snapshot: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let result = (|| {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = open_file(&beside)?;
            file.write_all(snapshot)?;
            let durable = !is_in_memory(&file);
            if durable {
                file.sync_data()?;
            }
            if self.file.is_none() {
                // Somebody else's journal is not replaced.
                open_file(&self.path)?;
            }
            fs::rename(&beside, &self.path)?;
            Ok((file, durable))
        })();
        match result {
            Ok((file, durable)) => {
                self.file = Some(file);
                self.durable = durable;
                self.length = snapshot.len() as u64;
                self.unsynced = false;
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => {
            io::Error::new(io::ErrorKind::ResourceBusy, "in use by another process")
        }
        other => other.into(),
    })?;
    Ok(file)
}

fn is_in_memory(file: &File) -> bool {
    #[allow(clippy::cast_sign_loss, clippy::cast_lossless, clippy::unnecessary_cast)]
    // the type differs by target
    fstatfs(file).is_ok_and(|stat| MEMORY_FILE_SYSTEMS.contains(&(stat.f_type as u64 & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_cuts_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/outbox");
        let (mut journal, content) = Journal::open(&path, 100);
        assert!(content.is_empty() && journal.trouble().is_none());
        journal.keep(0);
        journal.append(b"one", || unreachable!());
        drop(journal);

        let (mut journal, content) = Journal::open(&path, 100);
        assert_eq!(content, [MAGIC, b"one"].concat());
        journal.keep(MAGIC.len() + 1);
        journal.append(b"two", || unreachable!());
        assert_eq!(fs::read(&path).unwrap(), [MAGIC, b"otwo"].concat());

        journal.append(&[b'x'; 90], || b"snapshot".to_vec());
        assert_eq!(fs::read(&path).unwrap(), b"snapshot");
        journal.append(b"+", || unreachable!());
        assert_eq!(fs::read(&path).unwrap(), b"snapshot+");
        assert!(!path.with_extension("new").exists());
    }

    #[test]
    fn a_foreign_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        fs::write(&path, "precious").unwrap();
        let (mut journal, _) = Journal::open(&path, 100);
        journal.keep(0);
        assert_eq!(fs::read(path.with_extension("unreadable")).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), MAGIC);
    }

    #[test]
    fn two_processes_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut first, _) = Journal::open(&path, 100);
        first.keep(0);
        let (mut second, content) = Journal::open(&path, 100);
        assert!(content.is_empty());
        assert!(second.trouble().unwrap().contains("in use by another process"));
        second.append(b"x", || b"snapshot".to_vec());
        assert_eq!(fs::read(&path).unwrap(), MAGIC);
        drop(first);
        second.append(b"x", || b"snapshot".to_vec());
        assert!(second.trouble().is_none());
        assert_eq!(fs::read(&path).unwrap(), b"snapshot");
    }

    #[test]
    fn a_device_is_not_a_journal() {
        let (mut journal, _) = Journal::open(Path::new("/dev/null"), 100);
        journal.keep(0);
        journal.append(b"x", || b"snapshot".to_vec());
        assert!(journal.trouble().unwrap().contains("not a regular file"));
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("outbox"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let (mut journal, _) = Journal::open(&link, 100);
        journal.keep(0);
        assert!(journal.trouble().is_some());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
