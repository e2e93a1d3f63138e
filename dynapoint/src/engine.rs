// SPDX-License-Identifier: Apache-2.0
//! A rule with its checks: the state machine, the round under way, and what the checks found last.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use openwrt::task::spawn;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::check::Check;
use crate::config::RuleConfig;
use crate::probe::{self, Finding};
use crate::round::{Round, HEDGE};
use crate::rule::{Action, Moment, Observation, Rule, State, Transition};
use crate::uplink::{LinkState, Network};
use crate::verdict::{Family, Outcome};

/// What a check found, on its way back to its rule.
#[derive(Debug)]
pub struct Report {
    rule: String,
    round: u32,
    /// Job and what it found.
    ended: Option<(usize, Finding)>,
}

/// What is known of a check in a lane.
#[derive(Debug, Clone)]
pub struct Record {
    /// Index of the check.
    pub check: usize,
    /// Lane.
    pub family: Option<Family>,
    /// What it found last, and when.
    pub last: Option<(Finding, Moment)>,
    /// How often it failed.
    pub failures: u32,
}

/// A rule at work.
#[derive(Debug)]
pub struct Engine {
    /// Its configuration.
    pub config: RuleConfig,
    /// What its checks found last.
    pub records: Vec<Record>,
    /// Changes of state so far.
    pub transitions: u32,
    /// Id of the alert that says that it is offline.
    pub open_alert: Option<String>,
    /// The flapping has been told.
    pub flapping_told: bool,
    /// None while it is switched off.
    rule: Option<Rule>,
    link: Option<LinkState>,
    running: Option<Running>,
    rounds: u32,
    reports: mpsc::UnboundedSender<Report>,
}

#[derive(Debug)]
struct Running {
    round: Round,
    tasks: Vec<JoinHandle<()>>,
    hedge_at: Option<Moment>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Engine {
    /// A rule that starts its first round when it is asked for the first time; `on`: the daemon as a whole is.
    #[must_use]
    pub fn new(config: RuleConfig, on: bool, now: Moment, reports: mpsc::UnboundedSender<Report>) -> Self {
        let rule = (on && config.is_active()).then(|| Rule::new(config.timing.clone(), now));
        Self {
            records: records(&config),
            config,
            transitions: 0,
            open_alert: None,
            flapping_told: false,
            rule,
            link: None,
            running: None,
            rounds: 0,
            reports,
        }
    }

    /// Takes a new configuration; the state stays where the rule stays.
    pub fn reconfigure(&mut self, config: RuleConfig, on: bool, now: Moment) {
        let active = on && config.is_active();
        if self.config == config && active == self.rule.is_some() {
            return;
        }
        self.running = None;
        let old = std::mem::replace(&mut self.records, records(&config));
        for record in &mut self.records {
            let check = &config.checks[record.check];
            let known = old.iter().find(|old| {
                old.family == record.family
                    && self.config.checks.get(old.check).is_some_and(|old| old == check)
            });
            if let Some(known) = known {
                record.last.clone_from(&known.last);
                record.failures = known.failures;
            }
        }
        match (&mut self.rule, active) {
            (Some(rule), true) => rule.retime(config.timing.clone(), now),
            (rule, false) => *rule = None,
            (rule, true) => *rule = Some(Rule::new(config.timing.clone(), now)),
        }
        self.link = None;
        self.config = config;
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.rule.as_ref().map_or(State::Disabled, Rule::state)
    }

    /// The state machine, while the rule is on.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref()
    }

    /// When [`Engine::on_time`] is wanted next.
    #[must_use]
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        let hedge = self.running.as_ref().and_then(|running| running.hedge_at);
        let rule = self.rule.as_ref().and_then(|rule| rule.wake_at(now));
        [hedge, rule].into_iter().flatten().min()
    }

    /// Looks at the link; a loss or a change goes to the state machine.
    pub fn on_network(&mut self, network: &Rc<RefCell<Network>>, now: Moment) -> Vec<Transition> {
        let state =
            network.borrow().link_state(self.config.interface.as_deref(), self.config.demand.families);
        if self.link.as_ref() == Some(&state) {
            return Vec::new();
        }
        let first = self.link.is_none();
        self.link = Some(state.clone());
        match state {
            LinkState::Lost(reason) => self.observe(Observation::LinkLost(reason), network, now),
            LinkState::Up(_) if first => Vec::new(),
            LinkState::Up(_) => self.observe(Observation::LinkChanged, network, now),
        }
    }

    /// The time has come for something.
    pub fn on_time(&mut self, network: &Rc<RefCell<Network>>, now: Moment) -> Vec<Transition> {
        let hedge = match &mut self.running {
            Some(running) if running.hedge_at.is_some_and(|at| now >= at) => {
                let start = running.round.hedge();
                running.hedge_at = running.round.has_more().then(|| now + HEDGE);
                start
            }
            _ => Vec::new(),
        };
        self.start_jobs(&hedge, network);
        self.observe(Observation::Time, network, now)
    }

    /// A check has ended. Reports of earlier rounds are of no use any more.
    pub fn on_report(
        &mut self,
        report: Report,
        network: &Rc<RefCell<Network>>,
        now: Moment,
    ) -> Vec<Transition> {
        if report.round != self.rounds {
            return Vec::new();
        }
        let Some(running) = &mut self.running else { return Vec::new() };
        let (mut start, mut ended) = (Vec::new(), None);
        if let Some((index, finding)) = report.ended {
            start = running.round.ended(index, finding.outcome.clone());
            ended = Some((running.round.job(index).clone(), finding));
        }
        let verdict = running.round.conclude();
        if let Some((job, finding)) = ended {
            let ours = |record: &&mut Record| record.check == job.check && record.family == job.family;
            if let Some(record) = self.records.iter_mut().find(ours) {
                if matches!(finding.outcome, Outcome::Failed(_) | Outcome::Portal(_)) {
                    record.failures = record.failures.saturating_add(1);
                }
                record.last = Some((finding, now));
            }
        }
        self.start_jobs(&start, network);
        match verdict {
            // What went wrong may have been the router's own trouble.
            Some((verdict, _)) if !verdict.state().is_up() && self.lacks_room() => {
                self.observe(Observation::NotMade, network, now)
            }
            Some((verdict, reason)) => self.observe(Observation::Round(verdict, reason), network, now),
            None => Vec::new(),
        }
    }

    /// Feeds the state machine and does what it asks for.
    pub fn observe(
        &mut self,
        observation: Observation,
        network: &Rc<RefCell<Network>>,
        now: Moment,
    ) -> Vec<Transition> {
        let Some(rule) = &mut self.rule else { return Vec::new() };
        let chance = f64::from(u16::from_be_bytes(probe::random())) / f64::from(u16::MAX);
        let mut transitions = Vec::new();
        for action in rule.on(observation, now, chance) {
            match action {
                Action::Probe if self.lacks_room() => {
                    self.running = None;
                    if let Some(rule) = &mut self.rule {
                        // It only puts the round off.
                        let _ = rule.on(Observation::NotMade, now, chance);
                    }
                }
                Action::Probe => self.start_round(network, now),
                Action::Announce(transition) => {
                    self.transitions = self.transitions.saturating_add(1);
                    transitions.push(transition);
                }
            }
        }
        transitions
    }

    /// Whether a round would fail for lack of file descriptors, which says nothing about the Internet.
    fn lacks_room(&self) -> bool {
        // A connection each, and what a script takes.
        let wanted = self.records.len() * 2 + 4;
        let taken: Result<Vec<File>, io::Error> = (0..wanted).map(|_| File::open("/")).collect();
        let Err(error) = taken else { return false };
        openwrt::log_repeated!(log::Level::Warn, "{}: no checks are made: {error}", self.config.name);
        true
    }

    fn start_round(&mut self, network: &Rc<RefCell<Network>>, now: Moment) {
        let lost = matches!(self.link, Some(LinkState::Lost(_)));
        let thorough =
            lost || self.rule.as_ref().is_none_or(Rule::in_doubt) || self.state() == State::Offline;
        let (round, start) = Round::start(self.config.demand, &self.config.checks, thorough);
        self.rounds = self.rounds.wrapping_add(1);
        let hedge_at = round.has_more().then(|| now + HEDGE);
        self.running = Some(Running { round, tasks: Vec::new(), hedge_at });
        self.start_jobs(&start, network);
        if start.is_empty() {
            // No check has a lane in these families; the round ends as soon as it has begun.
            let _ =
                self.reports.send(Report { rule: self.config.name.clone(), round: self.rounds, ended: None });
        }
    }

    fn start_jobs(&mut self, jobs: &[usize], network: &Rc<RefCell<Network>>) {
        let Some(running) = &mut self.running else { return };
        for &index in jobs {
            let job = running.round.job(index).clone();
            let check: Check = self.config.checks[job.check].clone();
            let known =
                self.records.iter().find(|known| known.check == job.check && known.family == job.family);
            let context = probe::Context {
                network: Rc::clone(network),
                rule: self.config.name.clone(),
                families: self.config.demand.families,
                last: known.and_then(|known| known.last.as_ref()).map(|(finding, _)| finding.outcome.clone()),
            };
            let (reports, rule, round) = (self.reports.clone(), self.config.name.clone(), self.rounds);
            running.tasks.push(spawn(async move {
                let finding = probe::run(&check, job.family, &context).await;
                // The receiver lives as long as the daemon.
                let _ = reports.send(Report { rule, round, ended: Some((index, finding)) });
            }));
        }
    }
}

impl Report {
    /// Name of the rule it is for.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl Record {
    /// How long ago it was made, at most.
    #[must_use]
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.last.as_ref().map(|(_, at)| now.saturating_sub(*at))
    }
}

fn records(config: &RuleConfig) -> Vec<Record> {
    let lanes = |(index, check): (usize, &Check)| {
        let lanes = check.lanes(config.demand.families);
        lanes.into_iter().map(move |family| Record { check: index, family, last: None, failures: 0 })
    };
    config.checks.iter().enumerate().flat_map(lanes).collect()
}
