// SPDX-License-Identifier: Apache-2.0
//! The source thread and the bounded queue behind it.
//!
//! Frames go round: reader → analysis → reader; a new one is made only while all are on their way, up to a bound. A live
//! reader that has reached it loses what it reads, counts it, and says so with the next frame.

use super::{device, Arrival, Input, OpenError, Pace, Read, Source, FRAMES_PER_SECOND};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{error::TryRecvError, unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::Notify;

/// How long the analysis may stand still before a live input loses frames, in seconds.
const PATIENCE: f64 = 4.0;

/// A few milliseconds of signal.
#[derive(Debug)]
pub struct Frame {
    volts: Box<[f32]>,
    count: usize,
    /// Position of the first sample in the signal, missing samples counted.
    pub position: u64,
    /// Frames before this one that were read but found no room.
    pub lost_before: u32,
    /// The input was interrupted before this frame, for a time that only a clock knows and `position` does not.
    pub break_before: bool,
    /// When the last sample had arrived, where the source can tell.
    pub arrival: Option<Arrival>,
}

impl Frame {
    fn empty(samples: usize) -> Self {
        let volts = vec![0.0; samples].into();
        Self { volts, count: 0, position: 0, lost_before: 0, break_before: false, arrival: None }
    }

    /// The samples (V).
    #[must_use]
    pub fn volts(&self) -> &[f32] {
        &self.volts[..self.count]
    }
}

/// What comes out of the queue.
#[derive(Debug)]
pub enum Delivery {
    /// Samples.
    Frame(Box<Frame>),
    /// The input has ended.
    Ended {
        /// Position of its end.
        at: u64,
    },
    /// The input is broken.
    Failed(String),
}

/// The consumer's end of the queue; dropping it ends the source thread at its next read.
pub struct Intake {
    deliveries: UnboundedReceiver<Delivery>,
    /// None once the thread is to end.
    spare: Option<UnboundedSender<Box<Frame>>>,
    live: bool,
    /// Rung once per burst of a live input; waking up for each frame would cost more than the frame.
    bell: Arc<Notify>,
    stop: Arc<AtomicBool>,
    report: Option<device::Shared>,
}

/// Opens `input` and starts reading it in a thread of its own.
///
/// # Errors
/// The input cannot be opened, or there is no thread to be had.
pub fn start(input: &Input) -> Result<Intake, OpenError> {
    let source = super::open(input)?;
    spawn(source, input)
        .map_err(|error| OpenError::Unreadable(format!("cannot start the source thread: {error}")))
}

fn spawn(source: Box<dyn Source>, input: &Input) -> io::Result<Intake> {
    let (to_intake, deliveries) = unbounded_channel();
    let (spare, spares) = unbounded_channel();
    let samples = input.frame_samples();
    let pace = input.pace();
    let stop = Arc::new(AtomicBool::new(false));
    let report = source.report();
    let bell = Arc::new(Notify::new());
    let pump = Pump {
        source,
        scratch: vec![0.0; samples].into(),
        deliveries: to_intake,
        spares,
        unmade: frames(pace),
        held: None,
        pace,
        rate: input.rate,
        stop: Arc::clone(&stop),
        position: 0,
        lost: 0,
        broken: false,
        unannounced: false,
        bell: Bell(Arc::clone(&bell)),
    };
    std::thread::Builder::new().name("source".to_owned()).stack_size(128 * 1024).spawn(move || pump.run())?;
    Ok(Intake { deliveries, spare: Some(spare), live: pace != Pace::Waits, bell, stop, report })
}

/// Frames on their way between the threads; a simulation that outruns time gets more of them.
fn frames(pace: Pace) -> usize {
    match pace {
        Pace::Waits => FRAMES_PER_SECOND as usize,
        Pace::Device => (PATIENCE * FRAMES_PER_SECOND) as usize,
        Pace::Live(times) => (PATIENCE * FRAMES_PER_SECOND * times.clamp(1.0, 10.0)) as usize,
    }
}

impl Intake {
    /// Waits for the next delivery; `None` when the source thread is gone.
    pub async fn next(&mut self) -> Option<Delivery> {
        if !self.live {
            return self.deliveries.recv().await;
        }
        loop {
            match self.deliveries.try_recv() {
                Ok(delivery) => return Some(delivery),
                Err(TryRecvError::Empty) => self.bell.notified().await,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    /// What a device says of itself.
    #[must_use]
    pub fn report(&self) -> Option<device::Report> {
        self.report.as_ref().map(|report| report.lock().clone())
    }

    /// The next delivery if it is already there.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }

    /// Gives a frame back to the reader.
    pub fn recycle(&self, frame: Box<Frame>) {
        // A source thread that has ended needs no frames.
        let _ = self.spare.as_ref().map(|spare| spare.send(frame));
    }

    /// Tells the thread to end; what it has read is lost.
    pub fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.spare = None;
    }

    /// Waits until the thread has let go of its device or its program, at most `limit`.
    pub async fn ended(mut self, limit: Duration) {
        self.end();
        // The source goes before the thread's end of the queue.
        let gone = async { while self.deliveries.recv().await.is_some() {} };
        if tokio::time::timeout(limit, gone).await.is_err() {
            log::warn!("the input did not end in time");
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.end();
    }
}

/// Dropped from the top: the source goes first.
struct Pump {
    source: Box<dyn Source>,
    /// Where a frame is read to that finds no room.
    scratch: Box<[f32]>,
    deliveries: UnboundedSender<Delivery>,
    spares: UnboundedReceiver<Box<Frame>>,
    /// Frames that may still be made.
    unmade: usize,
    /// A spare frame whose read gave no samples.
    held: Option<Box<Frame>>,
    pace: Pace,
    rate: f64,
    stop: Arc<AtomicBool>,
    /// Samples so far, missing ones counted.
    position: u64,
    lost: u32,
    broken: bool,
    /// Something was sent and the bell not rung.
    unannounced: bool,
    /// The last to go, so that the consumer finds the queue closed.
    bell: Bell,
}

struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Pump {
    fn run(mut self) {
        let started = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if self.step().is_none() {
                return;
            }
            if let Pace::Live(times) = self.pace {
                let due = started + Duration::from_secs_f64(self.position as f64 / (self.rate * times));
                let ahead = due.saturating_duration_since(Instant::now());
                // Frames are produced in small bursts; a sleep for each would cost more than the signal.
                if ahead > Duration::from_millis(20) {
                    self.announce();
                    std::thread::sleep(ahead);
                }
            }
        }
    }

    /// Reads one frame; `None` when there is nothing more to do.
    fn step(&mut self) -> Option<()> {
        let spare = match self.held.take() {
            Some(frame) => Some(frame),
            None => match self.spares.try_recv() {
                Ok(frame) => Some(frame),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.unmade > 0 => {
                    self.unmade -= 1;
                    Some(Box::new(Frame::empty(self.scratch.len())))
                }
                Err(TryRecvError::Empty) if self.pace == Pace::Waits => Some(self.spares.blocking_recv()?),
                Err(TryRecvError::Empty) => None,
            },
        };
        let Some(mut frame) = spare else {
            return match self.source.read(&mut self.scratch) {
                Ok(Read::Samples(count)) => {
                    self.position += count as u64;
                    self.lost += 1;
                    Some(())
                }
                other => self.exceptional(other),
            };
        };
        match self.source.read(&mut frame.volts) {
            Ok(Read::Samples(count)) => {
                frame.count = count;
                frame.position = self.position;
                frame.lost_before = std::mem::take(&mut self.lost);
                frame.break_before = std::mem::take(&mut self.broken);
                frame.arrival = self.source.arrival();
                self.position += count as u64;
                self.unannounced = true;
                self.deliveries.send(Delivery::Frame(frame)).ok()?;
                if self.pace == Pace::Device && self.source.is_drained() {
                    self.announce();
                }
                Some(())
            }
            other => {
                self.held = Some(frame);
                self.exceptional(other)
            }
        }
    }

    fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.bell.0.notify_one();
        }
    }

    fn exceptional(&mut self, read: Result<Read, super::DecodeError>) -> Option<()> {
        self.announce();
        let last = match read {
            Ok(Read::Samples(_)) => return Some(()),
            Ok(Read::Gap(samples)) => {
                self.position += samples;
                return Some(());
            }
            Ok(Read::Break) => {
                self.broken = true;
                return Some(());
            }
            Ok(Read::Idle) => return Some(()),
            Ok(Read::End) => Delivery::Ended { at: self.position },
            Err(error) => Delivery::Failed(error.to_string()),
        };
        // An intake that is gone needs no last word.
        let _ = self.deliveries.send(last);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::Script;
    use super::super::{InputKind, Speed};
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn simulator(script: &str, speed: Speed) -> Input {
        let script = Script::parse(script).unwrap();
        let kind = InputKind::Simulator { script, nominal_voltage: 230.0, nominal_frequency: 50.0 };
        Input { kind, rate: 10_240.0, speed }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// Test double of a device: frames of ones, and a count of how many were read.
    struct CountingDevice(Arc<AtomicUsize>);

    impl Source for CountingDevice {
        fn read(&mut self, volts: &mut [f32]) -> Result<Read, super::super::DecodeError> {
            volts.fill(1.0);
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Read::Samples(volts.len()))
        }
    }

    #[test]
    fn a_stalled_consumer_costs_counted_frames_and_does_not_hold_the_reader_up() {
        let reads = Arc::new(AtomicUsize::new(0));
        let source = Box::new(CountingDevice(Arc::clone(&reads)));
        let mut intake = spawn(source, &simulator("", Speed::Times(1000.0))).unwrap();
        let room = frames(Pace::Live(1000.0));
        lab::wait_for("a hundred reads too many", lab::PATIENCE, || {
            (reads.load(Ordering::Relaxed) >= room + 100).then_some(())
        });
        runtime().block_on(async {
            let (mut samples, mut lost) = (0, 0);
            while lost == 0 {
                let Some(Delivery::Frame(frame)) = intake.next().await else { panic!("the device ended") };
                lost += frame.lost_before;
                assert_eq!(frame.position, (samples + lost as usize * 64) as u64);
                samples += frame.volts().len();
                intake.recycle(frame);
            }
            assert!(samples > room * 64, "everything in the queue arrived before the loss");
            assert!(lost >= 99);
        });
    }

    #[test]
    fn a_waiting_source_loses_nothing_and_gaps_are_told() {
        let mut intake = start(&simulator("at 100ms gap for 50ms", Speed::Max)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        runtime().block_on(async {
            let (mut samples, mut gap) = (0_u64, 0);
            while samples < 100_000 {
                let Some(Delivery::Frame(frame)) = intake.next().await else { panic!("the simulator ended") };
                assert_eq!(frame.lost_before, 0);
                gap = frame.position - samples;
                samples += frame.volts().len() as u64;
                intake.recycle(frame);
            }
            assert_eq!(gap, 512);
        });
    }
}
