// SPDX-License-Identifier: Apache-2.0
//! Keeps a message that repeats from filling the log.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

/// How long messages are held back at first, and at most.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// Messages of one place that may pass within one interval, as long as each differs from the one before.
const BURST: u8 = 5;

/// The memory of one place in the code that logs; made by [`log_repeated!`](crate::log_repeated).
///
/// The first message passes. Equal ones, and more than a few differing ones, are then held back for a
/// minute, which doubles up to an hour as long as they go on coming; the next that passes says how many
/// were held back.
#[derive(Debug)]
pub struct Repeat(Mutex<Site>);

#[derive(Debug)]
struct Site {
    interval: Duration,
    ends: Option<Instant>,
    last: u64,
    passed: u8,
    held: u32,
}

impl Repeat {
    /// No message so far.
    #[allow(clippy::new_without_default)] // lives in statics alone
    pub const fn new() -> Self {
        Self(Mutex::new(Site { interval: FIRST, ends: None, last: 0, passed: 0, held: 0 }))
    }

    /// Logs the message unless it is to be held back.
    pub fn log(&self, level: Level, target: &'static str, message: fmt::Arguments<'_>) {
        let text = message.to_string();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let mut site = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = site.admit(Instant::now(), hasher.finish());
        drop(site);
        match admitted {
            None => {}
            Some(0) => log::log!(target: target, level, "{text}"),
            Some(held) => log::log!(target: target, level, "{text} ({held} similar messages held back)"),
        }
    }
}

impl Site {
    /// `None` to hold back; else how many were held back before this one.
    fn admit(&mut self, now: Instant, message: u64) -> Option<u32> {
        let running = self.ends.is_some_and(|ends| now < ends);
        if running && (message == self.last || self.passed >= BURST) {
            self.held = self.held.saturating_add(1);
            return None;
        }
        if running {
            self.passed += 1;
            self.last = message;
            return Some(0);
        }
        let quiet = self.ends.is_none_or(|ends| now >= ends + self.interval);
        self.interval = if quiet { FIRST } else { (self.interval * 2).min(LONGEST) };
        self.ends = Some(now + self.interval);
        self.last = message;
        self.passed = 1;
        Some(std::mem::take(&mut self.held))
    }
}

/// Logs at a level what may repeat without end, such as the failures of a dead peer: see
/// [`Repeat`](crate::logging::Repeat). Each use is a place of its own.
///
/// ```
/// openwrt::log_repeated!(log::Level::Warn, "broker {}: {}", "10.0.0.1:1883", "connection refused");
/// ```
#[macro_export]
macro_rules! log_repeated {
    ($level:expr, $($message:tt)+) => {{
        static SITE: $crate::logging::Repeat = $crate::logging::Repeat::new();
        SITE.log($level, module_path!(), format_args!($($message)+));
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Repeat::new().0.into_inner().unwrap()
    }

    #[test]
    fn a_dead_peer_fills_no_log() {
        let (mut site, start) = (site(), Instant::now());
        // Every 5 s for a day.
        let passed: Vec<u32> =
            (0..17_280).filter_map(|n| site.admit(start + Duration::from_secs(5 * n), 1)).collect();
        assert!(passed.len() < 35, "{} lines", passed.len());
        assert_eq!(passed[0], 0);
        let held: u32 = passed.iter().sum::<u32>() + site.held;
        assert_eq!(held as usize + passed.len(), 17_280, "every message is accounted for");
    }

    #[test]
    fn a_different_message_passes_but_not_without_end() {
        let (mut site, now) = (site(), Instant::now());
        assert_eq!(site.admit(now, 1), Some(0));
        assert_eq!(site.admit(now, 2), Some(0));
        assert_eq!(site.admit(now, 2), None);
        let passed = (0..1000).filter(|n| site.admit(now, n % 2).is_some()).count();
        assert_eq!(passed, usize::from(BURST) - 2);
    }

    #[test]
    fn after_a_quiet_time_it_starts_anew() {
        let (mut site, start) = (site(), Instant::now());
        for minute in 0..600 {
            site.admit(start + FIRST * minute, 1);
        }
        assert!(site.interval > FIRST);
        let later = start + FIRST * 600 + LONGEST * 3;
        assert!(site.admit(later, 1).is_some());
        assert_eq!(site.interval, FIRST);
    }
}
