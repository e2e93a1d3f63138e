// SPDX-License-Identifier: Apache-2.0
//! `/etc/config/wireless`: the access points with `dynapoint_rule`.

use openwrt::uci::{Package, Problems, Reader, Section};

use super::{ManagedAp, RuleConfig};
use crate::condition::Condition;
use crate::ssid::{Ssid, MAX_BYTES};
use crate::wireless::plan::{AccessPoint, Security};

/// Options in which one access point may differ from another whose BSS it borrows.
const PRIVATE: [&str; 7] = ["ssid", "disabled", "dynapoint_rule", "key", "ifname", "macaddr", "device"];

/// Reads the sections with conditions; one that refers to an unknown rule is left alone.
pub(super) fn read(wireless: &Package, rules: &[RuleConfig], problems: &mut Problems) -> Vec<ManagedAp> {
    wireless.of_kind("wifi-iface").filter_map(|section| managed(section, rules, problems)).collect()
}

fn managed(section: &Section, rules: &[RuleConfig], problems: &mut Problems) -> Option<ManagedAp> {
    let mut reader = Reader::new("wireless", Some(section), problems);
    let written = reader.list("dynapoint_rule").len();
    if written == 0 {
        return None;
    }
    let conditions = reader.list_of("dynapoint_rule", |text| {
        let condition = Condition::parse(text)?;
        if rules.iter().any(|rule| rule.name == condition.rule) {
            return Ok(condition);
        }
        Err(format!("no rule {} in /etc/config/dynapoint; this access point is left alone", condition.rule))
    });
    if conditions.len() < written {
        return None;
    }
    let mode = reader.text("mode", "ap");
    if mode != "ap" {
        reader.problem(
            "dynapoint_rule",
            None,
            format!("only access points can be switched, this is mode {mode}"),
        );
        return None;
    }
    let Some(ssid) = reader.optional_text("ssid") else {
        reader.problem("ssid", None, "missing; this access point is left alone");
        return None;
    };
    let Some(radio) = reader.optional_text("device") else {
        reader.problem("device", None, "missing; this access point is left alone");
        return None;
    };
    if ssid.len() > MAX_BYTES {
        reader.problem("ssid", Some(&ssid), format!("longer than {MAX_BYTES} bytes; it is cut"));
    }
    Some(ManagedAp {
        ap: AccessPoint {
            section: section.name().to_owned(),
            radio,
            ssid: Ssid::cut(&ssid),
            enabled: !reader.flag("disabled", false),
            security: security(section),
            likeness: likeness(section),
        },
        ifname: reader.optional_text("ifname"),
        conditions,
    })
}

/// The words of `encryption` in OpenWrt's wireless configuration.
fn security(section: &Section) -> Security {
    let encryption = section.get("encryption").unwrap_or("none").split('+').next().unwrap_or("none");
    let fast_transition = matches!(section.get("ieee80211r"), Some("1" | "on" | "yes" | "true" | "enabled"));
    let key = section.get("key").unwrap_or_default();
    let is_raw = key.len() == 64 && key.bytes().all(|digit| digit.is_ascii_hexdigit());
    match encryption {
        _ if fast_transition => Security::Bound,
        "none" | "" => Security::NameFree,
        psk if psk.starts_with("psk") && is_raw => Security::NameFree,
        psk if psk.starts_with("psk") => Security::Passphrase(key.to_owned()),
        wep if wep.starts_with("wep") => Security::NameFree,
        _ => Security::Bound,
    }
}

fn likeness(section: &Section) -> String {
    let mut options: Vec<String> = section
        .options()
        .iter()
        .filter(|option| !PRIVATE.contains(&option.name()))
        .filter(|option| {
            !(option.name() == "encryption" && option.values().iter().all(|v| v.as_str() == "none"))
        })
        .map(|option| {
            let values: Vec<&str> = option.values().iter().map(openwrt::uci::Text::as_str).collect();
            format!("{}={}", option.name(), values.join("\u{1f}"))
        })
        .collect();
    options.sort_unstable();
    options.join("\n")
}
