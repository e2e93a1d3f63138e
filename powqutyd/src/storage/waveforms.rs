// SPDX-License-Identifier: Apache-2.0
//! The voltage around the last events: one small file each in a directory beside the record file, the oldest deleted
//! when there are too many.
//!
//! A file is named by the first and last millisecond it holds (since 1970), `1795170325517-1795170326517.wave`, so
//! that a start needs to read no more than the directory. Little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `PQWAVE1\n` |
//! | 1 | kind of the event: 0 dip, 1 swell, 2 interruption |
//! | 1 | nominal frequency (Hz) |
//! | 2 | 0 |
//! | f64, f64 | start of the samples and of the event, in seconds since 1970 |
//! | f64 | samples per second |
//! | f32, f32 | nominal voltage (V), volts per step |
//! | u32, u32 | number of samples and of RMS values |
//! | i16 each | samples in steps |
//! | f32, f32 each | end of the cycle in seconds from the first sample, Urms(1/2) (V) |
//! | u32 | CRC-32 of all before |

use crate::clock::Utc;
use openwrt::crc32::crc32;
use power_quality::{EventKind, Waveform};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: &[u8; 8] = b"PQWAVE1\n";
const EXTENSION: &str = ".wave";

/// Most samples of a waveform: 1.6 s at the oscilloscope's rate.
pub const MOST_SAMPLES: usize = 16_384;
/// Most values of an RMS trace.
const MOST_RMS: usize = 4096;
/// Longest file.
const MOST_BYTES: usize = 8 + 4 + 5 * 8 + 2 * MOST_SAMPLES + 8 * MOST_RMS + 4;

/// Flash is not worn by a storm of events: this much time per file, after a full set of them.
const SPACING: Duration = Duration::from_secs(180);

/// The declared supply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nominal {
    /// V RMS.
    pub voltage: f64,
    /// Hz.
    pub frequency: f64,
}

/// A waveform as it lies on disk.
#[derive(Debug)]
pub struct Encoded {
    span: Span,
    bytes: Vec<u8>,
}

/// A waveform read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The event that was recorded; others may lie in it as well.
    pub kind: EventKind,
    /// First sample.
    pub start: Utc,
    /// Start of the event.
    pub event: Utc,
    /// Samples per second.
    pub rate: f64,
    /// What the voltage should be.
    pub nominal: Nominal,
    /// Volts, to half a step of the largest sample's 32767th part.
    pub samples: Vec<f32>,
    /// Urms(1/2): end of the cycle in seconds from the first sample, volts.
    pub rms: Vec<(f32, f32)>,
}

/// First and last moment of a waveform in milliseconds since 1970; in this order the oldest is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start_ms: i64,
    end_ms: i64,
}

/// What there is on disk.
#[derive(Debug, Clone, Default)]
pub struct Index {
    directory: PathBuf,
    spans: Vec<Span>,
}

/// The directory, as its only writer sees it.
pub(super) struct Shelf {
    directory: PathBuf,
    /// Files kept.
    count: usize,
    /// Files survive a power cut.
    persistent: bool,
    /// Files that may be written at once, and when that was counted.
    allowance: (f64, Instant),
}

/// What came of a waveform.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Written,
    /// None are wanted, or too many in too short a time for flash.
    Refused,
}

impl Encoded {
    /// The file of a waveform whose times `utc` puts on the calendar; `None` without samples.
    #[must_use]
    pub fn new(waveform: &Waveform<'_>, nominal: Nominal, utc: impl Fn(f64) -> Utc) -> Option<Self> {
        let samples = &waveform.samples[..waveform.samples.len().min(MOST_SAMPLES)];
        let rms = &waveform.rms[..waveform.rms.len().min(MOST_RMS)];
        let peak = samples.iter().fold(0.0_f32, |peak, volts| peak.max(volts.abs()));
        let step = if peak > 0.0 { peak / f32::from(i16::MAX) } else { 1.0 };
        let last_s = samples.len().checked_sub(1)? as f64 / waveform.rate;
        let start = utc(waveform.start_s);
        let mut bytes = Vec::with_capacity(64 + 2 * samples.len() + 8 * rms.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend([waveform.kind as u8, nominal.frequency as u8, 0, 0]);
        for value in [start.seconds(), utc(waveform.event_start_s).seconds(), waveform.rate] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend((nominal.voltage as f32).to_le_bytes());
        bytes.extend(step.to_le_bytes());
        bytes.extend((samples.len() as u32).to_le_bytes());
        bytes.extend((rms.len() as u32).to_le_bytes());
        for volts in samples {
            bytes.extend(((volts / step).round() as i16).to_le_bytes());
        }
        for &(at_s, volts) in rms {
            bytes.extend(((at_s - waveform.start_s) as f32).to_le_bytes());
            bytes.extend(volts.to_le_bytes());
        }
        bytes.extend(crc32(&bytes).to_le_bytes());
        let span = Span { start_ms: start.millis(), end_ms: start.plus_seconds(last_s).millis() };
        Some(Self { span, bytes })
    }
}

impl Recorded {
    /// Reads a file of [`Shelf`].
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Self::decode(&bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the waveform is damaged"))
    }

    /// Decodes the bytes of a file; `None` for anything that is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut input = content.strip_prefix(MAGIC)?;
        let [kind, hertz, _, _] = *take::<4>(&mut input)?;
        let kind = *[EventKind::Dip, EventKind::Swell, EventKind::Interruption].get(usize::from(kind))?;
        let mut double =
            || take::<8>(&mut input).map(|bytes| f64::from_le_bytes(*bytes)).filter(|it| it.is_finite());
        let (start_s, event_s, rate) = (double()?, double()?, double()?);
        let mut single =
            || take::<4>(&mut input).map(|bytes| f32::from_le_bytes(*bytes)).filter(|it| it.is_finite());
        let (voltage, step) = (single()?, single()?);
        let mut number = || take::<4>(&mut input).map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let (samples, rms) = (number()?, number()?);
        if rate <= 0.0 || samples > MOST_SAMPLES || rms > MOST_RMS || input.len() != 2 * samples + 8 * rms {
            return None;
        }
        let (steps, trace) = input.split_at(2 * samples);
        let volts = |pair: &[u8]| Some(f32::from(i16::from_le_bytes(pair.try_into().ok()?)) * step);
        let point = |eight: &[u8]| {
            let (at_s, volts) = eight.split_first_chunk::<4>()?;
            Some((f32::from_le_bytes(*at_s), f32::from_le_bytes(volts.try_into().ok()?)))
        };
        Some(Self {
            kind,
            start: Utc::from_seconds(start_s),
            event: Utc::from_seconds(event_s),
            rate,
            nominal: Nominal { voltage: f64::from(voltage), frequency: f64::from(hertz) },
            samples: steps.chunks_exact(2).map(volts).collect::<Option<_>>()?,
            rms: trace.chunks_exact(8).map(point).collect::<Option<_>>()?,
        })
    }
}

fn take<'a, const N: usize>(input: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (array, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(array)
}

impl Span {
    fn file_name(self) -> String {
        format!("{}-{}{EXTENSION}", self.start_ms, self.end_ms)
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let (start, end) = name.strip_suffix(EXTENSION)?.split_once('-')?;
        Some(Self { start_ms: start.parse().ok()?, end_ms: end.parse().ok()? })
    }
}

impl Index {
    /// The file that holds the start of an event, of several the one that goes on the longest.
    #[must_use]
    pub fn path_of(&self, start: Utc) -> Option<PathBuf> {
        self.span_of(start).map(|span| self.directory.join(span.file_name()))
    }

    /// The start of an event is on disk.
    #[must_use]
    pub fn holds(&self, start: Utc) -> bool {
        self.span_of(start).is_some()
    }

    fn span_of(&self, start: Utc) -> Option<Span> {
        let at = start.millis();
        self.spans.iter().copied().filter(|span| (span.start_ms..=span.end_ms).contains(&at)).max()
    }
}

impl Shelf {
    /// `count` files in `directory`, which need not exist yet.
    pub(super) fn new(directory: PathBuf, count: usize, persistent: bool) -> Self {
        Self { directory, count, persistent, allowance: (count as f64, Instant::now()) }
    }

    /// What an earlier run left; files of interrupted writes and those beyond the number kept are deleted.
    pub(super) fn index(&self) -> Index {
        let mut spans = Vec::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            match name.to_str().map(|name| (Span::of_file_name(name), name.ends_with(TEMPORARY))) {
                Some((Some(span), _)) => spans.push(span),
                Some((None, true)) => {
                    // One that stays behind takes some room and harms nobody.
                    let _ = fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
        spans.sort_unstable();
        let mut index = Index { directory: self.directory.clone(), spans };
        self.thin(&mut index, self.count);
        index
    }

    /// What the log says of an error.
    pub(super) fn trouble(&self, error: &io::Error) -> String {
        format!("{}: cannot write: {error}", self.directory.display())
    }

    /// Writes a waveform and makes room for it.
    pub(super) fn store(
        &mut self,
        waveform: &Encoded,
        index: &mut Index,
        now: Instant,
    ) -> io::Result<Stored> {
        if !self.allowed(now) {
            return Ok(Stored::Refused);
        }
        self.thin(index, self.count - 1);
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.directory.join(waveform.span.file_name());
        let temporary = path.with_extension(&TEMPORARY[1..]);
        let written = self.write(&temporary, &waveform.bytes).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        if self.persistent {
            // The name, too, has to outlast a power cut.
            File::open(&self.directory)?.sync_all()?;
        }
        let place = index.spans.partition_point(|span| *span < waveform.span);
        if index.spans.get(place) != Some(&waveform.span) {
            index.spans.insert(place, waveform.span);
        }
        Ok(Stored::Written)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        if self.persistent {
            file.sync_all()?;
        }
        Ok(())
    }

    fn allowed(&mut self, now: Instant) -> bool {
        let (left, counted) = self.allowance;
        let gained = now.saturating_duration_since(counted).as_secs_f64() / SPACING.as_secs_f64();
        let left = (left + gained).min(self.count as f64);
        let allowed = self.count > 0 && (!self.persistent || left >= 1.0);
        self.allowance = (if allowed { left - 1.0 } else { left }.max(0.0), now);
        allowed
    }

    fn thin(&self, index: &mut Index, most: usize) {
        let surplus = index.spans.len().saturating_sub(most);
        for span in index.spans.drain(..surplus) {
            // Deleted by somebody else is deleted.
            let _ = fs::remove_file(self.directory.join(span.file_name()));
        }
    }
}

const TEMPORARY: &str = ".tmp";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOMINAL: Nominal = Nominal { voltage: 230.0, frequency: 50.0 };
    const ORIGIN_MS: i64 = 1_795_170_325_000;

    fn utc(seconds: f64) -> Utc {
        Utc::from_millis(ORIGIN_MS).plus_seconds(seconds)
    }

    fn encoded(start_s: f64, samples: &[f32]) -> Encoded {
        let rms: Vec<(f64, f32)> = (0..20).map(|half| (start_s + f64::from(half) * 0.01, 115.0)).collect();
        let waveform = Waveform {
            kind: EventKind::Dip,
            event_start_s: start_s + 0.2,
            start_s,
            rate: 10_000.0,
            samples,
            rms: &rms,
        };
        Encoded::new(&waveform, NOMINAL, utc).unwrap()
    }

    fn sine(count: usize) -> Vec<f32> {
        (0..count).map(|index| 325.0 * (index as f32 * 0.031_415_9).sin()).collect()
    }

    fn shelf(dir: &tempfile::TempDir, count: usize, persistent: bool) -> Shelf {
        Shelf::new(dir.path().join("waveforms"), count, persistent)
    }

    #[test]
    fn the_last_ones_stay_and_come_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = shelf(&dir, 3, false);
        let mut index = kept.index();
        let samples = sine(10_000);
        for second in 0..5 {
            let waveform = encoded(f64::from(second) * 2.0, &samples);
            assert_eq!(kept.store(&waveform, &mut index, Instant::now()).unwrap(), Stored::Written);
        }
        fs::write(dir.path().join("waveforms/1-2.tmp"), "interrupted").unwrap();
        fs::write(dir.path().join("waveforms/README"), "somebody else's").unwrap();
        for index in [index, shelf(&dir, 3, false).index()] {
            assert!(!index.holds(utc(2.2)), "the oldest have gone");
            assert!(!index.holds(utc(5.5)), "between two recordings");
            let recorded = Recorded::read(&index.path_of(utc(4.2)).unwrap()).unwrap();
            assert_eq!((recorded.kind, recorded.start, recorded.event), (EventKind::Dip, utc(4.0), utc(4.2)));
            assert_eq!((recorded.rate, recorded.nominal), (10_000.0, NOMINAL));
            let off = recorded.samples.iter().zip(&samples).map(|(ours, theirs)| (ours - theirs).abs());
            assert!(off.fold(0.0, f32::max) <= 325.0 / 32_767.0 / 2.0 * 1.02);
            assert_eq!((recorded.rms.len(), recorded.rms[1].1), (20, 115.0));
            assert!((recorded.rms[1].0 - 0.01).abs() < 1e-6);
        }
        let mut names: Vec<_> =
            fs::read_dir(dir.path().join("waveforms")).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(shelf(&dir, 0, false).index().spans.is_empty(), "none are wanted any more");
    }

    #[test]
    fn a_storm_does_not_wear_flash() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(&dir, 2, true);
        let mut index = shelf.index();
        let start = Instant::now();
        let mut stored = |at: u64| {
            let waveform = encoded(at as f64 * 2.0, &[1.0]);
            shelf.store(&waveform, &mut index, start + Duration::from_secs(at)).unwrap() == Stored::Written
        };
        let written = (0..3600).filter(|&second| stored(second)).count();
        assert!((21..=22).contains(&written), "{written} in an hour");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(dir.path().join("stick/waveforms"), 2, false);
        let mut index = shelf.index();
        assert!(shelf.store(&encoded(0.0, &[1.0]), &mut index, Instant::now()).is_err());
        fs::create_dir(dir.path().join("stick")).unwrap();
        assert_eq!(shelf.store(&encoded(0.0, &[1.0]), &mut index, Instant::now()).unwrap(), Stored::Written);
        assert!(index.holds(utc(0.0)));
    }

    #[test]
    fn silence_has_a_waveform_too() {
        let recorded = Recorded::decode(&encoded(0.0, &[0.0; 100]).bytes).unwrap();
        assert_eq!(recorded.samples, [0.0; 100]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), whole in any::<bool>()) {
            if whole {
                // Past the check sum, where the lengths are.
                bytes.splice(..0, *MAGIC);
                let crc = crc32(&bytes);
                bytes.extend(crc.to_le_bytes());
            }
            let _ = Recorded::decode(&bytes);
        }

        #[test]
        fn a_torn_or_changed_file_is_refused(at in 0_usize..300, change in 1_u8..) {
            let whole = encoded(0.0, &sine(100)).bytes;
            let at = at % whole.len();
            prop_assert!(Recorded::decode(&whole[..at]).is_none());
            let mut changed = whole;
            changed[at] ^= change;
            prop_assert!(Recorded::decode(&changed).is_none());
        }
    }
}
