// SPDX-License-Identifier: Apache-2.0
//! The first words of a target leave the server half in one write with the news that it was reached.
//!
//! The kernel's scheduler takes the path with the least under way. While the acceptance of a connection is under way over
//! the fast path, whatever is written next leaves by the slow one, and the first byte of the answer takes its time: twice
//! that of the fast path, or worse. So all three wait for each other, for a moment.

use std::io;
use std::time::Duration;

use tokio::time::{timeout_at, Instant};

use crate::connections::Connection;
use crate::net::write_all;
use crate::record::{Opened, HEADER, TAG};
use crate::relay::Relay;

/// How long the acceptance waits for the target. The client races another path after 150 ms at the earliest.
pub const TOGETHER: Duration = Duration::from_millis(20);
/// What fits the buffer of any new socket at once. More is the relay's.
const SHORT: usize = 4096;

/// Hands the target what came with the request, and adds to what waits for the tunnel what it answers until then. Whatever
/// is left to do, the relay does.
///
/// # Errors
/// The target has reset its connection, or the record was forged.
pub async fn answer(relay: &mut Relay, connection: &Connection, until: Instant) -> io::Result<()> {
    if !hand_over(relay, connection).await? {
        return Ok(());
    }
    let heard = async {
        tokio::select! {
            heard = relay.local.readable() => heard,
            // The client goes on: that must not wait.
            heard = relay.tunnel.readable() => heard,
        }
    };
    if timeout_at(until, heard).await.is_err() {
        return Ok(());
    }
    let mut words = vec![0; SHORT];
    match relay.local.try_read(&mut words) {
        // The relay meets the end again.
        Ok(0) => {}
        Ok(length) => {
            connection.count(false, length);
            match &mut relay.shield {
                Some(shield) => shield.sealer.append(&words[..length], &mut relay.unsent),
                None => relay.unsent.extend(&words[..length]),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // The socket tells a reset once.
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Whether all of it was handed over.
async fn hand_over(relay: &mut Relay, connection: &Connection) -> io::Result<bool> {
    let received = &mut relay.received;
    if received.len() > SHORT {
        return Ok(false);
    }
    let (used, content) = match &mut relay.shield {
        None => (received.len(), received.len()),
        Some(_) if received.is_empty() => (0, 0),
        Some(shield) => {
            // The end of the stream, an empty record, is the relay's; so is half a record.
            let Some(&header) = received.first_chunk::<HEADER>() else { return Ok(false) };
            if usize::from(u16::from_be_bytes(header)) <= TAG {
                return Ok(false);
            }
            match shield.opener.open(received, 0)? {
                Opened::Incomplete => return Ok(false),
                Opened::Record { used, content } => (used, content),
            }
        }
    };
    // At once, into an empty buffer.
    write_all(&relay.local, &received[..content]).await?;
    connection.count(true, content);
    received.drain(..used);
    // Nobody holds memory for what is done.
    received.shrink_to_fit();
    Ok(received.is_empty())
}
