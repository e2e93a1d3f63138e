// SPDX-License-Identifier: Apache-2.0
//! The report as one page that needs nothing else: no script, no font, no network.

use super::plot;
use super::words::{before, limit, measured, position, tidy, used, worst};
use crate::lights;
use crate::notify::length;
use crate::record::EventRecord;
use crate::summary::week::{day, local, short};
use crate::summary::{Line, Summary, METHOD_NOTE};
use power_quality::compliance::{Characteristic, Light};
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let mut page = String::with_capacity(128 * 1024);
    let device = escape(&summary.header.device);
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>Power quality {} – {device}</title><style>{STYLE}</style></head><body><main>",
        summary.week
    );
    head(&mut page, summary);
    tiles(&mut page, summary);
    overview(&mut page, summary);
    plots(&mut page, summary);
    orders(&mut page, summary);
    tables(&mut page, summary);
    events(&mut page, summary);
    foot(&mut page, summary);
    page.push_str("</main></body></html>\n");
    page
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            it if it.is_control() => escaped.push(' '),
            it => escaped.push(it),
        }
    }
    escaped
}

/// A light as shape, colour and word, so that nobody depends on the colour.
fn lamp(light: Light, word: &str) -> String {
    let shape = match light {
        Light::Green => "<circle cx=\"5\" cy=\"5\" r=\"5\"/>",
        Light::Yellow => "<path d=\"M5 0L10 9.5H0z\"/>",
        Light::Red => "<path d=\"M0 0H10V10H0z\"/>",
        Light::Grey => {
            "<circle cx=\"5\" cy=\"5\" r=\"4\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\"/>"
        }
    };
    let class = lights::word(light);
    format!(
        "<span class=\"lamp t-{class}\"><svg viewBox=\"0 0 10 10\" fill=\"currentColor\" aria-hidden=\"true\">{shape}</svg>{word}</span>"
    )
}

fn head(page: &mut String, summary: &Summary) {
    let header = &summary.header;
    let last = summary.end.plus_seconds(-1.0);
    let _ = write!(
        page,
        "<header><p class=\"over\">Power quality after {} · week {}{}</p><h1>{} {}</h1><p class=\"meta\">{} on {}",
        summary.edition,
        summary.week,
        if summary.complete { "" } else { ", so far" },
        lamp(summary.light, lights::word(summary.light)),
        summary.sentence(),
        escape(&header.device),
        escape(&header.host),
    );
    if let Some(position) = position(summary) {
        let _ = write!(page, " · {position}");
    }
    let _ = write!(
        page,
        " · {} to {} · {} V, {} Hz{}</p></header>",
        day(summary.start, &summary.zone),
        day(last, &summary.zone),
        header.nominal_voltage,
        header.nominal_frequency,
        if header.island { ", island" } else { "" },
    );
    if let Some(since) = summary.since {
        let since = short(since, &summary.zone);
        let _ = write!(page, "<p class=\"note\">The declared supply was changed on {since}; this page judges the time since.</p>");
    }
}

fn tiles(page: &mut String, summary: &Summary) {
    page.push_str("<div class=\"tiles\">");
    let mut tile = |name: &str, value: &str, note: &str| {
        let _ = write!(
            page,
            "<div class=\"card tile\"><span class=\"k\">{name}</span><b>{value}</b><span>{note}</span></div>"
        );
    };
    let voltage = summary
        .voltage
        .as_ref()
        .map(|v| (format!("{:.1} V", v.median), format!("9 of 10 between {:.1} and {:.1} V", v.low, v.high)));
    let frequency = summary
        .frequency
        .as_ref()
        .map(|f| (format!("{:.3} Hz", f.median), format!("{:.3} to {:.3} Hz", f.min, f.max)));
    for (name, known) in [("Voltage", voltage), ("Frequency", frequency)] {
        let (value, note) = known.unwrap_or_else(|| ("–".to_owned(), "no valid interval".to_owned()));
        tile(name, &value, &note);
    }
    for (name, characteristic, note) in [
        ("THD", Characteristic::Thd, "95 % of the time at most"),
        ("Flicker", Characteristic::Flicker, "95 % of the time at most"),
    ] {
        let value = summary.line(characteristic).filter(|line| line.value.is_some());
        tile(name, &value.map_or_else(|| "–".to_owned(), |line| measured(line, summary)), note);
    }
    let events = &summary.events;
    let outages = match summary.outages.len() {
        0 => "no outage of the monitor".to_owned(),
        1 => "and 1 outage of the monitor".to_owned(),
        count => format!("and {count} outages of the monitor"),
    };
    tile("Events", &events.total.to_string(), &outages);
    let completeness = &summary.completeness;
    tile(
        "Measured",
        &format!("{} %", (completeness.percent() * 10.0).floor() / 10.0),
        &format!("{} of {} intervals valid", completeness.valid, completeness.expected),
    );
    page.push_str("</div>");
}

/// The characteristics; the harmonic orders together as the one that is closest to its limit.
fn overview(page: &mut String, summary: &Summary) {
    page.push_str(
        "<section class=\"card\"><h2>Characteristics</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Characteristics\"><table class=\"stack\">\
         <thead><tr><th scope=\"col\">Characteristic</th><th scope=\"col\">Light</th><th scope=\"col\">Measured</th>\
         <th scope=\"col\">Limit</th><th scope=\"col\">Allowance used</th><th scope=\"col\">Worst</th>\
         <th scope=\"col\" class=\"n\">Valid</th><th scope=\"col\" class=\"n\">Beyond</th><th scope=\"col\">Week before</th></tr></thead><tbody>",
    );
    let closest = super::closest_harmonic(summary);
    for line in &summary.characteristics {
        let title = match line.characteristic {
            Characteristic::Harmonic(_) if Some(line.characteristic) != closest => continue,
            Characteristic::Harmonic(order) => format!("Harmonics, closest: {order}"),
            other => lights::title(other),
        };
        row(page, summary, line, &title);
    }
    page.push_str(
        "</tbody></table></div><p class=\"note\">Measured: what 95 % of the 10-minute values (flicker: 2-hour values; frequency: 99.5 % of the \
         10-second values) do not exceed. Beyond: intervals outside the limit that 95 % have to keep / outside the one that holds always. \
         The standard sets no limit for dips, swells, interruptions and rapid changes; their time is held against a share of the week.</p></section>",
    );
}

fn row(page: &mut String, summary: &Summary, line: &Line, title: &str) {
    let is_rvc = line.characteristic == Characteristic::Rvc;
    let meter = if is_rvc {
        String::new()
    } else {
        plot::meter(if line.n2 > 0 { 100.0 } else { line.used() }, line.light)
    };
    let (valid, beyond) = match line.count {
        Some(_) => ("–".to_owned(), "–".to_owned()),
        None => (line.n.to_string(), format!("{} / {}", line.n1, line.n2)),
    };
    let _ = write!(
        page,
        "<tr><th scope=\"row\">{title}</th><td>{}</td><td class=\"w\" data-of=\"Measured\">{}</td><td class=\"w\" data-of=\"Limit\">{}</td>\
         <td class=\"w\" data-of=\"Allowance used\">{}{meter}</td><td class=\"w\" data-of=\"Worst\">{}</td>\
         <td class=\"n\" data-of=\"Valid\">{valid}</td><td class=\"n\" data-of=\"Beyond\">{beyond}</td><td class=\"w\" data-of=\"Week before\">{}</td></tr>",
        lamp(line.light, lights::word(line.light)),
        measured(line, summary),
        limit(line, summary),
        used(line),
        worst(line, summary),
        before(line, summary),
    );
}

fn plots(page: &mut String, summary: &Summary) {
    let spread = |spread: &Option<crate::summary::Spread>, unit: &str, decimals: usize, tail: &str| {
        spread.as_ref().map_or_else(String::new, |s| {
            format!(
                " {tail} between {:.decimals$} and {:.decimals$} {unit} (dotted); lowest {:.decimals$}, highest {:.decimals$} {unit}.",
                s.low, s.high, s.min, s.max
            )
        })
    };
    let mut pair = |figures: [(&str, String, String); 2]| {
        page.push_str("<div class=\"pair\">");
        for (title, svg, caption) in figures {
            let _ = write!(
                page,
                "<figure class=\"card\"><h2>{title}</h2>{svg}<figcaption>{caption}</figcaption></figure>"
            );
        }
        page.push_str("</div>");
    };
    pair([
        (
            "Voltage (V)",
            plot::voltage(summary),
            format!(
                "10-minute means, with the smallest and largest 10/12-cycle value as a band; dashed: ±10 %, shaded: not measured.{}",
                spread(&summary.voltage, "V", 1, "Of the valid means 90 % lie")
            ),
        ),
        (
            "Frequency (Hz)",
            plot::frequency(summary),
            format!("10-second values by ten minutes: mean and band.{}", spread(&summary.frequency, "Hz", 3, "Of them 99 % lie")),
        ),
    ]);
    pair([
        (
            "Harmonics",
            plot::harmonics(summary),
            "THD (T) and orders 2 to 25 in percent of their limits: 95th percentile as a bar, the worst value as a line.".to_owned(),
        ),
        (
            "Flicker",
            plot::flicker(summary),
            "Short-term severity Pst as a thin line, long-term severity Plt as steps (faint: flagged); dashed: the limit of Plt.".to_owned(),
        ),
    ]);
}

/// The orders one by one, in three columns.
fn orders(page: &mut String, summary: &Summary) {
    let lines: Vec<(&Line, u8)> = summary
        .characteristics
        .iter()
        .filter_map(|line| match line.characteristic {
            Characteristic::Harmonic(order) => Some((line, order)),
            _ => None,
        })
        .collect();
    if lines.iter().all(|(line, _)| line.value.is_none()) {
        return;
    }
    page.push_str(
        "<section class=\"card\"><h2>Harmonic orders</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Harmonic orders\"><table>\
         <caption>95th percentile in % of the fundamental, its limit, and the worst value</caption><thead><tr>",
    );
    let rows = lines.len().div_ceil(3);
    for _ in 0..3 {
        page.push_str("<th scope=\"col\" class=\"o\">Order</th><th scope=\"col\" class=\"n\">95 %</th><th scope=\"col\" class=\"n\">Limit</th><th scope=\"col\" class=\"n\">Worst</th>");
    }
    page.push_str("</tr></thead><tbody>");
    for index in 0..rows {
        page.push_str("<tr>");
        for (line, order) in [index, index + rows, index + 2 * rows].iter().filter_map(|&at| lines.get(at)) {
            let percent =
                |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
            let _ = write!(
                page,
                "<td class=\"o\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
                lamp(line.light, &format!("{order}<span hidden> {}</span>", lights::word(line.light))),
                percent(line.value),
                line.limit.map_or_else(String::new, |limit| limit.to_string()),
                percent(line.worst.map(|worst| worst.value)),
            );
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div></section>");
}

fn tables(page: &mut String, summary: &Summary) {
    let events = &summary.events;
    let _ = write!(
        page,
        "<div class=\"pair\"><figure class=\"card\"><h2>Events</h2>{}<figcaption>Lowest or highest voltage over duration, in % of the nominal \
         voltage; dashed: what equipment bears after the ITI (CBEMA) curve.</figcaption></figure><div class=\"card\"><h2>Dips and interruptions</h2>",
        plot::events(summary)
    );
    let columns = ["to 0.2 s", "to 0.5 s", "to 1 s", "to 5 s", "to 1 min", "longer"];
    let rows = ["90–80 %", "80–70 %", "70–40 %", "40–5 %", "below 5 %"];
    cells(page, "Residual voltage", &columns, &rows, &["A", "B", "C", "D", "X"], &events.dips);
    page.push_str("<h2>Swells</h2>");
    let columns = ["to 0.5 s", "to 5 s", "to 1 min", "longer"];
    cells(page, "Highest voltage", &columns, &["120 % or more", "110–120 %"], &["S", "T"], &events.swells);
    page.push_str("</div></div>");
}

fn cells<const N: usize>(
    page: &mut String,
    corner: &str,
    columns: &[&str],
    rows: &[&str],
    letters: &[&str],
    counts: &[[u32; N]],
) {
    let _ = write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{corner} over duration\"><table class=\"cells\"><thead><tr><th scope=\"col\">{corner}</th>"
    );
    for column in columns {
        let _ = write!(page, "<th scope=\"col\">{column}</th>");
    }
    page.push_str("</tr></thead><tbody>");
    for ((row, letter), counts) in rows.iter().zip(letters).zip(counts) {
        let _ = write!(page, "<tr><th scope=\"row\">{letter}: {row}</th>");
        for count in counts {
            let class = if *count > 0 { "hit" } else { "zero" };
            let _ = write!(page, "<td class=\"{class}\">{count}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

fn events(page: &mut String, summary: &Summary) {
    let events = &summary.events;
    if !events.listed.is_empty() {
        let shown = events.listed.len();
        let grouped = events.total as usize > shown;
        page.push_str("<section class=\"card long\"><h2>List of events</h2>");
        if grouped {
            groups(page, summary);
            let _ = write!(page, "<h2>The {shown} most severe of {}</h2>", events.total);
        }
        page.push_str(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"List of events\"><table><thead><tr><th scope=\"col\">Start</th><th scope=\"col\">Kind</th>\
             <th scope=\"col\" class=\"n\">Duration</th><th scope=\"col\">Extreme</th><th scope=\"col\">Cell</th></tr></thead><tbody>",
        );
        events.listed.iter().for_each(|event| event_row(page, summary, event));
        page.push_str("</tbody></table></div></section>");
    }
    if !summary.outages.is_empty() {
        page.push_str("<section class=\"card\"><h2>The monitor was off</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Outages\"><table><thead><tr><th scope=\"col\">From</th><th scope=\"col\">For at most</th><th scope=\"col\">Cause</th></tr></thead><tbody>");
        for outage in &summary.outages {
            let cause = if outage.power_loss {
                "power loss: the router started anew"
            } else {
                "the daemon was ended by force"
            };
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{cause}</td></tr>",
                short(outage.start, &summary.zone),
                length(outage.duration)
            );
        }
        page.push_str("</tbody></table></div></section>");
    }
}

fn groups(page: &mut String, summary: &Summary) {
    page.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Groups of events\"><table><thead><tr><th scope=\"col\">Kind</th><th scope=\"col\">Cell</th>\
         <th scope=\"col\" class=\"n\">Number</th><th scope=\"col\" class=\"n\">Together</th><th scope=\"col\">First</th><th scope=\"col\">Last</th></tr></thead><tbody>",
    );
    for group in &summary.events.groups {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            group.kind,
            group.class.as_deref().unwrap_or("–"),
            group.count,
            length(group.duration),
            short(group.first, &summary.zone),
            short(group.last, &summary.zone)
        );
    }
    page.push_str("</tbody></table></div>");
}

fn event_row(page: &mut String, summary: &Summary, event: &EventRecord) {
    let at = local(event.start, &summary.zone);
    let extreme = match (&event.harmonic, event.extreme_voltage, event.extreme_percent) {
        (Some(it), ..) => format!(
            "order {}: {:.2} %, limit {} %, above it {} % of the time",
            it.order,
            it.value_percent,
            tidy(it.limit_percent),
            tidy(it.share_percent)
        ),
        (None, Some(volts), Some(percent)) => format!("{volts:.1} V ({percent:.1} %)"),
        _ => "–".to_owned(),
    };
    let _ = write!(
        page,
        "<tr><td>{} {:02}:{:02}:{:02}.{:03}</td><td>{}</td><td class=\"n\">{}{}</td><td>{extreme}</td><td>{}</td></tr>",
        &at.weekday().to_string()[..3],
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond(),
        event.kind.name(),
        length(event.duration_s),
        if event.open { ", not over" } else { "" },
        event.class.map_or_else(|| "–".to_owned(), |cell| cell.to_string()),
    );
}

fn foot(page: &mut String, summary: &Summary) {
    let completeness = &summary.completeness;
    let thresholds = summary.header.thresholds;
    let _ = write!(
        page,
        "<footer class=\"note\"><p>Data: {} ten-minute intervals expected, {} valid, {} flagged (touched by an event or a gap, not judged), {} missing.</p>\
         <p>Thresholds: dip {} %, swell {} %, interruption {} % of {} V. {METHOD_NOTE}</p></footer>",
        completeness.expected,
        completeness.valid,
        completeness.flagged,
        completeness.missing,
        thresholds[0],
        thresholds[1],
        thresholds[2],
        summary.header.nominal_voltage
    );
}
