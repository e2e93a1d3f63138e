// SPDX-License-Identifier: Apache-2.0
//! The server half's end of a lane.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::carrier::Opened;
use super::exit::Exit;
use super::frame::Frame;
use crate::socks::Target;

/// Flows of one lane, at most; each has a socket.
const MAX_FLOWS: usize = 1024;

/// Serves a lane until its tunnel ends. `resolve` says which addresses a target has, none where it is not allowed.
pub async fn serve(
    opened: Opened,
    idle: Duration,
    resolve: impl Fn(&Target) -> Vec<SocketAddr>,
) -> io::Result<()> {
    let Opened { carrier, receiver } = opened;
    let back = carrier.clone();
    let deliver = Box::new(move |flow: u32, from: SocketAddr, payload: &[u8]| {
        // Without room it is lost, as on any path.
        let _ = back.send(flow, &Target::Address(from), payload);
    });
    let exit = Exit::new(MAX_FLOWS, idle, deliver);
    let mut send = |frame: Frame<'_>| {
        for target in resolve(&frame.address) {
            if let Err(error) = exit.send(frame.flow, target, frame.payload) {
                log::debug!("a datagram to {target}: {error}");
            }
        }
    };
    carrier.run(receiver, &mut send).await
}
