// SPDX-License-Identifier: Apache-2.0
//! The report for a terminal, and as the facts of a message.

use super::words::{before, limit, measured, position, used, worst};
use crate::lights;
use crate::notify::{length, subject};
use crate::summary::week::{day, short};
use crate::summary::{Line, Summary, METHOD_NOTE};
use power_quality::compliance::{Characteristic, Light};
use std::fmt::Write as _;

/// Events named in a message, which has room for 24 facts.
const NAMED: usize = 3;

/// Harmonic orders named in a message; the verdict counts the others.
const ORDERS_NAMED: usize = 4;

/// Outages named in a message: the last ones.
const OUTAGES_NAMED: usize = 2;

/// The report as text of at most 100 columns.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let header = &summary.header;
    let mut text = String::new();
    let so_far = if summary.complete { "" } else { " so far" };
    // Writing to a String has no way to fail.
    let _ = writeln!(
        text,
        "Power quality after {}, week {}{so_far}: {}\n{}\n",
        summary.edition,
        summary.week,
        lights::word(summary.light).to_uppercase(),
        summary.sentence()
    );
    let place = position(summary).map_or_else(String::new, |position| format!(", {position}"));
    let _ = writeln!(
        text,
        "{} on {}{place}, {} V, {} Hz",
        header.device, header.host, header.nominal_voltage, header.nominal_frequency
    );
    let last = summary.end.plus_seconds(-1.0);
    let _ = writeln!(
        text,
        "{} to {}; {}",
        day(summary.start, &summary.zone),
        day(last, &summary.zone),
        data(summary)
    );
    if let Some(since) = summary.since {
        let _ = writeln!(
            text,
            "The declared supply was changed on {}; judged since.",
            short(since, &summary.zone)
        );
    }
    let _ =
        writeln!(text, "\n{:<17} {:<6}  {:<20} {:<14} {:<9} worst", "", "light", "measured", "limit", "used");
    for line in shown(summary) {
        let used = if line.n2 > 0 { "outer".to_owned() } else { used(line) };
        let _ = writeln!(
            text,
            "{:<17} {:<6}  {:<20} {:<14} {used:<9} {}",
            lights::title(line.characteristic),
            lights::word(line.light),
            measured(line, summary),
            limit(line, summary),
            worst(line, summary)
        );
    }
    events(&mut text, summary);
    let _ = writeln!(text, "\n{}", METHOD_NOTE.replace(". This", ".\nThis"));
    text
}

/// What the message to the alert sinks says: key and value, light first.
#[must_use]
pub fn facts(summary: &Summary) -> Vec<(String, String)> {
    let mut facts = vec![("verdict".to_owned(), format!("{} {}", mark(summary.light), summary.sentence()))];
    let mut orders = 0;
    for line in shown(summary) {
        orders += usize::from(matches!(line.characteristic, Characteristic::Harmonic(_)));
        if matches!(line.characteristic, Characteristic::Harmonic(_)) && orders > ORDERS_NAMED {
            continue;
        }
        if line.value.is_none() && line.count.is_none_or(|count| count == 0 && line.light != Light::Red) {
            continue;
        }
        let mut value = format!("{} {}", mark(line.light), measured(line, summary));
        if line.limit.is_some() {
            let _ = write!(value, " (limit {})", limit(line, summary));
        }
        if line.worst.is_some() {
            let _ = write!(value, "; worst {}", worst(line, summary));
        }
        let before = before(line, summary);
        if line.before.is_some() && before != "as before" {
            let _ = write!(value, "; {before}");
        }
        facts.push((lights::title(line.characteristic), value));
    }
    for event in summary.events.listed.iter().take(NAMED) {
        facts.push((short(event.start, &summary.zone), subject(event)));
    }
    if summary.events.total as usize > NAMED {
        facts.push(("events".to_owned(), format!("{} in all", summary.events.total)));
    }
    for outage in summary.outages.iter().rev().take(OUTAGES_NAMED).rev() {
        let what = if outage.power_loss { "power loss" } else { "monitor off" };
        facts.push((
            short(outage.start, &summary.zone),
            format!("{what}, at most {}", length(outage.duration)),
        ));
    }
    facts.push(("data".to_owned(), data(summary)));
    facts.extend(position(summary).map(|position| ("position".to_owned(), position)));
    facts.push(("method".to_owned(), METHOD_NOTE.to_owned()));
    facts
}

/// A light where there is no colour but that of the character itself.
fn mark(light: Light) -> char {
    match light {
        Light::Green => '🟢',
        Light::Yellow => '🟡',
        Light::Red => '🔴',
        Light::Grey => '⚪',
    }
}

/// All characteristics, but of the harmonic orders those that are not green and the closest to its limit.
pub(super) fn shown(summary: &Summary) -> impl Iterator<Item = &Line> {
    let closest = super::closest_harmonic(summary);
    summary.characteristics.iter().filter(move |line| match line.characteristic {
        Characteristic::Harmonic(_) => {
            Some(line.characteristic) == closest || matches!(line.light, Light::Yellow | Light::Red)
        }
        _ => true,
    })
}

pub(super) fn data(summary: &Summary) -> String {
    let it = &summary.completeness;
    format!(
        "{} % measured ({} of {} intervals valid, {} flagged, {} missing)",
        (it.percent() * 10.0).floor() / 10.0,
        it.valid,
        it.expected,
        it.flagged,
        it.missing
    )
}

fn events(text: &mut String, summary: &Summary) {
    let events = &summary.events;
    let _ = writeln!(
        text,
        "\n{}",
        match events.total {
            0 => "No events.".to_owned(),
            1 => "1 event:".to_owned(),
            total if total as usize > events.listed.len() => format!("{total} events:"),
            total => format!("{total} events:"),
        }
    );
    if events.total as usize > events.listed.len() {
        for group in &events.groups {
            let class = group.class.as_deref().unwrap_or("-");
            let _ = writeln!(
                text,
                "  {:>6} {:<12} {class:<4} together {}",
                group.count,
                group.kind,
                length(group.duration)
            );
        }
        let _ = writeln!(text, "The {} most severe:", events.listed.len());
    }
    for event in &events.listed {
        let class = event.class.map_or_else(String::new, |cell| format!(", {cell}"));
        let _ = writeln!(text, "  {}  {}{class}", short(event.start, &summary.zone), subject(event));
    }
    for outage in &summary.outages {
        let cause = if outage.power_loss { "power loss" } else { "the daemon was ended by force" };
        let _ = writeln!(
            text,
            "  {}  nothing measured for at most {}: {cause}",
            short(outage.start, &summary.zone),
            length(outage.duration)
        );
    }
}
