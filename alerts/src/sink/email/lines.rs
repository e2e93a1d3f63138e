// SPDX-License-Identifier: Apache-2.0
//! What a mail server says, in lines of bounded length that lettre can read.
//!
//! lettre (0.11) keeps a line however long it gets, and panics where a line of the answer to EHLO has nothing but blanks.
//! Here such a line loses its blanks, a line too long or too much of everything is an error, and characters that would
//! command a terminal are gone.

use lettre::transport::smtp::client::AsyncTokioStream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 5321 4.5.3.1.5 allows 512 bytes.
const LONGEST: usize = 4096;
/// What one session may bring.
const MOST: usize = 256 * 1024;

/// A stream whose other end speaks SMTP.
#[derive(Debug)]
pub(super) struct Lines<S> {
    inner: S,
    /// As received, from the first line that is not complete.
    raw: Vec<u8>,
    /// A line that was not read yet.
    line: Vec<u8>,
    /// How much of it was.
    read: usize,
    total: usize,
}

impl<S> Lines<S> {
    /// From the server's greeting on.
    pub(super) fn new(inner: S) -> Self {
        Self { inner, raw: Vec::new(), line: Vec::new(), read: 0, total: 0 }
    }

    /// The server has greeted already, before it changed to TLS; lettre wants to hear it again.
    #[cfg(feature = "tls")]
    pub(super) fn after_greeting(inner: S) -> Self {
        Self { line: b"220 -\r\n".to_vec(), ..Self::new(inner) }
    }

    /// Takes the next whole line of what was received.
    fn next_line(&mut self) -> bool {
        let Some(end) = self.raw.iter().position(|&byte| byte == b'\n') else { return false };
        self.line = clean(&self.raw[..end]);
        self.read = 0;
        self.raw.drain(..=end);
        true
    }
}

/// The line without what must not be in it, with its end.
fn clean(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut text: String = text.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.len() == 3 {
        // RFC 5321 4.2: a server may leave the blank out, and the text.
        text.push(' ');
    }
    text.push_str("\r\n");
    text.into_bytes()
}

impl<S: AsyncRead + Unpin> AsyncRead for Lines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read == self.line.len() && !self.next_line() {
            let refuse = |what| Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            if self.raw.len() > LONGEST {
                return refuse("a line of its answer is too long");
            }
            let mut piece = [0; 512];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.total += piece.len();
            if self.total > MOST {
                return refuse("its answers are too long");
            }
            self.raw.extend_from_slice(piece);
        }
        let rest = &self.line[self.read..];
        let portion = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..portion]);
        self.read += portion;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for Lines<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        // lettre asks for it nowhere.
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn read(said: &[u8]) -> io::Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut heard = String::new();
        runtime.block_on(Lines::new(said).read_to_string(&mut heard)).map(|_| heard)
    }

    #[test]
    fn lines_are_what_lettre_can_read() {
        for (said, heard) in [
            ("220 mail ESMTP\r\n", "220 mail ESMTP\r\n"),
            ("250-mail\r\n250 AUTH PLAIN\r\n", "250-mail\r\n250 AUTH PLAIN\r\n"),
            ("250 \u{2003}\t\n", "250 \r\n"),
            ("250- \n\r\n250\r\n", "250-\r\n\r\n250 \r\n"),
            ("250 \r \r\n", "250 \r\n"),
            ("250 a\rb\x1b[2Jc\r\n", "250 a?b?[2Jc\r\n"),
            ("250 half", ""),
        ] {
            assert_eq!(read(said.as_bytes()).unwrap(), heard, "{said:?}");
        }
        assert_eq!(read(b"250 \xff\r\n").unwrap(), "250 \u{fffd}\r\n");
    }

    #[test]
    fn endless_answers_are_refused() {
        let long = [b"250 ".as_slice(), &[b'x'; LONGEST + 600]].concat();
        assert!(read(&long).unwrap_err().to_string().contains("a line of its answer is too long"));
        let much = b"250-x\r\n".repeat(MOST / 7 + 100);
        assert!(read(&much).unwrap_err().to_string().contains("its answers are too long"));
    }
}
