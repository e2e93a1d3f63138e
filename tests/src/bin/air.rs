// SPDX-License-Identifier: Apache-2.0
//! Runs inside the test machine: breaks and mends a link and says how long the air took to follow.
//!
//! `air COUNT NAMESPACE DEVICE BROKEN WHOLE`: COUNT times takes DEVICE in NAMESPACE down, waits for the first beacon named
//! BROKEN, takes it up, waits for the first beacon named WHOLE. Prints `switch N DOWN_MS UP_MS` for each; the time starts
//! before the kernel is told, and not before the other name has left the air. Beacons are read from hwsim's monitor device.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use openwrt::netlink::wire::{Builder, ACK};
use openwrt::netlink::Connection;
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL`, in network byte order.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;
const PATIENCE: Duration = Duration::from_secs(30);
/// A name that misses three beacons (102.4 ms apart) has left the air.
const GONE: Duration = Duration::from_millis(320);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [count, namespace, device, broken, whole] = &args[..] else {
        println!("usage: air COUNT NAMESPACE DEVICE BROKEN WHOLE");
        return ExitCode::from(2);
    };
    let count: u32 = count.parse().unwrap_or(0);
    let measured =
        Link::find(namespace, device).and_then(|mut link| measure(count, &mut link, broken, whole));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("air: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(count: u32, link: &mut Link, broken: &str, whole: &str) -> Result<(), String> {
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS)))
        .map_err(|error| format!("packet socket: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|error| error.to_string())?;
    wait_for(&mut socket, whole)?;
    for number in 1..=count {
        let fell = follow(&mut socket, link, false, broken)?;
        wait_for_end_of(&mut socket, whole)?;
        let rose = follow(&mut socket, link, true, whole)?;
        wait_for_end_of(&mut socket, broken)?;
        println!("switch {number} {:.1} {:.1}", fell.as_secs_f64() * 1e3, rose.as_secs_f64() * 1e3);
        // Another phase of the beacon interval (102.4 ms) each time.
        std::thread::sleep(Duration::from_millis(100 + u64::from(number) * 37 % 103));
    }
    Ok(())
}

fn follow(socket: &mut Socket, link: &mut Link, up: bool, name: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    link.set(up)?;
    wait_for(socket, name)?;
    Ok(begin.elapsed())
}

/// A device in another namespace. A netlink socket belongs to the namespace it was made in.
struct Link {
    connection: Connection,
    index: u32,
}

impl Link {
    fn find(namespace: &str, device: &str) -> Result<Self, String> {
        let inside = || -> Result<Connection, String> {
            let file =
                std::fs::File::open(format!("/run/netns/{namespace}")).map_err(|error| error.to_string())?;
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                .map_err(|error| error.to_string())?;
            Connection::route().map_err(|error| error.to_string())
        };
        let made = std::thread::scope(|scope| scope.spawn(inside).join());
        let mut connection = made.map_err(|_| "the namespace's thread panicked".to_owned())??;
        let links = connection.links().map_err(|error| error.to_string())?;
        let found = links.iter().find(|link| link.name == device);
        let index = found.ok_or_else(|| format!("no device {device} in {namespace}"))?.index;
        Ok(Self { connection, index })
    }

    /// `RTM_NEWLINK` with `IFF_UP` set or cleared.
    fn set(&mut self, up: bool) -> Result<(), String> {
        const RTM_NEWLINK: u16 = 16;
        const IFF_UP: u32 = 1;
        let mut header = vec![0; 4];
        header.extend(self.index.to_ne_bytes());
        header.extend(u32::from(up).to_ne_bytes());
        header.extend(IFF_UP.to_ne_bytes());
        self.connection
            .order(Builder::new(RTM_NEWLINK, ACK).fixed(&header))
            .map_err(|error| error.to_string())
    }
}

fn wait_for(socket: &mut Socket, name: &str) -> Result<(), String> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if hears(socket, name) {
            return Ok(());
        }
    }
    Err(format!("no beacon of {name} within {} s", PATIENCE.as_secs()))
}

fn wait_for_end_of(socket: &mut Socket, name: &str) -> Result<(), String> {
    let begin = Instant::now();
    let mut heard = begin;
    while begin.elapsed() < PATIENCE {
        if hears(socket, name) {
            heard = Instant::now();
        } else if heard.elapsed() >= GONE {
            return Ok(());
        }
    }
    Err(format!("still beacons of {name} after {} s", PATIENCE.as_secs()))
}

/// Whether the next frame, if one comes within the socket's time, is a beacon of this name.
fn hears(socket: &mut Socket, name: &str) -> bool {
    let mut frame = [0; 4096];
    socket.read(&mut frame).is_ok_and(|length| beacon_name(&frame[..length]) == Some(name.as_bytes()))
}

/// The SSID of a beacon with a radiotap header in front; `None` for every other frame.
fn beacon_name(frame: &[u8]) -> Option<&[u8]> {
    const BEACON: u8 = 0x80;
    const HEADER_AND_FIXED_FIELDS: usize = 24 + 12;
    let [0, 0, low, high, ..] = *frame else { return None };
    let beacon = frame.get(usize::from(u16::from_le_bytes([low, high]))..)?;
    if *beacon.first()? != BEACON {
        return None;
    }
    let element = beacon.get(HEADER_AND_FIXED_FIELDS..)?;
    let [0, length, rest @ ..] = element else { return None };
    rest.get(..usize::from(*length))
}
