// SPDX-License-Identifier: Apache-2.0
//! The command line every daemon has: common options, common subcommands, and its own beside them.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use openwrt::cli::{self, Command, Spec};
//! use openwrt::uci;
//!
//! const SPEC: Spec = Spec { name: "powqutyd", version: "0.1.0", about: "power quality monitor", subcommands: &[] };
//!
//! # fn run(_: cli::Common) -> ExitCode { ExitCode::SUCCESS }
//! # fn read(_: &uci::Source) -> Result<uci::Problems, uci::Error> { Ok(uci::Problems::new()) }
//! fn main() -> ExitCode {
//!     let (common, command) = match cli::parse(&SPEC, std::env::args_os().skip(1)) {
//!         Ok(parsed) => parsed,
//!         Err(error) => return error.report(&SPEC),
//!     };
//!     match command {
//!         Command::Run => run(common),
//!         Command::Check => cli::main_check(&read(&common.source)),
//!         Command::Status { json } => cli::main_status(&SPEC, &common, json, cli::generic_status),
//!         Command::Call { method, params } => cli::main_call(&SPEC, &common, &method, &params),
//!         Command::Help { topic } => cli::main_help(&SPEC, topic.as_deref()),
//!         Command::Version => cli::main_version(&SPEC),
//!         Command::Other(name, _) => cli::fail(&SPEC, format_args!("{name} is not written yet")),
//!     }
//! }
//! ```

mod help;
mod run;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use serde_json::Value;

use crate::{logging, uci};

pub use run::{
    fail, finish, generic_status, main_call, main_check, main_help, main_status, main_version, print,
};

/// The exit code of a command line that cannot be understood.
pub const EXIT_USAGE: u8 = 2;

/// What a daemon says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name of the binary.
    pub name: &'static str,
    /// `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// One line.
    pub about: &'static str,
    /// What it can do beside the common subcommands.
    pub subcommands: &'static [Subcommand],
}

/// A subcommand of one daemon.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// Its name; that of a common subcommand takes the place of the common description, for `run` with options of
    /// the daemon's own ([`parse_with`]).
    pub name: &'static str,
    /// Its arguments, such as `FILE|- [OPTIONS]`; may be empty.
    pub usage: &'static str,
    /// One line for the list of commands.
    pub about: &'static str,
    /// What `help NAME` says below usage and about: the options and an example.
    pub help: &'static str,
}

/// The options every daemon has.
#[derive(Debug, Clone)]
pub struct Common {
    /// Where configuration lies.
    pub source: uci::Source,
    /// Where the service socket lies.
    pub run_dir: PathBuf,
    /// The socket of ubusd.
    pub ubus: PathBuf,
    /// How much to log.
    pub log_level: LevelFilter,
    /// Where to log to.
    pub log_to: logging::Target,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Run in the foreground until stopped.
    Run,
    /// Check the configuration and print every problem.
    Check,
    /// Print what the running daemon says of itself.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Call a method of the running daemon.
    Call {
        /// Its name.
        method: String,
        /// An object, or null.
        params: Value,
    },
    /// Explain a command, or all.
    Help {
        /// The command.
        topic: Option<String>,
    },
    /// Print name and version.
    Version,
    /// One of the daemon's own subcommands, with everything behind its name.
    Other(String, Vec<OsString>),
}

/// A command line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl Default for Common {
    /// The places of OpenWrt; log level info.
    fn default() -> Self {
        Self {
            source: uci::Source::default(),
            run_dir: "/var/run".into(),
            ubus: "/var/run/ubus/ubus.sock".into(),
            log_level: LevelFilter::Info,
            log_to: logging::Target::Auto,
        }
    }
}

impl Common {
    /// The service socket of the daemon of this name.
    pub fn socket(&self, spec: &Spec) -> PathBuf {
        self.run_dir.join(format!("{}.sock", spec.name))
    }

    /// Starts logging as asked for.
    pub fn init_logging(&self, spec: &Spec) {
        logging::init_to(self.log_to, self.log_level, spec.name);
    }
}

impl UsageError {
    /// An error of a daemon's own subcommand.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Says it on stderr in one line and gives exit code 2.
    pub fn report(&self, spec: &Spec) -> ExitCode {
        run::complain(spec, format_args!("{self}; see '{} help'", spec.name));
        ExitCode::from(EXIT_USAGE)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Understands a command line (without the program's name). Common options may stand before and behind a
/// common subcommand; what stands behind one of the daemon's own belongs to that.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse<I>(spec: &Spec, args: I) -> Result<(Common, Command), UsageError>
where
    I: IntoIterator<Item: Into<OsString>>,
    I::IntoIter: 'static,
{
    parse_with(spec, args, |_, _| Ok(false))
}

/// As [`parse`], for a daemon with options of its own for `run`. `own` is asked about each option that is no common
/// one, by its name with the dashes (`-f`, `--file`); it asks for the option's value if that takes one, and says
/// whether the option is known.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_with<I>(
    spec: &Spec,
    args: I,
    mut own: impl FnMut(&str, &mut dyn FnMut() -> Result<OsString, UsageError>) -> Result<bool, UsageError>,
) -> Result<(Common, Command), UsageError>
where
    I: IntoIterator<Item: Into<OsString>>,
    I::IntoIter: 'static,
{
    let mut for_run: Option<String> = None;
    let mut common = Common::default();
    let mut command: Option<String> = None;
    let mut operands: Vec<String> = Vec::new();
    let mut json = false;
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        let arg = Owned::from(arg);
        if common.take(&arg, &mut parser)? {
            continue;
        }
        match arg {
            Owned::Short('h') => return Ok((common, Command::Help { topic: command })),
            Owned::Short('V') => return Ok((common, Command::Version)),
            Owned::Long(name) if name == "help" => return Ok((common, Command::Help { topic: command })),
            Owned::Long(name) if name == "version" => return Ok((common, Command::Version)),
            Owned::Long(name) if name == "json" && command.as_deref() == Some("status") => json = true,
            Owned::Short(_) | Owned::Long(_) => {
                let name = arg.dashed();
                let known = own(&name, &mut || Ok(parser.value()?))?;
                if !known || command.as_deref().is_some_and(|command| command != "run") {
                    return Err(UsageError(format!("invalid option '{name}'")));
                }
                for_run = Some(name);
            }
            Owned::Value(value) if command.is_none() => {
                let name = value.string()?;
                if let Some(option) = for_run.as_ref().filter(|_| name != "run") {
                    return Err(UsageError(format!("{name}: unexpected option '{option}'")));
                }
                let is_common = help::COMMON.iter().any(|known| known.name == name);
                if !is_common && spec.subcommands.iter().any(|own| own.name == name) {
                    return Ok((common, own_subcommand(name, parser.raw_args()?.collect())));
                }
                if !is_common {
                    return Err(UsageError(format!("unknown command '{name}'")));
                }
                command = Some(name);
            }
            Owned::Value(value) => operands.push(value.string()?),
        }
    }
    common_command(spec, command.as_deref().unwrap_or("run"), operands, json).map(|command| (common, command))
}

fn common_command(spec: &Spec, name: &str, operands: Vec<String>, json: bool) -> Result<Command, UsageError> {
    let mut operands = operands.into_iter();
    let command = match name {
        "check" => Command::Check,
        "status" => Command::Status { json },
        "version" => Command::Version,
        "help" => {
            let topic = operands.next();
            if let Some(name) = topic.as_deref().filter(|name| help::find(spec, name).is_none()) {
                return Err(UsageError(format!("unknown command '{name}'")));
            }
            Command::Help { topic }
        }
        "call" => {
            let method = operands.next().ok_or_else(|| UsageError("call: METHOD is missing".into()))?;
            Command::Call { method, params: operands.next().map_or(Ok(Value::Null), |text| params(&text))? }
        }
        _ => Command::Run,
    };
    match operands.next() {
        Some(extra) => Err(UsageError(format!("{name}: unexpected argument '{extra}'"))),
        None => Ok(command),
    }
}

fn own_subcommand(name: String, args: Vec<OsString>) -> Command {
    let asks_for_help = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h");
    if asks_for_help {
        return Command::Help { topic: Some(name) };
    }
    Command::Other(name, args)
}

fn params(text: &str) -> Result<Value, UsageError> {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Null)) => Ok(value),
        Ok(_) => Err(UsageError("call: the parameters must be a JSON object".into())),
        Err(error) => Err(UsageError(format!("call: the parameters are not JSON: {error}"))),
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "is none of off, error, warn, info, debug, trace".into())
}

/// An argument that does not borrow from the parser, so that its value can be asked for.
enum Owned {
    Short(char),
    Long(String),
    Value(OsString),
}

impl Owned {
    /// An option as it was written.
    fn dashed(&self) -> String {
        match self {
            Self::Short(letter) => format!("-{letter}"),
            Self::Long(name) => format!("--{name}"),
            Self::Value(value) => value.to_string_lossy().into_owned(),
        }
    }
}

impl From<Arg<'_>> for Owned {
    fn from(arg: Arg<'_>) -> Self {
        match arg {
            Arg::Short(letter) => Self::Short(letter),
            Arg::Long(name) => Self::Long(name.into()),
            Arg::Value(value) => Self::Value(value),
        }
    }
}

impl Common {
    /// Takes `arg` with its value if it is one of the common options.
    fn take(&mut self, arg: &Owned, parser: &mut Parser) -> Result<bool, UsageError> {
        let name = match arg {
            Owned::Short('c') => "config-dir",
            Owned::Short('l') => "log-level",
            Owned::Long(name) => name.as_str(),
            Owned::Short(_) | Owned::Value(_) => return Ok(false),
        };
        match name {
            "config-dir" => self.source.config_dir = parser.value()?.into(),
            "state-dir" => self.source.state_dir = parser.value()?.into(),
            "run-dir" => self.run_dir = parser.value()?.into(),
            "ubus" => self.ubus = parser.value()?.into(),
            "log-level" => self.log_level = parser.value()?.parse_with(level)?,
            "log-to" => self.log_to = parser.value()?.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
