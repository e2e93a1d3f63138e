// SPDX-License-Identifier: Apache-2.0
//! Why a configuration could not be read.

use std::fmt;

/// A configuration that could not be read at all; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    file: String,
    cause: Cause,
}

/// What was wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// There is no such file.
    Missing,
    /// There is not even the directory it should be in.
    MissingDirectory,
    /// The name belongs to a directory, a device or the like.
    NotAFile,
    /// The system refused to open or read it.
    Unreadable {
        /// The system's words.
        reason: String,
    },
    /// It is larger than [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    TooLarge,
    /// It holds a NUL byte.
    Binary {
        /// Line of the first NUL, counted from 1.
        line: usize,
    },
    /// The package name is empty or holds characters that no package name may have.
    BadName,
    /// A line that UCI does not allow.
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What UCI would have accepted there.
        expected: String,
        /// What stood there.
        found: String,
    },
}

impl Error {
    pub(super) fn new(file: impl Into<String>, cause: Cause) -> Self {
        Error { file: file.into(), cause }
    }

    /// The file, as it was named to the reader: a path, or the package name for text from memory.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1, where the error belongs to one.
    pub fn line(&self) -> Option<usize> {
        match self.cause {
            Cause::Binary { line } | Cause::Syntax { line, .. } => Some(line),
            Cause::Missing
            | Cause::MissingDirectory
            | Cause::NotAFile
            | Cause::Unreadable { .. }
            | Cause::TooLarge
            | Cause::BadName => None,
        }
    }

    /// What was wrong.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The error without the file's name.
    pub fn reason(&self) -> String {
        match &self.cause {
            Cause::Missing => "no such file, expected a UCI configuration file".into(),
            Cause::MissingDirectory => "no such directory, expected UCI configuration files in it".into(),
            Cause::NotAFile => "not a regular file, expected a UCI configuration file".into(),
            Cause::Unreadable { reason } => format!("cannot be read: {reason}"),
            Cause::TooLarge => format!("larger than {} KiB", super::MAX_FILE_BYTES / 1024),
            Cause::Binary { line } => {
                format!("line {line}: binary data, expected a UCI configuration file (text)")
            }
            Cause::BadName => "not a package name, expected letters, digits, _, - or .".into(),
            Cause::Syntax { line, expected, found } => {
                format!("line {line}: expected {expected}, found {found}")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason())
    }
}

impl std::error::Error for Error {}

/// Quotes outside input for a message: one line, printable, at most 40 characters.
pub(super) fn quote(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars();
    let mut quoted = String::from("'");
    for c in characters.by_ref().take(LONGEST) {
        if c.is_control() || c == char::REPLACEMENT_CHARACTER {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    if characters.next().is_some() {
        quoted.push('…');
    }
    quoted.push('\'');
    quoted
}
