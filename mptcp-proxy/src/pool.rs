// SPDX-License-Identifier: Apache-2.0
//! How many connections to keep ready. Pure.

use std::time::{Duration, Instant};

/// Kept while nothing happens.
const FLOOR: usize = 2;
/// Without use of the whole pool for this long, it shrinks.
const CALM: Duration = Duration::from_secs(60);

/// Follows the demand: doubles when a connection found the pool empty, halves when half of it was not needed.
#[derive(Debug, Clone)]
pub struct Demand {
    limit: usize,
    target: usize,
    /// The fewest that were ready since the last look.
    lowest: usize,
    since: Instant,
}

impl Demand {
    /// Never more than `limit`, which may be 0.
    pub fn new(limit: usize, now: Instant) -> Self {
        let target = FLOOR.min(limit);
        Demand { limit, target, lowest: target, since: now }
    }

    /// How many should be ready.
    pub fn target(&self) -> usize {
        self.target
    }

    /// A connection was taken and left this many, or `None` when there was none to take.
    pub fn taken(&mut self, left: Option<usize>, now: Instant) {
        let Some(left) = left else {
            self.target = (self.target * 2).clamp(FLOOR.min(self.limit), self.limit);
            self.lowest = 0;
            self.since = now;
            return;
        };
        self.lowest = self.lowest.min(left);
        if left == 0 {
            // The next one would have come too early.
            self.target = (self.target + 1).min(self.limit);
        }
    }

    /// Looks whether fewer would do.
    pub fn calm_down(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < CALM {
            return;
        }
        if self.lowest > self.target / 2 {
            self.target = (self.target / 2).max(FLOOR.min(self.limit));
        }
        self.lowest = self.target;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_follows_the_demand_within_its_limits() {
        let start = Instant::now();
        let mut demand = Demand::new(8, start);
        assert_eq!(demand.target(), 2);
        demand.taken(Some(1), start);
        assert_eq!(demand.target(), 2);
        for _ in 0..5 {
            demand.taken(None, start);
        }
        assert_eq!(demand.target(), 8);
        demand.calm_down(start + CALM / 2);
        assert_eq!(demand.target(), 8);
        demand.calm_down(start + CALM);
        assert_eq!(demand.target(), 8, "it was needed in this minute");
        for minutes in 2..9 {
            demand.taken(Some(7), start + CALM * minutes);
            demand.calm_down(start + CALM * minutes);
        }
        assert_eq!(demand.target(), 2);
    }

    #[test]
    fn no_pool_stays_no_pool() {
        let mut demand = Demand::new(0, Instant::now());
        demand.taken(None, Instant::now());
        assert_eq!(demand.target(), 0);
    }
}
