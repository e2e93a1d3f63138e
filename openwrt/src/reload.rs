// SPDX-License-Identifier: Apache-2.0
//! What makes a daemon re-read its configuration or stop, and which configuration is in force.

use std::io;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tokio::signal::unix::{signal, SignalKind};

use crate::uci::{self, Problem, Problems};

/// What the system asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: save and end, within 2 s.
    Stop,
}

/// The signals of this process; from its making on none of them kills it.
#[derive(Debug)]
pub struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// The configuration in force, and what is wrong with the one that was last read.
///
/// At boot a wrong option takes its default; later, a configuration with any error leaves the one in force
/// untouched. Only a daemon that never found a file it could read has none.
///
/// Serialises as `{state, problems}`, the key `configuration` of every daemon's `status`.
#[derive(Debug, Clone)]
pub struct Configuration<C> {
    current: Option<C>,
    state: State,
    problems: Problems,
}

/// Where the configuration in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// From what was last read; at boot, wrong options took their defaults.
    Ok,
    /// From an earlier reading: what was last read has errors.
    Kept,
    /// There is none: nothing could be read so far.
    Unconfigured,
}

/// What a reading led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A configuration is in force that was not before; the daemon acts on it.
    Applied,
    /// The last good configuration stays.
    Kept,
    /// There is still none.
    Unconfigured,
}

/// A configuration as a daemon reads it: with what was wrong, or not at all.
pub type Reading<C> = Result<(C, Problems), uci::Error>;

/// Takes over SIGHUP, SIGTERM and SIGINT. Must be called within a runtime.
///
/// # Errors
/// When the system refuses the handlers.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals {
        hangup: signal(SignalKind::hangup())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl Signals {
    /// The next signal; a stop comes before a reload, and several of a kind may come as one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

impl<C> Configuration<C> {
    /// The first reading: wrong options have taken their defaults.
    pub fn boot(read: Reading<C>) -> Self {
        match read {
            Ok((config, problems)) => Self { current: Some(config), state: State::Ok, problems },
            Err(error) => Self { current: None, state: State::Unconfigured, problems: unreadable(&error) },
        }
    }

    /// A later reading. As long as there is no configuration in force it counts as the first.
    pub fn reload(&mut self, read: Reading<C>) -> Outcome {
        if self.current.is_none() {
            *self = Self::boot(read);
            return if self.current.is_some() { Outcome::Applied } else { Outcome::Unconfigured };
        }
        match read {
            Ok((config, problems)) if !problems.has_errors() => {
                *self = Self { current: Some(config), state: State::Ok, problems };
                return Outcome::Applied;
            }
            Ok((_, problems)) => self.problems = problems,
            Err(error) => self.problems = unreadable(&error),
        }
        self.state = State::Kept;
        Outcome::Kept
    }

    /// The configuration in force.
    pub fn current(&self) -> Option<&C> {
        self.current.as_ref()
    }

    /// Where it comes from.
    pub fn state(&self) -> State {
        self.state
    }

    /// What was wrong with what was last read.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Writes state and problems to the log: errors as warnings of the log, the rest as information.
    pub fn log(&self) {
        for problem in &self.problems {
            match problem.severity {
                uci::ProblemSeverity::Error => log::warn!("{problem}"),
                uci::ProblemSeverity::Warning => log::info!("{problem}"),
            }
        }
        match self.state {
            State::Ok if self.problems.has_errors() => {
                log::warn!("configuration: the options above are wrong, their defaults are used");
            }
            State::Ok => {}
            State::Kept => log::warn!("configuration: not applied, the last good one stays in force"),
            State::Unconfigured => log::error!("configuration: none could be read, nothing is done"),
        }
    }
}

impl<C> Serialize for Configuration<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Configuration", 2)?;
        fields.serialize_field("state", &self.state)?;
        fields.serialize_field("problems", &self.problems)?;
        fields.end()
    }
}

fn unreadable(error: &uci::Error) -> Problems {
    let mut problems = Problems::new();
    problems.push(Problem::unreadable(error));
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::uci::{Package, Reader};

    /// The smallest daemon configuration: one threshold in percent.
    fn read(text: &str) -> Reading<f64> {
        let package = Package::parse("powquty", text.as_bytes())?;
        let mut problems = Problems::new();
        let mut reader = Reader::new("powquty", package.section("powquty"), &mut problems);
        let threshold = reader.number("swell_threshold", 100.0..=200.0, 110.0);
        reader.finish();
        Ok((threshold, problems))
    }

    const GOOD: &str = "config powquty 'powquty'\n\toption swell_threshold '115'\n";
    const BETTER: &str = "config powquty 'powquty'\n\toption swell_threshold '120'\n";
    const WARNED: &str =
        "config powquty 'powquty'\n\toption swell_threshold '112'\n\toption frobnicate '1'\n";
    const WRONG: &str = "config powquty 'powquty'\n\toption swell_threshold 'high'\n";
    const UNREADABLE: &str = "config powquty 'powquty\n\toption";

    #[test]
    fn at_boot_a_wrong_option_takes_its_default_loudly() {
        let configuration = Configuration::boot(read(WRONG));
        assert_eq!((configuration.current(), configuration.state()), (Some(&110.0), State::Ok));
        assert!(configuration.problems().has_errors());
    }

    #[test]
    fn later_the_last_good_one_stays_until_everything_is_right() {
        let mut configuration = Configuration::boot(read(GOOD));
        assert_eq!(configuration.reload(read(WRONG)), Outcome::Kept);
        assert_eq!((configuration.current(), configuration.state()), (Some(&115.0), State::Kept));
        let line = configuration.problems().iter().next().unwrap().to_string();
        assert!(line.starts_with("powquty:powquty.swell_threshold: high: "), "{line}");

        assert_eq!(configuration.reload(read(UNREADABLE)), Outcome::Kept);
        assert_eq!((configuration.current(), configuration.state()), (Some(&115.0), State::Kept));
        assert_eq!(configuration.problems().len(), 1);

        assert_eq!(configuration.reload(read(BETTER)), Outcome::Applied);
        assert_eq!((configuration.current(), configuration.state()), (Some(&120.0), State::Ok));
        assert!(configuration.problems().is_empty());
    }

    #[test]
    fn warnings_do_not_hold_a_configuration_back() {
        let mut configuration = Configuration::boot(read(GOOD));
        assert_eq!(configuration.reload(read(WARNED)), Outcome::Applied);
        assert_eq!((configuration.current(), configuration.state()), (Some(&112.0), State::Ok));
        assert_eq!(configuration.problems().len(), 1);
    }

    #[test]
    fn without_a_readable_file_there_is_none_until_one_comes() {
        let mut configuration = Configuration::boot(read(UNREADABLE));
        assert_eq!((configuration.current(), configuration.state()), (None, State::Unconfigured));
        assert_eq!(configuration.reload(read(UNREADABLE)), Outcome::Unconfigured);
        assert_eq!(configuration.reload(read(WRONG)), Outcome::Applied);
        assert_eq!((configuration.current(), configuration.state()), (Some(&110.0), State::Ok));
    }

    #[test]
    fn it_serialises_as_status_shows_it() {
        let mut configuration = Configuration::boot(read(GOOD));
        assert_eq!(serde_json::to_value(&configuration).unwrap(), json!({"state": "ok", "problems": []}));
        configuration.reload(read(WRONG));
        let value = serde_json::to_value(&configuration).unwrap();
        assert_eq!(value["state"], "kept");
        let problem = &value["problems"][0];
        assert_eq!(
            (&problem["file"], &problem["section"], &problem["option"], &problem["value"]),
            (&json!("powquty"), &json!("powquty"), &json!("swell_threshold"), &json!("high"))
        );
        assert!(problem["reason"].is_string());
        let unreadable = serde_json::to_value(Configuration::boot(read(UNREADABLE))).unwrap();
        assert_eq!(unreadable["state"], "unconfigured");
        assert_eq!(unreadable["problems"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn signals_arrive_as_what_they_ask_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = signals().unwrap();
            for (name, expected) in [("HUP", Signal::Reload), ("TERM", Signal::Stop), ("INT", Signal::Stop)] {
                let this = std::process::id().to_string();
                let sent = std::process::Command::new("kill").args(["-s", name, &this]).status().unwrap();
                assert!(sent.success());
                assert_eq!(signals.next().await, expected);
            }
        });
    }
}
