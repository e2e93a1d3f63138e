// SPDX-License-Identifier: Apache-2.0
//! Whether a path carries packets to the server half and back: a state machine without sockets or clock.
//!
//! Probes are numbered datagrams. One that is not answered in time is lost; `down_after` in a row take the path down,
//! `up_after` answers in a row bring it back. A path whose probes were never answered stays `Unknown` and is used: a
//! firewall may swallow the datagrams. A connection that was opened over the path proves it too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The least and the most time an answer may take.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(1));
/// Pace while the state is in doubt or the path is down but traffic wants it.
const DOUBT: Duration = Duration::from_millis(200);
/// A path that is down is tried at least this often, for the first minute.
const DOWN_PACE: Duration = Duration::from_secs(1);
const DOWN_PATIENCE: Duration = Duration::from_secs(60);
/// Probes that may be on the way.
const MAX_OUTSTANDING: usize = 64;
/// After a connection has proven the path, lost probes do not count for this long.
const TRUST: Duration = Duration::from_secs(10);

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Unknown,
    /// Packets pass.
    Up,
    /// They do not.
    Down,
}

/// Pace and thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// While there are connections.
    pub interval: Duration,
    /// While there are none.
    pub idle_interval: Duration,
    /// Losses in a row.
    pub down_after: u32,
    /// Answers in a row.
    pub up_after: u32,
}

/// The health of one path.
#[derive(Debug, Clone)]
pub struct Health {
    settings: Settings,
    state: State,
    since: Instant,
    lost: u32,
    answered: u32,
    outstanding: VecDeque<(u64, Instant)>,
    last_sent: Option<Instant>,
    rtt: Option<Duration>,
    deviation: Duration,
    /// Share of lost probes, smoothed over about 32.
    loss: f32,
    trusted_until: Option<Instant>,
    ever_answered: bool,
}

impl Health {
    /// Nothing is known.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Health {
            settings,
            state: State::Unknown,
            since: now,
            lost: 0,
            answered: 0,
            outstanding: VecDeque::new(),
            last_sent: None,
            rtt: None,
            deviation: Duration::ZERO,
            loss: 0.0,
            trusted_until: None,
            ever_answered: false,
        }
    }

    /// What is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether nothing has spoken against the path since then.
    pub fn is_sound_since(&self, then: Instant) -> bool {
        self.since <= then && self.state != State::Down && self.lost == 0
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Share of lost probes, 0 to 1; `None` before the first answer.
    pub fn loss(&self) -> Option<f32> {
        self.ever_answered.then_some(self.loss)
    }

    /// When the next probe is due.
    pub fn due(&self, active: bool, now: Instant) -> Instant {
        let Some(last) = self.last_sent else { return now };
        let usual = if active { self.settings.interval } else { self.settings.idle_interval };
        let pace = match self.state {
            State::Up if self.lost > 0 => usual.min(DOUBT),
            State::Up => usual,
            State::Unknown if self.outstanding.is_empty() && !active => usual.min(DOWN_PACE),
            State::Unknown => usual.min(DOWN_PACE),
            State::Down if self.answered > 0 => usual.min(DOUBT),
            State::Down if active || now.saturating_duration_since(self.since) < DOWN_PATIENCE => {
                usual.clamp(DOUBT.min(usual), DOWN_PACE)
            }
            State::Down => usual,
        };
        last + pace
    }

    /// When the oldest probe on the way counts as lost.
    pub fn deadline(&self) -> Option<Instant> {
        self.outstanding.front().map(|(_, sent)| *sent + self.timeout())
    }

    /// A probe was sent (or could not be sent, which is a loss too).
    pub fn sent(&mut self, number: u64, now: Instant) {
        self.last_sent = Some(now);
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((number, now));
    }

    /// An answer came; returns the state if it changed. One that comes late still tells the round-trip time.
    pub fn answered(&mut self, number: u64, now: Instant) -> Option<State> {
        let position = self.outstanding.iter().position(|(outstanding, _)| *outstanding == number)?;
        let (_, sent) = self.outstanding.remove(position)?;
        // What was sent before it and is not answered was overtaken or lost; its own time will tell.
        self.measure(now.saturating_duration_since(sent));
        self.ever_answered = true;
        self.trusted_until = None;
        self.lost = 0;
        self.answered = self.answered.saturating_add(1);
        self.loss += (0.0 - self.loss) / 32.0;
        let needed = if self.state == State::Down { self.settings.up_after } else { 1 };
        if self.answered >= needed {
            return self.enter(State::Up, now);
        }
        None
    }

    /// Time has passed; returns the state if it changed. `carries` tells whether connections hear of the path: then it
    /// is full, not dead, and the next lost probe asks again.
    pub fn tick(&mut self, now: Instant, carries: impl FnOnce() -> bool) -> Option<State> {
        let timeout = self.timeout();
        while self
            .outstanding
            .front()
            .is_some_and(|(_, sent)| now.saturating_duration_since(*sent) >= timeout)
        {
            self.outstanding.pop_front();
            self.loss += (1.0 - self.loss) / 32.0;
            self.answered = 0;
            self.lost = self.lost.saturating_add(1);
        }
        let trusted = self.trusted_until.is_some_and(|until| now < until);
        if self.lost >= self.settings.down_after
            && self.ever_answered
            && !trusted
            && self.state != State::Down
        {
            if carries() {
                self.lost = self.settings.down_after - 1;
                return None;
            }
            return self.enter(State::Down, now);
        }
        None
    }

    /// A connection was opened over the path.
    pub fn proven(&mut self, now: Instant) -> Option<State> {
        self.trusted_until = Some(now + TRUST);
        self.lost = 0;
        self.enter(State::Up, now)
    }

    /// The path begins anew: another address, or its link is back.
    pub fn restart(&mut self, now: Instant) -> Option<State> {
        *self = Health { ever_answered: self.ever_answered, ..Health::new(self.settings, now) };
        Some(self.state)
    }

    fn enter(&mut self, state: State, now: Instant) -> Option<State> {
        if self.state == state {
            return None;
        }
        self.state = state;
        self.since = now;
        Some(state)
    }

    /// RFC 6298 2, with the bounds of a path that users watch.
    fn measure(&mut self, sample: Duration) {
        match self.rtt {
            None => {
                self.rtt = Some(sample);
                self.deviation = sample / 2;
            }
            Some(rtt) => {
                self.deviation = (self.deviation * 3 + rtt.abs_diff(sample)) / 4;
                self.rtt = Some((rtt * 7 + sample) / 8);
            }
        }
    }

    fn timeout(&self) -> Duration {
        match self.rtt {
            Some(rtt) => (rtt * 2 + self.deviation * 4).clamp(TIMEOUT.0, TIMEOUT.1),
            None => TIMEOUT.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const SETTINGS: Settings = Settings {
        interval: Duration::from_millis(100),
        idle_interval: Duration::from_secs(10),
        down_after: 2,
        up_after: 3,
    };

    /// Runs a path of this RTT for a while; `alive` says whether packets pass at this moment.
    fn run(
        health: &mut Health,
        from: Instant,
        length: Duration,
        rtt: Duration,
        alive: impl Fn(Duration) -> bool,
    ) -> Vec<(Duration, State)> {
        let mut changes = Vec::new();
        let mut arriving: Vec<(Instant, u64)> = Vec::new();
        let mut number = u64::MAX / 2;
        for step in 0..length.as_millis() as u32 {
            let now = from + MS * step;
            arriving.retain(|(at, number)| {
                if *at > now {
                    return true;
                }
                changes.extend(health.answered(*number, now).map(|state| (MS * step, state)));
                false
            });
            changes.extend(health.tick(now, || false).map(|state| (MS * step, state)));
            if health.due(true, now) <= now {
                number += 1;
                health.sent(number, now);
                if alive(MS * step) {
                    arriving.push((now + rtt, number));
                }
            }
        }
        changes
    }

    #[test]
    fn a_silent_death_is_found_within_350_ms_and_the_return_within_700() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        let dead = MS * 2000..MS * 4000;
        let changes = run(&mut health, start, MS * 6000, MS * 20, |at| !dead.contains(&at));
        let states: Vec<State> = changes.iter().map(|(_, state)| *state).collect();
        assert_eq!(states, [State::Up, State::Down, State::Up], "{changes:?}");
        assert!(changes[1].0 - dead.start <= MS * 350, "{changes:?}");
        assert!(changes[2].0 - dead.end <= MS * 700, "{changes:?}");
        assert!(health.rtt().unwrap().abs_diff(MS * 20) <= MS * 2);
        assert!(health.loss().unwrap() > 0.0);
    }

    #[test]
    fn a_path_whose_probes_are_swallowed_stays_usable() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        assert!(run(&mut health, start, MS * 5000, MS, |_| false).is_empty());
        assert_eq!((health.state(), health.loss()), (State::Unknown, None));
        assert_eq!(health.proven(start + MS * 5000), Some(State::Up));
    }

    #[test]
    fn a_connection_outweighs_lost_probes() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        run(&mut health, start, MS * 1000, MS, |_| true);
        assert!(!run(&mut health, start + MS * 1000, MS * 1000, MS, |_| false).is_empty());
        assert_eq!(health.state(), State::Down);
        health.proven(start + MS * 2000);
        assert!(run(&mut health, start + MS * 2000, MS * 5000, MS, |_| false).is_empty());
        assert_eq!(health.state(), State::Up);
    }

    #[test]
    fn a_path_that_is_full_is_not_dead() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        run(&mut health, start, MS * 1000, MS * 20, |_| true);
        let (mut now, mut asked) = (start + MS * 1000, 0);
        for number in 0..10 {
            health.sent(number, now);
            now += MS * 300;
            let carries = || {
                asked += 1;
                true
            };
            assert_eq!(health.tick(now, carries), None);
        }
        assert_eq!(asked, 9, "each lost probe from the second on");
        health.sent(11, now);
        assert_eq!(health.tick(now + MS * 300, || false), Some(State::Down));
    }

    #[test]
    fn single_losses_do_not_take_a_path_down() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        let changes = run(&mut health, start, MS * 20_000, MS * 60, |at| at.as_millis() % 1000 >= 90);
        assert_eq!(changes.len(), 1, "{changes:?}");
    }

    #[test]
    fn idle_probes_are_few() {
        let start = Instant::now();
        let mut health = Health::new(SETTINGS, start);
        let (mut sent, mut now) = (0u64, start);
        while now < start + Duration::from_secs(3600) {
            if health.due(false, now) <= now {
                sent += 1;
                health.sent(sent, now);
                health.answered(sent, now + MS * 30);
            }
            now += MS * 100;
        }
        // A month of these, at 60 + 60 bytes of IPv4, stays below 50 MB.
        let month = sent * 24 * 30 * 2 * (32 + 28);
        assert!(month <= 50_000_000, "{month} bytes");
    }

    proptest! {
        #[test]
        fn no_order_of_answers_and_ticks_breaks_it(steps in prop::collection::vec((0u8..4, 0u64..50, 0u64..500), 0..300)) {
            let mut now = Instant::now();
            let mut health = Health::new(SETTINGS, now);
            for (what, number, wait) in steps {
                now += MS * wait as u32;
                match what {
                    0 => health.sent(number, now),
                    1 => drop(health.answered(number, now)),
                    2 => drop(health.tick(now, || number % 2 == 0)),
                    _ => drop(health.proven(now)),
                }
                prop_assert!(health.outstanding.len() <= MAX_OUTSTANDING);
                prop_assert!(health.loss >= 0.0 && health.loss <= 1.0);
                prop_assert!(health.due(true, now) <= now + DOWN_PACE);
            }
        }
    }
}
