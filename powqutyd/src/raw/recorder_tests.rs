// SPDX-License-Identifier: Apache-2.0
//! The ring on a real file system, written by the real thread.

use super::*;
use crate::raw::format::Block;
use crate::raw::reader::Recording;
use std::path::{Path, PathBuf};

const RATE: f64 = 10_240.0;
const FRAME: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

/// Samples whose values are their positions.
struct Feed {
    recorder: Recorder,
    position: u64,
}

impl Feed {
    fn start(path: &Path, blocks: u64, mode: Mode) -> Self {
        let settings = Settings { path: path.to_owned(), limit: blocks * BLOCK as u64, mode };
        Self { recorder: Recorder::start(settings).unwrap(), position: 0 }
    }

    fn frames(&mut self, count: usize, event: bool) {
        for _ in 0..count {
            let volts: Vec<f32> = (0..FRAME as u64).map(|n| ((self.position + n) % 20_000) as f32).collect();
            let place = Place {
                position: self.position,
                unix_s: 1_795_170_000.0 + self.position as f64 / RATE,
                rate: RATE,
                nominal_rate: RATE,
                synchronised: true,
            };
            self.position += FRAME as u64;
            let scaling = Some(Scaling { scale: 1.0, offset: 0.0 });
            self.recorder.take(&volts, place, scaling, event);
            // As fast as the disk, so that nothing is dropped.
            if self.position.is_multiple_of(4096) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn gap(&mut self, samples: u64) {
        self.position += samples;
    }

    fn stop(self) {
        assert_eq!(self.recorder.status()["dropped_samples"], 0);
        self.recorder.stop(PATIENCE);
    }
}

fn read(path: &Path) -> (Vec<Block>, u64) {
    let mut recording = Recording::new(File::open(path).unwrap()).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = recording.next_block().unwrap() {
        let first = block.place.position;
        assert!(block
            .volts
            .iter()
            .enumerate()
            .all(|(n, &volts)| volts == ((first + n as u64) % 20_000) as f32));
        blocks.push(block);
    }
    (blocks, recording.damaged)
}

/// Positions from and to of what is recorded without a break.
fn spans(blocks: &[Block]) -> Vec<(u32, u64, u64)> {
    let mut spans: Vec<(u32, u64, u64)> = Vec::new();
    for block in blocks {
        let (from, to) = (block.place.position, block.place.position + block.volts.len() as u64);
        match spans.last_mut() {
            Some(last) if (last.0, last.2) == (block.stretch, from) => last.2 = to,
            _ => spans.push((block.stretch, from, to)),
        }
    }
    spans
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("powquty.raw");
    (dir, path)
}

#[test]
fn the_ring_keeps_the_newest_and_goes_on_after_a_restart() {
    let (_dir, path) = file();
    let mut feed = Feed::start(&path, 8, Mode::Continuous);
    feed.frames(100, false);
    feed.gap(640);
    feed.frames(100, false);
    feed.stop();
    assert_eq!(spans(&read(&path).0), [(1, 0, 6400), (1, 7040, 13_440)]);
    let mut feed = Feed::start(&path, 8, Mode::Continuous);
    feed.frames(400, false);
    feed.stop();
    let (blocks, damaged) = read(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 * BLOCK as u64);
    assert_eq!((blocks.len(), damaged), (8, 0));
    assert!(blocks.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    assert_eq!(spans(&blocks).last().map(|last| (last.0, last.2)), Some((2, 25_600)));
    // A larger ring keeps what there is, a smaller one is cut.
    let mut feed = Feed::start(&path, 40, Mode::Continuous);
    feed.frames(300, false);
    feed.stop();
    let (grown, _) = read(&path);
    assert!(grown.len() > 8 + 4, "{}", grown.len());
    assert!(grown.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    let mut feed = Feed::start(&path, 4, Mode::Continuous);
    feed.frames(300, false);
    feed.stop();
    let (cut, _) = read(&path);
    assert_eq!((cut.len(), cut.last().map(|block| block.stretch)), (4, Some(4)));
}

#[test]
fn a_crash_costs_the_block_that_was_being_written() {
    let (_dir, path) = file();
    let mut feed = Feed::start(&path, 8, Mode::Continuous);
    feed.frames(400, false);
    feed.stop();
    let (before, _) = read(&path);
    // The next block half written over the oldest one, as a power cut leaves it.
    let mut bytes = std::fs::read(&path).unwrap();
    let newest = before.last().unwrap();
    let place = reader::end(&File::open(&path).unwrap()).unwrap().place.unwrap() as usize;
    let torn = (place + 1) % 8 * BLOCK;
    let mut fresh = [0; BLOCK];
    let here = Place { position: newest.place.position + 64, ..newest.place };
    format::encode(newest.number + 1, newest.stretch, here, None, &[1.0; 900], &mut fresh);
    bytes[torn..torn + 512].copy_from_slice(&fresh[..512]);
    std::fs::write(&path, &bytes).unwrap();
    let (after, damaged) = read(&path);
    assert_eq!((&after[..], damaged), (&before[1..], 1));
    let mut feed = Feed::start(&path, 8, Mode::Continuous);
    feed.frames(30, false);
    feed.stop();
    let (healed, damaged) = read(&path);
    assert_eq!((healed.len(), damaged), (8, 0));
    assert_eq!(healed.last().map(|block| block.number), Some(newest.number + 1));
}

#[test]
fn around_events_alone_it_keeps_both_margins() {
    let (_dir, path) = file();
    let margin = Duration::from_secs(1);
    let mut feed = Feed::start(&path, 100, Mode::Events { margin });
    feed.frames(500, false);
    feed.frames(10, true);
    feed.frames(1000, false);
    feed.frames(1, true);
    feed.frames(20, false);
    feed.stop();
    let spans = spans(&read(&path).0);
    assert_eq!(spans.len(), 2, "{spans:?}");
    for ((_, from, to), (began, ended)) in spans.into_iter().zip([(500, 510), (1510, 1511)]) {
        let (began, ended) = (began * FRAME as u64, ended * FRAME as u64);
        let second = RATE as u64;
        assert!((began - second - 4096..=began - second).contains(&from), "{from} for {began}");
        assert!(to >= (ended + second).min(1531 * 64) && to <= ended + second + 2 * 4096, "{to} for {ended}");
    }
}

#[test]
fn a_full_disk_and_a_foreign_file_are_counted_and_left_alone() {
    let settings = |path: &Path| Settings { path: path.into(), limit: 1 << 20, mode: Mode::Continuous };
    let (_dir, path) = file();
    std::fs::write(&path, "a diary").unwrap();
    for (path, reason) in [(&*path, "is no raw recording"), (Path::new("/dev/full"), "No space left")] {
        let mut feed = Feed { recorder: Recorder::start(settings(path)).unwrap(), position: 0 };
        feed.frames(200, false);
        lab::wait_for("the drop", lab::PATIENCE, || {
            let status = feed.recorder.status();
            let told = status["error"].as_str().is_some_and(|error| error.contains(reason));
            (told && status["dropped_samples"].as_u64() > Some(10_000)).then_some(())
        });
        feed.recorder.stop(PATIENCE);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a diary");
}
