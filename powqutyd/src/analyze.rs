// SPDX-License-Identifier: Apache-2.0
//! `powqutyd analyze`: a recording in, JSON Lines out, in constant memory.

mod raw;

use crate::clock::Utc;
use crate::raw::reader::is_recording;
use crate::source::decode::{DecodeError, Format, SampleReader, Scaling};
use lexopt::prelude::*;
use openwrt::uci::parse_duration;
use power_quality::compliance::{Account, Verdict};
use power_quality::{Analyzer, Config, Lamp, Measurement, NominalFrequency, Thresholds, TimeMap};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What `powqutyd help analyze` says about the options.
pub const HELP: &str = "\
input:
  --format s16le|f32le|csv   default: by file name (.s16 .pcm .f32 .csv .txt .tsv), else f32le; a raw recording
                             (raw_path) is recognised and needs none of the options of the input
  --rate HZ                  samples per second, 1000 to 100000 (10240)
  --scale V_PER_LSB          volts = (raw - offset) * scale (1)
  --offset LSB               (0)
  --column N                 CSV column, from 1 (the last)
  --start RFC3339            UTC of the first sample; without, it is taken for a 10-minute tick
  --chunk SAMPLES            samples handed to the analyser at once (2048); the output is the same
grid:
  --nominal-voltage V        (230)
  --nominal-frequency 50|60  (50)
  --dip PCT                  (90)   --swell PCT       (110)  of the nominal voltage
  --interruption PCT         (10)   --hysteresis PCT  (2)
  --rvc PCT                  (3)    its hysteresis is half of it
  --signalling HZ            measure the mains signal at this frequency
  --harmonic-window TIME     (10m)  span over which the share of windows above a limit counts
  --harmonic-share PCT       (5)
  --lamp 120|230             of the flickermeter (120 below 180 V nominal)
  --network interconnected|island
output:
  --only TYPE,...            window frequency aggregate flicker event rvc gap compliance
";

/// Share of the week that events may fill before their light turns red, in %, as the daemon's default.
const EVENT_TIME_SHARE: f64 = 5.0;

/// Types of output lines, as `--only` names them.
const TYPES: [&str; 8] = ["window", "frequency", "aggregate", "flicker", "event", "rvc", "gap", "compliance"];

/// What a raw recording says itself.
const INPUT_OPTIONS: [&str; 6] = ["--format", "--rate", "--scale", "--offset", "--column", "--start"];

/// Why there is no (complete) analysis.
#[derive(Debug)]
pub enum AnalyzeError {
    /// The command line is wrong; exit code 2.
    Usage(String),
    /// The input or the output is; exit code 1.
    Failed(String),
}

impl fmt::Display for AnalyzeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for AnalyzeError {}

impl From<lexopt::Error> for AnalyzeError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// The command line of `analyze`.
#[derive(Debug, Clone, PartialEq)]
struct Job {
    /// `None` is standard input.
    path: Option<PathBuf>,
    format: Format,
    scaling: Scaling,
    column: Option<usize>,
    start: Option<Utc>,
    chunk: usize,
    config: Config,
    only: Option<Vec<&'static str>>,
    /// Options that say how the input is to be understood.
    input_options: Vec<&'static str>,
}

/// Runs the subcommand with its arguments.
///
/// # Errors
/// See [`AnalyzeError`]; results up to the error have been written.
pub fn main(args: &[OsString]) -> Result<(), AnalyzeError> {
    let job = Job::parse(args)?;
    let stdout = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    job.run(stdout)
}

impl Job {
    fn parse(args: &[OsString]) -> Result<Self, AnalyzeError> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut input = None;
        let (mut rate, mut nominal_voltage, mut nominal_frequency) =
            (10_240.0, 230.0, NominalFrequency::Hz50);
        let mut thresholds = Thresholds { interruption: 10.0, ..Thresholds::default() };
        let (mut signalling, mut lamp) = (None, None);
        let (mut window, mut share, mut network) = (600.0, 5.0, power_quality::NetworkType::default());
        let (mut format, mut scaling, mut column, mut start) = (None, Scaling::default(), None, None);
        let (mut chunk, mut only) = (2048, None);
        let mut input_options = Vec::new();
        while let Some(arg) = parser.next()? {
            if let Long(name) = arg {
                input_options.extend(INPUT_OPTIONS.into_iter().filter(|option| option[2..] == *name));
            }
            match arg {
                Long("format") => format = Some(choice(&mut parser, "--format", &Format::NAMES)?),
                Long("rate") => rate = number(&mut parser, "--rate", 1000.0..=100_000.0)?,
                Long("scale") => scaling.scale = number(&mut parser, "--scale", -1e9..=1e9)? as f32,
                Long("offset") => scaling.offset = number(&mut parser, "--offset", -1e9..=1e9)? as f32,
                Long("column") => column = Some(number(&mut parser, "--column", 1.0..=1e6)? as usize),
                Long("start") => start = Some(time(&mut parser)?),
                Long("chunk") => chunk = number(&mut parser, "--chunk", 1.0..=1e7)? as usize,
                Long("nominal-voltage") => {
                    nominal_voltage = number(&mut parser, "--nominal-voltage", 1.0..=1e6)?;
                }
                Long("nominal-frequency") => {
                    let choices = [("50", NominalFrequency::Hz50), ("60", NominalFrequency::Hz60)];
                    nominal_frequency = choice(&mut parser, "--nominal-frequency", &choices)?;
                }
                Long("dip") => thresholds.dip = percent(&mut parser, "--dip")?,
                Long("swell") => thresholds.swell = percent(&mut parser, "--swell")?,
                Long("interruption") => thresholds.interruption = percent(&mut parser, "--interruption")?,
                Long("hysteresis") => thresholds.hysteresis = percent(&mut parser, "--hysteresis")?,
                Long("rvc") => thresholds.rvc = percent(&mut parser, "--rvc")?,
                Long("signalling") => signalling = Some(number(&mut parser, "--signalling", 1.0..=45_000.0)?),
                Long("harmonic-window") => window = duration(&mut parser, "--harmonic-window")?,
                Long("harmonic-share") => share = percent(&mut parser, "--harmonic-share")?,
                Long("lamp") => {
                    lamp = Some(choice(&mut parser, "--lamp", &[("120", Lamp::V120), ("230", Lamp::V230)])?);
                }
                Long("network") => {
                    let choices = [
                        ("interconnected", power_quality::NetworkType::Interconnected),
                        ("island", power_quality::NetworkType::Island),
                    ];
                    network = choice(&mut parser, "--network", &choices)?;
                }
                Long("only") => only = Some(types(&mut parser)?),
                Value(path) if input.is_none() => input = Some(path),
                other => return Err(other.unexpected().into()),
            }
        }
        let input =
            input.ok_or_else(|| AnalyzeError::Usage("expected a file, or - for standard input".into()))?;
        let path = (input != *"-").then(|| PathBuf::from(&input));
        let by_name = input.to_str().and_then(Format::of_file_name);
        let format = format.or(by_name).unwrap_or(Format::F32le);
        let defaults = Config::new(rate, nominal_voltage, nominal_frequency);
        let config = Config {
            thresholds,
            signalling,
            lamp: lamp.unwrap_or(defaults.lamp),
            harmonic_window_s: window,
            harmonic_share: share,
            network,
            // Only an integer format shows where its converter ends.
            converter_limits: (format == Format::S16le).then(|| scaling.range_of_s16()),
            ..defaults
        };
        Ok(Self { path, format, scaling, column, start, chunk, config, only, input_options })
    }

    fn run(&self, output: impl Write) -> Result<(), AnalyzeError> {
        let Some(path) = &self.path else { return self.measure(io::stdin().lock(), None, output) };
        let failed =
            |error: io::Error| AnalyzeError::Failed(format!("{}: cannot open: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(AnalyzeError::Failed(format!("{}: is a directory", path.display())));
        }
        if metadata.is_file() && is_recording(&file).map_err(failed)? {
            return raw::measure(self, file, output);
        }
        let size = metadata.is_file().then_some(metadata.len());
        self.measure(file, size, output)
    }

    fn name(&self) -> Cow<'_, str> {
        self.path.as_deref().map_or("standard input".into(), Path::to_string_lossy)
    }

    fn measure(
        &self,
        input: impl io::Read,
        size: Option<u64>,
        mut output: impl Write,
    ) -> Result<(), AnalyzeError> {
        let name = self.name();
        let broken = |error: DecodeError| AnalyzeError::Failed(format!("{name}: {error}"));
        let mut run = Run::new(self, self.config, self.start, &mut output)?;
        let mut reader = SampleReader::new(input, self.format, self.scaling, self.column).map_err(broken)?;
        let mut progress = size.and_then(Progress::new);
        let mut chunk = vec![0.0; self.chunk];
        let mut empty = true;
        let end = loop {
            match fill(&mut reader, &mut chunk) {
                (0, end) => break end,
                (count, end) => {
                    empty = false;
                    run.push(&chunk[..count]);
                    if end.is_err() {
                        break end;
                    }
                }
            }
            if let Some(progress) = &mut progress {
                progress.show(reader.position());
            }
            if run.lines.error.is_some() {
                break Ok(());
            }
        };
        if let Some(progress) = progress {
            progress.clear();
        }
        if empty {
            let failure = end.err().map_or_else(
                || AnalyzeError::Failed(format!("{name}: empty, there are no samples in it")),
                broken,
            );
            return Err(failure);
        }
        run.end()?;
        end.map_err(broken)
    }
}

/// The analysis and what it writes.
struct Run<'a, W: Write> {
    analyzer: Analyzer,
    account: Account,
    lines: Lines<'a, W>,
}

impl<'a, W: Write> Run<'a, W> {
    fn new(
        job: &'a Job,
        config: Config,
        start: Option<Utc>,
        output: &'a mut W,
    ) -> Result<Self, AnalyzeError> {
        let mut analyzer = Analyzer::new(config).map_err(|error| AnalyzeError::Usage(error.to_string()))?;
        if let Some(start) = start {
            analyzer.set_time(TimeMap { sample: 0.0, unix_s: start.seconds(), rate: config.rate });
        }
        let account = Account::new(&config, EVENT_TIME_SHARE, start.map_or(0.0, Utc::seconds));
        Ok(Self { analyzer, account, lines: Lines::new(output, start, job.only.as_deref()) })
    }

    fn push(&mut self, volts: &[f32]) {
        let Self { analyzer, account, lines } = self;
        analyzer.push(volts, &mut |measurement| {
            account.take(&measurement);
            lines.write(&measurement);
        });
    }

    /// So many samples are missing here.
    fn gap(&mut self, samples: u64) {
        if samples > 0 {
            let Self { analyzer, account, lines } = self;
            analyzer.gap(samples, &mut |measurement| {
                account.take(&measurement);
                lines.write(&measurement);
            });
        }
    }

    fn end(self) -> Result<(), AnalyzeError> {
        let Self { mut analyzer, mut account, mut lines } = self;
        analyzer.finish(&mut |measurement| {
            account.take(&measurement);
            lines.write(&measurement);
        });
        lines.verdict(&account.verdict());
        lines.finish()
    }
}

/// Fills the chunk as far as the input goes, so that its size is what was asked for.
fn fill<R: io::Read>(reader: &mut SampleReader<R>, chunk: &mut [f32]) -> (usize, Result<(), DecodeError>) {
    let mut filled = 0;
    while filled < chunk.len() {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

/// Writes results as lines; remembers the first error.
struct Lines<'a, W: Write> {
    output: &'a mut W,
    start: Option<Utc>,
    only: Option<&'a [&'static str]>,
    line: Vec<u8>,
    error: Option<io::Error>,
}

impl<'a, W: Write> Lines<'a, W> {
    fn new(output: &'a mut W, start: Option<Utc>, only: Option<&'a [&'static str]>) -> Self {
        Self { output, start, only, line: Vec::with_capacity(4096), error: None }
    }

    fn write(&mut self, measurement: &Measurement<'_>) {
        let Some((kind, start_s)) = kind_and_start(measurement) else { return };
        if self.error.is_some() || self.only.is_some_and(|only| !only.contains(&kind)) {
            return;
        }
        self.line.clear();
        if let Err(error) = serde_json::to_writer(&mut self.line, measurement) {
            self.error = Some(error.into());
            return;
        }
        if let Some(start) = self.start {
            // In place of the closing brace.
            self.line.pop();
            let start = start.plus_seconds(start_s).rfc3339();
            self.line.extend_from_slice(b",\"start\":\"");
            self.line.extend_from_slice(start.as_bytes());
            self.line.extend_from_slice(b"\"}");
        }
        self.line.push(b'\n');
        self.error = self.output.write_all(&self.line).err();
    }

    /// The last line: the EN 50160 verdict over what was read.
    fn verdict(&mut self, verdict: &Verdict) {
        if self.error.is_some() || self.only.is_some_and(|only| !only.contains(&"compliance")) {
            return;
        }
        self.line.clear();
        let line = Tagged { kind: "compliance", verdict };
        let written = serde_json::to_writer(&mut self.line, &line).map_err(io::Error::from);
        self.line.push(b'\n');
        self.error = written.and_then(|()| self.output.write_all(&self.line)).err();
    }

    fn finish(self) -> Result<(), AnalyzeError> {
        let written = match self.error {
            Some(error) => Err(error),
            None => self.output.flush(),
        };
        match written {
            // `| head` is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(AnalyzeError::Failed(format!("cannot write the results: {error}")))
            }
            _ => Ok(()),
        }
    }
}

#[derive(serde::Serialize)]
struct Tagged<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// The `type` of an output line and its start in seconds; `None` for what is of use only to a live view.
fn kind_and_start(measurement: &Measurement<'_>) -> Option<(&'static str, f64)> {
    match measurement {
        Measurement::Window(it) => Some(("window", it.start_s)),
        Measurement::Frequency(it) => Some(("frequency", it.start_s)),
        Measurement::Aggregate(it) => Some(("aggregate", it.start_s)),
        Measurement::Flicker(it) => Some(("flicker", it.start_s)),
        Measurement::Event(it) => Some(("event", it.start_s)),
        Measurement::Rvc(it) => Some(("rvc", it.start_s)),
        Measurement::Gap(it) => Some(("gap", it.start_s)),
        Measurement::EventStart(_) | Measurement::Waveform(_) => None,
    }
}

/// A word to the operator beside the results.
fn remark(text: &str) {
    // A terminal that is gone needs no word.
    let _ = writeln!(io::stderr(), "powqutyd: {text}");
}

/// A bar on the terminal for input that takes a while.
struct Progress {
    size: u64,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// For input of `size` bytes; none where standard error is no terminal.
    fn new(size: u64) -> Option<Self> {
        (size > 0 && io::stderr().is_terminal()).then(|| Self { size, started: Instant::now(), shown: None })
    }

    fn show(&mut self, position: u64) {
        let now = Instant::now();
        let due = match self.shown {
            None => self.started + Duration::from_secs(1),
            Some(shown) => shown + Duration::from_millis(100),
        };
        if now < due {
            return;
        }
        self.shown = Some(now);
        let share = (position as f64 / self.size as f64).clamp(0.0, 1.0);
        let done = (share * 40.0) as usize;
        let left = now.duration_since(self.started).as_secs_f64() * (1.0 / share.max(1e-6) - 1.0);
        // A terminal that is gone needs no bar.
        let _ = write!(
            io::stderr(),
            "\r  [{}{}] {:3.0} %  {} left\x1b[K",
            "=".repeat(done),
            " ".repeat(40 - done),
            share * 100.0,
            minutes(left)
        );
    }

    fn clear(self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.min(359_999.0) as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn text(parser: &mut lexopt::Parser) -> Result<String, AnalyzeError> {
    Ok(parser.value()?.string()?)
}

fn number(
    parser: &mut lexopt::Parser,
    option: &str,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, AnalyzeError> {
    let text = text(parser)?;
    let value = text.parse().ok().filter(|value| range.contains(value));
    let (least, most) = (range.start(), range.end());
    value.ok_or_else(|| {
        AnalyzeError::Usage(format!("{option} {text}: expected a number from {least} to {most}"))
    })
}

fn percent(parser: &mut lexopt::Parser, option: &str) -> Result<f64, AnalyzeError> {
    number(parser, option, 0.0..=300.0)
}

fn choice<T: Copy>(
    parser: &mut lexopt::Parser,
    option: &str,
    choices: &[(&str, T)],
) -> Result<T, AnalyzeError> {
    let text = text(parser)?;
    let found = choices.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
    found.ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
        AnalyzeError::Usage(format!("{option} {text}: expected {}", names.join(" or ")))
    })
}

fn duration(parser: &mut lexopt::Parser, option: &str) -> Result<f64, AnalyzeError> {
    let text = text(parser)?;
    parse_duration(&text)
        .map(|duration| duration.as_secs_f64())
        .ok_or_else(|| AnalyzeError::Usage(format!("{option} {text}: expected a time such as 10m")))
}

fn time(parser: &mut lexopt::Parser) -> Result<Utc, AnalyzeError> {
    let text = text(parser)?;
    Utc::parse_rfc3339(&text).ok_or_else(|| {
        AnalyzeError::Usage(format!("--start {text}: expected a time such as 2026-01-31T12:00:00Z"))
    })
}

fn types(parser: &mut lexopt::Parser) -> Result<Vec<&'static str>, AnalyzeError> {
    let text = text(parser)?;
    let known = |name: &str| {
        TYPES.into_iter().find(|known| *known == name).ok_or_else(|| {
            AnalyzeError::Usage(format!("--only {name}: expected some of {}", TYPES.join(",")))
        })
    };
    text.split(',').map(known).collect()
}

#[cfg(test)]
#[path = "analyze_tests.rs"]
mod tests;
