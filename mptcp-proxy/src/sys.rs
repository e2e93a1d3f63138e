// SPDX-License-Identifier: Apache-2.0
//! Socket options that no safe wrapper offers; the only `unsafe` of the daemon.
#![allow(unsafe_code)] // getsockopt and setsockopt with structures that the wrapper crates do not know

use std::fs::File;
use std::io;
use std::mem::{size_of, MaybeUninit};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::unix::AsyncFd;

/// `SOL_MPTCP`.
const SOL_MPTCP: i32 = 284;
/// `MPTCP_INFO`.
const MPTCP_INFO: i32 = 1;
/// `MPTCP_FULL_INFO`, since Linux 6.7.
const MPTCP_FULL_INFO: i32 = 4;
/// `IP_BIND_ADDRESS_NO_PORT`.
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

/// Subflows of a connection that are reported; the kernel's own limit is 8.
const MAX_SUBFLOWS: usize = 8;

/// Lets the kernel choose the port only at `connect`, so that many connections can share an address.
pub fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Offers the peer a window of so many bytes at least, however little has come so far; the kernel may grow it further. A
/// low-water mark has to fit the buffer, so raising it for a moment makes room (MPTCP: since Linux 6.10).
pub fn widen_window(socket: &impl AsFd, bytes: i32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)?;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1)
}

fn set(socket: &impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the borrow, the pointer and length describe `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length_of::<i32>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A TUN device of this name whose packets have no header before them (`TUNSETIFF` with `struct ifreq`: 16 bytes of
/// name, flags, padding). It goes when it is closed.
pub fn open_tun(name: &str) -> io::Result<AsyncFd<File>> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = [0u8; 40];
    let length = name.len().min(15);
    request[..length].copy_from_slice(&name.as_bytes()[..length]);
    let flags = u16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap_or(0);
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the descriptor is open, and the request is no shorter than the kernel's `struct ifreq` (32 or 40 bytes).
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the `File` owns its descriptor and gives the same one for ever; nobody replaces it inside the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// Whether the connection really speaks MPTCP: false for plain TCP and after a fallback to it.
pub fn is_mptcp(socket: &impl AsFd) -> bool {
    // Only the success counts: the kernel hands a connection that fell back over to TCP, which lacks the option.
    get::<[u8; 16]>(socket, SOL_MPTCP, MPTCP_INFO).is_ok()
}

/// One subflow of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subflow {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Smoothed round-trip time, µs.
    pub rtt_us: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Bytes sent and acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Its handshake is complete and neither end has closed it.
    pub established: bool,
    /// It is over. The kernel keeps the first one of a connection in the list.
    pub closed: bool,
    /// Since data or an acknowledgement was received, ms.
    pub silent_ms: u32,
}

/// The subflows of an MPTCP connection; an error on plain TCP and on kernels before 6.7.
pub fn subflows(socket: &impl AsFd) -> io::Result<Vec<Subflow>> {
    let mut addresses = [SubflowInfo { id: 0, padding: 0, local: [0; 128], remote: [0; 128] }; MAX_SUBFLOWS];
    let mut details = [TcpInfo { bytes: [0; TCP_INFO] }; MAX_SUBFLOWS];
    let mut info = FullInfo {
        tcp_info_kernel: 0,
        tcp_info_user: u32::try_from(size_of::<TcpInfo>()).unwrap_or(0),
        subflow_info_kernel: 0,
        subflow_info_user: u32::try_from(size_of::<SubflowInfo>()).unwrap_or(0),
        subflows: 0,
        array: u32::try_from(MAX_SUBFLOWS).unwrap_or(0),
        subflow_info: address_of(addresses.as_mut_ptr()),
        tcp_info: address_of(details.as_mut_ptr()),
        mptcp_info: [0; 128],
    };
    let mut length = length_of::<FullInfo>();
    // SAFETY: `info` is a `struct mptcp_full_info` whose two pointers lead to arrays of `array` elements of the
    // announced element sizes; all three outlive the call, and any bytes are valid values of their integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            SOL_MPTCP,
            MPTCP_FULL_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(info.subflows).unwrap_or(0).min(MAX_SUBFLOWS);
    let found = addresses.iter().zip(&details).take(count);
    Ok(found.filter_map(|(address, detail)| subflow(address, detail)).collect())
}

/// Bytes that were sent and not acknowledged yet.
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<i32> {
    let mut bytes: i32 = 0;
    // SAFETY: the descriptor is open for the duration of the borrow, and the request writes one `int`.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        Ok(bytes)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn subflow(address: &SubflowInfo, detail: &TcpInfo) -> Option<Subflow> {
    const STATE: usize = 0;
    const ESTABLISHED: u8 = 1;
    const CLOSE: u8 = 7;
    const LAST_DATA_RECEIVED: usize = 52;
    const LAST_ACK_RECEIVED: usize = 56;
    const RTT: usize = 68;
    const TOTAL_RETRANS: usize = 100;
    const BYTES_ACKED: usize = 120;
    const BYTES_RECEIVED: usize = 128;
    let word = |at: usize| detail.bytes[at..].first_chunk().map_or(0, |chunk| u32::from_ne_bytes(*chunk));
    let long = |at: usize| detail.bytes[at..].first_chunk().map_or(0, |chunk| u64::from_ne_bytes(*chunk));
    Some(Subflow {
        local: socket_address(&address.local)?,
        remote: socket_address(&address.remote)?,
        rtt_us: word(RTT),
        retransmits: word(TOTAL_RETRANS),
        sent: long(BYTES_ACKED),
        received: long(BYTES_RECEIVED),
        established: detail.bytes[STATE] == ESTABLISHED,
        closed: detail.bytes[STATE] == CLOSE,
        silent_ms: word(LAST_DATA_RECEIVED).min(word(LAST_ACK_RECEIVED)),
    })
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(bytes: &[u8; 128]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let address: IpAddr = match family {
        libc::AF_INET => (*bytes[4..].first_chunk::<4>()?).into(),
        libc::AF_INET6 => (*bytes[8..].first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

/// Bytes of `struct tcp_info` that are read.
const TCP_INFO: usize = 136;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct TcpInfo {
    bytes: [u8; TCP_INFO],
}

/// `struct mptcp_subflow_info`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SubflowInfo {
    id: u32,
    padding: u32,
    local: [u8; 128],
    remote: [u8; 128],
}

/// `struct mptcp_full_info`, with more room at its end than any kernel fills.
#[repr(C, align(8))]
struct FullInfo {
    tcp_info_kernel: u32,
    tcp_info_user: u32,
    subflow_info_kernel: u32,
    subflow_info_user: u32,
    subflows: u32,
    array: u32,
    subflow_info: u64,
    tcp_info: u64,
    mptcp_info: [u8; 128],
}

fn address_of<T>(pointer: *mut T) -> u64 {
    pointer.expose_provenance() as u64
}

fn get<T: Copy>(socket: &impl AsFd, level: i32, option: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = length_of::<T>();
    // SAFETY: the descriptor is open for the duration of the borrow; pointer and length describe `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed and then partly overwritten; this module only asks for integers and arrays of bytes, for
    // which every bit pattern is a value.
    Ok(unsafe { value.assume_init() })
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
