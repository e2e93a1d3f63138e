// SPDX-License-Identifier: Apache-2.0
//! A record file of made-up but plausible weeks, written by the daemon's own file code.

use power_quality::{Cell, EventKind, HarmonicDetail};
use powqutyd::clock::Utc;
use powqutyd::record::EventRecord;
use powqutyd::records::file::RecordFile;
use powqutyd::records::{
    FlickerValue, FrequencyBlock, Header, Means, Outage, Record, RvcRecord, Stamped, Tenth,
};
use std::f64::consts::TAU;
use std::path::Path;

/// Monday, 6 January 2025, 0:00 UTC: the start of week 2.
pub(super) const MONDAY_MS: i64 = 1_736_121_600_000;

pub(super) const SLOTS: i64 = 1008;

/// What is wrong with the supply.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Supply {
    /// Nothing much.
    Good,
    /// Voltage, harmonic 5 and flicker beyond their limits, many events, two gaps.
    Bad,
}

pub(super) fn header() -> Header {
    Header {
        device: "my_WeSense <attic>".to_owned(),
        host: "router".to_owned(),
        latitude: Some(52.520_008),
        longitude: Some(13.404_954),
        ..Header::default()
    }
}

/// Writes the week before week 2 (good) and week 2 itself.
pub(super) fn write(path: &Path, supply: Supply) {
    write_at(path, supply, 0);
}

/// The same, this much later.
pub(super) fn write_at(path: &Path, supply: Supply, later_ms: i64) {
    let mut file = RecordFile::new(path.to_owned(), 8 << 20, false, header());
    let mut append = |record: &Stamped| {
        let mut record = record.clone();
        record.time_ms += later_ms;
        if let Record::Event(event) = &mut record.record {
            event.start = Utc::from_millis(record.time_ms);
        }
        assert_eq!(file.append(&record).1.unwrap(), 1);
    };
    (-SLOTS..0).for_each(|slot| self::slot(slot, Supply::Good, &mut append));
    (0..SLOTS).for_each(|slot| self::slot(slot, supply, &mut append));
}

/// The records of one slot, in the order of the daemon.
pub(super) fn slot(slot: i64, supply: Supply, append: &mut dyn FnMut(&Stamped)) {
    let bad = supply == Supply::Bad;
    if bad && (300..322).contains(&slot) {
        if slot == 300 {
            let outage = Outage { duration_s: 22.0 * 600.0, power_loss: true };
            append(&stamped(slot, 0, Record::Outage(outage)));
        }
        return;
    }
    let noise = |seed: i64| {
        let mut state =
            (slot.wrapping_mul(1_000_003) ^ seed).cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 29;
        (state % 10_000) as f64 / 10_000.0 - 0.5
    };
    let hour = (slot.rem_euclid(144)) as f64 / 6.0;
    if bad {
        events(slot, append);
    }
    let daily = (TAU * (hour - 3.0) / 24.0).cos();
    let evening = (-((hour - 19.0) / 2.5).powi(2)).exp();
    let voltage = 232.0 + 2.5 * daily - 5.0 * evening + 1.2 * noise(1)
        - if bad && (700..770).contains(&slot) { 27.0 } else { 0.0 };
    let flagged = bad && event_slots().any(|at| at == slot);
    let harmonics = std::array::from_fn(|index| {
        let order = index + 2;
        let base = match order {
            3 => 1.4,
            5 => {
                if bad {
                    3.6
                } else {
                    2.2
                }
            }
            7 => 1.6,
            9 => 0.5,
            11 => 0.9,
            13 => 0.6,
            15 => {
                if bad {
                    0.33
                } else {
                    0.2
                }
            }
            odd if odd % 2 == 1 => 0.25,
            _ => 0.08,
        };
        let shape = 1.0 + if order == 5 { 0.9 * evening } else { 0.3 * evening };
        Some((base * shape * (1.0 + 0.12 * noise(order as i64)) * 1000.0) as u16)
    });
    let means = Means {
        duration_s: 600.0,
        voltage: voltage as f32,
        voltage_min: (voltage - 1.5 - 2.0 * (noise(2) + 0.5)) as f32,
        voltage_max: (voltage + 1.3 + 1.5 * (noise(3) + 0.5)) as f32,
        fundamental: Some(voltage as f32),
        thd: Some((if bad { 4.2 } else { 3.0 } + 3.0 * evening + 0.3 * noise(4)) as f32),
        harmonics,
        flagged,
        partial: bad && (slot == 299 || slot == 322),
    };
    append(&stamped(slot, 0, Record::TenMinutes(means)));
    let pst =
        0.35 + 0.25 * evening + 0.15 * (noise(5) + 0.5) + if bad && slot % 144 > 100 { 0.9 } else { 0.0 };
    append(&stamped(slot, 0, Record::Flicker(FlickerValue { long: false, value: pst as f32, flagged })));
    if slot.rem_euclid(12) == 11 {
        let value = FlickerValue { long: true, value: (pst * 0.97) as f32, flagged: false };
        append(&stamped(slot - 11, 0, Record::Flicker(value)));
    }
    let values = std::array::from_fn(|index| {
        let at = slot as f64 * 60.0 + index as f64;
        let wave = 30.0 * (at / 37.0).sin() + 25.0 * (at / 211.0).sin() + 40.0 * noise(index as i64 + 100);
        Tenth::Deviation((wave - if at % 360.0 < 18.0 { 60.0 } else { 0.0 }) as i16)
    });
    append(&stamped(slot, 0, Record::Frequencies(Box::new(FrequencyBlock { nominal: 50, values }))));
}

pub(super) fn event_slots() -> impl Iterator<Item = i64> {
    (0..60).map(|number| 5 + number * 16)
}

fn events(slot: i64, append: &mut dyn FnMut(&Stamped)) {
    let Some(number) = event_slots().position(|at| at == slot) else { return };
    let offset = 60_000 + number as i64 * 1234;
    let start = Utc::from_millis(MONDAY_MS + slot * 600_000 + offset);
    let (kind, percent, duration_s, class) = match number % 10 {
        0 => (EventKind::Dip, 84.0, 0.06, Some(('A', 1))),
        1 => (EventKind::Dip, 76.5, 0.12, Some(('B', 1))),
        2 => (EventKind::Dip, 55.0, 0.35, Some(('C', 2))),
        3 => (EventKind::Swell, 112.5, 1.8, Some(('T', 2))),
        4 => (EventKind::Dip, 22.0, 0.8, Some(('D', 3))),
        5 => (EventKind::Interruption, 2.0, 4.2, Some(('X', 4))),
        6 => (EventKind::Swell, 123.0, 0.09, Some(('S', 1))),
        7 => (EventKind::Dip, 81.0, 75.0, None),
        8 => (EventKind::Harmonic, 0.0, 600.0, None),
        _ => (EventKind::Dip, 88.0, 2.5, Some(('A', 4))),
    };
    let detail = HarmonicDetail { order: 5, limit_percent: 6.0, value_percent: 7.4, share_percent: 12.5 };
    let harmonic = (kind == EventKind::Harmonic).then_some(detail);
    let extreme = harmonic.is_none().then_some(percent);
    let event = EventRecord {
        kind,
        start,
        duration_s,
        open: false,
        extreme_voltage: extreme.map(|percent: f64| percent * 2.3),
        extreme_percent: extreme,
        class: class.map(|(row, column)| Cell { row, column }),
        harmonic,
    };
    append(&stamped(slot, offset, Record::Event(event.clone())));
    if kind == EventKind::Interruption {
        append(&stamped(slot, offset, Record::Event(EventRecord { kind: EventKind::Dip, ..event })));
    }
    if number % 7 == 0 {
        let rvc = RvcRecord { duration_s: 1.4, du_max: 4.1, du_ss: 3.2 };
        append(&stamped(slot, offset + 100_000, Record::Rvc(rvc)));
    }
}

fn stamped(slot: i64, offset_ms: i64, record: Record) -> Stamped {
    Stamped { time_ms: MONDAY_MS + slot * 600_000 + offset_ms, record }
}
