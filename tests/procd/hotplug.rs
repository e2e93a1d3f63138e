// SPDX-License-Identifier: Apache-2.0
//! Oscilloscopes and GPS receivers come, go, and come back under another number.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use lab::OpenwrtRoot;

use super::{owner, router, service};

const WESENSE: (&str, &str) = ("1afe", "0009");
const UBLOX: (&str, &str) = ("1546", "01a7");
const ADAPTER: (&str, &str) = ("067b", "2303");

/// The kernel's part: makes the device and its directory in /sys, as drivers cdc_acm and usb-serial do.
fn appear(root: &OpenwrtRoot, tty: &str, port: &str, id: (&str, &str), serial: Option<&str>) {
    let device = format!("sys/devices/platform/ehci/usb1/{port}");
    root.write(&format!("{device}/idVendor"), &format!("{}\n", id.0));
    root.write(&format!("{device}/idProduct"), &format!("{}\n", id.1));
    if let Some(serial) = serial {
        root.write(&format!("{device}/serial"), &format!("{serial}\n"));
    }
    let interface = format!("{device}/{port}:1.0");
    // With usb-serial one more directory, of the serial port, lies between.
    let parent = if tty.starts_with("ttyUSB") { format!("{interface}/{tty}") } else { interface };
    let node = format!("{parent}/tty/{tty}");
    root.write(&format!("{node}/dev"), "166:0\n");
    symlink(format!("/{parent}"), root.path(&format!("{node}/device"))).unwrap();
    std::fs::create_dir_all(root.path("sys/class/tty")).unwrap();
    symlink(format!("/{node}"), root.path(&format!("sys/class/tty/{tty}"))).unwrap();
    root.write(&format!("dev/{tty}"), "");
}

fn vanish(root: &OpenwrtRoot, tty: &str, port: &str) {
    std::fs::remove_dir_all(root.path(&format!("sys/devices/platform/ehci/usb1/{port}"))).unwrap();
    std::fs::remove_file(root.path(&format!("sys/class/tty/{tty}"))).unwrap();
    std::fs::remove_file(root.path(&format!("dev/{tty}"))).unwrap();
}

/// What procd does with a uevent: sources each script of the directory.
fn event(root: &OpenwrtRoot, action: &str, tty: &str) {
    let script = "for script in /etc/hotplug.d/tty/*; do ( . \"$script\" ); done";
    let done = root.shell(script, &[("ACTION", action), ("DEVNAME", tty), ("SUBSYSTEM", "tty")]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{action} {tty}");
}

fn plug(root: &OpenwrtRoot, tty: &str, port: &str, id: (&str, &str), serial: Option<&str>) {
    appear(root, tty, port, id, serial);
    event(root, "add", tty);
}

fn unplug(root: &OpenwrtRoot, tty: &str, port: &str) {
    vanish(root, tty, port);
    event(root, "remove", tty);
}

/// The links in /dev and where they lead.
fn links(root: &OpenwrtRoot) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root.path("dev")).unwrap().flatten();
    let links = entries.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.to_owned(), target.to_str()?.to_owned()))
    });
    links.collect()
}

fn assert_links(root: &OpenwrtRoot, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(links(root), expected);
}

/// A router whose uci knows nothing of powquty.
fn plain_router() -> OpenwrtRoot {
    let root = router();
    root.write_program("sbin/uci", "#!/bin/sh\nexit 1\n");
    root
}

#[test]
fn an_oscilloscope_on_any_tty_is_wesense0_until_it_is_unplugged() {
    let root = plain_router();
    plug(&root, "ttyACM3", "1-1.2", WESENSE, None);
    assert_links(&root, &[("WeSense0", "ttyACM3"), ("WeSense-1-1.2", "ttyACM3")]);
    assert_eq!(owner(&root, "dev/ttyACM3"), "root:dialout 660");
    // The second event of the same device, by another subsystem.
    event(&root, "add", "ttyACM3");
    assert_links(&root, &[("WeSense0", "ttyACM3"), ("WeSense-1-1.2", "ttyACM3")]);
    unplug(&root, "ttyACM3", "1-1.2");
    assert_links(&root, &[]);
}

#[test]
fn several_keep_their_names_when_they_come_back_in_another_order() {
    let root = plain_router();
    plug(&root, "ttyACM0", "1-1", WESENSE, Some("A 1"));
    plug(&root, "ttyACM1", "1-2", WESENSE, Some("B/2"));
    plug(&root, "ttyACM2", "1-3", WESENSE, Some("C"));
    unplug(&root, "ttyACM1", "1-2");
    assert_links(
        &root,
        &[
            ("WeSense0", "ttyACM0"),
            ("WeSense-1-1", "ttyACM0"),
            ("WeSense2", "ttyACM2"),
            ("WeSense-1-3", "ttyACM2"),
        ],
    );
    unplug(&root, "ttyACM0", "1-1");
    unplug(&root, "ttyACM2", "1-3");
    // Another order, other numbers, and one of them on another port.
    plug(&root, "ttyACM0", "1-3", WESENSE, Some("C"));
    plug(&root, "ttyACM5", "1-4", WESENSE, Some("B/2"));
    plug(&root, "ttyACM6", "1-1", WESENSE, Some("A 1"));
    let links = links(&root);
    assert_eq!(
        (&*links["WeSense0"], &*links["WeSense1"], &*links["WeSense2"]),
        ("ttyACM6", "ttyACM5", "ttyACM0")
    );
    assert_eq!(links["WeSense-1-4"], "ttyACM5");
    assert_eq!(links.len(), 6, "{links:?}");
}

#[test]
fn the_only_one_is_wesense0_on_whichever_port() {
    let root = plain_router();
    plug(&root, "ttyACM0", "1-1", WESENSE, None);
    unplug(&root, "ttyACM0", "1-1");
    plug(&root, "ttyACM0", "1-2", WESENSE, None);
    assert_links(&root, &[("WeSense0", "ttyACM0"), ("WeSense-1-2", "ttyACM0")]);
}

#[test]
fn equal_serial_numbers_are_no_reason_to_lose_one() {
    let root = plain_router();
    plug(&root, "ttyACM0", "1-1", WESENSE, Some("0001"));
    plug(&root, "ttyACM1", "1-2", WESENSE, Some("0001"));
    let links = links(&root);
    assert_eq!((&*links["WeSense0"], &*links["WeSense1"]), ("ttyACM0", "ttyACM1"));
}

#[test]
fn a_link_left_by_a_removal_nobody_saw_is_replaced() {
    let root = plain_router();
    // PowQuty's link was absolute, and led to a tty that is gone.
    symlink("/dev/ttyACM7", root.path("dev/WeSense0")).unwrap();
    plug(&root, "ttyACM1", "1-1", WESENSE, None);
    assert_eq!(links(&root)["WeSense0"], "ttyACM1");
}

#[test]
fn a_gps_receiver_has_a_name_and_strangers_are_left_alone() {
    let root = plain_router();
    plug(&root, "ttyACM0", "1-1", UBLOX, None);
    plug(&root, "ttyUSB0", "1-2", ADAPTER, None);
    plug(&root, "ttyACM1", "1-3", ("2341", "0043"), None);
    root.write("dev/ttyS0", "");
    event(&root, "add", "ttyS0");
    assert_links(&root, &[("gps0", "ttyACM0"), ("gps-1-1", "ttyACM0")]);
    assert_eq!(owner(&root, "dev/ttyUSB0"), "root:root 644");
    assert_eq!(owner(&root, "dev/ttyACM1"), "root:root 644");
}

#[test]
fn an_adapter_the_configuration_names_may_be_used() {
    let root = plain_router();
    root.write_program(
        "sbin/uci",
        "#!/bin/sh\ncase \"$*\" in *gps_tty) echo /dev/ttyUSB0 ;; *) exit 1 ;; esac\n",
    );
    plug(&root, "ttyUSB0", "1-2", ADAPTER, None);
    plug(&root, "ttyUSB1", "1-3", ADAPTER, None);
    assert_links(&root, &[]);
    assert_eq!(owner(&root, "dev/ttyUSB0"), "root:dialout 660");
    assert_eq!(owner(&root, "dev/ttyUSB1"), "root:root 644");
}

#[test]
fn devices_that_were_there_before_the_package_are_found_at_the_start() {
    let root = plain_router();
    appear(&root, "ttyACM0", "1-1", ("2341", "0043"), None);
    appear(&root, "ttyACM1", "1-2", WESENSE, None);
    appear(&root, "ttyUSB0", "1-3", ADAPTER, None);
    root.write("etc/config/powquty", "config powquty 'powquty'\n\toption gps_tty '/dev/ttyUSB0'\n");
    service(&root, "powqutyd", "start");
    assert_links(&root, &[("WeSense0", "ttyACM1"), ("WeSense-1-2", "ttyACM1")]);
    assert_eq!(owner(&root, "dev/ttyUSB0"), "root:dialout 660");
    assert_eq!(owner(&root, "dev/ttyACM0"), "root:root 644");
}
