// SPDX-License-Identifier: Apache-2.0
//! An event in words: which alert, if any, it is.

use crate::clock::Utc;
use crate::config::{Device, Position};
use crate::record::EventRecord;
use crate::records::Outage;
use alerts::{Alert, Severity, Worst};
use power_quality::EventKind;

/// Decides what is worth an alert: each trouble once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judge {
    /// Start and end of the last interruption, in milliseconds since 1970.
    interruption: Option<(i64, i64)>,
}

impl Judge {
    /// Whether a finished event stands for itself. An interruption is also a dip by IEC 61000-4-30; that dip, which
    /// ends after it, does not count again.
    pub fn stands_alone(&mut self, event: &EventRecord) -> bool {
        let start = event.start.millis();
        let end = start + (event.duration_s * 1000.0) as i64;
        match event.kind {
            EventKind::Interruption => {
                self.interruption = Some((start, end));
                true
            }
            EventKind::Dip => {
                !self.interruption.is_some_and(|(from, to)| (start..=end).contains(&from) && to <= end)
            }
            EventKind::Swell | EventKind::Harmonic => true,
        }
    }
}

/// The alert of a finished event.
#[must_use]
pub fn alert(event: &EventRecord, device: &Device) -> Alert {
    let severity = match event.kind {
        EventKind::Interruption => Severity::Critical,
        EventKind::Dip | EventKind::Swell | EventKind::Harmonic => Severity::Warning,
    };
    let mut alert = Alert::new(event.kind.name(), severity, subject(event), event.start.calendar())
        .fact("event", event.id())
        .fact("start", event.start.rfc3339())
        .fact("duration", length(event.duration_s));
    if let (Some(volts), Some(percent)) = (event.extreme_voltage, event.extreme_percent) {
        let (key, worst) = match event.kind {
            EventKind::Swell => ("highest_voltage", Worst::Highest),
            _ => ("residual_voltage", Worst::Lowest),
        };
        alert = alert.fact(key, format!("{volts:.1} V ({percent:.1} %)")).measure(percent, "%", worst);
    }
    if let Some(cell) = event.class {
        alert = alert.fact("en50160_cell", cell.to_string());
    }
    if let Some(harmonic) = event.harmonic {
        alert = alert
            .fact("order", harmonic.order.to_string())
            .fact("highest", format!("{:.2} % of the fundamental", harmonic.value_percent))
            .fact("limit", format!("{} %", harmonic.limit_percent))
            .fact("share_above_limit", format!("{:.1} %", harmonic.share_percent))
            .measure(harmonic.value_percent, "%", Worst::Highest);
    }
    alert = alert.fact("host", &device.host).fact("device", &device.uuid);
    if let Position { latitude: Some(latitude), longitude: Some(longitude), .. } = device.position {
        alert = alert.fact("position", format!("{latitude}, {longitude}"));
    }
    alert
}

/// One line for a person, for instance `Dip to 115.0 V (50.0 %) for 100 ms`.
#[must_use]
pub fn subject(event: &EventRecord) -> String {
    let length = length(event.duration_s);
    let level = match (event.extreme_voltage, event.extreme_percent) {
        (Some(volts), Some(percent)) => format!("{volts:.1} V ({percent:.1} %)"),
        _ => "an unknown voltage".to_owned(),
    };
    match (event.kind, event.harmonic) {
        (EventKind::Dip, _) => format!("Dip to {level} for {length}"),
        (EventKind::Swell, _) => format!("Swell to {level} for {length}"),
        (EventKind::Interruption, _) => format!("Interruption for {length}, down to {level}"),
        (EventKind::Harmonic, Some(it)) => format!(
            "Harmonic {} up to {:.1} %, limit {} %, for {length}",
            it.order, it.value_percent, it.limit_percent
        ),
        (EventKind::Harmonic, None) => format!("A harmonic above its limit for {length}"),
    }
}

/// The alert of an outage of the monitor.
#[must_use]
pub fn outage_alert(start: Utc, outage: &Outage, device: &Device) -> Alert {
    let end = start.plus_seconds(outage.duration_s);
    let alert = Alert::new(outage_kind(outage), Severity::Critical, outage_subject(outage), end.calendar())
        .fact("last_record", start.rfc3339())
        .fact("first_sample", end.rfc3339())
        .fact("duration", format!("at most {}", length(outage.duration_s)))
        .measure(outage.duration_s, "s", Worst::Highest)
        .fact("host", &device.host)
        .fact("device", &device.uuid);
    match device.position {
        Position { latitude: Some(latitude), longitude: Some(longitude), .. } => {
            alert.fact("position", format!("{latitude}, {longitude}"))
        }
        _ => alert,
    }
}

/// The object of `powquty.event` for an outage of the monitor.
#[must_use]
pub fn outage_json(start: Utc, outage: &Outage) -> serde_json::Value {
    let kind = outage_kind(outage);
    serde_json::json!({
        "id": format!("{}-{kind}", start.millis()),
        "kind": kind,
        "start": start.rfc3339(),
        "end": start.plus_seconds(outage.duration_s).rfc3339(),
        "duration": outage.duration_s,
        "open": false,
    })
}

/// One line for a person.
#[must_use]
pub fn outage_subject(outage: &Outage) -> String {
    let length = length(outage.duration_s);
    match outage.power_loss {
        true => format!("Power loss: the router was off for at most {length}"),
        false => format!("Nothing was measured for at most {length}: the daemon was ended by force"),
    }
}

fn outage_kind(outage: &Outage) -> &'static str {
    if outage.power_loss {
        "power_loss"
    } else {
        "outage"
    }
}

/// A length of time as people write it: `100 ms`, `2.35 s`, `3 min 20 s`, `2 h 05 min`.
#[must_use]
pub fn length(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 59.995 => format!("{s:.2} s"),
        s if s < 3599.5 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, start: i64, millis: u32) -> EventRecord {
        EventRecord {
            kind,
            start: Utc::from_millis(1_800_000_000_000 + start),
            duration_s: f64::from(millis) / 1000.0,
            open: false,
            extreme_voltage: Some(115.0),
            extreme_percent: Some(50.0),
            class: None,
            harmonic: None,
        }
    }

    #[test]
    fn an_interruption_counts_once() {
        let mut judge = Judge::default();
        assert!(judge.stands_alone(&event(EventKind::Dip, 0, 100)));
        assert!(judge.stands_alone(&event(EventKind::Interruption, 1010, 480)));
        assert!(!judge.stands_alone(&event(EventKind::Dip, 1000, 500)), "the dip around the interruption");
        assert!(judge.stands_alone(&event(EventKind::Dip, 2000, 500)), "the next dip");
        assert!(judge.stands_alone(&event(EventKind::Swell, 1000, 500)));
    }

    #[test]
    fn words() {
        assert_eq!(subject(&event(EventKind::Dip, 0, 100)), "Dip to 115.0 V (50.0 %) for 100 ms");
        assert_eq!(length(0.9999), "1.00 s");
        assert_eq!(length(200.0), "3 min 20 s");
        assert_eq!(length(7500.0), "2 h 05 min");
    }
}
