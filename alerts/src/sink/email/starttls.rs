// SPDX-License-Identifier: Apache-2.0
//! STARTTLS (RFC 3207) up to where TLS begins.

use super::{describe, open, ClientId, Extension, Failure, Lines};
use crate::explain::explain;
use lettre::transport::smtp::commands::Starttls;
use tokio::net::TcpStream;

/// Asks the server to change to TLS, and gives the connection back for that. What came behind its consent, and was not
/// said under TLS, is forgotten with the rest of the plain session.
pub(super) async fn ask(tcp: TcpStream, peer: &str, hello: &ClientId) -> Result<TcpStream, Failure> {
    let failed = |error| Failure::retry(explain(peer, &error));
    // lettre does not give a stream back: it gets a descriptor of its own for the same connection.
    let tcp = tcp.into_std().map_err(failed)?;
    let plain = tcp.try_clone().and_then(TcpStream::from_std).map_err(failed)?;
    let mut session = open(Lines::new(plain), peer, hello).await?;
    if !session.server_info().supports_feature(Extension::StartTls) {
        let reason = format!("{peer} offers no STARTTLS; set email_security to tls or none, or another port");
        return Err(Failure::retry(reason));
    }
    session.command(Starttls).await.map_err(|error| describe(peer, &error))?;
    drop(session);
    TcpStream::from_std(tcp).map_err(failed)
}
