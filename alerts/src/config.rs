// SPDX-License-Identifier: Apache-2.0
//! The alert options, the same in every daemon's package.

use crate::outbox::{Policy, Route, SinkKind};
use crate::quiet::QuietHours;
use crate::Severity;
use openwrt::uci::{Reader, Secret};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::Weekday;

const HOUR: Duration = Duration::from_secs(3600);

/// Everything an operator may set about alerts; one that exists is valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Slack, when it is on.
    pub slack: Option<Slack>,
    /// MQTT; what is off is `None` in it.
    pub mqtt: Mqtt,
    /// Email, when it is on.
    pub email: Option<Email>,
    /// The hook program, when it is on.
    pub exec: Option<Exec>,
    /// Where the outbox lies; `None`: in the run directory.
    pub outbox_path: Option<PathBuf>,
    /// Size of the outbox's file, bytes.
    pub outbox_size: usize,
    /// Whether certificates of servers are verified.
    pub tls_verify: bool,
    /// When a periodic summary is due.
    pub summary: SummaryTime,
    routes: [Route; 4],
    window: Duration,
    rate: u32,
    expiry: Duration,
    quiet_hours: Option<QuietHours>,
}

/// An incoming webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Slack {
    /// The URL is the password.
    pub webhook: Secret,
    /// Channel to post to, where the webhook allows the choice.
    pub channel: Option<String>,
    /// Name to post under, where the webhook allows the choice.
    pub user: Option<String>,
}

/// The two things a daemon does with a broker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mqtt {
    /// Broker for measurements, when they are published.
    pub telemetry: Option<Broker>,
    /// Broker for alerts, when they are published; one connection serves both when the brokers are equal.
    pub events: Option<Broker>,
    /// Topic of the measurements; `None`: the daemon's own default.
    pub topic: Option<String>,
    /// Topic of the alerts; `None`: `<topic>/event`.
    pub event_topic: Option<String>,
}

/// How to reach a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// MQTT 5 rather than 3.1.1.
    pub version5: bool,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// TLS, when it is on.
    pub tls: Option<BrokerTls>,
}

/// TLS towards a broker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BrokerTls {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of the own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How to reach a mail server and whom to write to.
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    /// Name or address of the submission server.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What protects the connection.
    pub security: Security,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// Sender's address.
    pub from: String,
    /// Receivers' addresses, at least one.
    pub to: Vec<String>,
}

/// What protects a connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Plain at first, TLS before anything that matters (RFC 3207); a server without it is an error.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// Nothing.
    None,
}

/// A program that gets each alert as JSON on its standard input.
#[derive(Debug, Clone, PartialEq)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// A moment of the week, local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SummaryTime {
    /// Day.
    pub day: Weekday,
    /// Hour, 0 to 23.
    pub hour: u8,
}

impl Config {
    /// Reads the options from a daemon's section; what is wrong takes its default, is noted, and switches its sink off
    /// where there is no sensible default.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let powquty = reader.section().is_some_and(|section| section.kind() == "powquty");
        let tls_verify = reader.flag("tls_verify", true);
        let slack = read_slack(reader, powquty);
        let mqtt = read_mqtt(reader, powquty);
        let email = read_email(reader);
        let exec = read_exec(reader);
        if !tls_verify {
            reader.warning(
                "tls_verify",
                Some("0"),
                "servers are not verified: anyone on the way can read and change the alerts",
            );
        }
        Self {
            slack,
            mqtt,
            email,
            exec,
            tls_verify,
            routes: SinkKind::ALL.map(|sink| read_route(reader, sink)),
            outbox_path: reader.optional_path("outbox_path"),
            outbox_size: reader.integer("outbox_size_kb", 16..=65_536_u32, 256) as usize * 1024,
            window: reader.duration("alert_window", Duration::ZERO..=24 * HOUR, Duration::from_secs(600)),
            rate: reader.integer("alert_rate", 0..=10_000_u32, 60),
            expiry: reader.duration("alert_expiry", Duration::from_secs(60)..=60 * 24 * HOUR, 7 * 24 * HOUR),
            quiet_hours: reader
                .parsed("quiet_hours", |text| text.trim().parse::<QuietHours>().map_err(str::to_owned)),
            summary: SummaryTime {
                day: reader.choice("summary_day", &DAYS, Weekday::Monday),
                hour: reader.integer("summary_hour", 0..=23_u8, 6),
            },
        }
    }

    /// Whether anything goes to `sink`.
    pub fn is_on(&self, sink: SinkKind) -> bool {
        match sink {
            SinkKind::Slack => self.slack.is_some(),
            SinkKind::Mqtt => self.mqtt.events.is_some(),
            SinkKind::Email => self.email.is_some(),
            SinkKind::Exec => self.exec.is_some(),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            routes: SinkKind::ALL.map(|sink| self.is_on(sink).then(|| self.routes[sink as usize].clone())),
            window: self.window,
            rate: self.rate,
            expiry: self.expiry,
            quiet_hours: self.quiet_hours,
            // The rest of the file is room to append in before it has to be written anew.
            capacity: self.outbox_size / 4 * 3,
        }
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

fn read_slack(reader: &mut Reader<'_>, powquty: bool) -> Option<Slack> {
    let webhook = reader.secret("slack_webhook").filter(|webhook| !webhook.expose().trim().is_empty());
    let channel = reader.optional_text("slack_channel").filter(|text| !text.is_empty());
    let user = reader.optional_text("slack_user").filter(|text| !text.is_empty());
    if !reader.flag("slack_notification", webhook.is_some())
        || !available(reader, "slack_notification", SinkKind::Slack)
    {
        return None;
    }
    let Some(webhook) = webhook else {
        reader.problem("slack_webhook", None, "missing, but slack_notification is on");
        return None;
    };
    let url = webhook.expose().trim();
    let host_follows = |scheme: &str| {
        url.strip_prefix(scheme).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_alphanumeric() || c == '[') && !url.contains(char::is_whitespace)
        })
    };
    if host_follows("https://") {
        if !has_tls(reader, "slack_webhook", "https needs TLS") {
            return None;
        }
    } else if host_follows("http://") {
        reader.warning(
            "slack_webhook",
            None,
            "http: the address, which is the password, travels in the clear",
        );
    } else {
        reader.problem("slack_webhook", None, "expected the address of an incoming webhook, https://…");
        return None;
    }
    let default = |text: &str| powquty.then(|| text.to_owned());
    Some(Slack {
        webhook: Secret::new(url),
        channel: channel.or_else(|| default("#general")),
        user: user.or_else(|| default("PowQutyEvent")),
    })
}

fn read_mqtt(reader: &mut Reader<'_>, powquty: bool) -> Mqtt {
    let host = optional_host(reader, "mqtt_host");
    let event_host = optional_host(reader, "mqtt_event_host");
    let port = reader.optional_port("mqtt_port");
    let event_port = reader.optional_port("mqtt_event_port");
    let topic = read_topic(reader, "mqtt_topic");
    let event_topic = read_topic(reader, "mqtt_event_topic");
    let user = reader.optional_text("mqtt_uname").filter(|user| !user.is_empty());
    let password = reader.secret("mqtt_pw");
    let version5 = reader.choice("mqtt_version", &[("3.1.1", false), ("5", true)], false);
    let ca = read_file(reader, "mqtt_ca");
    let certificate = read_file(reader, "mqtt_cert");
    let key = read_file(reader, "mqtt_key");
    let use_tls = reader.flag("mqtt_tls", false);
    let telemetry_on = reader.flag("mqtt_notification", powquty && host.is_some());
    let events_on = reader.flag(
        "mqtt_event_flag",
        event_host.is_some() || (event_topic.is_some() && host.is_some()) || (!powquty && host.is_some()),
    );
    if !telemetry_on && !events_on {
        return Mqtt { topic, event_topic, ..Mqtt::default() };
    }
    let option = if events_on { "mqtt_event_flag" } else { "mqtt_notification" };
    if !available(reader, option, SinkKind::Mqtt) {
        return Mqtt { topic, event_topic, ..Mqtt::default() };
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => {
            reader.problem("mqtt_key", None, "missing, but mqtt_cert is set");
            None
        }
        (None, Some(_)) => {
            reader.problem("mqtt_cert", None, "missing, but mqtt_key is set");
            None
        }
        (None, None) => None,
    };
    if !use_tls && (ca.is_some() || client.is_some()) {
        reader.warning("mqtt_tls", None, "off: mqtt_ca, mqtt_cert and mqtt_key have no effect");
    }
    if use_tls && !has_tls(reader, "mqtt_tls", "this option needs TLS") {
        return Mqtt { topic, event_topic, ..Mqtt::default() };
    }
    let default_port = if use_tls { 8883 } else { 1883 };
    let broker = |host: String, port: Option<u16>| Broker {
        host,
        port: port.unwrap_or(default_port),
        version5,
        login: user.clone().map(|user| (user, password.clone().unwrap_or_else(|| Secret::new("")))),
        tls: use_tls.then(|| BrokerTls { ca: ca.clone(), client: client.clone() }),
    };
    let telemetry = host.clone().filter(|_| telemetry_on).map(|host| broker(host, port));
    let events = match event_host.is_some() {
        true => event_host.map(|host| broker(host, event_port.or(port))),
        false => host.clone().map(|host| broker(host, event_port.or(port))),
    }
    .filter(|_| events_on);
    if telemetry_on && telemetry.is_none() {
        reader.problem("mqtt_host", None, "missing, but mqtt_notification is on");
    }
    if events_on && events.is_none() {
        reader.problem("mqtt_host", None, "missing, but mqtt_event_flag is on");
    }
    Mqtt { telemetry, events, topic, event_topic }
}

fn read_email(reader: &mut Reader<'_>) -> Option<Email> {
    const WORDS: [(&str, Security); 3] =
        [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::None)];
    let address = |text: &str| match is_address(text.trim()) {
        true => Ok(text.trim().to_owned()),
        false => Err("expected an address such as name@example.org".to_owned()),
    };
    let host = optional_host(reader, "email_host");
    let security = reader.choice("email_security", &WORDS, Security::StartTls);
    let port = reader.port("email_port", if security == Security::Tls { 465 } else { 587 });
    let user = reader.optional_text("email_user").filter(|user| !user.is_empty());
    let password = reader.secret("email_password");
    let from =
        reader.parsed(
            "email_from",
            |text| if text.trim().is_empty() { Ok(None) } else { address(text).map(Some) },
        );
    let to: Vec<_> = reader.list_of("email_to", address);
    if !reader.flag("email_notification", host.is_some() && !to.is_empty())
        || !available(reader, "email_notification", SinkKind::Email)
    {
        return None;
    }
    let mut missing = |option: &str| reader.problem(option, None, "missing, but email_notification is on");
    let Some(host) = host else {
        missing("email_host");
        return None;
    };
    if to.is_empty() {
        missing("email_to");
        return None;
    }
    let Some(from) = from.flatten().or_else(|| user.clone().filter(|user| is_address(user))) else {
        missing("email_from");
        return None;
    };
    let login = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (Some(_), None) => {
            missing("email_password");
            return None;
        }
        (None, _) => None,
    };
    if security == Security::None && login.is_some() {
        reader.warning("email_security", Some("none"), "the password travels in the clear");
    }
    if security != Security::None && !has_tls(reader, "email_security", "starttls and tls need TLS") {
        return None;
    }
    Some(Email { host, port, security, login, from, to })
}

fn read_exec(reader: &mut Reader<'_>) -> Option<Exec> {
    let command: Vec<String> = reader
        .optional_text("exec_command")
        .map(|text| text.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    if !reader.flag("exec_notification", !command.is_empty())
        || !available(reader, "exec_notification", SinkKind::Exec)
    {
        return None;
    }
    let Some(program) = command.first() else {
        reader.problem("exec_command", None, "missing, but exec_notification is on");
        return None;
    };
    if !program.starts_with('/') {
        reader.problem(
            "exec_command",
            Some(program),
            "expected an absolute path (starting with /) and arguments",
        );
        return None;
    }
    if !Path::new(program).is_file() {
        reader.warning("exec_command", Some(program), "there is no such program now");
    }
    Some(Exec { command })
}

fn read_route(reader: &mut Reader<'_>, sink: SinkKind) -> Route {
    const SEVERITIES: [(&str, Severity); 3] =
        [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
    const NOTIFY: [(&str, (bool, bool)); 3] =
        [("events", (true, false)), ("summary", (false, true)), ("both", (true, true))];
    let name = sink.name();
    let (events, summaries) = reader.choice(&format!("{name}_notify"), &NOTIFY, (true, true));
    Route {
        min_severity: reader.choice(&format!("{name}_min_severity"), &SEVERITIES, Severity::Info),
        kinds: reader
            .list(&format!("{name}_kinds"))
            .iter()
            .flat_map(|text| text.split([',', ' ', '\t']))
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned)
            .collect(),
        events,
        summaries,
        quiet: sink != SinkKind::Mqtt,
    }
}

fn available(reader: &mut Reader<'_>, option: &str, sink: SinkKind) -> bool {
    let built = match sink {
        SinkKind::Slack => cfg!(feature = "slack"),
        SinkKind::Mqtt => cfg!(feature = "mqtt"),
        SinkKind::Email => cfg!(feature = "email"),
        SinkKind::Exec => cfg!(feature = "exec"),
    };
    if !built {
        let reason = format!("this build has no {}; install the package variant with -tls", sink.name());
        reader.problem(option, None, reason);
    }
    built
}

fn has_tls(reader: &mut Reader<'_>, option: &str, what: &str) -> bool {
    if !cfg!(feature = "tls") {
        reader.problem(
            option,
            None,
            format!("{what}, which this build has not; install the package variant with -tls"),
        );
    }
    cfg!(feature = "tls")
}

fn optional_host(reader: &mut Reader<'_>, option: &str) -> Option<String> {
    // An empty value means "not set", as LuCI and PowQuty's shipped file write it.
    let text = reader.section().and_then(|section| section.get(option));
    match text.is_some_and(|text| text.trim().is_empty()) {
        true => {
            reader.ignore(&[option]);
            None
        }
        false => reader.optional_host(option),
    }
}

fn read_file(reader: &mut Reader<'_>, option: &str) -> Option<PathBuf> {
    let text = reader.section().and_then(|section| section.get(option));
    if text.is_some_and(str::is_empty) {
        reader.ignore(&[option]);
        return None;
    }
    let path = reader.optional_path(option)?;
    if !path.is_file() {
        reader.warning(option, path.to_str(), "there is no such file now");
    }
    Some(path)
}

fn read_topic(reader: &mut Reader<'_>, option: &str) -> Option<String> {
    reader
        .parsed(option, |text| match text.contains(['+', '#', '\0']) || text.len() > 1024 {
            true => Err("expected a topic to publish to: no + or # in it, at most 1024 bytes".to_owned()),
            false => Ok(text.trim().to_owned()),
        })
        .filter(|topic| !topic.is_empty())
}

/// Close enough to RFC 5321's `Mailbox` to name a mistake; the mail library decides in the end.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain = |text: &str| {
        !text.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c))
    };
    plain(local) && plain(domain)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
