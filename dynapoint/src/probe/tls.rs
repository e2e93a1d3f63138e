// SPDX-License-Identifier: Apache-2.0
//! TLS for HTTPS checks: the system's authorities, no client certificate.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use super::url::Host;

/// Where OpenWrt (package ca-bundle), Debian and Alpine keep the authorities they trust.
const SYSTEM_STORES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"];

/// Does the TLS handshake. A certificate that does not fit the name is a failure: somebody else answers.
pub(super) async fn wrap(stream: TcpStream, host: &Host) -> Result<TlsStream<TcpStream>, String> {
    thread_local! {
        static CONFIG: OnceCell<Arc<ClientConfig>> = const { OnceCell::new() };
    }
    let known = CONFIG.with(|config| config.get().cloned());
    let config = match known {
        Some(config) => config,
        None => {
            let made = Arc::new(config()?);
            CONFIG.with(|config| config.get_or_init(|| made).clone())
        }
    };
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| error.to_string())?,
        Host::Address(address) => ServerName::IpAddress((*address).into()),
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
}

fn config() -> Result<ClientConfig, String> {
    let from_environment = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let store =
        from_environment.into_iter().chain(SYSTEM_STORES.map(PathBuf::from)).find(|path| path.is_file());
    let store = store.ok_or("no trusted authorities on this system: install the package ca-bundle")?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates(&store)?);
    if usable == 0 {
        return Err(format!("{}: holds no usable certificate", store.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(CertificateDer::pem_slice_iter(&pem).flatten().collect())
}
