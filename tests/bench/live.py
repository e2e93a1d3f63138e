#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What powqutyd costs while it measures live with everything on: processor share and memory from /proc.

The release binary reads an emulated oscilloscope on a pseudo-terminal (with a dip every ten seconds), publishes each
second to a real mosquitto, writes all logs, keeps records and waveforms, and sends an alert per event over MQTT and to a
program. Usage: live.py [SECONDS (120)]
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("POWQUTYD", ROOT / "target/release/powqutyd"))
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
TICK = os.sysconf("SC_CLK_TCK")


def status(run):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(run / "powqutyd.sock"))
        stream.sendall(b'{"method":"status","params":{}}\n')
        return json.loads(stream.makefile().readline())["result"]


def wait_for(what, look, limit=30):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            found = look()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"live.py: no {what} within {limit} s")


def cpu(pid):
    """Seconds of user and system time, per thread and in sum."""
    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)
        name = fields[0].split("(", 1)[1]
        user, system = (int(value) / TICK for value in fields[1].split()[11:13])
        # schedstat is exact where clock ticks are coarse.
        try:
            exact = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            exact = user + system
        threads[f"{name} {task.name}"] = (user, system, exact)
    return threads


def memory(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon", "RssFile", "VmHWM")}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if not BINARY.exists():
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "powqutyd"], cwd=ROOT, check=True)
broker = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") or sys.exit("live.py: mosquitto is missing")

started = []
home = pathlib.Path(tempfile.mkdtemp(prefix="powqutyd-live-"))
try:
    port = free_port()
    (home / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started.append(subprocess.Popen([broker, "-c", home / "mosquitto.conf"], **quiet))
    wait_for("broker", lambda: socket.create_connection(("127.0.0.1", port), 1))
    for name in ("config", "state", "run", "data"):
        (home / name).mkdir()
    data = home / "data"
    (home / "script").write_text("noise 0.1\nharmonic 3 2\nharmonic 5 3\nrepeat 10s\nat 5s dip 50 for 100ms\n")
    (home / "config/powquty").write_text(
        f"""config powquty 'powquty'
	option input 'wesense'
	option device_tty '{data}/WeSense0'
	option powquty_path '{data}/powquty.log'
	option powquty_event_path '{data}/events.log'
	option record_path '{data}/powquty.rec'
	option outbox_path '{data}/outbox'
	option mqtt_host '127.0.0.1'
	option mqtt_port '{port}'
	option mqtt_event_flag '1'
	option exec_notification '1'
	option exec_command '/bin/true'
	option alert_rate '3600'
	option alert_window '0s'
	option send_t5060_data '1'
	option send_t1012_data '1'
	option mqtt_homeassistant '1'
"""
    )
    emulator = [BINARY, "emulate", "--pty", data / "WeSense0", "--script", home / "script"]
    started.append(subprocess.Popen(emulator, **quiet))
    wait_for("emulator", (data / "WeSense0").exists)
    command = [BINARY, "--config-dir", home / "config", "--state-dir", home / "state", "--run-dir", home / "run"]
    command += ["--ubus", home / "run/none", "--log-to", "stderr", "--log-level", "info"]
    with open(home / "log", "wb") as log:
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
    started.append(daemon)
    wait_for("samples", lambda: status(home / "run")["source"]["state"] == "running")
    time.sleep(10)
    before, began = cpu(daemon.pid), time.monotonic()
    time.sleep(SECONDS)
    after, took = cpu(daemon.pid), time.monotonic() - began
    report = status(home / "run")
    print(f"powqutyd live for {took:.0f} s, everything on: {report['source']['frames']} frames,")
    print(f"  {report['events']['dip']} dips, lost frames {report['source']['faults']['lost_frames']}")
    total = 0.0
    for name, (user, system, exact) in sorted(after.items(), key=lambda item: -item[1][2]):
        was = before.get(name, (0.0, 0.0, 0.0))
        share = (exact - was[2]) / took * 100
        total += share
        if share >= 0.001:
            print(f"  thread {name:24} {share:6.3f} % of a core")
    print(f"  processor, exact            {total:10.3f} % of a core (target 0.3, the original 0.26)")
    ticks = sum(sum(after[name][:2]) - sum(before.get(name, (0.0, 0.0))[:2]) for name in after)
    print(f"  processor, by clock ticks   {ticks / took * 100:10.3f} %")
    for key, kilobytes in memory(daemon.pid).items():
        target = {"VmRSS": " (target 6144, the original 9626)", "RssAnon": " (target 2048)"}.get(key, "")
        print(f"  {key:27} {kilobytes:10} kB{target}")
    if os.environ.get("SMAPS"):
        pathlib.Path(os.environ["SMAPS"]).write_text(pathlib.Path(f"/proc/{daemon.pid}/smaps").read_text())
finally:
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(home, ignore_errors=True)
