// SPDX-License-Identifier: Apache-2.0
//! `powqutyd status` as people like to read it; colours on a terminal only.

use crate::events;
use crate::notify::length;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// Columns of the bar between the dip and the swell threshold.
const BAR: usize = 33;

/// Prints the answer of the method `status`.
///
/// # Errors
/// The output cannot be written.
pub fn status(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(text(status, io::stdout().is_terminal()).as_bytes())
}

/// The screen as text.
#[must_use]
pub fn text(status: &Value, colours: bool) -> String {
    let mut screen = Screen { text: String::new(), colours };
    screen.head(status);
    screen.configuration(&status["configuration"]);
    screen.source(&status["source"]);
    screen.values(status);
    screen.events(status);
    screen.logs(&status["logs"]);
    screen.alerts(&status["alerts"]);
    screen.text
}

struct Screen {
    text: String,
    colours: bool,
}

#[derive(Clone, Copy)]
enum Colour {
    Good = 32,
    Doubtful = 33,
    Bad = 31,
    Bold = 1,
}

// Writing to a String has no way to fail, hence the ignored results below.
impl Screen {
    fn head(&mut self, status: &Value) {
        let uptime = length(status["uptime"].as_f64().unwrap_or_default());
        let name = self.paint(Colour::Bold, &format!("powqutyd {}", word(&status["version"])));
        let _ = write!(self.text, "{name}, up {uptime}");
        if let Some(id) = status["device"]["id"].as_str() {
            let _ = write!(self.text, ", {id} on {}", word(&status["device"]["host"]));
        }
        self.text.push_str("\n\n");
    }

    fn configuration(&mut self, configuration: &Value) {
        let problems = configuration["problems"].as_array().map_or(&[][..], Vec::as_slice);
        let (colour, words) = match configuration["state"].as_str() {
            Some("ok") if problems.is_empty() => (Colour::Good, "in force"),
            Some("ok") => (Colour::Doubtful, "in force, with remarks"),
            Some("kept") => (Colour::Bad, "NOT applied, the last good one stays in force"),
            _ => (Colour::Bad, "none that can be read, nothing is measured"),
        };
        let words = self.paint(colour, words);
        self.line("configuration", &words);
        for problem in problems {
            let mut line = word(&problem["file"]).to_owned();
            if let Some(section) = problem["section"].as_str().filter(|section| !section.is_empty()) {
                let _ = write!(line, ":{section}.{}", word(&problem["option"]));
            }
            if let Some(value) = problem["value"].as_str() {
                let _ = write!(line, ": {value}");
            }
            let _ = write!(line, ": {}", word(&problem["reason"]));
            self.line("", &line);
        }
    }

    fn source(&mut self, source: &Value) {
        let state = source["state"].as_str().unwrap_or("off");
        let colour = match state {
            "running" => Colour::Good,
            "failed" => Colour::Bad,
            _ => Colour::Doubtful,
        };
        let mut line = format!("{} {}", word(&source["kind"]), self.paint(colour, state));
        if let Some(reason) = source["reason"].as_str() {
            let _ = write!(line, ": {reason}");
        }
        if let (Some(rate), Some(samples)) = (source["rate"].as_f64(), source["samples"].as_f64()) {
            let _ = write!(line, ", {rate} Hz, {} of signal", length(samples / rate));
        }
        let missing = source["faults"]["missing_samples"].as_u64().unwrap_or_default();
        if missing > 0 {
            let text = self.paint(Colour::Doubtful, &format!("{missing} samples missing"));
            let _ = write!(line, ", {text}");
        }
        self.line("source", &line);
    }

    fn values(&mut self, status: &Value) {
        let values = &status["values"];
        self.text.push('\n');
        let voltage = match values["voltage"].as_f64() {
            Some(volts) => format!("{volts:8.2} V   {}", self.bar(volts, &status["nominal"])),
            None => "not measured yet".to_owned(),
        };
        self.line("voltage", &voltage);
        for (name, key, unit) in [("frequency", "frequency", "Hz"), ("THD", "thd", "%")] {
            if let Some(value) = values[key].as_f64() {
                let text = if unit == "Hz" { format!("{value:8.3} Hz") } else { format!("{value:8.2} %") };
                self.line(name, &text);
            }
        }
        if let Some(pst) = values["pst"].as_f64() {
            let plt = values["plt"].as_f64().map_or_else(String::new, |plt| format!(", Plt {plt:.2}"));
            self.line("flicker", &format!("Pst {pst:.2}{plt}"));
        }
    }

    /// The voltage between the thresholds of dip and swell.
    fn bar(&self, volts: f64, nominal: &Value) -> String {
        let thresholds = (
            nominal["voltage"].as_f64(),
            nominal["dip_threshold"].as_f64(),
            nominal["swell_threshold"].as_f64(),
        );
        let (Some(reference), Some(low), Some(high)) = thresholds else { return String::new() };
        let percent = volts / reference * 100.0;
        let share = ((percent - low) / (high - low)).clamp(0.0, 1.0);
        let mark = (share * (BAR - 1) as f64).round() as usize;
        let bar: String = (0..BAR).map(|at| if at == mark { '|' } else { '-' }).collect();
        let colour = if (low..=high).contains(&percent) { Colour::Good } else { Colour::Bad };
        format!("{low:.0} % {} {high:.0} %", self.paint(colour, &bar))
    }

    /// Characteristics with a verdict; the harmonics together, by the worst.
    fn lights(&mut self, lights: &Value) {
        const WORST_FIRST: [(&str, Colour); 3] =
            [("red", Colour::Bad), ("yellow", Colour::Doubtful), ("green", Colour::Good)];
        let rows = || {
            lights
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| Some((row["characteristic"].as_str()?, row["light"].as_str()?)))
        };
        let is_order = |name: &str| name.strip_prefix('h').is_some_and(|order| order.parse::<u8>().is_ok());
        let mut parts = Vec::new();
        for (light, colour) in WORST_FIRST {
            let mut names: Vec<&str> =
                rows().filter(|&(name, its)| its == light && !is_order(name)).map(|(name, _)| name).collect();
            let orders: Vec<&str> =
                rows().filter(|&(name, its)| its == light && is_order(name)).map(|(name, _)| name).collect();
            match light {
                "green" if !orders.is_empty() => names.push("harmonics"),
                _ => names.extend(orders),
            }
            if !names.is_empty() {
                parts.push(format!("{} {}", self.paint(colour, light), names.join(" ")));
            }
        }
        if rows().next().is_some() {
            let line = if parts.is_empty() {
                "a verdict needs a day of values".to_owned()
            } else {
                parts.join("; ")
            };
            self.line("EN 50160", &line);
        }
    }

    fn events(&mut self, status: &Value) {
        self.lights(&status["lights"]);
        self.text.push('\n');
        let counts = status["events"].as_object();
        let listed: Vec<String> = counts
            .into_iter()
            .flatten()
            .filter_map(|(kind, count)| {
                count.as_u64().filter(|&count| count > 0).map(|count| plural(kind, count))
            })
            .collect();
        let line = if listed.is_empty() { "none since the start".to_owned() } else { listed.join(", ") };
        self.line("events", &line);
        let rows = |key: &str| status[key].as_array().into_iter().flatten();
        for event in rows("open_events") {
            let row = self.paint(Colour::Bad, &events::row(event));
            self.line("", &row);
        }
        for event in rows("last_events") {
            self.line("", &events::row(event));
        }
    }

    fn logs(&mut self, logs: &Value) {
        for key in ["measurement_path", "event_path"] {
            if let Some(path) = logs[key].as_str() {
                self.line(if key == "event_path" { "" } else { "logs" }, path);
            }
        }
        if logs["volatile"] == true {
            let remark = format!("{} {}", word(&logs["record_path"]), crate::storage::VOLATILE);
            let remark = self.paint(Colour::Doubtful, &remark);
            self.line("", &remark);
        }
        if let Some(error) = logs["last_error"].as_str() {
            let error = self.paint(Colour::Bad, error);
            self.line("", &error);
        }
    }

    fn alerts(&mut self, alerts: &Value) {
        let Some(sinks) = alerts.as_object() else { return };
        let mut title = "alerts";
        for (sink, state) in sinks.iter().filter(|(_, state)| state.is_object()) {
            let count = |key: &str| state[key].as_u64().unwrap_or_default();
            let mut line = format!("{sink:<6} {} delivered, {} queued", count("delivered"), count("queued"));
            if count("dropped") > 0 {
                let dropped = self.paint(Colour::Doubtful, &format!("{} dropped", count("dropped")));
                let _ = write!(line, ", {dropped}");
            }
            if let Some(error) = state["last_error"].as_str() {
                let error = self.paint(Colour::Bad, error);
                let _ = write!(line, "; {error}");
            }
            self.line(title, &line);
            title = "";
        }
        for link in alerts.get("connections").and_then(Value::as_array).into_iter().flatten() {
            let state = match link["error"].as_str() {
                _ if link["connected"] == true => self.paint(Colour::Good, "connected"),
                Some(error) => self.paint(Colour::Bad, error),
                None => self.paint(Colour::Doubtful, "not connected yet"),
            };
            self.line(title, &format!("broker {}: {state} ({})", word(&link["broker"]), word(&link["role"])));
            title = "";
        }
    }

    fn line(&mut self, title: &str, text: &str) {
        let _ = writeln!(self.text, "{title:<14} {text}");
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8)
        } else {
            text.to_owned()
        }
    }
}

fn plural(kind: &str, count: u64) -> String {
    format!("{count} {kind}{}", if count == 1 { "" } else { "s" })
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_reads_well_without_colours() {
        let status = json!({
            "version": "0.1.0",
            "uptime": 200,
            "configuration": { "state": "kept", "problems": [
                { "file": "powquty", "section": "powquty", "option": "swell_threshold", "value": "high",
                  "reason": "expected a number" } ] },
            "device": { "id": "my_WeSense", "host": "router" },
            "source": { "kind": "simulator", "state": "running", "rate": 10240.0, "samples": 2_048_000,
                        "faults": { "missing_samples": 0 } },
            "values": { "voltage": 230.123, "frequency": 50.0021, "thd": 1.234, "pst": null },
            "nominal": { "voltage": 230.0, "dip_threshold": 90.0, "swell_threshold": 110.0 },
            "events": { "dip": 2, "swell": 1, "interruption": 0 },
            "logs": { "measurement_path": "/tmp/powquty.log", "event_path": "/tmp/powquty_event.log" },
            "last_events": [ { "kind": "dip", "start": "2026-11-20T16:15:32.546Z", "duration": 0.13, "class": "C1",
                "extreme_voltage": 115.0, "extreme_percent": 50.0, "open": false } ],
            "alerts": { "slack": { "queued": 1, "delivered": 2, "dropped": 0, "last_error": "timed out" },
                "connections": [ { "role": "telemetry", "broker": "localhost:1883", "connected": true } ] },
        });
        let expected = "\
powqutyd 0.1.0, up 3 min 20 s, my_WeSense on router

configuration  NOT applied, the last good one stays in force
               powquty:powquty.swell_threshold: high: expected a number
source         simulator running, 10240 Hz, 3 min 20 s of signal

voltage          230.12 V   90 % ----------------|---------------- 110 %
frequency        50.002 Hz
THD                1.23 %

events         2 dips, 1 swell
               2026-11-20 16:15:32.546Z  dip                130 ms    115.0 V  50.0 %  C1
logs           /tmp/powquty.log
               /tmp/powquty_event.log
alerts         slack  2 delivered, 1 queued; timed out
               broker localhost:1883: connected (telemetry)
";
        assert_eq!(text(&status, false), expected);
    }

    #[test]
    fn an_unconfigured_daemon_has_a_screen_too() {
        let status = json!({ "version": "0.1.0", "uptime": 1, "configuration": { "state": "unconfigured",
            "problems": [ { "file": "/etc/config/powquty", "section": "", "reason": "no such file" } ] } });
        let screen = text(&status, true);
        assert!(screen.contains("/etc/config/powquty: no such file"), "{screen}");
        assert!(screen.contains("not measured yet"), "{screen}");
    }
}
