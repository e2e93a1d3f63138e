#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts both halves of mptcp-proxy, carries bytes from a SOCKS5 client through their tunnel to an echo and back, and
prints what came of it as JSON. Usage: tunnel.py BINARY [QEMU ARGUMENT...], inside a network namespace of its own."""

import fcntl
import hashlib
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

# Seconds until one of the halves or the tunnel counts as hanging; qemu on a busy machine takes its time.
PATIENCE = 120
SIZE = 300_000
PORT, SOCKS_PORT = 1088, 1089


def main():
    binary, qemu = sys.argv[1], sys.argv[2:]
    _loopback_up()
    target = _echo()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        command = [*qemu, binary]
        key = subprocess.run([*command, "genkey"], capture_output=True, text=True, check=True).stdout.strip()
        server = _Half(command, scratch / "server", (
            f"config server 'here'\n\toption listen '127.0.0.1'\n\toption port '{PORT}'\n"
            f"\tlist allow_target '127.0.0.0/8'\nconfig user 'client'\n\toption key '{key}'\n"))
        client = _Half(command, scratch / "client", (
            f"config client 'lan'\n\toption mode 'socks'\n\toption listen_port '{SOCKS_PORT}'\n\tlist server 'there'\n"
            f"\toption fallback 'block'\nconfig upstream 'there'\n\toption address '127.0.0.1'\n"
            f"\toption port '{PORT}'\n\toption key '{key}'\n"))
        try:
            client.wait_for("the server", lambda status: status["servers"][0]["state"] == "up")
            sent = random.Random(1).randbytes(SIZE)
            received = _through(target, sent)
            status = server.wait_for("the account of it", lambda status: status["counters"]["served"] >= 1)
            outcome = {"sent": SIZE, "received": len(received), "alike": received == sent,
                       "digest": hashlib.sha256(received).hexdigest()[:16], "served": status["counters"]["served"],
                       # What it finds is the machine's affair; that it looks at everything is not.
                       "doctor": [check["check"] for check in client.call("doctor")]}
        except Exception as error:  # pylint: disable=broad-except
            outcome = {"error": str(error), "client": client.log(), "server": server.log()}
        outcome["exit"] = [client.stop(), server.stop()]
    print(json.dumps(outcome))


class _Half:
    """One running half with a configuration and a socket of its own."""

    def __init__(self, command, directory, configuration):
        (directory / "config").mkdir(parents=True)
        (directory / "config/mptcp-proxy").write_text(configuration)
        self.command = [*command, "-c", str(directory / "config"), "--state-dir", str(directory), "--run-dir", str(directory)]
        self.errors = directory / "log"
        with self.errors.open("w") as log:
            self.process = subprocess.Popen([*self.command, "--log-to", "stderr", "run"], stderr=log)

    def wait_for(self, what, test):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            asked = subprocess.run([*self.command, "status", "--json"], capture_output=True, text=True, check=False)
            if asked.returncode == 0 and test(json.loads(asked.stdout)):
                return json.loads(asked.stdout)
            time.sleep(0.2)
        raise RuntimeError(f"waited for {what}: {asked.stdout}{asked.stderr}")

    def call(self, method):
        done = subprocess.run([*self.command, "call", method], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def log(self):
        return self.errors.read_text()[-2000:]

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)


def _through(target, data):
    """What comes back for `data` from `target` by the SOCKS5 listener."""
    with socket.create_connection(("127.0.0.1", SOCKS_PORT), PATIENCE) as stream:
        stream.sendall(b"\x05\x01\x00")
        if _exactly(stream, 2) != b"\x05\x00":
            raise RuntimeError("no SOCKS5 without a password")
        stream.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(target[0]) + struct.pack(">H", target[1]))
        answer = _exactly(stream, 10)
        if answer[1]:
            raise RuntimeError(f"SOCKS5 answers {answer[1]}")

        def send():
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        received = bytearray()
        while block := stream.recv(65536):
            received += block
        return bytes(received)


def _exactly(stream, size):
    data = b""
    while len(data) < size:
        block = stream.recv(size - len(data))
        if not block:
            raise RuntimeError(f"ended after {len(data)} of {size} bytes")
        data += block
    return data


def _echo():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            stream, _ = listener.accept()
            while block := stream.recv(65536):
                stream.sendall(block)
            stream.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()


def _loopback_up():
    """SIOCSIFFLAGS with IFF_UP | IFF_RUNNING; iproute2 need not be there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x41))


if __name__ == "__main__":
    main()
