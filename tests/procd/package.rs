// SPDX-License-Identifier: Apache-2.0
//! What a firmware upgrade takes along.

use super::router;

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
