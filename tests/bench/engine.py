#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions per sample, speed and accuracy of power-quality, beside pqopen-lib from PyPI in the same run.

pqopen-lib goes into a virtual environment under target/. The same closed-form signals, rounded to 25 mV, go through
both; the deviations are those of the worst window after the first two seconds.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "target" / "bench-pqopen"
PEER = "pqopen-lib==0.10.5"
RATE = 10240

if pathlib.Path(sys.prefix) != HOME:
    if not (HOME / "done").exists():
        print(f"installing {PEER} under {HOME.relative_to(ROOT)}", file=sys.stderr, flush=True)
        venv.create(HOME, with_pip=True)
        subprocess.run([HOME / "bin/pip", "install", "--quiet", PEER], check=True)
        (HOME / "done").touch()
    os.execv(HOME / "bin/python", [str(HOME / "bin/python"), *sys.argv])

import numpy as np  # noqa: E402
from daqopen.channelbuffer import AcqBuffer  # noqa: E402
from pqopen.powersystem import PowerSystem  # noqa: E402


def cargo(*arguments):
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "power-quality", *arguments], cwd=ROOT, check=True)


def instructions(seconds):
    """Instructions of one run under callgrind, and what the program printed."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(BENCH), str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", run.stderr)[1])


def signal(seconds, hertz, harmonics=(), tones=(), envelope=None, volts=230.0):
    t = np.arange(int(seconds * RATE)) / RATE
    theta = 2 * np.pi * hertz * t
    u = np.sin(theta) + sum(p / 100 * np.sin(order * theta + 0.3 * order) for order, p in harmonics)
    u *= np.sqrt(2) * volts * (envelope(t) if envelope else 1.0)
    u += sum(np.sqrt(2) * volts * np.sin(2 * np.pi * f * t + 0.4) for f, volts in tones)
    return np.round(u / 0.025) * 0.025


def ours(u, nominal):
    path = ROOT / "target" / "bench-signal.f32"
    u.astype("<f4").tofile(path)
    began = time.perf_counter()
    run = subprocess.run([ANALYZE, path, str(RATE), "230", str(nominal)], capture_output=True, text=True, check=True)
    took = time.perf_counter() - began
    path.unlink()
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    windows = [w for w in lines if w["type"] == "window" and not w.get("partial") and w["start_s"] > 2]
    return {
        "u": [w["voltage"] for w in windows],
        "h": np.array([w["harmonics"] for w in windows]),
        "ih": np.array([w["interharmonics"] for w in windows]),
        "pst": [f["value"] for f in lines if f["type"] == "flicker" and f["kind"] == "pst"],
        "dips": [(e["start_s"], e["extreme_percent"]) for e in lines if e["type"] == "event" and e["kind"] == "dip"],
        "interruptions": sum(e["type"] == "event" and e["kind"] == "interruption" for e in lines),
    }, took


def peer(u, nominal, flicker=False):
    channel = AcqBuffer(size=len(u) + 10)
    system = PowerSystem(zcd_channel=channel, input_samplerate=RATE, nominal_frequency=nominal, nper=nominal // 5)
    system.add_phase(u_channel=channel)
    system.enable_harmonic_calculation(50)
    if flicker:
        clock = AcqBuffer(size=len(u) + 10, dtype=np.int64)
        system.enable_nper_abs_time_sync(clock)
        system.enable_fluctuation_calculation(nominal_voltage=230, pst_interval_sec=600)
    channels = {}
    began = time.perf_counter()
    for start in range(0, len(u), 2048):
        channel.put_data(u[start : start + 2048])
        if flicker:
            # Sample 0 is a ten-minute tick of UTC.
            stamps = np.arange(start, min(start + 2048, len(u))) * 1e6 / RATE
            clock.put_data((stamps + 1_200_000_000).astype(np.int64))
        system.process()
    took = time.perf_counter() - began
    for name in ("U1_rms", "U1_H_rms", "U1_IH_rms", "U1_pst", "U1_1p_hp_rms"):
        if name in system.output_channels:
            values, _ = system.output_channels[name].read_data_by_acq_sidx(0, len(u))
            channels[name] = np.array(values)
    skip = 12
    return {
        "u": channels["U1_rms"][skip:],
        "h": channels["U1_H_rms"][skip:, 1:51],
        "ih": channels["U1_IH_rms"][skip:, 1:51],
        "pst": list(channels.get("U1_pst", [])),
        "half": channels.get("U1_1p_hp_rms", np.array([])),
    }, took


def off(values, truth):
    """Largest relative deviation in %."""
    values = np.asarray(values, dtype=float)
    return float(np.max(np.abs(values / truth - 1)) * 100) if values.size else float("nan")


BENCH = ROOT / "target/release/examples/bench_engine"
ANALYZE = ROOT / "target/release/examples/analyze_f32"
cargo("--example", "bench_engine")
cargo("--features", "serde", "--example", "analyze_f32")

print("\ncost at 10 240 Hz, everything on, frames of 64 samples")
if subprocess.run(["sh", "-c", "command -v valgrind"], capture_output=True).returncode == 0:
    per_sample = (instructions(30) - instructions(10)) / (20 * RATE)
    print(f"  power-quality        {per_sample:8.0f} instructions per sample (callgrind; target 300)")
else:
    print("  valgrind is not installed: no instruction count")
speed = subprocess.run([BENCH, "1200"], capture_output=True, text=True, check=True).stdout.strip()
print(f"  power-quality        {speed}")
long = signal(60, 50.0, [(3, 5), (5, 4)])
_, took = peer(long, 50, flicker=True)
print(f"  pqopen-lib 0.10.5    {60 / took:.0f} x real time (frames of 2048 samples)")

print("\nworst deviation in % of reading          power-quality   pqopen-lib")
for name, nominal, arguments, key, index, truth in [
    ("U, 50 Hz", 50, dict(hertz=50.0), "u", None, 230.0),
    ("U, 49.3 Hz", 50, dict(hertz=49.3), "u", None, 230.0),
    ("h5 6 %, 49.3 Hz", 50, dict(hertz=49.3, harmonics=[(5, 6.0)]), "h", 4, 13.8),
    ("h25 1.5 %, 49.7 Hz", 50, dict(hertz=49.7, harmonics=[(25, 1.5)]), "h", 24, 3.45),
    ("h40 1 %, 57.5 Hz", 50, dict(hertz=57.5, harmonics=[(40, 1.0)]), "h", 39, 2.3),
    ("h50 1 %, 49.7 Hz", 50, dict(hertz=49.7, harmonics=[(50, 1.0)]), "h", 49, 2.3),
    ("230 Hz tone at 60 Hz (interharmonic 3)", 60, dict(hertz=60.0, tones=[(230.0, 2.4)]), "ih", 2, 2.4),
    ("Pst 1, 39 changes per minute", 50, dict(hertz=50.0, envelope=lambda t: 1 + 0.00447 * (1 - 2 * (np.floor(t * 0.65 + 0.5) % 2))), "pst", None, 1.0),
]:
    seconds = 1210 if key == "pst" else 10
    u = signal(seconds, **arguments)
    mine, _ = ours(u, nominal)
    theirs, _ = peer(u, nominal, flicker=key == "pst")
    pick = lambda found: off(found[key] if index is None else found[key][:, index], truth)  # noqa: E731
    if key == "pst":
        # The peer's filters settle during its first ten minutes.
        theirs["pst"] = theirs["pst"][-1:]
    print(f"  {name:40} {pick(mine):11.4f} {pick(theirs):12.4f}")

print("\ndips as the definition has them             expected   power-quality   pqopen-lib")
for name, length, level, expected in [
    ("10 ms without voltage: residual %", 0.01, 0.0, 70.71),
    ("one cycle at 40 %: residual %", 0.02, 0.4, 40.0),
    ("100 ms without voltage: residual %", 0.1, 0.0, 0.0),
]:
    u = signal(5, 50.0, envelope=lambda t: np.where((t > 3 - 1e-9) & (t < 3 + length - 1e-9), level, 1.0))
    mine, _ = ours(u, 50)
    theirs, _ = peer(u, 50)
    lowest = np.min(theirs["half"][50:]) / 2.3 if theirs["half"].size else float("nan")
    print(f"  {name:40} {expected:9.2f} {mine['dips'][0][1]:13.2f} {lowest:13.2f}")

print("\nfor comparison, measured once: the closed library of the original daemon 1006 instructions per sample")
print("(7 harmonics, no flicker)")
