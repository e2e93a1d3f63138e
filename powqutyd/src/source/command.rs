// SPDX-License-Identifier: Apache-2.0
//! A sound card or any other converter through the program that reads it, such as `arecord`: started, read, and
//! started again when it ends.

use super::decode::{DecodeError, Format, SampleReader, Scaling};
use super::device::{Phase, Shared};
use super::{Arrival, Read, Source};
use crate::clock::monotonic;
use crate::tty::{self, Readiness};
use nix::poll::PollFlags;
use rustix::process::{kill_process_group, waitid, Pid, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Pauses between starts: doubled from the first to the longest while no sample comes.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Longest wait in one call, so that the thread sees when it is to end.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// Bytes are left to gather for this long.
const GATHER: Duration = Duration::from_millis(32);
/// A program that has written samples and then nothing for this long is told of, and started anew after that.
const SILENCE: Duration = Duration::from_secs(1);
const TOO_SILENT: Duration = Duration::from_secs(5);
/// One that has not written anything yet is given more: it may have to connect somewhere.
const SLOW_START: Duration = Duration::from_secs(20);
/// What a program may do after it was asked to end.
const GRACE: Duration = Duration::from_millis(200);
/// Longest line of text.
const LONGEST_LINE: usize = 4096;

/// The output of a program as a [`Source`].
#[derive(Debug)]
pub struct CommandSource {
    command: String,
    format: Format,
    scaling: Scaling,
    program: Program,
    pause: Duration,
    /// Samples have been handed on, and the program was started anew since.
    broken: bool,
    handed_on: bool,
    arrived: Option<Duration>,
    /// A break was told and no sample since: the next ones need a time, be it that of the whole portion.
    fresh: bool,
    /// When the program was started or was heard last.
    heard: Instant,
    report: Shared,
}

enum Program {
    Ended { retry_at: Instant },
    Started { child: Running, pipe: Pipe },
    Writing { child: Running, samples: SampleReader<Pipe> },
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ended { .. } => "Ended",
            Self::Started { .. } => "Started",
            Self::Writing { .. } => "Writing",
        })
    }
}

impl CommandSource {
    /// For a command line, run by `sh`.
    #[must_use]
    pub fn new(command: String, format: Format, scaling: Scaling) -> Self {
        Self {
            command,
            format,
            scaling,
            program: Program::Ended { retry_at: Instant::now() },
            pause: FIRST_RETRY,
            broken: false,
            handed_on: false,
            arrived: None,
            fresh: false,
            heard: Instant::now(),
            report: Shared::default(),
        }
    }

    fn start(&mut self) {
        let spawned = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn();
        match spawned {
            Ok(mut child) => match child.stdout.take() {
                Some(stdout) => {
                    log::info!("input command: started");
                    self.heard = Instant::now();
                    let pipe = Pipe::new(stdout, self.format);
                    self.program = Program::Started { child: Running(child), pipe };
                    let mut report = self.report.lock();
                    report.phase = Phase::Starting;
                    report.device = Some(self.command.clone());
                }
                None => drop(Running(child)),
            },
            Err(error) => self.ended(&format!("sh cannot be started: {error}")),
        }
    }

    fn ended(&mut self, reason: &str) {
        self.program = Program::Ended { retry_at: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_RETRY);
        self.broken = self.handed_on;
        let mut report = self.report.lock();
        if report.reason.as_deref() != Some(reason) {
            log::warn!("input command: {reason}; starting it again");
        }
        report.faults.hangups = report.faults.hangups.saturating_add(1);
        report.phase = Phase::Absent;
        report.reason = Some(reason.to_owned());
    }

    /// Nothing has come: notices silence, and gives a silent program up.
    fn idle(&mut self) -> Read {
        let silent = self.heard.elapsed();
        // One that has ended may have left its output to something it started.
        let (Program::Writing { child, .. } | Program::Started { child, .. }) = &self.program else {
            return Read::Idle;
        };
        if let Some(words) = child.wait(Duration::ZERO) {
            self.ended(&words);
            return Read::Idle;
        }
        let limit = if let Program::Writing { .. } = self.program { TOO_SILENT } else { SLOW_START };
        if silent > limit {
            self.ended(&format!("the program has written nothing for {} s", limit.as_secs()));
        } else if silent > SILENCE {
            let mut report = self.report.lock();
            if report.phase == Phase::Running {
                log::warn!("input command: the program writes nothing");
                report.phase = Phase::Silent;
                report.reason = Some("no samples come".to_owned());
                report.faults.silences = report.faults.silences.saturating_add(1);
            }
        }
        Read::Idle
    }

    fn running(&mut self) {
        self.heard = Instant::now();
        self.handed_on = true;
        self.pause = FIRST_RETRY;
        let mut report = self.report.lock();
        if report.phase != Phase::Running {
            report.phase = Phase::Running;
            report.reason = None;
            report.starts = report.starts.saturating_add(1);
        }
    }

    fn samples(&mut self, volts: &mut [f32]) -> Read {
        let Program::Writing { child, samples } = &mut self.program else { return Read::Idle };
        let reason = match samples.read(volts) {
            Ok(0) => child.last_words(),
            Ok(count) => {
                let timed = std::mem::take(&mut self.fresh) || count < volts.len();
                self.arrived = timed.then(monotonic);
                self.running();
                return Read::Samples(count);
            }
            Err(DecodeError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return self.idle(),
            Err(error) => format!("its output is broken: {error}"),
        };
        self.ended(&reason);
        Read::Idle
    }
}

impl Source for CommandSource {
    fn read(&mut self, volts: &mut [f32]) -> Result<Read, DecodeError> {
        match &mut self.program {
            Program::Ended { retry_at } => {
                let left = retry_at.saturating_duration_since(Instant::now());
                std::thread::sleep(left.min(LONGEST_WAIT));
                if left <= LONGEST_WAIT {
                    self.start();
                }
                Ok(Read::Idle)
            }
            Program::Started { child, pipe } => {
                let reason = match pipe.fill() {
                    Ok(true) if pipe.ended && pipe.bytes.is_empty() => child.last_words(),
                    Ok(true) => {
                        let now = Instant::now();
                        let stopped = Program::Ended { retry_at: now };
                        if let Program::Started { child, pipe } =
                            std::mem::replace(&mut self.program, stopped)
                        {
                            let samples = SampleReader::new(pipe, self.format, self.scaling, None)?;
                            self.program = Program::Writing { child, samples };
                        }
                        self.fresh = std::mem::take(&mut self.broken);
                        return Ok(if self.fresh { Read::Break } else { Read::Idle });
                    }
                    Ok(false) => return Ok(self.idle()),
                    Err(error) => error.to_string(),
                };
                self.ended(&reason);
                Ok(Read::Idle)
            }
            Program::Writing { .. } => Ok(self.samples(volts)),
        }
    }

    fn arrival(&self) -> Option<Arrival> {
        self.arrived.map(|at| Arrival { at, ahead: 0 })
    }

    fn is_drained(&self) -> bool {
        self.arrived.is_some()
    }

    fn report(&self) -> Option<Shared> {
        Some(self.report.clone())
    }
}

/// What a program has written, never waited for longer than [`LONGEST_WAIT`]; text is handed on in whole lines.
struct Pipe {
    stdout: ChildStdout,
    bytes: Vec<u8>,
    whole_lines: bool,
    ended: bool,
    read_again: Instant,
}

impl Pipe {
    fn new(stdout: ChildStdout, format: Format) -> Self {
        let whole_lines = format == Format::Csv;
        Self {
            stdout,
            bytes: Vec::with_capacity(2 * LONGEST_LINE),
            whole_lines,
            ended: false,
            read_again: Instant::now(),
        }
    }

    /// Bytes that may be handed on.
    fn available(&self) -> usize {
        match self.whole_lines && !self.ended {
            true => self.bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1),
            false => self.bytes.len(),
        }
    }

    /// Waits a while; `true` when something may be handed on or nothing will come any more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.available() > 0 || self.ended {
            return Ok(true);
        }
        if self.bytes.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of its output has no end"));
        }
        std::thread::sleep(self.read_again.saturating_duration_since(Instant::now()).min(GATHER));
        if tty::wait(self.stdout.as_fd(), PollFlags::POLLIN, LONGEST_WAIT)? == Readiness::Readable {
            let length = self.bytes.len();
            self.bytes.resize(length + LONGEST_LINE, 0);
            let read = io::Read::read(&mut self.stdout, &mut self.bytes[length..]);
            self.bytes.truncate(length + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
            if self.bytes.len() < length + LONGEST_LINE {
                self.read_again = Instant::now() + GATHER;
            }
        }
        Ok(self.available() > 0 || self.ended)
    }
}

impl io::Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.fill()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.available().min(out.len());
        out[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.drain(..count);
        Ok(count)
    }
}

/// A program with everything it has started; ended on drop.
struct Running(Child);

impl Running {
    /// How it ended, for the operator.
    fn last_words(&mut self) -> String {
        self.wait(GRACE).unwrap_or_else(|| "the program has closed its output".to_owned())
    }

    /// Waits for its end without taking note of it, so that its group keeps its number.
    fn wait(&self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            if let Ok(Some(status)) = waitid(WaitId::Pid(Pid::from_child(&self.0)), options) {
                return Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("the program has ended with exit status {code}"),
                    (None, Some(signal)) => format!("the program was ended by signal {signal}"),
                    (None, None) => "the program has ended".to_owned(),
                });
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs no signal.
        let _ = kill_process_group(Pid::from_child(&self.0), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        self.wait(GRACE);
        // What it has started may have outlived it.
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}
