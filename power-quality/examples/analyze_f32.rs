// SPDX-License-Identifier: Apache-2.0
//! Prints what the analyser says about a file of little-endian 32-bit floats in volts, one JSON object per line.
//!
//! `analyze_f32 FILE RATE NOMINAL_VOLTAGE 50|60` (build with `--features serde`)

use std::io::Write;

use power_quality::{Analyzer, Config, Measurement, NominalFrequency};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, rate, voltage, frequency] = &arguments[..] else {
        return Err("usage: analyze_f32 FILE RATE NOMINAL_VOLTAGE 50|60".into());
    };
    let nominal = if frequency == "60" { NominalFrequency::Hz60 } else { NominalFrequency::Hz50 };
    let bytes = std::fs::read(file)?;
    let samples: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let mut analyzer = Analyzer::new(Config::new(rate.parse()?, voltage.parse()?, nominal))?;
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    let mut print = |measurement: Measurement<'_>| {
        let written = serde_json::to_writer(&mut output, &measurement)
            .map_err(std::io::Error::from)
            .and_then(|()| output.write_all(b"\n"));
        failed = failed.take().or(written.err());
    };
    analyzer.push(&samples, &mut print);
    analyzer.finish(&mut print);
    failed.map_or(Ok(()), |error| Err(error.into()))
}
