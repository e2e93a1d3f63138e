// SPDX-License-Identifier: Apache-2.0
//! Address prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the number of leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address; bits behind the prefix are as given.
    pub address: IpAddr,
    /// Leading bits that count.
    pub length: u8,
}

impl Prefix {
    /// `0.0.0.0/0`.
    pub const ANY_V4: Prefix = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
    /// `::/0`.
    pub const ANY_V6: Prefix = Prefix { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 };

    /// A prefix of this length, `None` when the address has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= bits(address)).then_some(Prefix { address, length })
    }

    /// The prefix of one single address.
    pub fn host(address: IpAddr) -> Self {
        Prefix { address, length: bits(address) }
    }

    /// Whether the address lies inside; never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.length).min(32);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.length).min(128);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    /// `ADDRESS/LENGTH`, or a single address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "expected an address or a prefix such as 192.0.2.0/24 or 2001:db8::/32".to_owned();
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Prefix::host).map_err(|_| wrong());
        };
        let address = address.parse().map_err(|_| wrong())?;
        Prefix::new(address, length.parse().map_err(|_| wrong())?).ok_or_else(wrong)
    }
}

/// Bits of an address of this family.
pub(super) fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_what_lies_inside() {
        let prefix: Prefix = "192.0.2.0/24".parse().unwrap();
        assert!(prefix.contains("192.0.2.255".parse().unwrap()));
        assert!(!prefix.contains("192.0.3.0".parse().unwrap()));
        assert!(!prefix.contains("::1".parse().unwrap()));
        assert!(Prefix::ANY_V6.contains("2001:db8::1".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert!("eth0".parse::<Prefix>().is_err());
        assert_eq!("2001:db8::1".parse::<Prefix>().unwrap().length, 128);
    }
}
