// SPDX-License-Identifier: Apache-2.0
//! What a router can lack: file descriptors, room or the right to write in the run directory, a resolver. The daemon
//! goes on, says what is wrong, does not take its own trouble for an outage, and recovers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::{wait_for, Daemon, Environment, HostapdDouble, UbusdDouble, PATIENCE};
use rustix::process::{getrlimit, prlimit, Pid, Resource, Rlimit};
use serde_json::json;

use crate::netifd_double::NetifdDouble;
use crate::rig::{Rig, Web, HOST_V4};

fn rule(target: &str) -> String {
    format!(
        "config rule 'internet'\n\tlist hosts '{target}'\n\toption interval '500ms'\n\toption timeout '2'\n\
         \toption offline_threshold '2'\n\toption link_loss 'immediate'\n"
    )
}

/// One access point for each state, behind the first one of the radio.
const WIRELESS: &str = "
config wifi-iface 'private'
	option device 'radio0'
	option ssid 'private'
config wifi-iface 'public'
	option device 'radio0'
	option ssid 'freifunk'
	option dynapoint_rule 'internet'
config wifi-iface 'broken'
	option device 'radio0'
	option ssid 'maintenance'
	option encryption 'psk2'
	option key 'open sesame'
	option dynapoint_rule '!internet'
";
const BSSES: [(&str, &str, &str); 3] =
    [("private", "ap0", "private"), ("public", "ap1", "freifunk"), ("broken", "ap2", "maintenance")];

struct Place {
    hostapd: HostapdDouble,
    rig: Rig,
    _netifd: NetifdDouble,
    _ubusd: UbusdDouble,
}

impl Place {
    fn new() -> Self {
        let ubusd = UbusdDouble::start();
        let netifd = NetifdDouble::start(ubusd.path());
        let rig = Rig::with(Environment::new().with_ubus(ubusd.path()));
        let devices = BSSES.map(|(_, device, ssid)| (device, ssid));
        let hostapd = HostapdDouble::start(&rig.router, &rig.env.run_dir(), &devices);
        netifd.set_access_points(&BSSES.map(|(section, device, _)| (section, device)));
        rig.env.write_config("wireless", WIRELESS);
        rig.env.write_config("dynapoint", &rule(&format!("http://{HOST_V4}/")));
        Self { hostapd, rig, _netifd: netifd, _ubusd: ubusd }
    }

    fn on_air(&self, wanted: &[&str]) {
        wait_for(&format!("{wanted:?} on the air"), PATIENCE, || {
            (self.hostapd.on_air() == wanted).then_some(())
        });
    }
}

/// So many descriptors may the process have from now on; `None`: as many as this one.
fn limit(daemon: &Daemon, descriptors: Option<u64>) {
    let own = getrlimit(Resource::Nofile);
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: descriptors.or(own.current), maximum: own.maximum })
        .unwrap();
}

/// Without a free descriptor no check can be made: that is no outage, and a lost link is seen all the same. What
/// hostapd could not be told meanwhile it is told later.
#[test]
fn without_file_descriptors_it_goes_on_and_recovers() {
    let place = Place::new();
    let web = Web::start(&place.rig, 80);
    let daemon = place.rig.start();
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    place.on_air(&["freifunk", "private"]);
    limit(&daemon, Some(3));
    daemon.wait_for_log("internet: no checks are made: Too many open files");
    // Checks that were under way have ended, and nothing more is asked for several rounds.
    std::thread::sleep(Duration::from_millis(500));
    let asked = web.requests().len();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(web.requests().len(), asked);
    assert!(!daemon.log().contains("online -> "), "its own trouble is no outage: {}", daemon.log());

    place.rig.cut_link();
    daemon.wait_for_log("internet: online -> offline");
    assert_eq!(place.hostapd.on_air(), ["freifunk", "private"], "nobody could tell hostapd");
    limit(&daemon, None);
    place.on_air(&["maintenance", "private"]);

    // And the other way round: the link comes back while nothing can be asked.
    limit(&daemon, Some(3));
    place.rig.mend_link();
    std::thread::sleep(Duration::from_secs(2));
    limit(&daemon, None);
    place.on_air(&["freifunk", "private"]);
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!(status["rules"][0]["state"], "online", "{status:#}");
    assert!(daemon.stop().success());
}

/// The daemon with something mounted over its run directory `$d`, in a mount namespace of its own.
fn start_with_run_dir(place: &Place, mount: &str) -> Daemon {
    let inner = place.rig.command(&["--log-level", "debug"]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c"]);
    command.arg(format!("set -e; d={}; {mount}; exec \"$@\"", place.rig.env.run_dir().display()));
    command.arg("sh").arg(inner.get_program()).args(inner.get_args());
    Daemon::start(command, "dynapoint", place.rig.env.socket("dynapoint"))
}

/// Mounts it with other options, where the daemon sees it.
fn remount(place: &Place, daemon: &Daemon, options: &str) {
    let remount = Command::new("nsenter")
        .args(["-m", "-t", &daemon.pid().to_string(), "mount", "-o", &format!("remount,{options}")])
        .arg(place.rig.env.run_dir())
        .status();
    assert!(remount.is_ok_and(|status| status.success()), "remount,{options}");
}

/// A file system on which nothing can be made, and what the system says then.
fn run_directory_fails(mount: &str, complaint: &str, mend: &str) {
    let place = Place::new();
    let _web = Web::start(&place.rig, 80);
    let mut daemon = start_with_run_dir(&place, mount);
    daemon.wait_for_log(&format!(
        "there is no service socket until this has passed: {}",
        place.rig.env.run_dir().display()
    ));
    daemon.wait_for_log(complaint);
    // What the daemon is for does not depend on that: one point is taken out, one put in, both ways.
    place.on_air(&["freifunk", "private"]);
    place.rig.cut_link();
    place.on_air(&["maintenance", "private"]);
    place.rig.mend_link();
    place.on_air(&["freifunk", "private"]);
    assert!(daemon.is_running());
    remount(&place, &daemon, mend);
    daemon.wait_for_log("the service socket is there now");
    let seen = Path::new("/proc").join(daemon.pid().to_string()).join("root");
    let socket = place.rig.env.socket("dynapoint");
    let status = lab::ask(&seen.join(socket.strip_prefix("/").unwrap()), "status", &json!({})).unwrap();
    assert_eq!(status["rules"][0]["state"], "online", "{status:#}");
    assert!(daemon.stop().success());
}

#[test]
fn with_a_read_only_run_directory_access_points_are_still_switched() {
    run_directory_fails(
        "mount --bind \"$d\" \"$d\"; mount -o remount,bind,ro \"$d\"",
        "Read-only file system",
        "bind,rw",
    );
}

#[test]
fn with_a_full_run_directory_access_points_are_still_switched() {
    run_directory_fails(
        // Three inodes: the root, hostapd's configuration and its sockets.
        "mkdir \"$d.full\"; mount -t tmpfs -o nr_inodes=3 none \"$d.full\"; cp \"$d/hostapd-phy0.conf\" \"$d.full\"; \
         mkdir \"$d.full/hostapd\"; mount --bind \"$d/hostapd\" \"$d.full/hostapd\"; mount --rbind \"$d.full\" \"$d\"",
        "No space left on device",
        "nr_inodes=100",
    );
}

/// A dead resolver is named as the reason, whether it is silent or refuses.
#[test]
fn a_dead_resolver_is_the_reason_in_words() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    rig.env.write_config("dynapoint", &rule("http://www.test/"));
    let daemon = rig.start();
    let reason = |wanted: &str| {
        daemon.wait_for_status(wanted, |status| {
            let rule = &status["rules"][0];
            rule["state"] == "offline"
                && rule["reason"].as_str().is_some_and(|reason| reason.contains(wanted))
        });
    };
    reason("cannot resolve www.test: resolver 10.9.0.2: connection refused");
    rig.internet.run("nft add table inet dns");
    rig.internet.run("nft add chain inet dns in { type filter hook input priority 0 ; }");
    rig.internet.run("nft add rule inet dns in udp dport 53 drop");
    reason("no answer of resolver 10.9.0.2, asked for www.test, within 2 s");
    assert!(daemon.stop().success());
}

/// A wrong option keeps the process and what it did on a reload; at a start it takes its default, loudly.
#[test]
fn a_wrong_option_keeps_the_last_good_configuration() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    let good = rule(&format!("http://{HOST_V4}/"));
    let wrong = good.replace("interval '500ms'", "interval 'often'");
    let problem = json!([{
        "file": "dynapoint", "section": "internet", "option": "interval", "value": "often",
    }]);
    let names_it = |status: &serde_json::Value| {
        let found = &status["configuration"]["problems"][0];
        problem[0].as_object().unwrap().iter().all(|(key, value)| found[key] == *value)
    };
    rig.env.write_config("dynapoint", &good);
    let mut daemon = rig.start();
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    rig.env.write_config("dynapoint", &wrong);
    daemon.reload();
    daemon.wait_for_log("reload: Kept");
    let kept = daemon.call("status", &json!({})).unwrap();
    assert_eq!(kept["configuration"]["state"], "kept", "{kept:#}");
    assert!(names_it(&kept), "{kept:#}");
    assert_eq!(kept["rules"][0]["transitions"], 1, "the rule went on: {kept:#}");
    rig.cut_link();
    daemon.wait_for_status("offline by the good configuration", |status| {
        status["rules"][0]["state"] == "offline"
    });
    assert!(daemon.is_running(), "the process stays");
    rig.mend_link();
    assert!(daemon.stop().success());

    let daemon = rig.start();
    daemon.wait_for_log("dynapoint:internet.interval: often: ");
    let status =
        daemon.wait_for_status("online by the default", |status| status["rules"][0]["state"] == "online");
    assert!(names_it(&status), "{status:#}");
    assert!(daemon.stop().success());
}
