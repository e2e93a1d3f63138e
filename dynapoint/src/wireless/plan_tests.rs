// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn ap(section: &str, radio: &str, ssid: &str) -> AccessPoint {
    AccessPoint {
        section: section.to_owned(),
        radio: radio.to_owned(),
        ssid: Ssid::cut(ssid),
        enabled: true,
        security: Security::NameFree,
        likeness: String::new(),
    }
}

fn slot(section: &str, ifname: &str, ssid: &str, first: bool) -> Slot {
    Slot {
        section: section.to_owned(),
        ifname: ifname.to_owned(),
        presence: Presence::Beaconing,
        ssid: Some(Ssid::cut(ssid)),
        clients: 0,
        first,
    }
}

fn on(ap: &AccessPoint) -> Wanted<'_> {
    Wanted { ap, wish: Wish::On(ap.ssid.clone()), grace_until: Moment::ZERO }
}

fn off(ap: &AccessPoint) -> Wanted<'_> {
    Wanted { ap, wish: Wish::Off, grace_until: Moment::ZERO }
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::to_string).collect()
}

/// What hostapd does with a step.
fn apply(air: &mut Air, step: &Step) {
    let slot = air.slots.iter_mut().find(|slot| slot.ifname == step.ifname()).expect("a step on a slot");
    match step {
        Step::Rename { ssid, .. } => {
            assert_eq!(slot.presence, Presence::Beaconing);
            slot.ssid = Some(ssid.clone());
            slot.clients = 0;
        }
        Step::Resume { ssid, .. } => {
            assert_eq!(slot.presence, Presence::Silent);
            slot.ssid = Some(ssid.clone());
            slot.presence = Presence::Beaconing;
        }
        Step::Add { ssid, .. } => {
            assert_eq!(slot.presence, Presence::Removed);
            slot.ssid = Some(ssid.clone());
            slot.presence = Presence::Beaconing;
        }
        Step::Silence { .. } => {
            assert!(slot.first && slot.presence == Presence::Beaconing);
            slot.presence = Presence::Silent;
            slot.clients = 0;
        }
        Step::Remove { .. } => {
            assert!(!slot.first, "removing the first BSS takes the radio down");
            slot.presence = Presence::Removed;
            slot.ssid = None;
            slot.clients = 0;
        }
    }
}

#[test]
fn the_announced_example_leaves_exactly_one_on_the_air() {
    let (online, offline) =
        (ap("internet", "radio0", "freifunk"), ap("maintenance", "radio0", "maintenance"));
    let mut air = Air {
        slots: vec![
            slot("internet", "phy0-ap0", "freifunk", true),
            slot("maintenance", "phy0-ap1", "maintenance", false),
        ],
        busy: vec![],
    };
    let first = plan(&[on(&online), off(&offline)], &air, Moment::ZERO);
    assert_eq!(texts(&first), ["phy0-ap1: remove"]);
    first.steps.iter().for_each(|step| apply(&mut air, step));
    let down = plan(&[off(&online), on(&offline)], &air, Moment::ZERO);
    assert_eq!(texts(&down), [r#"phy0-ap1: add as "maintenance""#, "phy0-ap0: off the air"]);
    down.steps.iter().for_each(|step| apply(&mut air, step));
    let up = plan(&[on(&online), off(&offline)], &air, Moment::ZERO);
    assert_eq!(texts(&up), [r#"phy0-ap0: on the air as "freifunk""#, "phy0-ap1: remove"]);
}

#[test]
fn a_disabled_twin_borrows_the_bss_and_only_the_name_changes() {
    let online = ap("a", "radio0", "freifunk");
    let offline = AccessPoint { enabled: false, ..ap("b", "radio0", "offline") };
    let mut air = Air { slots: vec![slot("a", "wlan0", "freifunk", true)], busy: vec![] };
    let down = plan(&[off(&online), on(&offline)], &air, Moment::ZERO);
    assert_eq!(texts(&down), [r#"wlan0: rename to "offline""#]);
    apply(&mut air, &down.steps[0]);
    assert_eq!(plan(&[off(&online), on(&offline)], &air, Moment::ZERO), Plan::default());
    let up = plan(&[on(&online), off(&offline)], &air, Moment::ZERO);
    assert_eq!(texts(&up), [r#"wlan0: rename to "freifunk""#]);
}

#[test]
fn a_twin_of_another_radio_network_or_security_does_not_borrow() {
    let online = ap("a", "radio0", "freifunk");
    let disabled = AccessPoint { enabled: false, ..ap("b", "radio0", "offline") };
    let others = [
        AccessPoint { radio: "radio1".to_owned(), ..disabled.clone() },
        AccessPoint { likeness: "network=guest".to_owned(), ..disabled.clone() },
        AccessPoint { security: Security::Passphrase("12345678".to_owned()), ..disabled },
    ];
    for other in &others {
        let air = Air { slots: vec![slot("a", "wlan0", "freifunk", true)], busy: vec![] };
        let down = plan(&[off(&online), on(other)], &air, Moment::ZERO);
        assert_eq!(texts(&down), ["wlan0: off the air"]);
        assert_eq!(down.held[0].section, "b");
    }
}

#[test]
fn a_passphrase_goes_with_the_new_name() {
    let psk = |passphrase: &str| Security::Passphrase(passphrase.to_owned());
    let online = AccessPoint { security: psk("online-key"), ..ap("a", "radio0", "home") };
    let offline = AccessPoint { enabled: false, security: psk("offline-key"), ..ap("b", "radio0", "down") };
    let air = Air { slots: vec![slot("a", "wlan0", "home", true)], busy: vec![] };
    let down = plan(&[off(&online), on(&offline)], &air, Moment::ZERO);
    assert!(
        matches!(&down.steps[..], [Step::Rename { passphrase: Some(key), .. }] if key.0 == "offline-key"),
        "{down:?}"
    );
    assert!(!format!("{down:?}").contains("offline-key"));
}

#[test]
fn a_name_bound_bss_is_started_and_stopped_but_not_renamed() {
    let sae = AccessPoint { security: Security::Bound, ..ap("a", "radio0", "home") };
    let air = Air { slots: vec![slot("a", "wlan0", "home", true)], busy: vec![] };
    let wanted = [Wanted { ap: &sae, wish: Wish::On(Ssid::cut("home_node")), grace_until: Moment::ZERO }];
    let result = plan(&wanted, &air, Moment::ZERO);
    assert!(result.steps.is_empty() && result.held.len() == 1, "{result:?}");
    assert_eq!(texts(&plan(&[off(&sae)], &air, Moment::ZERO)), ["wlan0: off the air"]);
}

#[test]
fn grace_waits_for_clients_and_only_for_them() {
    let (online, offline) = (ap("a", "radio0", "on"), ap("b", "radio0", "off"));
    let mut air =
        Air { slots: vec![slot("a", "wlan0", "on", true), slot("b", "wlan0_1", "off", false)], busy: vec![] };
    air.slots[0].clients = 2;
    air.slots[1].presence = Presence::Removed;
    let grace = Duration::from_secs(60);
    let wanted =
        [Wanted { grace_until: grace, ..off(&online) }, Wanted { grace_until: grace, ..on(&offline) }];
    let early = plan(&wanted, &air, Duration::from_secs(59));
    assert_eq!(texts(&early), [r#"wlan0_1: add as "off""#]);
    assert_eq!(early.held[0].until, Some(grace));
    assert_eq!(plan(&wanted, &air, grace).steps.len(), 2);
    air.slots[0].clients = 0;
    assert_eq!(plan(&wanted, &air, Moment::ZERO).steps.len(), 2);
}

#[test]
fn a_busy_radio_is_left_alone() {
    let (one, two) = (ap("a", "radio0", "one"), ap("b", "radio1", "two"));
    let air = Air {
        slots: vec![slot("a", "phy0-ap0", "one", true), slot("b", "phy1-ap0", "two", true)],
        busy: vec![("radio0".to_owned(), "channel availability check (DFS)".to_owned())],
    };
    let result = plan(&[off(&one), off(&two)], &air, Moment::ZERO);
    assert_eq!(texts(&result), ["phy1-ap0: off the air"]);
    assert_eq!(result.held[0].section, "a");
}

#[test]
fn configured_is_what_the_file_says() {
    let online = ap("a", "radio0", "freifunk");
    let offline = AccessPoint { enabled: false, ..ap("b", "radio0", "offline") };
    let mut air = Air { slots: vec![slot("a", "wlan0", "offline", true)], busy: vec![] };
    let wanted: Vec<_> = [&online, &offline]
        .into_iter()
        .map(|ap| Wanted { ap, wish: Wish::Configured, grace_until: Moment::ZERO })
        .collect();
    assert_eq!(texts(&plan(&wanted, &air, Moment::ZERO)), [r#"wlan0: rename to "freifunk""#]);
    air.slots[0].presence = Presence::Silent;
    assert_eq!(texts(&plan(&wanted, &air, Moment::ZERO)), [r#"wlan0: on the air as "freifunk""#]);
}

/// A random configuration: sections over two radios, some with a slot, with wishes.
fn worlds() -> impl Strategy<Value = (Vec<AccessPoint>, Vec<Wish>, Air)> {
    let section = (0u8..2, 0u8..4, any::<bool>(), 0u8..3, 0u8..4, 0u8..3, 0u32..3);
    prop::collection::vec(section, 1..7).prop_map(|sections| {
        let (mut aps, mut wishes, mut air) = (Vec::new(), Vec::new(), Air::default());
        let mut firsts = [true, true];
        for (index, (radio, name, enabled, security, wish, presence, clients)) in
            sections.into_iter().enumerate()
        {
            let mut new = ap(&format!("s{index}"), &format!("radio{radio}"), &format!("net{name}"));
            new.enabled = enabled;
            new.security = match security {
                0 => Security::NameFree,
                1 => Security::Passphrase("12345678".to_owned()),
                _ => Security::Bound,
            };
            wishes.push(match wish {
                0 => Wish::Keep,
                1 => Wish::On(Ssid::cut(&format!("name{name}"))),
                2 => Wish::Off,
                _ => Wish::Configured,
            });
            if enabled {
                let first = std::mem::take(&mut firsts[usize::from(radio)]);
                let presence = match presence {
                    0 => Presence::Beaconing,
                    1 if first => Presence::Silent,
                    _ if first => Presence::Beaconing,
                    _ => Presence::Removed,
                };
                air.slots.push(Slot {
                    section: new.section.clone(),
                    ifname: format!("if{index}"),
                    presence,
                    ssid: (presence != Presence::Removed).then(|| new.ssid.clone()),
                    clients: if presence == Presence::Beaconing { clients } else { 0 },
                    first,
                });
            }
            aps.push(new);
        }
        (aps, wishes, air)
    })
}

fn wanted<'a>(aps: &'a [AccessPoint], wishes: &[Wish]) -> Vec<Wanted<'a>> {
    aps.iter()
        .zip(wishes)
        .map(|(ap, wish)| Wanted { ap, wish: wish.clone(), grace_until: Moment::ZERO })
        .collect()
}

proptest! {
    #[test]
    fn once_carried_out_there_is_nothing_left_to_do((aps, wishes, mut air) in worlds()) {
        let wanted = wanted(&aps, &wishes);
        for step in plan(&wanted, &air, Moment::ZERO).steps {
            apply(&mut air, &step);
        }
        prop_assert_eq!(plan(&wanted, &air, Moment::ZERO).steps, vec![]);
    }

    /// A crash after any number of steps leads to the same place as no crash.
    #[test]
    fn an_interrupted_plan_is_finished_by_the_next((aps, wishes, air) in worlds(), done in 0usize..6) {
        let wanted = wanted(&aps, &wishes);
        let carry_out = |air: &mut Air, limit: usize| {
            for step in plan(&wanted, air, Moment::ZERO).steps.iter().take(limit) {
                apply(air, step);
            }
        };
        let (mut straight, mut crashed) = (air.clone(), air);
        carry_out(&mut straight, usize::MAX);
        carry_out(&mut crashed, done);
        carry_out(&mut crashed, usize::MAX);
        let names = |air: &Air| {
            let mut names: Vec<_> =
                air.slots.iter().filter(|s| s.presence == Presence::Beaconing).map(|s| s.ssid.clone()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(names(&straight), names(&crashed));
    }

    #[test]
    fn a_bss_without_a_wish_is_never_touched((aps, wishes, air) in worlds()) {
        for step in plan(&wanted(&aps, &wishes), &air, Moment::ZERO).steps {
            let slot = air.slots.iter().find(|slot| slot.ifname == step.ifname()).unwrap();
            let index = aps.iter().position(|ap| ap.section == slot.section).unwrap();
            prop_assert_ne!(&wishes[index], &Wish::Keep);
        }
        let strangers = plan(&[], &air, Moment::ZERO);
        prop_assert_eq!(strangers, Plan::default());
    }

    /// An access point that is wanted on the air and has a BSS is there after every single step from when it is on:
    /// it never goes off in between.
    #[test]
    fn one_that_is_kept_never_leaves_the_air((aps, wishes, mut air) in worlds(), keep in 0usize..7) {
        let mut wishes = wishes;
        let keep = keep % aps.len();
        wishes[keep] = Wish::On(aps[keep].ssid.clone());
        let has_slot = air.slots.iter().any(|slot| slot.section == aps[keep].section);
        prop_assume!(has_slot);
        let wanted = wanted(&aps, &wishes);
        let mut seen = false;
        let steps = plan(&wanted, &air, Moment::ZERO).steps;
        for step in steps.iter().map(Some).chain([None]) {
            let slot = air.slots.iter().find(|slot| slot.section == aps[keep].section).unwrap();
            let there = slot.presence == Presence::Beaconing;
            prop_assert!(there || !seen);
            seen |= there;
            if let Some(step) = step { apply(&mut air, step); }
        }
        prop_assert!(seen);
    }

    #[test]
    fn never_two_steps_on_one_bss((aps, wishes, air) in worlds()) {
        let steps = plan(&wanted(&aps, &wishes), &air, Moment::ZERO).steps;
        let mut names: Vec<_> = steps.iter().map(Step::ifname).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), steps.len());
    }
}
