// SPDX-License-Identifier: Apache-2.0
//! Numbers of a summary in words, the same in every rendering.

use crate::notify::length;
use crate::summary::week::short;
use crate::summary::{Line, Summary, Worst};
use power_quality::compliance::{Characteristic, Row};

/// What 95 % (frequency: 99.5 %) of the values do not exceed, or how often and how long.
pub(super) fn measured(line: &Row, summary: &Summary) -> String {
    if let Some(count) = line.count {
        let time = line.event_time.filter(|&seconds| seconds > 0.0);
        return match time {
            Some(seconds) => format!("{count}, {} in total", length(seconds)),
            None => count.to_string(),
        };
    }
    let Some(value) = line.value else { return "not measured".to_owned() };
    match line.characteristic {
        Characteristic::Frequency => {
            format!("±{:.3} Hz", value / 100.0 * f64::from(summary.header.nominal_frequency))
        }
        Characteristic::Voltage => format!("±{value:.2} %"),
        Characteristic::Flicker => format!("Plt {value:.2}"),
        _ => format!("{value:.2} %"),
    }
}

/// The limit, or the share of the week that events may fill.
pub(super) fn limit(line: &Line, summary: &Summary) -> String {
    let Some(limit) = line.limit else {
        return match line.characteristic {
            Characteristic::Rvc => "none".to_owned(),
            _ => format!("{} % of the week", line.allowance),
        };
    };
    match line.characteristic {
        Characteristic::Frequency => {
            format!("±{} Hz", limit / 100.0 * f64::from(summary.header.nominal_frequency))
        }
        Characteristic::Voltage => format!("±{limit} %"),
        _ if line.characteristic == Characteristic::Flicker => limit.to_string(),
        _ => format!("{} %", (limit * 100.0).round() / 100.0),
    }
}

/// The worst value, without its time.
pub(super) fn extreme(line: &Line, worst: Worst, summary: &Summary) -> String {
    let value = worst.value;
    match line.characteristic {
        Characteristic::Frequency => {
            format!("{:.3} Hz", f64::from(summary.header.nominal_frequency) * (1.0 + value / 100.0))
        }
        Characteristic::Voltage => format!("{:.1} V", summary.header.nominal_voltage * (1.0 + value / 100.0)),
        Characteristic::Flicker => format!("{value:.2}"),
        Characteristic::Dip | Characteristic::Swell => {
            format!("{:.1} V ({value:.1} %)", summary.header.nominal_voltage * value / 100.0)
        }
        Characteristic::Interruption => length(value),
        _ => format!("{value:.2} %"),
    }
}

/// The worst value and its time.
pub(super) fn worst(line: &Line, summary: &Summary) -> String {
    match line.worst {
        Some(worst) => {
            format!("{}, {}", extreme(line, worst, summary), short(worst.at, &summary.zone))
        }
        None => "–".to_owned(),
    }
}

/// How much of the allowance is used.
pub(super) fn used(line: &Line) -> String {
    match line.characteristic {
        Characteristic::Rvc => "–".to_owned(),
        _ if line.n2 > 0 => "beyond the outer limit".to_owned(),
        _ => format!("{} %", tidy(line.used())),
    }
}

/// The change against the week before: `as before`, `was 3.10 %`, `was 4`.
pub(super) fn before(line: &Line, summary: &Summary) -> String {
    let Some(before) = &line.before else { return "–".to_owned() };
    if let (Some(count), Some(now)) = (before.count, line.count) {
        return if count == now { "as before".to_owned() } else { format!("was {count}") };
    }
    let Some(value) = before.value else { return "–".to_owned() };
    let then = measured(&Row { value: Some(value), ..line.row }, summary);
    if then == measured(line, summary) {
        "as before".to_owned()
    } else {
        format!("was {then}")
    }
}

/// At most one decimal, none for large numbers.
pub(super) fn tidy(value: f64) -> String {
    if value >= 100.0 || value == value.round() {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// `52.5200° N, 13.4050° E`.
pub(super) fn position(summary: &Summary) -> Option<String> {
    let (latitude, longitude) = (summary.header.latitude?, summary.header.longitude?);
    let side = |value: f64, positive, negative| if value < 0.0 { negative } else { positive };
    Some(format!(
        "{:.4}° {}, {:.4}° {}",
        latitude.abs(),
        side(latitude, "N", "S"),
        longitude.abs(),
        side(longitude, "E", "W")
    ))
}
