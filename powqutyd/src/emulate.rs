// SPDX-License-Identifier: Apache-2.0
//! `powqutyd emulate`: a WeSense, or a GPS receiver, on a pseudo-terminal or any other serial line.

pub mod oscilloscope;
pub mod plan;
pub mod pty;
pub mod receiver;

use crate::clock::Utc;
use crate::tty::{Readiness, Tty};
use lexopt::Arg::Long;
use lexopt::ValueExt;
use openwrt::reload::{self, Signal};
use oscilloscope::Oscilloscope;
use plan::Plan;
use pty::{Link, Pty};
use receiver::GpsReceiver;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Help of the subcommand.
pub const HELP: &str = "\
Plays a WeSense oscilloscope on a pseudo-terminal, so that the whole daemon can be tried without hardware:

  powqutyd emulate --pty /tmp/WeSense0 --script disturbances.txt
  uci set powquty.powquty.input=wesense; uci set powquty.powquty.device_tty=/tmp/WeSense0

options:
  --pty PATH                 symbolic link to the pseudo-terminal, kept up to date
  --tty PATH                 no pseudo-terminal but this line, such as /dev/ttyGS0 of a USB gadget (g_serial) or one
                             end of a null modem; opened again whenever it hangs up
  --script FILE              the grid and the faults of the device, see below; a quiet grid without
  --nominal-voltage V        (230)
  --nominal-frequency 50|60  (50)
  --gps                      a GPS receiver instead, one fix a second
  --position LAT,LON         where the receiver is (52.520008,13.404954)

A script has one statement per line; times are counted from the start of the emulator:
  voltage 231                   repeat 60s                      at 5s dip 40 for 120ms
  frequency 50.01               random 20                       at 12s swell 118 for 300ms
  noise 0.1                     harmonic 5 2.5                  at 20s interruption for 700ms
  device ppm 35                 at 10s fault torn               at 20s fault stall for 500ms
  device jitter 3ms             at 12s fault duplicate          at 25s fault silence for 3s
  device scale 0.025            at 14s fault skip 5             at 40s fault hangup for 10s
  device offset 12              at 16s fault garbage 40         at 50s fault nofix for 10s (GPS)
                                at 18s fault counter            at 30s fault reset
";

/// Something that speaks over a serial line; pure, time in seconds since it was switched on.
pub trait Device {
    /// Takes bytes from the host; what it answers at once goes to `out`.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>);

    /// Everything that is sent until `now`; ends early when the device is unplugged.
    fn advance(&mut self, now: f64, out: &mut Vec<u8>) -> Option<HangUp>;

    /// When the next bytes are due.
    fn next(&mut self) -> f64;

    /// It was unplugged and is plugged in again.
    fn power_cycle(&mut self);
}

/// The device is unplugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangUp {
    /// For this long.
    pub length: Duration,
}

/// Why the emulator does not run.
#[derive(Debug)]
pub enum EmulateError {
    /// The command line is wrong.
    Usage(String),
    /// Something else is.
    Failed(String),
}

impl fmt::Display for EmulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for EmulateError {}

impl From<lexopt::Error> for EmulateError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Speed of a line that has one.
const BAUD: u32 = 115_200;

/// Longest sleep, so that the end is seen.
const LONGEST_WAIT: f64 = 0.1;

/// Runs the subcommand until SIGTERM or SIGINT.
///
/// # Errors
/// See [`EmulateError`].
pub fn main(args: &[OsString]) -> Result<(), EmulateError> {
    let job = Job::parse(args)?;
    let device: Box<dyn Device + Send> = if job.gps {
        let (latitude, longitude) = job.position;
        Box::new(GpsReceiver::new(&job.plan, latitude, longitude, SystemTime::now()))
    } else {
        Box::new(Oscilloscope::new(&job.plan, job.nominal_voltage, job.nominal_frequency))
    };
    let failed =
        |what: &'static str| move |error: io::Error| EmulateError::Failed(format!("{what}: {error}"));
    let mut line = match job.tty {
        Some(path) => Line::Tty { path, open: None },
        None => Line::on_pty(job.link)?,
    };
    line.tell();
    let started = Instant::now();
    say(&format!("time 0 is {}", Utc::now().rfc3339()));
    let stop = Arc::new(AtomicBool::new(false));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("cannot start"))?;
    runtime.block_on(async {
        let mut signals = reload::signals().map_err(failed("signals"))?;
        let stopping = Arc::clone(&stop);
        let mut player = tokio::task::spawn_blocking(move || play(device, &mut line, started, &stopping));
        loop {
            tokio::select! {
                ended = &mut player => return match ended {
                    Ok(played) => played.map_err(failed("the pseudo-terminal is broken")),
                    Err(error) => Err(EmulateError::Failed(error.to_string())),
                },
                signal = signals.next() => if let Signal::Stop = signal {
                    stop.store(true, Ordering::Relaxed);
                },
            }
        }
    })
}

struct Job {
    plan: Plan,
    link: Option<PathBuf>,
    tty: Option<PathBuf>,
    nominal_voltage: f64,
    nominal_frequency: f64,
    gps: bool,
    position: (f64, f64),
}

impl Job {
    fn parse(args: &[OsString]) -> Result<Self, EmulateError> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut job = Self {
            plan: Plan::default(),
            link: None,
            tty: None,
            nominal_voltage: 230.0,
            nominal_frequency: 50.0,
            gps: false,
            position: (52.520_008, 13.404_954),
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("pty") => job.link = Some(parser.value()?.into()),
                Long("tty") => job.tty = Some(parser.value()?.into()),
                Long("script") => job.plan = read_plan(Path::new(&parser.value()?))?,
                Long("nominal-voltage") => job.nominal_voltage = number(&mut parser, 1.0, 10_000.0)?,
                Long("nominal-frequency") => job.nominal_frequency = number(&mut parser, 10.0, 100.0)?,
                Long("gps") => job.gps = true,
                Long("position") => job.position = position(&parser.value()?.string()?)?,
                other => return Err(other.unexpected().into()),
            }
        }
        if job.tty.is_some() && job.link.is_some() {
            return Err(EmulateError::Usage("--pty and --tty exclude each other".to_owned()));
        }
        Ok(job)
    }
}

fn read_plan(path: &Path) -> Result<Plan, EmulateError> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| EmulateError::Failed(format!("{shown}: {error}")))?;
    Plan::parse(&text).map_err(|error| EmulateError::Failed(format!("{shown}: {error}")))
}

fn number(parser: &mut lexopt::Parser, least: f64, most: f64) -> Result<f64, EmulateError> {
    let text = parser.value()?.string()?;
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| EmulateError::Usage(format!("{text}: expected a number from {least} to {most}")))
}

fn position(text: &str) -> Result<(f64, f64), EmulateError> {
    let parsed = text.split_once(',').and_then(|(latitude, longitude)| {
        let latitude: f64 = latitude.trim().parse().ok().filter(|it: &f64| it.abs() <= 90.0)?;
        let longitude: f64 = longitude.trim().parse().ok().filter(|it: &f64| it.abs() <= 180.0)?;
        Some((latitude, longitude))
    });
    parsed.ok_or_else(|| {
        EmulateError::Usage(format!("--position {text}: expected such as 52.520008,13.404954"))
    })
}

/// What the device is plugged into.
enum Line {
    /// A pseudo-terminal and the link to it.
    Pty { pty: Pty, path: Option<PathBuf>, link: Option<Link> },
    /// A line that is there; closed while it cannot be opened or the device is unplugged.
    Tty { path: PathBuf, open: Option<Tty> },
}

impl Line {
    fn on_pty(path: Option<PathBuf>) -> Result<Self, EmulateError> {
        let pty =
            Pty::open().map_err(|error| EmulateError::Failed(format!("no pseudo-terminal: {error}")))?;
        let shown = path.clone().unwrap_or_default();
        let mut line = Self::Pty { pty, path, link: None };
        line.plug_in().map_err(|error| EmulateError::Failed(format!("{}: {error}", shown.display())))?;
        Ok(line)
    }

    fn plug_in(&mut self) -> io::Result<()> {
        if let Self::Pty { pty, path: Some(path), link } = self {
            *link = Some(Link::new(path, pty.path())?);
        }
        Ok(())
    }

    fn pull_out(&mut self) -> io::Result<()> {
        match self {
            Self::Pty { pty, link, .. } => {
                // Opened before the old one is closed, so that the names differ.
                let next = Pty::open()?;
                *link = None;
                *pty = next;
            }
            Self::Tty { open, .. } => *open = None,
        }
        Ok(())
    }

    /// Sends what there is room for, as a device does that cannot wait; `false` when the line has hung up.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Self::Tty { open, .. } = self else {
            let Self::Pty { pty, .. } = self else { return Ok(true) };
            return pty.send(bytes).map(|_| true);
        };
        let there = open.as_ref().is_none_or(|tty| tty.send(bytes).is_ok());
        if !there {
            *open = None;
        }
        Ok(there)
    }

    /// Waits for commands; `None` when the line has hung up.
    fn receive(&mut self, bytes: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
        let (path, open) = match self {
            Self::Pty { pty, .. } => return pty.receive(bytes, limit).map(Some),
            Self::Tty { path, open } => (path, open),
        };
        let Some(tty) = open else {
            std::thread::sleep(Duration::from_secs_f64(LONGEST_WAIT));
            if let Ok(tty) = Tty::open(path, BAUD) {
                say(&format!("opened {}", path.display()));
                *open = Some(tty);
            }
            return Ok(Some(0));
        };
        let received = match tty.wait(limit) {
            Ok(Readiness::Readable) => tty.read(bytes).map(Option::unwrap_or_default),
            Ok(Readiness::Silent) => Ok(0),
            Err(error) => Err(error),
        };
        if let Err(error) = &received {
            say(&format!("{}: {error}; opening it again", path.display()));
            *open = None;
        }
        Ok(received.ok())
    }

    fn tell(&self) {
        match self {
            Self::Pty { pty, path, .. } => {
                let link = path.as_ref().map(|path| format!(", linked from {}", path.display()));
                say(&format!("on {}{}", pty.path().display(), link.unwrap_or_default()));
            }
            Self::Tty { path, .. } => say(&format!("on {}", path.display())),
        }
    }
}

fn say(text: &str) {
    use std::io::Write;
    // A terminal that is gone needs no word.
    let _ = writeln!(io::stdout(), "{text}");
}

fn play(
    mut device: Box<dyn Device + Send>,
    line: &mut Line,
    started: Instant,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut heard = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        let now = started.elapsed().as_secs_f64();
        bytes.clear();
        let hang_up = device.advance(now, &mut bytes);
        let mut there = line.send(&bytes)?;
        if let Some(HangUp { length }) = hang_up {
            unplug(&mut *device, line, started, length, stop)?;
            continue;
        }
        let wait = (device.next() - now).clamp(0.0, LONGEST_WAIT);
        if let Some(count) = line.receive(&mut heard, Duration::from_secs_f64(wait))? {
            bytes.clear();
            device.hear(&heard[..count], &mut bytes);
            there &= bytes.is_empty() || line.send(&bytes)?;
        } else {
            there = false;
        }
        if !there {
            device.power_cycle();
        }
    }
    Ok(())
}

/// Takes the device away and brings it back under another name.
fn unplug(
    device: &mut (dyn Device + Send),
    line: &mut Line,
    started: Instant,
    length: Duration,
    stop: &AtomicBool,
) -> io::Result<()> {
    line.pull_out()?;
    let until = Instant::now() + length;
    let mut nobody_hears = Vec::new();
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
        // The grid goes on.
        let _ = device.advance(started.elapsed().as_secs_f64(), &mut nobody_hears);
        nobody_hears.clear();
    }
    device.power_cycle();
    line.plug_in()?;
    line.tell();
    Ok(())
}
