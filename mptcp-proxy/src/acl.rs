// SPDX-License-Identifier: Apache-2.0
//! Which targets the clients of a server half may reach. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openwrt::netlink::Prefix;

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// `deny_target` lists it.
    Listed,
    /// It lies in a range that only `allow_target` opens.
    Private,
    /// It cannot be a target at all: unspecified, multicast, broadcast.
    Impossible,
    /// The user may not send packets any more.
    Revoked,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Denied::Listed => "deny_target lists it",
            Denied::Private => "it is private: list it in allow_target if clients may reach it",
            Denied::Impossible => "no connection can lead there",
            Denied::Revoked => "option other_protocols of its user is off now",
        })
    }
}

/// Whether clients may reach this address. Public addresses are open unless denied; loopback, link-local, private,
/// shared and the server's own addresses are closed unless allowed; a denial wins.
pub fn check(address: IpAddr, allow: &[Prefix], deny: &[Prefix], own: &[IpAddr]) -> Result<(), Denied> {
    let address = address.to_canonical();
    if is_impossible(address) {
        return Err(Denied::Impossible);
    }
    if deny.iter().any(|prefix| prefix.contains(address)) {
        return Err(Denied::Listed);
    }
    if allow.iter().any(|prefix| prefix.contains(address)) {
        return Ok(());
    }
    if is_private(address) || own.contains(&address) {
        return Err(Denied::Private);
    }
    Ok(())
}

fn is_impossible(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

/// RFC 6890: this network, private, shared, loopback, link-local, protocol assignments, benchmarking, reserved.
fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(
        (a, b, c),
        (0 | 10 | 127 | 240..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0)
            | (198, 18..=19, _)
    )
}

/// RFC 6890: loopback, unique local, link-local, site-local; and the ways to write an IPv4 address in IPv6 (RFC 6052,
/// RFC 3056), judged by what they lead to.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_private_v4(embedded(high, low)),
        [0, 0, 0, 0, 0, 0, _, _] => true,
        [first, ..] => first & 0xfe00 == 0xfc00 || first & 0xff80 == 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(address: &str, allow: &[&str], deny: &[&str]) -> Result<(), Denied> {
        let prefixes = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
        check(address.parse().unwrap(), &prefixes(allow), &prefixes(deny), &["203.0.113.5".parse().unwrap()])
    }

    #[test]
    fn private_ranges_are_closed_unless_allowed() {
        let closed = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "203.0.113.5",
            "0.1.2.3",
            "::7f00:1",
        ];
        for address in closed {
            assert_eq!(verdict(address, &[], &[]), Err(Denied::Private), "{address}");
        }
        assert_eq!(verdict("192.168.1.1", &["192.168.1.0/24"], &[]), Ok(()));
        assert_eq!(verdict("203.0.113.5", &["203.0.113.5"], &[]), Ok(()));
        assert_eq!(verdict("192.168.1.1", &["192.168.1.0/24"], &["192.168.0.0/16"]), Err(Denied::Listed));
    }

    #[test]
    fn public_addresses_are_open_unless_denied() {
        for address in ["1.1.1.1", "2606:4700::1111", "172.32.0.1", "100.128.0.1", "64:ff9b::101:101"] {
            assert_eq!(verdict(address, &[], &[]), Ok(()), "{address}");
        }
        assert_eq!(verdict("1.1.1.1", &[], &["0.0.0.0/0"]), Err(Denied::Listed));
        for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::"] {
            assert_eq!(verdict(address, &["0.0.0.0/0", "::/0"], &[]), Err(Denied::Impossible), "{address}");
        }
    }
}
