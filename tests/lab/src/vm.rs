// SPDX-License-Identifier: Apache-2.0
//! A machine of its own under QEMU, with a kernel that has what the host's has not: Wi-Fi radios, USB gadgets.
//!
//! `tests/vm/build.sh` makes kernel and root file system; QEMU emulates (TCG), since virtualisation is rarely allowed
//! where tests run. A test brings a script and programs along; what the script prints comes back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A machine that has been built.
#[derive(Debug)]
pub struct Vm {
    image: PathBuf,
}

/// What the machine's script did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; `None` if the machine ended without it.
    pub status: Option<i32>,
    /// The console, without carriage returns.
    pub console: String,
    /// How long the machine ran.
    pub took: Duration,
}

impl Vm {
    /// Builds the machine, or takes the one that was built before.
    ///
    /// # Panics
    /// When it cannot be built: no network, no Debian, no QEMU.
    pub fn build() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let image = workspace.join("target/vm");
        let build = Command::new(workspace.join("tests/vm/build.sh")).arg(&image).status();
        assert!(build.is_ok_and(|status| status.success()), "tests/vm/build.sh failed");
        Self { image }
    }

    /// Boots, runs `script` (for busybox sh) with these files (host path, path in the machine), and waits for the end.
    ///
    /// # Panics
    /// When QEMU cannot be started or does not end in time; the console is shown.
    pub fn run(&self, script: &str, files: &[(&Path, &str)], limit: Duration) -> Outcome {
        let dir =
            TempDir::with_prefix("lab-vm-").unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let initrd = dir.path().join("initrd");
        let mut archive = Archive::default();
        archive.tree(&self.image.join("root"), "");
        archive.file("test/run", 0o755, script.as_bytes());
        for (host, guest) in files {
            let content = fs::read(host).unwrap_or_else(|error| panic!("{}: {error}", host.display()));
            archive.file(guest.trim_start_matches('/'), 0o755, &content);
        }
        fs::write(&initrd, archive.finish()).unwrap_or_else(|error| panic!("{}: {error}", initrd.display()));
        let console = dir.path().join("console");
        let output =
            fs::File::create(&console).unwrap_or_else(|error| panic!("{}: {error}", console.display()));
        let begin = Instant::now();
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg", "-smp", "2", "-m", "768"])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.image.join("kernel"))
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-system-x86_64: {error}"));
        let read = || {
            fs::read(&console)
                .map(|text| String::from_utf8_lossy(&text).replace('\r', ""))
                .unwrap_or_default()
        };
        while child.try_wait().unwrap_or_else(|error| panic!("qemu: {error}")).is_none() {
            if begin.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the machine did not end within {limit:?}:\n{}", read());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let console = read();
        let status =
            console.lines().rev().find_map(|line| line.strip_prefix("@@ exit ")?.trim().parse().ok());
        Outcome { status, console, took: begin.elapsed() }
    }
}

/// A cpio archive in the `newc` format, which the kernel unpacks as its first file system.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn tree(&mut self, directory: &Path, prefix: &str) {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
            let meta = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap_or_default();
                self.entry(&name, 0o120_777, target.as_os_str().as_encoded_bytes());
            } else if meta.is_dir() {
                self.entry(&name, 0o040_755, b"");
                self.tree(&path, &format!("{name}/"));
            } else if !meta.file_type().is_fifo() {
                let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                self.entry(&name, 0o100_000 | (meta.mode() & 0o777), &content);
            }
        }
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let fields =
            [self.entries, mode, 0, 0, 1, 0, size(content.len()), 0, 0, 0, 0, size(name.len() + 1), 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            let _ = write!(self.bytes, "{field:08x}");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_else(|_| panic!("a file of {length} bytes is too large for the machine"))
}
