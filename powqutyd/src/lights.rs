// SPDX-License-Identifier: Apache-2.0
//! The traffic light of each EN 50160 characteristic, as `status`, subscribers and metrics show it.

use crate::record::rounded;
use crate::records::collect::Last;
use power_quality::compliance::{Characteristic, Light, Row, Verdict};
use serde::Serialize;

/// One characteristic over the last seven days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LightRow {
    /// What is judged.
    pub characteristic: Characteristic,
    /// Traffic light.
    pub light: Light,
    /// Share of the allowance that is used, in %: of the intervals that may lie beyond the limit, or of the time
    /// that events may fill.
    pub share: f64,
    /// Last value in the unit of `limit`; of an event its extreme in % of the nominal voltage.
    pub value: Option<f64>,
    /// Limit in % (flicker: 1), where there is one.
    pub limit: Option<f64>,
    /// What 95 % (frequency: 99.5 %) of the values do not exceed.
    pub percentile: Option<f64>,
    /// Valid intervals.
    pub n: u32,
    /// Those beyond the limit.
    pub n1: u32,
    /// Those beyond the limit that always holds.
    pub n2: u32,
    /// Flagged, incomplete and missing intervals.
    pub invalid: u32,
    /// Number of events.
    pub count: Option<u32>,
    /// Seconds of all events together.
    pub event_time: Option<f64>,
}

impl LightRow {
    /// A row of the verdict and the last value of its characteristic.
    #[must_use]
    pub fn new(row: &Row, last: &Last) -> Self {
        let decimals = |value: f64| rounded(value, 1e4);
        let used = if row.allowance > 0.0 { 100.0 * row.share / row.allowance } else { 0.0 };
        Self {
            characteristic: row.characteristic,
            light: row.light,
            share: decimals(used),
            value: last.of(row.characteristic).map(decimals),
            limit: row.limit,
            percentile: row.value.map(decimals),
            n: row.n,
            n1: row.n1,
            n2: row.n2,
            invalid: row.invalid,
            count: row.count,
            event_time: row.event_time.map(|seconds| rounded(seconds, 1e3)),
        }
    }
}

/// The rows of a verdict.
#[must_use]
pub fn rows(verdict: &Verdict, last: &Last) -> Vec<LightRow> {
    verdict.characteristics.iter().map(|row| LightRow::new(row, last)).collect()
}

/// Rows whose light is not the one before.
pub fn changes<'a>(before: &'a [LightRow], after: &'a [LightRow]) -> impl Iterator<Item = &'a LightRow> {
    after.iter().filter(|row| {
        let known = before.iter().find(|old| old.characteristic == row.characteristic);
        known.is_some_and(|old| old.light != row.light)
    })
}

/// The worst of some lights; grey says less than green, and loses against everything.
#[must_use]
pub fn worst(lights: impl Iterator<Item = Light>) -> Light {
    let rank = |light: &Light| match light {
        Light::Grey => 0,
        Light::Green => 1,
        Light::Yellow => 2,
        Light::Red => 3,
    };
    lights.max_by_key(rank).unwrap_or_default()
}

/// The word on the wire.
#[must_use]
pub fn word(light: Light) -> &'static str {
    match light {
        Light::Green => "green",
        Light::Yellow => "yellow",
        Light::Red => "red",
        Light::Grey => "grey",
    }
}

/// The number in the metrics.
#[must_use]
pub fn number(light: Light) -> u8 {
    match light {
        Light::Green => 0,
        Light::Yellow => 1,
        Light::Red => 2,
        Light::Grey => 3,
    }
}

/// The characteristic in words for people.
#[must_use]
pub fn title(characteristic: Characteristic) -> String {
    match characteristic {
        Characteristic::Frequency => "Frequency".to_owned(),
        Characteristic::Voltage => "Voltage".to_owned(),
        Characteristic::Flicker => "Flicker".to_owned(),
        Characteristic::Thd => "THD".to_owned(),
        Characteristic::Harmonic(order) => format!("Harmonic {order}"),
        Characteristic::Signalling => "Mains signalling".to_owned(),
        Characteristic::Dip => "Dips".to_owned(),
        Characteristic::Swell => "Swells".to_owned(),
        Characteristic::Interruption => "Interruptions".to_owned(),
        Characteristic::Rvc => "Rapid changes".to_owned(),
    }
}
