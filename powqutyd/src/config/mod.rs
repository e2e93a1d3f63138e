// SPDX-License-Identifier: Apache-2.0
//! `/etc/config/powquty` as typed values: a [`Config`] that exists is valid.
//!
//! Every option of PowQuty and of this daemon is known and checked here.

mod input;
mod raw;

use crate::gps;
use crate::source::Input;
use crate::storage::waveforms::MOST_SAMPLES;
use openwrt::reload::Reading;
use openwrt::uci::{self, Package, Problems, Reader};
use power_quality::{NominalFrequency, Recording, Thresholds};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the UCI package, of its section and of the section's type.
pub const PACKAGE: &str = "powquty";

/// Everything the daemon was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `enabled`: otherwise the daemon runs and answers, but measures nothing.
    pub enabled: bool,
    /// Who measures, and where.
    pub device: Device,
    /// What is measured.
    pub input: Input,
    /// How it is judged.
    pub grid: Grid,
    /// What is kept on disk.
    pub logs: Logs,
    /// What is published each second.
    pub telemetry: Telemetry,
    /// Where alerts go.
    pub alerts: alerts::Config,
    /// `gps_tty` and `gps_baud`, where there is a receiver.
    pub gps: Option<gps::Settings>,
    /// `raw_path`, `raw_size_kb`, `raw_mode`, `raw_margin`, where samples are recorded.
    pub raw: Option<crate::raw::Settings>,
}

/// `dev_uuid` and the position.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// `dev_uuid`.
    pub uuid: String,
    /// The router's host name.
    pub host: String,
    /// `dev_lat`, `dev_lon`, `dev_alt`, `dev_acc`.
    pub position: Position,
}

/// A place; unknown where the options are unset.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// Degrees, north positive.
    pub latitude: Option<f64>,
    /// Degrees, east positive.
    pub longitude: Option<f64>,
    /// Metres.
    pub altitude: Option<f64>,
    /// Metres.
    pub accuracy: Option<f64>,
}

/// The declared supply and the limits on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// `nominal_voltage` (V).
    pub nominal_voltage: f64,
    /// `nominal_frequency`.
    pub nominal_frequency: NominalFrequency,
    /// The thresholds, in % of the nominal voltage.
    pub thresholds: Thresholds,
    /// `harmonic_window`.
    pub harmonic_window: Duration,
    /// `harmonic_share` (%).
    pub harmonic_share: f64,
    /// `signalling_frequency` (Hz).
    pub signalling: Option<f64>,
    /// `flicker_lamp`.
    pub lamp: power_quality::Lamp,
    /// `network_type`.
    pub network: power_quality::NetworkType,
    /// `event_time_share` (%).
    pub event_time_share: f64,
}

/// The logs of PowQuty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// `powquty_path`.
    pub measurement_path: PathBuf,
    /// `max_log_size_kb`, in bytes, together with the rotated half.
    pub measurement_limit: u64,
    /// `powquty_event_path`.
    pub event_path: PathBuf,
    /// `max_event_log_size_kb`, in bytes, together with the rotated half.
    pub event_limit: u64,
    /// `csv_header`.
    pub header: bool,
    /// `record_path`.
    pub record_path: PathBuf,
    /// `record_size_kb`, in bytes, together with the rotated half.
    pub record_limit: u64,
    /// `waveform_count`: events whose waveform is kept.
    pub waveform_count: usize,
}

/// PowQuty's JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `mqtt_topic`, where `mqtt_host` is set and `mqtt_notification` not off.
    pub topic: Option<String>,
    /// `mqtt_interval`.
    pub interval: Duration,
    /// `mqtt_retain`.
    pub retain: bool,
    /// `mqtt_homeassistant`.
    pub homeassistant: bool,
    /// `powqutyd_print`: to standard output as well.
    pub print: bool,
    /// Optional parts.
    pub content: TelemetryContent,
}

/// Optional parts of PowQuty's JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryContent {
    /// `use_metadata` and `meta_*`.
    pub metadata: Option<Metadata>,
    /// `send_t5060_data`.
    pub t5060: bool,
    /// `send_t1012_data`.
    pub t1012: bool,
}

/// `meta_*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `meta_comment`.
    pub comment: String,
    /// `meta_id`.
    pub id: String,
    /// `meta_operator`.
    pub operator: String,
    /// `meta_phase`.
    pub phase: String,
    /// `meta_reason`.
    pub reason: String,
    /// `meta_type`.
    pub kind: String,
}

/// Reads `/etc/config/powquty` (or where `source` points) and names the host.
///
/// # Errors
/// The file cannot be read at all.
pub fn load(source: &uci::Source) -> Reading<Config> {
    load_for(source, None)
}

/// As [`load`], with this recording as the input, whatever is configured.
///
/// # Errors
/// As [`load`].
pub fn load_for(source: &uci::Source, file: Option<&Path>) -> Reading<Config> {
    let package = source.load(PACKAGE)?;
    let mut problems = Problems::new();
    let config = Config::read_for(&package, &host_name(), file, &mut problems);
    Ok((config, problems))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Config {
    /// What the engine is told.
    #[must_use]
    pub fn engine(&self) -> power_quality::Config {
        let Self { grid, input, .. } = self;
        power_quality::Config {
            thresholds: grid.thresholds,
            signalling: grid.signalling,
            lamp: grid.lamp,
            harmonic_window_s: grid.harmonic_window.as_secs_f64(),
            harmonic_share: grid.harmonic_share,
            network: grid.network,
            recording: (self.logs.waveform_count > 0).then(|| recording(input.rate)),
            converter_limits: input.kind.converter_limits(),
            ..power_quality::Config::new(input.rate, grid.nominal_voltage, grid.nominal_frequency)
        }
    }

    /// Reads the section of a package; a wrong value takes its default and leaves a problem.
    pub fn read(package: &Package, host: &str, problems: &mut Problems) -> Self {
        Self::read_for(package, host, None, problems)
    }

    fn read_for(package: &Package, host: &str, file: Option<&Path>, problems: &mut Problems) -> Self {
        let section = problems.require(package, PACKAGE, PACKAGE);
        let mut reader = Reader::new(PACKAGE, section, problems);
        let grid = Grid::read(&mut reader);
        let alerts = alerts::Config::read(&mut reader);
        let config = Self {
            enabled: reader.flag("enabled", true),
            device: Device::read(&mut reader, host),
            input: input::read(&mut reader, &grid, file),
            logs: Logs::read(&mut reader),
            telemetry: Telemetry::read(&mut reader, &alerts.mqtt),
            alerts,
            gps: gps(&mut reader),
            raw: raw::read(&mut reader),
            grid,
        };
        reader.finish();
        config
    }
}

/// A second around the start of an event; at high rates as much of it as fits into a waveform.
fn recording(rate: f64) -> Recording {
    let seconds = (MOST_SAMPLES as f64 / rate).min(1.0);
    Recording { before_s: 0.2 * seconds, after_s: 0.8 * seconds }
}

fn gps(reader: &mut Reader) -> Option<gps::Settings> {
    let speeds = [
        ("4800", 4800),
        ("9600", 9600),
        ("19200", 19_200),
        ("38400", 38_400),
        ("57600", 57_600),
        ("115200", 115_200),
    ];
    let baud = reader.choice("gps_baud", &speeds, 9600);
    reader.optional_path("gps_tty").map(|tty| gps::Settings { tty, baud })
}

impl Device {
    fn read(reader: &mut Reader, host: &str) -> Self {
        Self {
            uuid: reader.text("dev_uuid", "BERTUB001"),
            host: host.to_owned(),
            position: Position {
                latitude: reader.optional_number("dev_lat", -90.0..=90.0),
                longitude: reader.optional_number("dev_lon", -180.0..=180.0),
                altitude: reader.optional_number("dev_alt", -500.0..=10_000.0),
                accuracy: reader.optional_number("dev_acc", 0.0..=1e6),
            },
        }
    }
}

impl Grid {
    fn read(reader: &mut Reader) -> Self {
        let nominal_voltage = reader.number("nominal_voltage", 1.0..=1e6, 230.0);
        let nominal_frequency = reader.choice(
            "nominal_frequency",
            &[("50", NominalFrequency::Hz50), ("60", NominalFrequency::Hz60)],
            NominalFrequency::Hz50,
        );
        Self {
            nominal_voltage,
            nominal_frequency,
            thresholds: thresholds(reader),
            harmonic_window: reader.duration(
                "harmonic_window",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
                Duration::from_secs(600),
            ),
            harmonic_share: reader.number("harmonic_share", 0.0..=100.0, 5.0),
            signalling: reader.optional_number("signalling_frequency", 100.0..=3000.0),
            lamp: reader
                .optional_choice(
                    "flicker_lamp",
                    &[("120", power_quality::Lamp::V120), ("230", power_quality::Lamp::V230)],
                )
                .unwrap_or(power_quality::Config::new(10_240.0, nominal_voltage, nominal_frequency).lamp),
            network: reader.choice(
                "network_type",
                &[
                    ("interconnected", power_quality::NetworkType::Interconnected),
                    ("island", power_quality::NetworkType::Island),
                ],
                power_quality::NetworkType::Interconnected,
            ),
            event_time_share: reader.number("event_time_share", 0.01..=100.0, 5.0),
        }
    }
}

fn thresholds(reader: &mut Reader) -> Thresholds {
    // PowQuty's threshold of an interruption; the cells of EN 50160 keep their own.
    let default = Thresholds { interruption: 10.0, ..Thresholds::default() };
    let read = Thresholds {
        dip: reader.number("dip_threshold", 1.0..=99.9, default.dip),
        swell: reader.number("swell_threshold", 100.1..=200.0, default.swell),
        interruption: reader.number("interruption_threshold", 0.1..=50.0, default.interruption),
        hysteresis: reader.number("hysteresis", 0.0..=10.0, default.hysteresis),
        rvc: reader.number("rvc_threshold", 0.5..=10.0, default.rvc),
    };
    let before = read;
    let mut refuse = |option: &str, value: f64, reason: String| {
        reader.problem(option, Some(&value.to_string()), reason);
    };
    if before.interruption + before.hysteresis >= before.dip {
        let least = before.interruption + before.hysteresis;
        refuse(
            "dip_threshold",
            before.dip,
            format!("must be above interruption_threshold + hysteresis ({least} %)"),
        );
        return default;
    }
    if before.dip + before.hysteresis >= before.swell - before.hysteresis {
        refuse(
            "hysteresis",
            before.hysteresis,
            format!(
                "a dip would end at {} % and a swell at {} %: no voltage is free of events",
                before.dip + before.hysteresis,
                before.swell - before.hysteresis
            ),
        );
        return default;
    }
    read
}

impl Logs {
    fn read(reader: &mut Reader) -> Self {
        // At most 1 GiB; at least room for a few lines on both sides of the rotation.
        let mut kilobytes =
            |option: &str, default: u32| u64::from(reader.integer(option, 8..=1 << 20, default)) * 1024;
        let measurement_limit = kilobytes("max_log_size_kb", 4096);
        let event_limit = kilobytes("max_event_log_size_kb", 1024);
        // Five undisturbed weeks take about 1 MB, and there are two halves.
        let record_limit = u64::from(reader.integer("record_size_kb", 256..=1_u32 << 16, 3072)) * 1024;
        let logs = Self {
            measurement_path: reader.path("powquty_path", "/tmp/powquty.log"),
            measurement_limit,
            event_path: reader.path("powquty_event_path", "/tmp/powquty_event.log"),
            event_limit,
            header: reader.flag("csv_header", false),
            record_path: reader.path("record_path", "/tmp/powquty.rec"),
            record_limit,
            waveform_count: reader.integer("waveform_count", 0..=1000, 20),
        };
        if logs.measurement_path == logs.event_path {
            reader.problem(
                "powquty_event_path",
                logs.event_path.to_str(),
                "the event log needs a file of its own, this is powquty_path",
            );
            return Self { event_path: crate::storage::sibling(&logs.event_path, "_event"), ..logs };
        }
        logs
    }
}

impl Telemetry {
    fn read(reader: &mut Reader, mqtt: &alerts::Mqtt) -> Self {
        Self {
            topic: mqtt
                .telemetry
                .is_some()
                .then(|| mqtt.topic.clone().unwrap_or_else(|| "devices/update".to_owned())),
            interval: reader.duration(
                "mqtt_interval",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
                Duration::from_secs(1),
            ),
            retain: reader.flag("mqtt_retain", false),
            homeassistant: reader.flag("mqtt_homeassistant", false),
            print: reader.flag("powqutyd_print", false),
            content: TelemetryContent {
                metadata: metadata(reader),
                t5060: reader.flag("send_t5060_data", true),
                t1012: reader.flag("send_t1012_data", false),
            },
        }
    }
}

fn metadata(reader: &mut Reader) -> Option<Metadata> {
    let wanted = reader.flag("use_metadata", false);
    // PowQuty's shipped file misspelt two of its own options.
    let mut either = |option: &str, misspelt: &str| {
        let misspelt = reader.optional_text(misspelt);
        reader.optional_text(option).or(misspelt).unwrap_or_default()
    };
    let phase = either("meta_phase", "meta_pahse");
    let kind = either("meta_type", "meta_typ");
    let metadata = Metadata {
        comment: reader.text("meta_comment", ""),
        id: reader.text("meta_id", ""),
        operator: reader.text("meta_operator", ""),
        phase,
        reason: reader.text("meta_reason", ""),
        kind,
    };
    wanted.then_some(metadata)
}

#[cfg(test)]
mod tests;
