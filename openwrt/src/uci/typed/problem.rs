// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a configuration, one mistake at a time.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::uci::{Error, Package, Section};

/// What stands for a secret wherever it could be seen.
const MASK: &str = "***";

/// One mistake in a configuration. Prints as `file:section.option: value: reason` on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Package or file name.
    pub file: String,
    /// Name of the section, `@type[n]` for an anonymous one; empty when the file as a whole is meant.
    pub section: String,
    /// Empty when the section as a whole is meant.
    pub option: String,
    /// The value as it was written; `***` for a secret, `None` where there is none.
    pub value: Option<String>,
    /// What is wrong and what was expected.
    pub reason: String,
    /// Whether the configuration can be used as it was meant.
    pub severity: ProblemSeverity,
}

/// How much a [`Problem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemSeverity {
    /// The option is used as written, or has no effect at all.
    Warning,
    /// The value is not used.
    Error,
}

/// All mistakes of a configuration in the order they were found. At most 200 are kept; how many more
/// there were is the last entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    /// Beyond [`Problems::LIMIT`].
    omitted: usize,
}

/// A password or key: masked wherever it is printed or serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Problem {
    /// A file that cannot be read at all.
    pub fn unreadable(error: &Error) -> Self {
        Problem {
            file: error.file().to_owned(),
            section: String::new(),
            option: String::new(),
            value: None,
            reason: error.reason(),
            severity: ProblemSeverity::Error,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        let separator = if self.section.is_empty() || self.option.is_empty() { "" } else { "." };
        if !(self.section.is_empty() && self.option.is_empty()) {
            write!(f, ":{}{separator}{}", self.section, self.option)?;
        }
        if let Some(value) = &self.value {
            write!(f, ": {}", one_line(value))?;
        }
        write!(f, ": {}", one_line(&self.reason))
    }
}

/// `{file, section, option, value, reason}`, as `status` and LuCI show it.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 5)?;
        fields.serialize_field("file", &self.file)?;
        fields.serialize_field("section", &self.section)?;
        fields.serialize_field("option", &self.option)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("reason", &self.reason)?;
        fields.end()
    }
}

impl Problems {
    const LIMIT: usize = 200;

    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, unless the very same one is there already.
    pub fn push(&mut self, problem: Problem) {
        if self.kept.contains(&problem) {
            return;
        }
        if self.kept.len() < Self::LIMIT {
            self.kept.push(problem);
            return;
        }
        self.omitted += 1;
        if let Some(last) = self.kept.last_mut() {
            *last = Problem {
                section: String::new(),
                option: String::new(),
                value: None,
                reason: format!("{} more problems", self.omitted + 1),
                severity: last.severity.max(problem.severity),
                file: problem.file,
            };
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.kept.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether any value could not be used.
    pub fn has_errors(&self) -> bool {
        self.kept.iter().any(|problem| problem.severity == ProblemSeverity::Error)
    }

    /// The section a daemon cannot do without: the one of that name, or else the first of that type. Without one
    /// there is a problem, which says so of an empty file too.
    pub fn require<'p>(&mut self, package: &'p Package, kind: &str, name: &str) -> Option<&'p Section> {
        let mut of_kind = package.sections().iter().filter(|section| section.kind() == kind);
        let found = of_kind.clone().find(|section| section.name() == name).or_else(|| of_kind.next());
        if found.is_none() {
            let what = if package.sections().is_empty() { "the file is empty" } else { "no such section" };
            self.push(Problem {
                file: package.name().to_owned(),
                section: name.to_owned(),
                option: String::new(),
                value: None,
                reason: format!("{what}, expected a section: config {kind} '{name}'"),
                severity: ProblemSeverity::Error,
            });
        }
        found
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kept.serialize(serializer)
    }
}

impl Secret {
    /// Guards a secret that did not come from an option.
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    /// The secret itself, for the peer it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

pub(super) fn masked() -> String {
    MASK.to_owned()
}

/// Control characters escaped, and nothing endless.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for (index, c) in text.chars().enumerate() {
        if index == LONGEST {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
