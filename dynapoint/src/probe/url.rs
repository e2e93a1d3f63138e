// SPDX-License-Identifier: Apache-2.0
//! The part of a URL (RFC 3986) that a check needs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// A host: a name to resolve, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// To be resolved.
    Name(String),
    /// As it is.
    Address(IpAddr),
}

impl Host {
    /// Reads a name or an address, the latter with or without brackets.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(bare) = bare {
            let address =
                bare.parse::<Ipv6Addr>().map_err(|_| "expected an IPv6 address in brackets".to_owned())?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err("expected a host name or an IP address".to_owned());
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// An `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Scheme.
    pub scheme: Scheme,
    /// Host.
    pub host: Host,
    /// Port; that of the scheme where none is given.
    pub port: u16,
    /// Path and query, from the `/` on.
    pub path: String,
}

impl Url {
    /// Reads a URL; without a scheme it is `http`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, _)) => return Err(format!("expected http:// or https://, not {scheme}://")),
            None => (Scheme::Http, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("user names in a URL are not supported".to_owned());
        }
        let path = path.split('#').next().unwrap_or_default();
        // What is not printable ASCII has no place in a request line (RFC 9112, 3).
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path has blanks or characters that must be written as %XX".to_owned());
        }
        let default_port = if scheme == Scheme::Https { 443 } else { 80 };
        let (host, port) = split_port(authority, default_port)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, host: Host::parse(host)?, port, path })
    }

    /// The `Host` header: without the port where it is the scheme's.
    #[must_use]
    pub fn authority(&self) -> String {
        let default = if self.scheme == Scheme::Https { 443 } else { 80 };
        if self.port == default {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Splits `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address.
///
/// # Errors
/// What was expected.
pub fn split_port(text: &str, default: u16) -> Result<(&str, u16), String> {
    let colon = match text.rfind(':') {
        Some(_) if text.parse::<Ipv6Addr>().is_ok() => None,
        Some(at) if text[at..].contains(']') => None,
        colon => colon,
    };
    let Some(colon) = colon else { return Ok((text, default)) };
    let port = text[colon + 1..].parse().ok().filter(|port| *port > 0);
    port.map(|port| (&text[..colon], port)).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Scheme, String, u16, String) {
        let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (url.scheme, url.host.to_string(), url.port, url.path)
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parts("example.com"), (Scheme::Http, "example.com".into(), 80, "/".into()));
        assert_eq!(parts("http://Example.com."), (Scheme::Http, "example.com".into(), 80, "/".into()));
        assert_eq!(parts("https://a.b/c?d=e&f#g"), (Scheme::Https, "a.b".into(), 443, "/c?d=e&f".into()));
        assert_eq!(parts("http://10.0.0.1:8080/x"), (Scheme::Http, "10.0.0.1".into(), 8080, "/x".into()));
        assert_eq!(
            parts("http://[2001:db8::1]:81?q"),
            (Scheme::Http, "[2001:db8::1]".into(), 81, "/?q".into())
        );
        assert_eq!(parts("http://[2001:db8::1]"), (Scheme::Http, "[2001:db8::1]".into(), 80, "/".into()));
    }

    #[test]
    fn refuses_what_would_not_be_a_request() {
        for wrong in [
            "",
            "http://",
            "ftp://a",
            "http://a b",
            "http://a/b c",
            "http://a:0",
            "http://a:99999",
            "http://u@a",
            "http://a;reboot",
            "http://a/\r\nX: y",
            "http://[::1",
            "http://a..b",
            "http://ä.de",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_header_has_the_port_only_where_it_matters() {
        assert_eq!(Url::parse("https://a:443").unwrap().authority(), "a");
        assert_eq!(Url::parse("http://a:443").unwrap().authority(), "a:443");
        assert_eq!(Url::parse("http://[::1]:8080").unwrap().authority(), "[::1]:8080");
    }
}
