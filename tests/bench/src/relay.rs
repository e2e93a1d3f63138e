// SPDX-License-Identifier: Apache-2.0
//! The least a pair of relays can do: plain TCP between them, six bytes that name the target, splice through pipes of
//! 256 kB. No authentication, no second path, no limits: the floor that a proxy's cost is held against.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::pipe::{fcntl_setpipe_size, pipe, splice, SpliceFlags};

use crate::bed::R2;
use crate::peers::{LOCAL_PORT, TUNNEL_PORT};

const PIPE: usize = 256 * 1024;

/// Takes what nft redirected, for ever.
pub fn client() {
    serve(LOCAL_PORT, |stream| {
        let target = socket2::SockRef::from(&stream).original_dst_v4().ok()?.as_socket_ipv4()?;
        let mut tunnel = TcpStream::connect((R2, TUNNEL_PORT)).ok()?;
        let mut head = target.ip().octets().to_vec();
        head.extend(target.port().to_be_bytes());
        tunnel.write_all(&head).ok()?;
        Some((stream, tunnel))
    });
}

/// Connects to what the client names, for ever.
pub fn server() {
    serve(TUNNEL_PORT, |mut tunnel| {
        let mut head = [0; 6];
        tunnel.read_exact(&mut head).ok()?;
        let [a, b, c, d, high, low] = head;
        let target = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        Some((tunnel, TcpStream::connect(target).ok()?))
    });
}

fn serve(port: u16, join: fn(TcpStream) -> Option<(TcpStream, TcpStream)>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the relay's port");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let Some((one, other)) = join(stream) else { return };
            let _ = one.set_nodelay(true);
            let _ = other.set_nodelay(true);
            let (one, other) = (Arc::new(one), Arc::new(other));
            let back = thread::spawn({
                let (one, other) = (Arc::clone(&one), Arc::clone(&other));
                move || carry(&other, &one)
            });
            carry(&one, &other);
            let _ = back.join();
        });
    }
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let (out, into) = pipe().expect("a pipe");
    let _ = fcntl_setpipe_size(&into, PIPE);
    let pass = |from: &dyn AsFd, to: &dyn AsFd, length: usize| {
        splice(from.as_fd(), None, to.as_fd(), None, length, SpliceFlags::MOVE)
    };
    while let Ok(mut left) = pass(&from, &into, PIPE) {
        if left == 0 {
            break;
        }
        while left > 0 {
            match pass(&out, &to, left) {
                Ok(passed) if passed > 0 => left -= passed,
                _ => return,
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
