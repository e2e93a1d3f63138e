// SPDX-License-Identifier: Apache-2.0
//! Many alerts over links that are black-holed and reset, to servers that restart, out of a daemon that is killed.

use crate::setup::{Options, Parts};
use crate::slack::{Slack, Trouble};
use lab::broker::Setup;
use lab::webhook::Answer;
use lab::{Daemon, FaultyLink, MailServer};
use serde_json::json;
use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn every_alert_arrives_with_a_broker_that_remembers() {
    soak(100, Setup::default(), "3.1.1");
}

#[test]
fn every_alert_arrives_with_a_broker_that_forgets() {
    soak(100, Setup::default().forgetful(), "5");
}

#[test]
#[ignore = "takes ten minutes"]
fn a_thousand_alerts_arrive_with_a_broker_that_remembers() {
    soak(1000, Setup::default(), "5");
}

#[test]
#[ignore = "takes ten minutes"]
fn a_thousand_alerts_arrive_with_a_broker_that_forgets() {
    soak(1000, Setup::default().forgetful(), "3.1.1");
}

fn soak(count: usize, setup: Setup, mqtt_version: &str) {
    let parts = Parts::new();
    let mut broker = setup.tls(&parts.authority, &parts.certificate).start();
    let subscriber = broker.subscribe("lab/router/event");
    let slack = Slack::start(&parts);
    let mut mail = MailServer::start(&parts.certificate);
    let links = [broker.tls_port(), slack.webhook().port(), mail.port()].map(FaultyLink::to);
    let [to_broker, to_slack, to_mail] = &links;
    let options = Options::default()
        .mqtt_tls_at(&parts, to_broker.port())
        .option("mqtt_version", mqtt_version)
        .slack(&format!("https://localhost:{}/x", to_slack.port()))
        .email(to_mail.port())
        .exec(&parts)
        .line("option outbox_size_kb '4096'");
    let mut daemon = parts.start(&options);
    let mut random = Random(0x2545_f491);
    let mut raised = Vec::new();
    let (mut faults, mut kills) = (0, 0);

    for index in 0..count {
        raised.push(parts.raise(&daemon, &format!("kind_{index}"), &format!("Alert {index}")));
        let link = &links[random.below(3)];
        match random.below(14) {
            0 => link.black_hole(),
            1 | 2 => link.heal(),
            3 => link.reset(),
            4 => link.close(),
            5 => slack.trouble(Trouble::Answer(Answer::Status(500, "oops".into()))),
            6 => slack.trouble(Trouble::AcceptAndCut),
            7 => slack.trouble(Trouble::Answer(Answer::Cut)),
            8 => {
                // While it is away the witness must not miss what is acknowledged.
                to_broker.close();
                broker.restart();
                broker.wait_for_log(" 1 lab/router/event");
                to_broker.heal();
            }
            9 if random.below(3) == 0 => {
                mail.stop();
                mail.resume();
            }
            _ => {
                sleep(Duration::from_millis(30 * random.below(10) as u64));
                continue;
            }
        }
        faults += 1;
        if random.below(6) == 0 {
            daemon.kill();
            kills += 1;
            daemon = parts.restart();
        }
    }
    assert!(faults > count / 4 && kills > 0, "{faults} faults, {kills} kills: too good a world");
    links.iter().for_each(FaultyLink::heal);

    let at_exec =
        || ids(parts.hooked().iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()));
    let at_broker = || {
        ids(subscriber
            .messages()
            .iter()
            .map(|message| message.json()["id"].as_str().unwrap_or_default().to_owned()))
    };
    let at_mail = || ids(mail.mails().iter().map(|mail| message_id(mail)));
    let at_slack = || ids(slack.ids().into_iter());
    let arrived =
        || [("mqtt", at_broker()), ("slack", at_slack()), ("email", at_mail()), ("exec", at_exec())];
    let missing =
        |arrived: &HashMap<String, usize>| raised.iter().filter(|id| !arrived.contains_key(*id)).count();
    let deadline = Instant::now() + Duration::from_secs(120 + count as u64 / 2);
    loop {
        let arrived = arrived();
        if arrived.iter().all(|(_, ids)| missing(ids) == 0) {
            break;
        }
        let left: Vec<_> = arrived.iter().map(|(sink, ids)| (sink, missing(ids))).collect();
        assert!(Instant::now() < deadline, "missing after all: {left:?}; {}", status(&daemon));
        // As netifd's event after an outage; without it a back-off may take a quarter of an hour.
        let _ = daemon.call("connectivity_returned", &json!({}));
        sleep(Duration::from_secs(1));
    }
    daemon.wait_for_status("empty queues", |status| {
        ["mqtt", "slack", "email", "exec"].iter().all(|sink| status["alerts"][sink]["queued"] == 0)
    });
    for (sink, ids) in arrived() {
        let duplicates: usize = ids.values().map(|count| count - 1).sum();
        println!("{sink}: {} alerts, {duplicates} twice, {faults} faults, {kills} kills", ids.len());
        assert_eq!(ids.len(), raised.len(), "{sink} got what nobody raised");
        // One alert per sink is on its way at a time: a lost acknowledgement repeats that one. No link leads to the program.
        let lost_acknowledgements = if sink == "exec" { kills } else { faults + kills };
        assert!(duplicates <= lost_acknowledgements, "{sink}: {duplicates} duplicates");
    }
}

fn ids(ids: impl Iterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

fn message_id(mail: &str) -> String {
    let line = mail.lines().find_map(|line| line.strip_prefix("Message-ID: <"));
    line.and_then(|line| line.split('@').next()).unwrap_or_default().to_owned()
}

fn status(daemon: &Daemon) -> String {
    daemon.call("status", &json!({})).map_or_else(|error| error.to_string(), |status| format!("{status:#}"))
}

/// Xorshift: the same faults at each run.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 % limit) as usize
    }
}
