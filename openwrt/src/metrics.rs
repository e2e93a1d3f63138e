// SPDX-License-Identifier: Apache-2.0
//! Metrics in the Prometheus text format 0.0.4, for the textfile collector of the node exporter.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// Where OpenWrt's `prometheus-node-exporter-lua-textfile` looks.
pub const DIRECTORY: &str = "/var/prometheus";

/// One scrape's worth of metrics, built anew each time it is written.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<FamilyText>,
}

/// What a metric's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only, from 0 at the start of the daemon; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric to add samples to.
#[derive(Debug)]
pub struct Family<'a>(&'a mut FamilyText);

#[derive(Debug)]
struct FamilyText {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Labels as written, and value.
    samples: Vec<(String, String)>,
}

/// What a sample may be; integers are written exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Integer(i128),
    /// Any other.
    Real(f64),
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a metric, or goes on with one of this name. A metric without samples is not written.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        debug_assert!(is_name(name) && (kind == Kind::Counter) == name.ends_with("_total"), "metric {name}");
        let index = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(FamilyText { name, kind, help, samples: Vec::new() });
            self.families.len() - 1
        });
        Family(&mut self.families[index])
    }

    /// The page as it is scraped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for FamilyText { name, kind, help, samples } in &self.families {
            if samples.is_empty() {
                continue;
            }
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let help = escape(help, false);
            // Writing to a String cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }

    /// Replaces `<directory>/<daemon>.prom` in one step, so that no scrape sees half a page. Writes nothing
    /// and gives `false` where the directory does not exist: then nobody scrapes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, directory: &Path, daemon: &str) -> io::Result<bool> {
        if !directory.is_dir() {
            return Ok(false);
        }
        // The collector takes `*.prom`; a leftover of a power loss must not be one.
        let unfinished = directory.join(format!(".{daemon}.prom.new"));
        fs::write(&unfinished, self.text())?;
        fs::rename(&unfinished, directory.join(format!("{daemon}.prom"))).inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })?;
        Ok(true)
    }
}

impl Family<'_> {
    /// Adds a sample; one with the same labels is replaced, since a series may appear once.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) -> &mut Self {
        debug_assert!(labels.iter().all(|(name, _)| is_name(name) && !name.contains(':')), "{labels:?}");
        let labels = written(labels);
        let value = value.into().written();
        match self.0.samples.iter_mut().find(|(known, _)| *known == labels) {
            Some(sample) => sample.1 = value,
            None => self.0.samples.push((labels, value)),
        }
        self
    }

    /// Adds a sample if its value is known; an unknown value is no series at all.
    pub fn sample_if_known(
        &mut self,
        labels: &[(&str, &str)],
        value: Option<impl Into<Number>>,
    ) -> &mut Self {
        match value {
            Some(value) => self.sample(labels, value),
            None => self,
        }
    }
}

impl Number {
    fn written(self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Real(value) if value.is_nan() => "NaN".into(),
            Self::Real(value) if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.into(),
            Self::Real(value) => value.to_string(),
        }
    }
}

macro_rules! number_from {
    ($variant:ident as $wide:ty: $($narrow:ty),+) => {
        $(impl From<$narrow> for Number {
            fn from(value: $narrow) -> Self {
                Self::$variant(<$wide>::from(value))
            }
        })+
    };
}
number_from!(Integer as i128: u8, u16, u32, u64, i8, i16, i32, i64, bool);
number_from!(Real as f64: f32, f64);

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Integer(value as i128)
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// `{a="1",b="2"}`, or nothing for no labels.
fn written(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let labels: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value, true))).collect();
    format!("{{{}}}", labels.join(","))
}

/// Backslash and line feed are escaped in help texts, in label values the double quote as well.
fn escape(text: &str, quote: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quote => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut page = Page::new();
        page.family("powquty_voltage_volts", Kind::Gauge, "Voltage, 10-cycle RMS").sample(&[], 230.25);
        page.family("powquty_events_total", Kind::Counter, "Events by kind")
            .sample(&[("kind", "dip")], 3u32)
            .sample(&[("kind", "swell")], u64::MAX);
        page.family("powquty_thd_percent", Kind::Gauge, "never known").sample_if_known(&[], None::<f64>);
        assert_eq!(
            page.text(),
            "# HELP powquty_voltage_volts Voltage, 10-cycle RMS\n\
             # TYPE powquty_voltage_volts gauge\n\
             powquty_voltage_volts 230.25\n\
             # HELP powquty_events_total Events by kind\n\
             # TYPE powquty_events_total counter\n\
             powquty_events_total{kind=\"dip\"} 3\n\
             powquty_events_total{kind=\"swell\"} 18446744073709551615\n"
        );
    }

    #[test]
    fn a_family_is_declared_once_and_a_series_appears_once() {
        let mut page = Page::new();
        for value in [1, 2] {
            page.family("dynapoint_rule_state", Kind::Gauge, "1 online")
                .sample(&[("rule", "internet")], value);
        }
        let text = page.text();
        assert_eq!(text.matches("# TYPE").count(), 1);
        assert!(
            text.ends_with("\ndynapoint_rule_state{rule=\"internet\"} 2\n") && text.lines().count() == 3,
            "{text}"
        );
    }

    #[test]
    fn labels_and_special_values_are_written_by_the_rules() {
        let mut page = Page::new();
        page.family("x", Kind::Gauge, "a \\ and\nb")
            .sample(&[("name", "a\"b\\c\nd"), ("other", "ü")], f64::NAN)
            .sample(&[("name", "up")], f64::INFINITY)
            .sample(&[("name", "down")], f64::NEG_INFINITY)
            .sample(&[("name", "small")], 1e-7)
            .sample(&[("name", "flag")], true);
        assert_eq!(
            page.text(),
            "# HELP x a \\\\ and\\nb\n# TYPE x gauge\n\
             x{name=\"a\\\"b\\\\c\\nd\",other=\"ü\"} NaN\n\
             x{name=\"up\"} +Inf\nx{name=\"down\"} -Inf\nx{name=\"small\"} 0.0000001\nx{name=\"flag\"} 1\n"
        );
    }

    #[test]
    fn the_file_is_replaced_whole_and_only_where_somebody_collects() {
        let dir = tempfile::tempdir().unwrap();
        let mut page = Page::new();
        page.family("x", Kind::Gauge, "x").sample(&[], 1);
        assert!(!page.write(&dir.path().join("absent"), "powqutyd").unwrap());
        assert!(page.write(dir.path(), "powqutyd").unwrap());
        page.family("x", Kind::Gauge, "x").sample(&[], 2);
        assert!(page.write(dir.path(), "powqutyd").unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("powqutyd.prom")).unwrap(), page.text());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::create_dir(dir.path().join("other.prom")).unwrap();
        assert!(page.write(dir.path(), "other").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing unfinished stays");
    }
}
