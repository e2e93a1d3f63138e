// SPDX-License-Identifier: Apache-2.0
//! What a mail server could answer: for the fuzzer and its kept inputs.

use super::{open, transfer, ClientId, Failure, Lines};
use lettre::address::Envelope;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A server whose answers are these bytes, whatever it is told.
///
/// # Panics
/// When what the operator would read of it is no line of a log.
pub fn mail_server(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().unwrap_or_else(|_| unreachable!("no sockets"));
    }
    let said = RUNTIME.with(|runtime| runtime.block_on(talk(bytes)));
    let text = said.unwrap_or_else(|failure| failure.reason);
    assert!(text.len() < 2000 && !text.contains(char::is_control), "{text:?}");
}

async fn talk(bytes: &[u8]) -> Result<String, Failure> {
    const PEER: &str = "mail.example.org:587";
    let addresses = ["a@example.org", "b@example.org", "c@example.org"].map(str::parse);
    let [Ok(from), Ok(one), Ok(other)] = addresses else { unreachable!("these are addresses") };
    let Ok(envelope) = Envelope::new(Some(from), vec![one, other]) else {
        unreachable!("there are receivers")
    };
    let server = Scripted { bytes: bytes.to_vec(), at: 0 };
    let hello = ClientId::Domain("router".into());
    let mut connection = open(Lines::new(server), PEER, &hello).await?;
    transfer(&mut connection, PEER, &envelope, b"Subject: x\r\n\r\n.\r\nx\r\n").await
}

#[derive(Debug)]
struct Scripted {
    bytes: Vec<u8>,
    at: usize,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.bytes[self.at..];
        let portion = &rest[..rest.len().min(buffer.remaining())];
        buffer.put_slice(portion);
        let length = portion.len();
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
