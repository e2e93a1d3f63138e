// SPDX-License-Identifier: Apache-2.0
//! The socket's place in the file system: private from the first moment, never stolen, removed at the end.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{flock, FlockOperation};

/// A bound socket whose file goes away with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: the file is removed only while it is still ours.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds `<run_dir>/<name>.sock` with mode 0600 and listens.
    ///
    /// The socket is bound inside a directory of mode 0700 and moved to its place when its own mode is
    /// set, so that there is no moment at which another user could connect. What a dead process left
    /// behind is replaced; a socket that still has a listener is not. A lock on the directory serialises
    /// daemons that start together.
    ///
    /// # Errors
    /// `AddrInUse` when another process serves this socket, `AlreadyExists` when something else than a
    /// socket has its name; otherwise what the system says, with the path.
    pub(super) fn bind(run_dir: &Path, name: &str) -> io::Result<(UnixListener, Self)> {
        DirBuilder::new().recursive(true).create(run_dir).map_err(|error| at(run_dir, &error))?;
        let path = run_dir.join(format!("{name}.sock"));
        let private = run_dir.join(format!(".{name}.{}", std::process::id()));
        let lock = File::open(run_dir).map_err(|error| at(run_dir, &error))?;
        lock_briefly(&lock).map_err(|error| at(run_dir, &error))?;
        refuse_if_taken(&path)?;
        // A process that had our id and died between the next two steps may have left it.
        let _ = fs::remove_dir_all(&private);
        DirBuilder::new().mode(0o700).create(&private).map_err(|error| at(&private, &error))?;
        let bound = bind_in(&private, &path);
        let _ = fs::remove_dir_all(&private);
        bound
    }
}

/// What keeps a socket from being made and may go away by itself: a full or read-only file system.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if still_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_in(private: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let hidden = private.join("s");
    let listener = UnixListener::bind(&hidden).map_err(|error| at(&hidden, &error))?;
    fs::set_permissions(&hidden, Permissions::from_mode(0o600)).map_err(|error| at(&hidden, &error))?;
    let metadata = fs::symlink_metadata(&hidden).map_err(|error| at(&hidden, &error))?;
    fs::rename(&hidden, path).map_err(|error| at(path, &error))?;
    let file = SocketFile { path: path.into(), identity: (metadata.dev(), metadata.ino()) };
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}

fn lock_briefly(directory: &File) -> io::Result<()> {
    for _ in 0..40 {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(50)),
            other => return other.map_err(Into::into),
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "the directory stays locked by another process"))
}

fn refuse_if_taken(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(path, &error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, format!("{}: is no socket", path.display())))
        }
        Ok(_) if has_listener(path) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            format!("{}: another process serves this socket", path.display()),
        )),
        Ok(_) => Ok(()),
    }
}

/// Connecting a *datagram* socket never blocks on a full backlog and never wakes the listener: a dead
/// stream socket refuses it, a live one is of the wrong type (unix(7), `EPROTOTYPE`).
fn has_listener(path: &Path) -> bool {
    let probe = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    !probe.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_mode_is_0600_and_the_file_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let (_listener, file) = SocketFile::bind(&run_dir, "powqutyd").unwrap();
        let mode = fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 1, "the private directory is gone");
        drop(file);
        assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_socket_is_replaced_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("powqutyd.sock");
        let alive = UnixListener::bind(&path).unwrap();
        let error = SocketFile::bind(dir.path(), "powqutyd").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(alive);
        let (_listener, _file) = SocketFile::bind(dir.path(), "powqutyd").unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_socket_with_a_full_backlog_is_not_stolen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("powqutyd.sock");
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let error = SocketFile::bind(dir.path(), "powqutyd").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("powqutyd.sock");
        fs::write(&path, "precious").unwrap();
        let error = SocketFile::bind(dir.path(), "powqutyd").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, first) = SocketFile::bind(dir.path(), "powqutyd").unwrap();
        drop(listener);
        let (_listener, second) = SocketFile::bind(dir.path(), "powqutyd").unwrap();
        drop(first);
        UnixStream::connect(&second.path).unwrap();
    }

    #[test]
    fn of_daemons_that_start_together_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let bound: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> =
                (0..4).map(|_| scope.spawn(|| SocketFile::bind(dir.path(), "powqutyd"))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(bound.iter().filter(|result| result.is_ok()).count(), 1);
    }

    #[test]
    fn errors_name_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        let error = SocketFile::bind(&long, "powqutyd").unwrap_err();
        assert!(error.to_string().contains(&"x".repeat(120)), "{error}");
    }
}
