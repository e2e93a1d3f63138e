// SPDX-License-Identifier: Apache-2.0
//! The daemon `alertd` with its configuration, certificates and hook program.

use lab::certs::Issued;
use lab::{wait_for, Authority, Broker, Daemon, Environment, Webhook, PATIENCE};
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// What every test needs.
pub(crate) struct Parts {
    pub(crate) environment: Environment,
    /// What the daemon trusts.
    pub(crate) authority: Authority,
    /// For `localhost` and 127.0.0.1.
    pub(crate) certificate: Issued,
}

/// The daemon's options.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    text: String,
    storm_control: Option<(String, usize)>,
}

impl Options {
    pub(crate) fn line(mut self, line: &str) -> Self {
        let _ = writeln!(self.text, "\t{line}");
        self
    }

    /// Without it every alert is a message.
    pub(crate) fn storm_control(mut self, window: &str, rate: usize) -> Self {
        self.storm_control = Some((window.into(), rate));
        self
    }

    pub(crate) fn mqtt(self, broker: &Broker) -> Self {
        self.mqtt_at(broker.port())
    }

    pub(crate) fn mqtt_at(self, port: u16) -> Self {
        self.option("mqtt_host", "127.0.0.1")
            .option("mqtt_port", &port.to_string())
            .option("mqtt_topic", "lab/router")
            .option("mqtt_uname", lab::broker::USER)
            .option("mqtt_pw", lab::broker::PASSWORD)
            .option("mqtt_event_flag", "1")
    }

    pub(crate) fn mqtt_tls(self, parts: &Parts, broker: &Broker) -> Self {
        self.mqtt_tls_at(parts, broker.tls_port())
    }

    pub(crate) fn mqtt_tls_at(self, parts: &Parts, port: u16) -> Self {
        self.option("mqtt_host", "localhost")
            .option("mqtt_port", &port.to_string())
            .option("mqtt_tls", "1")
            .option("mqtt_ca", &parts.authority.file().display().to_string())
            .option("mqtt_topic", "lab/router")
            .option("mqtt_uname", lab::broker::USER)
            .option("mqtt_pw", lab::broker::PASSWORD)
            .option("mqtt_event_flag", "1")
    }

    pub(crate) fn slack(self, url: &str) -> Self {
        self.option("slack_webhook", url)
    }

    pub(crate) fn email(self, port: u16) -> Self {
        self.option("email_host", "localhost")
            .option("email_port", &port.to_string())
            .option("email_user", lab::smtp::USER)
            .option("email_password", lab::smtp::PASSWORD)
            .option("email_from", "monitor@lab.example")
            .line("list email_to 'ops@lab.example'")
            .line("list email_to 'second@lab.example'")
    }

    pub(crate) fn exec(self, parts: &Parts) -> Self {
        let program = parts.environment.data("hook");
        let record = parts.record();
        write_program(&program, &format!("#!/bin/sh\ncat >> '{}'\n", record.display()));
        self.option("exec_command", &program.display().to_string())
    }

    /// Later values of an option replace earlier ones, as UCI has it.
    pub(crate) fn option(self, name: &str, value: &str) -> Self {
        let value = value.replace('\'', "'\\''");
        self.line(&format!("option {name} '{value}'"))
    }
}

impl Parts {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("lab authority");
        let certificate = authority.issue(&["localhost", "127.0.0.1"]);
        Self { environment: Environment::new(), authority, certificate }
    }

    pub(crate) fn configure(&self, options: &Options) {
        let (window, rate) = options.storm_control.clone().unwrap_or_else(|| ("0".into(), 0));
        let text = format!(
            "config alertd 'alertd'\n\toption alert_window '{window}'\n\toption alert_rate '{rate}'\n{}",
            options.text
        );
        self.environment.write_config("alertd", &text);
    }

    pub(crate) fn start(&self, options: &Options) -> Daemon {
        self.configure(options);
        self.restart()
    }

    /// Starts it with the configuration it has, as procd would: again when it ends at once. A child that was between
    /// fork and exec when its parent was killed holds the old socket for another moment.
    pub(crate) fn restart(&self) -> Daemon {
        for _ in 0..10 {
            let mut daemon = self.spawn();
            let started = wait_for("alertd to start or to end", PATIENCE, || {
                let started = daemon.log().contains("started");
                (started || !daemon.is_running()).then_some(started)
            });
            if started {
                return daemon;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("alertd does not start");
    }

    fn spawn(&self) -> Daemon {
        let mut command =
            self.environment.command_of(Path::new(env!("CARGO_BIN_EXE_alertd")), ["-l", "debug"]);
        command.env("SSL_CERT_FILE", self.authority.file());
        Daemon::start(command, "alertd", self.environment.socket("alertd"))
    }

    /// Raises one alert and gives its id once it is in the outbox.
    pub(crate) fn raise(&self, daemon: &Daemon, kind: &str, subject: &str) -> String {
        let answer = daemon
            .call("raise", &json!({ "kind": kind, "subject": subject }))
            .unwrap_or_else(|error| panic!("raise: {error}"));
        answer["ids"][0].as_str().unwrap_or_else(|| panic!("no id: {answer}")).to_owned()
    }

    /// An address that the certificate is good for.
    pub(crate) fn url(&self, webhook: &Webhook, path: &str) -> String {
        format!("https://localhost:{}{path}", webhook.port())
    }

    /// What the hook program got.
    pub(crate) fn hooked(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.record()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    fn record(&self) -> PathBuf {
        self.environment.data("hooked")
    }
}

pub(crate) fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
}

/// A call whose answer takes its time.
pub(crate) fn call_for_long(parts: &Parts, method: &str, params: &Value) -> Value {
    let mut stream =
        UnixStream::connect(parts.environment.socket("alertd")).unwrap_or_else(|error| panic!("{error}"));
    let request = json!({ "method": method, "params": params });
    stream.write_all(format!("{request}\n").as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
