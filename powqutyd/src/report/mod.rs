// SPDX-License-Identifier: Apache-2.0
//! `powqutyd report`: a week as text, JSON or a page, from the record file alone.

pub mod html;
pub mod mail;
pub mod service;
pub mod text;

mod plot;
mod words;

use crate::clock::Utc;
use crate::config;
use crate::subcommand::{ended, Error};
use crate::summary::build::{self, of_file};
use crate::summary::week::Week;
use crate::summary::Summary;
use lexopt::prelude::*;
use openwrt::cli;
use openwrt::timezone::Zone;
use openwrt::uci;
use power_quality::compliance::Characteristic;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `powqutyd help report` says about the options.
pub const HELP: &str = "  --records FILE  the record file; otherwise the one of the configuration
  --week WEEK     such as 2026-W47; otherwise the last one that is over, or the running one
  --html          a page with plots that needs nothing else
  --json          numbers
  --output FILE   instead of standard output
";

/// How the report is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal.
    Text,
    /// Numbers.
    Json,
    /// A page.
    Html,
}

impl Format {
    /// The report in this format.
    #[must_use]
    pub fn render(self, summary: &Summary) -> String {
        match self {
            Self::Text => text::render(summary),
            // Numbers, strings and lists have no way to fail.
            Self::Json => serde_json::to_string_pretty(summary).unwrap_or_default() + "\n",
            Self::Html => html::render(summary),
        }
    }
}

/// Runs the subcommand with its arguments; the configuration says where the records are unless `--records` does.
///
/// # Errors
/// See [`Error`].
pub fn main(args: &[OsString], source: &uci::Source) -> Result<(), Error> {
    let (mut records, mut week, mut output) = (None::<PathBuf>, None, None::<PathBuf>);
    let mut format = Format::Text;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("records") => records = Some(parser.value()?.into()),
            Long("week") => {
                let text = parser.value()?.string()?;
                let parsed = Week::parse(&text).ok_or_else(|| lexopt::Error::ParsingFailed {
                    value: text,
                    error: "expected an ISO week such as 2026-W47".into(),
                })?;
                week = Some(parsed);
            }
            Long("html") => format = Format::Html,
            Long("json") => format = Format::Json,
            Long("output") | Short('o') => output = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let path = match records {
        Some(path) => path,
        None => config::load(source).map_err(|error| Error::Failed(error.to_string()))?.0.logs.record_path,
    };
    let summary = of_file(&path, week, &Zone::system(), Utc::now()).map_err(|error| {
        Error::Failed(match error {
            build::Error::Read(error) => format!("{}: cannot read: {error}", path.display()),
            other => format!("{}: {other}", path.display()),
        })
    })?;
    let rendered = format.render(&summary);
    match output {
        Some(path) => std::fs::write(&path, rendered)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display()))),
        None => ended(cli::print(&rendered)).map(drop),
    }
}

/// The order whose 95th percentile is closest to its limit.
fn closest_harmonic(summary: &Summary) -> Option<Characteristic> {
    let orders = summary.characteristics.iter().filter_map(|line| match line.characteristic {
        Characteristic::Harmonic(_) => Some((line.characteristic, line.value? / line.limit?)),
        _ => None,
    });
    orders.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(characteristic, _)| characteristic)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
