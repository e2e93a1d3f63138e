// SPDX-License-Identifier: Apache-2.0
//! The outbox as a pure state machine: what waits for which sink, what storm control holds back, what was lost.
//!
//! Every change is a [`Record`]: decided, appended to [`Outbox::take_log`] and applied by the same function that applies
//! a journal on start, so that what is restored is what was. No file, no clock, no socket in here.

mod codec;
mod message;
mod policy;
pub(crate) mod record;
mod storm;
#[cfg(test)]
mod tests;

use crate::backoff;
use crate::{Alert, Severity};
use codec::Input;
use message::clip;
pub(crate) use message::{Cure, Failure, Losses, Message, Next, Now};
use openwrt::small_map::SmallMap;
pub use policy::SinkKind;
pub(crate) use policy::{Policy, Route, SinkSet};
use record::{Record, Role};
use std::time::Duration;
use storm::Storm;

/// Storms remembered per sink; kinds beyond share one.
const STORMS: usize = 24;
const OTHER_KINDS: &str = "other";
/// What an entry costs beside its bytes.
const ENTRY_OVERHEAD: usize = 64;
/// A message that its server calls malformed is given up after so many attempts.
const REFUSALS: u32 = 3;
const HOUR_MS: i64 = 60 * 60 * 1000;
/// Clocks jump: no stored time moves a window further than this.
const LONGEST_WINDOW_MS: i64 = 24 * HOUR_MS;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    policy: Policy,
    entries: SmallMap<u64, Entry>,
    next_seq: u64,
    bytes: usize,
    sinks: [Sink; 4],
    log: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    severity: Severity,
    /// Monotonic milliseconds; before the origin when it is older than this process.
    queued: i64,
    /// Who still waits for it.
    sinks: SinkSet,
    original_sinks: SinkSet,
    /// Its record as it lies in the journal.
    frame: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Sink {
    in_flight: Option<u64>,
    /// Monotonic milliseconds before which no attempt is made.
    retry_at: i64,
    /// The server named `retry_at` itself: a returned link does not change it.
    server_said: bool,
    failures: u32,
    refusals: u32,
    storms: Vec<Storm>,
    /// Not told yet.
    losses: Losses,
    /// Told or not, since this process started.
    dropped: u32,
    /// Token bucket of the rate limit: spent tokens in milliseconds of refill, and when that was true.
    spent: f64,
    spent_at: i64,
}

impl Outbox {
    /// What a journal says, together with the length of its whole part.
    pub(crate) fn restore(policy: Policy, journal: &[u8], now: Now) -> (Self, usize) {
        let mut outbox = Self {
            policy,
            entries: SmallMap::new(),
            next_seq: 0,
            bytes: 0,
            sinks: Default::default(),
            log: Vec::new(),
        };
        let whole = record::read(journal, |record, frame| outbox.apply(&record, frame, now));
        (outbox, whole)
    }

    /// Another policy from now on. What waits for a sink that is switched off is discarded; returns how many alerts.
    pub(crate) fn set_policy(&mut self, policy: Policy, now: Now) -> usize {
        self.policy = policy;
        let mut off = SinkSet::default();
        for sink in SinkKind::ALL {
            if self.policy.routes[sink as usize].is_none() {
                off.insert(sink);
                self.sinks[sink as usize] = Sink::default();
            }
        }
        let given_up: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.sinks.and(off).is_empty())
            .map(|(&seq, _)| seq)
            .collect();
        for &seq in &given_up {
            self.record(&Record::Gone { seq, sinks: off }, now);
        }
        self.make_room(now);
        given_up.len()
    }

    /// Takes an alert in: queued, held back or not wanted, per sink.
    pub(crate) fn raise(&mut self, mut alert: Alert, now: Now) {
        clip(&mut alert);
        self.tick(now);
        let mut pass = SinkSet::default();
        let mut hold: Vec<(i64, SinkSet)> = Vec::new();
        for sink in SinkKind::ALL {
            if !self.policy.routes[sink as usize].as_ref().is_some_and(|route| route.wants(&alert)) {
                continue;
            }
            match self.hold_until(sink, &alert, now) {
                None => pass.insert(sink),
                Some(until) => match hold.iter_mut().find(|(other, _)| *other == until) {
                    Some((_, sinks)) => sinks.insert(sink),
                    None => hold.push((until, SinkSet::of(sink))),
                },
            }
        }
        if !pass.is_empty() {
            let role = match alert.recovers.is_some() || self.policy.window.is_zero() || alert.summary {
                true => Role::Plain,
                false => Role::OpensWindow,
            };
            self.queue(pass, role, &alert.kind, &alert, now);
        }
        for (until, sinks) in hold {
            // Only the first of a digest is kept whole.
            let first = sinks.iter().any(|sink| self.held_count(sink, &alert.kind) == 0);
            let bytes = match first {
                true => to_bytes(&alert),
                false => to_bytes(&Alert { facts: Vec::new(), attachments: Vec::new(), ..alert.clone() }),
            };
            self.record(&Record::Held { sinks, until_ms: now.wall_of(until), alert: &bytes }, now);
        }
        self.make_room(now);
    }

    /// What `sink` is to do.
    pub(crate) fn next(&mut self, sink: SinkKind, now: Now) -> Next {
        self.tick(now);
        let Some(route) = self.policy.routes[sink as usize].as_ref() else { return Next::Idle };
        let quiet_ms = self.quiet_ms(route, now);
        let state = &self.sinks[sink as usize];
        if state.in_flight.is_some() {
            return Next::Idle;
        }
        let held = state.storms.iter().filter(|storm| storm.held.is_some());
        let mut wake = held.map(|storm| storm.until).min();
        loop {
            let state = &mut self.sinks[sink as usize];
            let waiting = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.sinks.contains(sink))
                .find(|(_, entry)| quiet_ms.is_none() || entry.severity == Severity::Critical);
            let Some((&seq, entry)) = waiting else { break };
            if now.mono_ms < state.retry_at {
                wake = Some(earlier(wake, state.retry_at));
                break;
            }
            if let Some(alert) = entry.alert() {
                state.in_flight = Some(seq);
                return Next::Deliver(Box::new(Message { seq, alert, losses: state.losses }));
            }
            // Its check sum is right, but it holds what this version cannot read.
            self.lose(seq, SinkSet::of(sink), |losses| losses.refused += 1, now);
        }
        if let Some(quiet_ms) = quiet_ms.filter(|_| self.queued(sink) > 0) {
            wake = Some(earlier(wake, now.mono_ms + quiet_ms));
        }
        wake.map_or(Next::Idle, Next::At)
    }

    /// The sink has acknowledged `message`.
    pub(crate) fn delivered(&mut self, sink: SinkKind, message: &Message, now: Now) {
        let state = &mut self.sinks[sink as usize];
        state.in_flight = None;
        state.failures = 0;
        state.refusals = 0;
        state.retry_at = now.mono_ms;
        self.record(&Record::Gone { seq: message.seq, sinks: SinkSet::of(sink) }, now);
        if message.losses.total() > 0 {
            self.record_losses(sink, self.sinks[sink as usize].losses.minus(message.losses), now);
        }
    }

    /// The attempt failed; `random` (0..1) spreads the next one.
    pub(crate) fn failed(&mut self, sink: SinkKind, seq: u64, cure: Cure, now: Now, random: f64) {
        let state = &mut self.sinks[sink as usize];
        state.in_flight = None;
        if cure == Cure::Again {
            return;
        }
        state.refusals = if cure == Cure::Drop { state.refusals + 1 } else { 0 };
        if state.refusals >= REFUSALS {
            state.refusals = 0;
            state.failures = 0;
            return self.lose(seq, SinkSet::of(sink), |losses| losses.refused += 1, now);
        }
        let delay = millis(backoff::delay(state.failures, random));
        state.failures = state.failures.saturating_add(1);
        state.server_said = false;
        state.retry_at = now.mono_ms + delay;
        if let Cure::RetryAfter(wait) = cure {
            let wait = millis(wait).min(HOUR_MS);
            state.server_said = true;
            state.retry_at = state.retry_at.max(now.mono_ms + wait);
        }
    }

    /// The network is back: sinks that wait for their next attempt make it now.
    pub(crate) fn connectivity_returned(&mut self, now: Now) {
        for state in &mut self.sinks {
            state.failures = 0;
            if !state.server_said {
                state.retry_at = now.mono_ms;
            }
        }
    }

    /// Alerts that wait for `sink`.
    pub(crate) fn queued(&self, sink: SinkKind) -> usize {
        self.entries.values().filter(|entry| entry.sinks.contains(sink)).count()
    }

    /// Alerts that storm control holds back for `sink`.
    pub(crate) fn held(&self, sink: SinkKind) -> u32 {
        self.sinks[sink as usize].storms.iter().map(Storm::held_count).sum()
    }

    /// Alerts that will never arrive at `sink`, since this process started.
    pub(crate) fn dropped(&self, sink: SinkKind) -> u32 {
        self.sinks[sink as usize].dropped
    }

    /// `count` alerts did not even reach the outbox.
    pub(crate) fn lost_before_queueing(&mut self, count: u32, now: Now) {
        for sink in self.on().iter() {
            let mut losses = self.sinks[sink as usize].losses;
            losses.full = losses.full.saturating_add(count);
            self.sinks[sink as usize].dropped += count;
            self.record_losses(sink, losses, now);
        }
    }

    /// The sink has another address now: it is tried at once.
    pub(crate) fn address_changed(&mut self, sink: SinkKind, now: Now) {
        let state = &mut self.sinks[sink as usize];
        (state.failures, state.refusals, state.server_said) = (0, 0, false);
        state.retry_at = now.mono_ms;
    }

    /// Milliseconds until the next attempt of `sink`, when it waits for one.
    pub(crate) fn retry_in_ms(&self, sink: SinkKind, now: Now) -> Option<i64> {
        let state = &self.sinks[sink as usize];
        (self.queued(sink) > 0 && state.failures > 0).then(|| (state.retry_at - now.mono_ms).max(0))
    }

    /// Frames to append to the journal before anything is sent.
    pub(crate) fn take_log(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.log)
    }

    /// The whole state as a journal.
    pub(crate) fn snapshot(&self, now: Now) -> Vec<u8> {
        let mut journal = Vec::with_capacity(self.bytes + 1024);
        journal.extend_from_slice(record::MAGIC);
        for (&seq, entry) in self.entries.iter() {
            journal.extend_from_slice(&entry.frame);
            let gone = entry.original_sinks.minus(entry.sinks);
            if !gone.is_empty() {
                Record::Gone { seq, sinks: gone }.encode(&mut journal);
            }
        }
        // After the entries: a queued record opens its window anew.
        for sink in SinkKind::ALL {
            let state = &self.sinks[sink as usize];
            let sinks = SinkSet::of(sink);
            for storm in &state.storms {
                let mut state = Vec::new();
                storm.write(&mut state);
                let until_ms = now.wall_of(storm.until);
                Record::Storm { sinks, until_ms, state: &state }.encode(&mut journal);
            }
            let Losses { full, expired, refused } = state.losses;
            if state.losses.total() > 0 {
                Record::Losses { sinks, full, expired, refused }.encode(&mut journal);
            }
        }
        journal
    }

    /// Until when the alert is held back at `sink`, if it is.
    fn hold_until(&mut self, sink: SinkKind, alert: &Alert, now: Now) -> Option<i64> {
        let quiet = self.policy.routes[sink as usize]
            .as_ref()
            .and_then(|route| self.quiet_ms(route, now))
            .filter(|_| alert.severity < Severity::Critical);
        let window = millis(self.policy.window);
        let passes = alert.recovers.is_some() || alert.summary;
        if !passes {
            if let Some(quiet_ms) = quiet.filter(|_| window > 0) {
                return Some(now.mono_ms + quiet_ms);
            }
            if let Some(storm) = self.storm(sink, &alert.kind).filter(|_| window > 0) {
                return Some(storm.until);
            }
        }
        match self.take_token(sink, passes, now) {
            Ok(()) => None,
            Err(free_at) => Some(free_at.max(now.mono_ms + window)),
        }
    }

    /// Ends windows and waits: digests are queued, expired alerts leave.
    fn tick(&mut self, now: Now) {
        for sink in SinkKind::ALL {
            while let Some(index) =
                self.sinks[sink as usize].storms.iter().position(|storm| storm.until <= now.mono_ms)
            {
                self.end_window(sink, index, now);
            }
        }
        let expiry = millis(self.policy.expiry);
        let expired = |outbox: &Self| {
            let mut entries = outbox.entries.iter();
            entries
                .find(|(seq, entry)| now.mono_ms - entry.queued > expiry && !outbox.is_in_flight(**seq))
                .map(|(&seq, entry)| (seq, entry.sinks))
        };
        while let Some((seq, sinks)) = expired(self) {
            self.lose(seq, sinks, |losses| losses.expired += 1, now);
        }
    }

    fn end_window(&mut self, sink: SinkKind, index: usize, now: Now) {
        let storm = &self.sinks[sink as usize].storms[index];
        let Some(held) = &storm.held else {
            self.sinks[sink as usize].storms.swap_remove(index);
            return;
        };
        let critical = held.severity == Severity::Critical;
        let route = self.policy.routes[sink as usize].as_ref();
        let postponed = match route.and_then(|route| self.quiet_ms(route, now)) {
            Some(quiet_ms) if !critical => Some(now.mono_ms + quiet_ms),
            _ => self.take_token(sink, false, now).err(),
        };
        let storm = &mut self.sinks[sink as usize].storms[index];
        if let Some(until) = postponed {
            storm.until = until;
            return;
        }
        if let Some(held) = storm.held.take() {
            let kind = storm.kind.clone();
            self.queue(SinkSet::of(sink), Role::IsDigest, &kind, &held.into_digest(now), now);
            self.make_room(now);
        }
    }

    fn queue(&mut self, sinks: SinkSet, role: Role, kind: &str, alert: &Alert, now: Now) {
        let bytes = to_bytes(alert);
        let record = Record::Queued {
            seq: self.next_seq,
            sinks,
            severity: alert.severity,
            role,
            queued_ms: now.wall_ms,
            kind,
            alert: &bytes,
        };
        self.record(&record, now);
    }

    /// When full, the least severe and oldest goes first.
    fn make_room(&mut self, now: Now) {
        loop {
            let storms: usize = self.sinks.iter().flat_map(|sink| &sink.storms).map(Storm::cost).sum();
            if self.bytes + storms <= self.policy.capacity {
                return;
            }
            let victim = self
                .entries
                .iter()
                .filter(|(&seq, _)| !self.is_in_flight(seq))
                .min_by_key(|(&seq, entry)| (entry.severity, seq))
                .map(|(&seq, entry)| (seq, entry.sinks));
            let Some((seq, sinks)) = victim else { return };
            self.lose(seq, sinks, |losses| losses.full += 1, now);
        }
    }

    fn lose(&mut self, seq: u64, sinks: SinkSet, count: impl Fn(&mut Losses), now: Now) {
        self.record(&Record::Gone { seq, sinks }, now);
        for sink in sinks.and(self.on()).iter() {
            let mut losses = self.sinks[sink as usize].losses;
            count(&mut losses);
            self.sinks[sink as usize].dropped += 1;
            self.record_losses(sink, losses, now);
        }
    }

    fn record_losses(&mut self, sink: SinkKind, losses: Losses, now: Now) {
        let Losses { full, expired, refused } = losses;
        self.record(&Record::Losses { sinks: SinkSet::of(sink), full, expired, refused }, now);
    }

    fn record(&mut self, record: &Record<'_>, now: Now) {
        let start = self.log.len();
        record.encode(&mut self.log);
        let frame: Box<[u8]> = match record {
            Record::Queued { .. } => self.log[start..].into(),
            _ => Box::default(),
        };
        self.apply(record, &frame, now);
    }

    fn apply(&mut self, record: &Record<'_>, frame: &[u8], now: Now) {
        match *record {
            Record::Queued { seq, sinks, severity, role, queued_ms, kind, alert } => {
                let age = (now.wall_ms.saturating_sub(queued_ms)).max(0);
                let queued = now.mono_ms - age;
                if role != Role::Plain {
                    let until = queued + millis(self.policy.window);
                    for sink in sinks.iter() {
                        let storm = self.storm_entry(sink, kind);
                        storm.until = until;
                        storm.held = None;
                    }
                }
                self.next_seq = self.next_seq.max(seq.saturating_add(1));
                self.bytes += frame.len() + ENTRY_OVERHEAD;
                if role == Role::Plain {
                    if let Some(Alert { recovers: Some(id), .. }) = Input(alert).alert() {
                        self.recovered(&id);
                    }
                }
                let entry = Entry { severity, queued, sinks, original_sinks: sinks, frame: frame.into() };
                if let Some(old) = self.entries.insert(seq, entry) {
                    self.bytes -= old.frame.len() + ENTRY_OVERHEAD;
                }
            }
            Record::Gone { seq, sinks } => {
                let Some(entry) = self.entries.get_mut(&seq) else { return };
                entry.sinks = entry.sinks.minus(sinks);
                if entry.sinks.is_empty() {
                    self.bytes -= entry.frame.len() + ENTRY_OVERHEAD;
                    self.entries.remove(&seq);
                }
            }
            Record::Held { sinks, until_ms, alert } => {
                let Some(alert) = Input(alert).alert() else { return };
                let until = stored_time(until_ms, now);
                if let Some(id) = &alert.recovers {
                    self.recovered(id);
                }
                for sink in sinks.iter() {
                    let storm = self.storm_entry(sink, &alert.kind);
                    storm.until = until;
                    storm.fold(&alert);
                }
            }
            Record::Storm { sinks, until_ms, state } => {
                let Some(state) = Storm::read(state, stored_time(until_ms, now)) else { return };
                for sink in sinks.iter() {
                    *self.storm_entry(sink, &state.kind) = state.clone();
                }
            }
            Record::Losses { sinks, full, expired, refused } => {
                for sink in sinks.iter() {
                    self.sinks[sink as usize].losses = Losses { full, expired, refused };
                }
            }
        }
    }

    fn on(&self) -> SinkSet {
        let mut on = SinkSet::default();
        for sink in SinkKind::ALL {
            if self.policy.routes[sink as usize].is_some() {
                on.insert(sink);
            }
        }
        on
    }

    fn recovered(&mut self, id: &str) {
        self.sinks.iter_mut().flat_map(|sink| &mut sink.storms).for_each(|storm| storm.recovered(id));
    }

    fn is_in_flight(&self, seq: u64) -> bool {
        self.sinks.iter().any(|sink| sink.in_flight == Some(seq))
    }

    fn quiet_ms(&self, route: &Route, now: Now) -> Option<i64> {
        let local_ms = now.wall_ms.saturating_add(i64::from(now.utc_offset_s) * 1000);
        self.policy.quiet_hours.filter(|_| route.quiet)?.remaining_ms(local_ms)
    }

    fn held_count(&self, sink: SinkKind, kind: &str) -> u32 {
        self.storm(sink, kind).map_or(0, Storm::held_count)
    }

    fn storm(&self, sink: SinkKind, kind: &str) -> Option<&Storm> {
        let storms = &self.sinks[sink as usize].storms;
        let of = |kind: &str| storms.iter().find(|storm| storm.kind == kind);
        of(kind).or_else(|| of(OTHER_KINDS).filter(|_| storms.len() >= STORMS))
    }

    fn storm_entry(&mut self, sink: SinkKind, kind: &str) -> &mut Storm {
        let storms = &mut self.sinks[sink as usize].storms;
        let position = |storms: &[Storm], kind: &str| storms.iter().position(|storm| storm.kind == kind);
        let (index, kind) = match position(storms, kind) {
            Some(index) => (Some(index), kind),
            None if storms.len() < STORMS => (None, kind),
            None => (position(storms, OTHER_KINDS), OTHER_KINDS),
        };
        let index = index.unwrap_or_else(|| {
            storms.push(Storm { kind: kind.to_owned(), until: 0, held: None });
            storms.len() - 1
        });
        &mut storms[index]
    }

    /// One message of the hourly allowance, or when there is one. A quarter is kept for recoveries and summaries.
    fn take_token(&mut self, sink: SinkKind, reserve: bool, now: Now) -> Result<(), i64> {
        if self.policy.rate == 0 {
            return Ok(());
        }
        let rate = f64::from(self.policy.rate);
        #[allow(clippy::cast_precision_loss)] // milliseconds of an hour
        let per_ms = rate / HOUR_MS as f64;
        let state = &mut self.sinks[sink as usize];
        #[allow(clippy::cast_precision_loss)] // uptime in milliseconds
        let passed = (now.mono_ms - state.spent_at).max(0) as f64;
        state.spent = (state.spent - passed * per_ms).max(0.0);
        state.spent_at = now.mono_ms;
        let allowance = if reserve { rate } else { (rate * 0.75).max(1.0) };
        let missing = state.spent + 1.0 - allowance;
        if missing <= 1e-9 {
            state.spent += 1.0;
            return Ok(());
        }
        #[allow(clippy::cast_possible_truncation)] // at most some hours
        Err(now.mono_ms + (missing / per_ms).ceil() as i64)
    }
}

impl Entry {
    fn alert(&self) -> Option<Alert> {
        let mut journal = record::MAGIC.to_vec();
        journal.extend_from_slice(&self.frame);
        let mut alert = None;
        record::read(&journal, |record, _| {
            if let Record::Queued { alert: bytes, .. } = record {
                alert = Input(bytes).alert();
            }
        });
        alert
    }
}

/// A restart on any bytes: what is whole in them is restored, and restored again from its own snapshot.
pub(crate) fn fuzz(bytes: &[u8]) -> usize {
    let now = Now { mono_ms: 0, wall_ms: 1_795_176_000_000, utc_offset_s: 0 };
    let route =
        Route { min_severity: Severity::Info, kinds: Vec::new(), events: true, summaries: true, quiet: true };
    let policy = Policy {
        routes: std::array::from_fn(|_| Some(route.clone())),
        window: Duration::from_secs(600),
        rate: 60,
        expiry: Duration::from_secs(7 * 24 * 3600),
        quiet_hours: None,
        capacity: 192 * 1024,
    };
    let (mut outbox, whole) = Outbox::restore(policy.clone(), bytes, now);
    let (again, _) = Outbox::restore(policy, &outbox.snapshot(now), now);
    for sink in SinkKind::ALL {
        assert_eq!((outbox.queued(sink), outbox.held(sink)), (again.queued(sink), again.held(sink)));
    }
    for sink in SinkKind::ALL {
        outbox.next(sink, now);
    }
    whole
}

fn to_bytes(alert: &Alert) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::write_alert(alert, &mut bytes);
    bytes
}

fn stored_time(wall_ms: i64, now: Now) -> i64 {
    now.mono_ms + wall_ms.saturating_sub(now.wall_ms).clamp(0, LONGEST_WINDOW_MS)
}

fn earlier(wake: Option<i64>, at: i64) -> i64 {
    wake.map_or(at, |wake| wake.min(at))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
