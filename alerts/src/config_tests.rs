// SPDX-License-Identifier: Apache-2.0
//! The options as operators write them.

use super::*;
use openwrt::uci::{Package, Problems};

/// What the options mean in a section of this type, and what is wrong with them.
fn read_as(kind: &str, options: &str) -> (Config, Vec<String>) {
    let text = format!("config {kind} 'main'\n{options}");
    let package = Package::parse(kind, text.as_bytes()).unwrap();
    let mut problems = Problems::new();
    let mut reader = Reader::new(kind, package.section("main"), &mut problems);
    let config = Config::read(&mut reader);
    reader.finish();
    (config, problems.iter().map(ToString::to_string).collect())
}

fn read(options: &str) -> (Config, Vec<String>) {
    read_as("dynapoint", options)
}

#[test]
fn nothing_set_is_nothing_sent() {
    let (config, problems) = read("");
    assert!(problems.is_empty(), "{problems:?}");
    assert!(SinkKind::ALL.iter().all(|&sink| !config.is_on(sink)));
    assert_eq!(config.outbox_size, 256 * 1024);
    let policy = config.policy();
    assert_eq!((policy.window, policy.rate, policy.expiry), (Duration::from_secs(600), 60, 7 * 24 * HOUR));
    assert_eq!(config.summary, SummaryTime { day: Weekday::Monday, hour: 6 });
    assert!(config.tls_verify);
}

#[test]
#[cfg(all(feature = "mqtt", feature = "slack", feature = "tls"))]
fn the_file_that_powquty_ships_means_what_it_meant() {
    let shipped = "\toption mqtt_host 'localhost'\n\toption mqtt_topic 'wesense/my_WeSense'\n\
        \toption mqtt_uname 'username'\n\toption mqtt_pw 'password'\n\toption slack_notification '0'\n\
        \toption slack_webhook ''\n\toption slack_channel '#general'\n\toption slack_user 'PowQutyEvent'\n";
    let (config, problems) = read_as("powquty", shipped);
    assert!(problems.is_empty(), "{problems:?}");
    assert!(config.slack.is_none());
    let broker = config.mqtt.telemetry.unwrap();
    assert_eq!((broker.host.as_str(), broker.port, broker.version5), ("localhost", 1883, false));
    assert_eq!(
        broker.login.map(|(user, password)| user + password.expose()).as_deref(),
        Some("usernamepassword")
    );
    assert!(config.mqtt.events.is_none(), "alerts over MQTT are asked for");
    assert_eq!(config.mqtt.topic.as_deref(), Some("wesense/my_WeSense"));

    let (config, problems) =
        read_as("powquty", "\toption slack_webhook 'https://hooks.slack.com/services/T/B/x'\n");
    assert!(problems.is_empty(), "{problems:?}");
    let slack = config.slack.unwrap();
    assert_eq!((slack.channel.as_deref(), slack.user.as_deref()), (Some("#general"), Some("PowQutyEvent")));
}

#[test]
#[cfg(feature = "mqtt")]
fn alerts_may_go_to_a_broker_of_their_own() {
    let options = "\toption mqtt_host 'a'\n\toption mqtt_event_host 'b'\n\toption mqtt_event_port '1884'\n\
        \toption mqtt_event_topic 'site/events'\n\toption mqtt_version '5'\n\toption mqtt_notification '1'\n";
    let (config, problems) = read_as("powquty", options);
    assert!(problems.is_empty(), "{problems:?}");
    let (telemetry, events) = (config.mqtt.telemetry.unwrap(), config.mqtt.events.unwrap());
    assert_eq!((telemetry.host.as_str(), telemetry.port), ("a", 1883));
    assert_eq!((events.host.as_str(), events.port, events.version5), ("b", 1884, true));
    let (config, _) = read("\toption mqtt_host 'a'\n");
    assert!(
        config.mqtt.telemetry.is_none() && config.mqtt.events.is_some(),
        "other daemons have alerts only"
    );
}

#[test]
#[cfg(all(feature = "mqtt", feature = "exec", feature = "slack", feature = "email", feature = "tls"))]
fn what_is_wrong_is_told_without_secrets() {
    let options = "\toption slack_webhook 'hooks.example/SECRET'\n\toption mqtt_event_flag '1'\n\
        \toption mqtt_topic 'a/#'\n\toption mqtt_pw 'SECRET'\n\toption email_notification '1'\n\
        \toption email_host 'mail'\n\tlist email_to 'nobody'\n\toption exec_command 'sendalert'\n\
        \toption quiet_hours '22-6'\n\toption alert_expiry '1s'\n\toption slack_min_severity 'all'\n\
        \toption tls_verify '0'\n\toption slack_webhok 'x'\n";
    let (config, problems) = read(options);
    assert!(SinkKind::ALL.iter().all(|&sink| !config.is_on(sink)));
    let expected = [
        "slack_webhook: expected the address of an incoming webhook, https://…",
        "mqtt_topic: a/#: expected a topic to publish to: no + or # in it, at most 1024 bytes",
        "mqtt_host: missing, but mqtt_event_flag is on",
        "email_to: nobody: expected an address such as name@example.org",
        "email_to: missing, but email_notification is on",
        "exec_command: sendalert: expected an absolute path (starting with /) and arguments",
        "tls_verify: 0: servers are not verified: anyone on the way can read and change the alerts",
        "slack_min_severity: all: expected one of info, warning, critical",
        "alert_expiry: 1s: expected a duration from 1m to 60d",
        "quiet_hours: 22-6: expected two different times of day such as 22:00-06:00",
        "slack_webhok: unknown option, ignored",
    ];
    let expected = expected.map(|line| format!("dynapoint:main.{line}"));
    assert_eq!(problems, expected);
    assert!(!problems.concat().contains("SECRET"));
}

#[test]
#[cfg(not(feature = "tls"))]
fn a_build_without_tls_refuses_what_needs_it() {
    let told = |options: &str| {
        let (config, problems) = read(options);
        assert!(SinkKind::ALL.iter().all(|&sink| !config.is_on(sink)), "{options}");
        problems.join("\n")
    };
    #[cfg(feature = "mqtt")]
    {
        let problem = told("\toption mqtt_host 'a'\n\toption mqtt_tls '1'\n");
        let expected =
            "this option needs TLS, which this build has not; install the package variant with -tls";
        assert!(problem.contains("mqtt_tls") && problem.contains(expected), "{problem}");
    }
    let problem = told("\toption slack_webhook 'https://hooks.slack.com/services/SECRET'\n");
    let expected = match cfg!(feature = "slack") {
        true => "https needs TLS, which this build has not; install the package variant with -tls",
        false => "this build has no slack; install the package variant with -tls",
    };
    assert!(problem.contains(expected) && !problem.contains("SECRET"), "{problem}");
    let problem = told(
        "\toption email_host 'a'\n\toption email_from 'a@b'\n\tlist email_to 'a@b'\n\toption email_security 'tls'\n",
    );
    let expected = match cfg!(feature = "email") {
        true => "starttls and tls need TLS, which this build has not; install the package variant with -tls",
        false => "this build has no email; install the package variant with -tls",
    };
    assert!(problem.contains(expected), "{problem}");
}

#[test]
#[cfg(feature = "exec")]
fn filters_and_windows() {
    let options = "\toption exec_command '/bin/cat -'\n\toption exec_notify 'summary'\n\
        \toption exec_min_severity 'critical'\n\toption exec_kinds 'dip, swell'\n\tlist mqtt_kinds 'offline'\n\
        \tlist mqtt_kinds 'online'\n\toption alert_window '5m'\n\toption alert_rate '0'\n\
        \toption quiet_hours '22:00-06:00'\n\toption outbox_path '/mnt/usb/outbox'\n\toption outbox_size_kb '1024'\n\
        \toption summary_day 'sunday'\n\toption summary_hour '20'\n";
    let (config, problems) = read(options);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(config.exec.as_ref().unwrap().command, ["/bin/cat", "-"]);
    assert_eq!(config.summary, SummaryTime { day: Weekday::Sunday, hour: 20 });
    assert_eq!(config.outbox_path.as_deref(), Some(Path::new("/mnt/usb/outbox")));
    let policy = config.policy();
    assert_eq!((policy.window, policy.rate, policy.capacity), (Duration::from_secs(300), 0, 768 * 1024));
    assert!(policy.quiet_hours.is_some() && policy.routes[SinkKind::Mqtt as usize].is_none());
    let route = policy.routes[SinkKind::Exec as usize].as_ref().unwrap();
    assert_eq!((route.events, route.summaries, route.min_severity), (false, true, Severity::Critical));
    assert_eq!(route.kinds, ["dip", "swell"]);
}
