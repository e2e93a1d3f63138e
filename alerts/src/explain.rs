// SPDX-License-Identifier: Apache-2.0
//! Errors of the network in words an operator understands.

use std::error::Error;
use std::io;

/// A sentence about `error`, met while talking to `peer` (`host:port`); looks through the chain of causes.
#[cfg_attr(not(feature = "tls"), allow(unreachable_pub))] // exported for HTTPS, which needs TLS
pub fn explain(peer: &str, error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    let mut deepest = error.to_string();
    while let Some(current) = cause {
        #[cfg(feature = "tls")]
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return explain_tls(peer, tls);
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            // An io::Error hides what it wraps from source().
            if let Some(inner) = io.get_ref() {
                return explain_wrapped(peer, io, inner);
            }
            return explain_io(peer, io);
        }
        deepest = current.to_string();
        cause = current.source();
    }
    format!("{peer}: {deepest}")
}

fn explain_wrapped(peer: &str, io: &io::Error, inner: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(inner);
    while let Some(current) = cause {
        #[cfg(feature = "tls")]
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return explain_tls(peer, tls);
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return explain(peer, io);
        }
        cause = current.source();
    }
    explain_io(peer, io)
}

fn explain_io(peer: &str, error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let text = error.to_string();
    if text.contains("failed to lookup address information") || text.contains("no addresses to connect to") {
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        return format!(
            "{host}: the name cannot be resolved (is it right, and does this router's DNS work?)"
        );
    }
    match error.kind() {
        Kind::ConnectionRefused => {
            format!("{peer} refused the connection (nothing listens there, or a firewall rejects it)")
        }
        Kind::TimedOut => no_answer(peer),
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            format!("{peer} cannot be reached from here: there is no route to it")
        }
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            format!("{peer} cut the connection")
        }
        _ => format!("{peer}: {text}"),
    }
}

/// Nothing came back in time.
pub(crate) fn no_answer(peer: &str) -> String {
    format!("{peer} does not answer")
}

/// The beginning of what a server said, fit for a log.
#[cfg(any(feature = "slack", feature = "email", feature = "mqtt"))]
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A configuration for TLS cannot be made.
#[cfg(not(feature = "tls"))]
pub(crate) fn without_tls() -> String {
    "this build has no TLS; install the package variant with -tls".into()
}

#[cfg(feature = "tls")]
fn explain_tls(peer: &str, error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
    match error {
        Tls::InvalidCertificate(certificate) => match certificate {
            Certificate::ExpiredContext { not_after, .. } => {
                format!("the certificate of {peer} expired on {}", date(not_after.as_secs()))
            }
            Certificate::Expired => format!("the certificate of {peer} has expired"),
            Certificate::NotValidYetContext { time, not_before } => format!(
                "the certificate of {peer} is valid from {} only; is this router's clock right? It says {}",
                date(not_before.as_secs()),
                date(time.as_secs())
            ),
            Certificate::NotValidForNameContext { expected, presented } => {
                let names: Vec<_> = presented.iter().take(5).map(|name| plain_name(name)).collect();
                format!(
                    "the certificate of {peer} is for {}, not for {}",
                    if names.is_empty() { "no name at all".into() } else { names.join(", ") },
                    expected.to_str()
                )
            }
            Certificate::NotValidForName => format!("the certificate of {peer} is for another name"),
            Certificate::UnknownIssuer => format!(
                "the certificate of {peer} is signed by an authority this router does not know \
                 (install ca-certificates, or name the authority's file)"
            ),
            Certificate::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => format!(
                "the certificate of {peer} is the one of an authority itself; the server needs one signed by it"
            ),
            other => format!("the certificate of {peer} is not acceptable: {other}"),
        },
        Tls::AlertReceived(Alert::CertificateRequired) => format!("{peer} asks for a client certificate"),
        Tls::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired,
        ) => format!("{peer} does not accept our client certificate: {error}"),
        Tls::AlertReceived(alert) => format!("{peer} refuses TLS with us: {alert:?}"),
        Tls::InvalidMessage(_) => format!("{peer} does not speak TLS; is this the port without TLS?"),
        Tls::PeerIncompatible(_) => format!("{peer} and this router have no version or cipher of TLS in common"),
        other => format!("TLS with {peer} failed: {other}"),
    }
}

/// `DnsName("example.org")` as a certificate's parser prints it, down to the name.
#[cfg(feature = "tls")]
fn plain_name(name: &str) -> String {
    match name.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.to_owned(),
    }
}

#[cfg(feature = "tls")]
fn date(unix_s: u64) -> String {
    let seconds = i64::try_from(unix_s).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "a date beyond measure".to_owned(), |at| at.date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_network_errors() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            explain("10.0.0.1:25", &refused),
            "10.0.0.1:25 refused the connection (nothing listens there, or a firewall rejects it)"
        );
        let wrapped = io::Error::other(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(explain("a:1", &wrapped), "a:1 does not answer");
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(
            explain("mail.example:587", &lookup),
            "mail.example: the name cannot be resolved (is it right, and does this router's DNS work?)"
        );
        assert_eq!(explain("a:1", &std::fmt::Error), "a:1: an error occurred when formatting an argument");
    }
}
