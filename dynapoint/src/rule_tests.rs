// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);

fn original(interval: u64, offline_threshold: u32) -> Timing {
    let interval = S * u32::try_from(interval).unwrap();
    Timing {
        interval,
        retry_interval: interval,
        max_interval: interval,
        offline_threshold,
        online_threshold: 1,
        hold_time: Duration::ZERO,
        flap_damping: Duration::ZERO,
        link_loss: LinkLoss::Probe,
        jitter: 0.0,
    }
}

fn shipped() -> Timing {
    Timing { retry_interval: S * 2, ..original(60, 3) }
}

/// Runs the rule by itself: rounds take `takes`, their verdict is a function of when they end.
struct Bench<F> {
    rule: Rule,
    now: Moment,
    verdict: F,
    takes: Duration,
    running: Option<Moment>,
    rounds: Vec<Moment>,
    transitions: Vec<(Moment, State)>,
}

impl<F: Fn(Moment) -> Verdict> Bench<F> {
    fn new(timing: Timing, takes: Duration, verdict: F) -> Self {
        let mut bench = Self {
            rule: Rule::new(timing, Duration::ZERO),
            now: Duration::ZERO,
            verdict,
            takes,
            running: None,
            rounds: Vec::new(),
            transitions: Vec::new(),
        };
        bench.observe(Observation::Time);
        bench
    }

    fn observe(&mut self, observation: Observation) {
        let link_back = observation == Observation::LinkChanged;
        for action in self.rule.on(observation, self.now, 0.0) {
            match action {
                Action::Probe => {
                    assert!(self.running.is_none() || link_back, "two rounds at once");
                    self.running = Some(self.now + self.takes);
                    self.rounds.push(self.now);
                }
                Action::Announce(t) => self.transitions.push((t.at, t.to)),
            }
        }
    }

    fn run_until(&mut self, end: Moment) {
        loop {
            let wake = self.rule.wake_at(self.now);
            let Some(next) = [self.running, wake].into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            if self.running.is_some_and(|at| at <= self.now) {
                self.running = None;
                let verdict = (self.verdict)(self.now);
                self.observe(Observation::Round(verdict, "test".to_owned()));
            } else {
                self.observe(Observation::Time);
            }
        }
    }
}

fn offline_between(from: Duration, to: Duration) -> impl Fn(Moment) -> Verdict {
    move |at| if at >= from && at < to { Verdict::Offline } else { Verdict::Online }
}

#[test]
fn first_round_is_due_at_once_and_gives_the_first_verdict() {
    let mut bench = Bench::new(original(60, 3), S / 10, |_| Verdict::Online);
    bench.run_until(S);
    assert_eq!(bench.rounds, [Duration::ZERO]);
    assert_eq!(bench.transitions, [(S / 10, State::Online)]);
}

#[test]
fn with_the_originals_options_the_timing_is_the_originals() {
    // interval 60, threshold 5: rounds at 60, 120, 180, 240, 300 fail; the fifth is the verdict.
    let mut bench = Bench::new(original(60, 5), Duration::ZERO, offline_between(S * 30, S * 10_000));
    bench.run_until(S * 1000);
    assert_eq!(bench.transitions, [(Duration::ZERO, State::Online), (S * 300, State::Offline)]);
    assert_eq!(&bench.rounds[..6], [Duration::ZERO, S * 60, S * 120, S * 180, S * 240, S * 300]);
}

#[test]
fn one_good_round_takes_a_failing_streak_back() {
    let bad = |at: Moment| if at.as_secs() % 180 == 120 { Verdict::Online } else { Verdict::Offline };
    let mut bench = Bench::new(original(60, 3), Duration::ZERO, bad);
    bench.run_until(S * 2000);
    assert_eq!(bench.transitions, [(S * 120, State::Online)]);
}

#[test]
fn rounds_are_quick_while_in_doubt_and_only_then() {
    let mut bench = Bench::new(shipped(), Duration::ZERO, offline_between(S * 60, S * 200));
    bench.run_until(S * 400);
    assert_eq!(&bench.rounds[..6], [Duration::ZERO, S * 60, S * 62, S * 64, S * 124, S * 184]);
    assert_eq!(
        bench.transitions,
        [(Duration::ZERO, State::Online), (S * 64, State::Offline), (S * 244, State::Online)]
    );
}

#[test]
fn the_first_offline_verdict_needs_the_threshold_too() {
    let mut bench = Bench::new(shipped(), Duration::ZERO, |_| Verdict::Offline);
    bench.run_until(S * 10);
    assert_eq!(bench.transitions, [(S * 4, State::Offline)]);
}

#[test]
fn online_threshold_counts_good_rounds() {
    let timing = Timing { online_threshold: 3, ..shipped() };
    let mut bench = Bench::new(timing, Duration::ZERO, offline_between(S, S * 100));
    bench.run_until(S * 400);
    assert_eq!(
        bench.transitions,
        [(S * 6, State::Offline), (S * 130, State::Online)],
        "0 is good, 2, 4, 6, 66 fail, 126, 128, 130 are good: {:?}",
        bench.rounds
    );
}

#[test]
fn the_interval_grows_while_calm_and_shrinks_on_doubt() {
    let timing = Timing { max_interval: S * 240, ..shipped() };
    let mut bench = Bench::new(timing, Duration::ZERO, offline_between(S * 1000, S * 1001));
    bench.run_until(S * 2000);
    assert_eq!(&bench.rounds[..5], [Duration::ZERO, S * 60, S * 120, S * 240, S * 480], "{:?}", bench.rounds);
    let mut bench = Bench::new(
        Timing { max_interval: S * 240, ..shipped() },
        Duration::ZERO,
        offline_between(S * 700, S * 721),
    );
    bench.run_until(S * 1000);
    assert_eq!(&bench.rounds[5..9], [S * 720, S * 722, S * 782, S * 902]);
}

#[test]
fn a_lost_link_starts_a_round_or_is_the_verdict() {
    let mut bench = Bench::new(shipped(), Duration::ZERO, |_| Verdict::Online);
    bench.run_until(S * 10);
    bench.observe(Observation::LinkLost("no carrier".to_owned()));
    assert_eq!(bench.rounds, [Duration::ZERO, S * 10]);
    assert_eq!(bench.rule.state(), State::Online);

    let timing = Timing { link_loss: LinkLoss::Immediate, ..shipped() };
    let mut bench = Bench::new(timing, S, |_| Verdict::Online);
    bench.run_until(S * 10);
    bench.observe(Observation::LinkLost("no carrier".to_owned()));
    assert_eq!(bench.transitions.last(), Some(&(S * 10, State::Offline)));
    assert_eq!(bench.rule.reason(), "no carrier");
    bench.run_until(S * 200);
    assert_eq!(bench.rule.state(), State::Offline, "good rounds do not count while the link is lost");
    bench.observe(Observation::LinkChanged);
    assert_eq!(bench.rounds.last(), Some(&(S * 200)));
    bench.run_until(S * 201);
    assert_eq!(bench.transitions.last(), Some(&(S * 201, State::Online)));
}

#[test]
fn a_link_that_came_back_is_given_time_to_settle() {
    let timing = Timing { link_loss: LinkLoss::Immediate, ..shipped() };
    // The link is back at 100; addresses take until 107.
    let mut bench = Bench::new(timing, Duration::ZERO, offline_between(S * 10, S * 107));
    bench.run_until(S * 10);
    bench.observe(Observation::LinkLost("no carrier".to_owned()));
    bench.run_until(S * 100);
    bench.observe(Observation::LinkChanged);
    bench.run_until(S * 200);
    assert_eq!(bench.transitions.last(), Some(&(S * 108, State::Online)));
    // One that never works again is not asked that often for ever.
    bench.verdict = offline_between(S * 200, S * 10_000);
    bench.observe(Observation::LinkLost("no carrier".to_owned()));
    bench.observe(Observation::LinkChanged);
    let before = bench.rounds.len();
    bench.run_until(S * 1000);
    assert!(bench.rounds.len() - before < 35, "{}", bench.rounds.len() - before);
}

#[test]
fn an_ignored_link_changes_nothing() {
    let timing = Timing { link_loss: LinkLoss::Ignore, ..shipped() };
    let mut bench = Bench::new(timing, Duration::ZERO, |_| Verdict::Online);
    bench.run_until(S * 10);
    bench.observe(Observation::LinkLost("no carrier".to_owned()));
    assert_eq!(bench.rounds, [Duration::ZERO]);
}

#[test]
fn a_link_lost_during_a_round_starts_another_when_it_ends() {
    let mut bench = Bench::new(shipped(), S * 5, |_| Verdict::Online);
    bench.run_until(S);
    bench.observe(Observation::LinkLost("no default route".to_owned()));
    bench.run_until(S * 6);
    assert_eq!(bench.rounds, [Duration::ZERO, S * 5]);
}

#[test]
fn hold_time_delays_the_next_change_and_then_lets_it_through() {
    let timing = Timing { hold_time: S * 100, ..shipped() };
    let mut bench = Bench::new(timing, Duration::ZERO, offline_between(S * 60, S * 70));
    bench.run_until(S * 64);
    assert_eq!(bench.rule.state(), State::Online, "held");
    bench.run_until(S * 99);
    assert_eq!(bench.rule.state(), State::Online);
    bench.run_until(S * 400);
    assert_eq!(
        bench.transitions,
        [(Duration::ZERO, State::Online), (S * 100, State::Offline), (S * 200, State::Online)]
    );
}

#[test]
fn a_hold_that_outlasts_the_trouble_changes_nothing() {
    let timing = Timing { hold_time: S * 500, ..shipped() };
    let mut bench = Bench::new(timing, Duration::ZERO, offline_between(S * 60, S * 70));
    bench.run_until(S * 600);
    assert_eq!(bench.transitions, [(Duration::ZERO, State::Online)]);
}

#[test]
fn damping_doubles_with_every_drop_and_is_forgotten() {
    let timing = Timing { flap_damping: S * 10, offline_threshold: 1, ..original(1, 1) };
    // Down for one second of every ten.
    let mut bench = Bench::new(timing, Duration::ZERO, |at| {
        if at.as_secs() % 10 == 5 {
            Verdict::Offline
        } else {
            Verdict::Online
        }
    });
    bench.run_until(S * 200);
    let outages: Vec<u64> = bench
        .transitions
        .windows(2)
        .filter(|w| w[0].1 == State::Offline)
        .map(|w| (w[1].0 - w[0].0).as_secs())
        .collect();
    assert_eq!(&outages[..3], [1, 10, 20], "{:?}", bench.transitions);
    assert!(outages.windows(2).all(|w| w[1] >= w[0]), "{outages:?}");
}

#[test]
fn flapping_is_named_at_the_third_drop() {
    let mut rule = Rule::new(original(1, 1), Duration::ZERO);
    let mut flapping = Vec::new();
    for second in 0..20 {
        let verdict = if second % 4 == 3 { Verdict::Offline } else { Verdict::Online };
        let _ = rule.on(Observation::Time, S * second, 0.0);
        for action in rule.on(Observation::Round(verdict, String::new()), S * second, 0.0) {
            if let Action::Announce(t) = action {
                if t.to == State::Offline {
                    flapping.push(t.flapping);
                }
            }
        }
    }
    assert_eq!(flapping, [false, false, true, true, true]);
}

#[test]
fn portal_and_degraded_are_states_of_their_own() {
    let script = |at: Moment| match at.as_secs() {
        0..=99 => Verdict::Online,
        100..=199 => Verdict::Portal,
        200..=299 => Verdict::Offline,
        300..=399 => Verdict::Portal,
        400..=499 => Verdict::Degraded,
        _ => Verdict::Online,
    };
    let mut bench = Bench::new(Timing { interval: S * 10, ..shipped() }, Duration::ZERO, script);
    bench.run_until(S * 600);
    let states: Vec<State> = bench.transitions.iter().map(|t| t.1).collect();
    assert_eq!(
        states,
        [State::Online, State::Portal, State::Offline, State::Portal, State::Degraded, State::Online]
    );
}

#[test]
fn force_holds_against_rounds_until_its_end() {
    let mut bench = Bench::new(original(10, 1), Duration::ZERO, |_| Verdict::Online);
    bench.run_until(S * 5);
    bench.observe(Observation::Force(State::Offline, Some(S * 100)));
    bench.observe(Observation::LinkChanged);
    bench.run_until(S * 99);
    assert_eq!(bench.rule.state(), State::Offline);
    assert!(bench.rule.is_forced());
    bench.run_until(S * 100);
    assert_eq!(bench.transitions.last(), Some(&(S * 100, State::Online)));
}

#[test]
fn jitter_only_brings_undoubted_rounds_forward() {
    let mut rule = Rule::new(Timing { jitter: 0.1, ..original(60, 3) }, Duration::ZERO);
    let _ = rule.on(Observation::Time, Duration::ZERO, 1.0);
    let _ = rule.on(Observation::Round(Verdict::Online, String::new()), Duration::ZERO, 1.0);
    assert_eq!(rule.next_round(), Some(S * 54));
    let _ = rule.on(Observation::Time, S * 54, 1.0);
    let _ = rule.on(Observation::Round(Verdict::Offline, String::new()), S * 54, 1.0);
    assert_eq!(rule.next_round(), Some(S * 114), "no jitter in doubt");
}

proptest! {
    /// Whatever comes: never two rounds at once, time to wake is never forgotten, the state follows a long enough
    /// run of equal verdicts.
    #[test]
    fn settles_on_what_it_is_told(events in prop::collection::vec((0u8..8, 0u64..90), 0..60), good in any::<bool>(),
                                  hold in 0u64..30, damping in 0u64..20, immediate in any::<bool>()) {
        let timing = Timing {
            hold_time: S * u32::try_from(hold).unwrap(),
            flap_damping: S * u32::try_from(damping).unwrap(),
            link_loss: if immediate { LinkLoss::Immediate } else { LinkLoss::Probe },
            online_threshold: 2,
            ..shipped()
        };
        let mut rule = Rule::new(timing, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut running = false;
        let mut feed = |rule: &mut Rule, observation, now| {
            let link_back = observation == Observation::LinkChanged;
            if matches!(observation, Observation::Round(..)) { running = false; }
            for action in rule.on(observation, now, 0.5) {
                if action == Action::Probe {
                    assert!(!running || link_back);
                    running = true;
                }
            }
            running
        };
        let mut busy = feed(&mut rule, Observation::Time, now);
        for (kind, wait) in events {
            now += S * u32::try_from(wait).unwrap();
            let observation = match kind {
                0 if busy => Observation::Round(Verdict::Online, String::new()),
                1 | 2 if busy => Observation::Round(Verdict::Offline, String::new()),
                3 if busy => Observation::Round(Verdict::Portal, String::new()),
                4 => Observation::LinkLost("gone".to_owned()),
                5 => Observation::LinkChanged,
                6 => Observation::CheckNow,
                _ => Observation::Time,
            };
            busy = feed(&mut rule, observation, now);
        }
        busy = feed(&mut rule, Observation::LinkChanged, now);
        let (verdict, wanted) = if good { (Verdict::Online, State::Online) } else { (Verdict::Offline, State::Offline) };
        let end = now + MAX_DAMPING * 2;
        while now < end {
            if busy {
                busy = feed(&mut rule, Observation::Round(verdict, String::new()), now);
            } else {
                let at = rule.wake_at(now).expect("a rule always has a next round");
                now = at.max(now + Duration::from_millis(1));
                busy = feed(&mut rule, Observation::Time, now);
            }
        }
        prop_assert_eq!(rule.state(), wanted);
    }
}

#[test]
fn a_round_that_could_not_be_made_says_nothing_and_comes_again() {
    let mut rule = Rule::new(original(60, 1), Duration::ZERO);
    assert_eq!(rule.on(Observation::Time, S, 0.0), [Action::Probe]);
    assert_eq!(rule.on(Observation::NotMade, S * 2, 0.0), []);
    assert_eq!((rule.state(), rule.next_round()), (State::Unknown, Some(S * 62)));
    rule.retime(shipped(), S * 10);
    assert_eq!(rule.on(Observation::Time, S * 10, 0.0), [Action::Probe]);
    assert_eq!(rule.on(Observation::NotMade, S * 10, 0.0), []);
    assert_eq!(rule.next_round(), Some(S * 12));
    // Late, and of no use any more.
    assert_eq!(rule.on(Observation::NotMade, S * 11, 0.0), []);
    assert_eq!(rule.next_round(), Some(S * 12));
}
