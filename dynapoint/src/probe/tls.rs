// SPDX-License-Identifier: Apache-2.0
//! TLS for HTTPS checks: the system's authorities, no client certificate.

use std::cell::OnceCell;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use super::url::{Host, Url};

/// Does the TLS handshake. A certificate that does not fit the name is a failure: somebody else answers.
pub(super) async fn wrap(stream: TcpStream, url: &Url) -> Result<TlsStream<TcpStream>, String> {
    thread_local! {
        static CONFIG: OnceCell<Arc<ClientConfig>> = const { OnceCell::new() };
    }
    let known = CONFIG.with(|config| config.get().cloned());
    let config = match known {
        Some(config) => config,
        None => {
            let made = Arc::new(alerts::client_config(true, None, None)?);
            CONFIG.with(|config| config.get_or_init(|| made).clone())
        }
    };
    let name = match &url.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| error.to_string())?,
        Host::Address(address) => ServerName::IpAddress((*address).into()),
    };
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| alerts::explain(&url.authority(), &error))
}
