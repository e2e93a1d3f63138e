// SPDX-License-Identifier: Apache-2.0
//! Which transitions an operator is told of, and in which words.

use alerts::{Alert, AlertHandle, Severity};
use openwrt::uci::format_duration;
use time::OffsetDateTime;

use crate::engine::Engine;
use crate::rule::{State, Transition, FLAP_COUNT, FLAP_WINDOW};

/// Raises the alerts of a transition: went offline, a portal is in the way, is back, flaps.
pub fn alert(engine: &mut Engine, transition: &Transition, alerts: &AlertHandle) {
    let rule = engine.config.name.clone();
    let now = OffsetDateTime::now_utc();
    let lasted = format_duration(std::time::Duration::from_secs(transition.lasted.as_secs()));
    let about = |alert: Alert| alert.fact("rule", rule.clone()).fact("reason", transition.reason.clone());
    match (transition.from.is_up(), transition.to) {
        (true, State::Offline) => {
            let subject = format!("{rule} is offline: {}", transition.reason);
            let alert = Alert::new("offline", Severity::Critical, subject, now);
            engine.open_alert = Some(alerts.raise(about(alert).fact("online_for", lasted)));
        }
        (true, State::Portal) => {
            let subject = format!("{rule} is behind a captive portal: {}", transition.reason);
            engine.open_alert =
                Some(alerts.raise(about(Alert::new("portal", Severity::Warning, subject, now))));
        }
        (false, State::Online | State::Degraded) => {
            // Only what was told to be broken is told to be whole again.
            if let Some(id) = engine.open_alert.take() {
                let subject = format!("{rule} is {} again after {lasted}", transition.to);
                let alert = Alert::new("recovered", Severity::Info, subject, now).recovers(id);
                alerts.raise(about(alert).fact("offline_for", lasted));
            }
        }
        _ => {}
    }
    if transition.flapping && !engine.flapping_told {
        let subject =
            format!("{rule} is flapping: offline {FLAP_COUNT} times within {}", format_duration(FLAP_WINDOW));
        alerts.raise(about(Alert::new("flapping", Severity::Warning, subject, now)));
    }
    if matches!(transition.to, State::Offline | State::Portal) {
        engine.flapping_told = transition.flapping;
    }
}
