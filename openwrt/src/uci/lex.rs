// SPDX-License-Identifier: Apache-2.0
//! Words, quotes, comments and continued lines, common to configuration files and deltas.
//!
//! libuci reads a line into a buffer and cuts it up in place; a quote or a backslash that goes on at the end
//! of the line fetches the next one behind it. The same thing here without a buffer: `pos` walks
//! through the text, `end` is where the lines fetched so far end.

use super::Cause;

/// A cursor on a text, one line (with its continuations) at a time.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    end: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Lexer { text, pos: 0, end: 0 }
    }

    /// Goes to the start of the next line; `false` at the end of the text.
    pub(super) fn next_line(&mut self) -> bool {
        self.pos = self.end;
        self.fetch_line();
        self.pos < self.end
    }

    /// The word that names a command: up to a blank or tab, and without any quoting; the last of a line has its
    /// `\n`. `None` where the line ends.
    pub(super) fn command(&mut self) -> Option<&'a [u8]> {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.pos += 1;
        }
        let rest = self.rest();
        if matches!(rest.first(), None | Some(b'#')) {
            return None;
        }
        let length = rest.iter().position(|byte| matches!(byte, b' ' | b'\t'));
        self.pos += length.map_or(rest.len(), |length| length + 1);
        Some(&rest[..length.unwrap_or(rest.len())])
    }

    /// The next word, unquoted; empty at the end of the line and at a `;`.
    ///
    /// # Errors
    /// A quote that is never closed.
    pub(super) fn word(&mut self) -> Result<Vec<u8>, Cause> {
        self.skip_space();
        if self.peek() == Some(b';') {
            self.pos += 1;
            return Ok(Vec::new());
        }
        let start = self.pos;
        let mut word = Vec::new();
        loop {
            match self.peek() {
                None => break,
                Some(b'#') => {
                    self.drop_line();
                    break;
                }
                Some(b';') => {
                    // libuci ends the word in its buffer with a NUL, which lies on the `;` unless a quote or
                    // a backslash before it has made room. Without the `;` the line ends here.
                    if word.len() == self.pos - start {
                        self.drop_line();
                    }
                    break;
                }
                Some(quote @ (b'\'' | b'"')) => self.quoted(quote, &mut word)?,
                Some(b'\\') => self.escaped(&mut word),
                Some(byte) => {
                    word.push(byte);
                    self.pos += 1;
                }
            }
            match self.peek() {
                Some(byte) if is_space(byte) => {
                    self.pos += 1;
                    break;
                }
                _ => {}
            }
        }
        Ok(word)
    }

    /// Bytes of the text used up.
    pub(super) fn position(&self) -> usize {
        self.pos
    }

    /// What is left of the fetched lines.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text[self.pos..self.end]
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    /// The line the cursor is on, counted from 1.
    fn line(&self) -> usize {
        // At the end of a line, right behind its `\n`, it is still that line.
        let at = if self.pos == self.end { self.pos.saturating_sub(1) } else { self.pos };
        line_of(self.text, at)
    }

    pub(super) fn syntax(&self, expected: impl Into<String>, found: impl Into<String>) -> Cause {
        Cause::Syntax { line: self.line(), expected: expected.into(), found: found.into() }
    }

    fn quoted(&mut self, quote: u8, word: &mut Vec<u8>) -> Result<(), Cause> {
        let opened = self.pos;
        self.pos += 1;
        loop {
            match self.peek() {
                Some(byte) if byte == quote => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => self.escaped(word),
                Some(byte) => {
                    word.push(byte);
                    self.pos += 1;
                }
                None => {
                    self.fetch_line();
                    if self.pos == self.end {
                        return Err(Cause::Syntax {
                            line: line_of(self.text, opened),
                            expected: format!("a closing {}", char::from(quote)),
                            found: "the end of the file".into(),
                        });
                    }
                }
            }
        }
    }

    /// A backslash: the next character as it is, or the next line.
    fn escaped(&mut self, word: &mut Vec<u8>) {
        self.pos += 1;
        match self.rest() {
            [] | [b'\n', ..] | b"\r\n" => {
                self.pos = self.end;
                self.fetch_line();
            }
            [byte, ..] => {
                word.push(*byte);
                self.pos += 1;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn drop_line(&mut self) {
        self.pos = self.end;
    }

    fn fetch_line(&mut self) {
        let ahead = &self.text[self.end..];
        self.end += ahead.iter().position(|&byte| byte == b'\n').map_or(ahead.len(), |newline| newline + 1);
    }
}

/// The line of a byte position, counted from 1.
pub(super) fn line_of(text: &[u8], pos: usize) -> usize {
    1 + text.iter().take(pos).filter(|&&byte| byte == b'\n').count()
}

/// `isspace` of the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Names of sections and options: letters, digits and `_`.
pub(super) fn is_name(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Section types: printable ASCII.
pub(super) fn is_type(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_graphic)
}

/// Names after `package`: as names, and `-`.
pub(super) fn is_package_word(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Names of packages as files: printable ASCII that stays in its directory.
pub(super) fn is_package(name: &str) -> bool {
    is_type(name.as_bytes()) && !name.contains('/') && !name.starts_with('.')
}

#[cfg(test)]
#[path = "lex_tests.rs"]
mod tests;
