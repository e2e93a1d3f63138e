// SPDX-License-Identifier: Apache-2.0
//! Every alert has arrived twice: at a program on the router, and through a broker that was restarted again and again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::router::{record, Router, DIP_EVERY};

/// So long the last alerts may take, once everything is well.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until nothing is under way; what is missing.
pub fn judge(router: &Router, length: Duration) -> Vec<String> {
    let mut complaints = Vec::new();
    let limit = Instant::now() + PATIENCE;
    for (name, daemon, environment) in router.telling() {
        let arrived = || {
            let topic = format!("soak/{name}/event");
            let messages = router.subscriber.messages();
            ids(messages.iter().filter(|message| message.topic == topic).map(lab::broker::Message::json))
        };
        let told = || {
            let text = std::fs::read_to_string(record(environment)).unwrap_or_default();
            ids(text.lines().filter_map(|line| serde_json::from_str(line).ok()))
        };
        let sinks = || daemon.call("alerts", &json!({})).unwrap_or(Value::Null);
        let number = |sinks: &Value, sink: &str, key: &str| sinks[sink][key].as_u64().unwrap_or(u64::MAX);
        // Alerts go on being raised: what is known now has to arrive.
        let wanted = told();
        loop {
            // As netifd's event after an outage; without it a back-off may take a quarter of an hour.
            let _ = daemon.call("connectivity_returned", &json!({}));
            if wanted.is_subset(&arrived()) || Instant::now() > limit {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        let (by_broker, sinks) = (arrived(), sinks());
        let untold: Vec<&String> = by_broker.iter().filter(|id| !told().contains(*id)).collect();
        if !untold.is_empty() {
            complaints.push(format!("{name}: alerts never came to the program: {untold:?}; {sinks:#}"));
        }
        let missing: Vec<&String> = wanted.difference(&by_broker).collect();
        println!("alerts of {name}: {} raised, {} missing at the broker", wanted.len(), missing.len());
        if !missing.is_empty() {
            complaints.push(format!("{name}: alerts never came to the broker: {missing:?}; {sinks:#}"));
        }
        if wanted.is_empty() {
            complaints.push(format!("{name} had nothing to tell"));
        }
        for sink in ["mqtt", "exec"] {
            if number(&sinks, sink, "dropped") != 0 {
                complaints.push(format!("{name}: {sink} dropped alerts: {sinks:#}"));
            }
        }
        if name == "powquty" {
            complaints.extend(dips(daemon, wanted.len(), length));
        }
    }
    complaints
}

/// As many dips as the script had, and an alert for each.
fn dips(daemon: &lab::Daemon, alerts: usize, length: Duration) -> Option<String> {
    let status = daemon.call("status", &json!({})).unwrap_or(Value::Null);
    let counted = status["events"]["dip"].as_u64().unwrap_or(0);
    let expected = length.as_secs() / DIP_EVERY;
    println!("dips: {counted} counted, {expected} in the script so far");
    // One may be under way on either side, and an alert more than there were dips is that of the next.
    (counted + 2 < expected || (alerts as u64) + 2 < counted)
        .then(|| format!("{expected} dips in the script, {counted} counted, {alerts} told"))
}

fn ids(alerts: impl Iterator<Item = Value>) -> BTreeSet<String> {
    alerts.filter_map(|alert| alert["id"].as_str().map(str::to_owned)).collect()
}
