// SPDX-License-Identifier: Apache-2.0
//! `powqutyd events export`: the waveform of an event as a pair of COMTRADE files.

use crate::clock::Utc;
use crate::comtrade::{self, Recording};
use crate::subcommand::Error;
use lexopt::prelude::*;
use openwrt::cli;
use openwrt::service::client::Client;
use serde_json::{json, Value as Json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Runs the subcommand with what stands behind its name, against the daemon at `socket`.
///
/// # Errors
/// The command line is wrong, there is no such waveform, or the files cannot be written.
pub(crate) fn main(args: &[OsString], socket: &Path) -> Result<(), Error> {
    let (mut id, mut base) = (None, None);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("output") => base = Some(PathBuf::from(parser.value()?)),
            Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("export: the id of an event is missing".into()))?;
    let mut client = Client::connect(socket)?;
    let id = if id == "last" { last(&mut client)? } else { id };
    let waveform = client.call("waveform", &json!({ "id": id }))?;
    let status = client.call("status", &Json::Null)?;
    let base = base.unwrap_or_else(|| PathBuf::from(format!("powquty-{id}")));
    let written = write(&waveform, &status, &base).ok_or_else(|| {
        Error::Failed("the daemon's answer is not understood; is it another version?".to_owned())
    })?;
    written.map_err(|error| Error::Failed(format!("{}: cannot write: {error}", base.display())))?;
    cli::print(&format!("{}\n{}\n", with(&base, "cfg").display(), with(&base, "dat").display()))?;
    Ok(())
}

/// The newest event that has a waveform.
fn last(client: &mut Client) -> Result<String, Error> {
    let events = client.call("events", &json!({ "limit": 200 }))?;
    let ids = events["events"].as_array().into_iter().flatten().filter_map(|event| event["id"].as_str());
    for id in ids {
        if client.call("waveform", &json!({ "id": id })).is_ok() {
            return Ok(id.to_owned());
        }
    }
    Err(Error::Failed("none of the last events has a waveform".to_owned()))
}

/// `None` where a part is missing.
fn write(waveform: &Json, status: &Json, base: &Path) -> Option<io::Result<()>> {
    let volts: Option<Vec<f32>> = waveform["samples"]
        .as_array()?
        .iter()
        .map(|volts| volts.as_f64().map(|volts| volts as f32))
        .collect();
    let volts = volts?;
    let start = Utc::parse_rfc3339(waveform["start"].as_str()?)?;
    let recording = Recording {
        station: status["device"]["host"].as_str().unwrap_or_default(),
        device: status["device"]["id"].as_str().unwrap_or_default(),
        volts: &volts,
        rate: waveform["rate"].as_f64()?,
        nominal_frequency: waveform["nominal"]["frequency"].as_f64()?,
        nominal_voltage: waveform["nominal"]["voltage"].as_f64()?,
        start,
        trigger: start.plus_seconds(waveform["trigger"].as_f64()?),
        synchronised: status["clock"]["synchronised"] == true,
    };
    Some(files(&recording, base))
}

fn files(recording: &Recording<'_>, base: &Path) -> io::Result<()> {
    fs::write(with(base, "cfg"), comtrade::cfg(recording))?;
    let mut dat = BufWriter::new(File::create(with(base, "dat"))?);
    comtrade::dat(recording, &mut dat)?;
    dat.flush()
}

/// A base name may have dots of its own.
fn with(base: &Path, ending: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}
