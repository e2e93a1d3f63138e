# SPDX-License-Identifier: Apache-2.0
"""Cross-builds static musl binaries without a buildroot: Debian's rustc-web with the library's sources
(rust-web-src), and zig from PyPI as linker, C compiler and C library."""

import argparse
import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "package"
RUSTC = "/usr/bin/rustc"
ZIG = "ziglang==0.17.1"


@dataclasses.dataclass(frozen=True)
class Target:
    """`zig` are the arguments that make zig cc a compiler for it, `architectures` opkg's names for what runs it."""

    name: str
    triple: str
    zig: str
    qemu: str
    architectures: tuple


TARGETS = {target.name: target for target in (
    Target("x86_64", "x86_64-unknown-linux-musl", "-target x86_64-linux-musl", "qemu-x86_64-static", ("x86_64",)),
    Target("aarch64", "aarch64-unknown-linux-musl", "-target aarch64-linux-musl", "qemu-aarch64-static",
           ("aarch64_generic", "aarch64_cortex-a53", "aarch64_cortex-a72", "aarch64_cortex-a76")),
    Target("armv7", "armv7-unknown-linux-musleabihf", "-target arm-linux-musleabihf -mcpu=generic+v7a+vfp3d16",
           "qemu-arm-static",
           ("arm_cortex-a7_neon-vfpv4", "arm_cortex-a7_vfpv4", "arm_cortex-a8_vfpv3", "arm_cortex-a9_neon",
            "arm_cortex-a9_vfpv3-d16", "arm_cortex-a15_neon-vfpv4", "arm_cortex-a5_vfpv4")),
    # qemu's plain 24Kc has no 64-bit loads either: what runs there runs on the routers.
    Target("mipsel", "mipsel-unknown-linux-musl", "-target mipsel-linux-musleabi -mcpu=mips32r2+soft_float",
           "qemu-mipsel-static -cpu 24Kc", ("mipsel_24kc", "mipsel_74kc")),
    Target("mips", "mips-unknown-linux-musl", "-target mips-linux-musleabi -mcpu=mips32r2+soft_float",
           "qemu-mips-static -cpu 24Kc", ("mips_24kc",)),
)}


def groups(packages):
    """The variants with TLS and those without, apart: cargo builds the packages of one run with the same features of what
    they share, and one daemon only once."""
    small = [package for package in packages if not _features(package)]
    return [group for group in (small, [package for package in packages if package not in small]) if group]


def build(targets, packages):
    """Builds one variant of each daemon for all `targets`, in one go: what they share is compiled once, what two targets
    share is compiled for both, and the last, single threaded minute of one binary runs beside that of another. Returns
    {(target name, package name): stripped binary}."""
    directory = WORK / "build"
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", str(directory),
               "-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size", "--no-default-features"]
    for package in packages:
        command += ["--package", package.daemon, "--bin", package.daemon]
    features = [f"{package.daemon}/{feature}" for package in packages for feature in _features(package)]
    if features:
        command += ["--features", ",".join(features)]
    for target in targets:
        command += ["--target", target.triple]
    done = subprocess.run(command, cwd=ROOT, env=_environment(targets))
    if done.returncode:
        raise SystemExit(f"{', '.join(package.name for package in packages)}: cargo ended with {done.returncode}")
    binaries = {}
    for target in targets:
        for package in packages:
            binary = kept(target, package)
            binary.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(directory / target.triple / "release" / package.daemon, binary)
            binaries[target.name, package.name] = binary
    return binaries


def _features(package):
    """Features of its Cargo package, by the arguments the feed's Makefile gives to cargo."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--no-default-features", action="store_true")
    arguments.add_argument("--features", default="")
    arguments = arguments.parse_args(shlex.split(package.fields["cargo"]))
    features = [feature for feature in arguments.features.split(",") if feature]
    return features if arguments.no_default_features else ["default", *features]


def kept(target, package):
    """Where a built binary stays, apart from the variants of the same daemon."""
    return WORK / "bin" / target.name / package.name / "bin" / package.daemon


def prepare():
    """Puts the tools into place; says what is missing."""
    if not pathlib.Path(RUSTC).exists() or not _library_sources().is_dir():
        raise SystemExit("no rustc-web with rust-web-src: tests/setup.sh package installs them on Debian")
    if not (WORK / "venv/bin/python").exists():
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(WORK / "venv")], check=True)
    if subprocess.run([str(WORK / "venv/bin/python"), "-c", "import ziglang"], capture_output=True).returncode:
        print("installing zig from PyPI", flush=True)
        subprocess.run([str(WORK / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", ZIG],
                       check=True)
    if not shutil.which("cargo"):
        raise SystemExit("no cargo on the path")


def _library_sources():
    sysroot = subprocess.run([RUSTC, "--print", "sysroot"], text=True, capture_output=True, check=True).stdout.strip()
    return pathlib.Path(sysroot) / "lib/rustlib/src/rust/library"


def _environment(targets):
    environment = dict(os.environ, RUSTC=RUSTC, RUSTC_BOOTSTRAP="1", CARGO_INCREMENTAL="0",
                       ZIG_GLOBAL_CACHE_DIR=str(WORK / "zig"), ZIG_LOCAL_CACHE_DIR=str(WORK / "zig"))
    environment.pop("RUSTFLAGS", None)
    environment.pop("CARGO_ENCODED_RUSTFLAGS", None)
    static = "-Ctarget-feature=+crt-static -Clink-self-contained=no -Crelocation-model=static"
    for target in targets:
        compiler, archiver = _wrappers(target)
        name = target.triple.replace("-", "_")
        environment[f"CARGO_TARGET_{name.upper()}_LINKER"] = str(compiler)
        environment[f"CARGO_TARGET_{name.upper()}_RUSTFLAGS"] = " ".join([static, *_router_flags(target)])
        environment[f"CC_{name}"] = str(compiler)
        environment[f"AR_{name}"] = str(archiver)
    return environment


def _router_flags(target):
    """The flags of tests/router.flags, which `make size` builds with, too; and no directory of this machine in the file."""
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    flags = [f"--remap-path-prefix={sources}/=" for sources in sorted(home.glob("registry/src/*"))]
    for line in (ROOT / "tests/router.flags").read_text().splitlines():
        names, _, flag = line.rpartition(": ")
        if line and not line.startswith("#") and (not names or target.name in names.split()):
            flags.append(flag.replace("@ROOT@", str(ROOT)))
    return flags


# rustc hands over start files and libraries of a libc it expects; zig brings its own of each.
WRAPPER = """#!/bin/sh
# Written by cross.py.
for argument do
	shift
	case $argument in
	--target=* | */crt1.o | */crti.o | */crtn.o | */crtbegin*.o | */crtend*.o | crt*.o | rcrt1.o) ;;
	-lgcc_eh | -lgcc | -lgcc_s | -lc | -nostartfiles | -nodefaultlibs | -Wl,-melf* | -no-pie | -static-pie) ;;
	-march=* | -mabi=* | -mcpu=* | -m32 | -mips32r2 | -msoft-float) ;;
	*) set -- "$@" "$argument" ;;
	esac
done
exec {python} -m ziglang cc {zig} "$@"
"""


def _wrappers(target):
    WORK.mkdir(parents=True, exist_ok=True)
    python = WORK / "venv/bin/python"
    compiler, archiver = WORK / f"cc-{target.name}", WORK / f"ar-{target.name}"
    compiler.write_text(WRAPPER.format(python=python, zig=target.zig))
    archiver.write_text(f'#!/bin/sh\n# Written by cross.py.\nexec {python} -m ziglang ar "$@"\n')
    for path in (compiler, archiver):
        path.chmod(0o755)
    return compiler, archiver
