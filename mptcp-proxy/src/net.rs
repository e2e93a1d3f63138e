// SPDX-License-Identifier: Apache-2.0
//! Sockets: MPTCP and plain, listening and connecting, transparent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::sys;

/// `IPPROTO_MPTCP`.
pub(crate) const MPTCP: i32 = 262;
const BACKLOG: i32 = 1024;

/// How an outgoing connection is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// MPTCP, or plain TCP.
    pub mptcp: bool,
    /// Our address, when the way matters.
    pub bind: Option<IpAddr>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// Congestion control, `None` for the system's.
    pub congestion: Option<&'a str>,
}

impl Outgoing<'_> {
    /// Connects. The kernel gives up after minutes only, so the limit is ours.
    pub async fn connect(&self, remote: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let socket = stream_socket(Domain::for_address(remote), self.mptcp)?;
        if let Some(address) = self.bind {
            // Kernels before 6.8 have no such option on MPTCP sockets: the port is then chosen here and now.
            let _ = sys::bind_address_no_port(&socket);
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(name) = self.congestion {
            // A module that is not there is the system's default and a line of the doctor, not the end of service.
            let _ = socket.set_tcp_congestion(name.as_bytes());
        }
        let socket = TcpSocket::from_std_stream(OwnedFd::from(socket).into());
        let connecting = tokio::time::timeout(limit, socket.connect(remote));
        let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        prepare(&stream);
        Ok(stream)
    }
}

/// Sets what every relayed connection has: no delay of small segments, and keep-alive so that a peer that vanished
/// is noticed in about two minutes.
pub fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    // Neither matters enough to refuse a connection.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Closes with a reset (on MPTCP a fast close, RFC 8684 3.5) instead of an orderly end.
pub fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Takes that back: closing it will be an orderly end again.
pub fn keep(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(None);
}

/// Whether this router has run out of descriptors or memory.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// Whether there is nothing to read. An unused connection has nothing to say: bytes, an end and an error alike make it useless.
pub fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Writes all of it, however long that takes.
pub async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A listener for the tunnel: MPTCP where the kernel has it.
pub fn listen_tunnel(address: SocketAddr) -> io::Result<TcpListener> {
    listen(stream_socket(Domain::for_address(address), true)?, address, false)
}

/// A listener for intercepted or local connections: plain TCP, because a LAN host that speaks MPTCP would make
/// `SO_ORIGINAL_DST` fail.
pub fn listen_plain(address: SocketAddr) -> io::Result<TcpListener> {
    listen(stream_socket(Domain::for_address(address), false)?, address, true)
}

/// The same, able to accept connections to foreign addresses (TPROXY); needs `CAP_NET_ADMIN`.
pub fn listen_transparent(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream_socket(Domain::for_address(address), false)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    listen(socket, address, true)
}

fn listen(socket: Socket, address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(OwnedFd::from(socket).into())
}

/// A datagram socket, for both families where the address is `::`.
pub fn udp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Where a redirected connection was meant to go (`SO_ORIGINAL_DST`).
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let found = match stream.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(address) if address.ip().to_ipv4_mapped().is_some() => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    }?;
    found.as_socket().map(canonical).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// IPv4-mapped IPv6 as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// All addresses of the family.
pub fn any(ipv6: bool, port: u16) -> SocketAddr {
    let address: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(address, port)
}

/// Whether the kernel can make MPTCP sockets.
pub fn kernel_has_mptcp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(MPTCP))).is_ok()
}

/// Whether the connection speaks MPTCP now.
pub fn is_mptcp(stream: &impl AsFd) -> bool {
    sys::is_mptcp(stream)
}

fn stream_socket(domain: Domain, mptcp: bool) -> io::Result<Socket> {
    if mptcp {
        match Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::from(MPTCP))) {
            // The kernel was built without it, or net.mptcp.enabled is 0.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)) => {
            }
            result => return result,
        }
    }
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

#[cfg(test)]
#[allow(unsafe_code)] // a filter of system calls, to have an older kernel
mod tests {
    use super::*;

    /// Makes this thread's kernel refuse an option of `SOL_IP`, as one does that does not know it.
    #[cfg(target_endian = "little")]
    fn forget_ip_option(option: u32) {
        let load = |at| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: at };
        let unless = |k, jf| libc::sock_filter { code: 0x15, jt: 0, jf, k };
        let answer = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
        // struct seccomp_data: number, architecture, instruction pointer, six arguments of 8 bytes.
        let mut filter = [
            load(0),
            unless(u32::try_from(libc::SYS_setsockopt).unwrap(), 5),
            load(16 + 8),
            unless(u32::try_from(libc::SOL_IP).unwrap(), 3),
            load(16 + 16),
            unless(option, 1),
            answer(libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EOPNOTSUPP).unwrap()),
            answer(libc::SECCOMP_RET_ALLOW),
        ];
        let program =
            libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
        // SAFETY: the program outlives the call, and its length is the one announced.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_kernel_that_chooses_no_port_late_connects_all_the_same() {
        let connected = std::thread::spawn(|| {
            forget_ip_option(24);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = listen_tunnel("127.0.0.1:0".parse().unwrap()).unwrap();
                let local: IpAddr = "127.0.0.1".parse().unwrap();
                let socket = stream_socket(Domain::IPV4, true).unwrap();
                assert!(sys::bind_address_no_port(&socket).is_err(), "the option is there");
                let outgoing = Outgoing { mptcp: true, bind: Some(local), ..Outgoing::default() };
                outgoing.connect(listener.local_addr().unwrap(), Duration::from_secs(10)).await
            })
        });
        assert_eq!(connected.join().unwrap().unwrap().local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    }
}
