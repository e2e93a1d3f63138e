// SPDX-License-Identifier: Apache-2.0
//! What the changes of UCI do to a package in memory, in libuci's order of options and sections.

use super::package::{Opt, Package, Section, Text, Value};

impl Package {
    /// The first section of that name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|section| section.name() == name)
    }

    /// Adds a section at the end and makes up its name, from its type and how many sections were ever added.
    pub(super) fn add_anonymous(&mut self, kind: &str) -> usize {
        let name = format!("cfg{:02x}{:04x}", self.added + 1, djb_hash(kind) & 0xffff);
        let index = self.add_named(kind, "");
        let section = &mut self.sections[index];
        section.name = name.into();
        section.anonymous = true;
        index
    }

    /// Adds a section at the end, whether or not there is one of that name.
    pub(super) fn add_named(&mut self, kind: &str, name: &str) -> usize {
        self.added += 1;
        self.sections.push(Section {
            name: name.into(),
            kind: kind.into(),
            anonymous: false,
            options: Vec::new(),
            ordinal: 0,
        });
        self.sections.len() - 1
    }

    /// Moves a section to a position counted without it; behind the last one means last.
    pub(super) fn reorder(&mut self, index: usize, position: usize) {
        let section = self.sections.remove(index);
        self.sections.insert(position.min(self.sections.len()), section);
    }
}

impl Section {
    pub(super) fn position(&self, option: &str) -> Option<usize> {
        self.options.iter().position(|candidate| candidate.name() == option)
    }

    /// Sets a single value. One that differs goes to the end of the section, the same one stays where it is.
    pub(super) fn set(&mut self, option: &str, value: Text) {
        if let Some(index) = self.position(option) {
            match &self.options[index].value {
                Value::Single(old) if *old == value => return,
                Value::Single(_) | Value::List(_) => self.options.remove(index),
            };
        }
        self.options.push(Opt { name: option.into(), value: Value::Single(value) });
    }

    /// Appends to a list. A single value becomes the first item of a list at the end of the section.
    pub(super) fn add_to_list(&mut self, option: &str, value: Text) {
        let Some(index) = self.position(option) else {
            self.options.push(Opt { name: option.into(), value: Value::List(vec![value]) });
            return;
        };
        if let Value::List(values) = &mut self.options[index].value {
            values.push(value);
            return;
        }
        let old = self.options.remove(index);
        let values = old.values().iter().cloned().chain([value]).collect();
        self.options.push(Opt { name: old.name, value: Value::List(values) });
    }

    /// Takes every item that equals the value out of a list; a single value stays.
    pub(super) fn remove_from_list(&mut self, option: &str, value: &[u8]) {
        let Some(index) = self.position(option) else { return };
        if let Value::List(values) = &mut self.options[index].value {
            values.retain(|item| item.as_bytes() != value);
        }
    }
}

/// Bernstein's hash (h · 33 + c, from 5381); libuci keeps 31 bits and uses the lowest 16.
fn djb_hash(text: &str) -> u32 {
    text.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}
