// SPDX-License-Identifier: Apache-2.0
//! Which client has which address of the server half's pool. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openwrt::netlink::Prefix;

/// Places beyond the first, which is the server half's own.
const MAX_PLACES: usize = 253;

/// Who holds a place: the user, and the number that its daemon gave itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Name of the user.
    pub user: Box<str>,
    /// Random, the same while the daemon runs.
    pub instance: Box<str>,
}

/// Two prefixes of which every place has one address each.
#[derive(Debug)]
pub struct Pool {
    v4: Prefix,
    v6: Prefix,
    /// The places from 2 on: who had each last (a user without a name for nobody), and the lease while it is in use.
    places: Vec<(Holder, Option<u32>)>,
    /// Places that were left, longest ago first.
    left: Vec<u16>,
    leases: u32,
}

/// A place in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The place, 2 or more.
    pub place: u16,
    number: u32,
}

impl Pool {
    /// All places are free.
    pub fn new(v4: Prefix, v6: Prefix) -> Self {
        Pool { v4, v6, places: Vec::new(), left: Vec::new(), leases: 0 }
    }

    /// Gives a place: the one its holder had (whoever still uses it is its own former connection), else the one it
    /// wishes where nobody had it, else a fresh one, else the one that was left longest ago.
    pub fn take(&mut self, holder: Holder, wish: u16) -> Option<Lease> {
        let had = self.places.iter().position(|(known, _)| *known == holder);
        let room = self.room();
        let fresh = (self.places.len() < room).then_some(self.places.len());
        let nobodys = |index: &usize| {
            *index < room && self.places.get(*index).is_none_or(|(holder, _)| holder.user.is_empty())
        };
        let index = had.or(usize::from(wish).checked_sub(2).filter(nobodys)).or(fresh);
        let index = match index {
            Some(index) => index,
            None => usize::from(*self.left.first()?).checked_sub(2)?,
        };
        while self.places.len() <= index {
            // Those before a wished one belong to nobody.
            self.left.push(place_of(self.places.len()));
            self.places.push((Holder { user: "".into(), instance: "".into() }, None));
        }
        let place = place_of(index);
        self.left.retain(|left| *left != place);
        self.leases = self.leases.wrapping_add(1);
        self.places[index] = (holder, Some(self.leases));
        Some(Lease { place, number: self.leases })
    }

    /// The lease has ended; its place is kept for its holder as long as others are free.
    pub fn leave(&mut self, lease: Lease) {
        let Some(place) =
            usize::from(lease.place).checked_sub(2).and_then(|index| self.places.get_mut(index))
        else {
            return;
        };
        // Not if the holder has come again in the meantime.
        if place.1 == Some(lease.number) {
            place.1 = None;
            self.left.push(lease.place);
        }
    }

    /// The addresses of a place; 1 is the server half's own.
    pub fn addresses(&self, place: u16) -> [IpAddr; 2] {
        [at(self.v4, place), at(self.v6, place)]
    }

    /// Which place an address belongs to, where it is one of the pool's.
    pub fn place(&self, address: IpAddr) -> Option<u16> {
        let place = match (self.v4.address, self.v6.address, address) {
            (IpAddr::V4(own), _, IpAddr::V4(v4)) => u128::from(own.to_bits() ^ v4.to_bits()),
            (_, IpAddr::V6(own), IpAddr::V6(v6)) => own.to_bits() ^ v6.to_bits(),
            _ => return None,
        };
        u16::try_from(place).ok().filter(|place| usize::from(*place) <= MAX_PLACES + 1)
    }

    /// Whether an address lies in the pool, given to somebody or not.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.v4.contains(address) || self.v6.contains(address)
    }

    /// The prefixes: IPv4, IPv6.
    pub fn prefixes(&self) -> [Prefix; 2] {
        [self.v4, self.v6]
    }

    fn room(&self) -> usize {
        // Neither the network's own address nor the broadcast address, nor the first.
        let of_prefix = 1usize.checked_shl(32 - u32::from(self.v4.length)).unwrap_or(usize::MAX);
        of_prefix.saturating_sub(3).min(MAX_PLACES)
    }
}

fn place_of(index: usize) -> u16 {
    u16::try_from(index + 2).unwrap_or(u16::MAX)
}

fn at(prefix: Prefix, place: u16) -> IpAddr {
    match prefix.address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() | u32::from(place)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() | u128::from(place)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(length: u8) -> Pool {
        Pool::new(format!("100.127.88.0/{length}").parse().unwrap(), "fd00::/64".parse().unwrap())
    }

    fn holder(user: &str, instance: u32) -> Holder {
        Holder { user: user.into(), instance: instance.to_string().into() }
    }

    #[test]
    fn who_comes_again_gets_the_same_place() {
        let mut pool = pool(24);
        let first = pool.take(holder("a", 1), 0).unwrap();
        let second = pool.take(holder("b", 1), 0).unwrap();
        assert_eq!((first.place, second.place), (2, 3));
        assert_eq!(
            pool.addresses(2),
            ["100.127.88.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
        );
        pool.leave(first);
        assert_eq!(pool.take(holder("c", 1), 2).unwrap().place, 4, "it is kept for its holder");
        let again = pool.take(holder("a", 1), 0).unwrap();
        assert_eq!(again.place, 2);
        // The server has not noticed yet that the former connection has ended.
        let twice = pool.take(holder("a", 1), 0).unwrap();
        assert_eq!(twice.place, 2);
        pool.leave(again);
        pool.leave(twice);
        assert_eq!(pool.take(holder("a", 1), 0).unwrap().place, 2);
    }

    #[test]
    fn after_a_restart_of_the_server_wishes_are_granted() {
        let mut pool = pool(24);
        assert_eq!(pool.take(holder("b", 1), 5).unwrap().place, 5);
        assert_eq!(pool.take(holder("b", 1), 3).unwrap().place, 5);
        assert_eq!(pool.take(holder("d", 1), 3).unwrap().place, 3, "before one that was granted");
        assert_eq!(pool.take(holder("a", 1), 5).unwrap().place, 6, "somebody has it");
        assert_eq!(pool.take(holder("c", 1), 999).unwrap().place, 7, "it is none");
    }

    #[test]
    fn a_full_pool_gives_the_place_that_was_left_longest_ago() {
        let mut pool = pool(29);
        let leases: Vec<Lease> = (0..5).map(|n| pool.take(holder("a", n), 0).unwrap()).collect();
        assert_eq!(leases.last().unwrap().place, 6, "7 is the broadcast address");
        assert_eq!(pool.take(holder("b", 0), 0), None);
        pool.leave(leases[3]);
        pool.leave(leases[1]);
        assert_eq!(pool.take(holder("b", 0), 0).unwrap().place, 5);
        assert_eq!(pool.take(holder("c", 0), 0).unwrap().place, 3);
        assert_eq!(pool.take(holder("d", 0), 0), None);
    }

    #[test]
    fn addresses_lead_back_to_their_places() {
        let odd = Pool::new("192.0.2.40/29".parse().unwrap(), "fd00::3000/120".parse().unwrap());
        assert_eq!(
            odd.addresses(6),
            ["192.0.2.46".parse::<IpAddr>().unwrap(), "fd00::3006".parse().unwrap()]
        );
        for address in odd.addresses(6) {
            assert_eq!(odd.place(address), Some(6));
        }
        let pool = pool(24);
        for place in [1, 2, 254] {
            for address in pool.addresses(place) {
                assert_eq!(pool.place(address), Some(place));
                assert!(pool.contains(address));
            }
        }
        for foreign in ["100.127.89.2", "fd00::1:2", "::2"] {
            assert_eq!(pool.place(foreign.parse().unwrap()), None, "{foreign}");
        }
        assert!(pool.contains("fd00::1:2".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_place_has_two_users(steps in prop::collection::vec((any::<bool>(), 0u32..9, 0u16..12), 0..200)) {
            let mut pool = pool(29);
            let mut current: std::collections::BTreeMap<u32, Lease> = Default::default();
            for (take, who, wish) in steps {
                if take {
                    if let Some(lease) = pool.take(holder("a", who), wish) {
                        prop_assert!((2..=6).contains(&lease.place));
                        prop_assert!(!current.iter().any(|(other, held)| *other != who && held.place == lease.place));
                        current.insert(who, lease);
                    } else {
                        prop_assert_eq!(current.len(), 5);
                    }
                } else if let Some(lease) = current.remove(&who) {
                    pool.leave(lease);
                }
                prop_assert!(pool.places.len() <= 5 && pool.left.len() <= 5);
            }
        }
    }
}
