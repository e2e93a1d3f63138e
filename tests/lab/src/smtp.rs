// SPDX-License-Identifier: Apache-2.0
//! A real exim with STARTTLS, implicit TLS, and AUTH, which keeps every mail it takes.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::capture::{wait_for, PATIENCE};
use crate::certs::Issued;
use crate::process::Process;

/// The only user.
pub const USER: &str = "monitor@lab.example";
/// The user's password; awkward on purpose.
pub const PASSWORD: &str = "it's 50% \"secret\" #1";

const EXIM: &str = "/usr/sbin/exim4";
/// The user Debian's exim runs as; it refuses to deliver as root.
const EXIM_USER: &str = "Debian-exim";

/// An exim on two loopback ports of its own; it stops on drop, and its mails are deleted.
#[derive(Debug)]
pub struct MailServer {
    dir: TempDir,
    port: u16,
    tls_port: u16,
    process: Option<Process>,
}

impl MailServer {
    /// Starts it with this certificate and waits until it takes connections.
    pub fn start(certificate: &Issued) -> Self {
        let dir = TempDir::with_prefix("lab-mail-")
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let mut server = Self { dir, port: 0, tls_port: 0, process: None };
        server.make_files(certificate);
        // The ports may be taken between their choice and the start.
        for _ in 0..5 {
            (server.port, server.tls_port) = (free_port(), free_port());
            if server.try_start() {
                return server;
            }
        }
        panic!("exim does not start:\n{}", server.log());
    }

    /// The port for STARTTLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for TLS from the first byte.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Receivers are deferred with 451 from now on, or no longer.
    pub fn greylist(&self, on: bool) {
        self.switch("greylist", on);
    }

    /// Receivers are refused with 552 from now on, or no longer.
    pub fn full(&self, on: bool) {
        self.switch("full", on);
    }

    /// Every mail it has taken so far, headers and body.
    pub fn mails(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("mail/new")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
            .iter()
            .filter_map(|path| fs::read(path).ok())
            .map(|mail| String::from_utf8_lossy(&mail).into_owned())
            .collect()
    }

    /// Waits until at least `count` mails have come, and gives all.
    pub fn wait_for_count(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} mails"), PATIENCE, || {
            Some(self.mails()).filter(|mails| mails.len() >= count)
        })
    }

    /// Stops it; connections are refused.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same ports.
    pub fn resume(&mut self) {
        self.stop();
        wait_for("exim to start again on its ports", PATIENCE, || self.try_start().then_some(()));
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let printed = self.process.as_ref().map_or_else(String::new, |process| process.stderr.text());
        let files = ["mainlog", "rejectlog", "paniclog"]
            .map(|name| fs::read_to_string(self.dir.path().join("log").join(name)).unwrap_or_default());
        printed + &files.concat()
    }

    fn switch(&self, name: &str, on: bool) {
        let path = self.dir.path().join(name);
        let done = if on { fs::write(&path, "") } else { fs::remove_file(&path) };
        done.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn try_start(&mut self) -> bool {
        let config = self.write_config();
        let mut command = Command::new(EXIM);
        command.arg("-C").arg(config).args(["-bdf", "-q30m"]).stdin(Stdio::null());
        let mut process = Process::start(&mut command, false);
        for _ in 0..500 {
            if !process.is_running() {
                break;
            }
            if [self.port, self.tls_port].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
            {
                self.process = Some(process);
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        false
    }

    fn make_files(&self, certificate: &Issued) {
        let dir = self.dir.path();
        set_mode(dir, 0o755);
        for name in ["spool", "log", "mail"] {
            let path = dir.join(name);
            fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            give_to_exim(&path);
        }
        for (from, name) in [(&certificate.cert, "cert.pem"), (&certificate.key, "key.pem")] {
            let path = dir.join(name);
            fs::copy(from, &path).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            set_mode(&path, 0o600);
            give_to_exim(&path);
        }
    }

    fn write_config(&self) -> PathBuf {
        let Self { port, tls_port, .. } = self;
        let dir = self.dir.path().display();
        let user =
            if rustix::process::getuid().is_root() { format!("user = {EXIM_USER}") } else { String::new() };
        let condition = format!(
            "${{if and{{{{eq{{$auth2}}{{{0}}}}}{{eq{{$auth3}}{{{1}}}}}}}}}",
            quoted(USER),
            quoted(PASSWORD)
        );
        let login = condition.replace("$auth2", "$auth1").replace("$auth3", "$auth2");
        let config = format!(
            r#"primary_hostname = mail.lab.example
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {dir}/cert.pem
tls_privatekey = {dir}/key.pem
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}{{}}}}
acl_smtp_rcpt = receivers
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
smtp_accept_max = 100
smtp_accept_queue_per_connection = 1000
timezone = UTC

begin acl
receivers:
  defer condition = ${{if exists{{{dir}/greylist}}}}
        message = 4.7.1 Greylisted, please try again later
  deny  condition = ${{if exists{{{dir}/full}}}}
        message = 552 5.2.2 Mailbox full
  deny  !authenticated = *
        message = Authentication required
  accept

begin routers
every:
  driver = accept
  transport = keep

begin transports
keep:
  driver = appendfile
  directory = {dir}/mail
  maildir_format
  batch_max = 100
  envelope_to_add
  {user}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = {condition}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = {login}
  server_set_id = $auth1
"#
        );
        let path = self.dir.path().join("exim.conf");
        fs::write(&path, config).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        set_mode(&path, 0o644);
        path
    }
}

/// A literal in exim's expansion language.
fn quoted(text: &str) -> String {
    format!("\\N{text}\\N")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Exim gives up root's rights before it reads and writes these.
fn give_to_exim(path: &Path) {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = accounts.lines().find_map(|line| line.strip_prefix(EXIM_USER)?.strip_prefix(":x:"));
    let mut ids = account.unwrap_or_else(|| panic!("no user {EXIM_USER}: is exim4 installed?")).split(':');
    let mut id = || ids.next().and_then(|id| id.parse().ok());
    let (user, group) = (id(), id());
    chown(path, user, group).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn free_port() -> u16 {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Authority;
    use std::io::{BufRead, BufReader, Write};

    /// Says the lines one by one and gives the last answer.
    fn talk(port: u16, lines: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut answer = || loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "closed");
            if line.as_bytes()[3] == b' ' {
                return line;
            }
        };
        let mut last = answer();
        for line in lines {
            stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
            last = answer();
        }
        last
    }

    #[test]
    fn it_is_open_to_its_user_only_and_only_under_tls() {
        let authority = Authority::new("lab");
        let mut server = MailServer::start(&authority.issue(&["localhost"]));
        let envelope = ["EHLO test", "MAIL FROM:<a@lab.example>", "RCPT TO:<b@lab.example>"];
        assert!(talk(server.port(), &envelope).starts_with("550 Authentication required"));
        assert!(talk(server.port(), &["EHLO test", "AUTH PLAIN AGEAYg=="]).starts_with("503"));
        assert!(talk(server.port(), &["EHLO test", "STARTTLS"]).starts_with("220"));
        server.greylist(true);
        assert!(talk(server.port(), &envelope).starts_with("451 4.7.1"));
        server.greylist(false);
        server.full(true);
        assert!(talk(server.port(), &envelope).starts_with("552 5.2.2"));
        server.full(false);
        server.stop();
        server.resume();
        assert!(talk(server.port(), &envelope).starts_with("550"));
    }
}
