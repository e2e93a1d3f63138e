// SPDX-License-Identifier: Apache-2.0
//! The commands of a configuration file: `package`, `config`, `option`, `list`.

use super::error::quote;
use super::lex::{is_name, is_package_word, is_type, line_of, Lexer};
use super::package::{Package, Text};
use super::Cause;

/// Reads a whole file as libuci's strict mode does.
pub(super) fn parse(name: &str, text: &[u8]) -> Result<Package, Cause> {
    let package = Package::empty(name)?;
    if let Some(nul) = text.iter().position(|&byte| byte == 0) {
        return Err(Cause::Binary { line: line_of(text, nul) });
    }
    let mut parser = Parser { lexer: Lexer::new(text), package, open: Open::Nothing, reopened: Vec::new() };
    while parser.lexer.next_line() {
        parser.line()?;
    }
    parser.package.count_kinds();
    Ok(parser.package)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    package: Package,
    open: Open,
    /// Sections that were opened a second time.
    reopened: Vec<usize>,
}

/// Where an option would go.
enum Open {
    Nothing,
    Section(usize),
    /// libuci loses its place when a section is opened a third time: a `config` may follow, an option not.
    Lost,
}

impl Parser<'_> {
    fn line(&mut self) -> Result<(), Cause> {
        self.lexer.skip_space();
        while let Some(command) = self.lexer.command() {
            match command {
                b"package" | b"p" => self.package()?,
                b"config" | b"c" => self.config()?,
                b"option" | b"o" => self.option(false)?,
                b"list" | b"l" => self.option(true)?,
                command => {
                    let expected = "package, config, option or list with what belongs to it";
                    return Err(self.lexer.syntax(expected, found(command.trim_ascii_end())));
                }
            }
        }
        Ok(())
    }

    /// The name must be one, and is ignored: the file's name decides.
    fn package(&mut self) -> Result<(), Cause> {
        let name = self.lexer.word()?;
        if !is_package_word(&name) {
            return Err(self.lexer.syntax("a package name of letters, digits, _ and -", found(&name)));
        }
        self.end_of_command()
    }

    fn config(&mut self) -> Result<(), Cause> {
        let kind = self.lexer.word()?;
        if !is_type(&kind) {
            return Err(self.lexer.syntax("a section type of printable ASCII characters", found(&kind)));
        }
        let name = self.lexer.word()?;
        if !name.is_empty() && !is_name(&name) {
            return Err(self.lexer.syntax("a section name of letters, digits and _", found(&name)));
        }
        self.end_of_command()?;

        let (kind, name) = (ascii(&kind), ascii(&name));
        if name.is_empty() {
            self.open = Open::Section(self.package.add_anonymous(&kind));
            return Ok(());
        }
        let Some(section) = self.package.position(&name) else {
            self.open = Open::Section(self.package.add_named(&kind, &name));
            return Ok(());
        };
        let first = self.package.sections[section].kind();
        if first != kind {
            let expected = format!("type '{first}', the one section '{name}' has above");
            return Err(self.lexer.syntax(expected, quote(kind.as_bytes())));
        }
        self.open = if self.reopened.contains(&section) {
            Open::Lost
        } else {
            self.reopened.push(section);
            Open::Section(section)
        };
        Ok(())
    }

    fn option(&mut self, list: bool) -> Result<(), Cause> {
        let section = match self.open {
            Open::Section(section) => section,
            Open::Nothing => {
                return Err(self.lexer.syntax("a config line before the first option", "an option"))
            }
            Open::Lost => {
                return Err(self.lexer.syntax(
                    "options of a section in at most two places (libuci reads no more)",
                    "an option in a third one",
                ))
            }
        };
        let name = self.lexer.word()?;
        if !is_name(&name) {
            return Err(self.lexer.syntax("an option name of letters, digits and _", found(&name)));
        }
        let value = self.lexer.word()?;
        self.end_of_command()?;

        let section = &mut self.package.sections[section];
        if list {
            section.add_to_list(&ascii(&name), Text::new(&value));
        } else if !value.is_empty() {
            section.set(&ascii(&name), Text::new(&value));
        }
        Ok(())
    }

    fn end_of_command(&mut self) -> Result<(), Cause> {
        let extra = self.lexer.word()?;
        if extra.is_empty() {
            Ok(())
        } else {
            Err(self.lexer.syntax("the end of the line (a value with blanks needs quotes)", found(&extra)))
        }
    }
}

fn found(word: &[u8]) -> String {
    if word.is_empty() {
        "nothing".into()
    } else {
        quote(word)
    }
}

/// A word that was checked to be ASCII.
fn ascii(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
