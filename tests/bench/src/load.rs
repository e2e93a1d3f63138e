// SPDX-License-Identifier: Apache-2.0
//! Short connections: a service on host2, and who asks it on host1.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use lab::Netns;

use crate::bed::HOST2;
use crate::measure::sorted;
use crate::peers::Setup;

const REQUEST: [u8; 64] = [b'?'; 64];
const ANSWER: [u8; 200] = [b'!'; 200];

/// Answers each connection's request with 200 bytes and ends it.
pub struct Service {
    pub address: SocketAddr,
    listener: TcpListener,
    stopping: Arc<AtomicBool>,
}

impl Service {
    /// So many connections at once are answered, on a free port of host2.
    pub fn start(host2: &Netns, workers: usize) -> Self {
        let listener = host2.enter(|| TcpListener::bind((HOST2, 0)).expect("a port of host2"));
        let address = listener.local_addr().expect("its address");
        let stopping = Arc::new(AtomicBool::new(false));
        for _ in 0..workers {
            let listener = listener.try_clone().expect("a descriptor");
            let stopping = Arc::clone(&stopping);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(mut stream) = stream else { continue };
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                    if stream.read_exact(&mut [0; REQUEST.len()]).is_ok() {
                        let _ = stream.write_all(&ANSWER);
                    }
                }
            });
        }
        Self { address, listener, stopping }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Whoever waits in accept is told.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// Connects, asks, and gives the time until the first byte of the answer; the connection is ended in order.
pub fn ask(host1: &Netns, address: SocketAddr, limit: Duration) -> std::io::Result<Duration> {
    host1.enter(|| ask_here(address, limit))
}

fn ask_here(address: SocketAddr, limit: Duration) -> std::io::Result<Duration> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(&REQUEST)?;
    let mut first = [0; 1];
    stream.read_exact(&mut first)?;
    let taken = begun.elapsed();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    if rest.len() + 1 == ANSWER.len() {
        Ok(taken)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whole requests per second with so many at once, and how many failed.
pub fn per_second(setup: &Setup, parallel: usize, length: Duration) -> (f64, usize) {
    let service = Service::start(&setup.bed.host2, parallel);
    let (done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    setup.bed.host1.enter(|| {
        thread::scope(|scope| {
            for _ in 0..parallel {
                scope.spawn(|| {
                    while begun.elapsed() < length {
                        match ask_here(service.address, Duration::from_secs(10)) {
                            Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                            Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                });
            }
        });
    });
    let taken = begun.elapsed();
    (done.into_inner() as f64 / taken.as_secs_f64(), failed.into_inner())
}

/// Times of requests, one after the other, in order of length; `before` is called before each.
pub fn one_by_one(setup: &Setup, count: usize, before: impl Fn() + Sync) -> Vec<Duration> {
    let service = Service::start(&setup.bed.host2, 2);
    let times = setup.bed.host1.enter(|| {
        let once = |_| {
            before();
            ask_here(service.address, Duration::from_secs(10)).expect("an answer")
        };
        (0..count).map(once).collect()
    });
    sorted(times)
}

/// Times of so many requests that begin at once, in order of length.
pub fn at_once(setup: &Setup, count: usize) -> Vec<Duration> {
    let service = Service::start(&setup.bed.host2, count);
    let barrier = Barrier::new(count);
    let times = setup.bed.host1.enter(|| {
        thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                ask_here(service.address, Duration::from_secs(10)).expect("an answer")
            };
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        })
    });
    sorted(times)
}

/// So many connections that have said a word and are silent now.
pub fn idle(setup: &Setup, count: usize) -> Vec<TcpStream> {
    let service = crate::bed::service(&setup.bed.host2, &format!("{HOST2}:0"), |mut stream| {
        let _ = stream.set_read_timeout(None);
        while stream.read_exact(&mut [0; 1]).is_ok() && stream.write_all(b"!").is_ok() {}
        let _ = stream.shutdown(Shutdown::Both);
    });
    let open = |_| {
        let mut stream = TcpStream::connect(service.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.write_all(b"?").expect("a word");
        stream.read_exact(&mut [0; 1]).expect("an answer");
        stream
    };
    setup.bed.host1.enter(|| (0..count).map(open).collect())
}
