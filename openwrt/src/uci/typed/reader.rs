// SPDX-License-Identifier: Apache-2.0
//! Reading one section option by option.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{masked, Problem, ProblemSeverity, Problems, Secret};
use super::value::{
    describe_range, format_duration, is_host, nearest, parse_duration, parse_flag, parse_number, Integer,
};
use crate::uci::{Opt, Section, Text};

/// Reads the options of one section (or, without one, only the defaults) and notes every problem.
///
/// A missing option takes its default silently, an unusable one loudly. Blanks around numbers, durations, flags
/// and choices are ignored. Call [`finish`](Self::finish) in the end, unless the section belongs to
/// another program and only a few of its options are of interest.
#[derive(Debug)]
#[must_use = "finish() reports the options that nobody asked for"]
pub struct Reader<'a> {
    file: String,
    label: String,
    section: Option<&'a Section>,
    problems: &'a mut Problems,
    asked: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// `package_file` is what problems call the file, for instance `powquty`.
    pub fn new(package_file: &str, section: Option<&'a Section>, problems: &'a mut Problems) -> Self {
        Reader {
            file: package_file.to_owned(),
            label: section.map(Section::label).unwrap_or_default(),
            section,
            problems,
            asked: BTreeSet::new(),
            secrets: BTreeSet::new(),
        }
    }

    /// The section that is read.
    pub fn section(&self) -> Option<&'a Section> {
        self.section
    }

    /// `1 on yes true enabled` or `0 off no false disabled`.
    pub fn flag(&mut self, option: &str, default: bool) -> bool {
        self.optional_flag(option).unwrap_or(default)
    }

    /// As [`flag`](Self::flag), for options whose default depends on others.
    pub fn optional_flag(&mut self, option: &str) -> Option<bool> {
        self.parsed(option, |text| {
            parse_flag(text.trim())
                .ok_or_else(|| "expected 1/0, on/off, yes/no, true/false or enabled/disabled".into())
        })
    }

    /// An integer, decimal or `0x…`.
    pub fn integer<T: Integer>(&mut self, option: &str, range: RangeInclusive<T>, default: T) -> T {
        self.optional_integer(option, range).unwrap_or(default)
    }

    /// As [`integer`](Self::integer), for options without a default.
    pub fn optional_integer<T: Integer>(&mut self, option: &str, range: RangeInclusive<T>) -> Option<T> {
        self.parsed(option, |text| {
            T::parse(text.trim())
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("expected an integer from {} to {}", range.start(), range.end()))
        })
    }

    /// A decimal number, in the unit the option is documented with.
    pub fn number(&mut self, option: &str, range: RangeInclusive<f64>, default: f64) -> f64 {
        self.optional_number(option, range).unwrap_or(default)
    }

    /// As [`number`](Self::number), for options without a default.
    pub fn optional_number(&mut self, option: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.parsed(option, |text| {
            parse_number(text.trim())
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("expected a number{}", describe_range(&range)))
        })
    }

    /// A duration: `5` (seconds), `250ms`, `5s`, `10m`, `2h`, `7d`.
    pub fn duration(&mut self, option: &str, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        self.optional_duration(option, range).unwrap_or(default)
    }

    /// As [`duration`](Self::duration), for options without a default.
    pub fn optional_duration(&mut self, option: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.parsed(option, |text| {
            let Some(duration) = parse_duration(text.trim()) else {
                return Err("expected a duration such as 250ms, 5s, 10m, 2h or 7d".into());
            };
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (start, end) = (format_duration(*range.start()), format_duration(*range.end()));
            Err(format!("expected a duration from {start} to {end}"))
        })
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, option: &str, choices: &[(&str, T)], default: T) -> T {
        self.optional_choice(option, choices).unwrap_or(default)
    }

    /// As [`choice`](Self::choice), for options without a default.
    pub fn optional_choice<T: Copy>(&mut self, option: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(option, |text| {
            let text = text.trim();
            if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
                return Ok(*choice);
            }
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = did_you_mean(text, words.iter().copied());
            Err(format!("expected one of {}{hint}", words.join(", ")))
        })
    }

    /// Any text.
    pub fn text(&mut self, option: &str, default: &str) -> String {
        self.optional_text(option).unwrap_or_else(|| default.to_owned())
    }

    /// As [`text`](Self::text), for options without a default.
    pub fn optional_text(&mut self, option: &str) -> Option<String> {
        self.parsed(option, |text| Ok(text.to_owned()))
    }

    /// A password or key. Its value appears in no problem.
    pub fn secret(&mut self, option: &str) -> Option<Secret> {
        self.secrets.insert(option.to_owned());
        self.parsed(option, |text| Ok(Secret::new(text)))
    }

    /// A host name or an IP address.
    pub fn host(&mut self, option: &str, default: &str) -> String {
        self.optional_host(option).unwrap_or_else(|| default.to_owned())
    }

    /// As [`host`](Self::host), for options without a default.
    pub fn optional_host(&mut self, option: &str) -> Option<String> {
        self.parsed(option, |text| {
            let text = text.trim();
            is_host(text)
                .then(|| text.to_owned())
                .ok_or_else(|| "expected a host name or an IP address".into())
        })
    }

    /// A TCP or UDP port, 1 to 65535.
    pub fn port(&mut self, option: &str, default: u16) -> u16 {
        self.optional_port(option).unwrap_or(default)
    }

    /// As [`port`](Self::port), for options without a default.
    pub fn optional_port(&mut self, option: &str) -> Option<u16> {
        self.parsed(option, |text| {
            text.trim()
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| "expected a port from 1 to 65535".into())
        })
    }

    /// An absolute path; whether it exists is not looked at.
    pub fn path(&mut self, option: &str, default: &str) -> PathBuf {
        self.optional_path(option).unwrap_or_else(|| default.into())
    }

    /// As [`path`](Self::path), for options without a default.
    pub fn optional_path(&mut self, option: &str) -> Option<PathBuf> {
        self.parsed(option, |text| {
            if text.starts_with('/') {
                Ok(text.into())
            } else {
                Err("expected an absolute path (starting with /)".into())
            }
        })
    }

    /// All values of a list; a single option is a list of one. Empty values are left out.
    pub fn list(&mut self, option: &str) -> Vec<String> {
        self.list_of(option, |text| Ok(text.to_owned()))
    }

    /// The values of a list, each read by `parse`; one that it refuses (with what it expected) is left out.
    pub fn list_of<T>(&mut self, option: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(found) = self.ask(option) else { return Vec::new() };
        found.values().iter().filter_map(|value| self.value(option, value, &parse)).collect()
    }

    /// A single value read by `parse`, which says what it expected where it refuses.
    pub fn parsed<T>(&mut self, option: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let found = self.ask(option)?;
        match found.values() {
            [] => None,
            [value] => self.value(option, value, &parse),
            values => {
                let reason = format!("expected one value (option), found a list of {}", values.len());
                self.problem(option, None, reason);
                None
            }
        }
    }

    /// Whether the section has the option. Does not count as asking for it.
    pub fn has(&self, option: &str) -> bool {
        self.section.is_some_and(|section| section.option(option).is_some())
    }

    /// Options that are known but of no effect here, and so not reported by [`finish`](Self::finish).
    pub fn ignore(&mut self, options: &[&str]) {
        self.asked.extend(options.iter().map(|&option| option.to_owned()));
    }

    /// Notes an error, for instance of a check across options.
    pub fn problem(&mut self, option: &str, value: Option<&str>, reason: impl Into<String>) {
        self.note(option, value, reason.into(), ProblemSeverity::Error);
    }

    /// Notes a warning: the value is used, but is perhaps not what was meant.
    pub fn warning(&mut self, option: &str, value: Option<&str>, reason: impl Into<String>) {
        self.note(option, value, reason.into(), ProblemSeverity::Warning);
    }

    /// Warns of every option that was not asked for. Their values are not shown: a misspelt password is one too.
    pub fn finish(mut self) {
        let Some(section) = self.section else { return };
        for option in section.options().iter().map(Opt::name) {
            if self.asked.contains(option) {
                continue;
            }
            let unset = self.asked.iter().map(String::as_str).filter(|name| section.option(name).is_none());
            let reason = format!("unknown option, ignored{}", did_you_mean(option, unset));
            self.note(option, None, reason, ProblemSeverity::Warning);
        }
    }

    fn ask(&mut self, option: &str) -> Option<&'a Opt> {
        if !self.asked.contains(option) {
            self.asked.insert(option.to_owned());
        }
        self.section?.option(option)
    }

    fn value<T>(
        &mut self,
        option: &str,
        value: &Text,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if value.as_str().is_empty() {
            return None;
        }
        let parsed =
            if value.is_utf8() { parse(value.as_str()) } else { Err("expected text in UTF-8".into()) };
        parsed.map_err(|reason| self.problem(option, Some(value.as_str()), reason)).ok()
    }

    fn note(&mut self, option: &str, value: Option<&str>, reason: String, severity: ProblemSeverity) {
        let secret = self.secrets.contains(option);
        let value = value.map(|value| if secret { masked() } else { value.to_owned() });
        let (file, section) = (self.file.clone(), self.label.clone());
        self.problems.push(Problem { file, section, option: option.to_owned(), value, reason, severity });
    }
}

fn did_you_mean<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    nearest(word, candidates).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
