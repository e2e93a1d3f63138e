// SPDX-License-Identifier: Apache-2.0
//! One round of checks: what to start when, and when the verdict stands. Pure.
//!
//! Where one passing check is enough and nothing is in doubt, checks are started one after the other: the next one
//! when the one before failed or is slow. A healthy router then asks one server per round instead of all.

use std::time::Duration;

use crate::check::Check;
use crate::rule::Verdict;
use crate::verdict::{judge, Demand, Entry, Family, Outcome, Policy};

/// A check that takes longer is helped by the next.
pub const HEDGE: Duration = Duration::from_millis(300);

/// One check in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Index of the check in its rule.
    pub check: usize,
    /// Lane.
    pub family: Option<Family>,
}

/// A round under way.
#[derive(Debug)]
pub struct Round {
    demand: Demand,
    names: Vec<String>,
    jobs: Vec<Job>,
    outcomes: Vec<Option<Outcome>>,
    /// Checks before this one have been started.
    started: usize,
    concluded: bool,
}

impl Round {
    /// A round of these checks; `thorough` starts all at once. Gives the jobs to start.
    #[must_use]
    pub fn start(demand: Demand, checks: &[Check], thorough: bool) -> (Self, Vec<usize>) {
        let jobs: Vec<Job> = checks
            .iter()
            .enumerate()
            .flat_map(|(index, check)| {
                check.lanes(demand.families).into_iter().map(move |family| Job { check: index, family })
            })
            .collect();
        let mut round = Self {
            demand,
            names: checks.iter().map(|check| check.name.clone()).collect(),
            outcomes: vec![None; jobs.len()],
            jobs,
            started: 0,
            concluded: false,
        };
        let first = if demand.policy == Policy::Any && !thorough { 1 } else { checks.len() };
        let start = round.start_until(first);
        (round, start)
    }

    /// What a job is.
    #[must_use]
    pub fn job(&self, index: usize) -> &Job {
        &self.jobs[index]
    }

    /// Whether there are checks left to start.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.concluded && self.started < self.names.len()
    }

    /// A check is slow: gives the jobs to start beside it.
    pub fn hedge(&mut self) -> Vec<usize> {
        if self.concluded {
            return Vec::new();
        }
        self.start_until(self.started + 1)
    }

    /// A job has ended: gives the jobs to start now.
    pub fn ended(&mut self, index: usize, outcome: Outcome) -> Vec<usize> {
        let helped = matches!(outcome, Outcome::Passed | Outcome::Skipped(_));
        self.outcomes[index] = Some(outcome);
        let waiting = self
            .jobs
            .iter()
            .zip(&self.outcomes)
            .any(|(job, outcome)| job.check < self.started && outcome.is_none());
        if self.concluded || (helped && waiting) {
            return Vec::new();
        }
        if helped && self.judge().is_some() {
            return Vec::new();
        }
        self.start_until(self.started + 1)
    }

    /// The verdict, once, as soon as it stands.
    pub fn conclude(&mut self) -> Option<(Verdict, String)> {
        if self.concluded {
            return None;
        }
        let verdict = self.judge()?;
        self.concluded = true;
        Some(verdict)
    }

    fn judge(&self) -> Option<(Verdict, String)> {
        let entries: Vec<Entry<'_>> = self
            .jobs
            .iter()
            .zip(&self.outcomes)
            .map(|(job, outcome)| Entry {
                name: &self.names[job.check],
                family: job.family,
                outcome: outcome.as_ref(),
            })
            .collect();
        judge(self.demand, &entries)
    }

    fn start_until(&mut self, count: usize) -> Vec<usize> {
        let (from, to) = (self.started, count.min(self.names.len()));
        self.started = self.started.max(to);
        let fresh = |job: &Job| (from..to).contains(&job.check);
        let jobs: Vec<usize> =
            self.jobs.iter().enumerate().filter(|(_, job)| fresh(job)).map(|(at, _)| at).collect();
        if jobs.is_empty() && to > from && self.started < self.names.len() {
            // A check without a lane in these families: go on with the next.
            return self.start_until(count + 1);
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Kind;
    use crate::probe::url::Host;
    use crate::verdict::{Families, PortalMeaning};

    fn checks(count: usize) -> Vec<Check> {
        (0..count)
            .map(|index| Check {
                name: format!("c{index}"),
                kind: Kind::Icmp(Host::Name("a".to_owned())),
                interface: None,
                families: None,
                timeout: Duration::from_secs(1),
            })
            .collect()
    }

    fn demand(policy: Policy) -> Demand {
        Demand { policy, families: Families::Only(Family::V4), portal: PortalMeaning::Offline }
    }

    fn failed() -> Outcome {
        Outcome::Failed("no".to_owned())
    }

    #[test]
    fn any_asks_one_after_the_other() {
        let (mut round, start) = Round::start(demand(Policy::Any), &checks(3), false);
        assert_eq!(start, [0]);
        assert_eq!(round.ended(0, failed()), [1]);
        assert_eq!(round.conclude(), None);
        assert_eq!(round.hedge(), [2]);
        assert_eq!(round.ended(1, Outcome::Passed), [0usize; 0]);
        assert_eq!(round.conclude().unwrap().0, Verdict::Online);
        assert_eq!(round.conclude(), None, "only once");
        assert_eq!(round.ended(2, failed()), [0usize; 0]);
    }

    #[test]
    fn in_doubt_or_with_another_policy_all_start_at_once() {
        assert_eq!(Round::start(demand(Policy::Any), &checks(3), true).1, [0, 1, 2]);
        assert_eq!(Round::start(demand(Policy::All), &checks(2), false).1, [0, 1]);
        let (mut round, _) = Round::start(demand(Policy::All), &checks(2), false);
        assert_eq!(round.ended(0, failed()), [0usize; 0]);
        assert_eq!(round.conclude().unwrap().0, Verdict::Offline);
    }

    #[test]
    fn both_families_of_a_check_go_together() {
        let demand = Demand { families: Families::Any, ..demand(Policy::Any) };
        let (mut round, start) = Round::start(demand, &checks(2), false);
        assert_eq!(start, [0, 1]);
        assert_eq!(round.ended(0, Outcome::Passed), [0usize; 0]);
        assert_eq!(round.conclude(), None, "IPv6 is still out");
        assert_eq!(round.ended(1, failed()), [2, 3]);
        assert_eq!(round.ended(3, Outcome::Passed), [0usize; 0]);
        assert_eq!(round.conclude().unwrap().0, Verdict::Online);
    }

    #[test]
    fn everything_skipped_goes_on_to_the_next_check() {
        let (mut round, _) = Round::start(demand(Policy::Any), &checks(2), false);
        assert_eq!(round.ended(0, Outcome::Skipped("no address".to_owned())), [1]);
        assert_eq!(round.ended(1, failed()), [0usize; 0]);
        assert_eq!(round.conclude().unwrap().0, Verdict::Offline);
    }

    #[test]
    fn no_checks_is_a_verdict_too() {
        let (mut round, start) = Round::start(demand(Policy::Any), &[], false);
        assert_eq!(start, [0usize; 0]);
        assert_eq!(round.conclude().unwrap().0, Verdict::Offline);
    }
}
