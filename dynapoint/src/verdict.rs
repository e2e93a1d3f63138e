// SPDX-License-Identifier: Apache-2.0
//! From the outcomes of checks to the verdict of a round.
//!
//! IPv4 and IPv6 are two lanes. A check that knows no family (carrier, script, …) counts in both; one that cannot be
//! made in a family (no default route, no address of that name) is skipped there, and a lane in which every check of
//! a family was skipped does not count.

use std::fmt;

use crate::rule::Verdict;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `ipv4` or `ipv6`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which families a rule needs (`family`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Either; one of the two failing is degraded.
    Any,
    /// Only this one is checked.
    Only(Family),
    /// Both.
    Both,
}

impl Families {
    /// Whether checks are made in this family.
    #[must_use]
    pub fn wants(self, family: Family) -> bool {
        match self {
            Self::Any | Self::Both => true,
            Self::Only(only) => only == family,
        }
    }
}

/// How many checks must pass (`policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One.
    Any,
    /// All.
    All,
    /// So many.
    AtLeast(usize),
}

impl Policy {
    fn met(self, passed: usize, of: usize) -> bool {
        match self {
            Self::Any => passed >= 1,
            Self::All => passed == of && of > 0,
            Self::AtLeast(count) => passed >= count.min(of).max(1),
        }
    }
}

/// What a captive portal counts as (`portal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalMeaning {
    /// As offline; `!RULE` holds.
    Offline,
    /// As online.
    Online,
    /// As neither; only `RULE:portal` holds.
    Separate,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It passed, below what was hoped for.
    Weak(String),
    /// Something answered in place of the target.
    Portal(String),
    /// It failed.
    Failed(String),
    /// It cannot be made in this family.
    Skipped(String),
}

impl Outcome {
    /// The word in status: `passed`, `weak`, `portal`, `failed`, `skipped`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Weak(_) => "weak",
            Self::Portal(_) => "portal",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why, where there is something to say.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Weak(why) | Self::Portal(why) | Self::Failed(why) | Self::Skipped(why) => Some(why),
        }
    }
}

/// A check in one lane (or in both, without a family).
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Name of the check, for the reason in words.
    pub name: &'a str,
    /// Its lane.
    pub family: Option<Family>,
    /// `None` while it is under way or was not started.
    pub outcome: Option<&'a Outcome>,
}

/// What a rule asks of its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// How many must pass.
    pub policy: Policy,
    /// In which families.
    pub families: Families,
    /// What a captive portal counts as.
    pub portal: PortalMeaning,
}

/// The verdict and its reason in words, as soon as no missing outcome can change the verdict.
#[must_use]
pub fn judge(demand: Demand, entries: &[Entry<'_>]) -> Option<(Verdict, String)> {
    let passed = Outcome::Passed;
    let failed = Outcome::Failed("not made".to_owned());
    let worst = combine(demand, entries, &failed);
    let best = combine(demand, entries, &passed);
    (worst == best).then(|| (worst, explain(worst, entries)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Applies(Verdict),
    DoesNotApply,
}

fn combine(demand: Demand, entries: &[Entry<'_>], missing: &Outcome) -> Verdict {
    let by_family = entries.iter().any(|entry| entry.family.is_some());
    let lane = |family| lane(demand, entries, by_family.then_some(family), missing);
    let verdict = match demand.families {
        _ if !by_family => worst_of(lane(Family::V4), Verdict::Offline),
        Families::Only(family) => worst_of(lane(family), Verdict::Offline),
        Families::Both => {
            worst_of(lane(Family::V4), Verdict::Offline).max(worst_of(lane(Family::V6), Verdict::Offline))
        }
        Families::Any => match (lane(Family::V4), lane(Family::V6)) {
            (Lane::Applies(one), Lane::Applies(other))
                if one <= Verdict::Degraded || other <= Verdict::Degraded =>
            {
                if one.max(other) == Verdict::Online {
                    Verdict::Online
                } else {
                    Verdict::Degraded
                }
            }
            (Lane::Applies(one), Lane::Applies(other)) => one.min(other),
            (Lane::Applies(only), Lane::DoesNotApply) | (Lane::DoesNotApply, Lane::Applies(only)) => only,
            (Lane::DoesNotApply, Lane::DoesNotApply) => Verdict::Offline,
        },
    };
    match (verdict, demand.portal) {
        (Verdict::Portal, PortalMeaning::Online) => Verdict::Online,
        (verdict, _) => verdict,
    }
}

fn worst_of(lane: Lane, otherwise: Verdict) -> Verdict {
    match lane {
        Lane::Applies(verdict) => verdict,
        Lane::DoesNotApply => otherwise,
    }
}

fn lane(demand: Demand, entries: &[Entry<'_>], family: Option<Family>, missing: &Outcome) -> Lane {
    let (mut of, mut strong, mut weak, mut portal, mut own) = (0, 0, 0, 0, false);
    for entry in entries.iter().filter(|entry| entry.family.is_none() || entry.family == family) {
        let outcome = entry.outcome.unwrap_or(missing);
        match outcome {
            Outcome::Skipped(_) => continue,
            Outcome::Passed => strong += 1,
            Outcome::Weak(_) => weak += 1,
            Outcome::Portal(_) => portal += 1,
            Outcome::Failed(_) => {}
        }
        of += 1;
        own |= entry.family.is_some();
    }
    if of == 0 || (family.is_some() && !own) {
        return Lane::DoesNotApply;
    }
    let met = |passed| demand.policy.met(passed, of);
    Lane::Applies(match () {
        () if met(strong) => Verdict::Online,
        () if met(strong + weak) => Verdict::Degraded,
        () if met(strong + weak + portal) => Verdict::Portal,
        () => Verdict::Offline,
    })
}

fn explain(verdict: Verdict, entries: &[Entry<'_>]) -> String {
    if entries.is_empty() {
        return "there is nothing to check".to_owned();
    }
    let made = |entry: &&Entry<'_>| !matches!(entry.outcome, None | Some(Outcome::Skipped(_)));
    let of = entries.iter().filter(made).count();
    let passed = entries
        .iter()
        .filter(|entry| matches!(entry.outcome, Some(Outcome::Passed | Outcome::Weak(_))))
        .count();
    let mut text =
        if of == 0 { "no check could be made".to_owned() } else { format!("{passed} of {of} checks passed") };
    if verdict == Verdict::Online {
        return text;
    }
    let telling = entries.iter().filter(|entry| match entry.outcome {
        Some(Outcome::Skipped(_)) => of == 0,
        Some(Outcome::Passed) | None => false,
        Some(_) => true,
    });
    for entry in telling.take(3) {
        let family = entry.family.map_or_else(String::new, |family| format!(" ({family})"));
        let detail = entry.outcome.and_then(Outcome::detail).unwrap_or_default();
        text.push_str(&format!("; {}{family}: {detail}", entry.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use Family::{V4, V6};

    fn p() -> Outcome {
        Outcome::Passed
    }
    fn f() -> Outcome {
        Outcome::Failed("no answer".to_owned())
    }
    fn portal() -> Outcome {
        Outcome::Portal("redirected".to_owned())
    }
    fn s() -> Outcome {
        Outcome::Skipped("no default route".to_owned())
    }

    fn verdict(
        policy: Policy,
        families: Families,
        outcomes: &[(Option<Family>, Option<Outcome>)],
    ) -> Option<Verdict> {
        let entries: Vec<Entry<'_>> = outcomes
            .iter()
            .map(|(family, outcome)| Entry { name: "check", family: *family, outcome: outcome.as_ref() })
            .collect();
        judge(Demand { policy, families, portal: PortalMeaning::Offline }, &entries)
            .map(|(verdict, _)| verdict)
    }

    fn v4(outcomes: &[Option<Outcome>]) -> Vec<(Option<Family>, Option<Outcome>)> {
        outcomes.iter().map(|outcome| (Some(V4), outcome.clone())).collect()
    }

    #[test]
    fn policies_count() {
        let only = Families::Only(V4);
        let two_of_three = v4(&[Some(p()), Some(f()), Some(p())]);
        assert_eq!(verdict(Policy::Any, only, &two_of_three), Some(Verdict::Online));
        assert_eq!(verdict(Policy::All, only, &two_of_three), Some(Verdict::Offline));
        assert_eq!(verdict(Policy::AtLeast(2), only, &two_of_three), Some(Verdict::Online));
        assert_eq!(verdict(Policy::AtLeast(3), only, &two_of_three), Some(Verdict::Offline));
    }

    #[test]
    fn decides_as_soon_as_the_rest_does_not_matter() {
        let only = Families::Only(V4);
        assert_eq!(verdict(Policy::Any, only, &v4(&[Some(p()), None])), Some(Verdict::Online));
        assert_eq!(verdict(Policy::Any, only, &v4(&[Some(f()), None])), None);
        assert_eq!(verdict(Policy::All, only, &v4(&[Some(f()), None])), Some(Verdict::Offline));
        assert_eq!(verdict(Policy::All, only, &v4(&[Some(p()), None])), None);
        assert_eq!(verdict(Policy::Any, only, &v4(&[Some(portal()), None])), None);
    }

    #[test]
    fn families_are_judged_apart() {
        let split = [(Some(V4), Some(p())), (Some(V6), Some(f()))];
        assert_eq!(verdict(Policy::Any, Families::Any, &split), Some(Verdict::Degraded));
        assert_eq!(verdict(Policy::Any, Families::Both, &split), Some(Verdict::Offline));
        assert_eq!(verdict(Policy::Any, Families::Only(V4), &split[..1]), Some(Verdict::Online));
        let single_stack = [(Some(V4), Some(p())), (Some(V6), Some(s()))];
        assert_eq!(verdict(Policy::Any, Families::Any, &single_stack), Some(Verdict::Online));
        assert_eq!(verdict(Policy::Any, Families::Both, &single_stack), Some(Verdict::Offline));
        let none = [(Some(V4), Some(s())), (Some(V6), Some(s()))];
        assert_eq!(verdict(Policy::Any, Families::Any, &none), Some(Verdict::Offline));
    }

    #[test]
    fn a_check_without_family_counts_in_every_lane_but_makes_none() {
        let carrier_up = [(None, Some(p())), (Some(V4), Some(f())), (Some(V6), Some(s()))];
        assert_eq!(verdict(Policy::All, Families::Any, &carrier_up), Some(Verdict::Offline));
        assert_eq!(verdict(Policy::All, Families::Any, &[(None, Some(p()))]), Some(Verdict::Online));
        let no_route = [(None, Some(p())), (Some(V4), Some(s())), (Some(V6), Some(s()))];
        assert_eq!(verdict(Policy::Any, Families::Any, &no_route), Some(Verdict::Offline));
    }

    #[test]
    fn weak_is_degraded_and_portal_is_portal() {
        let only = Families::Only(V4);
        let weak = v4(&[Some(Outcome::Weak("TQ 40".to_owned()))]);
        assert_eq!(verdict(Policy::Any, only, &weak), Some(Verdict::Degraded));
        assert_eq!(verdict(Policy::Any, only, &v4(&[Some(portal()), Some(f())])), Some(Verdict::Portal));
        assert_eq!(verdict(Policy::All, only, &v4(&[Some(portal()), Some(f())])), Some(Verdict::Offline));
        assert_eq!(verdict(Policy::All, only, &v4(&[Some(portal()), Some(p())])), Some(Verdict::Portal));
    }

    #[test]
    fn nothing_to_check_is_offline_with_a_reason() {
        let demand = Demand { policy: Policy::Any, families: Families::Any, portal: PortalMeaning::Offline };
        let (verdict, reason) = judge(demand, &[]).unwrap();
        assert_eq!((verdict, reason.as_str()), (Verdict::Offline, "there is nothing to check"));
    }

    #[test]
    fn the_reason_names_what_failed() {
        let (ok, bad) = (p(), f());
        let entries = [
            Entry { name: "a", family: Some(V4), outcome: Some(&ok) },
            Entry { name: "b", family: Some(V4), outcome: Some(&bad) },
        ];
        let demand =
            Demand { policy: Policy::All, families: Families::Only(V4), portal: PortalMeaning::Offline };
        assert_eq!(judge(demand, &entries).unwrap().1, "1 of 2 checks passed; b (IPv4): no answer");
    }
}
