// SPDX-License-Identifier: Apache-2.0
//! The router usually hangs on the mains that it watches: what the time between the last record and the first
//! sample after the start was.

use crate::clock::Utc;
use crate::records::{Outage, Record, Stamped, Tenth};

/// A daemon that was killed comes back within the interval that was running; that much is no outage.
const RESTART_MS: i64 = 15 * 60_000;

/// The router's own time of start is known to some seconds only.
const BOOT_MS: i64 = 30_000;

/// How far the records of an earlier run reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastSeen {
    /// End of what was recorded last, in milliseconds since 1970.
    end_ms: Option<i64>,
    /// The daemon was stopped in good order after it.
    stopped: bool,
}

impl LastSeen {
    /// Takes the next record of the file.
    pub fn take(&mut self, record: &Stamped) {
        let length_ms = match &record.record {
            Record::TenMinutes(means) => (f64::from(means.duration_s) * 1000.0) as i64,
            Record::Frequencies(block) => {
                let measured = block.values.iter().rposition(|entry| *entry != Tenth::Absent);
                measured.map_or(0, |last| 10_000 * (last as i64 + 1))
            }
            Record::Event(event) => (event.duration_s * 1000.0) as i64,
            Record::Outage(_) => record.length_ms(),
            Record::TwoHours(_)
            | Record::Flicker(_)
            | Record::Signalling(_)
            | Record::Rvc(_)
            | Record::Stop => 0,
            Record::Header(_) | Record::SummarySent => return,
        };
        let end_ms = record.time_ms.saturating_add(length_ms);
        self.end_ms = Some(self.end_ms.map_or(end_ms, |known| known.max(end_ms)));
        self.stopped = record.record == Record::Stop;
    }

    /// The outage, if it was one, that ended with the first sample; `boot` is when the router started.
    #[must_use]
    pub fn outage(&self, first_sample: Utc, boot: Utc) -> Option<Stamped> {
        let time_ms = self.end_ms.filter(|_| !self.stopped)?;
        let gap_ms = first_sample.millis().checked_sub(time_ms).filter(|&gap| gap > 0)?;
        let power_loss = boot.millis() > time_ms.saturating_sub(BOOT_MS);
        if !power_loss && gap_ms < RESTART_MS {
            return None;
        }
        let outage = Outage { duration_s: gap_ms as f64 / 1000.0, power_loss };
        Some(Stamped { time_ms, record: Record::Outage(outage) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{FlickerValue, FrequencyBlock};

    fn at(minutes: i64) -> Utc {
        Utc::from_millis(1_795_000_200_000 + minutes * 60_000)
    }

    fn seen(records: &[(i64, Record)]) -> LastSeen {
        let mut last = LastSeen::default();
        for (minutes, record) in records {
            last.take(&Stamped { time_ms: at(*minutes).millis(), record: record.clone() });
        }
        last
    }

    fn frequencies() -> Record {
        let mut block = FrequencyBlock::new(50);
        block.values[..30].fill(Tenth::Deviation(0));
        Record::Frequencies(Box::new(block))
    }

    fn length(outage: Option<Stamped>) -> Option<(f64, bool)> {
        outage.map(|it| match it.record {
            Record::Outage(outage) => (outage.duration_s / 60.0, outage.power_loss),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn from_the_last_record_to_the_first_sample() {
        let last = seen(&[(0, frequencies())]);
        assert_eq!(length(last.outage(at(45), at(44))), Some((40.0, true)));
        assert_eq!(length(last.outage(at(45), at(-1000))), Some((40.0, false)), "the daemon alone was gone");
        assert_eq!(last.outage(at(45), at(44)).unwrap().time_ms, at(5).millis());
    }

    #[test]
    fn neither_a_stop_nor_a_quick_restart_is_an_outage() {
        assert_eq!(length(seen(&[(0, frequencies()), (6, Record::Stop)]).outage(at(45), at(44))), None);
        assert_eq!(length(seen(&[(0, frequencies())]).outage(at(19), at(-1000))), None);
        assert_eq!(
            length(seen(&[(0, frequencies())]).outage(at(7), at(6))),
            Some((2.0, true)),
            "a short power loss"
        );
        assert_eq!(length(seen(&[]).outage(at(45), at(44))), None, "the first start of all");
        assert_eq!(
            length(seen(&[(100, frequencies())]).outage(at(45), at(44))),
            None,
            "the clock is not set yet"
        );
    }

    #[test]
    fn an_outage_is_told_once() {
        let mut last = seen(&[(0, frequencies())]);
        last.take(&last.outage(at(45), at(44)).unwrap());
        assert_eq!(length(last.outage(at(46), at(44))), None);
        let pst = Record::Flicker(FlickerValue { long: false, value: 1.0, flagged: false });
        last.take(&Stamped { time_ms: at(50).millis(), record: pst });
        assert_eq!(length(last.outage(at(55), at(44))), None, "a restart after it");
    }
}
