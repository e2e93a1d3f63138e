// SPDX-License-Identifier: Apache-2.0
//! powqutyd on a USB serial device of the kernel (dummy_hcd, g_serial, cdc_acm), in a machine of its own: found by its
//! USB id, unbound, bound again.

use lab::Vm;
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(280);

const SCRIPT: &str = r#"
set -u
fail() { echo "@@ fail: $*"; tail -n 30 /tmp/powqutyd.log; tail -n 10 /tmp/emulate.log; dmesg | tail -n 20; exit 1; }
until_true() { n=0; while ! eval "$1" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 240 ] || fail "never: $1"; sleep 0.25; done; }
status() { powqutyd status --json; }
dips() { powqutyd events --kind dip --json | wc -l; }
modprobe dummy_hcd && modprobe cdc_acm && modprobe usb_f_acm && modprobe g_serial idVendor=0x1afe idProduct=0x0009 || fail modprobe
until_true '[ -c /dev/ttyACM0 ] && [ -c /dev/ttyGS0 ]'
echo "usb $(cat /sys/class/tty/ttyACM0/device/../idVendor):$(cat /sys/class/tty/ttyACM0/device/../idProduct)"
mkdir -p /etc/config /tmp/.uci
cat >/etc/config/powquty <<E
config powquty 'powquty'
	option device_tty '/dev/WeSense0'
E
cat >/tmp/script <<E
repeat 5s
noise 0.1
at 3s dip 50 for 100ms
E
powqutyd emulate --tty /dev/ttyGS0 --script /tmp/script >/tmp/emulate.log 2>&1 &
emulator=$!
powqutyd --log-to stderr 2>/tmp/powqutyd.log &
daemon=$!
until_true 'status | grep -q "\"state\":\"running\""'
until_true '[ $(dips) -ge 3 ]'
device=$(basename $(readlink -f /sys/class/tty/ttyACM0/device/..))
echo "$device" >/sys/bus/usb/drivers/usb/unbind || fail unbind
until_true 'status | grep -q "\"state\":\"absent\""'
before=$(dips)
sleep 3
echo "$device" >/sys/bus/usb/drivers/usb/bind || fail bind
until_true 'status | grep -q "\"state\":\"running\""'
until_true "[ \$(dips) -ge $((before + 3)) ]"
grep 'time 0 is' /tmp/emulate.log
echo "status $(status)"
powqutyd events --limit 200 --json | sed 's/^/event /'
cut -d' ' -f14,15 /proc/$daemon/stat | sed 's/^/ticks /'
kill -TERM $daemon; wait $daemon
echo "stopped $?"
kill -TERM $emulator
exit 0
"#;

#[test]
fn a_usb_device_is_found_unbound_and_found_again() {
    let vm = Vm::build();
    let powqutyd = lab::binary("powqutyd");
    let outcome = vm.run(SCRIPT, &[(powqutyd.as_path(), "usr/sbin/powqutyd")], LIMIT);
    println!("{}\nthe machine ran {:.0} s", outcome.console, outcome.took.as_secs_f64());
    assert_eq!(outcome.status, Some(0), "failed in the machine");
    let console = &outcome.console;
    assert!(console.contains("usb 1afe:0009"));
    let line = |word: &str| {
        console.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word}"))
    };
    let origin = seconds(line("time 0 is "));
    let status: Value = serde_json::from_str(line("status ")).unwrap();
    let source = &status["source"];
    assert_eq!((&source["starts"], &source["faults"]["hangups"]), (&2.into(), &1.into()), "{source:#}");
    assert!(source["device"].as_str().unwrap().starts_with("/dev/ttyACM"), "{source:#}");
    let away = source["faults"]["missing_samples"].as_f64().unwrap() / 10_240.0;
    println!("without samples for {away:.2} s");
    assert!((3.0..20.0).contains(&away), "{away} s");
    let events: Vec<Value> = console
        .lines()
        .filter_map(|line| line.strip_prefix("event "))
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert!(events.len() >= 6 && events.iter().all(|event| event["kind"] == "dip"), "{events:#?}");
    for event in &events {
        let start = seconds(event["start"].as_str().unwrap()) - origin;
        let (phase, length) = (start.rem_euclid(5.0), event["duration"].as_f64().unwrap());
        println!("dip at {start:.3} s for {length:.4} s");
        // Measured from the beginning of the cycle that was low first (IEC 61000-4-30 5.4.2).
        assert!((phase - 2.99).abs() < 0.05, "at {start} s");
        assert!((length - 0.13).abs() < 0.021, "{length} s");
    }
    assert!(console.contains("stopped 0"));
}

fn seconds(rfc3339: &str) -> f64 {
    powqutyd::clock::Utc::parse_rfc3339(rfc3339).unwrap_or_else(|| panic!("no time: {rfc3339}")).seconds()
}
