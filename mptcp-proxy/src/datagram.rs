// SPDX-License-Identifier: Apache-2.0
//! Datagrams with the address they were sent to: an answer has to come from there, whatever address the routing table
//! would choose for it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    recvmsg, sendmsg, setsockopt, sockopt, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6,
    SockaddrStorage,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::net;

/// A listening datagram socket.
pub struct Datagrams {
    socket: UdpSocket,
    ipv6: bool,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub length: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where to, without the port.
    pub local: IpAddr,
}

impl Datagrams {
    /// A socket at this address, for both families where it is `::`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::from_std(net::udp_socket(address)?.into())?;
        let ipv6 = address.is_ipv6();
        if ipv6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Ok(Datagrams { socket, ipv6 })
    }

    /// Waits for a datagram.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut room = nix::cmsg_space!([u8; 128]);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut room),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let mut local = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
        }
        let peer = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Received { length: message.bytes, peer, local })
    }

    /// Sends the answer from where the question went to. A full queue loses it, as any path may.
    pub fn answer(&self, bytes: &[u8], question: &Received) -> io::Result<()> {
        let parts = [IoSlice::new(bytes)];
        let fd = self.socket.as_raw_fd();
        match (self.ipv6, question.local) {
            (true, IpAddr::V6(local)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                    // A link-local peer is only found on its link; elsewhere routing decides.
                    ipi6_ifindex: 0,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                let peer = match question.peer {
                    SocketAddr::V6(peer) => SockaddrIn6::from(peer),
                    SocketAddr::V4(peer) => SockaddrIn6::from(std::net::SocketAddrV6::new(
                        peer.ip().to_ipv6_mapped(),
                        peer.port(),
                        0,
                        0,
                    )),
                };
                sendmsg(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&peer))?;
            }
            (_, IpAddr::V4(local)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(local).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let peer = SockaddrStorage::from(question.peer);
                sendmsg(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&peer))?;
            }
            (false, IpAddr::V6(_)) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }
        Ok(())
    }
}

/// An address of the kernel as ours.
pub(crate) fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddr::V6(std::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_where_the_question_went_to() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for listen in ["[::]:0", "0.0.0.0:0"] {
                let server = Datagrams::bind(listen.parse().unwrap()).unwrap();
                let port = server.socket.local_addr().unwrap().port();
                let client = UdpSocket::bind("127.0.0.9:0").await.unwrap();
                // The routing table would answer from 127.0.0.1.
                let there = SocketAddr::from(([127, 0, 0, 77], port));
                client.send_to(b"ping", there).await.unwrap();
                let mut buffer = [0; 16];
                let question = server.receive(&mut buffer).await.unwrap();
                assert_eq!(question.length, 4);
                server.answer(b"pong", &question).unwrap();
                assert_eq!(client.recv_from(&mut buffer).await.unwrap(), (4, there), "{listen}");
            }
        });
    }
}
