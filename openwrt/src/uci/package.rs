// SPDX-License-Identifier: Apache-2.0
//! A configuration in memory: packages, sections, options.

use super::lex::{self, is_type};
use super::{parse, Cause, Error};
use crate::small_map::SmallMap;

/// One configuration file, `/etc/config/<name>`, with its sections in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub(super) name: String,
    pub(super) sections: Vec<Section>,
    /// Sections ever added, removed ones included: what libuci counts made-up names by.
    pub(super) added: usize,
}

/// One `config` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub(super) name: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) anonymous: bool,
    pub(super) options: Vec<Opt>,
    /// Position among the sections of its type.
    pub(super) ordinal: usize,
}

/// One option of a section: a single value or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    pub(super) name: Box<str>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Single(Text),
    /// May be empty: a delta can remove the last item.
    List(Vec<Text>),
}

/// A value. UCI values are bytes and almost always UTF-8; one that is not keeps its bytes beside the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    lossy: Box<str>,
    /// Only of a value that is not UTF-8.
    raw: Option<Box<[u8]>>,
}

impl Package {
    /// Reads a configuration from memory.
    ///
    /// # Errors
    /// [`Error`] with the first line that UCI does not allow.
    pub fn parse(name: &str, text: &[u8]) -> Result<Package, Error> {
        parse::parse(name, text).map_err(|cause| Error::new(name, cause))
    }

    /// Lays uncommitted changes over it, the content of `/tmp/.uci/<package>`; returns how many of its lines could not be
    /// applied and were left out.
    pub fn overlay(&mut self, delta: &[u8]) -> usize {
        super::delta::overlay(self, delta).skipped
    }

    pub(super) fn empty(name: &str) -> Result<Package, Cause> {
        if !lex::is_package(name) {
            return Err(Cause::BadName);
        }
        Ok(Package { name: name.to_owned(), sections: Vec::new(), added: 0 })
    }

    /// The package's name, `powquty` of `/etc/config/powquty`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All sections in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The sections of one type, in order.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> + 'a {
        self.sections.iter().filter(move |section| section.kind() == kind)
    }

    /// The section of that name. Besides plain names: `@type[0]`, `@type[-1]` (from the end), and `@[2]` for
    /// a section of any type.
    pub fn section(&self, name: &str) -> Option<&Section> {
        let Some(extended) = name.strip_prefix('@') else {
            return self.sections.iter().find(|section| section.name() == name);
        };
        let (kind, index) = extended.split_once('[')?;
        let index = index.strip_suffix(']')?;
        if index.contains(']') || !(kind.is_empty() || is_type(kind.as_bytes())) {
            return None;
        }
        let mut matching = self.sections.iter().filter(|section| kind.is_empty() || section.kind() == kind);
        let index: i32 = if index.is_empty() { 0 } else { index.trim_start().parse().ok()? };
        if index >= 0 {
            matching.nth(usize::try_from(index).ok()?)
        } else {
            matching.nth_back(usize::try_from(-1 - index).ok()?)
        }
    }

    /// Numbers the sections of each type, for [`Section::label`].
    pub(super) fn count_kinds(&mut self) {
        let mut kinds = SmallMap::<Box<str>, usize>::new();
        for section in &mut self.sections {
            section.ordinal = kinds.get(&section.kind).copied().unwrap_or(0);
            kinds.insert(section.kind.clone(), section.ordinal + 1);
        }
    }
}

impl Section {
    /// The name; of an anonymous section the one libuci makes up, `cfg` and digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the name was made up.
    pub fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    /// The type, the word after `config`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name for people, valid in `uci get` too: the name, or `@type[n]` where it is made up.
    pub fn label(&self) -> String {
        if self.anonymous {
            format!("@{}[{}]", self.kind, self.ordinal)
        } else {
            self.name.to_string()
        }
    }

    /// The options in order.
    pub fn options(&self) -> &[Opt] {
        &self.options
    }

    /// The option of that name.
    pub fn option(&self, name: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.name() == name)
    }

    /// The value of an option, the last one of a list.
    pub fn get(&self, option: &str) -> Option<&str> {
        self.option(option)?.values().last().map(Text::as_str)
    }

    /// The values of a list; of a single option that one.
    pub fn list(&self, option: &str) -> Vec<&str> {
        self.option(option).map_or_else(Vec::new, |found| found.values().iter().map(Text::as_str).collect())
    }
}

impl Opt {
    /// The option's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was written with `list`.
    pub fn is_list(&self) -> bool {
        matches!(self.value, Value::List(_))
    }

    /// The values in order, one if it is no list.
    pub fn values(&self) -> &[Text] {
        match &self.value {
            Value::Single(value) => std::slice::from_ref(value),
            Value::List(values) => values,
        }
    }
}

impl Text {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let lossy = String::from_utf8_lossy(bytes);
        let raw = (!matches!(lossy, std::borrow::Cow::Borrowed(_))).then(|| bytes.into());
        Text { lossy: lossy.into(), raw }
    }

    /// The value as text; bytes that are not UTF-8 stand as U+FFFD.
    pub fn as_str(&self) -> &str {
        &self.lossy
    }

    /// The value as it was written.
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.lossy.as_bytes())
    }

    /// Whether the value is UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.raw.is_none()
    }
}
