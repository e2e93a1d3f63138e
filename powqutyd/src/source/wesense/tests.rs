// SPDX-License-Identifier: Apache-2.0
//! The way from bytes to events through every fault of the line: half an hour of arithmetic, and a real thread on real
//! pseudo-terminals.

use super::*;
use crate::clock::reference::Reading;
use crate::clock::{Clock, Coming};
use crate::emulate::oscilloscope::Oscilloscope;
use crate::emulate::plan::Plan;
use crate::emulate::pty::Pty;
use crate::emulate::{Device, HangUp};
use crate::source::simulator::Simulator;
use power_quality::{Analyzer, Config, Event, EventKind, Measurement, NominalFrequency};
use std::fmt::Write as _;

const UTC: f64 = 1_795_170_326.0;
/// Monotonic time at which the device is switched on.
const MONOTONIC: f64 = 5000.0;

/// The daemon's way of the samples, on a made-up clock.
struct Chain {
    stream: Stream,
    clock: Clock,
    analyzer: Analyzer,
    position: u64,
    broken: bool,
    events: Vec<Event>,
    gaps: Vec<(f64, u64)>,
    flagged: u32,
    windows: u32,
}

impl Chain {
    fn new() -> Self {
        let mut clock = Clock::new(RATE, true);
        clock.read(&Reading { monotonic: MONOTONIC, utc: UTC, synchronised: true }, None);
        Self {
            stream: Stream::default(),
            clock,
            analyzer: Analyzer::new(Config::new(RATE, 230.0, NominalFrequency::Hz50)).unwrap(),
            position: 0,
            broken: false,
            events: Vec::new(),
            gaps: Vec::new(),
            flagged: 0,
            windows: 0,
        }
    }

    fn take(&mut self, bytes: &[u8], now: f64) {
        self.stream.take(bytes, Duration::from_secs_f64(MONOTONIC + now));
        let mut volts = [0.0; frame::SAMPLES];
        while let Some(read) = self.stream.next(&mut volts) {
            match read {
                Read::Gap(samples) => self.position += samples,
                Read::Break => self.broken = true,
                Read::Samples(_) => self.samples(&volts),
                Read::Idle | Read::End => {}
            }
        }
    }

    fn samples(&mut self, volts: &[f32]) {
        let coming = Coming {
            position: self.position,
            count: volts.len() as u64,
            broken: std::mem::take(&mut self.broken),
            arrival: Some(self.stream.arrival()),
        };
        self.position += volts.len() as u64;
        let gap = self.clock.advance(coming);
        if let Some(map) = self.clock.moved() {
            self.analyzer.set_time(map);
        }
        let (events, gaps, flagged, windows) =
            (&mut self.events, &mut self.gaps, &mut self.flagged, &mut self.windows);
        let mut out = |measurement: Measurement<'_>| match measurement {
            Measurement::Event(event) => events.push(event),
            Measurement::Gap(gap) => gaps.push((gap.start_s, gap.samples)),
            Measurement::Window(window) => {
                *windows += 1;
                *flagged += u32::from(window.flagged);
            }
            _ => {}
        };
        if gap > 0 {
            self.analyzer.gap(gap, &mut out);
        }
        self.analyzer.push(volts, &mut out);
    }
}

/// Every fault of the list within each minute, and dips among them.
fn script() -> (String, Vec<(f64, f64)>) {
    let mut text = String::from(
        "repeat 60s\nseed 5\nnoise 0.2\nharmonic 5 2\nharmonic 3 1\ndevice ppm 42\ndevice jitter 4ms\ndevice offset 12\n\
         at 5.05s fault torn\nat 11s fault duplicate\nat 13.02s fault skip 3\nat 15.06s fault garbage 40\n\
         at 17.03s fault counter\nat 19s fault stall for 500ms\nat 26s fault silence for 2s\nat 33s fault reset\n\
         at 42s fault hangup for 10s\nat 55.02s fault torn\nat 57s fault garbage 700\n",
    );
    let dips = [
        (5.0, 0.1, 50.0),
        (7.0, 0.06, 20.0),
        (13.0, 0.2, 60.0),
        (15.0, 0.15, 40.0),
        (17.0, 0.3, 70.0),
        (19.2, 0.1, 50.0),
        (23.0, 0.7, 0.0),
        (31.0, 0.1, 30.0),
        (39.0, 0.5, 80.0),
        (55.0, 0.1, 40.0),
        (58.0, 0.25, 5.0),
    ];
    for (start, length, level) in dips {
        let _ = writeln!(text, "at {start}s dip {level} for {length}s");
    }
    (text, dips.map(|(start, length, _)| (start, length)).to_vec())
}

/// The dips of the same grid, measured without a line and its faults: start and length in seconds.
fn undisturbed(script: &str, seconds: f64) -> Vec<(f64, f64)> {
    let plan = Plan::parse(script).unwrap();
    let rate = RATE * (1.0 + plan.ppm * 1e-6);
    let mut grid = Simulator::new(plan.grid, rate, 230.0, 50.0);
    let mut analyzer = Analyzer::new(Config::new(rate, 230.0, NominalFrequency::Hz50)).unwrap();
    let (mut volts, mut dips) = ([0.0; 1024], Vec::new());
    for _ in 0..(seconds * rate) as usize / volts.len() {
        grid.fill(&mut volts);
        analyzer.push(&volts, &mut |measurement| match measurement {
            Measurement::Event(event) if event.kind == EventKind::Dip => {
                dips.push((event.start_s, event.duration_s));
            }
            _ => {}
        });
    }
    dips
}

/// Dips that begin at a zero crossing, near the peak and behind it.
#[test]
fn garbage_at_the_edge_of_a_dip_does_not_move_it() {
    for begin in [3.0, 3.002, 3.005] {
        let quiet = format!("noise 0.1\nharmonic 5 2\nat {begin}s dip 50 for 100ms\n");
        let (start, length) = undisturbed(&quiet, 5.0)[0];
        for step in -8..=24_i32 {
            let at = begin - 0.001 + f64::from(step) * 0.005;
            let script =
                format!("{quiet}at {at}s fault garbage {}\n", [1, 40, 300][step.unsigned_abs() as usize % 3]);
            let mut device = Oscilloscope::new(&Plan::parse(&script).unwrap(), 230.0, 50.0);
            let (mut chain, mut bytes) = (Chain::new(), Vec::new());
            device.hear(&frame::REQUEST_CALIBRATION, &mut bytes);
            device.hear(&frame::START, &mut bytes);
            for turn in 0..90 {
                let now = f64::from(turn) * 0.05;
                device.advance(now, &mut bytes);
                chain.take(&bytes, now);
                bytes.clear();
            }
            let [dip] = chain.events[..] else { panic!("garbage at {at} s: {:?}", chain.events) };
            let begun = dip.start_s + chain.clock.origin().unwrap() - UTC;
            let off = (begun - start, dip.duration_s - length);
            assert!(off.0.abs() < 0.001 && off.1.abs() < 0.001, "garbage at {at} s: off by {off:?} s");
            assert_eq!((chain.stream.faults().salvaged, chain.gaps.len()), (1, 0), "garbage at {at} s");
        }
    }
}

#[test]
fn half_an_hour_of_faults_loses_no_event_and_invents_none() {
    const MINUTES: u32 = 30;
    let (script, dips) = script();
    let mut device = Oscilloscope::new(&Plan::parse(&script).unwrap(), 230.0, 50.0);
    let mut chain = Chain::new();
    let mut bytes = Vec::new();
    let (mut now, mut heard, mut away_until) = (0.0, 0.0, 0.0);
    device.hear(&frame::REQUEST_CALIBRATION, &mut bytes);
    device.hear(&frame::START, &mut bytes);
    chain.take(&bytes, now);
    let mut turn = 0u64;
    while now < f64::from(MINUTES) * 60.0 {
        turn += 1;
        // The reader looks every 32 ms, sometimes late, and every 20 s it is held up for half a second.
        let hash = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        now += 0.032 + hash as f64 / 65_536.0 * 0.01 + if turn.is_multiple_of(550) { 0.5 } else { 0.0 };
        bytes.clear();
        if let Some(HangUp { length }) = device.advance(now, &mut bytes) {
            away_until = now + length.as_secs_f64();
        }
        if now < away_until {
            chain.take(&bytes, now);
            bytes.clear();
            while now < away_until {
                now += 0.1;
                assert_eq!(device.advance(now, &mut bytes), None);
            }
            assert!(bytes.is_empty());
            device.power_cycle();
            chain.stream.interrupted();
            device.hear(&frame::REQUEST_CALIBRATION, &mut bytes);
            device.hear(&frame::START, &mut bytes);
        }
        if !bytes.is_empty() {
            heard = now;
            chain.take(&bytes, now);
        } else if now - heard > SILENCE.as_secs_f64() {
            chain.stream.silence();
            heard = now;
            device.hear(&frame::REQUEST_CALIBRATION, &mut bytes);
            device.hear(&frame::START, &mut bytes);
            chain.take(&bytes, now);
        }
        if turn.is_multiple_of(30) {
            let monotonic = MONOTONIC + now;
            chain.clock.read(&Reading { monotonic, utc: UTC + now, synchronised: true }, None);
        }
    }
    let origin = chain.clock.origin().unwrap();
    let found: Vec<(f64, f64)> = chain
        .events
        .iter()
        .filter(|event| event.kind == EventKind::Dip)
        .map(|event| (event.start_s + origin - UTC, event.duration_s))
        .collect();
    let expected = undisturbed(&script, f64::from(MINUTES) * 60.0);
    assert_eq!(expected.len(), MINUTES as usize * dips.len());
    let mut worst: (f64, f64) = (0.0, 0.0);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let (start, length) = (found.0 - expected.0, found.1 - expected.1);
        worst = (worst.0.max(start.abs()), worst.1.max(length.abs()));
        assert!(start.abs() < 0.02 && length.abs() < 0.02, "dip {index}: {found:?} for {expected:?}");
    }
    assert_eq!(found.len(), expected.len(), "events lost or invented");
    assert!(chain.events.iter().all(|event| matches!(event.kind, EventKind::Dip | EventKind::Interruption)));
    let faults = chain.stream.faults();
    println!(
        "{} dips, start within {:.1} ms, length within {:.1} ms, {} gaps, {faults:?}",
        found.len(),
        worst.0 * 1e3,
        worst.1 * 1e3,
        chain.gaps.len(),
    );
    assert_eq!(faults.duplicates, MINUTES);
    assert!(
        faults.torn >= 2 * MINUTES
            && faults.garbage_bytes >= 700 * MINUTES
            && faults.counter_errors == MINUTES
    );
    // Silence, hang-up, reset, torn and skipped frames, each minute.
    assert!(chain.gaps.len() >= 6 * MINUTES as usize, "{} gaps", chain.gaps.len());
    let longest = chain.gaps.iter().map(|&(_, samples)| samples).max().unwrap_or_default();
    assert!((10.0..10.7).contains(&(longest as f64 / RATE)), "longest gap {} s", longest as f64 / RATE);
    assert!(chain.flagged > 0 && chain.flagged < chain.windows);
}

/// A thread that plays the device on a pseudo-terminal until told to stop.
fn play(pty: Pty, stop: std::sync::mpsc::Receiver<()>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut device = Oscilloscope::new(&Plan::default(), 230.0, 50.0);
        let started = Instant::now();
        let (mut bytes, mut commands) = (Vec::new(), [0; 64]);
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            bytes.clear();
            device.advance(started.elapsed().as_secs_f64(), &mut bytes);
            let count = pty.receive(&mut commands, Duration::from_millis(5)).unwrap();
            device.hear(&commands[..count], &mut bytes);
            pty.send(&bytes).unwrap();
        }
    })
}

/// Reads until `wanted` samples have come; `true` if there was a break before them.
fn read(source: &mut Wesense, wanted: usize) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut volts, mut samples, mut broken) = ([0.0; frame::SAMPLES], 0, false);
    while samples < wanted {
        assert!(Instant::now() < deadline, "no samples: {:?}", source.report.lock());
        match source.read(&mut volts).unwrap() {
            Read::Samples(count) => samples += count,
            Read::Break => broken = true,
            Read::Gap(_) | Read::Idle => {}
            Read::End => panic!("the source has ended"),
        }
    }
    broken
}

#[test]
fn it_is_found_by_its_usb_id_under_whatever_name() {
    let root = tempfile::tempdir().unwrap();
    let (sysfs, dev) = (root.path().join("sys"), root.path().join("dev"));
    std::fs::create_dir_all(&dev).unwrap();
    let plug = |name: &str, pty: &Pty| {
        let device = sysfs.join("devices/usb1").join(name);
        std::fs::create_dir_all(device.join("1:1.0")).unwrap();
        std::fs::write(device.join("idVendor"), "1afe\n").unwrap();
        std::fs::write(device.join("idProduct"), "0009\n").unwrap();
        let class = sysfs.join("class/tty").join(name);
        std::fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(device.join("1:1.0"), class.join("device")).unwrap();
        std::os::unix::fs::symlink(pty.path(), dev.join(name)).unwrap();
    };
    let finder = Finder { configured: dev.join("WeSense0"), sysfs: sysfs.clone(), dev: dev.clone() };
    let mut source = Wesense::new(finder);
    let mut volts = [0.0; frame::SAMPLES];
    assert_eq!(source.read(&mut volts).unwrap(), Read::Idle);
    assert_eq!(source.report.lock().phase, Phase::Absent);

    let pty = Pty::open().unwrap();
    plug("ttyACM0", &pty);
    let (unplug, stop) = std::sync::mpsc::channel();
    let player = play(pty, stop);
    assert!(!read(&mut source, 640), "nothing came before");
    assert_eq!(source.report.lock().phase, Phase::Running);
    assert_eq!(source.report.lock().device, Some(dev.join("ttyACM0").display().to_string()));

    // Another program that asks finds it taken.
    let taken = Tty::open(&dev.join("ttyACM0"), BAUD).expect_err("locked");
    assert_eq!(taken.kind(), io::ErrorKind::ResourceBusy);

    let next = Pty::open().unwrap();
    drop(unplug);
    player.join().unwrap();
    std::fs::remove_dir_all(sysfs.join("class/tty/ttyACM0")).unwrap();
    std::fs::remove_file(dev.join("ttyACM0")).unwrap();
    while source.report.lock().phase != Phase::Absent {
        source.read(&mut volts).unwrap();
    }
    plug("ttyACM3", &next);
    let (_unplug, stop) = std::sync::mpsc::channel();
    let _player = play(next, stop);
    let plugged = Instant::now();
    assert!(read(&mut source, 640), "how long it was away only a clock knows");
    println!("measuring again after {:?}", plugged.elapsed());
    let report = source.report.lock().clone();
    assert_eq!((report.phase, report.starts, report.faults.hangups), (Phase::Running, 2, 1));
    assert_eq!(report.device, Some(dev.join("ttyACM3").display().to_string()));
}

#[test]
fn what_is_no_tty_is_refused_and_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let finder =
        Finder { configured: file.path().to_owned(), sysfs: "/nonexistent".into(), dev: "/dev".into() };
    let mut source = Wesense::new(finder);
    assert_eq!(source.read(&mut [0.0; frame::SAMPLES]).unwrap(), Read::Idle);
    let reason = source.report.lock().reason.clone().unwrap();
    assert!(reason.ends_with("is no serial line"), "{reason}");
}
