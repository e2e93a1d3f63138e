// SPDX-License-Identifier: Apache-2.0
//! The resolvers of the uplink, as opposed to this router's own, which may ask us.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::socks::Target;

/// The name by which the client half asks for the server half's resolver. It can be nobody's (RFC 6761 6.4).
pub const NAME: &str = "resolver.mptcp-proxy.invalid";
/// Where a resolver listens.
pub const PORT: u16 = 53;
/// Resolvers that are asked at once.
const MAX_RESOLVERS: usize = 2;
/// Where there is no file of the uplinks: not OpenWrt.
const SYSTEM: &str = "/etc/resolv.conf";

/// The resolver of the far end.
pub fn target() -> Target {
    Target::Name(NAME.into(), PORT)
}

/// Whether the far end's resolver is meant.
pub fn is_resolver(target: &Target) -> bool {
    matches!(target, Target::Name(name, PORT) if **name == *NAME)
}

/// The resolvers `file` names, or the system's where there is no such file.
pub fn of_uplink(file: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(file).or_else(|_| std::fs::read_to_string(SYSTEM));
    parse(&text.unwrap_or_default())
}

/// The first resolvers in the text of a `resolv.conf`.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: Option<IpAddr> = match words.next() {
            // A link-local one carries its link behind `%`, which a plain address cannot.
            Some("nameserver") => words.next()?.parse().ok(),
            _ => None,
        };
        address.map(|address| SocketAddr::new(address, PORT))
    });
    servers.take(MAX_RESOLVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nameservers_of_a_resolv_conf_are_found() {
        let text = "# Interface wan\nnameserver 192.0.2.53\nsearch lan\nnameserver fe80::1%wan\n nameserver 2001:db8::53\nnameserver 192.0.2.54\n";
        let expected: Vec<SocketAddr> =
            vec!["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()];
        assert_eq!(parse(text), expected);
        assert!(parse("nameserver\n\0\n").is_empty());
        assert!(is_resolver(&target()) && !is_resolver(&Target::Name(NAME.into(), 54)));
    }
}
