// SPDX-License-Identifier: Apache-2.0
//! The analysis of a raw recording, which knows its own rate, scale, times and gaps.

use super::{AnalyzeError, Job, Progress, Run};
use crate::clock::Utc;
use crate::raw::format::Block;
use crate::raw::reader::Recording;
use power_quality::TimeMap;
use std::fs::File;
use std::io::{self, Write};

/// Steps of a progress bar.
const STEPS: f64 = 1e6;

pub(super) fn measure(job: &Job, file: File, mut output: impl Write) -> Result<(), AnalyzeError> {
    let name = job.name();
    if let Some(option) = job.input_options.first() {
        return Err(AnalyzeError::Usage(format!("{option}: {name} is a raw recording and says that itself")));
    }
    let broken = |error: io::Error| AnalyzeError::Failed(format!("{name}: cannot read: {error}"));
    let mut recording = Recording::new(file).map_err(broken)?;
    let Some(first) = recording.next_block().map_err(broken)? else {
        return Err(AnalyzeError::Failed(format!("{name}: there is no whole block in it")));
    };
    let nominal_rate = first.place.nominal_rate;
    let config = power_quality::Config { rate: nominal_rate, ..job.config };
    let mut run = Run::new(job, config, Some(Utc::from_seconds(first.place.unix_s)), &mut output)?;
    let mut progress = Progress::new(STEPS as u64);
    let mut last: Option<End> = None;
    let mut next = Some(first);
    let mut other_rates = 0_u64;
    while let Some(block) = next {
        if block.place.nominal_rate == nominal_rate {
            run.gap(last.as_ref().map_or(0, |last| last.until(&block)));
            let sample = run.analyzer.position();
            run.analyzer.set_time(TimeMap {
                sample: sample as f64,
                unix_s: block.place.unix_s,
                rate: block.place.rate,
            });
            for volts in block.volts.chunks(job.chunk) {
                run.push(volts);
            }
            last = Some(End::of(&block));
        } else {
            other_rates += 1;
        }
        if let Some(progress) = &mut progress {
            progress.show((recording.progress() * STEPS) as u64);
        }
        if run.lines.error.is_some() {
            break;
        }
        next = recording.next_block().map_err(broken)?;
    }
    if let Some(progress) = progress {
        progress.clear();
    }
    let damaged = recording.damaged;
    if damaged > 0 {
        super::remark(&format!("{name}: {damaged} damaged blocks are gaps"));
    }
    if other_rates > 0 {
        super::remark(&format!(
            "{name}: {other_rates} blocks of another rate than {nominal_rate} Hz are left out"
        ));
    }
    run.end()
}

/// The end of a block.
struct End {
    stretch: u32,
    position: u64,
    unix_s: f64,
    rate: f64,
}

impl End {
    fn of(block: &Block) -> Self {
        let (place, count) = (&block.place, block.volts.len());
        Self {
            stretch: block.stretch,
            position: place.position + count as u64,
            unix_s: place.unix_s + count as f64 / place.rate,
            rate: place.rate,
        }
    }

    /// Samples missing between here and `next`: by their positions, between stretches by their times.
    fn until(&self, next: &Block) -> u64 {
        if self.stretch == next.stretch {
            return next.place.position.saturating_sub(self.position);
        }
        // A clock that was set back gives no length; something is missing all the same.
        ((next.place.unix_s - self.unix_s) * self.rate).round().max(1.0) as u64
    }
}
