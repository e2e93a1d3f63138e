// SPDX-License-Identifier: Apache-2.0
//! Whatever the line does, the message is JSON.

use super::*;
use crate::config::Position;
use crate::second::Seconds;
use power_quality::{Analyzer, Measurement, NominalFrequency};
use serde_json::Value;

#[path = "../../power-quality/tests/support/mod.rs"]
mod support;

use support::Signal;

fn device() -> Device {
    let position = Position {
        latitude: Some(52.520008),
        longitude: Some(13.404954),
        altitude: Some(0.0),
        accuracy: None,
    };
    Device { uuid: "my_WeSense".to_owned(), host: "router".to_owned(), position }
}

fn message(content: &TelemetryContent, second: &Second) -> String {
    let utc = Utc::from_millis(1_795_170_605_828);
    Message { device: &device(), content, package: 9, second, utc }.to_json()
}

fn everything(metadata: Metadata) -> TelemetryContent {
    TelemetryContent { metadata: Some(metadata), t5060: true, t1012: true }
}

#[test]
fn fields_and_order_are_powqutys() {
    let second = Second {
        voltage: 230.000_839_4,
        frequency: Some(50.0),
        harmonics: [Some(0.000_146); 7],
        last: (230.1, Some(49.99)),
        ..Second::default()
    };
    assert_eq!(
        message(&everything(Metadata::default()), &second),
        r#"{"acc":null,"alt":0.0,"id":"my_WeSense","lat":52.520008,"lng":13.404954,"metadata":{"comment":"","id":"","operator":"","phase":"","reason":"","type":""},"pkg":9,"t5060":{"f":50.0,"u":230.000839,"h3":0.000146,"h5":0.000146,"h7":0.000146,"h9":0.000146,"h11":0.000146,"h13":0.000146,"h15":0.000146},"t1012":{"f":49.99,"u":230.1},"utc":"2026-11-20 10:30:05.828"}"#
    );
}

/// The signals of the engine's tests, and samples that no line gives: each second of each is one strict JSON object
/// whose numbers are finite.
#[test]
fn every_signal_gives_valid_json() {
    let comment = "\"quoted\" \\ \u{1} Zürich ⚡ ".chars().cycle().take(400).collect::<String>();
    let content = everything(Metadata { comment: comment.clone(), ..Metadata::default() });
    let signal = || Signal::new(3.2);
    let (wild, lone) = (f32::MAX, 325.0);
    let with = |every: usize, value: f32| {
        let mut samples = signal().samples();
        samples.iter_mut().step_by(every).for_each(|sample| *sample = value);
        samples
    };
    let cases: Vec<(&str, Vec<f32>)> = vec![
        ("clean", signal().samples()),
        ("0 V", vec![0.0; 32_768]),
        ("a last digit of noise", signal().volts(0.0).noise(0.02).samples()),
        ("noise", signal().volts(0.0).noise(230.0).samples()),
        ("noise on the line", signal().noise(5.0).samples()),
        ("DC", signal().volts(0.0).dc(325.0).samples()),
        ("DC on the line", signal().dc(50.0).samples()),
        ("one lone sample", {
            let mut it = vec![0.0; 32_768];
            it[20_000] = lone;
            it
        }),
        ("interruption", signal().event(1.0, 1.5, 0.0).samples()),
        ("dip", signal().event(1.0, 0.1, 0.5).samples()),
        ("swell", signal().event(1.0, 0.1, 1.2).samples()),
        ("starts at nothing", signal().envelope(|t| if t < 1.0 { 0.0 } else { 1.0 }).samples()),
        ("30 Hz", signal().frequency(30.0).samples()),
        ("40 Hz", signal().frequency(40.0).samples()),
        ("42.5 Hz", signal().frequency(42.5).samples()),
        ("57.5 Hz", signal().frequency(57.5).samples()),
        ("70 Hz", signal().frequency(70.0).samples()),
        ("400 Hz", signal().frequency(400.0).samples()),
        ("fifth harmonic", signal().harmonic(5, 8.0).harmonic(3, 120.0).samples()),
        ("tone", signal().tone(177.5, 6.9).samples()),
        ("phase jump", signal().cycles(|t| 50.0 * t + if t < 1.5 { 0.0 } else { 0.5 }).samples()),
        ("ramp", signal().envelope(|t| 1.0 - t / 4.0).samples()),
        ("clipped", signal().samples().into_iter().map(|volts| volts.clamp(-100.0, 100.0)).collect()),
        ("not a number", vec![f32::NAN; 32_768]),
        ("now and then not a number", with(97, f32::NAN)),
        ("infinite", with(501, f32::INFINITY)),
        ("wild", with(333, wild)),
        ("all wild", vec![wild; 32_768]),
    ];
    for (case, samples) in cases {
        let mut config = power_quality::Config::new(10_240.0, 230.0, NominalFrequency::Hz50);
        config.signalling = Some(177.5);
        let mut analyzer = Analyzer::new(config).unwrap();
        let (mut seconds, mut messages) = (Seconds::default(), Vec::new());
        let mut take = |measurement: Measurement<'_>| {
            if let Measurement::Window(window) = measurement {
                messages.extend(seconds.push(window).map(|second| message(&content, &second)));
            }
        };
        samples.chunks(64).for_each(|frame| analyzer.push(frame, &mut take));
        analyzer.finish(&mut take);
        assert!(messages.len() >= 2, "{case}: {} messages", messages.len());
        for text in messages {
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{case}: {error}: {text}"));
            assert_eq!(value["metadata"]["comment"], comment, "{case}");
            let object = value["t5060"].as_object().unwrap();
            assert_eq!(object.len(), 9, "{case}: {object:?}");
            let sound = |value: &Value| value.is_null() || value.as_f64().is_some_and(f64::is_finite);
            assert!(object.values().all(sound), "{case}: {object:?}");
            assert!(object["u"].is_number(), "{case}: a voltage is always known");
            if case == "0 V" {
                assert_eq!(
                    (&object["u"], &object["f"], &object["h5"]),
                    (&0.0.into(), &Value::Null, &Value::Null)
                );
            }
        }
    }
}

#[test]
fn what_is_no_number_is_null() {
    let second = Second { voltage: f64::NAN, ..Second::default() };
    let value: Value = serde_json::from_str(&message(&everything(Metadata::default()), &second)).unwrap();
    assert!(value["t5060"]["u"].is_null());
    assert!(value["t5060"]["h3"].is_null());
}

#[test]
fn objects_that_are_switched_off_are_absent() {
    let content = TelemetryContent { metadata: None, t5060: false, t1012: false };
    let value: Value = serde_json::from_str(&message(&content, &Second::default())).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 7, "{keys:?}");
}

#[test]
fn the_counter_wraps_to_one() {
    let mut counter = PackageCounter(i32::MAX as u32 - 1);
    assert_eq!((counter.advance(), counter.advance()), (i32::MAX as u32, 1));
}
