// SPDX-License-Identifier: Apache-2.0
//! Whether something on a path drops MPTCP, so that plain TCP is quicker there. Pure.
//!
//! The kernel repeats the first packet of a connection twice with the option and then without it, which costs 3 s. Left
//! to itself it then gives up MPTCP altogether, on every path and for an hour (`net.mptcp.blackhole_timeout`), although
//! a path that was silent for a moment looks the same; we switch that off and keep the account for each path.

use std::time::{Duration, Instant};

/// A plain connection that took this long had its first packets dropped.
const SLOW: Duration = Duration::from_millis(2500);
/// Time until MPTCP is tried again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// The account of one path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blocked {
    /// When the last connection that was slow and plain was made, none with MPTCP since.
    suspected: Option<Instant>,
    /// Until when MPTCP is not tried, and for how long that was.
    until: Option<(Instant, Duration)>,
}

impl Blocked {
    /// Whether the next connection should try MPTCP.
    pub fn tries_mptcp(&self, now: Instant) -> bool {
        self.until.is_none_or(|(until, _)| now >= until)
    }

    /// Whether a connection that tried it and came up plain says nothing of the path yet: it was slow, and a silence or
    /// a full queue that swallowed its first packets looks the same.
    pub fn is_unclear(&self, begun: Instant, now: Instant) -> bool {
        self.tries_mptcp(now) && now.saturating_duration_since(begun) >= SLOW
    }

    /// A connection that tried it was made. `sound` says that the path carried packets all the time: one that was silent
    /// for a moment looks the same. So do not a second one, begun after the first, and none with MPTCP between them.
    pub fn connected(&mut self, mptcp: bool, begun: Instant, now: Instant, sound: bool) {
        if mptcp {
            return *self = Blocked::default();
        }
        if !sound || now.saturating_duration_since(begun) < SLOW {
            return;
        }
        if self.suspected.is_some_and(|suspected| begun >= suspected) {
            let pause = self.until.map_or(PAUSES.0, |(_, pause)| (pause * 2).min(PAUSES.1));
            self.until = Some((now + pause, pause));
        }
        self.suspected.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_path_that_drops_mptcp_is_asked_again_now_and_then() {
        let (mut blocked, mut now) = (Blocked::default(), Instant::now());
        blocked.connected(false, now, now + SECOND / 50, true);
        assert!(blocked.tries_mptcp(now), "stripped, which costs no time");
        assert!(!blocked.is_unclear(now, now + SECOND / 50));
        blocked.connected(false, now, now + 3 * SECOND, true);
        assert!(blocked.tries_mptcp(now), "once is not enough");
        assert!(blocked.is_unclear(now, now + 3 * SECOND));
        now += 3 * SECOND;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            blocked.connected(false, now, now + 3 * SECOND, true);
            now += 3 * SECOND;
            assert!(!blocked.is_unclear(now - 3 * SECOND, now));
            let begun = now;
            while !blocked.tries_mptcp(now) {
                now += SECOND;
            }
            pauses.push((now - begun).as_secs());
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600]);
        blocked.connected(true, now, now + 3 * SECOND, true);
        assert!(blocked.tries_mptcp(now));
    }

    #[test]
    fn a_path_that_was_silent_does_not_drop_mptcp() {
        let (mut blocked, now) = (Blocked::default(), Instant::now());
        // All of one silence.
        for _ in 0..5 {
            blocked.connected(false, now, now + 3 * SECOND, true);
        }
        blocked.connected(false, now + 4 * SECOND, now + 7 * SECOND, false);
        assert!(blocked.tries_mptcp(now + 7 * SECOND));
        blocked.connected(true, now, now + 8 * SECOND, true);
        blocked.connected(false, now + 8 * SECOND, now + 11 * SECOND, true);
        assert!(blocked.tries_mptcp(now + 11 * SECOND));
    }
}
