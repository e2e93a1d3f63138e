// SPDX-License-Identifier: Apache-2.0
//! Changes on disk: appended to deltas, reverted, committed; with libuci's locks on the same files.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::FlockOperation;

use super::delta;
use super::source::{read_open, LOCK_RETRY, LOCK_WAIT};
use super::write::{Change, WriteError};
use super::{Cause, Error, Package, Section, Source};

/// What libuci gives files and directories that have no model.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Changes configuration the way `uci set`, `uci commit` and LuCI do. Every method blocks; a file that another program
/// has locked is waited for up to a second.
///
/// Sections go by their name or as `@type[0]`. Changes lie in the delta directory until [`Writer::commit`].
#[derive(Debug, Clone)]
pub struct Writer {
    source: Source,
}

impl Writer {
    /// A writer of these directories. The delta directory is made when it is needed.
    pub fn new(source: Source) -> Self {
        Self { source }
    }

    /// The directories.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Adds an anonymous section and gives the name that it has until the commit.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn add(&self, package: &str, kind: &str) -> Result<String, WriteError> {
        let change = self.load(package)?.plan_add(kind)?;
        self.append(package, std::slice::from_ref(&change))?;
        Ok(change.section)
    }

    /// Sets an option, or with no option the type of a section, which is created if need be. An empty value removes.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set(
        &self,
        package: &str,
        section: &str,
        option: Option<&str>,
        value: &str,
    ) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_set(section, option, value.as_bytes()))
    }

    /// Replaces an option by a list; without values it is removed.
    ///
    /// # Errors
    /// [`WriteError`]; a part of the list may be written then.
    pub fn set_list(
        &self,
        package: &str,
        section: &str,
        option: &str,
        values: &[&str],
    ) -> Result<(), WriteError> {
        self.set(package, section, Some(option), "")?;
        values.iter().try_for_each(|value| self.add_list(package, section, option, value))
    }

    /// Appends to a list.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn add_list(
        &self,
        package: &str,
        section: &str,
        option: &str,
        value: &str,
    ) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_add_list(section, option, value.as_bytes()).map(Some))
    }

    /// Takes equal items out of a list.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn remove_list(
        &self,
        package: &str,
        section: &str,
        option: &str,
        value: &str,
    ) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_remove_list(section, option, value.as_bytes()))
    }

    /// Removes a section, an option, or of a list the item of that index.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn remove(
        &self,
        package: &str,
        section: &str,
        option: Option<&str>,
        item: Option<usize>,
    ) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_remove(section, option, item))
    }

    /// Renames a section or an option; an anonymous section then has a name.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn rename(
        &self,
        package: &str,
        section: &str,
        option: Option<&str>,
        name: &str,
    ) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_rename(section, option, name).map(Some))
    }

    /// Moves a section to a position among all sections, counted from 0.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn reorder(&self, package: &str, section: &str, position: usize) -> Result<(), WriteError> {
        self.note(package, |loaded| loaded.plan_reorder(section, position))
    }

    /// The uncommitted changes, in order.
    ///
    /// # Errors
    /// [`WriteError::Read`] or [`WriteError::Io`].
    pub fn changes(&self, package: &str) -> Result<Vec<Change>, WriteError> {
        self.load(package)?;
        match self.locked_delta(package)? {
            Some((file, path)) => Ok(Change::read_all(package, &read_text(&file, &path)?)),
            None => Ok(Vec::new()),
        }
    }

    /// Forgets uncommitted changes: all of the package, of a section, or of an option.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn revert(
        &self,
        package: &str,
        section: Option<&str>,
        option: Option<&str>,
    ) -> Result<(), WriteError> {
        let loaded = self.load(package)?;
        // `@type[0]` goes by the name it has; one that was removed is in the delta under its plain name alone.
        let section = section.map(|name| loaded.section(name).map_or(name, Section::name));
        let Some((mut file, path)) = self.locked_delta(package)? else { return Ok(()) };
        let mut left = Vec::new();
        for change in Change::read_all(package, &read_text(&file, &path)?) {
            if !change.concerns(section, option) {
                change.write(package, &mut left);
            }
        }
        let io = |error| WriteError::Io(path.clone(), error);
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(io)?;
        file.write_all(&left).map_err(io)
    }

    /// Writes the changes into the configuration file, which is replaced as a whole, and empties the delta. Without
    /// changes the file is left alone.
    ///
    /// # Errors
    /// [`WriteError`]; the changes are still in the delta then.
    pub fn commit(&self, package: &str) -> Result<(), WriteError> {
        self.load(package)?;
        let path = self.source.file(package);
        let config = OpenOptions::new().read(true).write(true).open(&path);
        let config = config.map_err(|error| WriteError::Io(path.clone(), error))?;
        lock(&config, &path)?;
        let text = read_text(&config, &path)?;
        let mut loaded = Package::parse(package, &text).map_err(WriteError::Read)?;
        let Some((pending, delta_path)) = self.locked_delta(package)? else { return Ok(()) };
        if delta::overlay(&mut loaded, &read_text(&pending, &delta_path)?).applied == 0 {
            return Ok(());
        }
        self.replace(package, &path, &loaded.to_text())?;
        pending.set_len(0).map_err(|error| WriteError::Io(delta_path, error))
    }

    fn load(&self, package: &str) -> Result<Package, WriteError> {
        self.source.load(package).map_err(WriteError::Read)
    }

    fn note(
        &self,
        package: &str,
        plan: impl FnOnce(&Package) -> Result<Option<Change>, WriteError>,
    ) -> Result<(), WriteError> {
        match plan(&self.load(package)?)? {
            Some(change) => self.append(package, &[change]),
            None => Ok(()),
        }
    }

    fn append(&self, package: &str, changes: &[Change]) -> Result<(), WriteError> {
        self.make_state_dir()?;
        let mode = fs::metadata(self.source.file(package)).map_or(FILE_MODE, |model| model.mode() & 0o777);
        let path = self.source.state_dir.join(package);
        let io = |error| WriteError::Io(path.clone(), error);
        let mut file = OpenOptions::new().append(true).create(true).mode(mode).open(&path).map_err(io)?;
        lock(&file, &path)?;
        let mut text = Vec::new();
        for change in changes {
            change.write(package, &mut text);
        }
        file.write_all(&text).map_err(io)
    }

    fn make_state_dir(&self) -> Result<(), WriteError> {
        let path = &self.source.state_dir;
        if path.is_dir() {
            return Ok(());
        }
        let mode = fs::metadata(&self.source.config_dir).map_or(DIRECTORY_MODE, |model| model.mode() & 0o777);
        let made = fs::DirBuilder::new().mode(mode).create(path);
        made.map_err(|error| WriteError::Io(path.clone(), error))
    }

    /// The delta file, if there is one, with the writers' lock.
    fn locked_delta(&self, package: &str) -> Result<Option<(File, PathBuf)>, WriteError> {
        let path = self.source.state_dir.join(package);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => lock(&file, &path).map(|()| Some((file, path))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(WriteError::Io(path, error)),
        }
    }

    /// A file of the same mode beside it, on the disk, then renamed; a symbolic link stays one.
    fn replace(&self, package: &str, path: &Path, text: &[u8]) -> Result<(), WriteError> {
        let temporary = self.source.config_dir.join(format!(".{package}.uci-{}", std::process::id()));
        let io = |error| WriteError::Io(path.to_owned(), error);
        let target = fs::canonicalize(path).map_err(io)?;
        let mode = fs::metadata(&target).map_err(io)?.permissions().mode() & 0o7777;
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(FILE_MODE)
                .open(&temporary)?;
            file.write_all(text)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&temporary, &target)
        })();
        written.map_err(|error| {
            // What is left of it is in nobody's way.
            let _ = fs::remove_file(&temporary);
            io(error)
        })
    }
}

fn lock(file: &File, path: &Path) -> Result<(), WriteError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() >= until => {
                return Err(WriteError::Locked(path.to_owned()));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_RETRY),
            Err(error) => return Err(WriteError::Io(path.to_owned(), error.into())),
        }
    }
}

fn read_text(file: &File, path: &Path) -> Result<Vec<u8>, WriteError> {
    read_open(file).map_err(|cause: Cause| WriteError::Read(Error::new(path.display().to_string(), cause)))
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
