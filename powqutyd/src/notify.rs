// SPDX-License-Identifier: Apache-2.0
//! An event in words: which alert, if any, it is.

use crate::clock::Utc;
use crate::config::{Device, Position};
use crate::lights::{self, LightRow};
use crate::record::EventRecord;
use crate::records::Outage;
use alerts::{Alert, Severity, Worst};
use openwrt::timezone::Zone;
use power_quality::EventKind;
use std::fmt::Write as _;

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
        let end = start.saturating_add((event.duration_s * 1000.0) as i64);
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

/// Where and in which words an alert is told.
#[derive(Debug, Clone, Copy)]
pub struct Teller<'a> {
    /// Who measures.
    pub device: &'a Device,
    /// The router's time zone.
    pub zone: &'a Zone,
}

impl Teller<'_> {
    /// The alert of a finished event; `light`: that of its characteristic, this event counted.
    #[must_use]
    pub fn event(&self, event: &EventRecord, light: Option<&LightRow>) -> Alert {
        let severity = match event.kind {
            EventKind::Interruption => Severity::Critical,
            EventKind::Dip | EventKind::Swell | EventKind::Harmonic => Severity::Warning,
        };
        let mut alert = Alert::new(event.kind.name(), severity, subject(event), event.start.calendar())
            .fact("event", event.id())
            .fact("start", event.start.rfc3339())
            .fact("local_start", self.local(event.start))
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
            let above = harmonic.value_percent - harmonic.limit_percent;
            alert = alert
                .fact("order", harmonic.order.to_string())
                .fact("highest", format!("{:.2} % of the fundamental", harmonic.value_percent))
                .fact("limit", format!("{} %", harmonic.limit_percent))
                .fact("above_limit_by", format!("{above:.2} % of the fundamental"))
                .fact("share_above_limit", format!("{:.1} % of the time", harmonic.share_percent))
                .measure(harmonic.value_percent, "%", Worst::Highest);
        }
        if let Some(row) = light {
            alert = alert.fact("en50160_light", light_fact(row));
        }
        self.place(alert)
    }

    /// The alert of an outage of the monitor that began at `start`.
    #[must_use]
    pub fn outage(&self, start: Utc, outage: &Outage) -> Alert {
        let end = start.plus_seconds(outage.duration_s);
        let alert = Alert::new(outage.kind(), Severity::Critical, outage_subject(outage), end.calendar())
            .fact("last_record", start.rfc3339())
            .fact("first_sample", end.rfc3339())
            .fact("local_start", self.local(start))
            .fact("duration", format!("at most {}", length(outage.duration_s)))
            .measure(outage.duration_s, "s", Worst::Highest);
        self.place(alert)
    }

    fn place(&self, alert: Alert) -> Alert {
        let alert = alert.fact("host", &self.device.host).fact("device", &self.device.uuid);
        match self.device.position {
            Position { latitude: Some(latitude), longitude: Some(longitude), .. } => {
                alert.fact("position", format!("{latitude}, {longitude}"))
            }
            _ => alert,
        }
    }

    fn local(&self, at: Utc) -> String {
        let at = at.calendar();
        alerts::local_time(at, self.zone.offset_s(at.unix_timestamp()))
    }
}

/// `dip: green, 3 events in seven days, 0.2 % of the allowance used`
fn light_fact(row: &LightRow) -> String {
    let mut fact = format!("{}: {}", row.characteristic, lights::word(row.light));
    // Writing to a String has no way to fail.
    if let Some(count) = row.count {
        let _ = write!(fact, ", {count} {} in seven days", if count == 1 { "event" } else { "events" });
    }
    let _ = write!(fact, ", {:.1} % of the allowance used", row.share);
    fact
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

/// One line for a person.
#[must_use]
pub fn outage_subject(outage: &Outage) -> String {
    let length = length(outage.duration_s);
    match outage.power_loss {
        true => format!("Power loss: the router was off for at most {length}"),
        false => format!("Nothing was measured for at most {length}: the daemon was ended by force"),
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
    fn an_alert_says_when_where_and_what_it_means() {
        let position = Position { latitude: Some(52.52), longitude: Some(13.4), ..Position::default() };
        let device = Device { uuid: "my_WeSense".to_owned(), host: "router".to_owned(), position };
        let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let teller = Teller { device: &device, zone: &zone };
        let mut collector = crate::records::collect::Collector::new(
            &power_quality::Config::new(10_240.0, 230.0, power_quality::NominalFrequency::Hz50),
            5.0,
        );
        let dip = event(EventKind::Dip, 0, 100);
        let _record = collector.event(dip.clone());
        let row = collector.row(dip.characteristic()).map(|row| LightRow::new(&row, collector.last()));
        let facts = |alert: &Alert| -> Vec<String> {
            alert.facts.iter().map(|fact| format!("{}: {}", fact.key, fact.value)).collect()
        };
        assert_eq!(
            facts(&teller.event(&dip, row.as_ref())),
            [
                "event: 1800000000000-dip",
                "start: 2027-01-15T08:00:00.000Z",
                "local_start: 2027-01-15 09:00:00 +01:00",
                "duration: 100 ms",
                "residual_voltage: 115.0 V (50.0 %)",
                "en50160_light: dip: grey, 1 event in seven days, 0.0 % of the allowance used",
                "host: router",
                "device: my_WeSense",
                "position: 52.52, 13.4",
            ]
        );
        let detail = power_quality::HarmonicDetail {
            order: 5,
            limit_percent: 6.0,
            value_percent: 8.25,
            share_percent: 40.0,
        };
        let harmonic = EventRecord {
            harmonic: Some(detail),
            extreme_voltage: None,
            ..event(EventKind::Harmonic, 0, 600_000)
        };
        let told = facts(&teller.event(&harmonic, None));
        assert!(told.contains(&"order: 5".to_owned()), "{told:?}");
        assert!(told.contains(&"above_limit_by: 2.25 % of the fundamental".to_owned()), "{told:?}");
    }

    #[test]
    fn words() {
        assert_eq!(subject(&event(EventKind::Dip, 0, 100)), "Dip to 115.0 V (50.0 %) for 100 ms");
        assert_eq!(length(0.9999), "1.00 s");
        assert_eq!(length(200.0), "3 min 20 s");
        assert_eq!(length(7500.0), "2 h 05 min");
    }
}
