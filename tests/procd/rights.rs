// SPDX-License-Identifier: Apache-2.0
//! Whose process it is, and what it may read and write.

use std::os::unix::fs::symlink;

use super::{owner, package, router, service, DAEMONS};

#[test]
fn the_run_directory_belongs_to_the_daemon() {
    let root = router();
    for (daemon, account, _) in DAEMONS {
        service(&root, daemon, "start");
        assert_eq!(owner(&root, &format!("tmp/run/{daemon}")), format!("{account}:{account} 755"));
    }
}

#[test]
fn without_ujail_or_the_account_it_runs_as_root_and_says_why() {
    for (daemon, ..) in DAEMONS {
        let root = router();
        std::fs::remove_file(root.path("sbin/ujail")).unwrap();
        let told = service(&root, daemon, "start");
        assert!(!told.iter().any(|line| line.contains("user|") || line.contains("jail")), "{told:#?}");
        assert!(told.iter().any(|line| line.contains("|command|")));
        let reason = "runs as root: /sbin/ujail is not installed\n";
        assert_eq!(root.read("tmp/logged"), format!("-t {daemon} -p daemon.notice {reason}"));

        let root = router();
        root.write("etc/passwd", "root:x:0:0:root:/root:/bin/ash\n");
        let told = service(&root, daemon, "start");
        assert!(!told.iter().any(|line| line.contains("user|")), "{told:#?}");
        assert!(root.read("tmp/logged").contains("there is no user"));
    }
}

#[test]
fn files_of_a_predecessor_that_was_root_are_handed_over_and_nothing_else() {
    let root = router();
    root.write("tmp/powquty.log", "old\n");
    root.write("tmp/powquty_event.log.1", "old\n");
    root.write("tmp/other.log", "not ours\n");
    root.write("etc/shadow", "root:*\n");
    // In a directory where everybody may put things.
    symlink("/etc/shadow", root.path("tmp/powquty-trap")).unwrap();
    service(&root, "powqutyd", "start");
    assert_eq!(owner(&root, "tmp/powquty.log"), "powquty:powquty 644");
    assert_eq!(owner(&root, "tmp/powquty_event.log.1"), "powquty:powquty 644");
    assert_eq!(owner(&root, "tmp/other.log"), "root:root 644");
    assert_eq!(owner(&root, "etc/shadow"), "root:root 644");
    assert_eq!(owner(&root, "tmp"), "root:root 1777");
}

fn with_path(path: &str) -> String {
    format!("config powquty 'powquty'\n\toption powquty_path '{path}'\n")
}

#[test]
fn a_directory_for_logs_is_made_or_shared() {
    let root = router();
    std::fs::create_dir(root.path("mnt/usb")).unwrap();
    root.write("mnt/usb/powquty.log", "old\n");
    for (path, directory, expected) in [
        ("/mnt/usb/powquty.log", "mnt/usb", "root:powquty 775"),
        ("/data/grid/powquty.log", "data/grid", "powquty:powquty 755"),
        ("/root/own/powquty.log", "root/own", "powquty:powquty 755"),
    ] {
        root.write("etc/config/powquty", &with_path(path));
        // Twice: what the first start made has to do for the second.
        for _ in 0..2 {
            let told = service(&root, "powqutyd", "start");
            assert!(told.contains(&"set_param|user|powquty".to_owned()), "{path}: {told:#?}");
            assert_eq!(owner(&root, directory), expected, "{path}");
        }
    }
    assert_eq!(owner(&root, "mnt/usb/powquty.log"), "powquty:powquty 644");
    assert_eq!(root.read("tmp/logged"), "");
}

#[test]
fn a_directory_of_the_system_is_never_handed_over() {
    let root = router();
    let before = (owner(&root, "root"), owner(&root, "etc"), owner(&root, "mnt"));
    for path in ["/root/powquty.log", "/etc/powquty.log", "/mnt/powquty.log", "/tmp/../etc/powquty.log"] {
        root.write("tmp/logged", "");
        root.write("etc/config/powquty", &with_path(path));
        let told = service(&root, "powqutyd", "start");
        // As PowQuty did; whoever writes to these is root anyway.
        assert!(!told.iter().any(|line| line.contains("user|")), "{path}: {told:#?}");
        let expected = format!("runs as root: {path} is in a directory that cannot be given to powquty");
        assert!(root.read("tmp/logged").contains(&expected), "{}", root.read("tmp/logged"));
        assert_eq!((owner(&root, "root"), owner(&root, "etc"), owner(&root, "mnt")), before, "{path}");
    }
}

#[test]
fn metrics_may_be_written_where_they_are_collected() {
    let root = router();
    service(&root, "dynapoint", "start");
    assert!(!root.path("tmp/prometheus").exists(), "off unless the directory exists");
    std::fs::create_dir(root.path("tmp/prometheus")).unwrap();
    service(&root, "dynapoint", "start");
    assert_eq!(owner(&root, "tmp/prometheus"), "root:root 1777");
}

#[test]
fn capabilities_and_bus_rights_name_the_account_and_no_more_than_is_needed() {
    let expected: [(&str, &[&str]); 3] = [
        ("powqutyd", &["CAP_DAC_READ_SEARCH"]),
        ("dynapoint", &["CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN", "CAP_NET_RAW"]),
        ("mptcp-proxy", &["CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]),
    ];
    for ((daemon, account, _), (_, capabilities)) in DAEMONS.into_iter().zip(expected) {
        let json = |inside: String| -> serde_json::Value {
            let path = package(daemon).join("files").join(inside);
            serde_json::from_slice(&std::fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{path:?}: {error}"))
        };
        let sets = json(format!("etc/capabilities/{daemon}.json"));
        // All five: a program the daemon runs (nft) inherits through the ambient set only.
        for set in ["bounding", "effective", "ambient", "permitted", "inheritable"] {
            assert_eq!(sets[set], serde_json::json!(capabilities), "{daemon}: {set}");
        }
        let bus = json(format!("usr/share/acl.d/{daemon}.json"));
        assert_eq!(bus["user"], account);
        let object = if daemon == "powqutyd" { "powquty" } else { daemon };
        assert_eq!(bus["publish"], serde_json::json!([object]));
    }
}
