// SPDX-License-Identifier: Apache-2.0

use super::*;
use serde_json::Value;

const RATE: f64 = 10_240.0;

/// Ten seconds of 230 V with a dip to 50 % from 4.003 s for 100 ms, as a sound card would give it.
fn recording() -> Vec<u8> {
    (0..(10.0 * RATE) as u32)
        .flat_map(|sample| {
            let seconds = f64::from(sample) / RATE;
            let level = if (4.003..4.103).contains(&seconds) { 0.5 } else { 1.0 };
            let volts =
                230.0 * level * std::f64::consts::SQRT_2 * (std::f64::consts::TAU * 50.0 * seconds).sin();
            ((volts / 0.015).round() as i16).to_le_bytes()
        })
        .collect()
}

fn job(args: &[&str]) -> Result<Job, AnalyzeError> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    Job::parse(&args)
}

fn output(args: &[&str], input: &[u8]) -> (String, Result<(), AnalyzeError>) {
    let mut output = Vec::new();
    let result = job(args).unwrap().measure(input, None, &mut output);
    (String::from_utf8(output).unwrap(), result)
}

fn lines(args: &[&str], input: &[u8]) -> Vec<Value> {
    let (text, result) = output(args, input);
    result.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_dip_is_one_event_with_its_time_and_depth() {
    let args = ["-", "--format", "s16le", "--scale", "0.015", "--start", "2026-11-20T10:30:00Z"];
    let lines = lines(&args, &recording());
    let events: Vec<&Value> = lines.iter().filter(|line| line["type"] == "event").collect();
    let [dip] = events[..] else { panic!("{events:?}") };
    assert_eq!((&dip["kind"], &dip["open"]), (&"dip".into(), &false.into()));
    let number = |key: &str| dip[key].as_f64().unwrap();
    assert!((number("start_s") - 4.003).abs() < 0.02, "{dip}");
    // IEC 61000-4-30 5.4.2: from the start of the first to the end of the last one-cycle window that decides, so up to
    // a cycle more on either side.
    assert!((0.1..=0.1401).contains(&number("duration_s")), "{dip}");
    assert!((number("extreme_percent") - 50.0).abs() < 0.2, "{dip}");
    assert!((number("extreme_voltage") - 115.0).abs() < 0.46, "{dip}");
    assert!(dip["start"].as_str().unwrap().starts_with("2026-11-20T10:30:0"), "{dip}");
    let windows =
        lines.iter().filter(|line| line["type"] == "window" && line.get("partial").is_none()).count();
    assert!((49..=50).contains(&windows), "{windows}");
}

#[test]
fn the_chunk_changes_not_one_byte() {
    let input = recording();
    let of =
        |chunk: &str| output(&["-", "--format", "s16le", "--scale", "0.015", "--chunk", chunk], &input).0;
    let whole = of("2048");
    assert!(whole.len() > 10_000);
    for chunk in ["1", "7", "64", "100000"] {
        assert!(of(chunk) == whole, "--chunk {chunk} differs");
    }
}

#[test]
fn the_verdict_is_the_last_line() {
    let lines = lines(&["-", "--format", "s16le", "--scale", "0.015"], &recording());
    let verdict = lines.last().unwrap();
    assert_eq!(verdict["type"], "compliance");
    let row = |name: &str| {
        let rows = verdict["characteristics"].as_array().unwrap();
        rows.iter().find(|row| row["characteristic"] == name).unwrap().clone()
    };
    assert_eq!((&row("dip")["count"], &row("swell")["count"]), (&1.into(), &0.into()));
    assert_eq!(row("voltage")["light"], "grey", "ten seconds are no day");
    assert_eq!(row("h25")["limit"], 1.5);
}

#[test]
fn only_prints_what_was_asked_for() {
    let kinds: Vec<String> =
        lines(&["-", "--format", "s16le", "--scale", "0.015", "--only", "event,frequency"], &recording())
            .iter()
            .map(|line| line["type"].as_str().unwrap().to_owned())
            .collect();
    assert!(kinds.contains(&"event".to_owned()));
    assert!(kinds.iter().all(|kind| kind == "event" || kind == "frequency"), "{kinds:?}");
}

#[test]
fn broken_input_is_told_with_its_place_after_what_could_be_measured() {
    let mut input = recording();
    input.push(0);
    let (text, result) = output(&["-", "--format", "s16le", "--scale", "0.015"], &input);
    assert_eq!(
        result.unwrap_err().to_string(),
        "standard input: byte 204800: the input ends inside a sample (1 of 2 bytes)"
    );
    assert_eq!(text.lines().filter(|line| line.contains("\"event\"")).count(), 1);

    let (text, result) = output(&["-"], &[]);
    assert_eq!(result.unwrap_err().to_string(), "standard input: empty, there are no samples in it");
    assert_eq!(text, "");
}

#[test]
fn wrong_options_are_usage_errors_that_say_what_was_expected() {
    let error = |args: &[&str]| match job(args) {
        Err(AnalyzeError::Usage(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(&["x", "--rate", "900"]), "--rate 900: expected a number from 1000 to 100000");
    assert_eq!(error(&["x", "--format", "wav"]), "--format wav: expected s16le or f32le or csv");
    assert_eq!(error(&[]), "expected a file, or - for standard input");
    assert!(error(&["x", "--only", "windows"]).starts_with("--only windows: expected some of window,"));
    assert!(error(&["x", "y"]).contains('y'));
    assert!(error(&["x", "--start", "noon"]).contains("2026-01-31T12:00:00Z"));
}
