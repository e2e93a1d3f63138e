// SPDX-License-Identifier: Apache-2.0
//! From records to a [`Summary`].

use super::week::Week;
use super::{Before, Completeness, Events, Group, Line, OutageSpan, Series, Slot, Spread, Summary, Worst};
use crate::clock::Utc;
use crate::lights;
use crate::notify::Judge;
use crate::record::{rounded, EventRecord};
use crate::records::{
    file, FlickerValue, FrequencyBlock, Header, Means, Outage, Record, Stamped, Tenth, SLOT_MS,
};
use openwrt::timezone::Zone;
use power_quality::compliance::{Account, Characteristic, Row, Verdict};
use power_quality::{en50160, Config, EventKind, NetworkType, NominalFrequency};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

/// Events that are listed one by one.
pub const MOST_LISTED: usize = 40;
/// Points of the event plot, and events among which the most severe are sought.
const MOST_EVENTS: usize = 2000;
/// Outages that are listed.
const MOST_OUTAGES: usize = 20;

/// Why there is no summary.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read.
    Read(io::Error),
    /// It holds no record of the declared supply: it is no record file.
    NoRecords,
    /// It holds nothing of this week.
    NothingOf(Week),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::NoRecords => f.write_str("this is no record file"),
            Self::NothingOf(week) => write!(f, "no records of week {week}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// The summary of a week from the record file at `path`; without a week, of the last one that is over and in the
/// file, or of the running one.
///
/// # Errors
/// See [`Error`].
pub fn of_file(path: &Path, week: Option<Week>, zone: &Zone, now: Utc) -> Result<Summary, Error> {
    let week = match week {
        Some(week) => week,
        None => latest(path, zone, now)?,
    };
    let before = pass(path, week.before(), zone, now)?.map(Builder::into_verdict);
    let builder = pass(path, week, zone, now)?.ok_or(Error::NothingOf(week))?;
    Ok(builder.finish(week, before.as_ref()))
}

fn latest(path: &Path, zone: &Zone, now: Utc) -> Result<Week, Error> {
    let running = Week::of(now, zone);
    let last = running.before();
    let (from, to) = (last.start(zone).millis(), last.end(zone).millis());
    let (mut any, mut header, mut newest) = (false, false, i64::MIN);
    for record in file::read(path)? {
        let record = record?;
        match record.record {
            Record::Header(_) => header = true,
            Record::Stop | Record::SummarySent => {}
            _ => {
                any |= (from..to).contains(&record.time_ms);
                newest = newest.max(record.time_ms);
            }
        }
    }
    if !header {
        return Err(Error::NoRecords);
    }
    Ok(match any {
        true => last,
        // A file from another time, say of a router that was archived.
        false if newest > i64::MIN && newest < from => Week::of(Utc::from_millis(newest), zone),
        false => running,
    })
}

/// Reads the file once for one week; `None` when it holds nothing of it.
fn pass(path: &Path, week: Week, zone: &Zone, now: Utc) -> Result<Option<Builder>, Error> {
    let mut header: Option<Header> = None;
    let mut builder: Option<Builder> = None;
    let (start, end) = (week.start(zone).millis(), week.end(zone).millis());
    for record in file::read(path)? {
        let record = record?;
        if let Record::Header(new) = record.record {
            let same = header.as_ref().is_none_or(|old| old.same_supply(&new));
            match &mut builder {
                Some(builder) if same => builder.header = (*new).clone(),
                Some(_) if record.time_ms < end => {
                    let since = Some(Utc::from_millis(record.time_ms));
                    builder = Some(Builder::new(&new, week, *zone, now, since));
                }
                _ => {}
            }
            header = Some(*new);
            continue;
        }
        let ends = record.time_ms + record.length_ms();
        if record.time_ms >= end || ends <= start && record.time_ms < start {
            continue;
        }
        let Some(header) = &header else { continue };
        builder.get_or_insert_with(|| Builder::new(header, week, *zone, now, None)).take(&record);
    }
    if header.is_none() {
        return Err(Error::NoRecords);
    }
    Ok(builder.filter(|builder| builder.taken))
}

/// The analyser's configuration of a header, as far as the verdict needs it.
#[must_use]
pub fn config(header: &Header) -> Config {
    let frequency =
        if header.nominal_frequency == 60 { NominalFrequency::Hz60 } else { NominalFrequency::Hz50 };
    Config {
        signalling: header.signalling,
        network: if header.island { NetworkType::Island } else { NetworkType::Interconnected },
        // The rate has no part in the verdict.
        ..Config::new(10_240.0, header.nominal_voltage, frequency)
    }
}

struct Builder {
    header: Header,
    zone: Zone,
    start_ms: i64,
    end_ms: i64,
    complete: bool,
    since: Option<Utc>,
    account: Account,
    taken: bool,
    series: Series,
    voltages: Vec<f32>,
    deviations: Vec<i16>,
    worst: Vec<(Characteristic, Worst)>,
    judge: Judge,
    events: Events,
    candidates: Vec<EventRecord>,
    outages: Vec<OutageSpan>,
}

impl Builder {
    fn new(header: &Header, week: Week, zone: Zone, now: Utc, since: Option<Utc>) -> Self {
        let (start_ms, week_ms) = (week.start(&zone).millis(), week.end(&zone).millis());
        let end_ms = week_ms.min(now.millis().max(start_ms));
        let slots = ((week_ms - start_ms) / SLOT_MS) as usize;
        Self {
            header: header.clone(),
            zone,
            start_ms,
            end_ms,
            complete: now.millis() >= week_ms,
            since,
            account: Account::new(&config(header), header.event_time_share, 0.0),
            taken: false,
            series: Series { slots: vec![Slot::EMPTY; slots], ..Series::default() },
            voltages: Vec::new(),
            deviations: Vec::new(),
            worst: Vec::new(),
            judge: Judge::default(),
            events: Events::default(),
            candidates: Vec::new(),
            outages: Vec::new(),
        }
    }

    fn take(&mut self, record: &Stamped) {
        self.clipped(record).count(&mut self.account);
        let at = Utc::from_millis(record.time_ms);
        match &record.record {
            Record::TenMinutes(means) => self.ten_minutes(at, means),
            Record::Flicker(flicker) => self.flicker(at, flicker),
            Record::Frequencies(block) => self.frequencies(at, block),
            Record::Signalling(block) => {
                if let Some(highest) = block.values.iter().copied().flatten().max() {
                    let percent = f64::from(highest) / (10.0 * self.header.nominal_voltage);
                    self.worst(Characteristic::Signalling, percent, at, f64::abs);
                }
            }
            Record::Event(event) => self.event(event),
            Record::Rvc(rvc) => self.worst(Characteristic::Rvc, f64::from(rvc.du_max), at, f64::abs),
            Record::Outage(outage) => {
                if self.outages.len() < MOST_OUTAGES {
                    let (duration, power_loss) = (outage.duration_s, outage.power_loss);
                    self.outages.push(OutageSpan { start: at, duration, power_loss });
                }
            }
            Record::Header(_) | Record::TwoHours(_) | Record::Stop | Record::SummarySent => return,
        }
        self.taken = true;
    }

    /// The part of an outage that lies in the week; others lie in it.
    fn clipped<'r>(&self, record: &'r Stamped) -> Cow<'r, Stamped> {
        let Record::Outage(outage) = record.record else { return Cow::Borrowed(record) };
        let time_ms = record.time_ms.max(self.start_ms);
        let end_ms = (record.time_ms + record.length_ms()).min(self.end_ms);
        let duration_s = (end_ms - time_ms).max(0) as f64 / 1000.0;
        Cow::Owned(Stamped { time_ms, record: Record::Outage(Outage { duration_s, ..outage }) })
    }

    fn slot(&mut self, at: Utc) -> Option<&mut Slot> {
        let index = (at.millis() - self.start_ms + 500).div_euclid(SLOT_MS);
        self.series.slots.get_mut(usize::try_from(index).ok()?)
    }

    fn ten_minutes(&mut self, at: Utc, means: &Means) {
        let nominal = self.header.nominal_voltage;
        if let Some(slot) = self.slot(at) {
            // Of the two parts of an interval that a restart cut, neither counts.
            slot.flagged = !means.valid();
            slot.voltage = [means.voltage_min, means.voltage, means.voltage_max];
            slot.thd = means.thd.unwrap_or(f32::NAN);
        }
        if !means.valid() {
            return;
        }
        self.voltages.push(means.voltage);
        self.worst(Characteristic::Voltage, 100.0 * (f64::from(means.voltage) / nominal - 1.0), at, f64::abs);
        if let Some(thd) = means.thd {
            self.worst(Characteristic::Thd, f64::from(thd), at, f64::abs);
        }
        for order in 2..=en50160::LIMITED_ORDERS {
            if let Some(percent) = means.harmonic(order) {
                self.series.harmonics_carried = self.series.harmonics_carried.max(order as u8);
                self.worst(Characteristic::Harmonic(order as u8), percent, at, f64::abs);
            }
        }
    }

    fn flicker(&mut self, at: Utc, flicker: &FlickerValue) {
        if !flicker.long {
            if let Some(slot) = self.slot(at) {
                slot.pst = flicker.value;
            }
            return;
        }
        let index = (at.millis() - self.start_ms + 500).div_euclid(SLOT_MS);
        if let Ok(index) = u16::try_from(index) {
            self.series.plt.push((index, flicker.value, flicker.flagged));
        }
        if !flicker.flagged {
            self.worst(Characteristic::Flicker, f64::from(flicker.value), at, f64::abs);
        }
    }

    fn frequencies(&mut self, at: Utc, block: &FrequencyBlock) {
        if block.nominal != self.header.nominal_frequency {
            return;
        }
        let nominal = f64::from(block.nominal);
        let (mut low, mut high, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0_u32);
        for (index, &entry) in block.values.iter().enumerate() {
            let (Tenth::Deviation(steps), Some(hertz)) = (entry, block.hertz(entry)) else { continue };
            self.deviations.push(steps);
            (low, high, sum, count) = (low.min(hertz), high.max(hertz), sum + hertz, count + 1);
            let percent = 100.0 * (hertz / nominal - 1.0);
            self.worst(Characteristic::Frequency, percent, at.plus_seconds(10.0 * index as f64), f64::abs);
        }
        if let Some(slot) = self.slot(at).filter(|_| count > 0) {
            let [known_low, _, known_high] = slot.frequency;
            slot.frequency =
                [known_low.min(low as f32), (sum / f64::from(count)) as f32, known_high.max(high as f32)];
        }
    }

    fn event(&mut self, event: &EventRecord) {
        if !self.judge.stands_alone(event) {
            return;
        }
        self.events.total = self.events.total.saturating_add(1);
        let (start, percent) = (event.start, event.extreme_percent);
        match (event.kind, percent) {
            (EventKind::Dip, Some(percent)) => self.worst(Characteristic::Dip, percent, start, |it| -it),
            (EventKind::Swell, Some(percent)) => self.worst(Characteristic::Swell, percent, start, f64::abs),
            (EventKind::Interruption, _) => {
                self.worst(Characteristic::Interruption, event.duration_s, start, f64::abs);
            }
            (EventKind::Dip | EventKind::Swell | EventKind::Harmonic, _) => {}
        }
        if let Some(percent) = percent {
            self.tabulate(event.kind, percent, event.duration_s);
            if self.series.scatter.len() < MOST_EVENTS {
                self.series.scatter.push((event.duration_s as f32, percent as f32));
            }
        }
        self.group(event);
        if self.candidates.len() < MOST_EVENTS {
            self.candidates.push(event.clone());
        }
    }

    fn tabulate(&mut self, kind: EventKind, percent: f64, duration_s: f64) {
        let place = |cell: Option<power_quality::Cell>, rows: &str| {
            let cell = cell?;
            Some((rows.find(cell.row)?, usize::from(cell.column) - 1))
        };
        let bounded = duration_s.min(60.0);
        let beyond = duration_s > 60.0;
        match kind {
            EventKind::Dip | EventKind::Interruption => {
                if let Some((row, column)) = place(en50160::dip_cell(percent, bounded), "ABCDX") {
                    self.events.dips[row][if beyond { 5 } else { column }] += 1;
                }
            }
            EventKind::Swell => {
                if let Some((row, column)) = place(en50160::swell_cell(percent, bounded), "ST") {
                    self.events.swells[row][if beyond { 3 } else { column }] += 1;
                }
            }
            EventKind::Harmonic => {}
        }
    }

    fn group(&mut self, event: &EventRecord) {
        let class = match &event.harmonic {
            Some(harmonic) => Some(format!("h{}", harmonic.order)),
            None => event.class.map(|cell| cell.to_string()),
        };
        let kind = event.kind.name();
        let groups = &mut self.events.groups;
        let index = groups.iter().position(|group| group.kind == kind && group.class == class);
        let index = index.unwrap_or_else(|| {
            let (first, last) = (event.start, event.start);
            groups.push(Group { kind, class, count: 0, duration: 0.0, first, last });
            groups.len() - 1
        });
        let group = &mut groups[index];
        group.count = group.count.saturating_add(1);
        group.duration += event.duration_s;
        group.first = group.first.min(event.start);
        group.last = group.last.max(event.start);
    }

    fn worst(&mut self, characteristic: Characteristic, value: f64, at: Utc, badness: fn(f64) -> f64) {
        match self.worst.iter_mut().find(|(known, _)| *known == characteristic) {
            Some((_, worst)) if badness(worst.value) >= badness(value) => {}
            Some((_, worst)) => *worst = Worst { value, at },
            None => self.worst.push((characteristic, Worst { value, at })),
        }
    }

    fn into_verdict(self) -> Verdict {
        self.account.verdict()
    }

    fn finish(mut self, week: Week, before: Option<&Verdict>) -> Summary {
        let verdict = self.account.verdict();
        let lines: Vec<Line> = verdict.characteristics.iter().map(|row| self.line(row, before)).collect();
        let flagged = |slot: &&Slot| !slot.voltage[1].is_nan() && slot.flagged;
        let valid = |slot: &&Slot| !slot.voltage[1].is_nan() && !slot.flagged;
        let count = |wanted: &dyn Fn(&&Slot) -> bool| self.series.slots.iter().filter(wanted).count() as u32;
        let expected = ((self.end_ms - self.start_ms) / SLOT_MS) as u32;
        let (valid, flagged) = (count(&valid), count(&flagged));
        let expected = expected.max(valid + flagged);
        let nominal = f64::from(self.header.nominal_frequency);
        let mut deviations = std::mem::take(&mut self.deviations);
        let frequency = spread(&mut deviations, 0.5, i16::cmp).map(|spread| {
            spread.map(|steps| rounded(nominal + f64::from(steps) * FrequencyBlock::STEP, 1e5))
        });
        let voltage = spread(&mut self.voltages, 5.0, f32::total_cmp)
            .map(|spread| spread.map(|volts| rounded(f64::from(volts), 1e3)));
        let mut events = self.events;
        events.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        events.listed = most_severe(self.candidates);
        Summary {
            week: week.to_string(),
            start: Utc::from_millis(self.start_ms),
            end: Utc::from_millis(self.end_ms),
            complete: self.complete,
            since: self.since,
            edition: verdict.edition,
            light: lights::worst(lines.iter().map(|line| line.light)),
            completeness: Completeness { expected, valid, flagged, missing: expected - valid - flagged },
            characteristics: lines,
            voltage: voltage.map(of_array),
            frequency: frequency.map(of_array),
            events,
            outages: self.outages,
            series: self.series,
            zone: self.zone,
            header: self.header,
        }
    }

    fn line(&self, row: &Row, before: Option<&Verdict>) -> Line {
        let worst = self.worst.iter().find(|(known, _)| *known == row.characteristic);
        let before = before.and_then(|verdict| {
            verdict.characteristics.iter().find(|it| it.characteristic == row.characteristic)
        });
        let decimals = |value: f64| rounded(value, 1e4);
        Line {
            row: Row {
                share: decimals(row.share),
                value: row.value.map(decimals),
                event_time: row.event_time.map(|seconds| rounded(seconds, 1e3)),
                ..*row
            },
            worst: worst.map(|&(_, worst)| Worst { value: decimals(worst.value), ..worst }),
            before: before.map(|row| Before {
                light: row.light,
                share: decimals(row.share),
                value: row.value.map(decimals),
                count: row.count,
            }),
        }
    }
}

fn of_array([min, low, median, high, max]: [f64; 5]) -> Spread {
    Spread { min, low, median, high, max }
}

/// Smallest, `tail` %, median, `100 - tail` %, largest.
fn spread<T: Copy>(values: &mut [T], tail: f64, order: fn(&T, &T) -> std::cmp::Ordering) -> Option<[T; 5]> {
    values.sort_unstable_by(order);
    let last = values.len().checked_sub(1)?;
    // The smallest value that `percent` of all do not exceed.
    let rank = |percent: f64| {
        ((percent / 100.0 * values.len() as f64 - 1e-9).ceil().max(1.0) as usize - 1).min(last)
    };
    Some([values[0], values[rank(tail)], values[rank(50.0)], values[rank(100.0 - tail)], values[last]])
}

/// All of few events, the most severe of many, in time order.
fn most_severe(mut events: Vec<EventRecord>) -> Vec<EventRecord> {
    // Lost volt-seconds, so to speak: depth or excess times duration.
    let severity = |event: &EventRecord| {
        let off = event.extreme_percent.map_or(1.0, |percent| (percent - 100.0).abs());
        off * event.duration_s.max(0.01)
    };
    if events.len() > MOST_LISTED {
        events.sort_by(|a, b| severity(b).total_cmp(&severity(a)));
        events.truncate(MOST_LISTED);
    }
    events.sort_by_key(|event| event.start);
    events
}
