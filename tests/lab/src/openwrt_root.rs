// SPDX-License-Identifier: Apache-2.0
//! A root directory such as a router's, in which shell scripts run under busybox.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{finish, Finished};

/// A scratch root: busybox and its applets, the directories and accounts of OpenWrt, and nothing else, neither `/proc`
/// nor devices. Scripts run in it by `chroot`, unmodified; deleted on drop. Needs root and a static busybox.
#[derive(Debug)]
pub struct OpenwrtRoot {
    dir: TempDir,
}

impl OpenwrtRoot {
    /// A root with busybox.
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("openwrt-").unwrap_or_else(|error| panic!("a directory: {error}"));
        let root = Self { dir };
        fs::set_permissions(root.dir.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
        for name in
            ["bin", "sbin", "dev", "tmp/run", "tmp/lock", "tmp/.uci", "etc/config", "etc/rc.d", "mnt", "root"]
        {
            fs::create_dir_all(root.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        fs::set_permissions(root.path("tmp"), fs::Permissions::from_mode(0o1777)).expect("our own directory");
        symlink("tmp", root.path("var")).expect("an empty root");
        // Written to, never read.
        root.write("dev/null", "");
        root.write("etc/passwd", "root:x:0:0:root:/root:/bin/ash\n");
        root.write("etc/group", "root:x:0:\ndialout:x:20:\nnetwork:x:101:\n");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.unwrap_or_else(|| panic!("no busybox: apt-get install busybox-static"));
        fs::copy(busybox, root.path("bin/busybox")).unwrap_or_else(|error| panic!("{busybox}: {error}"));
        let installed = Command::new("chroot")
            .arg(root.dir.path())
            .args(["/bin/busybox", "--install", "-s", "/bin"])
            .output()
            .unwrap_or_else(|error| panic!("chroot: {error}"));
        assert!(
            installed.status.success(),
            "busybox in a chroot (needs root and a static busybox): {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        root
    }

    /// Where a path of the router, without the leading `/`, lies on this machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        assert!(!inside.starts_with('/'), "{inside}: without the leading /");
        self.dir.path().join(inside)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        let parent = path.parent().unwrap_or_else(|| panic!("{inside} has no directory"));
        fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Writes a program.
    pub fn write_program(&self, inside: &str, text: &str) {
        // busybox has an applet of this name, which is a link to all of them.
        let _ = fs::remove_file(self.path(inside));
        self.write(inside, text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(inside), mode).unwrap_or_else(|error| panic!("{inside}: {error}"));
    }

    /// What a file holds; empty when there is none.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    /// Copies a tree into the root, with its modes.
    pub fn install(&self, tree: &Path) {
        let copied = Command::new("cp").arg("-a").arg(tree.join(".")).arg(self.dir.path()).output();
        let copied = copied.unwrap_or_else(|error| panic!("cp: {error}"));
        assert!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
    }

    /// Copies a program into `/sbin` with the shared libraries it needs, found as `LD_LIBRARY_PATH` says.
    pub fn install_program(&self, program: &Path) {
        let listed = Command::new("ldd").arg(program).stderr(Stdio::inherit()).output();
        let listed = listed.unwrap_or_else(|error| panic!("ldd: {error}"));
        for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            let Some(inside) = word.strip_prefix('/') else { continue };
            // The loader is asked for by its path, libraries are looked for in /lib.
            let name = Path::new(inside).file_name().expect("a library has a name");
            for to in [self.path(inside), self.path("lib").join(name)] {
                fs::create_dir_all(to.parent().expect("a file in a directory")).expect("our own directory");
                fs::copy(word, &to).unwrap_or_else(|error| panic!("{word}: {error}"));
            }
        }
        let name = program.file_name().expect("a program has a name");
        let to = self.path("sbin").join(name);
        fs::copy(program, to).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    }

    /// Adds an account with a group of its name.
    pub fn add_account(&self, name: &str, id: u32) {
        let (passwd, group) = (self.read("etc/passwd"), self.read("etc/group"));
        self.write("etc/passwd", &format!("{passwd}{name}:x:{id}:{id}:{name}:/var/run/{name}:/bin/false\n"));
        self.write("etc/group", &format!("{group}{name}:x:{id}:\n"));
    }

    /// Runs a line of shell in the root, with these variables and no others but `PATH`.
    pub fn shell(&self, line: &str, variables: &[(&str, &str)]) -> Finished {
        let mut command = Command::new("chroot");
        command
            .arg(self.dir.path())
            .args(["/bin/sh", "-c", line])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(variables.iter().copied());
        finish(command, b"")
    }

    /// The same, has to succeed and to say nothing on standard error; gives what it printed.
    pub fn run(&self, line: &str) -> String {
        let done = self.shell(line, &[]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{line}");
        done.stdout
    }
}

impl Default for OpenwrtRoot {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a program of this machine lies.
///
/// # Panics
/// There is none of this name.
pub fn on_path(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut directories = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    let found =
        directories.find_map(|directory| Some(Path::new(directory).join(program)).filter(|it| it.is_file()));
    found.unwrap_or_else(|| panic!("{program} is not installed"))
}
