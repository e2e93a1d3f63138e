// SPDX-License-Identifier: Apache-2.0
//! The frame decoder against every fault of the line.

use super::*;
use proptest::prelude::*;

/// The sample `index` of frame `counter`: noise within 512 LSB, without the one value that is the length of a header.
fn sample(counter: u16, index: usize) -> i16 {
    let seed = (u64::from(counter) << 8 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match ((seed ^ seed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 55) as i16 - 256 {
        130 => 131,
        noise => noise,
    }
}

fn frame(counter: u16) -> Vec<u8> {
    let mut bytes = vec![ID_DATA, 0x85, 130, 0];
    bytes.extend(counter.to_le_bytes());
    bytes.extend((0..SAMPLES).flat_map(|index| sample(counter, index).to_le_bytes()));
    bytes
}

fn stream(counters: impl IntoIterator<Item = u16>) -> Vec<u8> {
    counters.into_iter().flat_map(frame).collect()
}

fn calibration(offset: f32, scale: f32) -> Vec<u8> {
    let mut bytes = vec![ID_CALIBRATION, CC_CALIBRATION, 8, 0];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(scale.to_le_bytes());
    bytes
}

#[derive(Default)]
struct Seen {
    /// Counter each delivered frame must have had, by its samples.
    frames: Vec<u16>,
    missing: Vec<(usize, Missing)>,
    calibrations: Vec<(f32, f32)>,
    acknowledged: usize,
}

fn decode(decoder: &mut Decoder, bytes: &[u8], chunk: usize) -> Seen {
    let mut seen = Seen::default();
    let mut take = |item: Item<'_>| match item {
        Item::Calibration { offset, scale } => seen.calibrations.push((offset, scale)),
        Item::Acknowledged => seen.acknowledged += 1,
        Item::Frame { missing, samples } => {
            let counter = (0..=u16::MAX)
                .find(|&counter| (0..SAMPLES).all(|index| samples[index] == sample(counter, index)))
                .expect("a frame that was never sent");
            if missing != Missing::Nothing {
                seen.missing.push((seen.frames.len(), missing));
            }
            seen.frames.push(counter);
        }
    };
    for portion in bytes.chunks(chunk) {
        decoder.push(portion, &mut take);
    }
    decoder.silence(&mut take);
    seen
}

#[test]
fn a_clean_stream_arrives_whole_in_any_portions() {
    for chunk in [1, 3, 64, 134, 135, 511, 4096] {
        let mut decoder = Decoder::default();
        let mut bytes = calibration(3.5, 0.025);
        bytes.extend([ID_MODE, 0x84, 1, 0, 1]);
        bytes.extend(stream(10..60));
        let seen = decode(&mut decoder, &bytes, chunk);
        assert_eq!(seen.frames, (10..60).collect::<Vec<_>>(), "portions of {chunk}");
        assert_eq!(seen.calibrations, [(3.5, 0.025)]);
        assert_eq!(seen.acknowledged, 1);
        assert_eq!(decoder.faults(), Faults::default());
    }
}

#[test]
fn the_counter_wraps_without_a_gap() {
    let mut decoder = Decoder::default();
    let seen = decode(&mut decoder, &stream((65_530..=u16::MAX).chain(0..6)), 100);
    assert_eq!(seen.frames.len(), 12);
    assert!(seen.missing.is_empty());
}

#[test]
fn duplicates_are_dropped_and_gaps_are_told() {
    let mut decoder = Decoder::default();
    let seen = decode(&mut decoder, &stream([1, 2, 2, 3, 7, 8]), 134);
    assert_eq!(seen.frames, [1, 2, 3, 7, 8]);
    assert_eq!(seen.missing, [(3, Missing::Frames(3))]);
    let faults = decoder.faults();
    assert_eq!((faults.duplicates, faults.gaps, faults.missing_frames), (1, 1, 3));
}

#[test]
fn a_jump_that_no_gap_explains_is_a_restart() {
    let mut decoder = Decoder::default();
    let seen = decode(&mut decoder, &stream([100, 101, 40_000, 40_001]), 134);
    // Nothing vouches for the last frame before the jump.
    assert_eq!(seen.frames, [100, 40_000, 40_001]);
    assert_eq!(seen.missing, [(1, Missing::Unknown)]);
    assert_eq!(decoder.faults().restarts, 1);
}

#[test]
fn a_counter_that_is_wrong_alone_costs_nothing() {
    for first in [1_u16, 0x29FF, 30_000, 65_530] {
        for wrong in [0x00EE, 0x2A55, 0x8000, 0x5555] {
            let counters: Vec<u16> = (0..6).map(|n| first.wrapping_add(n)).collect();
            let mut bytes = stream(counters.iter().copied());
            let turned = counters[3] ^ wrong;
            bytes[3 * FRAME + 4..3 * FRAME + 6].copy_from_slice(&turned.to_le_bytes());
            let mut decoder = Decoder::default();
            let seen = decode(&mut decoder, &bytes, 50);
            assert_eq!(seen.frames, counters, "{turned} among {counters:?}");
            assert!(seen.missing.is_empty());
            assert_eq!(decoder.faults(), Faults { counter_errors: 1, ..Faults::default() });
        }
    }
}

#[test]
fn a_torn_frame_is_dropped_and_its_successors_are_kept() {
    for lost in [1, 2, 5, 60, 133] {
        for cut in [1, 4, 6, 70, 133] {
            let mut bytes = stream(1..=3);
            bytes.extend(frame(4)[..cut.min(134 - lost)].iter());
            bytes.extend(frame(4)[cut.min(134 - lost) + lost..].iter());
            bytes.extend(stream(5..=9));
            let mut decoder = Decoder::default();
            let seen = decode(&mut decoder, &bytes, 77);
            // Without its successor's header and counter nothing vouches for frame 3.
            let first = if cut.min(134 - lost) < PEEK && !seen.frames.contains(&3) { 2 } else { 3 };
            let whole: Vec<u16> = (1..=first).chain(5..=9).collect();
            assert_eq!(seen.frames, whole, "{lost} bytes lost at {cut}");
            assert_eq!(seen.missing, [(usize::from(first), Missing::Frames(4 - first))]);
        }
    }
}

#[test]
fn bytes_put_in_between_cost_nothing_or_one_frame() {
    for extra in [1, 4, 50, 134, 370, 371, 500] {
        let mut bytes = stream(1..=3);
        bytes.extend(std::iter::repeat_n(0x05, extra));
        bytes.extend(stream(4..=9));
        let mut decoder = Decoder::default();
        let seen = decode(&mut decoder, &bytes, 64);
        let salvaged = extra <= 370;
        let expected: Vec<u16> = (1..=9).filter(|&counter| counter != 3 || salvaged).collect();
        assert_eq!(seen.frames, expected, "{extra} bytes put in");
        assert_eq!(decoder.faults().salvaged, u32::from(salvaged));
    }
}

/// The samples of a grid with a jump at `jump`, the size of a dip's edge.
fn grid(counter: u16, jump: i32) -> Vec<i16> {
    let at = |n: i32| {
        let level = if n >= jump { 6500.0 } else { 13_000.0 };
        (level * (std::f64::consts::TAU * 50.0 * f64::from(n) / 10_240.0).sin()) as i16
    };
    (0..SAMPLES as i32).map(|index| at(i32::from(counter) * SAMPLES as i32 + index)).collect()
}

/// Ten frames of the grid with bytes put in at a place in the seventh (134: behind it), and what comes of that one.
fn put_in(at: usize, extra: &[u8], jump: i32) -> Option<Vec<i16>> {
    let mut bytes = Vec::new();
    for counter in 0..10 {
        let mut frame = frame(counter);
        frame.truncate(PEEK);
        frame.extend(grid(counter, jump).iter().flat_map(|sample| sample.to_le_bytes()));
        if counter == 6 {
            drop(frame.splice(at..at, extra.iter().copied()));
        }
        bytes.extend(frame);
    }
    let (mut decoder, mut frames, mut missing) = (Decoder::default(), Vec::new(), 0);
    decoder.push(&bytes, &mut |item| {
        if let Item::Frame { missing: before, samples } = item {
            missing += if let Missing::Frames(count) = before { count } else { 0 };
            frames.push(samples.to_vec());
        }
    });
    decoder.silence(&mut |item| frames.extend(matches!(item, Item::Frame { .. }).then(|| grid(9, jump))));
    assert_eq!(frames.len() + usize::from(missing), 10, "{} bytes at {at}", extra.len());
    (missing == 0).then(|| frames.swap_remove(6))
}

#[test]
fn what_is_salvaged_was_sent() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let (mut salvaged, mut behind) = (0, 0);
    for _ in 0..4000 {
        let jump = 6 * SAMPLES as i32 + random() as i32 % 192 - 64;
        let mut extra: Vec<u8> = (0..1 + random() % 60).map(|_| random() as u8).collect();
        let sent = grid(6, jump);
        behind += 1;
        if let Some(got) = put_in(FRAME, &extra, jump) {
            assert_eq!(got, sent);
            salvaged += 1;
        }
        // Inside, noise or a stretch of the frame again: refused, or right but for what lies where it could lie.
        let at = PEEK + random() % (2 * SAMPLES);
        if random() % 2 == 0 {
            let again: Vec<u8> = sent.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let from = (at - PEEK).saturating_sub(extra.len());
            extra = again[from..at - PEEK].to_vec();
        }
        if let Some(got) = put_in(at, &extra, jump).filter(|_| !extra.is_empty()) {
            let off = got.iter().zip(&sent).map(|(got, sent)| got.abs_diff(*sent)).max().unwrap();
            assert!(off <= 1250, "{} bytes at {at}, jump at {jump}: off by {off}", extra.len());
        }
    }
    println!("{salvaged} of {behind} salvaged");
    assert!(salvaged * 100 >= behind * 95, "{salvaged} of {behind} frames before garbage salvaged");
}

#[test]
fn joining_in_the_middle_finds_the_frames() {
    let bytes = stream(200..230);
    for start in 1..FRAME {
        let mut decoder = Decoder::default();
        let seen = decode(&mut decoder, &bytes[start..], 134);
        assert_eq!(seen.frames, (201..230).collect::<Vec<_>>(), "joined at byte {start}");
    }
}

#[test]
fn a_header_among_the_samples_confuses_nobody() {
    let mut bytes = stream(1..=2);
    let mut third = frame(3);
    third[40..46].copy_from_slice(&[ID_DATA, 0x85, 130, 0, 4, 0]);
    bytes.extend(&third);
    bytes.extend(stream(4..=6));
    for start in [0, 1, FRAME + 30, 2 * FRAME + 20] {
        let mut decoder = Decoder::default();
        let mut frames = 0;
        decoder.push(&bytes[start..], &mut |item| frames += usize::from(matches!(item, Item::Frame { .. })));
        decoder.silence(&mut |item| frames += usize::from(matches!(item, Item::Frame { .. })));
        assert_eq!(frames, 6 - start.div_ceil(FRAME), "joined at byte {start}");
    }
}

#[test]
fn silence_inside_a_frame_loses_that_frame_alone() {
    let mut decoder = Decoder::default();
    let first = stream(1..=3);
    let mut seen = decode(&mut decoder, &first[..first.len() - 20], 134);
    assert_eq!(seen.frames, [1, 2]);
    seen = decode(&mut decoder, &stream(4..=6), 134);
    assert_eq!(seen.frames, [4, 5, 6]);
    assert_eq!(seen.missing, [(0, Missing::Frames(1))]);
}

#[test]
fn an_implausible_calibration_is_garbage() {
    let mut decoder = Decoder::default();
    let mut bytes = calibration(f32::NAN, 0.025);
    bytes.extend(stream(1..=3));
    let seen = decode(&mut decoder, &bytes, 16);
    assert!(seen.calibrations.is_empty());
    assert_eq!(seen.frames, [1, 2, 3]);
}

#[derive(Debug, Clone)]
enum Fault {
    None,
    Lose { at: usize, count: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Repeat,
    Skip,
}

/// Few bytes lost, many put in: the two must not cancel out, which no receiver could see.
fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        1 => (0..FRAME, 1..10usize).prop_map(|(at, count)| Fault::Lose { at, count }),
        1 => (0..FRAME, proptest::collection::vec(any::<u8>(), 100..300)).prop_map(|(at, bytes)| Fault::Insert { at, bytes }),
        1 => Just(Fault::Repeat),
        1 => Just(Fault::Skip),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No frame is invented, order and gaps are exact, and a frame between two whole neighbours always arrives.
    #[test]
    fn faults_lose_only_what_they_touch(faults in proptest::collection::vec(fault(), 20..80), chunk in 1usize..400, begin: u16) {
        let mut bytes = Vec::new();
        let mut whole = Vec::new();
        for (index, fault) in faults.iter().enumerate() {
            let counter = begin.wrapping_add(index as u16);
            let mut frame = frame(counter);
            whole.push(matches!(fault, Fault::None | Fault::Repeat));
            match fault {
                Fault::None => {}
                Fault::Lose { at, count } => drop(frame.drain(*at..(*at + count).min(FRAME))),
                Fault::Insert { at, bytes } => drop(frame.splice(*at..*at, bytes.iter().copied())),
                Fault::Repeat => frame.extend(frame.clone()),
                Fault::Skip => frame.clear(),
            }
            bytes.extend(frame);
        }
        let mut decoder = Decoder::default();
        let mut delivered = Vec::new();
        let mut next = None::<u16>;
        let mut take = |item: Item<'_>| {
            let Item::Frame { missing, samples } = item else { return };
            let position = (0..faults.len()).find(|&index| {
                let counter = begin.wrapping_add(index as u16);
                // The last ones may be of what was put in, where that looks like them.
                let begins = (0..SAMPLES - 3).all(|i| samples[i] == sample(counter, i));
                begins && samples.iter().all(|sample| sample.unsigned_abs() < 1100)
            });
            let step = match missing { Missing::Nothing => 0, Missing::Frames(count) => count, Missing::Unknown => u16::MAX };
            delivered.push((position, step));
        };
        for portion in bytes.chunks(chunk) {
            decoder.push(portion, &mut take);
        }
        decoder.silence(&mut take);
        for (position, step) in &delivered {
            let position = position.expect("a frame that was never sent");
            prop_assert_ne!(*step, u16::MAX);
            if let Some(next) = next {
                prop_assert_eq!(position as u16, next + step, "gap told wrongly");
            }
            next = Some(position as u16 + 1);
        }
        for index in 1..faults.len() - 1 {
            if whole[index - 1] && whole[index] && whole[index + 1] {
                prop_assert!(delivered.iter().any(|(position, _)| *position == Some(index)), "frame {} lost", index);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000), chunk in 1usize..700) {
        let mut decoder = Decoder::default();
        for portion in bytes.chunks(chunk) {
            decoder.push(portion, &mut |_| {});
        }
        decoder.silence(&mut |_| {});
    }
}
