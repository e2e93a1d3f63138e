// SPDX-License-Identifier: Apache-2.0
//! From results of the analysis to records and to the running verdict.

use super::{
    count_frequency, count_signalling, FlickerValue, FrequencyBlock, Means, Record, RvcRecord,
    SignallingBlock, Stamped, Tenth, KEPT_ORDERS, MOST_SIGNALLING, SLOT_MS, TENS,
};
use crate::clock::Utc;
use crate::record::EventRecord;
use power_quality::compliance::{Account, Characteristic, Row, Verdict};
use power_quality::{Config, EventKind, FlickerKind, Interval, Measurement};

/// Collects a week of records and judges them.
pub struct Collector {
    nominal_voltage: f64,
    nominal_hertz: u8,
    account: Account,
    frequencies: Option<(i64, Box<FrequencyBlock>)>,
    signalling: Option<(i64, SignallingBlock)>,
    last: Last,
}

/// Last value of each characteristic, in the unit of its limit.
#[derive(Debug, Clone, Default)]
pub struct Last {
    values: Vec<(Characteristic, f64)>,
}

impl Last {
    /// The last value, where there was one.
    #[must_use]
    pub fn of(&self, characteristic: Characteristic) -> Option<f64> {
        self.values.iter().find(|(known, _)| *known == characteristic).map(|&(_, value)| value)
    }

    fn set(&mut self, characteristic: Characteristic, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        match self.values.iter_mut().find(|(known, _)| *known == characteristic) {
            Some(entry) => entry.1 = value,
            None => self.values.push((characteristic, value)),
        }
    }
}

impl Collector {
    /// Nothing collected; `event_time_share` in %.
    #[must_use]
    pub fn new(config: &Config, event_time_share: f64) -> Self {
        Self {
            nominal_voltage: config.nominal_voltage,
            nominal_hertz: config.nominal_frequency.hertz() as u8,
            account: Account::new(config, event_time_share, 0.0),
            frequencies: None,
            signalling: None,
            last: Last::default(),
        }
    }

    /// Takes a record of an earlier run.
    pub fn replay(&mut self, record: &Stamped) {
        record.count(&mut self.account);
        self.note(&record.record);
    }

    /// Takes an event and makes its record; see [`Collector::take`] for all others.
    #[must_use]
    pub fn event(&mut self, event: EventRecord) -> Stamped {
        let record = Stamped { time_ms: event.start.millis(), record: Record::Event(event) };
        self.replay(&record);
        record
    }

    /// Takes a result whose times `utc` puts on the calendar; hands out the records that are complete.
    pub fn take(
        &mut self,
        measurement: &Measurement<'_>,
        utc: impl Fn(f64) -> Utc,
        out: &mut dyn FnMut(Stamped),
    ) {
        let (start_s, record) = match measurement {
            Measurement::Aggregate(aggregate) => match aggregate.interval {
                Interval::TenMinutes => (aggregate.start_s, Record::TenMinutes(Means::of(aggregate))),
                Interval::TwoHours => (aggregate.start_s, Record::TwoHours(Means::of(aggregate))),
                Interval::Cycles150 => {
                    let flagged = aggregate.flagged || aggregate.partial;
                    if let Some(volts) = aggregate.signalling {
                        self.take_signalling(utc(aggregate.start_s), volts, flagged, out);
                    }
                    return;
                }
            },
            Measurement::Frequency(frequency) => {
                let entry = FrequencyBlock::entry(self.nominal_hertz, frequency);
                return self.take_frequency(utc(frequency.start_s), entry, out);
            }
            Measurement::Flicker(flicker) => {
                let long = flicker.kind == FlickerKind::Plt;
                let value = FlickerValue { long, value: flicker.value as f32, flagged: flicker.flagged };
                (flicker.start_s, Record::Flicker(value))
            }
            Measurement::Event(event) => {
                let start = utc(event.start_s);
                return out(self.event(EventRecord::at(event, start)));
            }
            Measurement::Rvc(rvc) => {
                let record = RvcRecord {
                    duration_s: (rvc.end_s - rvc.start_s) as f32,
                    du_max: rvc.du_max_percent as f32,
                    du_ss: rvc.du_ss_percent as f32,
                };
                (rvc.start_s, Record::Rvc(record))
            }
            Measurement::Window(_)
            | Measurement::Gap(_)
            | Measurement::EventStart(_)
            | Measurement::Waveform(_) => return,
        };
        let record = Stamped { time_ms: utc(start_s).millis(), record };
        self.replay(&record);
        out(record);
    }

    /// Hands out what is incomplete: the measurement ends or begins anew.
    pub fn flush(&mut self, out: &mut dyn FnMut(Stamped)) {
        if let Some((time_ms, block)) = self.frequencies.take() {
            out(Stamped { time_ms, record: Record::Frequencies(block) });
        }
        if let Some((time_ms, block)) = self.signalling.take() {
            out(Stamped { time_ms, record: Record::Signalling(block) });
        }
    }

    /// The verdict over the last seven days.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.account.verdict()
    }

    /// The verdict on one characteristic.
    #[must_use]
    pub fn row(&self, characteristic: Characteristic) -> Option<Row> {
        self.account.row(characteristic)
    }

    /// The last values.
    #[must_use]
    pub fn last(&self) -> &Last {
        &self.last
    }

    fn take_frequency(&mut self, at: Utc, entry: Tenth, out: &mut dyn FnMut(Stamped)) {
        // The clock may be corrected by a little between two values.
        let nearest_ms = at.millis() + 500;
        let slot = nearest_ms.div_euclid(SLOT_MS) * SLOT_MS;
        let index = ((nearest_ms - slot) / 10_000) as usize;
        if self.frequencies.as_ref().is_some_and(|&(current, _)| current != slot) {
            if let Some((time_ms, block)) = self.frequencies.take() {
                out(Stamped { time_ms, record: Record::Frequencies(block) });
            }
        }
        let nominal = self.nominal_hertz;
        let (_, block) =
            self.frequencies.get_or_insert_with(|| (slot, Box::new(FrequencyBlock::new(nominal))));
        if let Some(place) = block.values.get_mut(index).filter(|place| **place == Tenth::Absent) {
            *place = entry;
            count_frequency(&mut self.account, block, entry, (slot + 10_000 * index as i64) as f64 / 1000.0);
            let hertz = block.hertz(entry);
            self.last.set(Characteristic::Frequency, hertz.map(|it| percent_off(it, f64::from(nominal))));
        }
        if index == TENS - 1 {
            if let Some((time_ms, block)) = self.frequencies.take() {
                out(Stamped { time_ms, record: Record::Frequencies(block) });
            }
        }
    }

    fn take_signalling(&mut self, at: Utc, volts: f64, flagged: bool, out: &mut dyn FnMut(Stamped)) {
        let slot = (at.millis() + 500).div_euclid(SLOT_MS) * SLOT_MS;
        let full = |(current, block): &(i64, SignallingBlock)| {
            *current != slot || block.values.len() == MOST_SIGNALLING
        };
        if self.signalling.as_ref().is_some_and(full) {
            if let Some((time_ms, block)) = self.signalling.take() {
                out(Stamped { time_ms, record: Record::Signalling(block) });
            }
        }
        let value =
            (volts.is_finite() && !flagged).then(|| (volts * 1000.0).round().clamp(0.0, 65_535.0) as u16);
        count_signalling(&mut self.account, value, slot as f64 / 1000.0);
        self.signalling.get_or_insert_with(|| (slot, SignallingBlock::default())).1.values.push(value);
        let percent = value.map(|millivolts| f64::from(millivolts) / (10.0 * self.nominal_voltage));
        self.last.set(Characteristic::Signalling, percent);
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::TenMinutes(means) if means.valid() => {
                let voltage = percent_off(f64::from(means.voltage), self.nominal_voltage);
                self.last.set(Characteristic::Voltage, Some(voltage));
                self.last.set(Characteristic::Thd, means.thd.map(f64::from));
                for order in 2..KEPT_ORDERS + 2 {
                    self.last.set(Characteristic::Harmonic(order as u8), means.harmonic(order));
                }
            }
            Record::Flicker(FlickerValue { long: true, value, flagged: false }) => {
                self.last.set(Characteristic::Flicker, Some(f64::from(*value)));
            }
            Record::Event(event) if !event.open => {
                let characteristic = match event.kind {
                    EventKind::Dip => Characteristic::Dip,
                    EventKind::Swell => Characteristic::Swell,
                    EventKind::Interruption => Characteristic::Interruption,
                    EventKind::Harmonic => return,
                };
                self.last.set(characteristic, event.extreme_percent);
            }
            Record::Rvc(rvc) => self.last.set(Characteristic::Rvc, Some(f64::from(rvc.du_max))),
            Record::Frequencies(block) => {
                let last = block.values.iter().rev().find_map(|&entry| block.hertz(entry));
                let nominal = f64::from(block.nominal);
                self.last.set(Characteristic::Frequency, last.map(|hertz| percent_off(hertz, nominal)));
            }
            Record::Header(_)
            | Record::TenMinutes(_)
            | Record::TwoHours(_)
            | Record::Flicker(_)
            | Record::Signalling(_)
            | Record::Event(_)
            | Record::Outage(_)
            | Record::Stop
            | Record::SummarySent => {}
        }
    }
}

fn percent_off(value: f64, nominal: f64) -> f64 {
    100.0 * (value / nominal - 1.0)
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
