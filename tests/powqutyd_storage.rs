// SPDX-License-Identifier: Apache-2.0
//! What powqutyd keeps on disk, through kills, full and vanished disks, and outages of its own.

use lab::{wait_for, Environment, Webhook, PATIENCE};
use powqutyd::clock::Utc;
use powqutyd::records::file::{self, RecordFile};
use powqutyd::records::{FlickerValue, Header, Record, Stamped};
use serde_json::{json, Value};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const DAEMON: &str = "powqutyd";

/// A simulated grid with all files in `directory`.
fn environment(script: &str, directory: Option<&Path>, options: &str) -> Environment {
    let environment = Environment::new();
    fs::write(environment.data("grid"), script).unwrap();
    let directory = directory.map_or_else(|| environment.data(""), Path::to_path_buf);
    let path = |name: &str| directory.join(name).display().to_string();
    environment.write_config(
        "powquty",
        &format!(
            "config powquty 'powquty'\n\toption input 'simulator'\n\toption simulator_script '{}'\n\
             \toption powquty_path '{}'\n\toption powquty_event_path '{}'\n\toption record_path '{}'\n{options}",
            environment.data("grid").display(),
            path("measurements.csv"),
            path("events.csv"),
            path("records")
        ),
    );
    environment
}

/// Ids of the events in the log.
fn logged(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let ids = whole.filter_map(|line| {
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        (fields.len() == 10).then(|| format!("{}-{}", fields[6], fields[2].to_lowercase()))
    });
    ids.collect()
}

/// Ids of the events among the records.
fn recorded(path: &Path) -> Vec<String> {
    let records = file::read(path).unwrap().map(Result::unwrap);
    records
        .filter_map(|record| match record.record {
            Record::Event(event) => Some(event.id()),
            _ => None,
        })
        .collect()
}

/// Kills the daemon at `rounds` moments and holds both files against what subscribers were told.
fn killed_at_random_moments(rounds: u32) {
    // At real time: on a faster grid the next start would lie before the last event, and ids could meet by chance.
    let script = "at 100ms dip 60 for 60ms\nat 300ms swell 115 for 60ms\nrepeat 400ms";
    let environment = environment(script, None, "");
    let mut told = HashSet::new();
    for round in 0..rounds {
        let daemon = environment.spawn(DAEMON);
        let mut stream = daemon.subscribe();
        // Some rounds end in the middle of an event, some right after one: the moments follow no pattern of the script.
        let moment = Instant::now() + Duration::from_millis(1000 + u64::from(round) * 7919 % 1500);
        let mut events = Vec::new();
        while Instant::now() < moment {
            let event = stream.next_event();
            if event["event"] == "powquty.event" {
                events.push((Instant::now(), event["data"]["id"].as_str().unwrap().to_owned()));
            }
        }
        daemon.kill();
        let killed = Instant::now();
        // The disk has a thread of its own; on a loaded machine it may be some moments behind the subscribers.
        let settled = events.into_iter().filter(|(at, _)| killed - *at > Duration::from_millis(500));
        told.extend(settled.map(|(_, id)| id));
        for ids in [logged(&environment.data("events.csv")), recorded(&environment.data("records"))] {
            let unique: HashSet<String> = ids.iter().cloned().collect();
            assert_eq!(unique.len(), ids.len(), "round {round}: an event is there twice");
            let missing: Vec<&String> = told.difference(&unique).collect();
            assert!(missing.is_empty(), "round {round}: {missing:?} of {}", told.len());
        }
    }
    assert!(told.len() > rounds as usize, "only {} events", told.len());
}

#[test]
fn no_event_is_lost_or_doubled_by_twenty_kills() {
    killed_at_random_moments(20);
}

#[test]
#[ignore = "long: 200 kills"]
fn no_event_is_lost_or_doubled_by_two_hundred_kills() {
    killed_at_random_moments(200);
}

#[test]
fn the_waveforms_of_the_last_events_outlive_a_kill() {
    let options = "\toption input_speed '5'\n\toption waveform_count '3'\n";
    let environment = environment("at 1s dip 60 for 100ms\nrepeat 3s", None, options);
    let daemon = environment.spawn(DAEMON);
    let listed = |daemon: &lab::Daemon| daemon.call("events", &json!({})).unwrap();
    let kept = |listed: &Value| -> Vec<bool> {
        let events = listed["events"].as_array().unwrap();
        events.iter().map(|event| event["waveform"].as_bool().unwrap()).collect()
    };
    let before = daemon.wait_for("five events, three waveforms", || {
        let listed = listed(&daemon);
        kept(&listed).starts_with(&[true, true, true, false, false]).then_some(listed)
    });
    daemon.kill();

    fs::write(environment.data("grid"), "").unwrap();
    let daemon = environment.spawn(DAEMON);
    let after = listed(&daemon);
    let known = |id: &Value| after["events"].as_array().unwrap().iter().any(|event| event["id"] == *id);
    let newest = &before["events"][0];
    assert!(known(&newest["id"]), "{after:#}");
    let answer = daemon.call("waveform", &json!({ "id": newest["id"] })).unwrap();
    let numbers = |list: &Value| -> Vec<f64> {
        list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (samples, rate) = (numbers(&answer["samples"]), answer["rate"].as_f64().unwrap());
    assert!((rate - 10_240.0).abs() < 1.0 && (10_200..=10_241).contains(&samples.len()), "{}", samples.len());
    let trigger = answer["trigger"].as_f64().unwrap();
    assert!((trigger - 0.2).abs() < 0.001, "{trigger}");
    let peak = |from: f64, to: f64| {
        let within = &samples[(from * rate) as usize..(to * rate) as usize];
        within.iter().fold(0.0, |peak: f64, volts| peak.max(volts.abs()))
    };
    let nominal = 230.0 * std::f64::consts::SQRT_2;
    assert!((peak(0.0, trigger - 0.01) / nominal - 1.0).abs() < 0.001, "before");
    assert!((peak(trigger + 0.03, trigger + 0.08) / nominal - 0.6).abs() < 0.001, "in the dip");
    assert!((peak(trigger + 0.2, 0.99) / nominal - 1.0).abs() < 0.001, "after it");
    let trace: Vec<Vec<f64>> = answer["rms"].as_array().unwrap().iter().map(numbers).collect();
    assert!((98..=101).contains(&trace.len()), "{}", trace.len());
    let lowest = trace.iter().map(|point| point[1]).fold(f64::INFINITY, f64::min);
    assert!((lowest - 138.0).abs() < 0.1, "{lowest}");
    assert_eq!(answer["nominal"], json!({ "voltage": 230.0, "frequency": 50.0 }));

    let refusal = |id: &Value| daemon.call("waveform", &json!({ "id": id })).unwrap_err()["code"].clone();
    assert_eq!(refusal(&before["events"][4]["id"]), "not_found");
    assert_eq!(refusal(&json!("../../etc/passwd")), "invalid_argument");
}

/// A directory with a file system of 256 KiB of its own.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(dir.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "mounting a tmpfs needs root");
        Self { dir }
    }

    fn fill(&self) {
        let mut size = 1 << 20;
        let mut filler = fs::File::create(self.dir.path().join("filler")).unwrap();
        while size > 0 {
            if std::io::Write::write_all(&mut filler, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.dir.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "{options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever fails here leaves an empty mount behind, no more.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn samples(status: &Value) -> u64 {
    status["source"]["samples"].as_u64().unwrap_or_default()
}

/// The daemon goes on measuring until the trouble is mended, and says so once.
fn mended(disk: &SmallDisk, daemon: &lab::Daemon, mend: impl FnOnce()) {
    let failing = |status: &Value| {
        ["events", "records"].iter().all(|name| {
            status["logs"][name]["error"].as_str().is_some_and(|error| error.contains("cannot write"))
        })
    };
    let before = samples(&daemon.wait_for_status("the error", failing));
    daemon.wait_for_status("further samples", |status| samples(status) > before + 50_000);
    mend();
    let status = daemon.wait_for_status("writing again", |status| {
        ["events", "records"].iter().all(|name| status["logs"][name]["error"].is_null())
    });
    assert_eq!(status["source"]["faults"]["missing_samples"], 0);
    let number = status["events"]["dip"].as_u64().unwrap() as usize;
    for ids in [logged(&disk.dir.path().join("events.csv")), recorded(&disk.dir.path().join("records"))] {
        assert!(ids.len() >= number, "{} of {number}: what waited was written", ids.len());
        let unique: HashSet<&String> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
    }
    let log = daemon.log();
    let complaints = log.lines().filter(|line| line.contains("events.csv: cannot write")).count();
    assert_eq!(complaints, 1, "reported once: {log}");
}

/// Many, so that the last page of each file is soon full.
const DIPS: &str = "at 100ms dip 60 for 60ms\nrepeat 250ms";
/// No waveforms: those that are deleted would make room on a full disk.
const QUICK: &str = "\toption input_speed '5'\n\toption waveform_count '0'\n";

#[test]
fn a_full_disk_costs_no_sample_and_the_files_are_right_afterwards() {
    let disk = SmallDisk::mount();
    let environment = environment(DIPS, Some(disk.dir.path()), QUICK);
    let daemon = environment.spawn(DAEMON);
    wait_for("events", PATIENCE, || (logged(&disk.dir.path().join("events.csv")).len() > 3).then_some(()));
    disk.fill();
    mended(&disk, &daemon, || fs::remove_file(disk.dir.path().join("filler")).unwrap());
}

#[test]
fn a_read_only_disk_costs_no_sample_and_the_files_are_right_afterwards() {
    let disk = SmallDisk::mount();
    disk.remount("ro");
    let environment = environment(DIPS, Some(disk.dir.path()), QUICK);
    let daemon = environment.spawn(DAEMON);
    mended(&disk, &daemon, || disk.remount("rw"));
}

#[test]
fn a_path_that_vanishes_is_reported_and_comes_back() {
    let outer = tempfile::tempdir().unwrap();
    let stick = outer.path().join("stick");
    fs::create_dir(&stick).unwrap();
    let script = "at 500ms dip 60 for 100ms\nrepeat 1s";
    let environment = environment(script, Some(&stick), "\toption input_speed '5'\n");
    let daemon = environment.spawn(DAEMON);
    wait_for("events", PATIENCE, || (logged(&stick.join("events.csv")).len() > 3).then_some(()));
    let away = outer.path().join("away");
    fs::rename(&stick, &away).unwrap();
    let failing = |status: &Value| status["logs"]["records"]["error"].is_string();
    let before = samples(&daemon.wait_for_status("the error", failing));
    daemon.wait_for_status("further samples", |status| samples(status) > before + 50_000);
    fs::rename(&away, &stick).unwrap();
    daemon.wait_for_status("writing again", |status| {
        ["events", "records"].iter().all(|name| status["logs"][name]["error"].is_null())
    });
    let ids = recorded(&stick.join("records"));
    let unique: HashSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    // The ten-minute and other records around it can all be read.
    assert!(file::read(&stick.join("records")).unwrap().all(|record| record.is_ok()));
}

/// A daemon whose last record is this old.
fn silent_for(seconds: f64) -> (Environment, Webhook) {
    let webhook = Webhook::start();
    let hook = webhook.url("/services/T/B/x");
    // A clock that nobody synchronises, as on a test machine, is believed after five minutes of signal. On a Monday the
    // summary of last week is due as well.
    let options = format!(
        "\toption slack_webhook '{hook}'\n\toption slack_notify 'events'\n\toption input_speed '200'\n"
    );
    let environment = environment("", None, &options);
    let last = Utc::now().plus_seconds(-seconds).millis();
    let mut records = RecordFile::new(environment.data("records"), 1 << 20, false, Header::default());
    for age in (0..6).rev() {
        let value = FlickerValue { long: false, value: 0.5, flagged: false };
        let record = Stamped { time_ms: last - age * 600_000, record: Record::Flicker(value) };
        assert_eq!(records.append(&record).1.unwrap(), 1);
    }
    (environment, webhook)
}

fn outages(environment: &Environment) -> Vec<(f64, bool)> {
    let records = file::read(&environment.data("records")).unwrap().map(Result::unwrap);
    records
        .filter_map(|record| match record.record {
            Record::Outage(outage) => Some((outage.duration_s, outage.power_loss)),
            _ => None,
        })
        .collect()
}

/// Starts the daemon three times, killed in between: the outage is told once.
fn told_once(environment: &Environment, webhook: &Webhook, words: &str, row: &str) {
    for _ in 0..3 {
        let daemon = environment.spawn(DAEMON);
        daemon.wait_for_status("samples", |status| samples(status) > 5000);
        let requests = webhook.wait_for(1);
        assert!(requests[0].json()["text"].as_str().unwrap().contains(words), "{:?}", requests[0].json());
        wait_for("the record", PATIENCE, || (!outages(environment).is_empty()).then_some(()));
        let kind = row.trim_matches(',').to_lowercase().replace("powerloss", "power_loss");
        let listed = daemon.call("events", &json!({ "kind": kind })).unwrap();
        assert_eq!((&listed["total"], &listed["events"][0]["kind"]), (&json!(1), &json!(kind)), "{listed:#}");
        daemon.kill();
    }
    assert_eq!(outages(environment).len(), 1);
    let log = fs::read_to_string(environment.data("events.csv")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains(row)).count(), 1, "{log}");
    assert_eq!(webhook.wait_for(1).len(), 1);
}

#[test]
fn forty_minutes_without_the_daemon_are_an_outage() {
    let (environment, webhook) = silent_for(2400.0);
    told_once(&environment, &webhook, "Nothing was measured for at most 40 min", ",OUTAGE,");
    let [(seconds, power_loss)] = outages(&environment)[..] else { panic!("one outage") };
    assert!((2399.0..2460.0).contains(&seconds) && !power_loss, "{seconds} {power_loss}");
}

#[test]
fn a_start_of_the_router_since_the_last_record_was_a_power_loss() {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let (environment, webhook) = silent_for(up + 3600.0);
    told_once(&environment, &webhook, "Power loss: the router was off for at most", ",POWERLOSS,");
    assert!(outages(&environment)[0].1);
}

#[test]
fn a_stop_in_good_order_is_no_outage() {
    let (environment, _webhook) = silent_for(60.0);
    let daemon = environment.spawn(DAEMON);
    daemon.wait_for_status("samples", |status| samples(status) > 5000);
    assert!(daemon.stop().success());
    let last = file::read(&environment.data("records")).unwrap().last().unwrap().unwrap();
    assert_eq!(last.record, Record::Stop);
    assert_eq!(outages(&environment), []);
}

/// Half an hour of a supply whose voltage, frequency and fifth harmonic change; a dip after twelve minutes.
fn half_an_hour(rate: f64) -> Vec<u8> {
    let (mut phase, mut bytes) = (0.0_f64, Vec::new());
    for sample in 0..(1800.0 * rate) as u32 {
        let seconds = f64::from(sample) / rate;
        let level =
            if (720.0..720.3).contains(&seconds) { 0.5 } else { 1.0 + 0.02 * (seconds / 200.0).sin() };
        phase += std::f64::consts::TAU * (50.0 + 0.03 * (seconds / 70.0).sin()) / rate;
        let volts = 230.0 * std::f64::consts::SQRT_2 * level * (phase.sin() + 0.03 * (5.0 * phase).sin());
        bytes.extend(((volts / 0.015).round() as i16).to_le_bytes());
    }
    bytes
}

#[test]
fn half_an_hour_of_samples_gives_the_records_that_analyze_prints() {
    let rate = 2000.0;
    let environment = environment("", None, "");
    let recording = environment.data("recording.s16");
    fs::write(&recording, half_an_hour(rate)).unwrap();
    let file = recording.to_str().unwrap();
    let config = fs::read_to_string(environment.config_dir().join("powquty")).unwrap();
    let input = format!(
        "\toption input_path '{file}'\n\toption input_format 's16le'\n\toption input_rate '2000'\n\
         \toption input_scale '0.015'\n\toption input_speed 'max'\n"
    );
    environment.write_config("powquty", &(config.replace("'simulator'", "'file'") + &input));
    let daemon = environment.spawn(DAEMON);
    let status = daemon.wait_for_status("the end", |status| status["source"]["state"] == "ended");
    let start = status["clock"]["started"].as_str().unwrap().to_owned();
    assert!(daemon.stop().success());

    let rate = rate.to_string();
    let args = ["analyze", file, "--format", "s16le", "--rate", &rate, "--scale", "0.015", "--start", &start];
    let analyzed =
        environment.run(DAEMON, args.into_iter().chain(["--only", "aggregate,frequency,flicker,event"]));
    assert_eq!(analyzed.code, Some(0), "{}", analyzed.stderr);
    let lines: Vec<Value> = analyzed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str, interval: &Value| {
        let wanted = |line: &&Value| line["type"] == kind && line["interval"] == *interval;
        lines.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let records: Vec<Record> =
        file::read(&environment.data("records")).unwrap().map(|record| record.unwrap().record).collect();

    let means: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::TenMinutes(means) => Some(means),
            _ => None,
        })
        .collect();
    let aggregates = of("aggregate", &json!("10min"));
    assert_eq!(means.len(), aggregates.len());
    assert!(means.len() >= 3, "{}", means.len());
    let near = |ours: f64, theirs: &Value, tolerance: f64| {
        let theirs = theirs.as_f64().unwrap();
        assert!((ours - theirs).abs() <= tolerance, "{ours} {theirs}");
    };
    for (means, aggregate) in means.iter().zip(&aggregates) {
        // The start is told in milliseconds: a cycle may fall on the other side of a tick.
        near(means.voltage.into(), &aggregate["voltage"], 0.01);
        near(means.thd.unwrap().into(), &aggregate["thd"], 0.002);
        let fundamental = aggregate["fundamental"].as_f64().unwrap();
        let fifth = 100.0 * aggregate["harmonics"][4].as_f64().unwrap() / fundamental;
        near(means.harmonic(5).unwrap(), &json!(fifth), 0.002);
        assert_eq!(
            (json!(means.flagged), means.partial),
            (aggregate["flagged"].clone(), aggregate["partial"] == true)
        );
    }
    let hertz: Vec<f64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Frequencies(block) => Some(block),
            _ => None,
        })
        .flat_map(|block| block.values.iter().filter_map(|&entry| block.hertz(entry)))
        .collect();
    let frequencies = of("frequency", &Value::Null);
    let valid: Vec<&Value> =
        frequencies.iter().filter(|line| line["flagged"] == false && !line["frequency"].is_null()).collect();
    assert_eq!(hertz.len(), valid.len());
    assert!(hertz.len() > 170, "{}", hertz.len());
    hertz.iter().zip(valid).for_each(|(ours, line)| near(*ours, &line["frequency"], 0.000_4));
    let events = records.iter().filter(|record| matches!(record, Record::Event(_))).count();
    assert_eq!((events, of("event", &Value::Null).len()), (1, 1));
}
