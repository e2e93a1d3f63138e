// SPDX-License-Identifier: Apache-2.0
//! An authority that exists for one test, and the certificates it signs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// Signs certificates; its files are deleted when it and all it issued are dropped.
pub struct Authority {
    dir: Arc<TempDir>,
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: AtomicUsize,
}

/// A certificate with its key, as PEM files that outlive the authority.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    _dir: Arc<TempDir>,
}

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key())
            .unwrap_or_else(|error| panic!("no authority: {error}"));
        let dir = TempDir::with_prefix("lab-certs-")
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let authority = Self { dir: Arc::new(dir), issuer, issued: AtomicUsize::new(0) };
        write(&authority.file(), &authority.issuer.pem());
        authority
    }

    /// Its own certificate, what a client is to trust.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// A server's certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(names, |_| {})
    }

    /// As [`Authority::issue`], but it ended with the year 2020.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.sign(names, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        })
    }

    /// A client's certificate for a user of this name.
    pub fn issue_client(&self, user: &str) -> Issued {
        self.sign(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, user);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap_or_else(|error| panic!("names: {error}"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = key();
        let cert = params.signed_by(&key, &self.issuer).unwrap_or_else(|error| panic!("not signed: {error}"));
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.dir.path().join(format!("{number}.{kind}.pem"));
        let issued = Issued { cert: path("cert"), key: path("key"), _dir: Arc::clone(&self.dir) };
        write(&issued.cert, &cert.pem());
        write(&issued.key, &key.serialize_pem());
        issued
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
