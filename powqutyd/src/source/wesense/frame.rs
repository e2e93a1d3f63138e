// SPDX-License-Identifier: Apache-2.0
//! The oscilloscope's byte stream, taken apart without I/O.
//!
//! Every message is `id, command, length (u16 LE), payload`; there is neither sync word nor checksum, and the four
//! bytes of a data header can occur among samples near zero. So a frame is handed on only once the header of its
//! successor has been seen where it must be: a frame that lost or gained bytes inside never becomes samples. (What no
//! receiver of this protocol can see: losses and insertions that cancel out to a whole number of frames.)
//!
//! Where bytes were put in, the header alone does not tell whether behind the frame or inside it. The samples do: the
//! voltage goes on from the frame before and into the frame behind without a jump, or with one, as at the edge of a dip.
//! [`Decoder::is_whole`] judges that; what it lets pass wrongly is a last sample or two that lie where they could lie.

/// Samples in a data frame.
pub const SAMPLES: usize = 64;
const HEADER: usize = 4;
/// Longest payloads that are waited for; longer ones are garbage.
const MAX_CALIBRATION: usize = 64;
const MAX_ACKNOWLEDGEMENT: usize = 4;
const FRAME: usize = HEADER + 2 + 2 * SAMPLES;
/// A data header with its counter.
const PEEK: usize = HEADER + 2;
const BUFFER: usize = 512;
/// Frames of a forward step that is believed to be a gap: one minute at 160 frames a second.
const LONGEST_GAP: u16 = 9600;
/// Frames of a backward step that is believed to be a repetition.
const LONGEST_REPEAT: u16 = 64;
/// Frames a counter may be ahead of the expected one to vouch for a header on its own.
const NEAR: u16 = 8;

const ID_CALIBRATION: u8 = 0x02;
const CC_CALIBRATION: u8 = 0x82;
const ID_MODE: u8 = 0x03;
const ID_DATA: u8 = 0x05;

/// Asks for the calibration.
pub const REQUEST_CALIBRATION: [u8; 4] = [0x02, 0x02, 0x00, 0x00];
/// Starts sampling.
pub const START: [u8; 5] = [0x03, 0x04, 0x01, 0x00, 0x01];
/// Stops sampling.
pub const STOP: [u8; 5] = [0x03, 0x04, 0x01, 0x00, 0x00];

/// What the device said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// Volts = (raw − `offset`) × `scale`.
    Calibration {
        /// Offset in LSB.
        offset: f32,
        /// Volts per LSB.
        scale: f32,
    },
    /// The answer to start or stop.
    Acknowledged,
    /// 64 consecutive samples.
    Frame {
        /// What is missing before them.
        missing: Missing,
        /// Raw converter values.
        samples: &'a [i16; SAMPLES],
    },
}

/// Input missing before a frame, by the frame counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing.
    Nothing,
    /// This many whole frames.
    Frames(u16),
    /// The counter jumped further than a gap can explain: the device began anew, and only a clock knows how long it
    /// was away.
    Unknown,
}

/// How often which fault was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Frames that had lost or gained bytes.
    pub torn: u32,
    /// Frames that came again.
    pub duplicates: u32,
    /// Gaps in the frame counter.
    pub gaps: u32,
    /// Frames missing in those gaps.
    pub missing_frames: u32,
    /// Bytes skipped while looking for a header.
    pub garbage_bytes: u32,
    /// Counter jumps that no gap explains.
    pub restarts: u32,
    /// Frames whose counter alone was wrong.
    pub counter_errors: u32,
    /// Frames that were whole although something stood between them and their successor.
    pub salvaged: u32,
}

/// Bytes in, [`Item`]s out; holds at most 512 bytes.
#[derive(Debug)]
pub struct Decoder {
    buffer: [u8; BUFFER],
    length: usize,
    locked: bool,
    expected: Option<u16>,
    samples: [i16; SAMPLES],
    /// The last sample that was handed on.
    last: Option<i16>,
    /// Steepest step from sample to sample of late, jumps left out, in 1/256 LSB.
    steepest: u32,
    faults: Faults,
}

/// What stands between a frame and its successor.
enum Between {
    /// So many bytes that belong to nothing.
    Garbage(usize),
    /// That is not to be told, or bytes are missing.
    Unknown,
    /// More bytes are needed to tell.
    Wait,
}

enum Step {
    /// Something was consumed; go on.
    Again,
    /// More bytes are needed.
    Wait,
}

/// What the bytes at a place look like.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Data {
        counter: u16,
    },
    Calibration,
    Mode {
        length: usize,
    },
    Nothing,
    /// Too few bytes to tell.
    Short,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            buffer: [0; BUFFER],
            length: 0,
            locked: true,
            expected: None,
            samples: [0; SAMPLES],
            last: None,
            steepest: 0,
            faults: Faults::default(),
        }
    }
}

impl Decoder {
    /// Counters since construction.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Samples that have arrived whole beyond the last frame that was handed on: those of the frame that waits for
    /// its successor.
    #[must_use]
    pub fn held_samples(&self) -> usize {
        let whole = self.locked && self.length >= FRAME;
        match self.look(0) {
            Look::Data { counter } if whole && self.expected == Some(counter) => SAMPLES,
            _ => 0,
        }
    }

    /// Takes bytes in any portions and hands on what is complete and vouched for.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(Item<'_>)) {
        while !bytes.is_empty() {
            let take = bytes.len().min(BUFFER - self.length);
            self.buffer[self.length..self.length + take].copy_from_slice(&bytes[..take]);
            self.length += take;
            bytes = &bytes[take..];
            while let Step::Again = self.step(out) {}
        }
    }

    /// The line has gone silent: the last complete frame has no successor to wait for, a rest of one is torn.
    pub fn silence(&mut self, out: &mut dyn FnMut(Item<'_>)) {
        if self.locked && self.length == FRAME {
            if let Look::Data { counter } = self.look(0) {
                if self.expected.is_none_or(|expected| counter == expected) {
                    self.hand_on(counter, out);
                    self.consume(FRAME);
                }
            }
        }
        if self.length > 0 {
            count(&mut self.faults.torn, 1);
            self.consume(self.length);
        }
        self.locked = true;
    }

    /// The device was opened anew: forgets the counter and what was buffered, keeps the fault counts.
    pub fn reopened(&mut self) {
        self.length = 0;
        self.locked = true;
        self.expected = None;
        self.last = None;
    }

    fn step(&mut self, out: &mut dyn FnMut(Item<'_>)) -> Step {
        if self.length == 0 {
            return Step::Wait;
        }
        if !self.locked {
            return self.hunt();
        }
        match self.look(0) {
            Look::Short => Step::Wait,
            Look::Data { counter } => self.data(counter, out),
            Look::Calibration => self.calibration(out),
            Look::Mode { length } if self.length >= length => {
                out(Item::Acknowledged);
                self.consume(length);
                Step::Again
            }
            Look::Mode { .. } => Step::Wait,
            Look::Nothing => {
                self.lose_lock();
                Step::Again
            }
        }
    }

    /// A data header stands where one must: its frame counts when the next message begins right behind it, and when
    /// the counters of the two are as close as what is expected makes likely.
    fn data(&mut self, counter: u16, out: &mut dyn FnMut(Item<'_>)) -> Step {
        match self.look(FRAME) {
            Look::Short => return Step::Wait,
            Look::Data { counter: next } if self.follows(counter, next) => {
                let counter = self.believe(counter, next);
                self.hand_on(counter, out);
            }
            Look::Calibration => self.hand_on(counter, out),
            // A counter that leads nowhere, while the one behind it goes on from here, is wrong alone.
            Look::Data { .. } if self.expected == Some(counter) => match self.look(2 * FRAME) {
                Look::Short => return Step::Wait,
                Look::Data { counter: second } if second == counter.wrapping_add(2) => {
                    self.hand_on(counter, out);
                }
                _ => {
                    self.torn();
                    return Step::Again;
                }
            },
            _ => match self.between(counter) {
                Between::Wait => return Step::Wait,
                Between::Garbage(extra) => {
                    count(&mut self.faults.salvaged, 1);
                    count(&mut self.faults.garbage_bytes, extra as u32);
                    self.hand_on(counter, out);
                    self.consume(extra);
                }
                Between::Unknown => {
                    self.torn();
                    return Step::Again;
                }
            },
        }
        self.consume(FRAME);
        Step::Again
    }

    /// Looks for the successor of the frame at the front, which is not where it must be.
    fn between(&self, counter: u16) -> Between {
        // Another header in its place is the beginning of something else.
        let header = matches!(self.look(FRAME), Look::Data { .. });
        if header || self.expected != Some(counter) || self.last.is_none() {
            return Between::Unknown;
        }
        let next = counter.wrapping_add(1);
        // With its first sample.
        let most = self.length.saturating_sub(PEEK + 1);
        match (PEEK..most).find(|&at| self.look(at) == Look::Data { counter: next }) {
            Some(at) if at > FRAME && self.is_whole(at) => Between::Garbage(at - FRAME),
            None if self.length < BUFFER => Between::Wait,
            _ => Between::Unknown,
        }
    }

    /// Whether the samples of the frame at the front, whose successor begins at `next`, lead from the frame before to
    /// that one with a single jump at most, and what stands between does not: then it was put in behind the frame.
    fn is_whole(&self, next: usize) -> bool {
        let limit = self.steepest * 3 / 2 / 256 + 8;
        let jumps = |from: i16, bytes: &[u8]| {
            let mut last = from;
            let mut jumps = 0;
            for sample in bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])) {
                jumps += u32::from(u32::from(sample.abs_diff(last)) > limit);
                last = sample;
            }
            (jumps, last)
        };
        let first = &self.buffer[next + PEEK..next + PEEK + 2];
        let (inside, last) = jumps(self.last.unwrap_or_default(), &self.buffer[PEEK..FRAME]);
        let (behind, _) = jumps(last, first);
        let extra = &self.buffer[FRAME..next];
        let (through, end) = jumps(last, extra);
        let goes_on = extra.len().is_multiple_of(2) && through + jumps(end, first).0 <= 1;
        inside + behind <= 1 && !goes_on
    }

    fn follows(&self, counter: u16, next: u16) -> bool {
        let step = next.wrapping_sub(counter);
        if self.expected.is_none_or(|expected| expected == counter) {
            step <= LONGEST_GAP || is_repeat(next, counter)
        } else {
            step <= NEAR || self.expected.is_some_and(|expected| next == expected.wrapping_add(1))
        }
    }

    /// A counter that fits neither what went before nor what follows, while those two fit each other, is wrong.
    fn believe(&mut self, counter: u16, next: u16) -> u16 {
        match self.expected {
            Some(expected)
                if next == expected.wrapping_add(1)
                    && ![expected, next].contains(&counter)
                    && !is_repeat(counter, expected) =>
            {
                count(&mut self.faults.counter_errors, 1);
                expected
            }
            _ => counter,
        }
    }

    fn hand_on(&mut self, counter: u16, out: &mut dyn FnMut(Item<'_>)) {
        let ahead = self.expected.map_or(0, |expected| counter.wrapping_sub(expected));
        if self.expected.is_some_and(|expected| is_repeat(counter, expected)) {
            count(&mut self.faults.duplicates, 1);
            return;
        }
        let missing = match ahead {
            0 => Missing::Nothing,
            1..=LONGEST_GAP => {
                count(&mut self.faults.gaps, 1);
                count(&mut self.faults.missing_frames, u32::from(ahead));
                Missing::Frames(ahead)
            }
            _ => {
                count(&mut self.faults.restarts, 1);
                Missing::Unknown
            }
        };
        self.expected = Some(counter.wrapping_add(1));
        for (sample, pair) in self.samples.iter_mut().zip(self.buffer[PEEK..FRAME].chunks_exact(2)) {
            *sample = i16::from_le_bytes([pair[0], pair[1]]);
        }
        self.remember();
        out(Item::Frame { missing, samples: &self.samples });
    }

    /// What the next frame is held against, should that be needed.
    fn remember(&mut self) {
        let (mut most, mut second) = (0, 0);
        for pair in self.samples.windows(2) {
            let step = pair[1].abs_diff(pair[0]);
            second = second.max(step.min(most));
            most = most.max(step);
        }
        // Forgotten within seconds, so that it outlasts a dip.
        self.steepest = (self.steepest - self.steepest / 256).max(u32::from(second) * 256);
        self.last = Some(self.samples[SAMPLES - 1]);
    }

    fn calibration(&mut self, out: &mut dyn FnMut(Item<'_>)) -> Step {
        let length = HEADER + usize::from(self.u16_at(2));
        if self.length < length {
            return Step::Wait;
        }
        let (offset, scale) = (self.f32_at(HEADER), self.f32_at(HEADER + 4));
        if sane_calibration(offset, scale) {
            out(Item::Calibration { offset, scale });
            self.consume(length);
        } else {
            self.lose_lock();
        }
        Step::Again
    }

    /// Skips bytes until a header is vouched for: a data header by its counter or by its successor, a calibration by
    /// its values. What stands there is then judged again as if the lock had never been lost.
    fn hunt(&mut self) -> Step {
        let mut at = 0;
        let mut found = false;
        while at < self.length {
            let vouched = match self.look(at) {
                Look::Short => break,
                Look::Data { counter } if self.is_near(counter) => true,
                Look::Data { counter } => match self.look(at + FRAME) {
                    Look::Short => break,
                    Look::Data { counter: next } => next.wrapping_sub(counter) <= NEAR,
                    _ => false,
                },
                Look::Calibration if self.length < at + HEADER + 8 => break,
                Look::Calibration => sane_calibration(self.f32_at(at + HEADER), self.f32_at(at + HEADER + 4)),
                Look::Mode { .. } | Look::Nothing => false,
            };
            if vouched {
                found = true;
                break;
            }
            at += 1;
        }
        count(&mut self.faults.garbage_bytes, at as u32);
        self.consume(at);
        self.locked = found;
        if found {
            Step::Again
        } else {
            Step::Wait
        }
    }

    fn is_near(&self, counter: u16) -> bool {
        self.expected.is_some_and(|expected| counter.wrapping_sub(expected) <= NEAR)
    }

    fn torn(&mut self) {
        count(&mut self.faults.torn, 1);
        self.lose_lock();
    }

    /// Gives up the place at the front: its first byte is garbage.
    fn lose_lock(&mut self) {
        count(&mut self.faults.garbage_bytes, 1);
        self.consume(1);
        self.locked = false;
    }

    fn look(&self, at: usize) -> Look {
        let bytes = &self.buffer[at.min(self.length)..self.length];
        let [id, command, low, high, ..] = *bytes else {
            // Fewer than four bytes: what is there may already rule out a header.
            return match bytes.first() {
                Some(&id) if ![ID_DATA, ID_MODE, ID_CALIBRATION].contains(&id) => Look::Nothing,
                _ => Look::Short,
            };
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        match id {
            ID_DATA if length == FRAME - HEADER => match bytes.get(HEADER..PEEK) {
                Some(counter) => Look::Data { counter: u16::from_le_bytes([counter[0], counter[1]]) },
                None => Look::Short,
            },
            ID_CALIBRATION if command == CC_CALIBRATION && (8..=MAX_CALIBRATION).contains(&length) => {
                Look::Calibration
            }
            ID_MODE if length <= MAX_ACKNOWLEDGEMENT => Look::Mode { length: HEADER + length },
            _ => Look::Nothing,
        }
    }

    fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.length, 0);
        self.length -= count;
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.buffer[at], self.buffer[at + 1]])
    }

    fn f32_at(&self, at: usize) -> f32 {
        f32::from_le_bytes([self.buffer[at], self.buffer[at + 1], self.buffer[at + 2], self.buffer[at + 3]])
    }
}

fn is_repeat(counter: u16, expected: u16) -> bool {
    (1..=LONGEST_REPEAT).contains(&expected.wrapping_sub(counter))
}

fn sane_calibration(offset: f32, scale: f32) -> bool {
    offset.is_finite() && offset.abs() <= 32_768.0 && scale.is_finite() && (1e-6..1e3).contains(&scale.abs())
}

fn count(counter: &mut u32, by: u32) {
    *counter = counter.saturating_add(by);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
