// SPDX-License-Identifier: Apache-2.0
//! A listener for dnsmasq to forward to. Questions and answers are carried as they are.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openwrt::task::spawn;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::entry::Entry;

/// Questions that wait for an answer; more are dropped, and asked again by whoever asked.
const MAX_QUESTIONS: usize = 256;
/// The longest question that is carried (RFC 6891 6.2.5 advises 4096 for both).
const MAX_QUESTION: usize = 4096;
/// The header of a message (RFC 1035 4.1.1).
const HEADER: usize = 12;

/// Answers for ever.
pub async fn run(entry: Rc<Entry>, socket: OwnedFd) {
    let socket = match UdpSocket::from_std(socket.into()) {
        Ok(socket) => Rc::new(socket),
        Err(error) => return log::error!("names cannot be served: {error}"),
    };
    let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let (length, peer): (usize, SocketAddr) = match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) if length >= HEADER => (length, peer),
            Ok(_) => continue,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (entry, socket, question) = (entry.clone(), socket.clone(), buffer[..length].to_vec());
        spawn(async move {
            if let Some(answer) = entry.resolve(&question).await {
                let _ = socket.send_to(&answer, peer).await;
            }
            drop(place);
        });
    }
}
