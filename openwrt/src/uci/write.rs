// SPDX-License-Identifier: Apache-2.0
//! What a change of configuration puts into a delta: decided here, on a package in memory, without any file.

use std::fmt;
use std::path::PathBuf;

use super::delta::{self, is_text, Target};
use super::lex::{is_name, is_type, Lexer};
use super::package::{Package, Section, Value};
use super::Error;

/// One line of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub command: Command,
    /// The section's name.
    pub section: String,
    /// The option's name; none where the section itself is meant.
    pub option: Option<String>,
    /// The value, the type or the new name; none for most removals.
    pub value: Option<Vec<u8>>,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Adds an anonymous section; the value is its type.
    Add,
    /// Sets an option, or the type of a section, which it creates.
    Set,
    /// Removes a section, an option, or of a list the item with the index in the value.
    Remove,
    /// Gives a section or an option the name in the value.
    Rename,
    /// Moves a section to the position in the value.
    Reorder,
    /// Appends to a list.
    ListAdd,
    /// Takes equal items out of a list.
    ListRemove,
}

/// Why a change was refused or could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The package cannot be read.
    Read(Error),
    /// There is no such section or option.
    NotFound {
        /// `package.section.option`, as far as it was given.
        what: String,
    },
    /// A name or a section type that UCI does not allow.
    BadName {
        /// The name.
        name: String,
    },
    /// A value with control characters.
    BadValue,
    /// Another program keeps the file locked.
    Locked(PathBuf),
    /// The system refused.
    Io(PathBuf, std::io::Error),
}

impl Package {
    /// What [`Command::Add`] means here: the change and the name that the section will have.
    pub(super) fn plan_add(&self, kind: &str) -> Result<Change, WriteError> {
        check_kind(kind)?;
        let mut scratch = self.clone();
        let index = scratch.add_anonymous(kind);
        let section = scratch.sections[index].name().to_owned();
        Ok(Change { command: Command::Add, section, option: None, value: Some(kind.into()) })
    }

    /// Sets an option or a section's type; an empty value removes. `None` where nothing changes.
    pub(super) fn plan_set(
        &self,
        section: &str,
        option: Option<&str>,
        value: &[u8],
    ) -> Result<Option<Change>, WriteError> {
        let found = self.section(section);
        let set = |section: &str| Change {
            command: Command::Set,
            section: section.to_owned(),
            option: option.map(str::to_owned),
            value: Some(value.to_owned()),
        };
        let Some(name) = option else {
            if value.is_empty() {
                return Ok(found.map(|found| remove(found.name(), None)));
            }
            check_kind(&String::from_utf8_lossy(value))?;
            // libuci notes this even where the type stays the same.
            return match found {
                Some(found) => Ok(Some(set(found.name()))),
                None => check_name(section).map(|()| Some(set(section))),
            };
        };
        check_name(name)?;
        check_value(value)?;
        let found = found.ok_or_else(|| self.not_found(section, None))?;
        let old = found.position(name).map(|index| &found.options[index].value);
        Ok(match old {
            None if value.is_empty() => None,
            Some(_) if value.is_empty() => Some(remove(found.name(), Some(name))),
            Some(Value::Single(old)) if old.as_bytes() == value => None,
            _ => Some(set(found.name())),
        })
    }

    /// Appends to a list; a single value becomes the first item of one.
    pub(super) fn plan_add_list(
        &self,
        section: &str,
        option: &str,
        value: &[u8],
    ) -> Result<Change, WriteError> {
        check_name(option)?;
        check_value(value)?;
        let found = self.section(section).ok_or_else(|| self.not_found(section, None))?;
        Ok(list_change(Command::ListAdd, found, option, value))
    }

    /// Takes equal items out of a list. `None` where there is no list.
    pub(super) fn plan_remove_list(
        &self,
        section: &str,
        option: &str,
        value: &[u8],
    ) -> Result<Option<Change>, WriteError> {
        check_name(option)?;
        check_value(value)?;
        let found = self.section(section).ok_or_else(|| self.not_found(section, None))?;
        let list = found.option(option).filter(|option| option.is_list());
        Ok(list.map(|_| list_change(Command::ListRemove, found, option, value)))
    }

    /// Removes a section, an option, or an item of a list; an index behind its end changes nothing.
    pub(super) fn plan_remove(
        &self,
        section: &str,
        option: Option<&str>,
        item: Option<usize>,
    ) -> Result<Option<Change>, WriteError> {
        let found = self.section(section).ok_or_else(|| self.not_found(section, None))?;
        let Some(name) = option else { return Ok(Some(remove(found.name(), None))) };
        let option = found.option(name).ok_or_else(|| self.not_found(section, Some(name)))?;
        let mut change = remove(found.name(), Some(name));
        match item {
            Some(item) if option.is_list() && item >= option.values().len() => return Ok(None),
            Some(item) if option.is_list() => change.value = Some(item.to_string().into_bytes()),
            _ => {}
        }
        Ok(Some(change))
    }

    /// Renames a section or an option.
    pub(super) fn plan_rename(
        &self,
        section: &str,
        option: Option<&str>,
        name: &str,
    ) -> Result<Change, WriteError> {
        check_name(name)?;
        let found = self.section(section).ok_or_else(|| self.not_found(section, None))?;
        if option.is_some_and(|option| found.option(option).is_none()) {
            return Err(self.not_found(section, option));
        }
        Ok(Change {
            command: Command::Rename,
            section: found.name().to_owned(),
            option: option.map(str::to_owned),
            value: Some(name.into()),
        })
    }

    /// Moves a section; `None` where it is there already.
    pub(super) fn plan_reorder(&self, section: &str, position: usize) -> Result<Option<Change>, WriteError> {
        let found = self.section(section).ok_or_else(|| self.not_found(section, None))?;
        let index = self.position(found.name()).ok_or_else(|| self.not_found(section, None))?;
        let moves = position.min(self.sections.len() - 1) != index;
        Ok(moves.then(|| Change {
            command: Command::Reorder,
            section: found.name().to_owned(),
            option: None,
            value: Some(position.to_string().into_bytes()),
        }))
    }

    /// The package as a configuration file, as `uci commit` writes it.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for section in &self.sections {
            text.extend_from_slice(b"\nconfig ");
            escape(section.kind().as_bytes(), &mut text);
            if !section.is_anonymous() {
                text.extend_from_slice(b" '");
                escape(section.name().as_bytes(), &mut text);
                text.push(b'\'');
            }
            text.push(b'\n');
            for option in section.options() {
                let word: &[u8] = if option.is_list() { b"\tlist " } else { b"\toption " };
                for value in option.values() {
                    text.extend_from_slice(word);
                    text.extend_from_slice(option.name().as_bytes());
                    text.extend_from_slice(b" '");
                    escape(value.as_bytes(), &mut text);
                    text.extend_from_slice(b"'\n");
                }
            }
        }
        text.push(b'\n');
        text
    }

    fn not_found(&self, section: &str, option: Option<&str>) -> WriteError {
        let option = option.map(|option| format!(".{option}")).unwrap_or_default();
        WriteError::NotFound { what: format!("{}.{section}{option}", self.name()) }
    }
}

impl Change {
    /// The changes of a delta file of that package; lines that are none are left out.
    pub(super) fn read_all(package: &str, text: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut lexer = Lexer::new(text);
        while lexer.next_line() {
            let Some(word) = delta::change(&mut lexer) else { continue };
            let (character, path) = delta::command(&word);
            let Some(Target { package: name, section, option, value }) = delta::target(path) else {
                continue;
            };
            let Some(command) = Command::of(character) else { continue };
            let complete = value.is_some() || command == Command::Remove;
            if name == package && complete && command.takes(option, value) {
                changes.push(Change {
                    command,
                    section: section.to_owned(),
                    option: option.map(str::to_owned),
                    value: value.map(<[u8]>::to_vec),
                });
            }
        }
        changes
    }

    /// The line of a delta file, with its line end.
    pub(super) fn write(&self, package: &str, text: &mut Vec<u8>) {
        text.extend_from_slice(self.command.prefix().as_bytes());
        text.extend_from_slice(package.as_bytes());
        for part in [Some(&self.section), self.option.as_ref()].into_iter().flatten() {
            text.push(b'.');
            text.extend_from_slice(part.as_bytes());
        }
        if let Some(value) = &self.value {
            text.extend_from_slice(b"='");
            escape(value, text);
            text.push(b'\'');
        }
        text.push(b'\n');
    }

    /// Whether reverting this part of the package takes the change back.
    pub(super) fn concerns(&self, section: Option<&str>, option: Option<&str>) -> bool {
        section.is_none_or(|section| section == self.section)
            && option.is_none_or(|option| Some(option) == self.option.as_deref())
    }
}

impl Command {
    /// The character that a delta file has before the package.
    pub fn prefix(self) -> &'static str {
        match self {
            Command::Add => "+",
            Command::Set => "",
            Command::Remove => "-",
            Command::Rename => "@",
            Command::Reorder => "^",
            Command::ListAdd => "|",
            Command::ListRemove => "~",
        }
    }

    fn of(character: u8) -> Option<Command> {
        Some(match character {
            b'+' => Command::Add,
            b'=' => Command::Set,
            b'-' => Command::Remove,
            b'@' => Command::Rename,
            b'^' => Command::Reorder,
            b'|' => Command::ListAdd,
            b'~' => Command::ListRemove,
            _ => return None,
        })
    }

    fn takes(self, option: Option<&str>, value: Option<&[u8]>) -> bool {
        match self {
            Command::Reorder => option.is_none(),
            Command::Rename => value.is_some_and(is_name),
            Command::ListAdd | Command::ListRemove => option.is_some(),
            Command::Add | Command::Set | Command::Remove => true,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Read(error) => error.fmt(f),
            WriteError::NotFound { what } => write!(f, "{what}: no such entry"),
            WriteError::BadName { name } => {
                write!(f, "{}: not a name UCI allows", super::error::quote(name.as_bytes()))
            }
            WriteError::BadValue => write!(f, "a value may not hold control characters"),
            WriteError::Locked(path) => write!(f, "{}: another program keeps it locked", path.display()),
            WriteError::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for WriteError {}

fn remove(section: &str, option: Option<&str>) -> Change {
    Change {
        command: Command::Remove,
        section: section.to_owned(),
        option: option.map(str::to_owned),
        value: None,
    }
}

fn list_change(command: Command, section: &Section, option: &str, value: &[u8]) -> Change {
    Change {
        command,
        section: section.name().to_owned(),
        option: Some(option.to_owned()),
        value: Some(value.to_owned()),
    }
}

fn check_name(name: &str) -> Result<(), WriteError> {
    is_name(name.as_bytes()).then_some(()).ok_or_else(|| WriteError::BadName { name: name.to_owned() })
}

fn check_kind(kind: &str) -> Result<(), WriteError> {
    is_type(kind.as_bytes()).then_some(()).ok_or_else(|| WriteError::BadName { name: kind.to_owned() })
}

fn check_value(value: &[u8]) -> Result<(), WriteError> {
    is_text(value).then_some(()).ok_or(WriteError::BadValue)
}

/// Inside single quotes a quote is written as `'\''`.
fn escape(value: &[u8], text: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(byte),
        }
    }
}
