// SPDX-License-Identifier: Apache-2.0
//! The `input*` options.

use super::Grid;
use crate::source::decode::{Format, Scaling};
use crate::source::script::Script;
use crate::source::{wesense, Input, InputKind, Speed};
use openwrt::uci::Reader;
use std::path::Path;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Wesense,
    File,
    Stdin,
    Simulator,
    Command,
}

pub(super) fn read(reader: &mut Reader, grid: &Grid, file: Option<&Path>) -> Input {
    let kind = reader.choice(
        "input",
        &[
            ("wesense", Kind::Wesense),
            ("file", Kind::File),
            ("stdin", Kind::Stdin),
            ("simulator", Kind::Simulator),
            ("command", Kind::Command),
        ],
        Kind::Wesense,
    );
    let kind = if file.is_some() { Kind::File } else { kind };
    let tty = reader.path("device_tty", "/dev/WeSense0");
    let path = reader.optional_path("input_path");
    let path = file.map(Path::to_owned).or(path);
    let command = reader.optional_text("input_command");
    let rate = reader.number("input_rate", 1000.0..=100_000.0, 10_240.0);
    let scaling = Scaling {
        scale: reader.number("input_scale", -1e6..=1e6, 1.0) as f32,
        offset: reader.number("input_offset", -1e9..=1e9, 0.0) as f32,
    };
    if scaling.scale == 0.0 {
        reader.problem("input_scale", Some("0"), "all voltages would be 0");
    }
    let format = reader.optional_choice("input_format", &Format::NAMES);
    let speed = reader
        .parsed("input_speed", |text| match text.trim() {
            "realtime" => Ok(Speed::Times(1.0)),
            "max" => Ok(Speed::Max),
            number => match number.parse() {
                Ok(times) if (0.01..=1000.0).contains(&times) => Ok(Speed::Times(times)),
                _ => Err("expected realtime, max, or how many times real time (0.01 to 1000)".to_owned()),
            },
        })
        .unwrap_or(Speed::Times(1.0));
    let script = reader.parsed("simulator_script", |path| read_script(Path::new(path)));
    let kind = match kind {
        Kind::Wesense => InputKind::Wesense { tty },
        Kind::Stdin => InputKind::Stdin { format: format.unwrap_or(Format::F32le), scaling },
        Kind::Simulator => InputKind::Simulator {
            script: script.unwrap_or_default(),
            nominal_voltage: grid.nominal_voltage,
            nominal_frequency: grid.nominal_frequency.hertz(),
        },
        Kind::File => {
            if path.is_none() {
                reader.problem("input_path", None, "needed for input 'file': the recording to read");
            }
            let path = path.unwrap_or_default();
            let by_name = path.to_str().and_then(Format::of_file_name);
            InputKind::File { format: format.or(by_name).unwrap_or(Format::F32le), scaling, path }
        }
        Kind::Command => {
            if command.is_none() {
                reader.problem(
                    "input_command",
                    None,
                    "needed for input 'command': a program that writes samples",
                );
            }
            let command = command.unwrap_or_default();
            InputKind::Command { command, format: format.unwrap_or(Format::S16le), scaling }
        }
    };
    if let (InputKind::Wesense { .. }, false) = (&kind, rate == wesense::RATE) {
        reader.warning("input_rate", Some(&rate.to_string()), "the oscilloscope samples at 10240 Hz");
    }
    let rate = if let InputKind::Wesense { .. } = kind { wesense::RATE } else { rate };
    Input { kind, rate, speed }
}

fn read_script(path: &Path) -> Result<Script, String> {
    // A timeline of the largest size needs less than 256 KiB.
    let text = read_bounded(path).map_err(|error| format!("cannot read: {error}"))?;
    Script::parse(&text).map_err(|error| error.to_string())
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(256 * 1024).read_to_string(&mut text)?;
    Ok(text)
}
