// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, joined by veth pairs; needs root and iproute2.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A network namespace of its own with `lo` up; on drop its processes are killed and it is deleted.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// A new namespace. The tag shows up in its name, for whoever looks at `ip netns`.
    pub fn new(tag: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lab-{}-{}-{tag}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Netns { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `setns`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command line (split at blanks) inside, returns what it printed, panics if it fails.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_else(|| panic!("empty command line"));
        run(self.command(program).args(words))
    }

    /// The same with text on stdin.
    pub fn run_with_input(&self, line: &str, input: &str) {
        use std::io::Write;
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_else(|| panic!("empty command line"));
        let mut child =
            self.command(program).args(words).stdin(Stdio::piped()).spawn().expect("ip netns exec");
        let mut stdin = child.stdin.take().expect("it was asked for");
        stdin.write_all(input.as_bytes()).expect("the program reads its input");
        drop(stdin);
        let status = child.wait().expect("the program ends");
        assert!(status.success(), "{line}: {status}");
    }

    /// Runs `ip` with these arguments (split at blanks) inside.
    pub fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Sets a sysctl inside, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) {
        self.run(&format!("sysctl -qw {key}={value}"));
    }

    /// Joins two namespaces by a veth pair, both ends up.
    pub fn join(&self, own: &str, other: &Netns, others: &str) {
        self.ip(&format!("link add {own} type veth peer name {others} netns {}", other.name));
        self.ip(&format!("link set {own} up"));
        other.ip(&format!("link set {others} up"));
    }

    /// Runs a function on a thread inside the namespace; sockets it makes belong there for ever.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path()).expect("the namespace's file");
        let inside = || {
            use std::os::fd::AsFd;
            rustix::thread::move_into_link_name_space(
                file.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .expect("setns, needs root");
            function()
        };
        match std::thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let pids = Command::new("ip").args(["netns", "pids", &self.name]).stderr(Stdio::null()).output();
        for pid in pids.map(|output| output.stdout).unwrap_or_default().split(|&byte| byte == b'\n') {
            if let Some(pid) = std::str::from_utf8(pid).ok().filter(|pid| !pid.is_empty()) {
                let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_are_joined_and_go_away() {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        a.join("eth0", &b, "eth0");
        a.ip("addr add 192.0.2.1/24 dev eth0");
        b.ip("addr add 192.0.2.2/24 dev eth0");
        let listener = b.enter(|| std::net::TcpListener::bind("192.0.2.2:0").unwrap());
        let address = listener.local_addr().unwrap();
        let stream = a.enter(move || std::net::TcpStream::connect(address).unwrap());
        assert_eq!(stream.peer_addr().unwrap(), address);
        let path = a.path();
        drop(a);
        assert!(!path.exists());
    }
}
