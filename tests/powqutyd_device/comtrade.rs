// SPDX-License-Identifier: Apache-2.0
//! The export of an event, read by somebody else: the package `comtrade` from PyPI, which tests/setup.sh installs.

use super::{configure, emulate};
use lab::process::finish;
use lab::Environment;
use serde_json::{json, Value};
use std::process::Command;

const READER: &str = r#"
import comtrade, json, sys
record = comtrade.load(sys.argv[1] + ".cfg", sys.argv[1] + ".dat")
channel = record.cfg.analog_channels[0]
print(json.dumps({
    "station": record.station_name, "device": record.rec_dev_id, "revision": record.rev_year,
    "channels": [record.analog_count, record.status_count], "name": channel.name, "unit": channel.uu,
    "primary": channel.primary, "frequency": record.frequency, "rates": record.cfg.sample_rates,
    "start": record.start_timestamp.isoformat(), "trigger": record.trigger_timestamp.isoformat(),
    "trigger_time": record.trigger_time, "time": list(record.time), "volts": list(record.analog[0]),
    "quality": record.cfg.tmq_code if hasattr(record.cfg, "tmq_code") else None,
}))
"#;

#[test]
fn an_exported_event_is_read_by_others() {
    let environment = Environment::new();
    configure(&environment, "\toption dev_uuid 'Dach, Nord'\n");
    let _emulator = emulate(&environment, "noise 0.1\nharmonic 5 3\nat 4s dip 40 for 200ms\n");
    let daemon = environment.spawn("powqutyd");
    let event = daemon.wait_for("the dip", || {
        let events = daemon.call("events", &json!({})).ok()?;
        events["events"].get(0).cloned()
    });
    let id = event["id"].as_str().unwrap();
    let waveform = daemon.wait_for("its waveform", || daemon.call("waveform", &json!({ "id": id })).ok());
    let base = environment.data("dip.1");
    let base = base.to_str().unwrap();
    for id in [id, "last"] {
        let done = environment.run("powqutyd", ["events", "export", id, "--output", base]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert_eq!(done.stdout, format!("{base}.cfg\n{base}.dat\n"));
    }
    let python = lab::binary("powqutyd").with_file_name("../comtrade/bin/python");
    assert!(python.exists(), "{} is missing: run tests/setup.sh test", python.display());
    let mut reader = Command::new(python);
    reader.args(["-c", READER, base]);
    let read = finish(reader, b"");
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    let read: Value = serde_json::from_str(&read.stdout).unwrap();
    let numbers =
        |value: &Value| -> Vec<f64> { value.as_array().unwrap().iter().filter_map(Value::as_f64).collect() };
    let (volts, expected) = (numbers(&read["volts"]), numbers(&waveform["samples"]));
    assert!(volts.len() > 5000 && volts.len() == expected.len(), "{} of {}", volts.len(), expected.len());
    let off = volts.iter().zip(&expected).map(|(read, volts)| (read - volts).abs()).fold(0.0, f64::max);
    println!("{} samples, off by {off:.4} V at most", volts.len());
    assert!(off < 0.01, "{off} V");
    assert!(expected.iter().fold(0.0_f64, |peak, volts| peak.max(volts.abs())) > 300.0);
    let times = numbers(&read["time"]);
    let rate = waveform["rate"].as_f64().unwrap();
    assert!((times[times.len() - 1] - (times.len() - 1) as f64 / rate).abs() < 2e-6, "{times:?}");
    let at = |key: &str| super::seconds(&format!("{}Z", read[key].as_str().unwrap()));
    let start = super::seconds(event["start"].as_str().unwrap());
    assert!((at("trigger") - start).abs() < 2e-3, "{} {start}", read["trigger"]);
    assert!((at("start") - super::seconds(waveform["start"].as_str().unwrap())).abs() < 1e-3);
    assert!((read["trigger_time"].as_f64().unwrap() - waveform["trigger"].as_f64().unwrap()).abs() < 1e-3);
    for (key, value) in [
        ("device", json!("Dach  Nord")),
        ("revision", json!("2013")),
        ("channels", json!([1, 0])),
        ("name", json!("U")),
        ("unit", json!("V")),
        ("primary", json!(230.0)),
        ("frequency", json!(50.0)),
    ] {
        assert_eq!(read[key], value, "{key} of {read}");
    }
    let missing = environment.run("powqutyd", ["events", "export", "1-dip", "--output", base]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.contains("waveform"), "{}", missing.stderr);
}
