// SPDX-License-Identifier: Apache-2.0
//! The way to a server that the operator named: TCP, and TLS on it.

use crate::explain::{explain, no_answer};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Per address of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
#[cfg(feature = "tls")]
const TLS_TIMEOUT: Duration = Duration::from_secs(20);

/// Tries every address of the name in turn: a dead IPv6 must not hide a good IPv4. `peer` is what errors call it.
pub(crate) async fn connect(peer: &str, host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| format!("{host}: the name server does not answer"))?
        .map_err(|error| explain(peer, &error))?;
    let mut reason = format!("{host}: the name has no address");
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => reason = explain(peer, &error),
            Err(_) => reason = no_answer(peer),
        }
    }
    Err(reason)
}

/// TLS with the server of this name.
#[cfg(feature = "tls")]
pub(crate) async fn secure(
    peer: &str,
    host: &str,
    config: rustls::ClientConfig,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{peer}: not a name that a certificate can carry"))?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    match timeout(TLS_TIMEOUT, connector.connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(peer, &error)),
        Err(_) => Err(no_answer(peer)),
    }
}
