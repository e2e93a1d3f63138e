// SPDX-License-Identifier: Apache-2.0
//! A link that fails: TCP connections pass through it until a test says otherwise.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Netns;

/// How often a connection looks whether the link has changed.
const LOOK: Duration = Duration::from_millis(20);

/// Forwards a port of the loopback to another one; ends all its connections on drop.
#[derive(Debug)]
pub struct FaultyLink {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    black_hole: bool,
    /// Refuses whoever comes.
    closed: bool,
    stopped: bool,
    /// Counts the resets: connections of an earlier generation end with RST.
    generation: u32,
}

impl FaultyLink {
    /// A good link to a port of the loopback.
    pub fn to(port: u16) -> Self {
        Self::from_listener(port, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
    }

    /// A good link from an address inside a namespace to a port of the loopback out here. What is to happen to it on the
    /// way, its namespace's firewall decides: dropping SYNs, for instance.
    pub fn from_namespace(namespace: &Netns, address: IpAddr, port: u16) -> Self {
        Self::from_listener(port, || namespace.enter(|| TcpListener::bind((address, 0))))
    }

    fn from_listener(port: u16, bind: impl FnOnce() -> std::io::Result<TcpListener>) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let state = State { target, black_hole: false, closed: false, stopped: false, generation: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listener = bind().unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let listener = Arc::new(listener);
        let acceptor = thread::spawn({
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            move || accept(&listener, &shared)
        });
        Self { address, listener, shared, acceptor: Some(acceptor) }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing passes any more, in no direction, and nobody is told. (The kernel still completes TCP handshakes: what a
    /// client meets is a server that took the connection and falls silent.)
    pub fn black_hole(&self) {
        self.shared.change(|state| state.black_hole = true);
    }

    /// All connections are reset; new ones as before.
    pub fn reset(&self) {
        self.shared.change(|state| state.generation += 1);
    }

    /// All connections, and all new ones, are reset.
    pub fn close(&self) {
        self.shared.change(|state| {
            state.closed = true;
            state.generation += 1;
        });
    }

    /// A good link again; what hung in a black hole goes on.
    pub fn heal(&self) {
        self.shared.change(|state| (state.black_hole, state.closed) = (false, false));
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stopped = true;
            state.generation += 1;
        });
        // Wakes the acceptor, which waits in accept.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits while nothing passes; false when the connections of `generation` are at their end.
    fn passes(&self, generation: u32) -> bool {
        let held = |state: &mut State| state.black_hole && state.generation == generation;
        let state = self.changed.wait_while(self.state(), held).unwrap_or_else(PoisonError::into_inner);
        state.generation == generation
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let (target, generation, closed) = {
            let state = shared.state();
            if state.stopped {
                return;
            }
            (state.target, state.generation, state.closed)
        };
        let Ok(client) = client else { continue };
        if closed {
            linger_not(&client);
            continue;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            if !shared.passes(generation) {
                return linger_not(&client);
            }
            let Ok(server) = TcpStream::connect(target) else { return linger_not(&client) };
            let (client, server) = (Arc::new(client), Arc::new(server));
            for stream in [&client, &server] {
                let _ = stream.set_read_timeout(Some(LOOK));
                let _ = stream.set_nodelay(true);
            }
            let back = thread::spawn({
                let (client, server, shared) =
                    (Arc::clone(&client), Arc::clone(&server), Arc::clone(&shared));
                move || pump(&server, &client, &shared, generation)
            });
            pump(&client, &server, &shared, generation);
            let _ = back.join();
        });
    }
}

/// Carries bytes until the end of the stream, or until the connections of this generation are reset.
fn pump(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, generation: u32) {
    let mut buffer = [0; 16 * 1024];
    loop {
        if !shared.passes(generation) {
            linger_not(from);
            linger_not(to);
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                // Read before the hole opened, but not on its other side yet.
                if !shared.passes(generation) {
                    linger_not(from);
                    return linger_not(to);
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => {
                linger_not(to);
                break;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Closing it will send RST.
fn linger_not(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PATIENCE;

    fn echo_server() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        port
    }

    fn connect(link: &FaultyLink) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn echo(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x")?;
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| byte[0])
    }

    #[test]
    fn it_passes_swallows_and_passes_again() {
        let link = FaultyLink::to(echo_server());
        let mut stream = connect(&link);
        assert_eq!(echo(&mut stream).unwrap(), b'x');
        link.black_hole();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(echo(&mut stream).is_err());
        link.heal();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
    }

    #[test]
    fn it_resets_what_is_open_and_what_comes() {
        let link = FaultyLink::to(echo_server());
        let mut stream = connect(&link);
        echo(&mut stream).unwrap();
        link.reset();
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap_err().kind(), ErrorKind::ConnectionReset);
        echo(&mut connect(&link)).unwrap();
        link.close();
        let mut refused = connect(&link);
        assert!(echo(&mut refused).is_err());
        link.heal();
        echo(&mut connect(&link)).unwrap();
    }
}
