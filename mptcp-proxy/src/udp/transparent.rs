// SPDX-License-Identifier: Apache-2.0
//! Datagrams that were meant for others (nft TPROXY), and answers in their name; needs `CAP_NET_ADMIN`.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{recvmsg, setsockopt, sockopt, ControlMessageOwned, MsgFlags, SockaddrStorage};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::datagram;
use crate::net;

/// A socket that receives intercepted datagrams.
pub struct Intercepted(UdpSocket);

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub length: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom it was meant for.
    pub target: SocketAddr,
}

impl Intercepted {
    /// Listens at this port of one family.
    pub fn listen(ipv6: bool, port: u16) -> io::Result<Self> {
        let socket = transparent(net::any(ipv6, port))?;
        if ipv6 {
            setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
        }
        Ok(Intercepted(UdpSocket::from_std(OwnedFd::from(socket).into())?))
    }

    /// Waits until there is something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// The next datagram that is there already.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.0.try_io(Interest::READABLE, || self.receive(buffer))
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut room = nix::cmsg_space!([u8; 128]);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
        let mut target = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                    let ip = u32::from_be(address.sin_addr.s_addr);
                    target =
                        Some(SocketAddr::V4(SocketAddrV4::new(ip.into(), u16::from_be(address.sin_port))));
                }
                ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                    let ip = address.sin6_addr.s6_addr;
                    let port = u16::from_be(address.sin6_port);
                    target = Some(SocketAddr::V6(SocketAddrV6::new(ip.into(), port, 0, 0)));
                }
                _ => {}
            }
        }
        let source = message.address.as_ref().and_then(datagram::address);
        let source = source.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let target = target.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Received { length: message.bytes, source, target })
    }
}

/// A socket that answers LAN hosts in the name of this foreign address.
pub fn answering_for(address: SocketAddr) -> io::Result<Socket> {
    transparent(address)
}

fn transparent(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    // Several LAN hosts may talk to the same target.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
