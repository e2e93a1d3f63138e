# SPDX-License-Identifier: Apache-2.0
"""Runs what was built for other processors under qemu-user and compares it with the x86_64 build."""

import hashlib
import json
import math
import os
import pathlib
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import feed


def run(built, targets):
    """`built` maps (target name, package name) to a binary. Exits when one behaves otherwise than it should."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        signal = scratch / "dip.s16le"
        signal.write_bytes(_signal())
        receiver = _Receiver(scratch)
        outcomes = {}
        for target in targets:
            for (name, package), binary in built.items():
                if name == target.name:
                    outcomes.setdefault(package, {})[name] = _behaviour(target, package, binary, signal, receiver, scratch)
        receiver.stop()
    failed = False
    print(f"\n{'package':16} {'target':8} what it did")
    for package, by_target in outcomes.items():
        reference = next(iter(by_target.values()))
        for name, outcome in by_target.items():
            bad = [what for what, answer in outcome.items() if not answer or answer != reference[what]]
            failed |= bool(bad)
            print(f"{package:16} {name:8} " + (f"DIFFERS in {', '.join(bad)}" if bad else ", ".join(outcome) + ": alike"))
            for what in bad:
                print(f"    {what}: {outcome[what]!r}, elsewhere {reference[what]!r}")
    if failed:
        raise SystemExit("a binary does not behave as it should")


def _behaviour(target, package, binary, signal, receiver, scratch):
    """What the binary answers, with None for what it must not answer at all."""
    qemu = target.qemu.split()
    outcome = {"version": _call(qemu, binary, "version")}
    config = feed.ROOT / "procd" / binary.name / "files/etc/config"
    outcome["check"] = _call(qemu, binary, "-c", config, "--state-dir", scratch, "check")
    if binary.name == "powqutyd":
        printed = _call(qemu, binary, "analyze", signal, "--scale", "0.025")
        outcome["analyze"] = printed and hashlib.sha256(printed.encode()).hexdigest()[:16]
    if package in CONFIGURATIONS:
        outcome["POST over TLS"] = receiver.asked_by(qemu, binary, scratch, *CONFIGURATIONS[package])
    if binary.name == "mptcp-proxy":
        key = _call(qemu, binary, "genkey")
        outcome["genkey"] = len(key.strip()) if key else None
        outcome["tunnel and doctor"] = _tunnel(qemu, binary)
    return outcome


# Packages with TLS, and how each is told of a web hook.
CONFIGURATIONS = {
    "powqutyd": ("powquty", "config powquty 'powquty'\n\toption input 'simulator'\n"),
    "dynapoint-tls": ("dynapoint", "config globals 'globals'\n"),
}


def _tunnel(qemu, binary):
    """What tunnel.py says of two instances that carry bytes for each other, without whatever the network is here."""
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    command = [*alone, sys.executable, str(feed.HERE / "tunnel.py"), str(binary), *qemu]
    done = subprocess.run(command, text=True, capture_output=True)
    outcome = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-400:]}
    if outcome.get("alike") and outcome["exit"] == [0, 0]:
        return outcome
    print(f"{' '.join(command)}: {outcome}")
    return None


def _call(qemu, binary, *arguments, codes=(0,)):
    command = [*qemu, str(binary), *map(str, arguments)]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{' '.join(command)}: {error}")
        return None
    if done.returncode not in codes:
        print(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
        return None
    return done.stdout + done.stderr


def _signal():
    """Twenty seconds of 230 V at 49.97 Hz with harmonics, a dip and a swell; 10 240 Hz, 25 mV a step."""
    samples = bytearray()
    for n in range(204_800):
        t = n / 10_240
        depth = 0.5 if 5 <= t < 5.1 else 1.15 if 12 <= t < 12.4 else 1.0
        angle = 2 * math.pi * 49.97 * t
        volts = depth * 230 * math.sqrt(2) * (math.sin(angle) + 0.05 * math.sin(5 * angle) + 0.03 * math.sin(7 * angle))
        samples += struct.pack("<h", round(volts / 0.025))
    return bytes(samples)


def _certificate(scratch, authority):
    """Makes an authority, and a key and a certificate of it for localhost; the certificate of an authority itself is not
    what a server shows."""
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    key, certificate, request, names = (scratch / name for name in ("key.pem", "server.pem", "request.pem", "names"))
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(*new, "-x509", "-keyout", scratch / "ca.key", "-out", authority, "-days", 2, "-subj", "/CN=Test authority")
    openssl(*new, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", scratch / "ca.key", "-set_serial", 1, "-days", 2,
            "-extfile", names, "-out", certificate)
    return key, certificate


class _Receiver:
    """A web hook behind TLS with a certificate of an authority of its own."""

    def __init__(self, scratch):
        self.bodies = []
        self.authority = scratch / "ca.pem"
        key, certificate = _certificate(scratch, self.authority)
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def asked_by(self, qemu, binary, scratch, name, configuration):
        """Whether the test alert of a running daemon arrived, as valid JSON."""
        directory = scratch / "config"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(
            f"{configuration}\toption slack_notification '1'\n"
            f"\toption slack_webhook 'https://localhost:{self.server.server_port}/hook'\n")
        before = len(self.bodies)
        common = ["-c", directory, "--state-dir", scratch, "--run-dir", scratch]
        command = [*qemu, str(binary), *map(str, common), "--log-to", "stderr", "run"]
        daemon = subprocess.Popen(command, env=dict(os.environ, SSL_CERT_FILE=str(self.authority)),
                                  stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 60
            while not (scratch / f"{binary.name}.sock").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            answer = _call(qemu, binary, *common, "alert-test", "slack", codes=(0, 1))
        finally:
            daemon.terminate()
            log = daemon.communicate(timeout=60)[1]
        arrived = self.bodies[before:]
        if not (answer and "delivered: " in answer and arrived and json.loads(arrived[-1])):
            print(f"{answer}{log[-400:]}")
            return None
        return daemon.returncode == 0

    def stop(self):
        self.server.shutdown()
