// SPDX-License-Identifier: Apache-2.0
//! The weekly EN 50160 verdict from made-up records.
#![allow(clippy::unwrap_used)] // a failure here is the failure of the test

use power_quality::compliance::{Account, Characteristic, Light, Row};
use power_quality::{
    Aggregate, Config, Event, EventKind, Flicker, FlickerKind, Frequency, Interval, NetworkType,
    NominalFrequency, Spectrum, ORDERS,
};

fn config() -> Config {
    Config::new(10_240.0, 230.0, NominalFrequency::Hz50)
}

fn account() -> Account {
    Account::new(&config(), 5.0, 0.0)
}

fn ten(number: usize, voltage: f64) -> Aggregate {
    Aggregate {
        interval: Interval::TenMinutes,
        start_s: 600.0 * number as f64,
        duration_s: 600.0,
        voltage,
        fundamental: Some(230.0),
        thd: Some(2.0),
        ..Aggregate::default()
    }
}

fn with_harmonic(number: usize, order: usize, percent: f32) -> Aggregate {
    let mut volts = [0.0f32; ORDERS];
    volts[0] = 230.0;
    volts[order - 1] = 2.3 * percent;
    Aggregate { harmonics: Some(Spectrum::new(volts, ORDERS)), ..ten(number, 230.0) }
}

fn row(account: &Account, characteristic: Characteristic) -> Row {
    *account.verdict().characteristics.iter().find(|row| row.characteristic == characteristic).unwrap()
}

fn event(kind: EventKind, start_s: f64, duration_s: f64) -> Event {
    Event {
        kind,
        start_s,
        end_s: Some(start_s + duration_s),
        duration_s,
        extreme_voltage: Some(100.0),
        extreme_percent: Some(43.0),
        class: None,
        open: false,
        harmonic: None,
    }
}

#[test]
fn five_percent_of_the_week_may_leave_the_voltage_band() {
    for (high, light) in [(40, Light::Green), (41, Light::Yellow), (50, Light::Yellow), (51, Light::Red)] {
        let mut account = account();
        // 205 V is 10.9 % low: beyond the 95 % band, within the one for always.
        for n in 0..1_008 {
            let volts = if n % 20 == 0 && n / 20 < high { 205.0 } else { 230.0 };
            account.aggregate(&ten(n, volts));
        }
        let row = row(&account, Characteristic::Voltage);
        assert_eq!(
            (row.n, row.n1, row.n2, row.invalid, row.light),
            (1_008, high as u32, 0, 0, light),
            "{high}"
        );
    }
}

#[test]
fn one_value_beyond_the_outer_band_is_red_at_once() {
    let mut account = account();
    account.aggregate(&ten(0, 254.0));
    let row = row(&account, Characteristic::Voltage);
    assert_eq!((row.n, row.n1, row.n2, row.light), (1, 1, 1, Light::Red));
}

#[test]
fn an_island_may_go_lower() {
    let mut account = Account::new(&Config { network: NetworkType::Island, ..config() }, 5.0, 0.0);
    (0..200).for_each(|n| account.aggregate(&ten(n, 200.0)));
    let row = row(&account, Characteristic::Voltage);
    assert_eq!((row.n1, row.light), (0, Light::Yellow));
}

#[test]
fn percentile_near_the_limit_is_yellow() {
    let mut account = account();
    // 8.5 % high for 6 % of the time: no value beyond the limit, the 95th percentile above 0.8 of it.
    (0..200).for_each(|n| account.aggregate(&ten(n, if n % 16 == 0 { 249.55 } else { 231.0 })));
    let row = row(&account, Characteristic::Voltage);
    assert_eq!((row.n1, row.light), (0, Light::Yellow));
    assert!((row.value.unwrap() - 8.5).abs() < 1e-3);
}

#[test]
fn under_a_day_there_is_no_verdict() {
    for (count, light) in [(143, Light::Grey), (144, Light::Green)] {
        let mut account = account();
        (0..count).for_each(|n| account.aggregate(&ten(n, 230.0)));
        assert_eq!(row(&account, Characteristic::Voltage).light, light);
        assert_eq!(row(&account, Characteristic::Thd).light, light);
    }
}

#[test]
fn flagged_partial_and_missing_intervals_are_invalid() {
    let mut account = account();
    for n in (0..100).filter(|n| !(40..50).contains(n)) {
        account.aggregate(&Aggregate {
            flagged: n == 3,
            partial: n == 7,
            ..ten(n, 400.0 - 170.0 * f64::from(n != 3 && n != 7))
        });
    }
    let row = row(&account, Characteristic::Voltage);
    assert_eq!((row.n, row.n2, row.invalid), (88, 0, 12));
}

#[test]
fn the_week_slides() {
    let mut account = account();
    (0..300).for_each(|n| account.aggregate(&ten(n, 260.0)));
    assert_eq!(row(&account, Characteristic::Voltage).light, Light::Red);
    (300..1_308).for_each(|n| account.aggregate(&ten(n, 230.0)));
    let row = row(&account, Characteristic::Voltage);
    assert_eq!((row.n, row.n2, row.light), (1_008, 0, Light::Green));
}

#[test]
fn every_limited_order_has_its_row() {
    for (order, limit) in [(2usize, 2.0), (3, 5.0), (5, 6.0), (6, 0.5), (15, 0.5), (21, 0.5), (25, 1.5)] {
        let mut account = account();
        (0..200).for_each(|n| account.aggregate(&with_harmonic(n, order, 1.01 * limit)));
        let row = row(&account, Characteristic::Harmonic(order as u8));
        assert_eq!(
            (row.n, row.n1, row.limit, row.light),
            (200, 200, Some(f64::from(limit)), Light::Red),
            "h{order}"
        );
        let red = account.verdict().characteristics.iter().filter(|row| row.light == Light::Red).count();
        assert_eq!(red, 1);
    }
}

#[test]
fn frequency_counts_ten_second_values() {
    let mut account = account();
    for n in 0..60_480 {
        let frequency = if n % 250 == 0 { 50.6 } else { 50.01 };
        account.frequency(&Frequency {
            start_s: 10.0 * f64::from(n),
            frequency: Some(frequency),
            flagged: n == 1,
        });
    }
    // 242 of 60 480 are 0.4 %: more than 0.8 of the allowed 0.5 %.
    let row = row(&account, Characteristic::Frequency);
    assert_eq!((row.n, row.n1, row.n2, row.invalid), (60_479, 242, 0, 1));
    assert_eq!(row.light, Light::Yellow);
    assert!((row.value.unwrap() - 0.02).abs() < 1e-3);
}

#[test]
fn plt_over_a_week() {
    let mut account = account();
    for n in 0..84 {
        let value = if n < 5 { 1.2 } else { 0.5 };
        let start_s = 7_200.0 * f64::from(n);
        account.flicker(&Flicker { kind: FlickerKind::Plt, start_s, value, flagged: n == 50 });
    }
    let row = row(&account, Characteristic::Flicker);
    assert_eq!((row.n, row.n1, row.invalid, row.light), (83, 5, 1, Light::Red));
}

#[test]
fn an_interruption_is_not_counted_as_a_dip_as_well() {
    let mut account = account();
    (0..200).for_each(|n| account.aggregate(&ten(n, 230.0)));
    account.event(&event(EventKind::Interruption, 1_000.0, 1.0));
    account.event(&event(EventKind::Dip, 999.99, 1.02));
    account.event(&event(EventKind::Dip, 2_000.0, 3.0));
    assert_eq!(row(&account, Characteristic::Interruption).count, Some(1));
    let dips = row(&account, Characteristic::Dip);
    assert_eq!((dips.count, dips.light), (Some(1), Light::Green));
    assert!((dips.event_time.unwrap() - 3.0).abs() < 1e-6);
}

#[test]
fn too_much_time_in_events_is_red() {
    for (seconds, light) in [(24_000.0, Light::Green), (25_000.0, Light::Yellow), (31_000.0, Light::Red)] {
        let mut account = account();
        (0..200).for_each(|n| account.aggregate(&ten(n, 230.0)));
        account.event(&event(EventKind::Dip, 10.0, seconds));
        assert_eq!(row(&account, Characteristic::Dip).light, light);
    }
}
