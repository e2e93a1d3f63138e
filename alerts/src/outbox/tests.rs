// SPDX-License-Identifier: Apache-2.0
//! The outbox under a clock of the test's own.

use super::*;
use crate::Worst;
use time::OffsetDateTime;

const MINUTE: i64 = 60_000;

/// 2026-11-20 12:00:00 UTC.
const NOON: i64 = 1_795_176_000_000;

fn at(ms: i64) -> Now {
    Now { mono_ms: ms, wall_ms: NOON + ms, utc_offset_s: 0 }
}

fn route(quiet: bool) -> Route {
    Route { min_severity: Severity::Info, kinds: Vec::new(), events: true, summaries: true, quiet }
}

fn policy() -> Policy {
    Policy {
        routes: [Some(route(true)), Some(route(false)), None, None],
        window: Duration::from_secs(600),
        rate: 0,
        expiry: Duration::from_secs(7 * 24 * 3600),
        quiet_hours: None,
        capacity: 100_000,
    }
}

fn outbox(policy: Policy) -> Outbox {
    Outbox::restore(policy, b"", at(0)).0
}

fn alert(kind: &str, id: &str, ms: i64) -> Alert {
    let when = OffsetDateTime::from_unix_timestamp_nanos(i128::from(NOON + ms) * 1_000_000).unwrap();
    Alert { id: id.into(), ..Alert::new(kind, Severity::Warning, format!("{kind} happened"), when) }
}

/// The next message of a sink, acknowledged.
fn take(outbox: &mut Outbox, sink: SinkKind, ms: i64) -> Option<Message> {
    match outbox.next(sink, at(ms)) {
        Next::Deliver(message) => {
            outbox.delivered(sink, &message, at(ms));
            Some(*message)
        }
        Next::At(_) | Next::Idle => None,
    }
}

fn ids(outbox: &mut Outbox, sink: SinkKind, ms: i64) -> Vec<String> {
    std::iter::from_fn(|| take(outbox, sink, ms)).map(|message| message.alert.id).collect()
}

/// What a restart at `ms` makes of the journal that was written so far.
fn restarted(journal: &[u8], policy: Policy, ms: i64) -> Outbox {
    let (outbox, whole) = Outbox::restore(policy, journal, at(ms));
    assert_eq!(whole, journal.len());
    outbox
}

#[test]
fn oldest_first_and_each_sink_for_itself() {
    let mut outbox = outbox(policy());
    for (index, kind) in ["a", "b", "c"].into_iter().enumerate() {
        outbox.raise(alert(kind, &index.to_string(), 0), at(0));
    }
    let Next::Deliver(stuck) = outbox.next(SinkKind::Slack, at(1)) else { panic!("nothing to send") };
    assert_eq!(stuck.alert.id, "0");
    assert!(matches!(outbox.next(SinkKind::Slack, at(1)), Next::Idle), "one at a time");
    assert_eq!(ids(&mut outbox, SinkKind::Mqtt, 1), ["0", "1", "2"]);
    outbox.delivered(SinkKind::Slack, &stuck, at(2));
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 2), ["1", "2"]);
    assert_eq!(outbox.bytes, 0);
}

#[test]
fn a_failed_attempt_is_repeated_with_growing_delay() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("a", "1", 0), at(0));
    let mut ms = 0;
    for expected in [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        let Next::Deliver(message) = outbox.next(SinkKind::Slack, at(ms)) else { panic!("not due") };
        outbox.failed(SinkKind::Slack, message.seq, Cure::Retry, at(ms), 0.5);
        let Next::At(wake) = outbox.next(SinkKind::Slack, at(ms)) else { panic!("due at once") };
        assert_eq!(wake - ms, expected * 1000);
        assert!(matches!(outbox.next(SinkKind::Slack, at(wake - 1)), Next::At(_)));
        ms = wake;
    }
    outbox.failed(SinkKind::Slack, 0, Cure::Retry, at(ms), 0.5);
    outbox.connectivity_returned(at(ms + 5));
    assert_eq!(ids(&mut outbox, SinkKind::Slack, ms + 5), ["1"]);
}

#[test]
fn a_server_that_names_a_time_is_obeyed_even_when_the_link_returns() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("a", "1", 0), at(0));
    let Next::Deliver(message) = outbox.next(SinkKind::Slack, at(0)) else { panic!("nothing to send") };
    outbox.failed(SinkKind::Slack, message.seq, Cure::RetryAfter(Duration::from_secs(30)), at(0), 0.0);
    outbox.connectivity_returned(at(1000));
    assert!(matches!(outbox.next(SinkKind::Slack, at(29_999)), Next::At(30_000)));
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 30_000), ["1"]);
}

#[test]
fn a_message_that_its_server_calls_malformed_does_not_block_the_others() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("a", "bad", 0), at(0));
    outbox.raise(alert("b", "good", 0), at(0));
    let mut ms = 0;
    for _ in 0..3 {
        let Next::Deliver(message) = outbox.next(SinkKind::Slack, at(ms)) else { panic!("not due") };
        assert_eq!(message.alert.id, "bad");
        outbox.failed(SinkKind::Slack, message.seq, Cure::Drop, at(ms), 0.5);
        ms += 60_000;
    }
    let message = take(&mut outbox, SinkKind::Slack, ms).unwrap();
    assert_eq!((message.alert.id.as_str(), message.losses.refused), ("good", 1));
    assert_eq!(ids(&mut outbox, SinkKind::Mqtt, ms), ["bad", "good"], "other sinks get it");
}

#[test]
fn first_at_once_then_an_exact_digest_per_window() {
    let mut outbox = outbox(policy());
    for index in 0..=41 {
        let dip = alert("dip", &index.to_string(), i64::from(index) * 10_000);
        let dip = dip.measure(85.0 - f64::from(index % 7), "%", Worst::Lowest);
        outbox.raise(dip, at(i64::from(index) * 10_000));
    }
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 420_000), ["0"]);
    assert_eq!(outbox.held(SinkKind::Slack), 41);
    assert!(matches!(outbox.next(SinkKind::Slack, at(420_000)), Next::At(600_000)));
    let digest = take(&mut outbox, SinkKind::Slack, 600_000).unwrap().alert;
    assert_eq!(digest.subject, "41 × dip between 12:00 and 12:06, worst 79 %");
    assert_eq!(digest.digest.as_ref().map(|digest| digest.count), Some(41));
    // The window goes on: what comes next is held again, a lone one is itself.
    outbox.raise(alert("dip", "late", 601_000), at(601_000));
    assert!(take(&mut outbox, SinkKind::Slack, 602_000).is_none());
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 1_200_000), ["late"]);
    // After a quiet window the next one passes at once.
    outbox.raise(alert("dip", "again", 1_900_000), at(1_900_000));
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 1_900_000), ["again"]);
}

#[test]
fn a_recovery_passes_and_the_digest_knows_of_it() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("offline", "1", 0), at(0));
    outbox.raise(alert("offline", "2", 10), at(10));
    outbox.raise(alert("offline", "3", 20), at(20));
    outbox.raise(alert("online", "4", 30).recovers("3"), at(30));
    assert_eq!(ids(&mut outbox, SinkKind::Mqtt, 30), ["1", "4"]);
    let digest = take(&mut outbox, SinkKind::Mqtt, 10 * MINUTE).unwrap().alert;
    assert_eq!(digest.digest.unwrap().count, 2);
    assert_eq!(digest.facts.last().map(|fact| fact.value.as_str()), Some("recovered"));
}

#[test]
fn the_hourly_allowance_is_a_ceiling_with_a_reserve_for_recoveries() {
    let mut outbox = outbox(Policy { rate: 8, ..policy() });
    for index in 0..100 {
        outbox.raise(alert(&format!("kind_{index}"), &index.to_string(), 0), at(0));
    }
    outbox.raise(alert("online", "back", 0).recovers("1"), at(0));
    let sent = ids(&mut outbox, SinkKind::Slack, 0);
    assert_eq!(sent, ["0", "1", "2", "3", "4", "5", "back"]);
    assert_eq!(outbox.held(SinkKind::Slack), 94);
    let mut told = 0;
    let mut messages = 0;
    for minute in 1..=24 * 60 {
        while let Some(message) = take(&mut outbox, SinkKind::Slack, minute * MINUTE) {
            messages += 1;
            told += message.alert.digest.map_or(1, |digest| digest.count);
        }
        assert!(messages <= 8 + minute * 8 / 60 + 1, "{messages} messages in {minute} min");
    }
    assert_eq!(told, 94, "none of them is lost");
}

#[test]
fn quiet_hours_let_only_critical_alerts_through_to_people() {
    let mut outbox = outbox(Policy { quiet_hours: "11:00-13:00".parse().ok(), ..policy() });
    outbox.raise(alert("dip", "1", 0), at(0));
    outbox.raise(alert("dip", "2", 0), at(0));
    let critical = Alert { severity: Severity::Critical, ..alert("fire", "3", 0) };
    outbox.raise(critical, at(0));
    assert_eq!(ids(&mut outbox, SinkKind::Slack, 0), ["3"]);
    assert_eq!(ids(&mut outbox, SinkKind::Mqtt, 0), ["1", "3"], "a broker does not sleep");
    assert!(matches!(outbox.next(SinkKind::Slack, at(0)), Next::At(at) if at == 60 * MINUTE));
    let morning = take(&mut outbox, SinkKind::Slack, 60 * MINUTE).unwrap();
    assert_eq!(morning.alert.digest.unwrap().count, 2);
}

#[test]
fn filters_choose_severity_kind_and_summaries() {
    let mut policy = policy();
    policy.routes = [
        Some(Route { min_severity: Severity::Critical, ..route(false) }),
        Some(Route { kinds: vec!["swell".into()], ..route(false) }),
        Some(Route { events: false, ..route(false) }),
        Some(Route { summaries: false, ..route(false) }),
    ];
    let mut outbox = outbox(policy);
    outbox.raise(alert("dip", "dip", 0), at(0));
    outbox.raise(alert("swell", "swell", 0), at(0));
    outbox.raise(Alert { severity: Severity::Critical, ..alert("fire", "fire", 0) }, at(0));
    outbox.raise(Alert { summary: true, ..alert("week", "week", 0) }, at(0));
    let got = SinkKind::ALL.map(|sink| ids(&mut outbox, sink, 0).join(" "));
    assert_eq!(got, ["fire", "swell", "week", "dip swell fire"]);
}

#[test]
fn when_full_the_least_severe_and_oldest_go_and_the_next_message_says_so() {
    let mut outbox = outbox(Policy { capacity: 4_000, window: Duration::ZERO, ..policy() });
    for index in 0..40 {
        let severity = if index % 4 == 0 { Severity::Critical } else { Severity::Info };
        outbox.raise(Alert { severity, ..alert("a", &index.to_string(), 0) }, at(0));
    }
    let first = take(&mut outbox, SinkKind::Slack, 0).unwrap();
    assert!(first.losses.full > 0);
    let rest: Vec<_> = std::iter::from_fn(|| take(&mut outbox, SinkKind::Slack, 0)).collect();
    assert!(rest.iter().all(|message| message.losses.total() == 0), "told once");
    assert_eq!(first.losses.full as usize + 1 + rest.len(), 40);
    let kept: Vec<_> = std::iter::once(&first).chain(&rest).collect();
    let critical = kept.iter().filter(|message| message.alert.severity == Severity::Critical).count();
    assert_eq!(critical, 10, "no critical one goes while others are there");
    let others: Vec<usize> = kept
        .iter()
        .filter(|message| message.alert.severity == Severity::Info)
        .map(|message| message.alert.id.parse().unwrap())
        .collect();
    assert_eq!(others.last(), Some(&39), "the newest stay: {others:?}");
}

#[test]
fn old_alerts_expire_and_are_counted() {
    let mut outbox = outbox(Policy { expiry: Duration::from_secs(3600), ..policy() });
    outbox.raise(alert("a", "old", 0), at(0));
    outbox.raise(alert("b", "new", 0), at(50 * MINUTE));
    let message = take(&mut outbox, SinkKind::Mqtt, 61 * MINUTE).unwrap();
    assert_eq!((message.alert.id.as_str(), message.losses.expired), ("new", 1));
}

#[test]
fn a_clock_that_is_set_does_not_expire_what_waits() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("a", "1", 0), at(0));
    // NTP came: six years later by the wall, a minute by the monotonic clock.
    let later = Now { mono_ms: MINUTE, wall_ms: NOON + 6 * 365 * 24 * 60 * MINUTE, utc_offset_s: 0 };
    assert!(matches!(outbox.next(SinkKind::Mqtt, later), Next::Deliver(_)));
}

#[test]
fn a_restart_loses_nothing_wherever_it_happens() {
    let mut outbox = outbox(policy());
    let mut journal = record::MAGIC.to_vec();
    let mut sent = Vec::new();
    for step in 0..200_i64 {
        let ms = step * 20_000;
        if step % 3 != 2 {
            let kind = ["dip", "swell", "rvc"][usize::try_from(step).unwrap() % 3];
            outbox.raise(alert(kind, &step.to_string(), ms), at(ms));
        }
        if step % 5 == 0 {
            sent.extend(take(&mut outbox, SinkKind::Slack, ms));
        }
        journal.extend(outbox.take_log());
        let again = restarted(&journal, policy(), ms);
        let compacted = restarted(&outbox.snapshot(at(ms)), policy(), ms);
        for other in [&again, &compacted] {
            for sink in SinkKind::ALL {
                assert_eq!(other.queued(sink), outbox.queued(sink), "step {step}");
                assert_eq!(other.held(sink), outbox.held(sink), "step {step}");
            }
        }
        // Go on with what a crash would leave.
        outbox = if step % 2 == 0 { again } else { compacted };
        if step % 7 == 0 {
            journal = outbox.snapshot(at(ms));
        }
    }
    let end = 400 * 20_000;
    sent.extend(std::iter::from_fn(|| take(&mut outbox, SinkKind::Slack, end)));
    let told: u32 =
        sent.iter().map(|message| message.alert.digest.as_ref().map_or(1, |digest| digest.count)).sum();
    assert_eq!(told, 134, "every raised alert is in exactly one message");
}

#[test]
fn losses_survive_a_restart() {
    let mut outbox = outbox(Policy { expiry: Duration::from_secs(60), ..policy() });
    outbox.raise(alert("a", "old", 0), at(0));
    outbox.raise(alert("b", "new", 0), at(2 * MINUTE));
    let mut journal = record::MAGIC.to_vec();
    journal.extend(outbox.take_log());
    for journal in [&journal, &outbox.snapshot(at(2 * MINUTE))] {
        let mut outbox = restarted(journal, policy(), 2 * MINUTE);
        assert_eq!(take(&mut outbox, SinkKind::Slack, 2 * MINUTE).unwrap().losses.expired, 1);
        assert_eq!(outbox.sinks[0].losses, Losses::default());
    }
}

#[test]
fn a_sink_that_is_switched_off_gives_up_its_queue() {
    let mut outbox = outbox(policy());
    outbox.raise(alert("a", "1", 0), at(0));
    let mut without = policy();
    without.routes[SinkKind::Slack as usize] = None;
    assert_eq!(outbox.set_policy(without, at(1)), 1);
    assert_eq!(outbox.queued(SinkKind::Slack), 0);
    assert_eq!(ids(&mut outbox, SinkKind::Mqtt, 1), ["1"]);
}

#[test]
fn an_endless_storm_of_kinds_stays_within_its_memory() {
    let mut outbox = outbox(Policy { capacity: 60_000, rate: 10, ..policy() });
    for index in 0..10_000_i64 {
        let ms = index * 6;
        let long =
            alert(&format!("kind_{}", index % 977), &index.to_string(), ms).fact("x", "y".repeat(4000));
        outbox.raise(long, at(ms));
        outbox.take_log();
    }
    let snapshot = outbox.snapshot(at(MINUTE)).len();
    assert!(snapshot <= 60_000 * 4 / 3, "{snapshot}");
    let held = outbox.held(SinkKind::Slack) as usize;
    let queued = outbox.queued(SinkKind::Slack);
    let lost = outbox.sinks[0].losses.full as usize;
    assert_eq!(held + queued + lost, 10_000);
}

#[test]
fn any_bytes_are_a_journal_of_what_is_whole_in_them() {
    let mut outbox = outbox(policy());
    for index in 0..5 {
        outbox.raise(alert("a", &index.to_string(), 0), at(0));
    }
    let mut journal = record::MAGIC.to_vec();
    journal.extend(outbox.take_log());
    let mut state = 7_u32;
    for round in 0..2_000 {
        // Good check sums around damaged content, too.
        let mut damaged = journal.clone();
        for _ in 0..round % 5 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let position =
                record::MAGIC.len() + (state >> 8) as usize % (damaged.len() - record::MAGIC.len());
            damaged[position] = state as u8;
        }
        fuzz(&damaged);
        record::repair_check_sums(&mut damaged);
        fuzz(&damaged);
    }
    for cut in 0..journal.len() {
        let (outbox, whole) = Outbox::restore(policy(), &journal[..cut], at(0));
        assert!(whole <= cut && outbox.queued(SinkKind::Slack) <= 1);
    }
}
