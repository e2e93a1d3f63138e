// SPDX-License-Identifier: Apache-2.0
//! Prints what the analyser says about a file of little-endian 32-bit floats in volts.
//!
//! `analyze_f32 FILE RATE NOMINAL_VOLTAGE 50|60`

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
    let mut show = |measurement: Measurement<'_>| match measurement {
        Measurement::EventStart(_) => {}
        Measurement::Window(w) => println!(
            "window {:9.4} s  {:8.4} s  {:12.4} V  {:?} Hz  THD {:?} %{}{}",
            w.start_s,
            w.duration_s,
            w.voltage,
            w.frequency,
            w.thd,
            if w.flagged { "  flagged" } else { "" },
            if w.partial { "  partial" } else { "" },
        ),
        Measurement::Event(e) => println!(
            "{:?} {:9.4} s  {:.4} s  {:.2} %  open {}",
            e.kind,
            e.start_s,
            e.duration_s,
            e.extreme_percent.unwrap_or_default(),
            e.open
        ),
        other => println!("{other:?}"),
    };
    for chunk in samples.chunks(64) {
        analyzer.push(chunk, &mut show);
    }
    analyzer.finish(&mut show);
    Ok(())
}
