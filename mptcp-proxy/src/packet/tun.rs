// SPDX-License-Identifier: Apache-2.0
//! A TUN device, which is there as long as we are; needs `CAP_NET_ADMIN`.

use std::fs::File;
use std::io::{self, Read, Write};

use openwrt::netlink::wire::{Builder, ACK};
use openwrt::netlink::{Address, Connection, Prefix};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Packets that are taken before others get their turn.
const TURNS: usize = 64;
/// The longest packet there is.
const LONGEST: usize = 65_535;

/// A TUN device.
pub struct Tun {
    file: AsyncFd<File>,
    /// Its number.
    pub index: u32,
}

impl Tun {
    /// Makes a device of this name and sets it up. Its MTU is 1500, because the tunnel is a stream: a packet of any
    /// length fits, and one that is too long for a link behind the tunnel is answered by the router before that link.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = sys::open_tun(name)?;
        let mut connection = Connection::route().map_err(io::Error::other)?;
        let links = connection.links().map_err(io::Error::other)?;
        let link = links.iter().find(|link| link.name == name).ok_or(io::ErrorKind::NotFound)?;
        connection.order(set_up(link.index)).map_err(io::Error::other)?;
        // Answers come by another device than plain routing expects them from. 2: from anywhere, which the kernel takes
        // for none at all on a device without an IPv4 address.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2");
        Ok(Tun { file, index: link.index })
    }

    /// Gives it an address.
    pub fn add_address(&self, prefix: Prefix) -> io::Result<()> {
        let mut connection = Connection::route().map_err(io::Error::other)?;
        connection.add_address(&self.address(prefix)).map_err(io::Error::other)
    }

    /// Takes an address away.
    pub fn delete_address(&self, prefix: Prefix) -> io::Result<()> {
        let mut connection = Connection::route().map_err(io::Error::other)?;
        connection.delete_address(&self.address(prefix)).map_err(io::Error::other)
    }

    fn address(&self, prefix: Prefix) -> Address {
        const NODAD: u32 = 2;
        let flags = if prefix.address.is_ipv6() { NODAD } else { 0 };
        Address { link: self.index, prefix, peer: None, scope: 0, flags }
    }

    /// Hands over the packets of the kernel until `each` has had enough.
    pub async fn read(&self, each: &mut dyn FnMut(&[u8]) -> bool) {
        // One for all turns: there are at most two devices, and a short packet touches one page of it.
        let mut buffer = vec![0; LONGEST];
        loop {
            let Ok(mut ready) = self.file.readable().await else { return std::future::pending().await };
            for _ in 0..TURNS {
                match ready.try_io(|file| file.get_ref().read(&mut buffer)) {
                    Ok(Ok(length)) => {
                        if each(&buffer[..length]) {
                            return;
                        }
                    }
                    Ok(Err(error)) => {
                        // The device is down: somebody else's doing.
                        log::debug!("TUN: {error}");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        break;
                    }
                    Err(_) => break,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Gives a packet to the kernel.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        self.file.get_ref().write(packet).map(drop)
    }
}

/// `RTM_NEWLINK` with `struct ifinfomsg`: the flag `IFF_UP` and the mask that only that one changes.
fn set_up(index: u32) -> Builder {
    const NEW_LINK: u16 = 16;
    const UP: u32 = 1;
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&UP.to_ne_bytes());
    fixed[12..16].copy_from_slice(&UP.to_ne_bytes());
    Builder::new(NEW_LINK, ACK).fixed(&fixed)
}
