// SPDX-License-Identifier: Apache-2.0
//! PowQuty's JSON object, now always valid JSON: what is unknown is `null`, strings are escaped.

use crate::clock::Utc;
use crate::config::{Device, Metadata, TelemetryContent};
use crate::second::{Second, LOGGED_ORDERS};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Numbers messages from 1 to 2 147 483 647 and then from 1 again, as PowQuty did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackageCounter(u32);

impl PackageCounter {
    /// The number of the next message.
    pub fn advance(&mut self) -> u32 {
        self.0 = if self.0 >= i32::MAX as u32 { 1 } else { self.0 + 1 };
        self.0
    }
}

/// One message; fields and their order are PowQuty's.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Who and where.
    pub device: &'a Device,
    /// Which optional objects go along.
    pub content: &'a TelemetryContent,
    /// Running number.
    pub package: u32,
    /// The values.
    pub second: &'a Second,
    /// End of the second.
    pub utc: Utc,
}

impl Message<'_> {
    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising numbers and strings into a String has no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let position = &self.device.position;
        map.serialize_entry("acc", &position.accuracy)?;
        map.serialize_entry("alt", &position.altitude)?;
        map.serialize_entry("id", &self.device.uuid)?;
        map.serialize_entry("lat", &position.latitude)?;
        map.serialize_entry("lng", &position.longitude)?;
        if let Some(Metadata { comment, id, operator, phase, reason, kind }) = &self.content.metadata {
            let fields = [
                ("comment", comment),
                ("id", id),
                ("operator", operator),
                ("phase", phase),
                ("reason", reason),
                ("type", kind),
            ];
            map.serialize_entry("metadata", &Fields(&fields))?;
        }
        map.serialize_entry("pkg", &self.package)?;
        let second = self.second;
        if self.content.t5060 {
            let mut fields = [("", None); 2 + LOGGED_ORDERS.len()];
            fields[0] = ("f", rounded(second.frequency));
            fields[1] = ("u", rounded(Some(second.voltage)));
            let names = ["h3", "h5", "h7", "h9", "h11", "h13", "h15"];
            for (field, (name, value)) in fields[2..].iter_mut().zip(names.into_iter().zip(second.harmonics))
            {
                *field = (name, rounded(value));
            }
            map.serialize_entry("t5060", &Fields(&fields))?;
        }
        if self.content.t1012 {
            let (voltage, frequency) = second.last;
            let fields = [("f", rounded(frequency)), ("u", rounded(Some(voltage)))];
            map.serialize_entry("t1012", &Fields(&fields))?;
        }
        map.serialize_entry("utc", &self.utc.spaced())?;
        map.end()
    }
}

/// Six decimals, as PowQuty printed them; `None` for anything that is no number.
fn rounded(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite()).map(|value| (value * 1e6).round() / 1e6)
}

struct Fields<'a, T>(&'a [(&'a str, T)]);

impl<T: Serialize> Serialize for Fields<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
