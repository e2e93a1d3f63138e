// SPDX-License-Identifier: Apache-2.0
//! The measurement CSV in PowQuty's columns, one line per second: device, UTC (s), monotonic clock (s), 3,
//! RMS voltage (V), frequency (Hz), harmonics 3, 5, 7, 9, 11, 13, 15 (% of the fundamental).

use crate::clock::Utc;
use crate::second::Second;
use std::fmt::Write;

/// First line of a file with header.
pub const HEADER: &str = "device,utc,monotonic,kind,voltage,frequency,h3,h5,h7,h9,h11,h13,h15";

/// The line of a second that ended at `utc` and `monotonic` (s), without line feed; what could not be
/// measured is `nan`, which rrdtool and collectd take for unknown.
#[must_use]
pub fn line(second: &Second, uuid: &str, utc: Utc, monotonic: f64) -> String {
    let mut line = String::with_capacity(160);
    if uuid.contains([',', '"']) {
        let _ = write!(line, "\"{}\"", uuid.replace('"', "\"\""));
    } else {
        line.push_str(uuid);
    }
    let _ = write!(line, ",{},{monotonic:.9},3,{:010.6}", utc.decimal(), second.voltage);
    for value in std::iter::once(second.frequency).chain(second.harmonics) {
        // Writing to a String has no way to fail.
        let _ = match value {
            Some(value) => write!(line, ",{value:09.6}"),
            None => write!(line, ",nan"),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_powqutys() {
        let second = Second {
            voltage: 230.001_129,
            frequency: Some(49.999_916),
            harmonics: [Some(0.001_43), Some(0.0), None, Some(12.5), Some(0.0), Some(0.0), Some(0.0)],
            ..Second::default()
        };
        let utc = Utc::from_millis(1_795_170_312_410);
        assert_eq!(
            line(&second, "my_WeSense", utc, 1_154.244_410_648),
            "my_WeSense,1795170312.410000000,1154.244410648,3,230.001129,49.999916,00.001430,00.000000,nan,12.500000,00.000000,00.000000,00.000000"
        );
    }
}
