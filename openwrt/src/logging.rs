// SPDX-License-Identifier: Apache-2.0
//! Log output: to syslog where the daemon runs unattended, to stderr where somebody watches.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};
use time::OffsetDateTime;

pub use repeat::Repeat;

mod repeat;

/// Where syslog daemons listen, OpenWrt's logd among them.
const DEV_LOG: &str = "/dev/log";

/// The longest message, in bytes; logd and classic syslog cut at 1024 with their own prefix.
const MAX_MESSAGE: usize = 960;

/// Crates whose messages appear at the level asked for, beside the daemon's own; others only from
/// [`Level::Warn`] up, unless everything ([`LevelFilter::Trace`]) is asked for.
const OWN_CRATES: [&str; 3] = ["openwrt", "alerts", "power_quality"];

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// To stderr if it is a terminal or nobody serves `/dev/log`; else to syslog.
    #[default]
    Auto,
    /// To stderr.
    Stderr,
    /// To syslog; what cannot be delivered is counted and reported later.
    Syslog,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "stderr" => Ok(Self::Stderr),
            "syslog" => Ok(Self::Syslog),
            _ => Err(format!("`{text}` is none of auto, stderr, syslog")),
        }
    }
}

/// Starts logging to where [`Target::Auto`] leads, under the name `ident`.
pub fn init(level: LevelFilter, ident: &'static str) {
    init_to(Target::Auto, level, ident);
}

/// Starts logging. Only the first call of a process has an effect.
pub fn init_to(target: Target, level: LevelFilter, ident: &'static str) {
    let syslog = match target {
        Target::Stderr => None,
        Target::Auto if io::stderr().is_terminal() => None,
        Target::Auto => Some(Syslog::new(Path::new(DEV_LOG), ident)).filter(|syslog| syslog.socket.is_some()),
        Target::Syslog => Some(Syslog::new(Path::new(DEV_LOG), ident)),
    };
    let logger = Logger { level, daemon: ident.replace('-', "_"), syslog: syslog.map(Mutex::new) };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

struct Logger {
    level: LevelFilter,
    /// The crate of the daemon.
    daemon: String,
    /// None: stderr.
    syslog: Option<Mutex<Syslog>>,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= limit(self.level, &self.daemon, metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = printable(&record.args().to_string());
        match &self.syslog {
            Some(syslog) => {
                syslog.lock().unwrap_or_else(PoisonError::into_inner).send(record.level(), &message);
            }
            None => {
                let _ = writeln!(io::stderr().lock(), "{:<5} {message}", record.level());
            }
        }
    }

    fn flush(&self) {}
}

fn limit(asked: LevelFilter, daemon: &str, target: &str) -> LevelFilter {
    let krate = target.split("::").next().unwrap_or(target);
    if asked == LevelFilter::Trace || krate == daemon || OWN_CRATES.contains(&krate) {
        return asked;
    }
    asked.min(LevelFilter::Warn)
}

/// One line that neither forges log entries nor commands a terminal, whatever a peer put into it.
fn printable(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(MAX_MESSAGE));
    for character in message.trim_end().chars() {
        if line.len() > MAX_MESSAGE - "\u{2026}".len() - r"\u{10ffff}".len() {
            line.push('\u{2026}');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// A syslog peer that may come and go. Never blocks.
#[derive(Debug)]
struct Syslog {
    path: PathBuf,
    ident: &'static str,
    socket: Option<UnixDatagram>,
    /// Messages nobody took since the last one that was taken.
    lost: u32,
}

impl Syslog {
    fn new(path: &Path, ident: &'static str) -> Self {
        Self { path: path.into(), ident, socket: connect(path).ok(), lost: 0 }
    }

    fn send(&mut self, level: Level, message: &str) {
        if self.lost > 0 {
            let report = format!("{} log messages were lost", self.lost);
            if self.deliver(Level::Warn, &report).is_ok() {
                self.lost = 0;
            }
        }
        if self.deliver(level, message).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Sends at once or fails; a socket whose peer was restarted is opened anew.
    fn deliver(&mut self, level: Level, message: &str) -> io::Result<()> {
        let datagram = self.datagram(OffsetDateTime::now_utc(), level, message);
        if let Some(socket) = &self.socket {
            match socket.send(datagram.as_bytes()) {
                Ok(_) => return Ok(()),
                // The peer lives but is slow.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.socket = None,
            }
        }
        let socket = connect(&self.path)?;
        socket.send(datagram.as_bytes())?;
        self.socket = Some(socket);
        Ok(())
    }

    /// RFC 3164 4.1 without the host name, as syslog(3) writes it to `/dev/log`; the time is UTC, as musl
    /// writes it (logd puts its own).
    fn datagram(&self, now: OffsetDateTime, level: Level, message: &str) -> String {
        const DAEMON: u8 = 3 << 3;
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let severity = match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let month = MONTHS[usize::from(u8::from(now.month()) - 1) % 12];
        let (hour, minute, second) = now.to_hms();
        let mut datagram = String::with_capacity(48 + message.len());
        // Writing to a String cannot fail.
        let _ = write!(
            datagram,
            "<{}>{month} {:>2} {hour:02}:{minute:02}:{second:02} {}[{}]: {message}",
            DAEMON | severity,
            now.day(),
            self.ident,
            std::process::id(),
        );
        datagram
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 2048];
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_datagram_is_what_syslog_writes() {
        let syslog = Syslog::new(Path::new("/nonexistent"), "powqutyd");
        let datagram = syslog.datagram(datetime!(2026-03-05 07:08:09 UTC), Level::Warn, "dip to 50 %");
        let expected = format!("<28>Mar  5 07:08:09 powqutyd[{}]: dip to 50 %", std::process::id());
        assert_eq!(datagram, expected);
        // logd skips exactly this many bytes of time stamp behind the priority.
        assert_eq!(datagram.find("powqutyd"), Some("<28>".len() + 16));
    }

    #[test]
    fn messages_survive_a_restart_of_the_syslog_daemon_and_losses_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let logd = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path, "powqutyd");
        syslog.send(Level::Info, "one");
        assert!(received(&logd).ends_with(": one"));

        drop(logd);
        syslog.send(Level::Info, "lost with a dead peer");
        std::fs::remove_file(&path).unwrap();
        syslog.send(Level::Info, "lost without a socket");
        assert_eq!(syslog.lost, 2);

        let logd = UnixDatagram::bind(&path).unwrap();
        syslog.send(Level::Error, "two");
        assert!(received(&logd).ends_with(": 2 log messages were lost"));
        let two = received(&logd);
        assert!(two.starts_with("<27>") && two.ends_with(": two"), "{two}");
        assert_eq!(syslog.lost, 0);
    }

    #[test]
    fn a_syslog_daemon_that_does_not_read_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path, "powqutyd");
        for _ in 0..100_000 {
            syslog.send(Level::Info, "again");
            if syslog.lost > 10 {
                return;
            }
        }
        panic!("the queue never filled");
    }

    #[test]
    fn foreign_text_cannot_forge_lines_or_command_a_terminal() {
        assert_eq!(printable("ssid a\n<0>b\x1b[2J\u{85}"), r"ssid a\n<0>b\u{1b}[2J");
        assert_eq!(printable("trailing\n"), "trailing");
        let long = printable(&"é\n".repeat(2000));
        assert!(long.len() <= MAX_MESSAGE && long.ends_with('…'));
        assert_eq!(printable("grüß — 50 %"), "grüß — 50 %");
    }

    #[test]
    fn libraries_are_quiet_unless_everything_is_asked_for() {
        let limit = |asked, target| limit(asked, "mptcp_proxy", target);
        assert_eq!(limit(LevelFilter::Debug, "openwrt::service"), LevelFilter::Debug);
        assert_eq!(limit(LevelFilter::Debug, "mptcp_proxy"), LevelFilter::Debug);
        assert_eq!(limit(LevelFilter::Debug, "rumqttc::state"), LevelFilter::Warn);
        assert_eq!(limit(LevelFilter::Error, "rumqttc"), LevelFilter::Error);
        assert_eq!(limit(LevelFilter::Trace, "rumqttc"), LevelFilter::Trace);
    }
}
