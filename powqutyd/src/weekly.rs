// SPDX-License-Identifier: Apache-2.0
//! The weekly summary on its way to the alert sinks: when it is due, and what the message is.

use crate::clock::Utc;
use crate::report::{mail, text, Format};
use crate::summary::week::{local, Week};
use crate::summary::Summary;
use alerts::{Alert, Attachment, Severity, SummaryTime};
use openwrt::timezone::Zone;
use power_quality::compliance::Light;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The week whose summary is due now: the last one that was over at the latest `summary_day`, `summary_hour`.
/// Summaries up to and including that of `sent` have been sent.
#[must_use]
pub fn due(now: Utc, zone: &Zone, at: SummaryTime, sent: Option<Week>) -> Option<Week> {
    let here = local(now, zone);
    let days = (here.weekday().number_days_from_monday() + 7 - at.day.number_days_from_monday()) % 7;
    let days = if days == 0 && here.hour() < at.hour { 7 } else { days };
    let latest = now.plus_seconds(-86_400.0 * f64::from(days));
    let week = Week::of(latest, zone).before();
    sent.is_none_or(|sent| sent < week).then_some(week)
}

/// The message, with the page and the numbers as files in `directory`; those of earlier weeks but the last are
/// deleted.
///
/// # Errors
/// The files cannot be written.
pub fn alert(summary: &Summary, directory: &Path) -> io::Result<Alert> {
    let severity = match summary.light {
        Light::Red => Severity::Warning,
        Light::Green | Light::Yellow | Light::Grey => Severity::Info,
    };
    let subject = format!("Power quality in week {}: {}", summary.week, summary.sentence());
    let mut alert = Alert::new("summary", severity, subject, summary.end.calendar());
    alert.summary = true;
    for (key, value) in text::facts(summary) {
        alert = alert.fact(&key, value);
    }
    tidy(directory, &summary.week);
    let body = directory.join(format!("{PREFIX}{}.mail", summary.week));
    fs::write(&body, mail::render(summary))?;
    alert.html = Some(body);
    for (format, extension, media_type) in
        [(Format::Html, "html", "text/html"), (Format::Json, "json", "application/json")]
    {
        let name = format!("{PREFIX}{}.{extension}", summary.week);
        let path = directory.join(&name);
        fs::write(&path, format.render(summary))?;
        alert.attachments.push(Attachment { name, media_type: media_type.to_owned(), path });
    }
    Ok(alert)
}

const PREFIX: &str = "powquty-week-";

/// Deletes the files of all weeks but the newest before `week`, which may still wait in the outbox.
fn tidy(directory: &Path, week: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut old: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (other, _) = name.strip_prefix(PREFIX)?.rsplit_once('.')?;
            (other != week).then(|| (other.to_owned(), entry.path()))
        })
        .collect();
    old.sort();
    let newest = old.last().map(|(week, _)| week.clone());
    for (week, path) in old {
        if Some(&week) != newest.as_ref() {
            // A file that stays behind harms nobody.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Weekday;

    fn due_at(now: &str, day: Weekday, hour: u8, sent: Option<&str>) -> Option<String> {
        let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let sent = sent.map(|week| Week::parse(week).unwrap());
        due(Utc::parse_rfc3339(now).unwrap(), &zone, SummaryTime { day, hour }, sent)
            .map(|week| week.to_string())
    }

    #[test]
    fn monday_at_six_local_time() {
        let monday = |now, sent| due_at(now, Weekday::Monday, 6, sent);
        assert_eq!(monday("2026-11-23T05:59:59+01:00", Some("2026-W46")), None::<String>);
        assert_eq!(monday("2026-11-23T06:00:00+01:00", Some("2026-W46")).as_deref(), Some("2026-W47"));
        assert_eq!(monday("2026-11-23T06:00:00+01:00", Some("2026-W47")), None);
        assert_eq!(
            monday("2026-11-29T23:00:00+01:00", Some("2026-W46")).as_deref(),
            Some("2026-W47"),
            "late"
        );
        assert_eq!(
            monday("2026-11-23T01:00:00+01:00", None).as_deref(),
            Some("2026-W46"),
            "the week before it"
        );
    }

    #[test]
    fn another_day_reports_the_week_that_is_over() {
        let thursday = |now| due_at(now, Weekday::Thursday, 18, Some("2026-W46"));
        assert_eq!(thursday("2026-11-26T17:59:00+01:00"), None);
        assert_eq!(thursday("2026-11-26T18:00:00+01:00").as_deref(), Some("2026-W47"));
        assert_eq!(
            due_at("2026-11-29T06:00:00+01:00", Weekday::Sunday, 6, Some("2026-W46")).as_deref(),
            Some("2026-W47")
        );
    }

    #[test]
    fn files_of_two_weeks_stay() {
        let dir = tempfile::tempdir().unwrap();
        for week in ["2026-W44", "2026-W45", "2026-W46"] {
            fs::write(dir.path().join(format!("{PREFIX}{week}.html")), "").unwrap();
        }
        fs::write(dir.path().join("other"), "").unwrap();
        tidy(dir.path(), "2026-W47");
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["other", "powquty-week-2026-W46.html"]);
    }
}
