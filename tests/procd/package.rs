// SPDX-License-Identifier: Apache-2.0
//! What a firmware upgrade takes along.

use super::{package, router, DAEMONS};

#[test]
fn sysupgrade_keeps_logs_on_flash_that_are_small_enough() {
    let root = router();
    root.write_program(
        "sbin/uci",
        "#!/bin/sh\ncase \"$3\" in\n*.powquty_path) echo /srv/powquty.log ;;\n\
         *.powquty_event_path) echo /srv/events.log ;;\n*.record_path) echo /mnt/usb/powquty.rec ;;\n\
         *.outbox_path) echo /tmp/outbox ;;\n*) exit 1 ;;\nesac\n",
    );
    root.write("srv/powquty.log", &"x".repeat(3 << 20));
    root.write("srv/events.log", "one\n");
    root.write("srv/events.log.1", "older\n");
    root.write("mnt/usb/powquty.rec", "on USB");
    root.write("tmp/outbox", "in memory");
    root.write("tmp/conffiles", "/etc/config/powquty\n");
    // As sysupgrade does: sources the hooks, then runs the list with the file's name.
    let done = root.shell(
        "sysupgrade_init_conffiles=add_uci_conffiles; add_uci_conffiles() { :; }\n\
         for hook in /lib/upgrade/*.sh; do . \"$hook\"; done\n\
         for hook in $sysupgrade_init_conffiles; do $hook /tmp/conffiles || exit 1; done",
        &[],
    );
    assert_eq!(done.code, Some(0));
    assert_eq!(done.stderr, "powqutyd: /srv/powquty.log has more than 2048 KiB and is left behind\n");
    assert_eq!(root.read("tmp/conffiles"), "/etc/config/powquty\n/srv/events.log\n/srv/events.log.1\n");
}

#[test]
fn the_feed_packages_install_every_file_with_the_mode_it_needs() {
    for (daemon, account, _) in DAEMONS {
        let directory = package(daemon);
        let makefile = std::fs::read_to_string(directory.join("Makefile")).unwrap();
        let listed =
            std::process::Command::new("find").args([".", "-type", "f"]).current_dir(&directory).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let mut files: Vec<&str> = listed.lines().filter(|line| line.starts_with("./files/")).collect();
        // The default configuration may lie in another package of the tree.
        let config = makefile.lines().find_map(|line| line.trim().strip_prefix("$(INSTALL_CONF) "));
        let config = config.and_then(|line| line.split(' ').next()).expect("a configuration is installed");
        if !files.contains(&config) {
            files.push(config);
        }
        for file in files {
            let how = match file.split('/').nth(3) {
                Some("config") => "$(INSTALL_CONF)",
                Some("init.d" | "uci-defaults") => "$(INSTALL_BIN)",
                _ => "$(INSTALL_DATA)",
            };
            let to = file.strip_prefix("./files").unwrap().rsplit_once('/').unwrap().0;
            let line = format!("\t{how} {file} $(1){to}/\n");
            assert!(makefile.contains(&line), "{daemon}: no {line}");
        }
        assert!(makefile.contains(&format!("/conffiles\n{}\n", config.strip_prefix("./files").unwrap())));
        assert!(makefile.contains(&format!("USERID:={account}:{account}")));
        // Letters and hyphens suit neither apk nor a comparison of versions.
        let version = makefile.lines().find_map(|line| line.strip_prefix("PKG_VERSION:=")).unwrap();
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        assert!(version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{version}");
    }
}
