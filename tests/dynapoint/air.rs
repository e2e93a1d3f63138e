// SPDX-License-Identifier: Apache-2.0
//! Access points: what is on the air in which state, and what is left alone. hostapd and netifd are doubles.

use std::time::Duration;

use lab::{wait_for, Daemon, Environment, HostapdDouble, UbusdDouble, PATIENCE};
use rustix::fs::inotify;
use serde_json::json;

use crate::netifd_double::NetifdDouble;
use crate::rig::{Rig, Web, HOST_V4};

/// The example of the original announcement but for the host, which is not in this Internet.
fn announced_rule() -> String {
    format!(
        "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\toption interval '1'\n\toption timeout '5'\n\
         \toption offline_threshold '3'\n\toption add_hostname_to_ssid '0'\n\toption use_curl '0'\n\
         \toption curl_interface 'eth0'\n"
    )
}

/// Its two access points, verbatim: neither has a `disabled` option, and neither a name.
const ANNOUNCED: &str = "
config wifi-device 'radio0'
	option type 'mac80211'
	option channel '11'

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

/// Names of the `wifi-iface` sections, which netifd knows them by.
fn sections(wireless: &str) -> Vec<String> {
    let package = openwrt::uci::Package::parse("wireless", wireless.as_bytes()).unwrap();
    let names = package.of_kind("wifi-iface").map(|section| section.name().to_owned()).collect();
    names
}

struct Place {
    hostapd: HostapdDouble,
    netifd: NetifdDouble,
    rig: Rig,
    _web: Web,
    _ubusd: UbusdDouble,
}

/// A router with these access points: (section, device, SSID) of those hostapd has.
fn place(dynapoint: &str, wireless: &str, bsses: &[(&str, &str, &str)]) -> Place {
    let ubusd = UbusdDouble::start();
    let netifd = NetifdDouble::start(ubusd.path());
    let rig = Rig::with(Environment::new().with_ubus(ubusd.path()));
    let web = Web::start(&rig, 80);
    let devices: Vec<(&str, &str)> = bsses.iter().map(|(_, device, ssid)| (*device, *ssid)).collect();
    let hostapd = HostapdDouble::start(&rig.router, &rig.env.run_dir(), &devices);
    let points: Vec<(&str, &str)> = bsses.iter().map(|(section, device, _)| (*section, *device)).collect();
    netifd.set_access_points(&points);
    rig.env.write_config("dynapoint", dynapoint);
    rig.env.write_config("wireless", wireless);
    rig.env.write_config("system", "config system\n\toption hostname 'node-0815'\n");
    Place { hostapd, netifd, rig, _web: web, _ubusd: ubusd }
}

impl Place {
    fn on_air(&self, daemon: &Daemon, wanted: &[&str]) {
        daemon.wait_for(&format!("{wanted:?} on the air"), || {
            let names = self.hostapd.on_air();
            (names == wanted).then_some(())
        });
    }
}

#[test]
fn the_announced_example_has_exactly_one_on_the_air() {
    let names = sections(ANNOUNCED);
    let place = place(
        &announced_rule(),
        ANNOUNCED,
        &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")],
    );
    assert_eq!(place.hostapd.on_air(), ["freifunk", "maintenance"], "both are, before the daemon comes");
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    place.rig.cut_link();
    place.on_air(&daemon, &["maintenance"]);
    // The daemon looks once more at what it has done before it tells.
    daemon.wait_for_status("what is on the air", |status| {
        let seen =
            |point: usize| ["ssid", "wanted", "on_air"].map(|key| &status["access_points"][point][key]);
        seen(0) == [&json!("freifunk"), &json!(false), &json!(false)]
            && seen(1) == [&json!("maintenance"), &json!(true), &json!(true)]
    });
    place.rig.mend_link();
    place.on_air(&daemon, &["freifunk"]);
    let plan = daemon.call("plan", &json!({})).unwrap();
    assert_eq!(plan["steps"], json!([]), "nothing left to do");
    assert!(daemon.stop().success());
    assert_eq!(place.hostapd.on_air(), ["freifunk", "maintenance"], "as configured");
}

/// A private network first on the radio, then one that changes its name by a template; clients of the private one are
/// never told anything.
#[test]
fn a_rename_touches_one_bss_only() {
    let wireless = "
config wifi-iface 'private'
	option device 'radio0'
	option ssid 'private'
config wifi-iface 'public'
	option device 'radio0'
	option ssid 'freifunk'
	option dynapoint_rule 'internet'
config wifi-iface 'down'
	option device 'radio0'
	option ssid 'Störung, bitte melden bei'
	option disabled '1'
	option dynapoint_rule '!internet'
";
    let rule = announced_rule().replace("add_hostname_to_ssid '0'", "add_hostname_to_ssid '1'");
    let place = place(&rule, wireless, &[("private", "ap0", "private"), ("public", "ap1", "freifunk")]);
    let daemon = place.rig.start();
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    place.rig.cut_link();
    // 32 bytes, cut between characters.
    place.on_air(&daemon, &["Störung, bitte melden bei_node-", "private"]);
    place.rig.mend_link();
    place.on_air(&daemon, &["freifunk", "private"]);
    place.rig.cut_link();
    place.on_air(&daemon, &["Störung, bitte melden bei_node-", "private"]);
    assert!(daemon.stop().success());
    assert_eq!(place.hostapd.on_air(), ["freifunk", "private"]);
    let commands = place.hostapd.commands();
    assert!(commands.iter().all(|command| command.starts_with("ap1: ")), "{commands:?}");
    assert!(commands.iter().any(|command| command == "ap1: DEAUTHENTICATE ff:ff:ff:ff:ff:ff"));
}

#[test]
fn a_foreign_wifi_reload_is_put_right_again() {
    let names = sections(ANNOUNCED);
    let place = place(
        &announced_rule(),
        ANNOUNCED,
        &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")],
    );
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    place.hostapd.reset(&[("ap0", "freifunk"), ("ap1", "maintenance")]);
    assert_eq!(place.hostapd.on_air().len(), 2);
    place.netifd.set_access_points(&[(&names[0], "ap0"), (&names[1], "ap1")]);
    place.on_air(&daemon, &["freifunk"]);
}

#[test]
fn associated_clients_get_their_grace() {
    let names = sections(ANNOUNCED);
    let rule = announced_rule()
        .replace("config rule 'internet'\n", "config rule 'internet'\n\toption client_grace '1h'\n");
    let place = place(&rule, ANNOUNCED, &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")]);
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    place.hostapd.set_clients("ap0", 2);
    daemon.call("force", &json!({ "rule": "internet", "state": "offline" })).unwrap();
    place.on_air(&daemon, &["freifunk", "maintenance"]);
    daemon.wait_for_status("the reason", |status| {
        status["access_points"][0]["note"].as_str().is_some_and(|note| note.contains("2 clients"))
    });
    place.hostapd.set_clients("ap0", 0);
    daemon.call("force", &json!({ "rule": "internet", "state": "portal" })).unwrap();
    place.on_air(&daemon, &["maintenance"]);
}

#[test]
fn the_access_point_for_administration_stays() {
    let names = sections(ANNOUNCED);
    let rule = format!("{}config globals 'globals'\n\toption keep_ap '{}'\n", announced_rule(), names[0]);
    let place = place(&rule, ANNOUNCED, &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")]);
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    daemon.call("force", &json!({ "rule": "internet", "state": "offline" })).unwrap();
    place.on_air(&daemon, &["freifunk", "maintenance"]);
}

/// What is on the air in which state of the rule: written down here, computed nowhere.
const TABLE: [(&str, &[&str]); 4] = [
    ("online", &["always", "freifunk"]),
    ("degraded", &["always", "freifunk"]),
    ("portal", &["always", "login", "maintenance"]),
    ("offline", &["always", "maintenance"]),
];

const FOUR: &str = "
config wifi-iface 'always'
	option device 'radio0'
	option ssid 'always'
config wifi-iface 'public'
	option device 'radio0'
	option ssid 'freifunk'
	option dynapoint_rule 'internet'
config wifi-iface 'broken'
	option device 'radio0'
	option ssid 'maintenance'
	option dynapoint_rule '!internet'
config wifi-iface 'login'
	option device 'radio0'
	option ssid 'login'
	list dynapoint_rule '!internet'
	list dynapoint_rule 'internet:portal'
";

/// Random changes of state, and the daemon killed at random moments: what is on the air at the end is what the table
/// says.
fn flaps(count: u32) {
    let place = place(
        &announced_rule(),
        FOUR,
        &[
            ("always", "ap0", "always"),
            ("public", "ap1", "freifunk"),
            ("broken", "ap2", "maintenance"),
            ("login", "ap3", "login"),
        ],
    );
    let mut random: u32 = 0x2545_f491;
    let mut next = |limit: u32| {
        // xorshift; the seed is fixed so that a failure can be repeated.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % limit
    };
    let mut daemon = place.rig.start();
    for round in 0..count {
        let (state, names) = TABLE[next(4) as usize];
        daemon.call("force", &json!({ "rule": "internet", "state": state })).unwrap();
        if next(3) == 0 {
            // In the middle of whatever it is doing.
            std::thread::sleep(Duration::from_millis(u64::from(next(20))));
            daemon.kill();
            daemon = place.rig.start();
            daemon.call("force", &json!({ "rule": "internet", "state": state })).unwrap();
        }
        if next(2) == 0 {
            place.on_air(&daemon, names);
        }
        if round + 1 == count {
            place.on_air(&daemon, names);
        }
    }
    assert!(daemon.stop().success());
    assert_eq!(place.hostapd.on_air(), ["always", "freifunk", "login", "maintenance"], "as configured");
    let commands = place.hostapd.commands();
    assert!(!commands.iter().any(|command| command.starts_with("ap0: ")), "nobody asked for ap0");
}

#[test]
fn twenty_flaps_with_crashes_end_as_the_table_says() {
    flaps(20);
}

#[test]
#[ignore = "minutes: make test-long"]
fn a_thousand_flaps_with_crashes_end_as_the_table_says() {
    flaps(1000);
}

/// Nothing is ever written into the configuration or among the uncommitted changes; those of the administrator, made
/// while the router is offline, are all that a commit would find.
#[test]
fn no_configuration_is_ever_written() {
    let names = sections(ANNOUNCED);
    let place = place(
        &announced_rule(),
        ANNOUNCED,
        &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")],
    );
    let (config, state) = (place.rig.env.config_dir(), place.rig.env.state_dir());
    std::fs::write(state.join("network"), "network.lan.ipaddr='192.0.2.9'\n").unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    let writes = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::MOVE
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::CLOSE_WRITE;
    for directory in [&config, &state] {
        inotify::add_watch(&watch, directory, writes).expect("a watch");
    }
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    place.rig.cut_link();
    place.on_air(&daemon, &["maintenance"]);
    place.rig.mend_link();
    place.on_air(&daemon, &["freifunk"]);
    place.rig.cut_link();
    place.on_air(&daemon, &["maintenance"]);
    daemon.reload();
    daemon.kill();
    let daemon = place.rig.start();
    place.on_air(&daemon, &["maintenance"]);
    assert!(daemon.stop().success());
    let mut events = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watch, &mut events);
    if let Ok(event) = reader.next() {
        panic!("written: {:?} {:?}", event.file_name(), event.events());
    }
    assert_eq!(std::fs::read_to_string(config.join("wireless")).unwrap(), ANNOUNCED);
    assert_eq!(std::fs::read_to_string(state.join("network")).unwrap(), "network.lan.ipaddr='192.0.2.9'\n");
}

/// The file that is shipped, but for the hosts: from a black hole to the new name in less than 10 s, and back.
#[test]
#[ignore = "measures wall-clock time: make test-long"]
fn the_shipped_file_notices_a_black_hole_within_ten_seconds() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../procd/dynapoint/files/etc/config/dynapoint");
    let shipped = std::fs::read_to_string(file).unwrap();
    let local = shipped
        .replace("http://connectivitycheck.gstatic.com/generate_204", &format!("http://{HOST_V4}/"))
        .replace("http://detectportal.firefox.com/success.txt", &format!("http://{HOST_V4}/success.txt"));
    assert_ne!(shipped, local);
    let names = sections(ANNOUNCED);
    let place =
        place(&local, ANNOUNCED, &[(&names[0], "ap0", "freifunk"), (&names[1], "ap1", "maintenance")]);
    let daemon = place.rig.start();
    place.on_air(&daemon, &["freifunk"]);
    for round in 0..5_u64 {
        std::thread::sleep(Duration::from_millis(3000 + round * 617));
        let begin = std::time::Instant::now();
        place.rig.black_hole("inet");
        let switched = wait_for("the switch", PATIENCE, || {
            (place.hostapd.on_air() == ["maintenance"]).then(|| begin.elapsed())
        });
        place.rig.end_black_hole("inet");
        let mended = std::time::Instant::now();
        let back = wait_for("the way back", PATIENCE, || {
            (place.hostapd.on_air() == ["freifunk"]).then(|| mended.elapsed())
        });
        println!(
            "black hole -> new name: {:.2} s; end of it -> old name: {:.2} s",
            switched.as_secs_f64(),
            back.as_secs_f64()
        );
        assert!(switched < Duration::from_secs(10));
    }
}
