// SPDX-License-Identifier: Apache-2.0
//! An administrator's `uci set` and `uci commit wireless`, by the genuine `uci`, while dynapoint shows the offline access
//! point: the file gets that edit and nothing else. On a router of namespaces (root); hostapd and netifd are doubles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step of a test is a failed test

#[allow(dead_code, unreachable_pub)] // shared with tests/dynapoint.rs, which uses all of it
#[path = "../../dynapoint/netifd_double.rs"]
mod netifd_double;
#[allow(dead_code, unreachable_pub)] // as above
#[path = "../../dynapoint/rig.rs"]
mod rig;

use std::path::PathBuf;
use std::process::Command;

use lab::{wait_for, Environment, HostapdDouble, UbusdDouble, PATIENCE};
use openwrt::uci::Package;

use netifd_double::NetifdDouble;
use rig::{Rig, Web, HOST_V4};

const WIRELESS: &str = "
config wifi-device 'radio0'
	option type 'mac80211'
	option channel '11'

config wifi-iface
	option device 'radio0'
	option mode 'ap'
	option ssid 'freifunk'
	option dynapoint_rule 'internet'

config wifi-iface
	option device 'radio0'
	option mode 'ap'
	option ssid 'maintenance'
	option dynapoint_rule '!internet'
";

/// Built beside the library that cargo has put on the search path for this test.
fn genuine_uci() -> PathBuf {
    let path = std::env::var_os("LD_LIBRARY_PATH").expect("cargo test sets LD_LIBRARY_PATH");
    let uci =
        std::env::split_paths(&path).map(|lib| lib.join("../bin/uci")).find(|program| program.is_file());
    uci.expect("libuci-sys builds the command line tool, too")
}

#[test]
fn a_commit_while_offline_writes_the_administrators_edit_alone() {
    let ubusd = UbusdDouble::start();
    let netifd = NetifdDouble::start(ubusd.path());
    let rig = Rig::with(Environment::new().with_ubus(ubusd.path()));
    let _web = Web::start(&rig, 80);
    let hostapd =
        HostapdDouble::start(&rig.router, &rig.env.run_dir(), &[("ap0", "freifunk"), ("ap1", "maintenance")]);
    let before = Package::parse("wireless", WIRELESS.as_bytes()).unwrap();
    let names: Vec<&str> = before.of_kind("wifi-iface").map(openwrt::uci::Section::name).collect();
    netifd.set_access_points(&[(names[0], "ap0"), (names[1], "ap1")]);
    rig.env.write_config("wireless", WIRELESS);
    rig.env.write_config(
        "dynapoint",
        &format!("config rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\toption interval '1'\n\toption offline_threshold '2'\n"),
    );
    let uci = |arguments: &[&str]| {
        let mut command = Command::new(genuine_uci());
        command.arg("-c").arg(rig.env.config_dir()).arg("-t").arg(rig.env.state_dir()).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let on_air = |wanted: &[&str]| {
        wait_for(&format!("{wanted:?} on the air"), PATIENCE, || (hostapd.on_air() == wanted).then_some(()));
    };
    let daemon = rig.start();
    on_air(&["freifunk"]);
    rig.cut_link();
    on_air(&["maintenance"]);

    assert_eq!(uci(&["changes"]), "", "the daemon leaves no change behind");
    uci(&["set", "wireless.radio0.channel=6"]);
    assert_eq!(uci(&["changes"]), "wireless.radio0.channel='6'\n");
    uci(&["commit", "wireless"]);
    let text = std::fs::read_to_string(rig.env.config_dir().join("wireless")).unwrap();
    let after = Package::parse("wireless", text.as_bytes()).unwrap();
    let edited = WIRELESS.replace("channel '11'", "channel '6'");
    assert_eq!(after, Package::parse("wireless", edited.as_bytes()).unwrap(), "{text}");
    assert_eq!(uci(&["changes"]), "");

    // procd tells the daemon of the commit; the air stays as it is, and goes back with the link.
    daemon.reload();
    daemon.wait_for_log("reload: Applied");
    on_air(&["maintenance"]);
    rig.mend_link();
    on_air(&["freifunk"]);
    assert!(daemon.stop().success());
    assert_eq!(uci(&["changes"]), "");
    assert_eq!(std::fs::read_to_string(rig.env.config_dir().join("wireless")).unwrap(), text);
}
