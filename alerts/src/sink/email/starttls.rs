// SPDX-License-Identifier: Apache-2.0
//! STARTTLS (RFC 3207) up to where TLS begins.

use super::{describe, open, ClientId, Extension, Failure, Lines};
use lettre::transport::smtp::commands::Starttls;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Asks the server to change to TLS, and gives the connection back for that. What came behind its consent, and was not
/// said under TLS, is forgotten with the rest of the plain session.
pub(super) async fn ask(tcp: TcpStream, peer: &str, hello: &ClientId) -> Result<TcpStream, Failure> {
    let tcp = Arc::new(tcp);
    let mut connection = open(Lines::new(Shared(Arc::clone(&tcp))), peer, hello).await?;
    if !connection.server_info().supports_feature(Extension::StartTls) {
        let reason = format!("{peer} offers no STARTTLS; set email_security to tls or none, or another port");
        return Err(Failure::retry(reason));
    }
    connection.command(Starttls).await.map_err(|error| describe(peer, &error))?;
    drop(connection);
    Arc::into_inner(tcp).ok_or_else(|| unreachable!("the session that shared it is gone"))
}

/// lettre does not give a stream back.
#[derive(Debug)]
struct Shared(Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|length| buffer.advance(length))),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
