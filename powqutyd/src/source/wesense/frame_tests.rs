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
    let mut bytes = stream(1..=6);
    bytes[3 * FRAME + 4] = 0xEE;
    let mut decoder = Decoder::default();
    let seen = decode(&mut decoder, &bytes, 50);
    assert_eq!(seen.frames, [1, 2, 3, 4, 5, 6]);
    assert!(seen.missing.is_empty());
    assert_eq!(decoder.faults().counter_errors, 1);
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
fn bytes_put_in_between_cost_one_frame_at_most() {
    for extra in [1, 4, 50, 134, 500] {
        let mut bytes = stream(1..=3);
        bytes.extend(std::iter::repeat_n(0x05, extra));
        bytes.extend(stream(4..=9));
        let mut decoder = Decoder::default();
        let seen = decode(&mut decoder, &bytes, 64);
        assert_eq!(seen.frames, [1, 2, 4, 5, 6, 7, 8, 9], "{extra} bytes put in");
    }
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
                (0..SAMPLES).all(|i| samples[i] == sample(counter, i))
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
