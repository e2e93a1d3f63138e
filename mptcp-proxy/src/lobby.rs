// SPDX-License-Identifier: Apache-2.0
//! Who may wait at the server half without having proven a key. Pure.
//!
//! Nobody is turned away: when it is crowded, the one who has waited longest among the strangers of the address with
//! most of them has to go. A client proves its key within a round trip or two; whoever says nothing only fills up his own
//! place. Addresses that have proven a key lately are not crowded out by strangers at all.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Strangers at a time.
const STRANGERS: usize = 256;
/// Strangers of one address.
const PER_SOURCE: usize = 32;
/// Connections of known addresses that have not proven the key yet.
const GUESTS: usize = 2048;
/// Addresses that are remembered, and for how long.
const KNOWN: usize = 256;
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Somebody waiting.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    number: u32,
    source: IpAddr,
    /// The address was known when it came.
    guest: bool,
}

/// Who waits, in the order of arrival.
#[derive(Debug, Default)]
pub struct Lobby {
    waiting: Vec<Waiting>,
    known: Vec<(IpAddr, Instant)>,
    next: u32,
}

impl Lobby {
    /// Lets a connection wait. Returns its number, and the number of the one that has to go for it.
    pub fn enter(&mut self, source: IpAddr, now: Instant) -> (u32, Option<u32>) {
        let source = block(source);
        let guest = self
            .known
            .iter()
            .any(|(known, at)| *known == source && now.saturating_duration_since(*at) < MEMORY);
        let leaves = self.crowded_out(source, guest);
        if let Some(number) = leaves {
            self.leave(number);
        }
        self.next = self.next.wrapping_add(1);
        self.waiting.push(Waiting { number: self.next, source, guest });
        (self.next, leaves)
    }

    /// It waits no more.
    pub fn leave(&mut self, number: u32) {
        self.waiting.retain(|waiting| waiting.number != number);
    }

    /// This address has proven a key.
    pub fn prove(&mut self, source: IpAddr, now: Instant) {
        let source = block(source);
        self.known.retain(|(known, _)| *known != source);
        if self.known.len() >= KNOWN {
            self.known.remove(0);
        }
        self.known.push((source, now));
    }

    fn crowded_out(&self, source: IpAddr, guest: bool) -> Option<u32> {
        let of_kind = || self.waiting.iter().filter(|waiting| waiting.guest == guest);
        let limit = if guest { GUESTS } else { STRANGERS };
        let of_source = |source: IpAddr| of_kind().filter(move |waiting| waiting.source == source);
        if !guest && of_source(source).count() >= PER_SOURCE {
            return of_source(source).next().map(|waiting| waiting.number);
        }
        if of_kind().count() < limit {
            return None;
        }
        if guest {
            return of_kind().next().map(|waiting| waiting.number);
        }
        // So few strangers that their sums may be made by walking the list for each.
        let crowd = of_kind().max_by_key(|waiting| of_source(waiting.source).count())?.source;
        of_source(crowd).next().map(|waiting| waiting.number)
    }
}

/// What one subscriber has: an IPv4 address, or a /64 of IPv6.
fn block(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    #[test]
    fn silent_strangers_keep_nobody_out() {
        let (mut lobby, now) = (Lobby::default(), Instant::now());
        for number in 0..10_000 {
            lobby.enter(address(number % 3), now);
        }
        assert_eq!(lobby.waiting.len(), 3 * PER_SOURCE);
        let (client, _) = lobby.enter(address(77), now);
        for number in 0..10_000 {
            let (_, leaves) = lobby.enter(address(number % 3), now);
            assert_ne!(leaves, Some(client), "a crowd pushes out its own");
        }
    }

    #[test]
    fn the_place_is_made_where_the_crowd_is() {
        let (mut lobby, now) = (Lobby::default(), Instant::now());
        let lone: Vec<u32> =
            (0..STRANGERS as u32 - 20).map(|number| lobby.enter(address(number), now).0).collect();
        let crowd: Vec<u32> = (0..20).map(|_| lobby.enter(address(9999), now).0).collect();
        let (_, leaves) = lobby.enter(address(5000), now);
        assert_eq!(leaves, Some(crowd[0]));
        assert!(!lone.contains(&leaves.unwrap()));
    }

    #[test]
    fn a_known_address_is_not_crowded_out_by_strangers() {
        let (mut lobby, now) = (Lobby::default(), Instant::now());
        lobby.prove(address(1), now);
        let guests: Vec<u32> = (0..500).map(|_| lobby.enter(address(1), now).0).collect();
        for number in 0..2_000 {
            let (_, leaves) = lobby.enter(address(100 + number), now);
            assert!(leaves.is_none_or(|leaves| !guests.contains(&leaves)));
        }
        // A day later it is a stranger like others.
        lobby.enter(address(1), now + MEMORY);
        assert!(!lobby.waiting.last().unwrap().guest);
    }

    #[test]
    fn a_subscriber_of_ipv6_counts_once() {
        let (mut lobby, now) = (Lobby::default(), Instant::now());
        for low in 0..1000u128 {
            lobby.enter(Ipv6Addr::from_bits(0x2001_0db8 << 96 | low).into(), now);
        }
        assert_eq!(lobby.waiting.len(), PER_SOURCE);
    }

    proptest! {
        #[test]
        fn it_stays_bounded_and_everybody_gets_in(sources in prop::collection::vec((0u32..400, any::<bool>()), 1..3000)) {
            let (mut lobby, now) = (Lobby::default(), Instant::now());
            for (source, proves) in sources {
                let (number, leaves) = lobby.enter(address(source), now);
                prop_assert!(lobby.waiting.iter().any(|waiting| waiting.number == number));
                prop_assert!(leaves.is_none_or(|leaves| lobby.waiting.iter().all(|waiting| waiting.number != leaves)));
                if proves {
                    lobby.leave(number);
                    lobby.prove(address(source), now);
                }
                prop_assert!(lobby.waiting.len() <= STRANGERS + GUESTS && lobby.known.len() <= KNOWN);
            }
        }
    }
}
