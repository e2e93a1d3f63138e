// SPDX-License-Identifier: Apache-2.0
//! The packages' `uci-defaults`, unmodified, under a real busybox ash with the genuine `uci`: what PowQuty and the
//! DynaPoint script left behind is taken over, nothing is lost, and a second run changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step of a test is a failed test

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use lab::OpenwrtRoot;
use openwrt::uci::Source;

/// What PowQuty 0.3 installed, with the names it misspelt, and an operator's words in them.
const POWQUTY: &str = "\
config powquty 'powquty'
	option device_tty '/dev/WeSense0'
	option dev_uuid 'my_WeSense'
	option dev_lat '52.520008'
	option dev_lon '13.404954'
	option dev_acc '0'
	option dev_alt '0'
	option powquty_path '/tmp/powquty.log'
	option powquty_event_path '/tmp/powquty_event.log'
	option powqutyd_print '1'
	option max_log_size_kb '409600'
	option use_metadata '1'
	option meta_comment 'the operator'\\''s \"own\" $words'
	option meta_id ''
	option meta_operator ''
	option meta_pahse 'L1  and '\\''L2'\\'''
	option meta_reason ''
	option meta_typ 'Büro'
	option mqtt_host 'localhost'
	option mqtt_topic 'wesense/my_WeSense'
	option mqtt_uname 'username'
	option mqtt_pw 'password'
	option slack_webhook ''
	option slack_channel '#general'
	option slack_user 'PowQutyEvent'
	option slack_notification '0'
";

const DYNAPOINT: &str = "\
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

const WIRELESS: &str = "\
config wifi-device 'radio0'
	option type 'mac80211'
	option channel '1'

config wifi-iface
	option device 'radio0'
	option mode 'ap'
	option ssid 'freifunk'
	option disabled '0'
	option dynapoint_rule 'internet'

config wifi-iface 'maintenance'
	option device 'radio0'
	option mode 'ap'
	option ssid 'maintenance'
	option disabled '1'
	option dynapoint_rule '!internet'

config wifi-iface 'private'
	option device 'radio0'
	option mode 'ap'
	option ssid 'private'
";

/// A router with the genuine `uci` and a package's files.
fn router(package: &str) -> OpenwrtRoot {
    let root = OpenwrtRoot::new();
    root.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../procd").join(package).join("files"));
    root.install_program(&genuine_uci());
    root
}

/// Built beside the library that cargo has put on the search path for this test.
fn genuine_uci() -> PathBuf {
    let path = std::env::var_os("LD_LIBRARY_PATH").expect("cargo test sets LD_LIBRARY_PATH");
    let uci =
        std::env::split_paths(&path).map(|lib| lib.join("../bin/uci")).find(|program| program.is_file());
    uci.expect("libuci-sys builds the command line tool, too").canonicalize().unwrap()
}

/// What the package manager and the first boot do with a script.
fn defaults(root: &OpenwrtRoot, name: &str) {
    // busybox' killall misses /proc in a scratch root, where there is no ubusd either.
    let line = format!("killall() {{ :; }}; ( cd /etc/uci-defaults && . ./{name} )");
    root.run(&line);
}

/// All options of a package as they are in its committed file: section and option to values.
fn committed(root: &OpenwrtRoot, package: &str) -> BTreeMap<String, Vec<String>> {
    let source = Source { config_dir: root.path("etc/config"), state_dir: root.path("nowhere") };
    let package = source.load(package).unwrap();
    let mut all = BTreeMap::new();
    for section in package.sections() {
        all.insert(section.name().to_owned(), vec![section.kind().to_owned()]);
        for option in section.options() {
            let values = option.values().iter().map(|value| value.as_str().to_owned()).collect();
            all.insert(format!("{}.{}", section.name(), option.name()), values);
        }
    }
    all
}

/// Changes whenever a file is written again.
fn stamp(root: &OpenwrtRoot, inside: &str) -> (u64, String) {
    use std::os::unix::fs::MetadataExt;
    (std::fs::metadata(root.path(inside)).unwrap().ino(), root.read(inside))
}

#[test]
fn powqutys_file_keeps_every_value_and_gets_the_right_names() {
    let root = router("powqutyd");
    root.write("etc/config/powquty", POWQUTY);
    let mut expected = committed(&root, "powquty");
    assert!(expected.contains_key("powquty.meta_typ"));
    for (wrong, right) in [("meta_typ", "meta_type"), ("meta_pahse", "meta_phase")] {
        let values = expected.remove(&format!("powquty.{wrong}")).unwrap();
        expected.insert(format!("powquty.{right}"), values);
    }
    defaults(&root, "90_powqutyd");
    assert_eq!(committed(&root, "powquty"), expected);
    assert_eq!(expected["powquty.meta_phase"], ["L1  and 'L2'"]);
    let once = stamp(&root, "etc/config/powquty");
    defaults(&root, "90_powqutyd");
    assert_eq!(stamp(&root, "etc/config/powquty"), once);
    assert_eq!(root.run("uci changes"), "");
}

#[test]
fn powqutys_file_as_it_was_shipped_is_not_even_written() {
    let root = router("powqutyd");
    let shipped = POWQUTY.replace("'L1  and '\\''L2'\\'''", "''").replace("'Büro'", "''");
    root.write("etc/config/powquty", &shipped);
    let before = stamp(&root, "etc/config/powquty");
    defaults(&root, "90_powqutyd");
    assert_eq!(stamp(&root, "etc/config/powquty"), before);
}

#[test]
fn with_both_spellings_both_stay() {
    let root = router("powqutyd");
    root.write("etc/config/powquty", &POWQUTY.replace("option meta_id ''", "option meta_type 'right'"));
    let before = stamp(&root, "etc/config/powquty");
    let config = committed(&root, "powquty");
    defaults(&root, "90_powqutyd");
    let after = committed(&root, "powquty");
    assert_ne!(stamp(&root, "etc/config/powquty"), before, "meta_pahse is put right all the same");
    assert_eq!(after["powquty.meta_type"], ["right"]);
    assert_eq!(after["powquty.meta_typ"], config["powquty.meta_typ"]);
}

#[test]
fn an_anonymous_section_gets_the_name_everybody_looks_for() {
    for head in ["config powquty", "config powquty 'roof'"] {
        let root = router("powqutyd");
        root.write("etc/config/powquty", &POWQUTY.replace("config powquty 'powquty'", head));
        defaults(&root, "90_powqutyd");
        let after = committed(&root, "powquty");
        assert_eq!(after["powquty.dev_uuid"], ["my_WeSense"]);
        assert_eq!(after["powquty.meta_type"], ["Büro"]);
        assert_eq!(after.keys().filter(|key| !key.contains('.')).count(), 1, "{after:?}");
    }
}

#[test]
fn the_files_of_these_packages_are_not_touched() {
    for (package, config, script) in
        [("powqutyd", "powquty", "90_powqutyd"), ("dynapoint", "dynapoint", "90_dynapoint")]
    {
        let root = router(package);
        let file = format!("etc/config/{config}");
        if !root.path(&file).exists() {
            root.write(&file, "config globals 'globals'\n\toption enabled '1'\n");
        }
        let before = stamp(&root, &file);
        defaults(&root, script);
        assert_eq!(stamp(&root, &file), before);
    }
}

#[test]
fn without_any_configuration_nothing_happens() {
    for (package, config, script) in [
        ("powqutyd", "powquty", "90_powqutyd"),
        ("dynapoint", "dynapoint", "90_dynapoint"),
        ("mptcp-proxy", "mptcp-proxy", "90_mptcp-proxy"),
    ] {
        let root = router(package);
        let _ = std::fs::remove_file(root.path(&format!("etc/config/{config}")));
        defaults(&root, script);
        assert!(!root.path(&format!("etc/config/{config}")).exists());
        assert_eq!(std::fs::read_dir(root.path("tmp/.uci")).unwrap().count(), 0, "no uncommitted changes");
    }
}

#[test]
fn of_ucitrack_only_what_the_originals_had_put_there_goes() {
    let others = "config network\n\toption init 'network'\n\nconfig powquty\n\toption init 'mine'\n\n\
                  config dynapoint\n\toption exec '/usr/bin/mine'\n\n";
    let theirs = "config powquty\n\toption init 'powquty'\n\nconfig powquty\n\toption init 'powquty'\n\n\
                  config dynapoint\n\toption init 'dynapoint'\n\n";
    let root = router("powqutyd");
    root.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../procd/dynapoint/files"));
    root.write("etc/config/ucitrack", others);
    let kept: Vec<_> = committed(&root, "ucitrack").into_values().collect();
    root.write("etc/config/ucitrack", &format!("{theirs}{others}"));
    for _ in 0..2 {
        defaults(&root, "90_powqutyd");
        defaults(&root, "90_dynapoint");
        let mut left: Vec<_> = committed(&root, "ucitrack").into_values().collect();
        left.sort();
        let mut kept = kept.clone();
        kept.sort();
        assert_eq!(left, kept);
    }
}

#[test]
fn the_link_of_a_service_that_is_gone_goes_and_one_that_is_there_stays() {
    let root = router("powqutyd");
    symlink("../init.d/wesense-device", root.path("etc/rc.d/S66wesense-device")).unwrap();
    symlink("../init.d/powqutyd", root.path("etc/rc.d/S79powqutyd")).unwrap();
    root.write("etc/init.d/wesense-device", "#!/bin/sh\n");
    defaults(&root, "90_powqutyd");
    let exists = |link: &str| root.path(link).symlink_metadata().is_ok();
    assert!(exists("etc/rc.d/S66wesense-device"), "its package is still installed");
    std::fs::remove_file(root.path("etc/init.d/wesense-device")).unwrap();
    defaults(&root, "90_powqutyd");
    assert!(!exists("etc/rc.d/S66wesense-device"));
    assert!(exists("etc/rc.d/S79powqutyd"));
}

#[test]
fn a_switched_access_point_does_not_stay_switched_for_ever() {
    let root = router("dynapoint");
    root.write("etc/config/dynapoint", DYNAPOINT);
    root.write("etc/config/wireless", WIRELESS);
    let (rule, wireless) = (committed(&root, "dynapoint"), committed(&root, "wireless"));
    // The script was stopped while the uplink was down; its user had something unsaved, too.
    root.run(
        "uci set wireless.@wifi-iface[0].disabled=1; uci set wireless.maintenance.disabled=0\n\
         uci set wireless.maintenance.ssid=maintenance_node; uci set wireless.radio0.channel=6\n\
         uci set wireless.private.disabled=1",
    );
    defaults(&root, "90_dynapoint");
    assert_eq!(
        root.run("uci changes | sort"),
        "wireless.private.disabled='1'\nwireless.radio0.channel='6'\n"
    );
    // The package manager commits everything after the last script.
    root.run("uci commit");
    let mut expected = wireless;
    expected.insert("radio0.channel".to_owned(), vec!["6".to_owned()]);
    expected.insert("private.disabled".to_owned(), vec!["1".to_owned()]);
    assert_eq!(committed(&root, "wireless"), expected);

    let mut expected = rule;
    expected.insert("globals".to_owned(), vec!["globals".to_owned()]);
    expected.insert("globals.enabled".to_owned(), vec!["1".to_owned()]);
    assert_eq!(committed(&root, "dynapoint"), expected);
}

#[test]
fn what_the_operator_has_not_saved_survives_once_the_file_is_ours() {
    let root = router("dynapoint");
    root.write("etc/config/dynapoint", DYNAPOINT);
    root.write("etc/config/wireless", WIRELESS);
    defaults(&root, "90_dynapoint");
    let once = stamp(&root, "etc/config/dynapoint");
    root.run("uci set wireless.maintenance.disabled=0");
    defaults(&root, "90_dynapoint");
    assert_eq!(root.run("uci changes"), "wireless.maintenance.disabled='0'\n");
    assert_eq!(stamp(&root, "etc/config/dynapoint"), once);
}
