// SPDX-License-Identifier: Apache-2.0
//! What both readers are compared by.

use std::fmt;

use openwrt::uci;

/// A package: everything libuci tells of it, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree {
    /// Name of the package.
    pub name: String,
    /// Its sections.
    pub sections: Vec<SectionTree>,
}

/// A section.
#[derive(Clone, PartialEq, Eq)]
pub struct SectionTree {
    /// Given or made up.
    pub name: Vec<u8>,
    /// The word after `config`.
    pub kind: Vec<u8>,
    /// Whether the name was made up.
    pub anonymous: bool,
    /// Its options.
    pub options: Vec<OptionTree>,
}

/// An option.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionTree {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a list.
    pub list: bool,
    /// One value, or the items of the list.
    pub values: Vec<Vec<u8>>,
}

/// Loads [`PACKAGE`](crate::PACKAGE) with `openwrt::uci`.
///
/// # Errors
/// What `openwrt::uci` says.
pub fn ours(source: &uci::Source) -> Result<Tree, uci::Error> {
    let package = source.load(crate::PACKAGE)?;
    let option = |option: &uci::Opt| OptionTree {
        name: option.name().into(),
        list: option.is_list(),
        values: option.values().iter().map(|value| value.as_bytes().to_vec()).collect(),
    };
    let section = |section: &uci::Section| SectionTree {
        name: section.name().into(),
        kind: section.kind().into(),
        anonymous: section.is_anonymous(),
        options: section.options().iter().map(option).collect(),
    };
    Ok(Tree { name: package.name().to_owned(), sections: package.sections().iter().map(section).collect() })
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "package {}", self.name)?;
        for section in &self.sections {
            let anonymous = if section.anonymous { " (anonymous)" } else { "" };
            writeln!(
                f,
                "  config {} {}{anonymous}",
                section.kind.escape_ascii(),
                section.name.escape_ascii()
            )?;
            for option in &section.options {
                write!(
                    f,
                    "    {} {}",
                    if option.list { "list" } else { "option" },
                    option.name.escape_ascii()
                )?;
                for value in &option.values {
                    write!(f, " \"{}\"", value.escape_ascii())?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
