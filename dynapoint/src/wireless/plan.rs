// SPDX-License-Identifier: Apache-2.0
//! From wishes and what is on the air to the smallest set of steps.
//!
//! Pure and idempotent: it reads the state it is to change and keeps none of its own, so that after a crash, a restart
//! or somebody else's `wifi reload` it reaches the same place. It never touches a BSS without a wish.
//!
//! A *slot* is a BSS that hostapd has (or had, before we took it out) for a `wifi-iface` section. A section that has
//! no slot of its own, because it is `disabled` in the configuration, can borrow that of a section of the same radio,
//! network and security that is not wanted on the air: then one BSS only changes its name.

use std::fmt;

use crate::rule::Moment;
use crate::ssid::Ssid;

/// What a client needs to know of an access point's security, as far as it decides what a change of name takes.
#[derive(Clone, PartialEq, Eq)]
pub enum Security {
    /// No key, or none that depends on the name (a 64-digit PSK).
    NameFree,
    /// WPA-PSK: the key is derived from the passphrase and the name (IEEE 802.11-2020, J.4).
    Passphrase(String),
    /// SAE, OWE, EAP or fast transition: the name cannot be changed while the BSS runs.
    Bound,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameFree => "NameFree",
            Self::Passphrase(_) => "Passphrase(***)",
            Self::Bound => "Bound",
        })
    }
}

/// A `wifi-iface` section, as far as the planner needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// Name of the section: its identity.
    pub section: String,
    /// Name of its `wifi-device`.
    pub radio: String,
    /// The SSID in the configuration.
    pub ssid: Ssid,
    /// Not `disabled` in the configuration.
    pub enabled: bool,
    /// Security.
    pub security: Security,
    /// Everything else that must be equal for one BSS to stand in for another.
    pub likeness: String,
}

/// What is wanted of an access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Leave it as it is.
    Keep,
    /// On the air under this name.
    On(Ssid),
    /// Off the air.
    Off,
    /// As the configuration has it.
    Configured,
}

/// An access point and what is wanted of it.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The access point.
    pub ap: &'a AccessPoint,
    /// What is wanted.
    pub wish: Wish,
    /// Associated clients are not disturbed before.
    pub grace_until: Moment,
}

/// What hostapd has for a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Name of the section.
    pub section: String,
    /// Name of the network device, which is no identity: it moves when other sections come and go.
    pub ifname: String,
    /// Whether it sends beacons.
    pub presence: Presence,
    /// The name it has, where it is known.
    pub ssid: Option<Ssid>,
    /// Associated clients.
    pub clients: u32,
    /// The first BSS of its radio, which cannot be taken out without taking the radio down.
    pub first: bool,
}

/// Where a BSS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// On the air.
    Beaconing,
    /// In hostapd, without beacons.
    Silent,
    /// Taken out of hostapd; netifd still has it.
    Removed,
}

/// What is on the air.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Air {
    /// The slots.
    pub slots: Vec<Slot>,
    /// Radios that must be left alone for now, with the reason.
    pub busy: Vec<(String, String)>,
}

/// One operation on one BSS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// New name on the air, clients of the old one deauthenticated.
    Rename {
        /// Device.
        ifname: String,
        /// New name.
        ssid: Ssid,
        /// Passphrase to derive the key from again.
        passphrase: Option<Secret>,
    },
    /// Beacons again, under this name.
    Resume {
        /// Device.
        ifname: String,
        /// Name.
        ssid: Ssid,
        /// Passphrase to derive the key from again.
        passphrase: Option<Secret>,
    },
    /// No more beacons; the BSS stays in hostapd.
    Silence {
        /// Device.
        ifname: String,
    },
    /// Back into hostapd, under this name.
    Add {
        /// Device.
        ifname: String,
        /// Name.
        ssid: Ssid,
        /// Radio it belongs to.
        radio: String,
    },
    /// Out of hostapd.
    Remove {
        /// Device.
        ifname: String,
    },
}

impl Step {
    /// The device it is about.
    #[must_use]
    pub fn ifname(&self) -> &str {
        match self {
            Self::Rename { ifname, .. }
            | Self::Resume { ifname, .. }
            | Self::Silence { ifname }
            | Self::Add { ifname, .. }
            | Self::Remove { ifname } => ifname,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { ifname, ssid, .. } => write!(f, "{ifname}: rename to {ssid:?}"),
            Self::Resume { ifname, ssid, .. } => write!(f, "{ifname}: on the air as {ssid:?}"),
            Self::Silence { ifname } => write!(f, "{ifname}: off the air"),
            Self::Add { ifname, ssid, .. } => write!(f, "{ifname}: add as {ssid:?}"),
            Self::Remove { ifname } => write!(f, "{ifname}: remove"),
        }
    }
}

/// A passphrase that does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Something that is wanted and is not being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Section.
    pub section: String,
    /// Why, in words.
    pub reason: String,
    /// When to look again; `None`: when something changes.
    pub until: Option<Moment>,
}

/// What to do and what has to wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order: what comes on the air first, what goes last.
    pub steps: Vec<Step>,
    /// What has to wait.
    pub held: Vec<Held>,
}

/// Which section's network a slot carries after the plan, and under which name.
struct Assignment<'a> {
    slot: &'a Slot,
    holder: &'a AccessPoint,
    name: Option<(&'a AccessPoint, Ssid)>,
    grace_until: Moment,
}

/// The smallest way from what is on the air to what is wanted.
#[must_use]
pub fn plan(wanted: &[Wanted<'_>], air: &Air, now: Moment) -> Plan {
    let mut plan = Plan::default();
    let mut assignments = own_slots(wanted, air);
    for want in wanted {
        if air.slots.iter().any(|slot| slot.section == want.ap.section) {
            continue;
        }
        let Some(ssid) = name_on_air(want) else { continue };
        lend(&mut assignments, want, ssid, &mut plan);
    }
    let mut going = Vec::new();
    for assignment in assignments {
        let busy = air.busy.iter().find(|(radio, _)| *radio == assignment.holder.radio);
        let Some(step) = step(&assignment, &mut plan.held) else { continue };
        if let Some((_, reason)) = busy {
            plan.hold(&assignment, reason.clone(), None);
            continue;
        }
        let disturbs = assignment.slot.presence == Presence::Beaconing && assignment.slot.clients > 0;
        if disturbs && now < assignment.grace_until {
            let reason = format!("{} clients are still associated", assignment.slot.clients);
            plan.hold(&assignment, reason, Some(assignment.grace_until));
            continue;
        }
        match step {
            Step::Silence { .. } | Step::Remove { .. } => going.push(step),
            Step::Rename { .. } | Step::Resume { .. } | Step::Add { .. } => plan.steps.push(step),
        }
    }
    plan.steps.extend(going);
    plan
}

impl Plan {
    fn hold(&mut self, assignment: &Assignment<'_>, reason: String, until: Option<Moment>) {
        let section = assignment.name.as_ref().map_or(assignment.holder, |(ap, _)| *ap).section.clone();
        self.held.push(Held { section, reason, until });
    }
}

/// The name under which the section is to be on the air.
fn name_on_air(want: &Wanted<'_>) -> Option<Ssid> {
    match &want.wish {
        Wish::On(ssid) => Some(ssid.clone()),
        Wish::Configured if want.ap.enabled => Some(want.ap.ssid.clone()),
        Wish::Configured | Wish::Off | Wish::Keep => None,
    }
}

/// Every slot of a section with a wish, carrying that section's network or none.
fn own_slots<'a>(wanted: &[Wanted<'a>], air: &'a Air) -> Vec<Assignment<'a>> {
    let mut assignments = Vec::new();
    for want in wanted.iter().filter(|want| want.wish != Wish::Keep) {
        let Some(slot) = air.slots.iter().find(|slot| slot.section == want.ap.section) else { continue };
        let name = name_on_air(want).map(|ssid| (want.ap, ssid));
        assignments.push(Assignment { slot, holder: want.ap, name, grace_until: want.grace_until });
    }
    assignments
}

/// Finds a free slot for a section that has none; the one that carries the name already comes first.
fn lend<'a>(assignments: &mut [Assignment<'a>], want: &Wanted<'a>, ssid: Ssid, plan: &mut Plan) {
    let fits = |assignment: &Assignment<'_>| {
        assignment.name.is_none()
            && assignment.holder.radio == want.ap.radio
            && assignment.holder.likeness == want.ap.likeness
            && can_stand_in(&assignment.holder.security, &want.ap.security)
    };
    let carries = |assignment: &Assignment<'_>| {
        assignment.slot.presence == Presence::Beaconing && assignment.slot.ssid.as_ref() == Some(&ssid)
    };
    let found = assignments
        .iter()
        .position(|assignment| fits(assignment) && carries(assignment))
        .or_else(|| assignments.iter().position(fits));
    match found {
        Some(index) => {
            let lent = &mut assignments[index];
            lent.name = Some((want.ap, ssid));
            lent.grace_until = lent.grace_until.max(want.grace_until);
        }
        None => plan.held.push(Held {
            section: want.ap.section.clone(),
            reason: "hostapd has no BSS for it: enable it in /etc/config/wireless (dynapoint keeps it off the air \
                     until it is wanted)"
                .to_owned(),
            until: None,
        }),
    }
}

fn can_stand_in(holder: &Security, other: &Security) -> bool {
    matches!(
        (holder, other),
        (Security::NameFree, Security::NameFree) | (Security::Passphrase(_), Security::Passphrase(_))
    )
}

fn step(assignment: &Assignment<'_>, held: &mut Vec<Held>) -> Option<Step> {
    let slot = assignment.slot;
    let ifname = slot.ifname.clone();
    let Some((ap, ssid)) = &assignment.name else {
        return match slot.presence {
            Presence::Beaconing if slot.first => Some(Step::Silence { ifname }),
            Presence::Beaconing => Some(Step::Remove { ifname }),
            Presence::Silent | Presence::Removed => None,
        };
    };
    let renamed = slot.ssid.as_ref() != Some(ssid);
    let passphrase = match &ap.security {
        Security::Passphrase(passphrase) if renamed => Some(Secret(passphrase.clone())),
        Security::Passphrase(_) | Security::NameFree | Security::Bound => None,
    };
    let bound = renamed && ap.security == Security::Bound && slot.presence != Presence::Removed;
    if bound {
        held.push(Held {
            section: ap.section.clone(),
            reason: "its security (SAE, OWE, EAP or 802.11r) does not allow a new name while it runs"
                .to_owned(),
            until: None,
        });
    }
    let ssid = match &slot.ssid {
        Some(current) if bound => current.clone(),
        _ => ssid.clone(),
    };
    match slot.presence {
        Presence::Beaconing if !renamed || bound => None,
        Presence::Beaconing => Some(Step::Rename { ifname, ssid, passphrase }),
        Presence::Silent => Some(Step::Resume { ifname, ssid, passphrase }),
        Presence::Removed => Some(Step::Add { ifname, ssid, radio: assignment.holder.radio.clone() }),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
