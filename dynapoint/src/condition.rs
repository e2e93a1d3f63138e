// SPDX-License-Identifier: Apache-2.0
//! When an access point is wanted: `dynapoint_rule` in `/etc/config/wireless`.

use std::fmt;

use crate::rule::State;
use crate::verdict::PortalMeaning;
use crate::wireless::plan::Wish;

/// One condition: `RULE`, `!RULE` or `RULE:STATE` (also `!RULE:STATE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Name of the rule.
    pub rule: String,
    /// It holds when the rule is *not* so.
    pub negated: bool,
    /// The exact state; `None`: up.
    pub state: Option<State>,
}

/// What a condition is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleState {
    /// The rule's state.
    pub state: State,
    /// What its portal state counts as.
    pub portal: PortalMeaning,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
    Disabled,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let negated = text.starts_with('!');
        let rest = text.trim_start_matches('!').trim();
        let (rule, state) = match rest.split_once(':') {
            None => (rest, None),
            Some((rule, word)) => match State::from_word(word.trim()) {
                Some(state) => (rule.trim(), Some(state)),
                None => {
                    return Err(
                        "expected a state: online, degraded, portal, offline, unknown or disabled".to_owned()
                    )
                }
            },
        };
        if rule.is_empty() {
            return Err("expected RULE, !RULE or RULE:STATE".to_owned());
        }
        Ok(Self { rule: rule.to_owned(), negated, state })
    }

    /// The name of an access point under this condition says that something is wrong, so templates apply to it.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.negated || self.state.is_some()
    }

    fn truth(&self, rule: RuleState) -> Truth {
        let yes_if = |yes: bool| if yes { Truth::Yes } else { Truth::No };
        match (rule.state, self.state) {
            (state, Some(wanted)) if state == wanted => yes_if(!self.negated),
            (State::Unknown, _) => Truth::Unknown,
            (State::Disabled, _) => Truth::Disabled,
            (_, Some(_)) => yes_if(self.negated),
            // A portal that counts as neither holds neither way.
            (State::Portal, None) if rule.portal == PortalMeaning::Separate => Truth::No,
            (state, None) => yes_if(state.is_up() != self.negated),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negated { "!" } else { "" })?;
        f.write_str(&self.rule)?;
        match self.state {
            Some(state) => write!(f, ":{state}"),
            None => Ok(()),
        }
    }
}

/// Whether an access point is wanted: all conditions must hold. One that is clearly broken decides, whatever the
/// others; before the first verdict nothing changes; a disabled rule leaves what the configuration says.
///
/// `on` is what to wish for when all hold.
#[must_use]
pub fn wish(
    conditions: &[Condition],
    state: impl Fn(&str) -> Option<RuleState>,
    on: impl FnOnce() -> Wish,
) -> Wish {
    let truths: Vec<Truth> = conditions
        .iter()
        .map(|condition| state(&condition.rule).map_or(Truth::Disabled, |rule| condition.truth(rule)))
        .collect();
    if truths.is_empty() || truths.contains(&Truth::Disabled) {
        return Wish::Configured;
    }
    if truths.contains(&Truth::No) {
        return Wish::Off;
    }
    if truths.contains(&Truth::Unknown) {
        return Wish::Keep;
    }
    on()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssid::Ssid;

    fn wanted(conditions: &[&str], state: State, portal: PortalMeaning) -> &'static str {
        let conditions: Vec<_> = conditions.iter().map(|text| Condition::parse(text).unwrap()).collect();
        let state = |rule: &str| match rule {
            "internet" => Some(RuleState { state, portal }),
            "vpn" => Some(RuleState { state: State::Online, portal }),
            "new" => Some(RuleState { state: State::Unknown, portal }),
            _ => None,
        };
        match wish(&conditions, state, || Wish::On(Ssid::cut("x"))) {
            Wish::On(_) => "on",
            Wish::Off => "off",
            Wish::Keep => "keep",
            Wish::Configured => "configured",
        }
    }

    #[test]
    fn the_table_of_states() {
        let offline = PortalMeaning::Offline;
        for (state, plain, negated) in [
            (State::Online, "on", "off"),
            (State::Degraded, "on", "off"),
            (State::Portal, "off", "on"),
            (State::Offline, "off", "on"),
            (State::Unknown, "keep", "keep"),
            (State::Disabled, "configured", "configured"),
        ] {
            assert_eq!(wanted(&["internet"], state, offline), plain, "{state}");
            assert_eq!(wanted(&["!internet"], state, offline), negated, "!{state}");
        }
        assert_eq!(wanted(&["internet"], State::Portal, PortalMeaning::Separate), "off");
        assert_eq!(wanted(&["!internet"], State::Portal, PortalMeaning::Separate), "off");
        assert_eq!(wanted(&["internet:portal"], State::Portal, PortalMeaning::Separate), "on");
        assert_eq!(wanted(&["internet:portal"], State::Online, offline), "off");
        assert_eq!(wanted(&["internet:unknown"], State::Unknown, offline), "on");
        assert_eq!(wanted(&["!internet:degraded"], State::Online, offline), "on");
    }

    #[test]
    fn all_of_a_list_must_hold() {
        let of = |conditions: &[&str]| wanted(conditions, State::Online, PortalMeaning::Offline);
        assert_eq!(of(&["internet", "vpn"]), "on");
        assert_eq!(of(&["internet", "!vpn"]), "off");
        assert_eq!(of(&["internet", "new"]), "keep");
        assert_eq!(of(&["!internet", "new"]), "off");
        assert_eq!(of(&["internet", "nobody"]), "configured");
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for wrong in ["", "!", "internet:down", ":offline"] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Condition::parse("! internet").unwrap().to_string(), "!internet");
    }
}
