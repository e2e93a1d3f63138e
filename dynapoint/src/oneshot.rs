// SPDX-License-Identifier: Apache-2.0
//! `dynapoint probe`: every check once, with its time and its verdict, without a daemon.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use openwrt::cli::Common;
use openwrt::interfaces;
use openwrt::task::spawn;
use openwrt::ubus;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{self, RuleConfig};
use crate::probe::{self, Context, Finding};
use crate::run::dump;
use crate::uplink::{LinkState, Network};
use crate::verdict::{judge, Entry, Family};

const NETIFD_PATIENCE: Duration = Duration::from_secs(2);

/// Makes every check of the rules (or of one) and tells what came out; the flag says whether all rules are up.
///
/// # Errors
/// When there is no configuration, or no such rule.
pub async fn probe(common: &Common, only: Option<&str>) -> Result<(String, bool), String> {
    let (config, problems) = config::load(&common.source).map_err(|error| error.to_string())?;
    let rules: Vec<&RuleConfig> =
        config.rules.iter().filter(|rule| only.is_none_or(|only| only == rule.name)).collect();
    if let (Some(only), true) = (only, rules.is_empty()) {
        return Err(format!("no rule {only} in the configuration"));
    }
    let mut text = String::new();
    for problem in &problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    if rules.is_empty() {
        text.push_str("there are no rules\n");
    }
    let network = Rc::new(RefCell::new(network(common).await));
    let mut all_up = !rules.is_empty();
    for rule in rules {
        all_up &= probe_rule(rule, &network, &mut text).await;
    }
    Ok((text, all_up))
}

async fn network(common: &Common) -> Network {
    let mut network = Network::default();
    dump(&mut network, true);
    if common.ubus.exists() {
        let bus = ubus::Client::connect(&common.ubus);
        let asked = async {
            loop {
                match interfaces::dump(&bus).await {
                    Ok(interfaces) => break interfaces,
                    Err(ubus::Error::NoObject) => break Vec::new(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        network.interfaces = timeout(NETIFD_PATIENCE, asked).await.unwrap_or_default();
    }
    network
}

async fn probe_rule(rule: &RuleConfig, network: &Rc<RefCell<Network>>, text: &mut String) -> bool {
    let mut jobs: Vec<(usize, Option<Family>, JoinHandle<Finding>)> = Vec::new();
    for (index, check) in rule.checks.iter().enumerate() {
        for family in check.lanes(rule.demand.families) {
            let context = Context {
                network: Rc::clone(network),
                rule: rule.name.clone(),
                families: rule.demand.families,
                last: None,
            };
            let check = check.clone();
            jobs.push((index, family, spawn(async move { probe::run(&check, family, &context).await })));
        }
    }
    let mut findings = Vec::new();
    for (index, family, job) in jobs {
        if let Ok(finding) = job.await {
            findings.push((index, family, finding));
        }
    }
    let entries: Vec<Entry<'_>> = findings
        .iter()
        .map(|(index, family, finding)| Entry {
            name: &rule.checks[*index].name,
            family: *family,
            outcome: Some(&finding.outcome),
        })
        .collect();
    // With every outcome known there is a verdict.
    let verdict = judge(rule.demand, &entries);
    let (word, reason) = match &verdict {
        Some((verdict, reason)) => (format!("{verdict:?}").to_lowercase(), reason.as_str()),
        None => ("unknown".to_owned(), "no verdict"),
    };
    let _ = writeln!(text, "rule {}: {word} ({reason})", rule.name);
    let link = network.borrow().link_state(rule.interface.as_deref(), rule.demand.families);
    let _ = match link {
        LinkState::Up(way) => writeln!(text, "  link      up    {way}"),
        LinkState::Lost(reason) => writeln!(text, "  link      lost  {reason}"),
    };
    for (index, family, finding) in &findings {
        let check = &rule.checks[*index];
        let latency = finding
            .latency
            .map_or_else(String::new, |latency| format!("{:.1} ms", latency.as_secs_f64() * 1e3));
        let _ = writeln!(
            text,
            "  {:<9} {:<5} {:<8} {latency:>10}  {} {}",
            check.kind.word(),
            family.map_or("", Family::word),
            finding.outcome.word(),
            check.kind.target().unwrap_or_else(|| check.name.clone()),
            finding.outcome.detail().unwrap_or_default()
        );
    }
    matches!(verdict, Some((verdict, _)) if verdict <= crate::rule::Verdict::Degraded)
}
