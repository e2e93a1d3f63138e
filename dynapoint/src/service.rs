// SPDX-License-Identifier: Apache-2.0
//! What the daemon offers on its socket and on ubus, and how its status looks.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use alerts::SinkKind;
use openwrt::service::{page, Arg, ArgKind, CallError, Params, Service, LIMIT, OFFSET};
use serde_json::{json, Map, Value};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use crate::daemon::Daemon;
use crate::engine::{Engine, Record};
use crate::rule::{Moment, Observation, State};
use crate::wireless::plan::{Presence, Wish};
use crate::wireless::switch::Report;

/// Name of the daemon and of its object.
pub const NAME: &str = "dynapoint";

const RULE: Arg = Arg::optional("rule", ArgKind::Text, "name of the rule (default: all)");
const HISTORY_ARGS: &[Arg] = &[
    Arg::optional("span", ArgKind::Number, "seconds to look back (default: all that is remembered)"),
    OFFSET,
    LIMIT,
];
const CHECK_ARGS: &[Arg] = &[RULE];
const FORCE_ARGS: &[Arg] = &[
    Arg::required("rule", ArgKind::Text, "name of the rule"),
    Arg::required("state", ArgKind::Text, "online, degraded, portal, offline; auto ends it"),
    Arg::optional("for", ArgKind::Number, "seconds (default: until auto or a restart)"),
];
const SINK_ARGS: &[Arg] = &[Arg::required("sink", ArgKind::Text, "slack, mqtt, email or exec")];

/// Declares everything.
pub fn service(daemon: &Rc<Daemon>) -> Service {
    let with = || Rc::clone(daemon);
    let (status, reload, history, check, force, plan, test, alerts) =
        (with(), with(), with(), with(), with(), with(), with(), with());
    Service::new(NAME, NAME)
        .method("status", "rules, checks, access points", &[], move |_| {
            let answer = daemon_status(&status);
            async move { Ok(answer) }
        })
        .method("reload", "reads the configuration again", &[], move |_| {
            reload.reload();
            let answer = json!({ "configuration": *reload.configuration.borrow() });
            async move { Ok(answer) }
        })
        .method("history", "changes of state, newest first", HISTORY_ARGS, move |params| {
            let answer = transitions(&history, &params);
            async move { answer }
        })
        .method("check_now", "starts a round at once", CHECK_ARGS, move |params| {
            let answer = check_now(&check, &params);
            async move { answer }
        })
        .method("force", "sets a rule's state by hand", FORCE_ARGS, move |params| {
            let answer = force_state(&force, &params);
            async move { answer }
        })
        .method("plan", "what would be done to which BSS now", &[], move |_| {
            let daemon = Rc::clone(&plan);
            async move { Ok(rehearsal(&daemon).await) }
        })
        .method(
            "alert_test",
            "sends a test alert and gives the receiver's answer",
            SINK_ARGS,
            move |params| {
                let daemon = Rc::clone(&test);
                async move {
                    let name = params.text("sink")?;
                    let sink = SinkKind::from_name(name)
                        .ok_or_else(|| CallError::argument("sink", "must be slack, mqtt, email or exec"))?;
                    Ok(serde_json::to_value(daemon.alerts.test(sink).await)?)
                }
            },
        )
        .method("alerts", "what became of the alerts", &[], move |_| {
            let answer = alerts.alerts.status();
            async move { Ok(answer) }
        })
        .event("dynapoint.transition", "a rule changed its state")
}

fn daemon_status(daemon: &Daemon) -> Value {
    let clock = Clock::of(daemon);
    let report = daemon.switch.report();
    let rules: Vec<Value> = daemon.engines.borrow().iter().map(|engine| rule(engine, &clock)).collect();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": clock.now.as_secs(),
        "configuration": *daemon.configuration.borrow(),
        "rules": rules,
        "access_points": access_points(daemon, &report),
        "paused": daemon.pause(),
        "switching": { "steps": report.steps, "failures": report.failures, "last_error": report.last_error },
    });
    let configuration = daemon.configuration.borrow();
    let note = match configuration.current() {
        None => Some("there is no usable /etc/config/dynapoint"),
        Some(config) if !config.enabled => Some("switched off (globals.enabled)"),
        Some(config) if config.rules.is_empty() => Some("there are no rules"),
        Some(config) if !config.has_wireless => Some("there is no /etc/config/wireless"),
        Some(config) if config.access_points.is_empty() => Some("no access point has a dynapoint_rule"),
        Some(_) => None,
    };
    status["note"] = json!(note);
    status
}

fn rule(engine: &Engine, clock: &Clock) -> Value {
    let checks: Vec<Value> = engine.records.iter().map(|record| check(engine, record, clock)).collect();
    let rule = engine.rule();
    let disabled = match engine.config.checks.is_empty() {
        true => "there is nothing to check",
        false => "switched off",
    };
    json!({
        "name": engine.config.name,
        "state": engine.state().word(),
        "since": rule.map(|rule| clock.utc(rule.since())),
        "reason": rule.map_or(disabled, |rule| rule.reason()),
        "next_round": rule.and_then(super::rule::Rule::next_round).map(|at| clock.utc(at)),
        "in_doubt": rule.is_some_and(super::rule::Rule::in_doubt),
        "forced": rule.is_some_and(super::rule::Rule::is_forced),
        "transitions": engine.transitions,
        "checks": checks,
    })
}

fn check(engine: &Engine, record: &Record, clock: &Clock) -> Value {
    let check = &engine.config.checks[record.check];
    let finding = record.last.as_ref().map(|(finding, _)| finding);
    json!({
        "name": check.name,
        "type": check.kind.word(),
        "target": check.kind.target(),
        "interface": check.interface,
        "family": record.family.map(super::verdict::Family::word),
        "result": finding.map(|finding| finding.outcome.word()),
        "detail": finding.and_then(|finding| finding.outcome.detail()),
        "latency": finding.and_then(|finding| finding.latency).map(round_to_us),
        "at": record.last.as_ref().map(|(_, at)| clock.utc(*at)),
        "failures": record.failures,
    })
}

fn access_points(daemon: &Daemon, report: &Report) -> Vec<Value> {
    let wishes = daemon.switch.wishes();
    let slots = &report.sight.air.slots;
    wishes
        .aps
        .iter()
        .map(|(managed, wish, _)| {
            let ap = &managed.ap;
            let (wanted, name) = match wish {
                Wish::On(name) => (Some(true), name),
                Wish::Off => (Some(false), &ap.ssid),
                Wish::Configured => (Some(ap.enabled), &ap.ssid),
                Wish::Keep => (None, &ap.ssid),
            };
            let own = slots.iter().find(|slot| slot.section == ap.section);
            // A section without a BSS of its own is on the air where another one of its radio carries its name.
            let carrier = own.or_else(|| {
                let radio = |section: &str| wishes.aps.iter().find(|(other, ..)| other.ap.section == section);
                slots.iter().find(|slot| {
                    slot.ssid.as_ref() == Some(name)
                        && radio(&slot.section)
                            .is_some_and(|(other, wish, _)| other.ap.radio == ap.radio && *wish == Wish::Off)
                })
            });
            let beaconing = carrier.is_some_and(|slot| slot.presence == Presence::Beaconing);
            let lent_away =
                own.is_some_and(|slot| *wish == Wish::Off && slot.ssid.as_ref() != Some(&ap.ssid));
            let held = report.held.iter().find(|(section, _)| *section == ap.section);
            let missing = report.sight.missing.iter().find(|missing| missing.section == ap.section);
            let conditions: Vec<String> = managed.conditions.iter().map(ToString::to_string).collect();
            json!({
                "section": ap.section,
                "radio": ap.radio,
                "ifname": carrier.map(|slot| slot.ifname.clone()),
                "ssid": name.to_string(),
                "wanted": wanted,
                "on_air": carrier.map_or(own.is_none().then_some(false), |_| Some(beaconing && !lent_away)),
                "rule": conditions.join(" "),
                "clients": carrier.filter(|_| beaconing && !lent_away).map(|slot| slot.clients),
                "note": held.map_or_else(|| missing.map(|missing| missing.reason), |(_, reason)| Some(reason)),
            })
        })
        .collect()
}

fn transitions(daemon: &Daemon, params: &Params) -> Result<Value, CallError> {
    let clock = Clock::of(daemon);
    let span = params.optional_duration("span")?;
    let history = daemon.history.borrow();
    let recent = history
        .iter()
        .rev()
        .filter(|past| span.is_none_or(|span| clock.now.saturating_sub(past.transition.at) <= span))
        .map(|past| {
            json!({
                "rule": past.rule,
                "at": clock.utc(past.transition.at),
                "from": past.transition.from.word(),
                "state": past.transition.to.word(),
                "reason": past.transition.reason,
                "lasted": past.transition.lasted.as_secs_f64(),
                "flapping": past.transition.flapping,
            })
        });
    let page = page(recent, params)?;
    Ok(json!({ "transitions": page.items, "total": page.total }))
}

fn known_rule(daemon: &Daemon, name: &str) -> Result<(), CallError> {
    let engines = daemon.engines.borrow();
    if engines.iter().any(|engine| engine.config.name == name) {
        return Ok(());
    }
    let names: Vec<&str> = engines.iter().map(|engine| engine.config.name.as_str()).collect();
    Err(CallError::not_found(format!("no rule `{name}`; there are: {}", names.join(", "))))
}

fn check_now(daemon: &Daemon, params: &Params) -> Result<Value, CallError> {
    let rule = params.optional_text("rule")?;
    if let Some(rule) = rule {
        known_rule(daemon, rule)?;
    }
    daemon.observe(rule, &Observation::CheckNow);
    let engines = daemon.engines.borrow();
    let started: Vec<&str> = engines
        .iter()
        .filter(|engine| engine.rule().is_some() && rule.is_none_or(|rule| rule == engine.config.name))
        .map(|engine| engine.config.name.as_str())
        .collect();
    Ok(json!({ "started": started }))
}

fn force_state(daemon: &Daemon, params: &Params) -> Result<Value, CallError> {
    let rule = params.text("rule")?;
    known_rule(daemon, rule)?;
    let until = params.optional_duration("for")?.map(|span| daemon.now() + span);
    let observation = match params.text("state")? {
        "auto" => Observation::Release,
        word => match State::from_word(word) {
            Some(state @ (State::Online | State::Degraded | State::Portal | State::Offline)) => {
                Observation::Force(state, until)
            }
            _ => {
                return Err(CallError::argument("state", "must be online, degraded, portal, offline or auto"))
            }
        },
    };
    daemon.observe(Some(rule), &observation);
    let engines = daemon.engines.borrow();
    let state = engines.iter().find(|engine| engine.config.name == rule).map(|engine| engine.state().word());
    Ok(json!({ "rule": rule, "state": state }))
}

async fn rehearsal(daemon: &Daemon) -> Value {
    let (plan, paused) = daemon.switch.rehearse().await;
    let held: Vec<Value> =
        plan.held.iter().map(|held| json!({ "section": held.section, "reason": held.reason })).collect();
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    json!({ "steps": steps, "held": held, "paused": paused })
}

/// Gives moments of the daemon's time as UTC.
struct Clock {
    now: Moment,
    utc: OffsetDateTime,
}

impl Clock {
    fn of(daemon: &Daemon) -> Self {
        Self { now: daemon.now(), utc: OffsetDateTime::now_utc() }
    }

    fn utc(&self, at: Moment) -> String {
        let utc = if at >= self.now { self.utc + (at - self.now) } else { self.utc - (self.now - at) };
        let utc = utc.replace_millisecond(utc.millisecond()).unwrap_or(utc);
        utc.format(&Rfc3339).unwrap_or_default()
    }
}

fn round_to_us(latency: Duration) -> f64 {
    // Below the size at which f64 would lose microseconds for as long as any check lasts.
    (latency.as_secs_f64() * 1e6).round() / 1e6
}

/// `dynapoint status`: for people.
///
/// # Errors
/// What writing gives.
pub fn pretty(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = |value: &Value, key: &str| match &value[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let empty = Vec::new();
    let list = |value: &Value, key: &str| value[key].as_array().unwrap_or(&empty).clone();
    writeln!(
        out,
        "dynapoint {}, up {} s, configuration {}",
        text(status, "version"),
        text(status, "uptime"),
        text(&status["configuration"], "state")
    )?;
    for key in ["note", "paused"] {
        if !status[key].is_null() {
            writeln!(out, "{}", text(status, key))?;
        }
    }
    for problem in list(&status["configuration"], "problems") {
        let value = problem["value"].as_str().map_or(String::new(), |value| format!(": {value}"));
        writeln!(
            out,
            "problem: {}:{}.{}{value}: {}",
            text(&problem, "file"),
            text(&problem, "section"),
            text(&problem, "option"),
            text(&problem, "reason")
        )?;
    }
    for rule in list(status, "rules") {
        writeln!(
            out,
            "\nrule {}: {} since {} ({})",
            text(&rule, "name"),
            text(&rule, "state"),
            text(&rule, "since"),
            text(&rule, "reason")
        )?;
        for check in list(&rule, "checks") {
            let latency =
                check["latency"].as_f64().map_or_else(String::new, |s| format!("{:.1} ms", s * 1e3));
            writeln!(
                out,
                "  {:<9} {:<5} {:<8} {:>10}  {} {}",
                text(&check, "type"),
                text(&check, "family").replace('-', ""),
                text(&check, "result"),
                latency,
                check["target"].as_str().unwrap_or_else(|| check["name"].as_str().unwrap_or_default()),
                check["detail"].as_str().unwrap_or_default()
            )?;
        }
    }
    let points = list(status, "access_points");
    if !points.is_empty() {
        writeln!(
            out,
            "\n{:<20} {:<10} {:<32} {:<7} {:<7} rule",
            "access point", "device", "ssid", "wanted", "on air"
        )?;
    }
    let word = |value: &Value| match value {
        Value::Bool(true) => "yes",
        Value::Bool(false) => "no",
        _ => "-",
    };
    for point in points {
        writeln!(
            out,
            "{:<20} {:<10} {:<32} {:<7} {:<7} {} {}",
            text(&point, "section"),
            text(&point, "ifname"),
            text(&point, "ssid"),
            word(&point["wanted"]),
            word(&point["on_air"]),
            text(&point, "rule"),
            point["note"].as_str().unwrap_or_default()
        )?;
    }
    Ok(())
}

/// Which rules and checks there are, for metrics: nothing that is not in the status already.
pub(crate) fn metrics(daemon: &Daemon) -> openwrt::metrics::Page {
    use openwrt::metrics::{Kind, Page};
    let mut page = Page::new();
    let engines = daemon.engines.borrow();
    let states =
        [State::Online, State::Degraded, State::Portal, State::Offline, State::Unknown, State::Disabled];
    for engine in engines.iter() {
        let rule = engine.config.name.as_str();
        let number = states.iter().position(|state| *state == engine.state()).unwrap_or(0);
        page.family(
            "dynapoint_rule_state",
            Kind::Gauge,
            "State of the rule: 0 online, 1 degraded, 2 portal, 3 offline, 4 unknown, 5 disabled.",
        )
        .sample(&[("rule", rule)], u32::try_from(number).unwrap_or(0));
        page.family("dynapoint_transitions_total", Kind::Counter, "Changes of state.")
            .sample(&[("rule", rule)], engine.transitions);
        let mut failures = Map::new();
        for record in &engine.records {
            let name = engine.config.checks[record.check].name.clone();
            let count = failures.get(&name).and_then(Value::as_u64).unwrap_or(0) + u64::from(record.failures);
            failures.insert(name, json!(count));
        }
        for (check, count) in &failures {
            let count = u32::try_from(count.as_u64().unwrap_or(0)).unwrap_or(u32::MAX);
            page.family(
                "dynapoint_check_failures_total",
                Kind::Counter,
                "Checks that failed or met a portal.",
            )
            .sample(&[("rule", rule), ("check", check)], count);
        }
    }
    page
}
