// SPDX-License-Identifier: Apache-2.0
//! A link with a delay, because the kernel here has no netem: a TUN device in each of two namespaces, and threads that
//! carry packets between them after a while.
#![allow(unsafe_code)] // attaching to a TUN device is an ioctl without a safe wrapper

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};

use crate::Netns;

/// Packets on the way in one direction, at most; more are dropped as a full queue would.
const QUEUE: usize = 4096;

/// Two TUN devices and what carries packets between them, until it is dropped.
#[derive(Debug)]
pub struct DelayTun {
    stop: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl DelayTun {
    /// Joins two namespaces by devices of this name; a packet takes `delay` each way. Both devices are up and have no
    /// address yet.
    pub fn join(one: &Netns, other: &Netns, name: &str, delay: Duration) -> Self {
        let (left, right) = (open(one, name), open(other, name));
        let (stop, silent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut carriers = Vec::new();
        for (from, to) in [(&left, &right), (&right, &left)] {
            let from = from.try_clone().expect("a descriptor");
            let to = to.try_clone().expect("a descriptor");
            let (stop, silent) = (Arc::clone(&stop), Arc::clone(&silent));
            carriers.push(std::thread::spawn(move || carry(&from, &to, delay, &stop, &silent)));
        }
        DelayTun { stop, silent, carriers }
    }

    /// While silent it loses every packet, both ways, also those under way; its devices stay up.
    pub fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

impl Drop for DelayTun {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

fn open(namespace: &Netns, name: &str) -> File {
    let tun = namespace.enter(|| {
        let tun = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
        attach(&tun, name);
        tun
    });
    rustix::io::ioctl_fionbio(&tun, true).expect("FIONBIO");
    namespace.ip(&format!("link set {name} mtu 1500 txqueuelen 1000 up"));
    tun
}

/// `ioctl(TUNSETIFF)` with `struct ifreq`: 16 bytes of name, flags, padding.
fn attach(tun: &File, name: &str) {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const IFF_TUN: u16 = 1;
    const IFF_NO_PI: u16 = 0x1000;
    let mut request = [0u8; 40];
    request[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: the descriptor is open, and the request is as long as the kernel's `struct ifreq`.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) };
    assert!(result == 0, "TUNSETIFF {name}: {}", std::io::Error::last_os_error());
}

fn carry(mut from: &File, mut to: &File, delay: Duration, stop: &AtomicBool, silent: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut packet = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, packet)) = waiting.pop_front() {
                if !silent.load(Ordering::Relaxed) {
                    // A device that is down loses it.
                    let _ = to.write(&packet);
                }
            }
        }
        loop {
            match from.read(&mut packet) {
                Ok(length) if waiting.len() < QUEUE => {
                    waiting.push_back((Instant::now() + delay, packet[..length].to_vec()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break,
            }
        }
        let wait = waiting
            .front()
            .map_or(Duration::from_millis(50), |(due, _)| due.saturating_duration_since(Instant::now()))
            .min(Duration::from_millis(50));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let _ = poll(&mut [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)], Some(&timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_packet_takes_its_time_or_is_lost_in_silence() {
        let (one, other) = (Netns::new("tun"), Netns::new("tun"));
        let link = DelayTun::join(&one, &other, "wan", Duration::from_millis(20));
        one.ip("addr add 192.0.2.1/24 dev wan");
        other.ip("addr add 192.0.2.2/24 dev wan");
        let echo = other.enter(|| UdpSocket::bind("192.0.2.2:0").unwrap());
        let asking = one.enter(|| UdpSocket::bind("192.0.2.1:0").unwrap());
        asking.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let begun = Instant::now();
        asking.send_to(b"x", echo.local_addr().unwrap()).unwrap();
        let (_, peer) = echo.recv_from(&mut [0; 8]).unwrap();
        echo.send_to(b"y", peer).unwrap();
        asking.recv_from(&mut [0; 8]).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(40), "{:?}", begun.elapsed());
        link.set_silent(true);
        asking.send_to(b"lost", echo.local_addr().unwrap()).unwrap();
        // A loaded machine may take its time to lose it.
        std::thread::sleep(Duration::from_secs(1));
        link.set_silent(false);
        asking.send_to(b"z", echo.local_addr().unwrap()).unwrap();
        let mut packet = [0; 8];
        let (length, _) = echo.recv_from(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"z");
    }
}
