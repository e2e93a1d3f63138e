#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs parts of the benchmark and puts what they print into docs/BENCHMARKS.md; other parts' sections stay as they are.

Usage: run.py [--quick] [PART...]   parts: engine live proxy dynapoint size (all of them without any)
A part with --quick is printed only. The part `proxy` takes --only goodput,cost,loss; it is printed only as well.
"""
import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
DOCUMENT = ROOT / "docs/BENCHMARKS.md"
SHADOWSOCKS = "1.25.0"
FEATURES = "local,local-redir,server,multi-threaded,aead-cipher"

HEAD = """# Benchmarks

What the daemons do and cost, beside others that were measured in the same run on the same machine. `make bench` writes
this page; each section says by which command it was made, when and where. Absolute figures move with the machine, ratios
hold better. `tests/bench/run.py --quick PART` prints a short run without writing it down.
"""
TITLES = {
    "proxy": "mptcp-proxy beside other proxies",
    "engine": "The measurement engine beside pqopen-lib",
    "live": "powqutyd while it measures",
    "dynapoint": "dynapoint's reaction",
    "size": "Binaries and memory",
}


def own_root():
    """In a plain chroot the root directory is no mount point, and `ip netns` refuses: go on in one that is."""
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    if os.getuid() != 0 or "/" in points or os.environ.get("IN_OWN_ROOT"):
        return
    root = tempfile.mkdtemp()
    subprocess.run(["mount", "--rbind", "/", root], check=True)
    subprocess.run(["mount", "--make-rprivate", root], check=True)
    command = ["chroot", root, "/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(ROOT), __file__, *sys.argv[1:]]
    status = subprocess.run(command, env={**os.environ, "IN_OWN_ROOT": "1"}).returncode
    subprocess.run(["umount", "-R", "-l", root])
    os.rmdir(root)
    sys.exit(status)


def run(*command):
    """What a command prints; it has to succeed."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def router_build(package, *arguments):
    path = run("tests/router-build.sh", package, *arguments).strip().splitlines()[-1]
    return (ROOT / path).resolve()


def harness():
    subprocess.run(["cargo", "build", "--quiet", "--package", "bench"], cwd=ROOT, check=True)
    return TARGET / "debug/bench"


def fenced(text):
    return "```\n" + text.strip("\n") + "\n```\n"


def engine(_quick, _more):
    return fenced(run("tests/bench/engine.py"))


def live(quick, _more):
    return fenced(run("tests/bench/live.py", *(["20"] if quick else [])))


def proxy(quick, more):
    peers = TARGET / "bench/bin"
    if not (peers / "ssserver").exists():
        print(f"building shadowsocks-rust {SHADOWSOCKS}", file=sys.stderr, flush=True)
        command = ["cargo", "install", "--quiet", "--locked", "--root", TARGET / "bench", "--version", SHADOWSOCKS]
        command += ["shadowsocks-rust", "--no-default-features", "--features", FEATURES]
        command += ["--bin", "sslocal", "--bin", "ssserver", "--target-dir", TARGET / "bench/build"]
        subprocess.run(command, cwd=ROOT, check=True)
    ours = router_build("mptcp-proxy", "--no-default-features")
    versions = [f"shadowsocks-rust {SHADOWSOCKS}"]
    for package in ("shadowsocks-libev", "haproxy", "redsocks", "microsocks", "iperf3"):
        version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
        versions.append(f"{package} {version.stdout or '?'}")
    text = run(harness(), "proxy", ours, peers, *(["--quick"] if quick else []), *more)
    return text + "\nVersions: " + ", ".join(versions) + ".\n"


def dynapoint(quick, _more):
    ours = router_build("dynapoint", "--no-default-features")
    return run(harness(), "dynapoint", ours, *(["--quick"] if quick else []))


def size(_quick, _more):
    text = subprocess.run(["tests/size.sh"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    note = "Memory: `live` (powqutyd), `proxy` (mptcp-proxy), and dynapoint as it checks twenty pages every 200 ms:\n\n"
    subprocess.run(["cargo", "build", "--quiet", "--package", "dynapoint"], cwd=ROOT, check=True)
    test = ["cargo", "test", "--quiet", "--package", "e2e", "--test", "dynapoint", "--", "--ignored", "--nocapture"]
    measured = run(*test, "a_check_costs_little_and_starts_no_process")
    lines = [re.sub(r"^.*/target", "target", line) for line in measured.splitlines() if "RssAnon" in line]
    return fenced(text) + "\n" + note + fenced("\n".join(lines))


PARTS = {"engine": engine, "live": live, "proxy": proxy, "dynapoint": dynapoint, "size": size}


def processor():
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"


def write(part, text, began):
    """Rewrites the section of one part."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    made = f"{began:%Y-%m-%d %H:%M} UTC, Linux {platform.release()}, {processor()}; load average afterwards {load}."
    section = f"\n<!-- {part} -->\n## {TITLES[part]}\n\n`make bench PARTS={part}`: {made}\n\n{text.strip()}\n<!-- end of {part} -->\n"
    old = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    sections = {name: body for name, body in re.findall(r"(?s)(?<=\n<!-- )(\w+)( -->\n.*?\n<!-- end of \1 -->\n)", old)}
    sections = {name: f"\n<!-- {name}{body}" for name, body in sections.items()}
    sections[part] = section
    DOCUMENT.write_text(HEAD + "".join(sections[name] for name in TITLES if name in sections))


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    more = []
    if "--only" in arguments:
        place = arguments.index("--only")
        more = arguments[place : place + 2]
        del arguments[place : place + 2]
    parts = [word for word in arguments if word != "--quick"] or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        sys.exit(f"run.py: no part '{unknown[0]}'; there are {' '.join(PARTS)}")
    own_root()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if {"proxy", "dynapoint"} & set(parts):
        subprocess.run(["tests/setup.sh", "bench"], cwd=ROOT, check=True)
    for part in parts:
        began = datetime.datetime.now(datetime.timezone.utc)
        text = PARTS[part](quick, more)
        print(f"== {TITLES[part]}\n\n{text}", flush=True)
        if not quick and not more:
            write(part, text, began)


if __name__ == "__main__":
    main()
