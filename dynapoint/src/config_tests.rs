// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::probe::url::Scheme;
use crate::wireless::plan::Security;

fn read(dynapoint: &str, wireless: &str) -> (Config, Vec<String>) {
    let parse = |name: &str, text: &str| Package::parse(name, text.as_bytes()).unwrap();
    let (dynapoint, wireless) = (parse("dynapoint", dynapoint), parse("wireless", wireless));
    let system = parse("system", "config system\n\toption hostname 'node-0815'\n");
    let mut problems = Problems::default();
    let sources = Sources { dynapoint: &dynapoint, wireless: Some(&wireless), system: Some(&system) };
    let config = Config::read(sources, &mut problems);
    (config, problems.iter().map(ToString::to_string).collect())
}

/// The example of the original announcement, verbatim.
const ORIGINAL: &str = "
config rule 'internet'
	list hosts 'http://www.example.com'
	list hosts 'http://www.google.com'
	option interval '60'
	option timeout '5'
	option offline_threshold '3'
	option add_hostname_to_ssid '0'
	option use_curl '1'
	option curl_interface 'eth0'
";

const TWO_APS: &str = "
config wifi-device 'radio0'
	option type 'mac80211'
config wifi-iface
	option device 'radio0'
	option network 'lan'
	option mode 'ap'
	option ssid 'freifunk'
	option encryption 'none'
	option dynapoint_rule 'internet'
config wifi-iface
	option device 'radio0'
	option network 'lan'
	option mode 'ap'
	option ssid 'maintenance'
	option encryption 'none'
	option dynapoint_rule '!internet'
";

#[test]
fn the_original_example_means_what_it_meant() {
    let (config, problems) = read(ORIGINAL, TWO_APS);
    assert_eq!(problems, [""; 0]);
    let rule = &config.rules[0];
    assert_eq!(rule.name, "internet");
    assert_eq!(rule.timing.interval, Duration::from_secs(60));
    assert_eq!(rule.timing.retry_interval, rule.timing.interval);
    assert_eq!(rule.timing.max_interval, rule.timing.interval);
    assert_eq!((rule.timing.offline_threshold, rule.timing.online_threshold), (3, 1));
    assert_eq!(rule.demand.policy, Policy::Any);
    assert_eq!(rule.checks.len(), 2);
    assert_eq!(rule.checks[0].timeout, Duration::from_secs(5));
    assert_eq!(rule.checks[0].interface.as_deref(), Some("eth0"));
    assert_eq!(rule.template, None);
    let [online, offline] = &config.access_points[..] else { panic!("{:?}", config.access_points) };
    assert!(online.ap.enabled && offline.ap.enabled);
    assert_eq!(online.ap.likeness, offline.ap.likeness);
    assert_eq!(offline.conditions[0].to_string(), "!internet");
    assert_ne!(online.ap.section, offline.ap.section);
    assert_eq!(config.host_name.as_deref(), Some("node-0815"));
}

#[test]
fn curl_interface_binds_only_together_with_use_curl() {
    let (config, _) = read(&ORIGINAL.replace("use_curl '1'", "use_curl '0'"), "");
    assert_eq!(config.rules[0].checks[0].interface, None);
}

#[test]
fn a_host_without_scheme_is_http_and_one_is_a_list() {
    let (config, problems) = read("config rule 'r'\n\toption hosts 'example.com'\n", "");
    assert_eq!(problems, [""; 0]);
    let Kind::Http(url, _) = &config.rules[0].checks[0].kind else { panic!("{config:?}") };
    assert_eq!((url.scheme, url.port), (Scheme::Http, 80));
}

#[test]
fn every_check_type_is_read() {
    let text = "
config rule 'wan'
	option interface 'wan'
	option policy '2'
	option family 'both'
	option portal 'separate'
	option link_loss 'immediate'
	option ssid_template '%h'
	list hosts 'http://a.test/generate_204'
config check 'web'
	option rule 'wan'
	option type 'http'
	option target 'a.test/x'
	option port '8080'
	option expect_status '200-299'
	option expect_body 'ok'
config check 'name'
	option type 'dns'
	option target 'a.test'
	option resolver '192.0.2.53'
	option interface 'vpn'
config check 'ping'
	option type 'icmp'
	option target '2001:db8::1'
	option timeout '500ms'
config check 'ssh'
	option type 'tcp'
	option target 'a.test:22'
	option family 'ipv6'
config check
	option type 'route'
config check 'cable'
	option type 'carrier'
config check 'gw'
	option type 'neighbour'
config check 'mesh'
	option type 'batman'
	option lower_limit '30'
	option upper_limit '50'
config check 'own'
	option type 'script'
	option target '/bin/true'
";
    let (config, problems) = read(text, "");
    assert_eq!(problems, [""; 0]);
    let rule = &config.rules[0];
    let words: Vec<_> = rule.checks.iter().map(|check| check.kind.word()).collect();
    assert_eq!(
        words,
        ["http", "http", "dns", "icmp", "tcp", "route", "carrier", "neighbour", "batman", "script"]
    );
    assert_eq!(rule.demand.policy, Policy::AtLeast(2));
    assert_eq!(rule.checks[1].kind.target().as_deref(), Some("http://a.test:8080/x"));
    assert_eq!(rule.checks[2].interface.as_deref(), Some("vpn"));
    assert_eq!(rule.checks[3].timeout, Duration::from_millis(500));
    assert_eq!(rule.checks[3].lanes(rule.demand.families), [Some(Family::V6)]);
    assert_eq!(rule.checks[4].lanes(rule.demand.families), [Some(Family::V6)]);
    assert_eq!(rule.checks[4].kind.target().as_deref(), Some("a.test:22"));
    assert_eq!(rule.checks[5].name, "@check[4]");
    assert_eq!(rule.checks[6].lanes(rule.demand.families), [None]);
    assert_eq!(rule.checks[6].interface.as_deref(), Some("wan"));
}

#[test]
fn mistakes_are_named_and_harmless() {
    let text = "
config rule 'empty'
config rule 'r'
	option interval 'soon'
	option policy '7'
	option offlne_threshold '1'
	list hosts 'gopher://x'
	list hosts 'http://ok.test'
config check 'lost'
	option rule 'nobody'
	option type 'icmp'
config check 'c'
	option rule 'r'
	option type 'ping'
config check 'd'
	option rule 'r'
	option type 'tcp'
	option target 'a.test'
config rul 'x'
config globals 'globals'
	option keep_ap 'admin'
";
    let (config, problems) = read(text, "");
    let all = problems.join("\n");
    for expected in [
        "dynapoint:empty.hosts: nothing to check",
        "dynapoint:r.interval: soon: ",
        "dynapoint:r.policy: 7: more than the 1 checks",
        "dynapoint:r.offlne_threshold: unknown option",
        "dynapoint:r.hosts: gopher://x: expected http://",
        "dynapoint:lost.rule: nobody: no such rule",
        "dynapoint:c.type: ping: ",
        "dynapoint:d.target: a.test: needs a port",
        "unknown section type rul",
        "dynapoint:globals.keep_ap: admin: no wifi-iface",
    ] {
        assert!(all.contains(expected), "{expected}\nnot in\n{all}");
    }
    assert_eq!(config.rules[1].timing.interval, Duration::from_secs(60));
    assert!(!config.rules[0].is_active());
    assert!(config.rules[1].is_active());
}

#[test]
fn an_access_point_with_an_unknown_rule_is_left_alone() {
    let (config, problems) = read("", TWO_APS);
    assert_eq!(config.access_points, []);
    assert!(
        problems[0].contains("@wifi-iface[0].dynapoint_rule: internet: no rule internet"),
        "{problems:?}"
    );
}

#[test]
fn security_decides_what_a_rename_takes() {
    let with = |encryption: &str, key: &str, more: &str| {
        let text = format!(
            "config wifi-iface 'a'\n\toption device 'radio0'\n\toption ssid 'x'\n\toption dynapoint_rule 'r'\n\
             \toption encryption '{encryption}'\n\toption key '{key}'\n{more}"
        );
        let (config, _) = read("config rule 'r'\n\tlist hosts 'a'\n", &text);
        config.access_points[0].ap.security.clone()
    };
    assert_eq!(with("none", "", ""), Security::NameFree);
    assert_eq!(with("psk2+ccmp", "12345678", ""), Security::Passphrase("12345678".to_owned()));
    assert_eq!(with("psk2", &"a".repeat(64), ""), Security::NameFree);
    assert_eq!(with("psk2", "12345678", "\toption ieee80211r '1'\n"), Security::Bound);
    for bound in ["sae", "sae-mixed", "owe", "wpa2", "wpa3-mixed"] {
        assert_eq!(with(bound, "12345678", ""), Security::Bound, "{bound}");
    }
}
