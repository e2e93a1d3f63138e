// SPDX-License-Identifier: Apache-2.0
//! The same week in every rendering.

use super::*;
use crate::clock::Utc;

#[path = "../../../tests/powqutyd_report/week.rs"]
mod week;

use power_quality::compliance::Light;
use week::Supply;

fn summary(supply: Supply, name: &str) -> Summary {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("powquty.rec");
    week::write(&path, supply);
    let now = Utc::from_millis(week::MONDAY_MS + 8 * 86_400_000);
    of_file(&path, Week::parse(name), &Zone::UTC, now).unwrap()
}

fn line(summary: &Summary, characteristic: Characteristic) -> &crate::summary::Line {
    summary.line(characteristic).unwrap()
}

#[test]
fn a_bad_week_is_judged() {
    let summary = summary(Supply::Bad, "2025-W02");
    assert!(summary.complete);
    assert_eq!(summary.light, Light::Red);
    let voltage = line(&summary, Characteristic::Voltage);
    // 1008 less 22 of the outage, the two around it and those with an event.
    let flagged = week::event_slots().filter(|slot| !(299..=322).contains(slot)).count() as u32 + 2;
    assert_eq!(summary.completeness.flagged, flagged);
    assert_eq!(summary.completeness.missing, 22);
    assert_eq!(summary.completeness.valid, 1008 - 22 - flagged);
    assert_eq!((voltage.n, voltage.invalid), (1008 - 22 - flagged, 22 + flagged));
    let events: u32 = summary.events.groups.iter().map(|group| group.count).sum();
    assert_eq!(events, summary.events.total);
    let cells: u32 = summary.events.dips.iter().flatten().chain(summary.events.swells.iter().flatten()).sum();
    let harmonics = summary.events.groups.iter().find(|group| group.kind == "harmonic").unwrap().count;
    assert_eq!(cells + harmonics, events, "an interruption is in the table once");
    assert_eq!(summary.events.listed.len(), build::MOST_LISTED);
    assert!(summary.events.listed.windows(2).all(|pair| pair[0].start <= pair[1].start));
    assert_eq!(summary.outages.len(), 1);
    assert_eq!(line(&summary, Characteristic::Interruption).before.unwrap().count, Some(0));
    let deepest = line(&summary, Characteristic::Dip).worst.unwrap();
    assert!((deepest.value - 22.0).abs() < 1e-4, "the interruption is no dip: {deepest:?}");
}

#[test]
fn a_good_week_is_green() {
    let summary = summary(Supply::Bad, "2025-W01");
    assert_eq!((summary.light, summary.events.total), (Light::Green, 0));
    assert_eq!(summary.completeness.valid, 1008);
    assert!(summary.characteristics.iter().all(|line| line.before.is_none()));
    assert!(summary.sentence().starts_with("Within EN 50160."), "{}", summary.sentence());
}

#[test]
fn without_a_week_it_is_the_last_one_that_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("powquty.rec");
    week::write(&path, Supply::Good);
    for (days, week, complete) in [(6, "2025-W01", true), (7, "2025-W02", true), (700, "2025-W02", true)] {
        let now = Utc::from_millis(week::MONDAY_MS + days * 86_400_000);
        let summary = of_file(&path, None, &Zone::UTC, now).unwrap();
        assert_eq!((summary.week.as_str(), summary.complete), (week, complete), "{days}");
    }
    let now = Utc::from_millis(week::MONDAY_MS + 3 * 86_400_000);
    let running = of_file(&path, Week::parse("2025-W02"), &Zone::UTC, now).unwrap();
    assert!(!running.complete);
    let absent = of_file(&path, Week::parse("2024-W30"), &Zone::UTC, now);
    assert_eq!(absent.unwrap_err().to_string(), "no records of week 2024-W30");
    std::fs::write(&path, "Not a record file. ".repeat(1000)).unwrap();
    let none = of_file(&path, None, &Zone::UTC, now);
    assert_eq!(none.unwrap_err().to_string(), "this is no record file");
}

#[test]
fn the_page_is_small_whole_and_escaped() {
    for (supply, week) in [(Supply::Bad, "2025-W02"), (Supply::Bad, "2025-W01")] {
        let page = html::render(&summary(supply, week));
        if let Some(dir) = std::env::var_os("REPORT_PAGES") {
            std::fs::write(std::path::Path::new(&dir).join(format!("{week}.html")), &page).unwrap();
        }
        assert!(page.len() < 300_000, "{}", page.len());
        assert!(page.contains("my_WeSense &lt;attic&gt;") && !page.contains("<attic>"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "no number that is none");
        for forbidden in ["<script", "http://", "https://", "url("] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for element in
            ["svg", "table", "tr", "td", "th", "section", "div", "figure", "p", "span", "header", "footer"]
        {
            let opened =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }
}

#[test]
fn text_and_facts_say_what_matters() {
    let summary = summary(Supply::Bad, "2025-W02");
    let text = text::render(&summary);
    if let Some(dir) = std::env::var_os("REPORT_PAGES") {
        let facts: Vec<String> =
            text::facts(&summary).iter().map(|(key, value)| format!("{key}: {value}")).collect();
        std::fs::write(
            std::path::Path::new(&dir).join("report.txt"),
            format!("{text}\n{}\n", facts.join("\n")),
        )
        .unwrap();
        std::fs::write(std::path::Path::new(&dir).join("report.json"), Format::Json.render(&summary))
            .unwrap();
    }
    assert!(text.starts_with("Power quality after EN 50160:2010, week 2025-W02: RED\n"), "{text}");
    assert!(text.contains("no certified instrument"), "{text}");
    assert!(text.contains("nothing measured for at most 3 h 40 min: power loss"), "{text}");
    let facts = text::facts(&summary);
    assert!(facts.len() <= 40, "{}", facts.len());
    assert_eq!(facts[0].0, "verdict");
    assert!(facts.iter().any(|(key, value)| key == "position" && value == "52.5200° N, 13.4050° E"));
}

#[test]
fn json_holds_numbers_only_where_there_are_some() {
    let rendered = Format::Json.render(&summary(Supply::Bad, "2025-W02"));
    let value: serde_json::Value = serde_json::from_str(&rendered).unwrap();
    assert_eq!((&value["week"], &value["light"]), (&"2025-W02".into(), &"red".into()));
    assert_eq!(value["characteristics"][0]["characteristic"], "frequency");
    assert_eq!(value["start"], "2025-01-06T00:00:00.000Z");
    assert_eq!(value["events"]["listed"][0]["kind"], "dip");
    assert_eq!(value["device"], "my_WeSense <attic>");
}
