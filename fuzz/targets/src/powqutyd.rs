// SPDX-License-Identifier: Apache-2.0
//! What powqutyd reads: its configuration, devices, files of samples, and its own files after a power cut.

use crate::split;
use openwrt::crc32::crc32;
use openwrt::timezone::Zone;
use openwrt::uci::{Package, Problems};
use powqutyd::clock::Utc;
use powqutyd::comtrade::{cfg, dat, Recording};
use powqutyd::config::Config;
use powqutyd::emulate::plan::{Plan, Timeline};
use powqutyd::gps::receiver::Receiver;
use powqutyd::raw::format::{self, BLOCK, MAGIC};
use powqutyd::raw::reader;
use powqutyd::records::codec::{decode, encode, Decoded, Records};
use powqutyd::records::Record;
use powqutyd::source::decode::{Format, SampleReader, Scaling};
use powqutyd::source::wesense::frame::{Decoder, Faults, Item};
use powqutyd::storage::events::read_back;
use powqutyd::storage::waveforms::{self, Recorded};
use powqutyd::summary::build;
use powqutyd::summary::week::Week;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);

/// `/etc/config/powquty`.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(package) = Package::parse("powquty", bytes) else { return };
    let config = Config::read(&package, "router", &mut Problems::new());
    assert!((1000.0..=100_000.0).contains(&config.input.rate), "{}", config.input.rate);
    // Costly: buffers for the highest rates.
    if bytes.len().is_multiple_of(16) {
        assert!(power_quality::Analyzer::new(config.engine()).is_ok(), "{config:?}");
    }
}

/// The oscilloscope's byte stream: no more samples than bytes, and the same items however the bytes are cut.
pub(crate) fn wesense(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else { return };
    let (whole, faults) = decode_frames(bytes, bytes.len().max(1));
    let (cut, cut_faults) = decode_frames(bytes, usize::from(portion) + 1);
    assert_eq!(whole, cut);
    assert_eq!(faults, cut_faults);
    let frames = whole.iter().filter(|item| item.len() > 16).count();
    assert!(frames * 134 <= bytes.len());
}

fn decode_frames(bytes: &[u8], portion: usize) -> (Vec<String>, Faults) {
    let mut items = Vec::new();
    let mut decoder = Decoder::default();
    let mut take = |item: Item<'_>| {
        items.push(match item {
            Item::Frame { missing, samples } => format!("frame {missing:?} {samples:?}"),
            Item::Calibration { .. } => "calibration".to_owned(),
            Item::Acknowledged => "ack".to_owned(),
        });
    };
    for bytes in bytes.chunks(portion) {
        decoder.push(bytes, &mut take);
    }
    decoder.silence(&mut take);
    (items, decoder.faults())
}

/// Lines of a GPS receiver: a position on the Earth, and the same one however the bytes are cut.
pub(crate) fn nmea(bytes: &[u8]) {
    let Some((&portion, bytes)) = bytes.split_first() else { return };
    let whole = listen(bytes, bytes.len().max(1));
    let cut = listen(bytes, usize::from(portion) + 1);
    assert_eq!(whole.faults(), cut.faults());
    assert_eq!(whole.fix(NOW), cut.fix(NOW));
    assert_eq!(whole.is_talking(NOW), cut.is_talking(NOW));
    if let Some(fix) = whole.fix(NOW) {
        assert!(fix.latitude.abs() <= 90.0 && fix.longitude.abs() <= 180.0, "{fix:?}");
        assert!(
            fix.altitude.is_none_or(f64::is_finite) && fix.accuracy.is_none_or(f64::is_finite),
            "{fix:?}"
        );
    }
}

fn listen(bytes: &[u8], portion: usize) -> Receiver {
    let mut receiver = Receiver::default();
    for bytes in bytes.chunks(portion) {
        receiver.push(bytes, NOW);
    }
    receiver
}

/// A file or pipe of samples in each format: finite numbers, and the same ones however the bytes are cut.
pub(crate) fn samples(bytes: &[u8]) {
    let [kind, portion, bytes @ ..] = bytes else { return };
    let (_, form) = Format::NAMES[usize::from(*kind) % Format::NAMES.len()];
    let column = (*kind >= 128).then(|| usize::from(*kind) / 8 % 5 + 1);
    let whole = read_samples(bytes, form, column, bytes.len().max(1));
    assert!(whole.0.len() <= bytes.len() && whole.0.iter().all(|sample| sample.is_finite()));
    if form != Format::Csv {
        assert_eq!(whole, read_samples(bytes, form, column, usize::from(*portion) + 1));
    }
}

fn read_samples(
    bytes: &[u8],
    form: Format,
    column: Option<usize>,
    portion: usize,
) -> (Vec<f32>, Option<String>) {
    let input = Portions { bytes, portion };
    let scaling = Scaling { scale: 0.5, offset: 1.0 };
    let mut reader = match SampleReader::new(input, form, scaling, column) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let (mut samples, mut volts) = (Vec::new(), [0.0; 64]);
    loop {
        match reader.read(&mut volts) {
            Ok(0) => return (samples, None),
            Ok(count) => samples.extend_from_slice(&volts[..count]),
            Err(error) => return (samples, Some(error.to_string())),
        }
    }
}

struct Portions<'a> {
    bytes: &'a [u8],
    portion: usize,
}

impl Read for Portions<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.portion.min(buffer.len()).min(self.bytes.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

/// A script of the simulator, of an emulated device.
pub(crate) fn script(bytes: &[u8]) {
    let Ok(plan) = Plan::parse(&String::from_utf8_lossy(bytes)) else { return };
    assert!(plan.grid.timeline.len() <= 4096 && plan.faults.len() <= 4096);
    let mut timeline = Timeline::new(&plan);
    let due = (0..10_000).map_while(|_| timeline.due(3600.0)).map(|fault| fault.start);
    due.fold(f64::MIN, |before, start| {
        assert!(before <= start && start < 3600.0);
        start
    });
}

/// A record file: reading ends, passes damage over, and what is understood means the same when written again.
pub(crate) fn records(bytes: &[u8]) {
    let mut records = Records::new(bytes);
    let known = records.by_ref().map(Result::unwrap).count();
    assert!(records.valid_end() <= bytes.len() as u64);
    assert!(known <= bytes.len());

    // Past the check sum: kind, time and payload are the fuzzer's.
    let Some(length) = bytes.len().checked_sub(9).filter(|&length| length <= 4096) else { return };
    let mut frame = u16::try_from(length).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame.extend(crc32(&frame).to_le_bytes());
    let Decoded::Frame(record, size) = decode(&frame) else { panic!("a whole frame") };
    assert_eq!(size, frame.len());
    let Some(record) = record else { return };
    // Texts of a header may grow beyond a frame by their escapes; the daemon cuts its own.
    if matches!(record.record, Record::Header(_)) {
        return;
    }
    let mut again = Vec::new();
    encode(&record, &mut again);
    let Decoded::Frame(Some(same), _) = decode(&again) else { panic!("{record:?}") };
    let mut third = Vec::new();
    encode(&same, &mut third);
    assert_eq!(again, third, "{record:?}");
}

/// The weekly report of a record file whose frames are the fuzzer's; each is `length, kind, time, payload`.
pub(crate) fn summary(bytes: &[u8]) {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let Some((&length, tail)) = rest.split_first() {
        let payload = &tail[..tail.len().min(usize::from(length) + 9)];
        rest = &tail[payload.len()..];
        if payload.len() < 9 {
            break;
        }
        let start = text.len();
        text.extend(u16::try_from(payload.len() - 9).unwrap().to_le_bytes());
        text.extend_from_slice(payload);
        let sum = crc32(&text[start..]);
        text.extend(sum.to_le_bytes());
    }
    let (_file, path) = in_memory(&text);
    let now = Utc::from_millis(1_795_000_000_000);
    let Ok(summary) = build::of_file(&path, None, &Zone::UTC, now) else { return };
    let _ = serde_json::to_vec(&summary).unwrap();
}

/// The log of events, read at a start.
pub(crate) fn event_log(bytes: &[u8]) {
    let (_file, path) = in_memory(bytes);
    assert!(read_back(&path, 230.0, 20).len() <= 20);
}

/// The file of a waveform with a sum that fits: no more samples than there may be.
pub(crate) fn waveform(bytes: &[u8]) {
    let _ = Recorded::decode(bytes);
    let mut file = b"PQWAVE1\n".to_vec();
    file.extend_from_slice(bytes);
    file.extend(crc32(&file).to_le_bytes());
    if let Some(recorded) = Recorded::decode(&file) {
        assert!(recorded.samples.len() <= waveforms::MOST_SAMPLES);
        assert!(recorded.rate > 0.0 && recorded.rate.is_finite());
    }
}

/// A block of a raw recording with a sum that fits: no more samples than there is room for.
pub(crate) fn raw_block(bytes: &[u8]) {
    let mut block = [0; BLOCK];
    let length = bytes.len().min(BLOCK - 8);
    block[8..8 + length].copy_from_slice(&bytes[..length]);
    seal(&mut block);
    if let Some(block) = format::decode(&block) {
        assert!(block.volts.len() <= format::MOST_SAMPLES);
        assert!(block.place.rate.is_finite() && block.place.nominal_rate.is_finite());
    }
}

fn seal(block: &mut [u8]) {
    block[..4].copy_from_slice(&MAGIC);
    let sum = crc32(&block[8..]);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// A ring of blocks: read in the order of time, damage counted, never round and round.
pub(crate) fn raw_ring(bytes: &[u8]) {
    let Some((&sums, bytes)) = bytes.split_first() else { return };
    let mut ring = Vec::new();
    for (at, part) in bytes.chunks(120).take(8).enumerate() {
        let mut block = vec![0; BLOCK];
        block[8..8 + part.len()].copy_from_slice(part);
        if sums >> at & 1 == 0 {
            seal(&mut block);
        }
        ring.extend(block);
    }
    ring.truncate(ring.len().saturating_sub(bytes.len() % 7));
    let (file, _) = in_memory(&ring);
    let _ = (reader::is_recording(&file), reader::end(&file).unwrap());
    let mut recording = reader::Recording::new(file).unwrap();
    let (mut blocks, mut last) = (0, 0);
    while let Some(block) = recording.next_block().unwrap() {
        assert!(block.number > last);
        (blocks, last) = (blocks + 1, block.number);
    }
    assert!(blocks + recording.damaged <= 8);
}

/// COMTRADE of a waveform with any names, rates and samples: each line in its place, each sample in its range.
pub(crate) fn comtrade(bytes: &[u8]) {
    let Some((numbers, rest)) = bytes.split_first_chunk::<32>() else { return };
    let (text, samples) = split(rest);
    let number = |at: usize| f64::from_le_bytes(std::array::from_fn(|byte| numbers[at * 8 + byte]));
    // As a waveform file or a ring holds them.
    let rate = number(0);
    if !(rate.is_finite() && rate > 0.0) {
        return;
    }
    let volts: Vec<f32> = samples
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .filter(|volts| volts.is_finite())
        .collect();
    let text = String::from_utf8_lossy(text);
    let recording = Recording {
        station: &text,
        device: &text,
        volts: &volts,
        rate,
        nominal_frequency: 50.0,
        nominal_voltage: 230.0,
        start: Utc::from_seconds(number(1)),
        trigger: Utc::from_seconds(number(2)),
        synchronised: numbers[31] & 1 == 0,
    };
    let lines = cfg(&recording);
    assert_eq!(lines.matches("\r\n").count(), 12, "{lines:?}");
    assert_eq!(lines.chars().filter(|letter| letter.is_control()).count(), 24, "{lines:?}");
    assert_eq!(lines.lines().next().unwrap_or_default().split(',').count(), 3, "{lines:?}");
    let mut data = Vec::new();
    dat(&recording, &mut data).unwrap();
    assert_eq!(data.len(), volts.len() * 10);
    let raw = data.chunks_exact(10).map(|sample| i16::from_le_bytes([sample[8], sample[9]]));
    assert!(raw.into_iter().all(|sample| sample > i16::MIN));
}

/// Times and weeks as an operator or a file writes them.
pub(crate) fn clock_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(at) = Utc::parse_rfc3339(&text) {
        // To the millisecond, as everywhere; the year 9999 may be rounded up out of the calendar.
        let shown = at.rfc3339();
        assert!(Utc::parse_rfc3339(&shown).is_some(), "{shown}");
        let week = Week::of(at, &Zone::UTC);
        let _ = (week.before(), at.spaced(), at.decimal());
    }
    if let Some(week) = Week::parse(&text) {
        assert_eq!(Week::parse(&week.to_string()), Some(week));
    }
    let seconds = bytes.first_chunk().map_or(0.0, |bytes| f64::from_le_bytes(*bytes));
    let _ = Utc::from_seconds(seconds).rfc3339();
}

/// A file without a name, and how to open it again.
fn in_memory(bytes: &[u8]) -> (File, std::path::PathBuf) {
    use std::os::fd::AsRawFd;
    let file = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(file);
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}
