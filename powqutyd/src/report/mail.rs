// SPDX-License-Identifier: Apache-2.0
//! The report as the body of a mail: tables with inline styles, for mail clients drop style sheets and pictures.

use super::html::escape;
use super::text::{data, shown};
use super::words::{before, limit, measured, position, used, worst};
use crate::lights;
use crate::notify::{length, subject};
use crate::summary::week::{day, short};
use crate::summary::{Summary, METHOD_NOTE};
use power_quality::compliance::Light;
use std::fmt::Write as _;

/// Events that are listed; all are in the page that goes along.
const LISTED: usize = 20;

const CELL: &str =
    "padding:3px 10px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #9aa5b1";
const COUNT: &str = "padding:3px 10px;text-align:center;border-bottom:1px solid #9aa5b1";

/// The inside of the body.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let header = &summary.header;
    let place = position(summary).map_or_else(String::new, |position| format!(", {position}"));
    let last = summary.end.plus_seconds(-1.0);
    let mut mail = format!(
        "<p>{} on {}{place}; {} V, {} Hz<br>{} to {}; {}</p>",
        escape(&header.device),
        escape(&header.host),
        header.nominal_voltage,
        header.nominal_frequency,
        day(summary.start, &summary.zone),
        day(last, &summary.zone),
        data(summary)
    );
    let titles = ["Characteristic", "Light", "Measured", "Limit", "Allowance used", "Worst", "Week before"];
    let rows = shown(summary).map(|line| {
        let title = lights::title(line.characteristic);
        let texts = [
            measured(line, summary),
            limit(line, summary),
            used(line),
            worst(line, summary),
            before(line, summary),
        ];
        format!("<tr>{}{}{}</tr>", cell(&title), lamp(line.light), texts.map(|text| cell(&text)).concat())
    });
    // Writing to a String has no way to fail.
    let _ = write!(mail, "{}", table(&titles, CELL, rows));
    let events = &summary.events;
    let dips = [("90–80 %", 0), ("80–70 %", 1), ("70–40 %", 2), ("40–5 %", 3), ("below 5 %", 4)];
    let titles = ["Residual voltage", "to 0.2 s", "to 0.5 s", "to 1 s", "to 5 s", "to 1 min", "longer"];
    let rows = dips.map(|(name, row)| counts(name, &events.dips[row]));
    let _ = write!(mail, "<h3>Dips and interruptions</h3>{}", table(&titles, COUNT, rows.into_iter()));
    let titles = ["Highest voltage", "to 0.5 s", "to 5 s", "to 1 min", "longer"];
    let rows = [("120 % or more", 0), ("110–120 %", 1)].map(|(name, row)| counts(name, &events.swells[row]));
    let _ = write!(mail, "<h3>Swells</h3>{}", table(&titles, COUNT, rows.into_iter()));
    listed(&mut mail, summary);
    let _ = write!(mail, "<p><small>{METHOD_NOTE}</small></p>");
    mail
}

fn listed(mail: &mut String, summary: &Summary) {
    let events = &summary.events;
    if events.total as usize > LISTED {
        let rows = events.groups.iter().map(|group| {
            let class = group.class.as_deref().unwrap_or("–");
            let texts = [group.kind, class, &group.count.to_string(), &length(group.duration)].map(cell);
            format!("<tr>{}</tr>", texts.concat())
        });
        let groups = table(&["Kind", "Cell", "Number", "Together"], CELL, rows);
        let _ = write!(mail, "<h3>{} events</h3>{groups}", events.total);
    } else if !events.listed.is_empty() {
        let rows = events.listed.iter().map(|event| {
            let class = event.class.map_or_else(|| "–".to_owned(), |class| class.to_string());
            let texts = [short(event.start, &summary.zone), subject(event), class].map(|text| cell(&text));
            format!("<tr>{}</tr>", texts.concat())
        });
        let _ = write!(mail, "<h3>Events</h3>{}", table(&["Start", "Event", "Cell"], CELL, rows));
    }
    if !summary.outages.is_empty() {
        let rows = summary.outages.iter().map(|outage| {
            let cause = if outage.power_loss { "power loss" } else { "the daemon was ended by force" };
            let texts = [short(outage.start, &summary.zone), length(outage.duration), cause.to_owned()];
            format!("<tr>{}</tr>", texts.map(|text| cell(&text)).concat())
        });
        let outages = table(&["From", "For at most", "Cause"], CELL, rows);
        let _ = write!(mail, "<h3>The monitor was off</h3>{outages}");
    }
}

fn table(titles: &[&str], style: &str, rows: impl Iterator<Item = String>) -> String {
    let head: String = titles.iter().map(|title| format!("<th style=\"{style}\">{title}</th>")).collect();
    format!("<table style=\"border-collapse:collapse\"><tr>{head}</tr>{}</table>", rows.collect::<String>())
}

fn cell(text: &str) -> String {
    format!("<td style=\"{CELL}\">{}</td>", escape(text))
}

fn counts(name: &str, counts: &[u32]) -> String {
    let cells: String = counts.iter().map(|count| format!("<td style=\"{COUNT}\">{count}</td>")).collect();
    format!("<tr>{}{cells}</tr>", cell(name))
}

/// White on a colour that is dark enough for it, in light and dark clients.
fn lamp(light: Light) -> String {
    let colour = match light {
        Light::Green => "#1a7a36",
        Light::Yellow => "#8a5a00",
        Light::Red => "#c0251f",
        Light::Grey => "#5a6673",
    };
    let word = lights::word(light);
    format!(
        "<td style=\"{CELL}\"><b style=\"background:{colour};color:#fff;padding:1px 7px\">{word}</b></td>"
    )
}
