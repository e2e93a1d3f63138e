// SPDX-License-Identifier: Apache-2.0
//! The event CSV in PowQuty's columns: host, device, type, latitude, longitude, time of reporting, start
//! (ms since 1970), length (ms), residual or largest voltage (V) or harmonic order, `-` or share of windows
//! above the limit (%).

use super::{csv_line, rotated};
use crate::clock::Utc;
use crate::config::Device;
use crate::outputs::KINDS;
use crate::record::{EventRecord, Incident};
use crate::records::Outage;
use power_quality::{EventKind, HarmonicDetail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// First line of a file with header.
pub const HEADER: &str = "host,device,type,latitude,longitude,reported,start_ms,length_ms,extreme,share";

/// The line of an event, without line feed; an outage of the monitor is `POWERLOSS` where the router started anew and
/// `OUTAGE` where it did not.
#[must_use]
pub fn line(incident: &Incident, device: &Device, reported: Utc) -> String {
    let (length_s, extreme, share) = match incident {
        Incident::Event(EventRecord { harmonic: Some(harmonic), duration_s, .. }) => {
            (duration_s, harmonic.order.to_string(), format!("{:.2}", harmonic.share_percent))
        }
        Incident::Event(event) => {
            let extreme =
                event.extreme_voltage.map_or_else(|| "nan".to_owned(), |volts| format!("{volts:.6}"));
            (&event.duration_s, extreme, "-".to_owned())
        }
        Incident::Outage(_, outage) => (&outage.duration_s, "nan".to_owned(), "-".to_owned()),
    };
    let degrees = |angle: Option<f64>| angle.map(|angle| angle.to_string()).unwrap_or_default();
    csv_line(&[
        device.host.clone(),
        device.uuid.clone(),
        name(incident.kind()).to_owned(),
        degrees(device.position.latitude),
        degrees(device.position.longitude),
        reported.decimal(),
        incident.start().millis().to_string(),
        ((length_s * 1000.0).round() as i64).to_string(),
        extreme,
        share,
    ])
}

/// The newest `most` events of a log and its rotated half, oldest first, reading at most 64 KiB of each.
/// Lines that are no events (a header, a torn line) are passed over.
#[must_use]
pub fn read_back(path: &Path, nominal_voltage: f64, most: usize) -> VecDeque<Incident> {
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

fn parse(record: &csv::StringRecord, nominal_voltage: f64) -> Option<Incident> {
    if record.len() != 10 {
        return None;
    }
    let word = record.get(2)?;
    let (kind, _) = NAMES.into_iter().find(|&(_, name)| name == word)?;
    let start = Utc::from_millis(record.get(6)?.parse().ok()?);
    let length: i64 = record.get(7)?.parse().ok().filter(|&length| length >= 0)?;
    let duration_s = length as f64 / 1000.0;
    if Outage::KINDS.contains(&kind) {
        let power_loss = kind == Outage::KINDS[0];
        return Some(Incident::Outage(start, Outage { duration_s, power_loss }));
    }
    let kind = KINDS.into_iter().find(|known| known.name() == kind)?;
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
    Some(Incident::Event(EventRecord {
        kind,
        start,
        duration_s,
        open: false,
        extreme_voltage: extreme,
        extreme_percent: extreme.map(|extreme| extreme / nominal_voltage * 100.0),
        class: None,
        harmonic,
    }))
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

/// Kinds and PowQuty's words for them.
const NAMES: [(&str, &str); 6] = [
    ("dip", "DIP"),
    ("swell", "SWELL"),
    ("interruption", "INTERRUPT"),
    ("harmonic", "HARMONIC"),
    (Outage::KINDS[0], "POWERLOSS"),
    (Outage::KINDS[1], "OUTAGE"),
];

fn name(kind: &str) -> &'static str {
    NAMES.into_iter().find(|&(known, _)| known == kind).map_or("UNKNOWN", |(_, name)| name)
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
            line(&Incident::Event(dip()), &device(), reported),
            "vm,my_WeSense,DIP,52.520008,13.404954,1795170326.396000000,1795170325717,81,114.072472,-"
        );
        let detail =
            HarmonicDetail { order: 5, limit_percent: 6.0, value_percent: 8.0, share_percent: 100.0 };
        let harmonic = EventRecord { kind: EventKind::Harmonic, harmonic: Some(detail), ..dip() };
        assert!(line(&Incident::Event(harmonic), &device(), reported).ends_with(",1795170325717,81,5,100.00"));
        let odd = Device { host: "a,\"b\"".to_owned(), ..device() };
        assert!(line(&Incident::Event(dip()), &odd, reported).starts_with("\"a,\"\"b\"\"\",my_WeSense,DIP,"));
    }

    #[test]
    fn events_come_back_from_both_halves_and_broken_lines_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let at = |offset: i64| {
            let event = EventRecord { start: Utc::from_millis(1_795_170_325_717 + offset), ..dip() };
            let start = event.start;
            line(&Incident::Event(event), &device(), start) + "\n"
        };
        std::fs::write(rotated(&path), at(0) + &at(1)).unwrap();
        let outage = Incident::Outage(dip().start, Outage { duration_s: 2400.0, power_loss: true });
        let outage_line = line(&outage, &device(), dip().start);
        assert!(outage_line.ends_with(",1795170325717,2400000,nan,-"), "{outage_line}");
        let broken = "vm,my_WeSense,DIP,5\n\u{0}";
        std::fs::write(&path, format!("{HEADER}\n{}{broken}\n{}{outage_line}\n", at(2), at(3))).unwrap();
        let events = read_back(&path, 230.0, 4);
        let starts: Vec<i64> =
            events.iter().map(|event| event.start().millis() - 1_795_170_325_717).collect();
        assert_eq!(starts, [1, 2, 3, 0]);
        assert_eq!(events[3], outage);
        let first = events[0].to_json();
        assert_eq!((&first["id"], &first["duration"]), (&"1795170325718-dip".into(), &0.081.into()));
        assert!(read_back(&dir.path().join("absent"), 230.0, 3).is_empty());
    }
}
