// SPDX-License-Identifier: Apache-2.0
//! The weekly summary on its way to a mail server, a web hook and a broker.

use super::week::{self, Supply};
use lab::{Authority, Broker, Daemon, Environment, MailServer, Webhook};
use powqutyd::clock::Utc;
use powqutyd::records::file::RecordFile;
use powqutyd::records::{Record, Stamped};
use powqutyd::summary::week::Week;
use serde_json::{json, Value};
use std::time::Duration;

const DAEMON: &str = "powqutyd";

struct Sinks {
    environment: Environment,
    webhook: Webhook,
    mails: MailServer,
    broker: Broker,
    authority: Authority,
}

impl Sinks {
    /// A router on which the week that is over was a bad one.
    fn new() -> Self {
        let authority = Authority::new("lab authority");
        let certificate = authority.issue(&["localhost", "127.0.0.1"]);
        let (mails, environment) = (MailServer::start(&certificate), Environment::new());
        let sinks =
            Self { environment, webhook: Webhook::start(), mails, broker: Broker::start(), authority };
        let monday = last_week().start(&zone());
        let records = sinks.environment.data("records");
        week::write_at(&records, Supply::Bad, monday.millis() - week::MONDAY_MS);
        // Stopped in good order: the time since is no outage.
        let stop = Stamped { time_ms: Utc::now().millis(), record: Record::Stop };
        assert!(RecordFile::new(records, 8 << 20, false, week::header()).append(&stop).1.is_ok());
        sinks
    }

    fn spawn(&self, options: &[(&str, &str)]) -> Daemon {
        let path = |name: &str| self.environment.data(name).display().to_string();
        let hook = self.webhook.url("/services/T/B/x");
        let ca = self.authority.file().display().to_string();
        let all = [
            ("input", "simulator"),
            ("powquty_path", &path("measurements.csv")),
            ("powquty_event_path", &path("events.csv")),
            ("record_path", &path("records")),
            ("slack_webhook", &hook),
            ("mqtt_host", "127.0.0.1"),
            ("mqtt_port", &self.broker.port().to_string()),
            ("mqtt_uname", lab::broker::USER),
            ("mqtt_pw", lab::broker::PASSWORD),
            ("mqtt_event_flag", "1"),
            ("mqtt_event_topic", "lab/events"),
            ("email_host", "localhost"),
            ("email_port", &self.mails.port().to_string()),
            ("email_user", lab::smtp::USER),
            ("email_password", lab::smtp::PASSWORD),
            ("email_from", "monitor@lab.example"),
            ("email_to", "ops@lab.example"),
            // From the first minute of Monday the week before is the one that is due.
            ("summary_hour", "0"),
        ];
        let lines: String = all
            .iter()
            .chain(options)
            .map(|(option, value)| format!("\toption {option} '{}'\n", value.replace('\'', "'\\''")))
            .collect();
        self.environment.write_config("powquty", &format!("config powquty 'powquty'\n{lines}"));
        let mut command = self.environment.command(DAEMON, ["run"]);
        command.env("TZ", "UTC0").env("SSL_CERT_FILE", ca);
        Daemon::start(command, DAEMON, self.environment.socket(DAEMON))
    }
}

fn zone() -> openwrt::timezone::Zone {
    openwrt::timezone::Zone::parse("UTC0").unwrap()
}

fn last_week() -> Week {
    Week::of(Utc::now(), &zone()).before()
}

/// Each sink gets what it can show, once, although the daemon is killed after it.
#[test]
fn each_sink_gets_the_week_in_its_own_form_and_once() {
    let sinks = Sinks::new();
    let subscriber = sinks.broker.subscribe("lab/events");
    let subject = format!("Power quality in week {}: Outside EN 50160:", last_week());
    for _ in 0..2 {
        let daemon = sinks.spawn(&[]);
        let told = sinks.webhook.wait_for(1)[0].json();
        assert!(told["text"].as_str().unwrap().contains(&subject), "{told}");
        let text = told.to_string();
        for part in ["Harmonic 5", "no certified instrument", "52.5200° N", "% measured ("] {
            assert!(text.contains(part), "{part}: {text}");
        }

        let message = subscriber.wait_for_count(1)[0].json();
        assert_eq!((&message["kind"], &message["summary"]), (&json!("summary"), &json!(true)));
        let data = &message["data"];
        assert_eq!((&data["week"], &data["light"]), (&json!(last_week().to_string()), &json!("red")));
        assert_eq!(data["characteristics"].as_array().unwrap().len(), 32);
        assert_eq!(data["events"]["dips"].as_array().unwrap().len(), 5);

        let mail = sinks.mails.wait_for_count(1)[0].clone();
        assert!(mail.contains(&format!("powquty-week-{}.html", last_week())), "{mail}");
        // Quoted-printable: lines are folded anywhere.
        let mail = mail.replace("=\r\n", "").replace("=\n", "");
        assert!(mail.contains("border-collapse:collapse") && mail.contains(">Week before</th>"), "{mail}");
        let status = daemon.wait_for_status("three deliveries", |status| {
            ["slack", "mqtt", "email"].iter().all(|sink| status["alerts"][sink]["queued"] == 0)
        });
        assert!(status["alerts"]["slack"]["last_error"].is_null(), "{status:#}");
        daemon.kill();
    }
    assert_eq!(
        (sinks.webhook.requests().len(), sinks.mails.mails().len(), subscriber.messages().len()),
        (1, 1, 1)
    );
}

#[test]
fn a_sink_that_wants_events_alone_gets_no_summary() {
    let sinks = Sinks::new();
    let daemon = sinks.spawn(&[("slack_notify", "events"), ("email_notify", "summary")]);
    sinks.mails.wait_for_count(1);
    // The others are served in the same turn; a while more proves that nothing follows.
    std::thread::sleep(Duration::from_millis(500));
    assert!(sinks.webhook.requests().is_empty());
    drop(daemon);
}

/// `report_send` to one sink past its configuration, and what the server said.
#[test]
fn a_week_can_be_sent_to_one_sink_by_hand() {
    let sinks = Sinks::new();
    let off = ["slack_notify", "mqtt_notify", "email_notify"].map(|option| (option, "events"));
    let daemon = sinks.spawn(&off);
    daemon.wait_for_status("the measurement", |status| status["source"]["state"] == "running");
    let send = |params: Value| daemon.call("report_send", &params);
    let answer = send(json!({ "sink": "email", "week": last_week().to_string() })).unwrap();
    assert_eq!(answer["delivered"], true, "{answer}");
    // The server has taken it; it comes into the box a moment later.
    assert_eq!(sinks.mails.wait_for_count(1).len(), 1);
    let answer = send(json!({ "sink": "slack" })).unwrap();
    assert_eq!(answer["delivered"], true, "{answer}");
    assert_eq!(sinks.webhook.requests().len(), 1);
    let answer = send(json!({ "sink": "exec" })).unwrap();
    assert_eq!((&answer["delivered"], &answer["answer"]), (&json!(false), &json!("exec is not switched on")));
    assert_eq!(send(json!({ "sink": "pigeon" })).unwrap_err()["code"], "invalid_argument");
    assert_eq!(send(json!({ "sink": "slack", "week": "1999-W01" })).unwrap_err()["code"], "not_found");

    let part = |part: usize| {
        let answer = daemon.call("report_html", &json!({ "part": part })).unwrap();
        (answer["parts"].as_u64().unwrap() as usize, answer["html"].as_str().unwrap().to_owned())
    };
    let (parts, first) = part(0);
    assert!(parts > 1 && first.len() <= 48 * 1024, "{parts} parts, the first of {} bytes", first.len());
    let page = first + &(1..parts).map(|number| part(number).1).collect::<String>();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let week = daemon.call("report", &json!({ "week": last_week().to_string() })).unwrap();
    assert_eq!((&week["light"], &week["complete"]), (&json!("red"), &json!(true)));
}
