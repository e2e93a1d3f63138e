// SPDX-License-Identifier: Apache-2.0
//! hostapd's control interface: commands to one BSS, or to hostapd as a whole.
//!
//! The client's socket has an abstract address: OpenWrt's hostapd runs as another user in a jail and could not answer
//! to a path of ours.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// hostapd answers from its event loop; what takes longer is a hostapd that is busy starting a radio.
const PATIENCE: Duration = Duration::from_secs(2);
/// hostapd's own limit for an answer.
const MAX_REPLY: usize = 4096;

/// Name of hostapd's global socket beside those of the BSSes.
pub const GLOBAL: &str = "global";

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens on the socket, or it cannot be used.
    Unreachable(io::Error),
    /// No answer in time.
    Timeout,
    /// hostapd says `FAIL` or `UNKNOWN COMMAND` to this command.
    Refused(&'static str, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "hostapd: {error}"),
            Self::Timeout => f.write_str("hostapd does not answer"),
            Self::Refused(command, answer) => write!(f, "hostapd: {command}: {answer}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Nobody is there, which is no trouble of ours.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Unreachable(error) if matches!(error.kind(), ConnectionRefused | NotFound))
    }
}

/// A command, behind the name that stands for it in errors.
pub type Command = (&'static str, String);

/// A connection to one control socket.
#[derive(Debug)]
pub struct Control {
    socket: UnixDatagram,
}

impl Control {
    /// Connects to `<directory>/<name>`: the name of a BSS's device, or [`GLOBAL`].
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect(directory: &Path, name: &str) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = format!("dynapoint-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let connect = || -> io::Result<UnixDatagram> {
            let socket = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(own)?)?;
            socket.connect(directory.join(name))?;
            socket.set_nonblocking(true)?;
            UnixDatagram::from_std(socket)
        };
        connect().map(|socket| Self { socket }).map_err(Error::Unreachable)
    }

    /// Sends a command and gives its answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Timeout`].
    pub async fn ask(&self, command: &str) -> Result<String, Error> {
        self.send(command).await?;
        self.answer().await
    }

    async fn send(&self, command: &str) -> Result<(), Error> {
        let sent = timeout(PATIENCE, self.socket.send(command.as_bytes())).await;
        sent.map_err(|_| Error::Timeout)?.map(|_| ()).map_err(Error::Unreachable)
    }

    async fn answer(&self) -> Result<String, Error> {
        let exchange = async {
            let mut reply = vec![0; MAX_REPLY];
            loop {
                let length = self.socket.recv(&mut reply).await?;
                // `<3>…` is an event, sent to whoever has attached; nobody here has.
                if reply.first() != Some(&b'<') {
                    return Ok(String::from_utf8_lossy(&reply[..length]).into_owned());
                }
            }
        };
        timeout(PATIENCE, exchange).await.map_err(|_| Error::Timeout)?.map_err(Error::Unreachable)
    }

    /// Sends a command that hostapd confirms; `name` stands for it in errors, since a command can hold a key.
    ///
    /// # Errors
    /// [`Error::Refused`] where the answer is not `OK`; else as [`Control::ask`].
    pub async fn order(&self, name: &'static str, command: &str) -> Result<(), Error> {
        self.send(command).await?;
        self.confirmed(name).await
    }

    /// Sends commands without waiting for the answers in between; hostapd carries them out in this order and gives each
    /// of them one, which [`Control::confirmed`] reads.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Timeout`].
    pub async fn send_all(&self, commands: &[Command]) -> Result<(), Error> {
        for (_, command) in commands {
            self.send(command).await?;
        }
        Ok(())
    }

    /// Reads the answer to the command `name`.
    ///
    /// # Errors
    /// As [`Control::order`].
    pub async fn confirmed(&self, name: &'static str) -> Result<(), Error> {
        let answer = self.answer().await?;
        match answer.trim_end() {
            "OK" => Ok(()),
            other => Err(Error::Refused(name, other.to_owned())),
        }
    }
}

/// A radio, as `STATUS` on the socket of any of its BSSes describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `ENABLED`, `DFS`, `ACS`, `COUNTRY_UPDATE`, …
    pub state: String,
    /// The phy, `phy0`.
    pub phy: String,
    /// Seconds left of a channel availability check.
    pub cac_left: Option<u32>,
    /// Its BSSes, the first one first.
    pub bsses: Vec<Bss>,
}

/// One BSS of a radio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bss {
    /// Device.
    pub ifname: String,
    /// BSSID.
    pub bssid: String,
    /// SSID, as bytes.
    pub ssid: Vec<u8>,
    /// Associated clients.
    pub clients: u32,
}

impl Status {
    /// Reads the answer to `STATUS`: lines `key=value`, those of a BSS with `[index]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "state" => value.clone_into(&mut status.state),
                "phy" => value.clone_into(&mut status.phy),
                "cac_time_left_seconds" => status.cac_left = value.parse().ok().filter(|left| *left > 0),
                _ => status.bss_line(key, value),
            }
        }
        status.bsses.retain(|bss| !bss.ifname.is_empty());
        status
    }

    fn bss_line(&mut self, key: &str, value: &str) {
        const MAX_BSSES: usize = 64;
        let Some((key, index)) = key.strip_suffix(']').and_then(|key| key.split_once('[')) else { return };
        let Some(index) = index.parse::<usize>().ok().filter(|index| *index < MAX_BSSES) else { return };
        if self.bsses.len() <= index {
            self.bsses.resize(index + 1, Bss::default());
        }
        let bss = &mut self.bsses[index];
        match key {
            "bss" => value.clone_into(&mut bss.ifname),
            "bssid" => value.clone_into(&mut bss.bssid),
            "ssid" => bss.ssid = unescape(value),
            "num_sta" => bss.clients = value.parse().unwrap_or(0),
            _ => {}
        }
    }

    /// Why the radio must be left alone now.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        match (self.state.as_str(), self.cac_left) {
            ("DFS", Some(left)) => Some(format!("channel availability check (DFS), {left} s left")),
            ("DFS", None) => Some("channel availability check (DFS)".to_owned()),
            ("ENABLED" | "", _) => None,
            (other, _) => Some(format!("the radio is in state {other}")),
        }
    }
}

/// Undoes hostapd's `printf_encode` (wpa_ssid_txt): `\xHH`, `\\`, `\"`, `\e`, `\n`, `\r`, `\t`.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let escape = bytes.get(at).copied();
        at += 1;
        match escape {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'e') => out.push(0x1b),
            Some(b'x') => {
                let digits = bytes.get(at..at + 2).and_then(|digits| std::str::from_utf8(digits).ok());
                out.extend(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()));
                at += 2;
            }
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    out
}

/// An SSID as `ssid2` takes it: hexadecimal, so that no byte of it means anything else.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_status() {
        let status = Status::parse(
            "state=ENABLED\nphy=phy0\nfreq=2437\ncac_time_left_seconds=N/A\nbss[0]=wlan0\nbssid[0]=02:00:00:00:00:00\n\
             ssid[0]=private\nnum_sta[0]=1\nbss[1]=wlan0_1\nssid[1]=au\\xc3\\xa4\\\\ \\\"\nnum_sta[1]=0\nnum_sta_no_ht=2\n",
        );
        assert_eq!((status.phy.as_str(), status.busy()), ("phy0", None));
        assert_eq!(status.bsses.len(), 2);
        assert_eq!((status.bsses[0].ifname.as_str(), status.bsses[0].clients), ("wlan0", 1));
        assert_eq!(status.bsses[1].ssid, "auä\\ \"".as_bytes());
    }

    #[test]
    fn a_radio_in_a_channel_check_is_busy() {
        let status = Status::parse("state=DFS\ncac_time_left_seconds=48\nbss[0]=wlan0\n");
        assert_eq!(status.busy().unwrap(), "channel availability check (DFS), 48 s left");
    }

    proptest! {
        #[test]
        fn any_ssid_survives(ssid in prop::collection::vec(any::<u8>(), 0..32)) {
            // wpa_ssid_txt's encoder.
            let mut text = String::new();
            for byte in &ssid {
                match byte {
                    b'"' => text.push_str("\\\""),
                    b'\\' => text.push_str("\\\\"),
                    0x1b => text.push_str("\\e"),
                    b'\n' => text.push_str("\\n"),
                    b'\r' => text.push_str("\\r"),
                    b'\t' => text.push_str("\\t"),
                    32..=126 => text.push(char::from(*byte)),
                    other => text.push_str(&format!("\\x{other:02x}")),
                }
            }
            prop_assert_eq!(unescape(&text), ssid);
        }

        #[test]
        fn nothing_from_outside_panics(text in "(bss|ssid|num_sta|state|x)?\\[?[0-9]{0,30}\\]?=?.{0,20}\n?.{0,40}") {
            let _ = Status::parse(&text);
            let _ = unescape(&text);
        }
    }
}
