// SPDX-License-Identifier: Apache-2.0
//! A real mosquitto with one user, and a subscriber that misses nothing.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::capture::{wait_for, Capture, PATIENCE};
use crate::certs::{Authority, Issued};
use crate::process::{finish, Process};

/// The only user.
pub const USER: &str = "monitor";
/// The user's password; awkward on purpose.
pub const PASSWORD: &str = "it's 50% \"secret\" #1";

/// A mosquitto on a loopback port of its own that lets nobody in but [`USER`]; it stops on drop, and what it
/// wrote is deleted.
///
/// Sessions and queued messages survive a restart unless it is [forgetful](Setup::forgetful).
#[derive(Debug)]
pub struct Broker {
    dir: TempDir,
    setup: Setup,
    port: u16,
    tls_port: u16,
    process: Option<Process>,
}

/// How a broker is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    forgetful: bool,
    tls: Option<Tls>,
    lines: Vec<String>,
}

/// A second listener.
#[derive(Debug, Clone)]
struct Tls {
    certificate: Issued,
    authority: PathBuf,
    ask_clients: bool,
}

impl Setup {
    /// A restart loses sessions and queued messages, as with a broker without persistence.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.forgetful = true;
        self
    }

    /// Listens with TLS on [`Broker::tls_port`], too.
    #[must_use]
    pub fn tls(mut self, authority: &Authority, certificate: &Issued) -> Self {
        let tls = Tls { certificate: certificate.clone(), authority: authority.file(), ask_clients: false };
        self.tls = Some(tls);
        self
    }

    /// Whoever comes over TLS needs a certificate of the same authority.
    #[must_use]
    pub fn ask_clients(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.ask_clients = true;
        }
        self
    }

    /// Adds a line of mosquitto.conf behind those of the listener.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts it and waits until it takes connections.
    pub fn start(self) -> Broker {
        let dir = TempDir::with_prefix("lab-broker-")
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let mut broker = Broker { dir, setup: self, port: 0, tls_port: 0, process: None };
        broker.write_password();
        // The port may be taken between its choice and the start.
        for _ in 0..5 {
            (broker.port, broker.tls_port) = (free_port(), free_port());
            if broker.try_start() {
                return broker;
            }
        }
        panic!("mosquitto does not start:\n{}", broker.log());
    }
}

impl Broker {
    /// A broker that remembers, without TLS.
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// The port, the same after each restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for TLS, for a broker that was set up with it; the same after each restart.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// A directory of its own, for certificates and lists that configuration lines name.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What mosquitto wrote to its log since it was last started.
    pub fn log(&self) -> String {
        self.process.as_ref().map_or_else(String::new, |process| process.stderr.text())
    }

    /// Waits until its log contains this.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("'{text}' in the log of mosquitto"), PATIENCE, || {
            self.log().contains(text).then_some(())
        });
    }

    /// Ends it in order: clients are told, sessions saved (unless forgetful).
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            process.wait(PATIENCE);
        }
    }

    /// Kills it, as a power loss would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port.
    pub fn resume(&mut self) {
        self.stop();
        // The port is only lent to us; whoever has it now may give it back.
        wait_for("mosquitto to start again on its port", PATIENCE, || self.try_start().then_some(()));
    }

    /// Ends it in order and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.resume();
    }

    /// It stands still with its connections open: the kernel still takes what is sent, nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Publishes a message as [`USER`], QoS 1.
    pub fn publish(&self, topic: &str, payload: &str) {
        let mut command = self.client("mosquitto_pub");
        let done = finish(
            {
                command.args(["-q", "1", "-t", topic, "-m", payload]);
                command
            },
            b"",
        );
        assert_eq!(done.code, Some(0), "mosquitto_pub: {}", done.stderr);
    }

    /// Subscribes as [`USER`] with QoS 1 and waits until the subscription stands. The session outlives a
    /// restart of a broker that remembers, so that nothing is missed.
    pub fn subscribe(&self, filter: &str) -> Subscriber {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("witness-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = self.client("mosquitto_sub");
        // Fields without blanks first, the payload in hexadecimal: any topic and any payload fit one line.
        command.args(["-i", &id, "-c", "-q", "1", "-k", "5", "-t", filter, "-F", "%q %r %x %t"]);
        let process = Process::start(command.stdin(Stdio::null()), true);
        let subscriber = Subscriber { process };
        let subscribed = format!("{id} 1 {filter}");
        wait_for(&format!("the subscription to {filter}"), PATIENCE, || {
            let refused = subscriber.process.stderr.text();
            assert!(refused.is_empty(), "mosquitto_sub: {refused}");
            self.log().contains(&subscribed).then_some(())
        });
        subscriber
    }

    fn signal(&self, signal: Signal) {
        match &self.process {
            Some(process) => process.signal(signal),
            None => panic!("mosquitto is not running"),
        }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-u", USER, "-P", PASSWORD]);
        command
    }

    fn try_start(&mut self) -> bool {
        let config = self.write_config();
        let mut command = Command::new(mosquitto());
        let mut process = Process::start(command.arg("-c").arg(config).stdin(Stdio::null()), false);
        for _ in 0..500 {
            if !process.is_running() {
                break;
            }
            if process.stderr.contains(" running") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.process = Some(process);
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        false
    }

    fn write_config(&self) -> PathBuf {
        let dir = self.dir.path().display();
        let mut config = format!(
            "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {dir}/passwords\n",
            self.port
        );
        if let Some(tls) = &self.setup.tls {
            let _ = writeln!(
                config,
                "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {}",
                self.tls_port,
                tls.authority.display(),
                tls.certificate.cert.display(),
                tls.certificate.key.display(),
                tls.ask_clients
            );
        }
        for line in &self.setup.lines {
            let _ = writeln!(config, "{line}");
        }
        config.push_str("log_dest stderr\nlog_type all\n");
        if !self.setup.forgetful {
            // Saved after each change, so that even a kill loses nothing that was acknowledged.
            let _ = writeln!(
                config,
                "persistence true\npersistence_location {dir}/\nautosave_on_changes true\nautosave_interval 1"
            );
        }
        if rustix::process::getuid().is_root() {
            config.push_str("user root\n");
        }
        let path = self.dir.path().join("mosquitto.conf");
        fs::write(&path, config).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn write_password(&self) {
        let path = self.dir.path().join("passwords");
        let mut command = Command::new("mosquitto_passwd");
        command.args(["-b", "-c"]).arg(&path).args([USER, PASSWORD]);
        let done = finish(command, b"");
        assert_eq!(done.code, Some(0), "mosquitto_passwd: {}", done.stderr);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Receives messages until it is dropped.
#[derive(Debug)]
pub struct Subscriber {
    process: Process,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// The quality of service it was delivered with.
    pub qos: u8,
    /// Whether it was a retained message from before the subscription.
    pub retained: bool,
}

impl Message {
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON; panics if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("not JSON: {}: {error}", self.text()))
    }

    fn parse(line: &str) -> Self {
        let mut fields = line.splitn(4, ' ');
        let mut field = || fields.next().unwrap_or_else(|| panic!("not a message: {line}"));
        let (qos, retained, payload, topic) = (field(), field(), field(), field());
        let byte = |at| u8::from_str_radix(&payload[at..at + 2], 16).unwrap_or_else(|_| panic!("{line}"));
        Self {
            topic: topic.into(),
            payload: (0..payload.len()).step_by(2).map(byte).collect(),
            qos: qos.parse().unwrap_or_else(|_| panic!("{line}")),
            retained: retained == "1",
        }
    }
}

impl Subscriber {
    /// Everything received so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        let text = self.process.stdout.text();
        // The last piece is not a whole line yet, or empty.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Message::parse).collect()
    }

    /// Waits until `look` finds in all the messages what it looks for; panics after [`PATIENCE`].
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&[Message]) -> Option<T>) -> T {
        wait_for(&format!("{what} over MQTT"), PATIENCE, || look(&self.messages()))
    }

    /// Waits until at least `count` messages have come, and gives all.
    pub fn wait_for_count(&self, count: usize) -> Vec<Message> {
        self.wait_for(&format!("{count} messages"), |messages| {
            (messages.len() >= count).then(|| messages.to_vec())
        })
    }

    /// What mosquitto_sub complained about.
    pub fn complaints(&self) -> &Capture {
        &self.process.stderr
    }
}

fn free_port() -> u16 {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

/// Debian puts it into /usr/sbin, which is not in everybody's path.
fn mosquitto() -> &'static str {
    let everywhere = "/usr/sbin/mosquitto";
    if Path::new(everywhere).exists() {
        everywhere
    } else {
        "mosquitto"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_payload_arrives_as_it_was_sent() {
        let broker = Broker::start();
        let subscriber = broker.subscribe("a/#");
        let awkward = "grüß\n{\"x\": 1} ";
        broker.publish("a/b c", awkward);
        let messages = subscriber.wait_for_count(1);
        assert_eq!((messages[0].topic.as_str(), messages[0].text().as_str()), ("a/b c", awkward));
        assert_eq!((messages[0].qos, messages[0].retained), (1, false));
        broker.publish("a", "");
        assert_eq!(subscriber.wait_for_count(2)[1].payload, b"");
    }

    #[test]
    fn the_subscriber_misses_nothing_over_a_restart_and_a_kill() {
        let mut broker = Broker::start();
        let port = broker.port();
        let subscriber = broker.subscribe("t");
        broker.publish("t", "1");
        subscriber.wait_for_count(1);
        broker.restart();
        broker.publish("t", "2");
        subscriber.wait_for("the second", |messages| messages.iter().any(|m| m.text() == "2").then_some(()));
        broker.kill();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        broker.resume();
        broker.publish("t", "3");
        subscriber.wait_for("the third", |messages| messages.iter().any(|m| m.text() == "3").then_some(()));
        assert_eq!(broker.port(), port);
    }

    #[test]
    fn nobody_else_gets_in() {
        let broker = Broker::start();
        let port = broker.port().to_string();
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port, "-u", USER, "-P", "wrong", "-t", "t", "-m", "x"]);
        assert_ne!(finish(command, b"").code, Some(0));
    }
}
