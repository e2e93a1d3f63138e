// SPDX-License-Identifier: Apache-2.0
//! One rule's state machine: what was observed goes in, what has to be done comes out.
//!
//! No clock, no sockets: time is an argument. A verdict needs `offline_threshold` rounds in a row that are worse than
//! the current state, or `online_threshold` rounds that are better; between the first such round and the verdict the
//! rule is in doubt and its rounds follow each other at the retry interval.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Monotonic time since an arbitrary start.
pub type Moment = Duration;

/// Damping never keeps a rule offline for longer than this.
pub const MAX_DAMPING: Duration = Duration::from_secs(3600);

/// Drops within this time make a link a flapping one.
pub const FLAP_WINDOW: Duration = Duration::from_secs(600);

/// A link that just came back or changed often needs a moment (addresses, neighbours, routes) before anything passes:
/// for so long rounds go on at the retry interval although nothing has passed yet.
pub const LINK_SETTLES: Duration = Duration::from_secs(30);

/// A round that could not be made is tried again after this at the earliest.
const NOT_MADE_AGAIN: Duration = Duration::from_secs(1);
/// So many drops within [`FLAP_WINDOW`] are flapping.
pub const FLAP_COUNT: usize = 3;

/// What a rule says about its uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The policy is met.
    Online,
    /// The policy is met, but one address family or a quality limit is not.
    Degraded,
    /// Something answers in place of the Internet.
    Portal,
    /// The policy is not met.
    Offline,
    /// No verdict yet.
    Unknown,
    /// Switched off in the configuration.
    Disabled,
}

impl State {
    /// The word used in the configuration, in status and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Portal => "portal",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
            Self::Disabled => "disabled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Online, Self::Degraded, Self::Portal, Self::Offline, Self::Unknown, Self::Disabled]
            .into_iter()
            .find(|state| state.word() == word)
    }

    /// Online or degraded.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Online | Self::Degraded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The outcome of one round of checks, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// All is well.
    Online,
    /// Good enough.
    Degraded,
    /// Something answers in place of the Internet.
    Portal,
    /// Nothing answers.
    Offline,
}

impl Verdict {
    pub(crate) fn state(self) -> State {
        match self {
            Self::Online => State::Online,
            Self::Degraded => State::Degraded,
            Self::Portal => State::Portal,
            Self::Offline => State::Offline,
        }
    }
}

/// What a lost link means (`link_loss`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLoss {
    /// It is the verdict.
    Immediate,
    /// It starts a round at once.
    Probe,
    /// Nothing.
    Ignore,
}

/// The numbers of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// From the start of one round to the start of the next while nothing is in doubt.
    pub interval: Duration,
    /// The same while a verdict is in doubt.
    pub retry_interval: Duration,
    /// The interval grows up to this while nothing changes; not below `interval`.
    pub max_interval: Duration,
    /// Rounds in a row that are needed to leave a state for a worse one; at least 1.
    pub offline_threshold: u32,
    /// Rounds in a row that are needed to leave a state for a better one; at least 1.
    pub online_threshold: u32,
    /// A state is kept at least this long.
    pub hold_time: Duration,
    /// Each drop soon after the one before doubles what is added to the hold time offline; zero: no damping.
    pub flap_damping: Duration,
    /// What a lost link means.
    pub link_loss: LinkLoss,
    /// Part of the interval (0 to 0.5) by which undoubted rounds come early, so that many routers do not ask in step.
    pub jitter: f64,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The time that [`Rule::wake_at`] asked for has come, or the rule was just made.
    Time,
    /// A round has ended.
    Round(Verdict, String),
    /// The link that counts was lost, for this reason.
    LinkLost(String),
    /// The link that counts is back, or has changed.
    LinkChanged,
    /// The round could not be made for lack of something of the router's own: it says nothing.
    NotMade,
    /// Somebody wants a round now.
    CheckNow,
    /// Somebody wants this state, until then or until [`Observation::Release`].
    Force(State, Option<Moment>),
    /// An end to [`Observation::Force`].
    Release,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a round. One that is under way, after a link came back, is given up for it.
    Probe,
    /// The state has changed.
    Announce(Transition),
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, in words.
    pub reason: String,
    /// When.
    pub at: Moment,
    /// How long the state before had lasted.
    pub lasted: Duration,
    /// The link drops so often that it counts as flapping.
    pub flapping: bool,
}

/// A rule at work.
#[derive(Debug)]
pub struct Rule {
    timing: Timing,
    state: State,
    since: Moment,
    reason: String,
    /// Consecutive rounds on one side of the current state, and the last of them.
    streak: Option<Streak>,
    link_lost: Option<String>,
    link_changed: Option<Moment>,
    forced: Option<Forced>,
    round: Round,
    /// Undoubted rounds since the last surprise; widens the interval.
    calm_rounds: u32,
    penalty: Penalty,
    drops: VecDeque<Moment>,
}

#[derive(Debug)]
struct Streak {
    better: bool,
    length: u32,
    verdict: Verdict,
    reason: String,
}

#[derive(Debug)]
struct Forced {
    until: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
enum Round {
    /// None under way; the next one is due then.
    Due(Moment),
    /// One is under way since then; `again`: another one is wanted as soon as it ends.
    Running { since: Moment, again: bool },
}

#[derive(Debug, Default)]
struct Penalty {
    extra: Duration,
    at: Moment,
}

impl Rule {
    /// A rule without a verdict whose first round is due at once.
    #[must_use]
    pub fn new(timing: Timing, now: Moment) -> Self {
        Self {
            timing,
            state: State::Unknown,
            since: now,
            reason: "no verdict yet".to_owned(),
            streak: None,
            link_lost: None,
            link_changed: None,
            forced: None,
            round: Round::Due(now),
            calm_rounds: 0,
            penalty: Penalty::default(),
            drops: VecDeque::new(),
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when the state lasts.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Why the rule is in this state, in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When the next round is due; `None` while one is under way.
    #[must_use]
    pub fn next_round(&self) -> Option<Moment> {
        match self.round {
            Round::Due(at) => Some(at),
            Round::Running { .. } => None,
        }
    }

    /// A verdict other than the current state is forming, or there is none yet.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.streak.is_some() || self.state == State::Unknown
    }

    /// The state was set by hand.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.forced.is_some()
    }

    /// When [`Observation::Time`] is wanted next.
    #[must_use]
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        let hold = self.pending().map(|verdict| self.held_until(verdict.state())).filter(|at| *at > now);
        let release = self.forced.as_ref().and_then(|forced| forced.until);
        [self.next_round(), hold, release].into_iter().flatten().min()
    }

    /// New numbers after a reload: the state and what is known stay, a round under way is given up.
    pub fn retime(&mut self, timing: Timing, now: Moment) {
        self.timing = timing;
        self.round = Round::Due(now);
    }

    /// Takes an observation in; `chance` (0 to 1) spreads the next round.
    pub fn on(&mut self, observation: Observation, now: Moment, chance: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        match observation {
            Observation::Time => {}
            Observation::Round(verdict, reason) => self.round_ended(verdict, reason, now, chance),
            Observation::LinkLost(reason) => self.link_lost(reason, now),
            Observation::LinkChanged => {
                self.link_changed = Some(now);
                if self.link_lost.take().is_some() {
                    // What a round said, or was about to say, without the link says nothing about the one that came
                    // back.
                    if self.timing.link_loss == LinkLoss::Immediate {
                        self.streak = None;
                    }
                    self.round = Round::Due(now);
                }
                self.round_wanted(now);
            }
            Observation::NotMade => {
                if matches!(self.round, Round::Running { .. }) {
                    self.round = Round::Due(now + self.timing.retry_interval.max(NOT_MADE_AGAIN));
                }
            }
            Observation::CheckNow => self.round_wanted(now),
            Observation::Force(state, until) => {
                self.forced = Some(Forced { until });
                self.streak = None;
                if state != self.state {
                    actions.push(self.enter(state, "forced by hand".to_owned(), now));
                }
            }
            Observation::Release => self.release(now),
        }
        if self.forced.as_ref().is_some_and(|forced| forced.until.is_some_and(|until| now >= until)) {
            self.release(now);
        }
        actions.extend(self.decide(now));
        if let Round::Due(at) = self.round {
            if now >= at {
                self.round = Round::Running { since: now, again: false };
                actions.push(Action::Probe);
            }
        }
        actions
    }

    fn round_ended(&mut self, verdict: Verdict, reason: String, now: Moment, chance: f64) {
        let Round::Running { since, again } = self.round else { return };
        if self.forced.is_none() {
            self.count(verdict, reason);
        }
        let calm = !self.in_doubt() && !again;
        self.calm_rounds = if calm { self.calm_rounds.saturating_add(1) } else { 0 };
        self.round = Round::Due(if again { now } else { (since + self.pace(chance, now)).max(now) });
    }

    /// From the start of a round to the start of the next.
    fn pace(&self, chance: f64, now: Moment) -> Duration {
        let settling = self.link_changed.is_some_and(|at| now.saturating_sub(at) < LINK_SETTLES);
        // A state that only waits for its hold time to pass is not in doubt.
        if (self.in_doubt() && self.pending().is_none()) || (settling && !self.state.is_up()) {
            return self.timing.retry_interval;
        }
        let grown = self.timing.interval.saturating_mul(1 << self.calm_rounds.saturating_sub(1).min(16));
        let interval = grown.min(self.timing.max_interval.max(self.timing.interval));
        interval.mul_f64(1.0 - self.timing.jitter.clamp(0.0, 0.5) * chance.clamp(0.0, 1.0))
    }

    fn count(&mut self, verdict: Verdict, reason: String) {
        if verdict.state() == self.state {
            self.streak = None;
            if self.link_lost.is_none() || self.timing.link_loss != LinkLoss::Immediate {
                self.reason = reason;
            }
            return;
        }
        let better = match self.state {
            State::Unknown | State::Disabled => verdict <= Verdict::Degraded,
            State::Online => false,
            State::Degraded => verdict < Verdict::Degraded,
            State::Portal => verdict < Verdict::Portal,
            State::Offline => true,
        };
        let length = match &self.streak {
            Some(streak) if streak.better == better => streak.length.saturating_add(1),
            _ => 1,
        };
        self.streak = Some(Streak { better, length, verdict, reason });
    }

    /// The verdict that the thresholds support and the state does not show yet.
    fn pending(&self) -> Option<Verdict> {
        if self.forced.is_some() {
            return None;
        }
        if self.link_lost.is_some() && self.timing.link_loss == LinkLoss::Immediate {
            return (self.state != State::Offline).then_some(Verdict::Offline);
        }
        let streak = self.streak.as_ref()?;
        let needed = if streak.better { self.timing.online_threshold } else { self.timing.offline_threshold };
        (streak.length >= needed.max(1)).then_some(streak.verdict)
    }

    fn decide(&mut self, now: Moment) -> Option<Action> {
        let verdict = self.pending()?;
        if now < self.held_until(verdict.state()) {
            return None;
        }
        let reason = match (&self.link_lost, &self.streak) {
            (Some(reason), _) if self.timing.link_loss == LinkLoss::Immediate => reason.clone(),
            (_, Some(streak)) => streak.reason.clone(),
            (_, None) => String::new(),
        };
        self.streak = None;
        Some(self.enter(verdict.state(), reason, now))
    }

    fn enter(&mut self, to: State, reason: String, now: Moment) -> Action {
        let from = self.state;
        let lasted = now.saturating_sub(self.since);
        let dropped = from.is_up() && matches!(to, State::Offline | State::Portal);
        if dropped && self.forced.is_none() {
            self.penalty.drop(self.timing.flap_damping, now);
            self.drops.push_back(now);
        }
        while self.drops.front().is_some_and(|at| now.saturating_sub(*at) > FLAP_WINDOW)
            || self.drops.len() > 64
        {
            self.drops.pop_front();
        }
        let flapping = dropped && self.drops.len() >= FLAP_COUNT;
        self.state = to;
        self.since = now;
        self.reason.clone_from(&reason);
        self.calm_rounds = 0;
        Action::Announce(Transition { from, to, reason, at: now, lasted, flapping })
    }

    /// Until when the current state has to be kept before `to` may follow.
    fn held_until(&self, to: State) -> Moment {
        if self.state == State::Unknown {
            return self.since;
        }
        let damping = if to.is_up() && !self.state.is_up() { self.penalty.extra } else { Duration::ZERO };
        self.since + self.timing.hold_time + damping
    }

    fn link_lost(&mut self, reason: String, now: Moment) {
        self.link_lost = Some(reason);
        if self.timing.link_loss != LinkLoss::Ignore {
            self.round_wanted(now);
        }
    }

    fn round_wanted(&mut self, now: Moment) {
        self.round = match self.round {
            Round::Due(_) => Round::Due(now),
            Round::Running { since, .. } => Round::Running { since, again: true },
        };
    }

    fn release(&mut self, now: Moment) {
        if self.forced.take().is_some() {
            self.round_wanted(now);
        }
    }
}

impl Penalty {
    /// Counts a drop: the first of a series costs nothing, the second `unit`, every further one twice the one before.
    /// A series ends after eight units (and twice the penalty) without a drop.
    fn drop(&mut self, unit: Duration, now: Moment) {
        let quiet = now.saturating_sub(self.at);
        let in_series = !self.at.is_zero() && quiet < (unit * 8).max(self.extra * 2);
        self.extra = match (in_series, self.extra) {
            (false, _) => Duration::ZERO,
            (true, extra) if extra.is_zero() => unit,
            (true, extra) => (extra * 2).min(MAX_DAMPING),
        };
        // Zero marks "never".
        self.at = now.max(Duration::from_nanos(1));
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
