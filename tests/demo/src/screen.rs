// SPDX-License-Identifier: Apache-2.0
//! The terminal: what happens scrolls by, the values of the moment stay at the bottom. Without a terminal
//! the same as plain lines.

use crate::stage::{Happening, Now, Stage, SPEED};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Lines of the part that stays.
const FOOTER: usize = 4;

/// Columns used, on a terminal that has them.
const WIDTH: usize = 80;

/// How often the values are printed where there is no terminal.
const PLAIN_PACE: Duration = Duration::from_secs(5);

/// Writes to standard output.
pub(crate) struct Screen {
    terminal: bool,
    unicode: bool,
    footer: bool,
    printed: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Style {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Screen {
    /// Finds out what standard output can do.
    pub(crate) fn new() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let unicode = locale.to_ascii_uppercase().replace('-', "").contains("UTF8");
        Self { terminal: io::stdout().is_terminal() && !dumb, unicode, footer: false, printed: None }
    }

    /// What this is and where things lie.
    pub(crate) fn introduce(&self, stage: &Stage) {
        let title = format!("powqutyd on a simulated grid, {SPEED} times as fast as a real one");
        let mut text = format!("{}\n\n", self.style(Style::Bold, &title));
        let _ = writeln!(text, "  {:<14} {}\n", "in a browser", self.style(Style::Bold, stage.address()));
        for (name, path, note) in [
            ("configuration", "config/powquty", "edit, save"),
            ("the grid", "grid.txt", ""),
            ("event log", "events.csv", ""),
            ("measurements", "measurements.csv", ""),
            ("alerts go to", "", ""),
            ("socket", "run/powqutyd.sock", ""),
        ] {
            let place = if path.is_empty() { stage.hook() } else { stage.path(path).display().to_string() };
            let note = if note.is_empty() { String::new() } else { format!("  <- {note}") };
            let _ = writeln!(text, "  {name:<14} {place}{}", self.style(Style::Cyan, &note));
        }
        let _ = writeln!(text, "\nCtrl-C ends the demo and removes all of this.\n");
        write(&text);
    }

    /// New lines above, the values of the moment below.
    pub(crate) fn update(&mut self, happened: &[Happening], now: &Now) {
        let mut text = self.clear_footer();
        for happening in happened {
            text.push_str(&self.happening(happening));
        }
        if self.terminal {
            text.push_str(&self.footer(now));
            self.footer = true;
        } else if self.printed.is_none_or(|printed| printed.elapsed() >= PLAIN_PACE) {
            if let Some(values) = values(&now.status) {
                let _ = writeln!(text, "now        {values}");
                self.printed = Some(Instant::now());
            }
        }
        write(&text);
    }

    /// Takes the footer away.
    pub(crate) fn leave(&mut self) {
        let text = self.clear_footer();
        write(&text);
    }

    /// The last line.
    pub(crate) fn farewell(&self, text: &str) {
        let text = self.style(Style::Dim, text);
        write(&format!("\n{text}\n"));
    }

    fn happening(&self, happening: &Happening) -> String {
        match happening {
            Happening::Event(event) => {
                let kind = event["kind"].as_str().unwrap_or("event");
                let style = match kind {
                    "interruption" => Style::Red,
                    "dip" if event["extreme_percent"].as_f64().is_some_and(|percent| percent < 10.0) => {
                        // The dip that every interruption is as well.
                        Style::Dim
                    }
                    _ => Style::Yellow,
                };
                let name = self.style(style, &format!("{:<12}", kind.to_uppercase()));
                format!("{}  {name}  {}\n", time(event), details(event))
            }
            Happening::Delivered { text } => {
                let arrow = if self.unicode { "└▶" } else { "->" };
                let first = text.lines().next().unwrap_or_default();
                let line = cut(&format!("{arrow} web hook: {first}"), WIDTH - 10);
                format!("          {}\n", self.style(Style::Green, &line))
            }
            Happening::Edited => {
                format!("{}\n", self.style(Style::Cyan, "configuration changed on disk: SIGHUP sent"))
            }
            Happening::Reload(text) => format!("{}\n", self.style(Style::Cyan, &format!("  {text}"))),
            Happening::Complaint(text) => format!("{}\n", self.style(Style::Red, text)),
        }
    }

    fn footer(&self, now: &Now) -> String {
        let line = if self.unicode { "─" } else { "-" }.repeat(WIDTH - 1);
        let first = match values(&now.status) {
            Some(values) => format!("{values}   {}", self.bar(&now.status)),
            None => "waiting for the first second of signal".to_owned(),
        };
        format!(
            "{}\n{first}\n{}\n{}\n",
            self.style(Style::Dim, &line),
            self.trend(now),
            self.tally(&now.status)
        )
    }

    /// The voltage between the thresholds.
    fn bar(&self, status: &Value) -> String {
        const LENGTH: usize = 25;
        let nominal = &status["nominal"];
        let known = (
            status["values"]["voltage"].as_f64(),
            nominal["voltage"].as_f64(),
            nominal["dip_threshold"].as_f64(),
            nominal["swell_threshold"].as_f64(),
        );
        let (Some(volts), Some(reference), Some(low), Some(high)) = known else { return String::new() };
        let percent = volts / reference * 100.0;
        let share = ((percent - low) / (high - low)).clamp(0.0, 1.0);
        let at = (share * (LENGTH - 1) as f64).round() as usize;
        let (rest, mark) = if self.unicode { ('·', '█') } else { ('.', '#') };
        let bar: String = (0..LENGTH).map(|place| if place == at { mark } else { rest }).collect();
        let style = if (low..=high).contains(&percent) { Style::Green } else { Style::Red };
        format!("{low:.0}% {} {high:.0}%", self.style(style, &bar))
    }

    /// The lowest second of each three seconds of signal.
    fn trend(&self, now: &Now) -> String {
        const TITLE: &str = "last 3 minutes ";
        let steps: Vec<char> = if self.unicode { "▁▂▃▄▅▆▇█" } else { "_.:-=+*#" }.chars().collect();
        // Three seconds of signal for each column.
        let lowest = |seconds: &[f64]| seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let first = now.voltage.len() % 3;
        let shown: Vec<f64> = now.voltage[first..].chunks(3).map(lowest).collect();
        let reference = now.status["nominal"]["voltage"].as_f64().unwrap_or(230.0);
        // From 0 to 120 % of the nominal voltage, finer near the top.
        let step = |volts: f64| {
            let share = (volts / reference).clamp(0.0, 1.2);
            let place = if share < 0.8 { share * 3.0 } else { 2.4 + (share - 0.8) * 11.0 };
            steps[(place.round() as usize).min(steps.len() - 1)]
        };
        let line: String = shown.into_iter().map(step).collect();
        format!("{}{}", self.style(Style::Dim, TITLE), self.style(Style::Cyan, &line))
    }

    fn tally(&self, status: &Value) -> String {
        let counts = status["events"].as_object();
        let counted: Vec<String> = counts
            .into_iter()
            .flatten()
            .filter_map(|(kind, count)| Some((kind, count.as_u64().filter(|&count| count > 0)?)))
            .map(|(kind, count)| format!("{count} {kind}{}", if count == 1 { "" } else { "s" }))
            .collect();
        let events = if counted.is_empty() { "no events yet".to_owned() } else { counted.join(", ") };
        let slack = &status["alerts"]["slack"];
        let number = |key: &str| slack[key].as_u64().unwrap_or_default();
        let alerts = format!("{} delivered, {} waiting", number("delivered"), number("queued"));
        let kept = status["configuration"]["state"] == "kept";
        let configuration =
            if kept { self.style(Style::Red, ", last configuration refused") } else { String::new() };
        format!("{events} | alerts: {alerts}{configuration}")
    }

    fn clear_footer(&mut self) -> String {
        if std::mem::take(&mut self.footer) {
            // From the first column: Ctrl-C leaves its echo behind the cursor.
            format!("\r\x1b[{FOOTER}A\x1b[J")
        } else {
            String::new()
        }
    }

    fn style(&self, style: Style, text: &str) -> String {
        if self.terminal && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", style as u8)
        } else {
            text.to_owned()
        }
    }
}

/// A terminal that is gone ends the demo by SIGHUP; there is nobody to tell.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn values(status: &Value) -> Option<String> {
    let values = &status["values"];
    let voltage = values["voltage"].as_f64()?;
    let other = |key: &str, digits: usize, unit: &str| match values[key].as_f64() {
        Some(value) => format!("{value:.digits$} {unit}"),
        None => format!("- {unit}"),
    };
    Some(format!("{voltage:6.2} V   {}   THD {}", other("frequency", 3, "Hz"), other("thd", 2, "%")))
}

fn time(event: &Value) -> &str {
    event["start"].as_str().and_then(|start| start.get(11..19)).unwrap_or("--:--:--")
}

fn details(event: &Value) -> String {
    let milliseconds = event["duration"].as_f64().unwrap_or_default() * 1000.0;
    let mut text = format!("{milliseconds:6.0} ms");
    if let (Some(volts), Some(percent)) =
        (event["extreme_voltage"].as_f64(), event["extreme_percent"].as_f64())
    {
        let _ = write!(text, "  {volts:6.1} V = {percent:5.1} % of nominal");
    }
    if let Some(class) = event["class"].as_str() {
        let _ = write!(text, "  cell {class}");
    }
    text
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 3).chain("...".chars()).collect()
}
