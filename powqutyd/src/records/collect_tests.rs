// SPDX-License-Identifier: Apache-2.0
//! Live, after a restart and from the records alone: the same verdict.

use super::super::codec::{encode, Records};
use super::*;
use crate::records::Header;
use crate::summary::build::of_file;
use crate::summary::week::Week;
use openwrt::timezone::Zone;
use power_quality::compliance::{Light, Row};
use power_quality::{Aggregate, Event, Flicker, Frequency, NominalFrequency, Rvc, Spectrum, ORDERS};

/// Monday, 16 November 2026, 0:00 UTC: the start of week 47.
const START_S: f64 = 1_794_787_200.0;

fn config() -> Config {
    Config { signalling: Some(175.0), ..Config::new(10_240.0, 230.0, NominalFrequency::Hz50) }
}

fn utc(seconds: f64) -> Utc {
    Utc::from_millis((START_S * 1000.0) as i64).plus_seconds(seconds)
}

/// Ten minutes of a week with known violations; results in the order in which the analysis gives them.
fn slot(number: u32, take: &mut dyn FnMut(&Measurement<'_>)) {
    let start_s = 600.0 * f64::from(number);
    for tenth in 0..60 {
        let index = 60 * number + tenth;
        // 302 of 60 480 values (0.499 %) leave the 1 % band.
        let frequency = if index.is_multiple_of(200) && index < 60_400 { 50.61 } else { 49.98 };
        let start_s = start_s + 10.0 * f64::from(tenth);
        take(&Measurement::Frequency(Frequency { start_s, frequency: Some(frequency), flagged: false }));
    }
    for third in 0..200 {
        let aggregate = Aggregate {
            interval: Interval::Cycles150,
            start_s: start_s + 3.0 * f64::from(third),
            signalling: Some(if third == 7 && number < 30 { 23.0 } else { 2.3 }),
            ..Aggregate::default()
        };
        take(&Measurement::Aggregate(&aggregate));
    }
    let mut harmonics = [0.0; ORDERS];
    harmonics[0] = 230.0;
    harmonics[4] = if number.is_multiple_of(16) { 2.3 * 6.1 } else { 2.3 * 2.0 };
    harmonics[14] = 2.3 * 0.49;
    let aggregate = Aggregate {
        interval: Interval::TenMinutes,
        start_s,
        duration_s: 600.0,
        // 50 of 1008 (4.96 %) below the 10 % band, none below the 15 % band.
        voltage: if number % 20 == 3 && number < 1000 { 206.9 } else { 231.0 + f64::from(number % 5) },
        voltage_min: 200.0,
        voltage_max: 240.0,
        fundamental: Some(230.0),
        thd: Some(3.0),
        harmonics: Some(Spectrum::new(harmonics, ORDERS)),
        flagged: number == 500,
        ..Aggregate::default()
    };
    take(&Measurement::Aggregate(&aggregate));
    if number % 12 == 11 {
        let start_s = start_s - 6600.0;
        let value = if number < 60 { 1.2 } else { 0.4 };
        take(&Measurement::Flicker(Flicker { kind: FlickerKind::Plt, start_s, value, flagged: false }));
    }
    if number % 100 == 50 {
        for (kind, extreme) in
            [(EventKind::Interruption, 4.0), (EventKind::Dip, 4.0), (EventKind::Swell, 260.0)]
        {
            let shift = if kind == EventKind::Swell { 60.0 } else { 0.0 };
            take(&Measurement::Event(Event {
                kind,
                start_s: start_s + shift,
                end_s: Some(start_s + shift + 2.0),
                duration_s: 2.0,
                extreme_voltage: Some(extreme),
                extreme_percent: Some(extreme / 2.3),
                class: None,
                open: false,
                harmonic: None,
            }));
        }
        let rvc = Rvc { start_s, end_s: start_s + 1.5, du_max_percent: 4.0, du_ss_percent: 3.5 };
        take(&Measurement::Rvc(rvc));
    }
}

fn row(verdict: &Verdict, characteristic: Characteristic) -> Row {
    *verdict.characteristics.iter().find(|row| row.characteristic == characteristic).unwrap()
}

#[test]
fn a_known_week_is_judged_the_same_live_after_restarts_and_from_the_file() {
    let (mut live, mut restarted) = (Collector::new(&config(), 5.0), Collector::new(&config(), 5.0));
    let mut file = Vec::new();
    for number in 0..1008 {
        slot(number, &mut |measurement| {
            live.take(measurement, utc, &mut |_| {});
            restarted.take(measurement, utc, &mut |record| encode(&record, &mut file));
        });
        if number % 337 == 0 {
            restarted.flush(&mut |record| encode(&record, &mut file));
            restarted = Collector::new(&config(), 5.0);
            Records::new(&file[..]).for_each(|record| restarted.replay(&record.unwrap()));
        }
    }
    restarted.flush(&mut |record| encode(&record, &mut file));
    let mut from_file = Collector::new(&config(), 5.0);
    Records::new(&file[..]).for_each(|record| from_file.replay(&record.unwrap()));
    let verdict = live.verdict();
    assert_eq!(restarted.verdict(), verdict);
    assert_eq!(from_file.verdict(), verdict);
    reported_the_same(&file, &verdict);

    let frequency = row(&verdict, Characteristic::Frequency);
    assert_eq!((frequency.n, frequency.n1, frequency.n2, frequency.light), (60_480, 302, 0, Light::Yellow));
    assert!((frequency.value.unwrap() - 0.04).abs() < 1e-9, "{frequency:?}");
    let voltage = row(&verdict, Characteristic::Voltage);
    assert_eq!((voltage.n, voltage.n1, voltage.n2, voltage.invalid), (1007, 50, 0, 1));
    assert_eq!(voltage.light, Light::Yellow);
    // The 95th percentile of the absolute deviation: rank 957 of 1007, the largest of the 957 that are no dip.
    assert!((voltage.value.unwrap() - 100.0 * (235.0 / 230.0 - 1.0)).abs() < 1e-5, "{voltage:?}");
    let fifth = row(&verdict, Characteristic::Harmonic(5));
    assert_eq!((fifth.n, fifth.n1, fifth.light), (1007, 63, Light::Red));
    assert!((fifth.value.unwrap() - 6.1).abs() < 1e-5);
    let fifteenth = row(&verdict, Characteristic::Harmonic(15));
    assert_eq!((fifteenth.n1, fifteenth.light), (0, Light::Yellow));
    let flicker = row(&verdict, Characteristic::Flicker);
    assert_eq!((flicker.n, flicker.n1, flicker.light), (84, 5, Light::Red));
    assert!((flicker.value.unwrap() - 1.2).abs() < 1e-6);
    let signalling = row(&verdict, Characteristic::Signalling);
    assert_eq!((signalling.n, signalling.n1, signalling.light), (201_600, 30, Light::Green));
    assert_eq!(row(&verdict, Characteristic::Interruption).count, Some(10));
    assert_eq!(row(&verdict, Characteristic::Dip).count, Some(0), "the dips of the interruptions");
    assert_eq!(row(&verdict, Characteristic::Swell).count, Some(10));
    assert_eq!(row(&verdict, Characteristic::Rvc).count, Some(10));
    let size_per_week = file.len();
    assert!(size_per_week < 1_000_000, "{size_per_week}");
    assert_eq!(live.last().of(Characteristic::Interruption), Some(4.0 / 2.3));
}

/// What `report --records` makes of the file, which is rounded to what people read.
fn reported_the_same(records: &[u8], verdict: &Verdict) {
    let header = Header { signalling: Some(175.0), ..Header::default() };
    let header = Stamped { time_ms: utc(0.0).millis(), record: Record::Header(Box::new(header)) };
    let mut file = Vec::new();
    encode(&header, &mut file);
    file.extend_from_slice(records);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records");
    std::fs::write(&path, file).unwrap();
    let now = utc(8.0 * 86_400.0);
    let summary = of_file(&path, Week::parse("2026-W47"), &Zone::UTC, now).unwrap();
    assert_eq!(summary.characteristics.len(), verdict.characteristics.len());
    for (line, row) in summary.characteristics.iter().zip(&verdict.characteristics) {
        let counts =
            |row: &Row| (row.characteristic, row.n, row.n1, row.n2, row.invalid, row.count, row.light);
        assert_eq!(counts(line), counts(row));
        let value = |row: &Row| row.value.unwrap_or(-1.0);
        assert!((value(line) - value(row)).abs() < 1e-4, "{line:?} {row:?}");
    }
}

#[test]
fn an_outage_marks_what_it_touches() {
    let mut collector = Collector::new(&config(), 5.0);
    for number in (0..300).filter(|number| !(100..104).contains(number)) {
        slot(number, &mut |measurement| collector.take(measurement, utc, &mut |_| {}));
    }
    let before = row(&collector.verdict(), Characteristic::Frequency);
    let record = Record::Outage(super::super::Outage { duration_s: 2400.0, power_loss: true });
    let time_ms = utc(60_000.0).millis();
    collector.replay(&Stamped { time_ms, record });
    let after = row(&collector.verdict(), Characteristic::Frequency);
    assert_eq!((after.n, after.invalid), (before.n, before.invalid + 240));
    let voltage = row(&collector.verdict(), Characteristic::Voltage);
    assert_eq!((voltage.n, voltage.invalid), (296, 4));
}

#[test]
fn a_corrected_clock_neither_doubles_nor_moves_a_value() {
    let mut collector = Collector::new(&config(), 5.0);
    let mut blocks = Vec::new();
    for (index, shift) in [0.0, 0.3, -0.3, 0.0, -9.9, 0.0].into_iter().enumerate() {
        let frequency =
            Frequency { start_s: 10.0 * index as f64 + shift, frequency: Some(50.0), flagged: false };
        collector.take(&Measurement::Frequency(frequency), utc, &mut |record| blocks.push(record));
    }
    collector.flush(&mut |record| blocks.push(record));
    let [Stamped { time_ms, record: Record::Frequencies(block) }] = &blocks[..] else { panic!("{blocks:?}") };
    assert_eq!(*time_ms, (START_S * 1000.0) as i64);
    let filled = block.values.iter().filter(|&&value| value != Tenth::Absent).count();
    assert_eq!(filled, 5, "the value that came back into a filled place is left out");
    assert_eq!(row(&collector.verdict(), Characteristic::Frequency).n, 5);
}
