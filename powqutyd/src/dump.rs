// SPDX-License-Identifier: Apache-2.0
//! `powqutyd run -r` and `-w`: the samples as text, one line per frame, from a thread of its own.

use crate::clock::{monotonic, Utc};
use crate::options::Options;
use crate::source::decode::Scaling;
use crate::source::Frame;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::time::Duration;

/// Frames that may wait for the reader: two seconds.
const QUEUE: usize = 320;

/// How long the end may take.
const STOP: Duration = Duration::from_millis(500);

/// Samples of a frame of the oscilloscope; numbers count frames of this size.
const FRAME: u64 = 64;

/// Hands frames to the thread that prints them; what nobody takes is left out and counted.
pub struct Dump {
    frames: Option<SyncSender<Line>>,
    finished: Receiver<()>,
    left_out: u64,
}

struct Line {
    number: u64,
    scaling: Scaling,
    realtime_us: i64,
    monotonic_us: i64,
    volts: Box<[f32]>,
}

impl Dump {
    /// Starts what the command line asks for, if anything.
    ///
    /// # Errors
    /// The file cannot be created, or there is no thread to be had.
    pub fn start(options: &Options) -> io::Result<Option<Self>> {
        let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
        if options.print_raw {
            outputs.push(Box::new(io::stdout()));
        }
        if let Some(path) = &options.raw_file {
            outputs.push(Box::new(BufWriter::with_capacity(64 * 1024, create(path)?)));
        }
        if outputs.is_empty() {
            return Ok(None);
        }
        let (frames, incoming) = sync_channel::<Line>(QUEUE);
        let (finish, finished) = sync_channel(1);
        std::thread::Builder::new().name("dump".to_owned()).stack_size(64 * 1024).spawn(move || {
            let mut text = Vec::with_capacity(1024);
            for line in incoming {
                text.clear();
                line.write(&mut text);
                outputs.retain_mut(|output| match output.write_all(&text) {
                    Ok(()) => true,
                    Err(error) => {
                        log::error!("raw samples: cannot write any more: {error}");
                        false
                    }
                });
            }
            for output in &mut outputs {
                let _ = output.flush().inspect_err(|error| log::error!("raw samples: cannot write: {error}"));
            }
            // The owner may have stopped waiting.
            let _ = finish.send(());
        })?;
        Ok(Some(Self { frames: Some(frames), finished, left_out: 0 }))
    }

    /// Takes a frame; `scaling` is that of the converter where it is known.
    pub fn take(&mut self, frame: &Frame, scaling: Option<Scaling>) {
        let now = monotonic();
        let at = frame.arrival.map_or(now, |arrival| arrival.at);
        let utc = Utc::now().plus_seconds(at.as_secs_f64() - now.as_secs_f64());
        let line = Line {
            number: frame.position / FRAME,
            scaling: scaling.unwrap_or_default(),
            realtime_us: (utc.seconds() * 1e6) as i64,
            monotonic_us: at.as_micros() as i64,
            volts: frame.volts().into(),
        };
        if self.frames.as_ref().is_some_and(|frames| frames.try_send(line).is_err()) {
            if self.left_out == 0 {
                log::warn!("raw samples: nobody takes them fast enough, frames are left out");
            }
            self.left_out += 1;
        }
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        if self.left_out > 0 {
            log::warn!("raw samples: {} frames were left out", self.left_out);
        }
        self.frames = None;
        if self.finished.recv_timeout(STOP).is_err() {
            log::warn!("raw samples: the last ones were not taken in time");
        }
    }
}

impl Line {
    fn write(&self, text: &mut Vec<u8>) {
        let Self { number, scaling: Scaling { scale, offset }, realtime_us, monotonic_us, volts } = self;
        let payload = 2 + 2 * volts.len();
        let (bytes, counter) = (payload + 4, number % 65_536);
        // Writing to a Vec has no way to fail.
        let _ = write!(
            text,
            "->{offset:8.4},{scale:8.4}, {realtime_us}, {monotonic_us}: [{bytes}-{payload}-{counter}] \t"
        );
        for volt in volts {
            let _ = write!(text, "{volt:6.2} ");
        }
        text.push(b'\n');
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::create(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_powquty_wrote_it() {
        let line = Line {
            number: 65_537,
            scaling: Scaling { scale: 0.015, offset: 0.0 },
            realtime_us: 1_795_171_134_880_685,
            monotonic_us: 1_810_610_921,
            volts: [0.0, 9.97, -319.951].into(),
        };
        let mut text = Vec::new();
        line.write(&mut text);
        let expected =
            "->  0.0000,  0.0150, 1795171134880685, 1810610921: [12-8-1] \t  0.00   9.97 -319.95 \n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
