// SPDX-License-Identifier: Apache-2.0
//! From UCI sections to a configuration that is always valid: what is wrong takes its default and is noted.

mod checks;
mod wireless;

use std::path::PathBuf;
use std::time::Duration;

use openwrt::reload::Reading;
use openwrt::uci::{Package, Problem, Problems, Reader, Section, Source};

use crate::check::{Check, Kind};
use crate::condition::Condition;
use crate::rule::{LinkLoss, Timing};
use crate::verdict::{Demand, Families, Family, Policy, PortalMeaning};
use crate::wireless::plan::AccessPoint;

/// `/etc/config/dynapoint`.
pub const PACKAGE: &str = "dynapoint";

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Quicker rounds than this would be a load on whoever answers.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

const FAMILIES: [(&str, Families); 4] = [
    ("any", Families::Any),
    ("ipv4", Families::Only(Family::V4)),
    ("ipv6", Families::Only(Family::V6)),
    ("both", Families::Both),
];

/// The configuration of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Off: no checks, no access point touched.
    pub enabled: bool,
    /// After the router has booted, nothing is switched for so long.
    pub boot_delay: Duration,
    /// Section of an access point that is never switched off.
    pub keep_ap: Option<String>,
    /// Program that is run on every transition.
    pub hook: Option<PathBuf>,
    /// Where alerts go.
    pub alerts: alerts::Config,
    /// The rules.
    pub rules: Vec<RuleConfig>,
    /// Access points with `dynapoint_rule`.
    pub access_points: Vec<ManagedAp>,
    /// The router's host name in the configuration.
    pub host_name: Option<String>,
    /// There is an `/etc/config/wireless`.
    pub has_wireless: bool,
}

/// `config rule`.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleConfig {
    /// Name of the section.
    pub name: String,
    /// Not switched off.
    pub enabled: bool,
    /// Numbers of the state machine.
    pub timing: Timing,
    /// Policy, families, portal.
    pub demand: Demand,
    /// Time a check has that says nothing else.
    pub timeout: Duration,
    /// What is checked.
    pub checks: Vec<Check>,
    /// Logical interface (or device) whose link counts and to which checks without one of their own are bound.
    pub interface: Option<String>,
    /// Template for the names of access points under `!RULE` and `RULE:STATE`.
    pub template: Option<String>,
    /// Associated clients keep their access point for so long after a verdict.
    pub client_grace: Duration,
}

/// A `wifi-iface` with conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedAp {
    /// For the planner.
    pub ap: AccessPoint,
    /// The device's name where the configuration fixes it.
    pub ifname: Option<String>,
    /// When it is wanted.
    pub conditions: Vec<Condition>,
}

/// The packages a configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// `dynapoint`.
    pub dynapoint: &'a Package,
    /// `wireless`, where there is one.
    pub wireless: Option<&'a Package>,
    /// `system`, where there is one.
    pub system: Option<&'a Package>,
}

/// Reads the packages and the configuration in them. Only `dynapoint` itself has to be there.
///
/// # Errors
/// When `dynapoint` cannot be read at all.
pub fn load(source: &Source) -> Reading<Config> {
    let dynapoint = source.load(PACKAGE)?;
    let mut problems = Problems::default();
    let mut other = |name: &str| match source.load(name) {
        Ok(package) => Some(package),
        Err(error) => {
            if source.file(name).exists() {
                problems.push(Problem::unreadable(&error));
            }
            None
        }
    };
    let (wireless, system) = (other("wireless"), other("system"));
    let sources = Sources { dynapoint: &dynapoint, wireless: wireless.as_ref(), system: system.as_ref() };
    let config = Config::read(sources, &mut problems);
    Ok((config, problems))
}

impl Config {
    /// Reads the configuration and notes what is wrong with it.
    #[must_use]
    pub fn read(sources: Sources<'_>, problems: &mut Problems) -> Self {
        let package = sources.dynapoint;
        let globals = package.of_kind("globals").next();
        let mut reader = Reader::new(PACKAGE, globals, problems);
        let enabled = reader.flag("enabled", true);
        let boot_delay = reader.duration("boot_delay", Duration::ZERO..=DAY, Duration::ZERO);
        let keep_ap = reader.optional_text("keep_ap");
        let hook = reader.optional_path("hook");
        let alerts = alerts::Config::read(&mut reader);
        reader.finish();
        let mut rules: Vec<RuleConfig> =
            package.of_kind("rule").map(|section| RuleConfig::read(section, problems)).collect();
        checks::read_all(package, &mut rules, problems);
        for rule in &rules {
            rule.note_problems(package, problems);
        }
        note_strangers(package, problems);
        let access_points =
            sources.wireless.map(|wireless| wireless::read(wireless, &rules, problems)).unwrap_or_default();
        let config = Self {
            enabled,
            boot_delay,
            keep_ap,
            hook,
            alerts,
            rules,
            access_points,
            host_name: sources.system.and_then(host_name),
            has_wireless: sources.wireless.is_some(),
        };
        config.note_keep_ap(globals, sources.wireless, problems);
        config
    }

    /// What the daemon runs on before it has a configuration: nothing at all.
    #[must_use]
    pub fn empty() -> Self {
        let mut problems = Problems::default();
        Self {
            enabled: false,
            boot_delay: Duration::ZERO,
            keep_ap: None,
            hook: None,
            alerts: alerts::Config::read(&mut Reader::new(PACKAGE, None, &mut problems)),
            rules: Vec::new(),
            access_points: Vec::new(),
            host_name: None,
            has_wireless: false,
        }
    }

    /// The rule of that name.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&RuleConfig> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    fn note_keep_ap(&self, globals: Option<&Section>, wireless: Option<&Package>, problems: &mut Problems) {
        let Some(keep) = &self.keep_ap else { return };
        let known = wireless.is_some_and(|wireless| {
            wireless.of_kind("wifi-iface").any(|section| section.label() == *keep || section.name() == keep)
        });
        if !known {
            let mut reader = Reader::new(PACKAGE, globals, problems);
            reader.problem("keep_ap", Some(keep), "no wifi-iface of this name in /etc/config/wireless");
        }
    }
}

impl RuleConfig {
    fn read(section: &Section, problems: &mut Problems) -> Self {
        let mut reader = Reader::new(PACKAGE, Some(section), problems);
        let second = Duration::from_secs(1);
        let enabled = reader.flag("enabled", true);
        let interval = reader.duration("interval", MIN_INTERVAL..=DAY, second * 60);
        let timeout = reader.duration("timeout", MS * 50..=second * 300, second * 5);
        let retry_interval = reader.duration("retry_interval", MIN_INTERVAL..=DAY, interval);
        let max_interval = reader.duration("max_interval", MIN_INTERVAL..=DAY, interval);
        if max_interval < interval {
            reader.problem("max_interval", None, "shorter than interval; interval is used");
        }
        let timing = Timing {
            interval,
            retry_interval,
            max_interval: max_interval.max(interval),
            offline_threshold: reader.integer("offline_threshold", 1..=1000, 3),
            online_threshold: reader.integer("online_threshold", 1..=1000, 1),
            hold_time: reader.duration("hold_time", Duration::ZERO..=DAY, Duration::ZERO),
            flap_damping: reader.duration("flap_damping", Duration::ZERO..=second * 3600, Duration::ZERO),
            link_loss: reader.choice(
                "link_loss",
                &[
                    ("immediate", LinkLoss::Immediate),
                    ("probe", LinkLoss::Probe),
                    ("ignore", LinkLoss::Ignore),
                ],
                LinkLoss::Probe,
            ),
            jitter: f64::from(reader.integer("jitter", 0u8..=50, 0)) / 100.0,
        };
        let demand = Demand {
            policy: reader.parsed("policy", parse_policy).unwrap_or(Policy::Any),
            families: reader.choice("family", &FAMILIES, Families::Any),
            portal: reader.choice(
                "portal",
                &[
                    ("offline", PortalMeaning::Offline),
                    ("online", PortalMeaning::Online),
                    ("separate", PortalMeaning::Separate),
                ],
                PortalMeaning::Offline,
            ),
        };
        let add_host_name = reader.flag("add_hostname_to_ssid", false);
        let template =
            reader.optional_text("ssid_template").or_else(|| add_host_name.then(|| "%s_%h".to_owned()));
        let interface = reader.optional_text("interface");
        // As the original: curl_interface binds the checks only together with use_curl. The daemon brings its own
        // HTTP; neither option needs a curl.
        let use_curl = reader.flag("use_curl", false);
        let curl_interface = reader.optional_text("curl_interface").filter(|_| use_curl);
        let expect = checks::expect(&mut reader);
        let checks = reader
            .list_of("hosts", |host| checks::host(host, &expect))
            .into_iter()
            .map(|(name, kind)| Check {
                name,
                kind,
                interface: curl_interface.clone().or_else(|| interface.clone()),
                families: None,
                timeout,
            })
            .collect();
        let client_grace = reader.duration("client_grace", Duration::ZERO..=DAY, Duration::ZERO);
        reader.finish();
        Self {
            name: section.label(),
            enabled,
            timing,
            demand,
            timeout,
            checks,
            interface,
            template,
            client_grace,
        }
    }

    /// What cannot be seen option by option.
    fn note_problems(&self, package: &Package, problems: &mut Problems) {
        let section = package.of_kind("rule").find(|section| section.label() == self.name);
        let mut reader = Reader::new(PACKAGE, section, problems);
        if self.checks.is_empty() {
            reader.problem(
                "hosts",
                None,
                "nothing to check: add hosts, or check sections for this rule; it is off",
            );
        }
        match self.demand.policy {
            Policy::AtLeast(count) if count > self.checks.len() && !self.checks.is_empty() => {
                let reason = format!(
                    "more than the {} checks of this rule; all of them are needed",
                    self.checks.len()
                );
                reader.problem("policy", Some(&count.to_string()), reason);
            }
            _ => {}
        }
        if self.checks.iter().any(|check| check.timeout > self.timing.interval * 10) {
            reader.warning("timeout", None, "much longer than interval: a round lasts that long");
        }
    }

    /// Switched on and able to come to a verdict.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.enabled && !self.checks.is_empty()
    }

    /// Whether a check of this kind belongs to it.
    #[must_use]
    pub fn has_kind(&self, wanted: impl Fn(&Kind) -> bool) -> bool {
        self.checks.iter().any(|check| wanted(&check.kind))
    }
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    match text {
        "any" => Ok(Policy::Any),
        "all" => Ok(Policy::All),
        number => number
            .parse()
            .ok()
            .filter(|count| (1..=1000).contains(count))
            .map(Policy::AtLeast)
            .ok_or_else(|| "expected any, all or how many checks must pass".to_owned()),
    }
}

/// Sections of types nobody reads: a typing mistake that would otherwise pass in silence.
fn note_strangers(package: &Package, problems: &mut Problems) {
    for section in package.sections() {
        if !matches!(section.kind(), "globals" | "rule" | "check") {
            let mut reader = Reader::new(PACKAGE, Some(section), problems);
            let kind = section.kind();
            reader.warning("", None, format!("unknown section type {kind}, expected globals, rule or check"));
        }
    }
}

/// The last `hostname` of the `system` sections, as the original took it.
fn host_name(system: &Package) -> Option<String> {
    let names = system.of_kind("system").filter_map(|section| section.get("hostname"));
    names.filter(|name| !name.is_empty()).last().map(str::to_owned)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
