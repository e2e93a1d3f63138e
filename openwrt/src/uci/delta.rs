// SPDX-License-Identifier: Apache-2.0
//! Uncommitted changes, as `uci set` and LuCI leave them in `/tmp/.uci/<package>`.
//!
//! One change per line: an optional command character and `package.section[.option][='value']`, with `+` to add an
//! anonymous section of that name, `-` to remove, `@` to rename, `^` to move, `|` to append to a list, `~` to
//! take out of one, and none to set. A line that cannot be applied is skipped, as libuci does.

use super::lex::{is_name, is_type, line_of, Lexer};
use super::package::{Package, Text, Value};

/// What became of the lines of a delta.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) applied: usize,
    pub(super) skipped: usize,
    /// Counted from 1; 0 when none was skipped.
    pub(super) first_skipped: usize,
}

/// Lays a delta file over a package.
pub(super) fn overlay(package: &mut Package, text: &[u8]) -> Overlay {
    let mut outcome = Overlay::default();
    let mut lexer = Lexer::new(text);
    while lexer.next_line() {
        let start = lexer.position();
        match change(&mut lexer).and_then(|word| apply(package, &word)) {
            Some(()) => outcome.applied += 1,
            None => {
                outcome.skipped += 1;
                if outcome.first_skipped == 0 {
                    outcome.first_skipped = line_of(text, start);
                }
            }
        }
    }
    package.count_kinds();
    outcome
}

/// The one word of a line; nothing may follow it but one blank.
pub(super) fn change(lexer: &mut Lexer<'_>) -> Option<Vec<u8>> {
    let word = lexer.word().ok()?;
    lexer.rest().is_empty().then_some(word)
}

#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) package: &'a str,
    pub(super) section: &'a str,
    pub(super) option: Option<&'a str>,
    pub(super) value: Option<&'a [u8]>,
}

/// The command character, `=` for none, and what follows it.
pub(super) fn command(word: &[u8]) -> (u8, &[u8]) {
    match word {
        [command @ (b'+' | b'-' | b'@' | b'^' | b'|' | b'~'), path @ ..] => (*command, path),
        path => (b'=', path),
    }
}

fn apply(package: &mut Package, word: &[u8]) -> Option<()> {
    let (command, path) = command(word);
    let Target { package: name, section, option, value } = target(path)?;
    if name != package.name() {
        return None;
    }
    if command == b'-' {
        return remove(package, section, option, value);
    }
    let value = value?;
    match (command, option) {
        (b'^', None) => {
            let index = package.position(section)?;
            package.reorder(index, position(value));
        }
        (b'@', None) => {
            let index = package.position(section)?;
            let renamed = name_of(value)?;
            let section = &mut package.sections[index];
            section.name = renamed.into();
            section.anonymous = false;
        }
        (b'@', Some(option)) => {
            let index = package.position(section)?;
            let renamed = name_of(value)?;
            let section = &mut package.sections[index];
            let option = section.position(option)?;
            section.options[option].name = renamed.into();
        }
        (b'|', Some(option)) => {
            let index = package.position(section)?;
            package.sections[index].add_to_list(option, Text::new(value));
        }
        (b'~', Some(option)) => {
            let index = package.position(section)?;
            package.sections[index].remove_from_list(option, value);
        }
        (b'+' | b'=', None) => set_section(package, section, value, command == b'+')?,
        (b'+' | b'=', Some(option)) => {
            let index = package.position(section)?;
            let section = &mut package.sections[index];
            if !value.is_empty() {
                section.set(option, Text::new(value));
            } else if let Some(option) = section.position(option) {
                section.options.remove(option);
            }
        }
        _ => return None,
    }
    Some(())
}

/// `package.section[.option][=value]`. The value starts at the first `=`, wherever that stands.
pub(super) fn target(path: &[u8]) -> Option<Target<'_>> {
    let (path, value) = match path.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&path[..equals], Some(&path[equals + 1..])),
        None => (path, None),
    };
    if !value.is_none_or(is_text) {
        return None;
    }
    let mut parts = std::str::from_utf8(path).ok()?.split('.');
    let (package, section, option) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some()
        || !is_name(section.as_bytes())
        || !option.is_none_or(|option| is_name(option.as_bytes()))
    {
        return None;
    }
    Some(Target { package, section, option, value })
}

/// What a value may hold: everything but control characters, of which tab and the ends of lines are allowed.
pub(super) fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte >= 32 || matches!(byte, b'\t' | b'\n' | b'\r'))
}

/// Sets the type of a section, creates it, or with an empty value removes it.
fn set_section(package: &mut Package, name: &str, kind: &[u8], anonymous: bool) -> Option<()> {
    let found = package.position(name);
    if kind.is_empty() {
        if let Some(index) = found {
            package.sections.remove(index);
        }
        return Some(());
    }
    if !is_type(kind) {
        return None;
    }
    let kind = std::str::from_utf8(kind).ok()?;
    let index = match found {
        Some(index) => {
            package.sections[index].kind = kind.into();
            index
        }
        None => package.add_named(kind, name),
    };
    if anonymous {
        package.sections[index].anonymous = true;
    }
    Some(())
}

/// Removes a section, an option, or of a list the item whose index the value names.
fn remove(package: &mut Package, section: &str, option: Option<&str>, value: Option<&[u8]>) -> Option<()> {
    let index = package.position(section)?;
    let Some(option) = option else {
        package.sections.remove(index);
        return Some(());
    };
    let section = &mut package.sections[index];
    let option = section.position(option)?;
    match (&mut section.options[option].value, value) {
        (Value::List(items), Some(item @ [_, ..])) => {
            if let Some(item) = leading_integer(item).and_then(|item| usize::try_from(item).ok()) {
                if item < items.len() {
                    items.remove(item);
                }
            }
        }
        (Value::List(_) | Value::Single(_), _) => {
            section.options.remove(option);
        }
    }
    Some(())
}

fn name_of(value: &[u8]) -> Option<&str> {
    is_name(value).then(|| std::str::from_utf8(value).ok()).flatten()
}

/// The position to move to; no number and a negative one are the front.
fn position(value: &[u8]) -> usize {
    leading_integer(value).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

/// The decimal integer a value starts with, after blanks, as C reads numbers.
fn leading_integer(value: &[u8]) -> Option<i64> {
    let value = value.trim_ascii_start();
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_i64, |n, digit| n.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -number } else { number })
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
