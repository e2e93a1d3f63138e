// SPDX-License-Identifier: Apache-2.0
//! A waveform as COMTRADE (IEEE C37.111-2013 / IEC 60255-24): a `.cfg` text and a `.dat` in the BINARY format, the
//! pair that every reader of fault records knows.

use crate::clock::Utc;
use std::io::{self, Write};

/// A recorded voltage waveform.
#[derive(Debug, Clone, Copy)]
pub struct Recording<'a> {
    /// Where it was recorded; commas and line ends are replaced.
    pub station: &'a str,
    /// What recorded it.
    pub device: &'a str,
    /// Instantaneous voltage (V).
    pub volts: &'a [f32],
    /// Samples per second.
    pub rate: f64,
    /// Nominal frequency of the grid (Hz).
    pub nominal_frequency: f64,
    /// Nominal voltage (V RMS), given as primary rating.
    pub nominal_voltage: f64,
    /// UTC of the first sample.
    pub start: Utc,
    /// UTC of the event's beginning.
    pub trigger: Utc,
    /// The clock was synchronised to UTC (clause 7.4.11, `tmq_code`).
    pub synchronised: bool,
}

/// Longest station and device names (clause 7.4.2).
const MAX_NAME: usize = 64;
/// BINARY samples lie in ±32767; -32768 marks a missing one (clause 8.6).
const FULL_SCALE: f64 = 32_767.0;
/// `tmq_code` of a clock that is not reliable, and of one within 10 ms: what NTP over a busy uplink and samples over a
/// serial line leave (clause 7.4.11).
const CLOCK_FAULT: char = 'F';
const CLOCK_WITHIN_10_MS: char = '8';

/// The configuration file.
#[must_use]
pub fn cfg(recording: &Recording<'_>) -> String {
    let Recording { rate, volts, nominal_frequency, nominal_voltage, .. } = *recording;
    let (station, device) = (name(recording.station), name(recording.device));
    let scale = scale(volts);
    let quality = if recording.synchronised { CLOCK_WITHIN_10_MS } else { CLOCK_FAULT };
    [
        format!("{station},{device},2013"),
        "1,1A,0D".to_owned(),
        format!("1,U,,,V,{scale:e},0,0,-32767,32767,{nominal_voltage},{nominal_voltage},P"),
        format!("{nominal_frequency}"),
        "1".to_owned(),
        format!("{rate},{}", volts.len()),
        date(recording.start),
        date(recording.trigger),
        "BINARY".to_owned(),
        "1".to_owned(),
        "0,0".to_owned(),
        format!("{quality},0"),
    ]
    .map(|line| line + "\r\n")
    .concat()
}

/// The data file: per sample its number, its time in µs and its value, little-endian.
///
/// # Errors
/// `out` cannot be written.
pub fn dat(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    let scale = scale(recording.volts);
    for (index, volts) in recording.volts.iter().enumerate() {
        let micros = (index as f64 / recording.rate * 1e6).round();
        let raw = (f64::from(*volts) / scale).round().clamp(-FULL_SCALE, FULL_SCALE);
        out.write_all(&(index as u32 + 1).to_le_bytes())?;
        out.write_all(&(micros as u32).to_le_bytes())?;
        out.write_all(&(raw as i16).to_le_bytes())?;
    }
    Ok(())
}

/// Volts per step, so that the largest sample fills the range.
fn scale(volts: &[f32]) -> f64 {
    let peak = volts.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if peak > 0.0 {
        f64::from(peak) / FULL_SCALE
    } else {
        1.0
    }
}

fn name(text: &str) -> String {
    text.chars().map(|c| if c == ',' || c.is_control() { ' ' } else { c }).take(MAX_NAME).collect()
}

fn date(at: Utc) -> String {
    let at = at.calendar();
    let (date, clock) = (at.date(), at.time());
    format!(
        "{:02}/{:02}/{:04},{:02}:{:02}:{:02}.{:06}",
        date.day(),
        u8::from(date.month()),
        date.year(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(volts: &[f32]) -> Recording<'_> {
        Recording {
            station: "Dach, Nord\r\n",
            device: "my_WeSense",
            volts,
            rate: 10_240.0,
            nominal_frequency: 50.0,
            nominal_voltage: 230.0,
            start: Utc::from_millis(1_795_170_605_828),
            trigger: Utc::from_millis(1_795_170_606_000).plus_seconds(0.000_5),
            synchronised: true,
        }
    }

    #[test]
    fn the_configuration_says_what_the_standard_wants() {
        let text = cfg(&recording(&[0.0, 325.0, -325.0]));
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], "Dach  Nord  ,my_WeSense,2013");
        assert_eq!(lines[5], "10240,3");
        assert_eq!(lines[6], "20/11/2026,10:30:05.828000");
        assert_eq!(lines[7], "20/11/2026,10:30:06.000500");
        assert_eq!((lines[10], lines[11]), ("0,0", "8,0"));
        assert_eq!(lines.len(), 13);
    }

    #[test]
    fn samples_fill_the_range_and_come_back() {
        let volts = [0.0, 325.0, -162.5, f32::MIN_POSITIVE];
        let mut bytes = Vec::new();
        dat(&recording(&volts), &mut bytes).unwrap();
        assert_eq!(bytes.len(), 4 * 10);
        let scale = scale(&volts);
        for (index, record) in bytes.chunks_exact(10).enumerate() {
            assert_eq!(u32::from_le_bytes(record[..4].try_into().unwrap()), index as u32 + 1);
            let raw = i16::from_le_bytes(record[8..].try_into().unwrap());
            assert!((f64::from(raw) * scale - f64::from(volts[index])).abs() <= scale / 2.0);
        }
        assert_eq!(u32::from_le_bytes(bytes[14..18].try_into().unwrap()), 98);
    }

    #[test]
    fn a_dead_line_is_a_row_of_zeros() {
        let mut bytes = Vec::new();
        dat(&recording(&[0.0; 5]), &mut bytes).unwrap();
        assert!(bytes.chunks_exact(10).all(|record| record[8..] == [0, 0]));
    }
}
