// SPDX-License-Identifier: Apache-2.0
//! The event CSV in PowQuty's columns: host, device, type, latitude, longitude, time of reporting, start
//! (ms since 1970), length (ms), residual or largest voltage (V) or harmonic order, `-` or share of windows
//! above the limit (%).

use super::rotated;
use crate::clock::Utc;
use crate::config::Device;
use crate::record::EventRecord;
use crate::records::Outage;
use power_quality::{EventKind, HarmonicDetail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// First line of a file with header.
pub const HEADER: &str = "host,device,type,latitude,longitude,reported,start_ms,length_ms,extreme,share";

/// The line of an event, without line feed.
#[must_use]
pub fn line(event: &EventRecord, device: &Device, reported: Utc) -> String {
    let (extreme, share) = match event.harmonic {
        Some(harmonic) => (harmonic.order.to_string(), format!("{:.2}", harmonic.share_percent)),
        None => (
            event.extreme_voltage.map_or_else(|| "nan".to_owned(), |volts| format!("{volts:.6}")),
            "-".to_owned(),
        ),
    };
    let degrees = |angle: Option<f64>| angle.map(|angle| angle.to_string()).unwrap_or_default();
    let fields = [
        device.host.clone(),
        device.uuid.clone(),
        name(event.kind).to_owned(),
        degrees(device.position.latitude),
        degrees(device.position.longitude),
        reported.decimal(),
        event.start.millis().to_string(),
        ((event.duration_s * 1000.0).round() as i64).to_string(),
        extreme,
        share,
    ];
    joined(&fields)
}

/// The line of an outage of the monitor, `POWERLOSS` where the router started anew and `OUTAGE` where it did not.
#[must_use]
pub fn outage_line(start: Utc, outage: &Outage, device: &Device, reported: Utc) -> String {
    let degrees = |angle: Option<f64>| angle.map(|angle| angle.to_string()).unwrap_or_default();
    joined(&[
        device.host.clone(),
        device.uuid.clone(),
        if outage.power_loss { "POWERLOSS" } else { "OUTAGE" }.to_owned(),
        degrees(device.position.latitude),
        degrees(device.position.longitude),
        reported.decimal(),
        start.millis().to_string(),
        ((outage.duration_s * 1000.0).round() as i64).to_string(),
        "nan".to_owned(),
        "-".to_owned(),
    ])
}

/// The newest `most` events of a log and its rotated half, oldest first, reading at most 64 KiB of each.
/// Lines that are no events (a header, a torn line) are passed over.
#[must_use]
pub fn read_back(path: &Path, nominal_voltage: f64, most: usize) -> VecDeque<EventRecord> {
    let mut events = VecDeque::with_capacity(most);
    for file in [rotated(path), path.to_owned()] {
        let Ok(text) = tail(&file, 64 * 1024) else { continue };
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_slice());
        for record in reader.records().flatten() {
            let Some(event) = parse(&record, nominal_voltage) else { continue };
            if events.len() == most {
                events.pop_front();
            }
            events.push_back(event);
        }
    }
    events
}

fn parse(record: &csv::StringRecord, nominal_voltage: f64) -> Option<EventRecord> {
    if record.len() != 10 {
        return None;
    }
    let kind = kind_of(record.get(2)?)?;
    let start = Utc::from_millis(record.get(6)?.parse().ok()?);
    let length: i64 = record.get(7)?.parse().ok().filter(|&length| length >= 0)?;
    let extreme: f64 = record.get(8)?.parse().ok()?;
    let harmonic = match kind {
        EventKind::Harmonic => Some(HarmonicDetail {
            order: record.get(8)?.parse().ok()?,
            limit_percent: f64::NAN,
            value_percent: f64::NAN,
            share_percent: record.get(9)?.parse().ok()?,
        }),
        _ => None,
    };
    let extreme = harmonic.is_none().then_some(extreme).filter(|extreme| extreme.is_finite());
    Some(EventRecord {
        kind,
        start,
        duration_s: length as f64 / 1000.0,
        open: false,
        extreme_voltage: extreme,
        extreme_percent: extreme.map(|extreme| extreme / nominal_voltage * 100.0),
        class: None,
        harmonic,
    })
}

fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    let from = size.saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    if from > 0 {
        // The first line is cut.
        let end = text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1);
        text.drain(..end);
    }
    Ok(text)
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Dip => "DIP",
        EventKind::Swell => "SWELL",
        EventKind::Interruption => "INTERRUPT",
        EventKind::Harmonic => "HARMONIC",
    }
}

fn kind_of(name: &str) -> Option<EventKind> {
    [EventKind::Dip, EventKind::Swell, EventKind::Interruption, EventKind::Harmonic]
        .into_iter()
        .find(|&kind| self::name(kind) == name)
}

/// Fields as one CSV line; those with commas, quotes or line feeds are quoted.
fn joined(fields: &[String]) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing to memory has no way to fail.
    let line = writer.write_record(fields).ok().and_then(|()| writer.into_inner().ok()).unwrap_or_default();
    String::from_utf8(line).unwrap_or_default().trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Position;

    fn device() -> Device {
        let position = Position {
            latitude: Some(52.520008),
            longitude: Some(13.404954),
            altitude: None,
            accuracy: None,
        };
        Device { uuid: "my_WeSense".to_owned(), host: "vm".to_owned(), position }
    }

    fn dip() -> EventRecord {
        EventRecord {
            kind: EventKind::Dip,
            start: Utc::from_millis(1_795_170_325_717),
            duration_s: 0.081,
            open: false,
            extreme_voltage: Some(114.072_472),
            extreme_percent: Some(114.072_472 / 2.3),
            class: None,
            harmonic: None,
        }
    }

    #[test]
    fn columns_are_powqutys() {
        let reported = Utc::from_millis(1_795_170_326_396);
        assert_eq!(
            line(&dip(), &device(), reported),
            "vm,my_WeSense,DIP,52.520008,13.404954,1795170326.396000000,1795170325717,81,114.072472,-"
        );
        let detail =
            HarmonicDetail { order: 5, limit_percent: 6.0, value_percent: 8.0, share_percent: 100.0 };
        let harmonic = EventRecord { kind: EventKind::Harmonic, harmonic: Some(detail), ..dip() };
        assert!(line(&harmonic, &device(), reported).ends_with(",1795170325717,81,5,100.00"));
        let odd = Device { host: "a,\"b\"".to_owned(), ..device() };
        assert!(line(&dip(), &odd, reported).starts_with("\"a,\"\"b\"\"\",my_WeSense,DIP,"));
    }

    #[test]
    fn events_come_back_from_both_halves_and_broken_lines_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let at = |offset: i64| {
            let event = EventRecord { start: Utc::from_millis(1_795_170_325_717 + offset), ..dip() };
            line(&event, &device(), event.start) + "\n"
        };
        std::fs::write(rotated(&path), at(0) + &at(1)).unwrap();
        std::fs::write(&path, format!("{HEADER}\n{}vm,my_WeSense,DIP,5\n\u{0}\n{}", at(2), at(3))).unwrap();
        let events = read_back(&path, 230.0, 3);
        let starts: Vec<i64> = events.iter().map(|event| event.start.millis() - 1_795_170_325_717).collect();
        assert_eq!(starts, [1, 2, 3]);
        assert_eq!(events[0].duration_s, 0.081);
        assert_eq!(events[0].id(), "1795170325718-dip");
        assert!(read_back(&dir.path().join("absent"), 230.0, 3).is_empty());
    }
}
