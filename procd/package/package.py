#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs the feed's packages as .ipk and .apk files, without a buildroot, and prints their sizes.

The Makefiles of the feed say what each package is, what it is built with and what it installs; cross.py builds the
binaries; check.py runs them under qemu-user."""

import argparse
import concurrent.futures
import dataclasses
import lzma
import pathlib
import subprocess
import tempfile
import time

import apk
import check
import cross
import feed
import i18n
import ipk


def main():
    arguments = _arguments()
    packages = feed.packages()
    if arguments.only:
        packages = [package for package in packages if package.name in arguments.only]
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    daemons = [package for package in packages if package.daemon]
    targets = [cross.TARGETS[name] for name in arguments.target]
    if arguments.check:
        check.run({(target.name, package.name): cross.kept(target, package) for package in daemons
                   for target in targets if cross.kept(target, package).exists()}, targets)
        return
    rows = []
    repository = apk.Repository(arguments.out / "apk")
    for package in packages:
        if package.daemon is None:
            rows.append(_pack(package, ["all"], "/nonexistent", "all", arguments.out, repository))
            rows += _translations(package, arguments.out, repository)
    if arguments.binaries:
        for package in daemons:
            rows.append(_pack(package, [arguments.architecture], arguments.binaries, "given", arguments.out,
                              repository))
        repository.finish()
        _table(rows)
        return
    cross.prepare()
    built = {}
    # Packing has one thread, and lets the compiler have the rest of the machine.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as packer:
        packing = []
        for group in cross.groups(daemons):
            begun = time.monotonic()
            binaries = cross.build(targets, group)
            built |= binaries
            names = ", ".join(package.name for package in group)
            print(f"{names} built for {', '.join(arguments.target)} in {time.monotonic() - begun:.0f} s", flush=True)
            for target in targets:
                for package in group:
                    tree = binaries[target.name, package.name].parent.parent
                    packing.append(packer.submit(_pack, package, target.architectures, tree, target.name,
                                                 arguments.out, repository))
        # Beside the packing of the last of them.
        if not arguments.no_check:
            check.run(built, targets)
        rows += sorted(packed.result() for packed in packing)
    repository.finish()
    _table(rows)
    print(f"packages in {arguments.out} after {(time.monotonic() - started) / 60:.1f} min")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=list(cross.TARGETS), help="only this one; may be repeated")
    parser.add_argument("--only", action="append", metavar="PACKAGE", help="only this package; may be repeated")
    parser.add_argument("--out", type=pathlib.Path, default=cross.WORK / "out", help="where the packages go")
    parser.add_argument("--binaries", type=pathlib.Path, help="pack the binaries below DIR/bin, build nothing")
    parser.add_argument("--architecture", default="x86_64", help="opkg's name for what --binaries run on")
    parser.add_argument("--check", action="store_true", help="only run what was built before under qemu-user")
    parser.add_argument("--no-check", action="store_true", help="do not run the binaries under qemu-user")
    arguments = parser.parse_args()
    arguments.target = arguments.target or list(cross.TARGETS)
    return arguments


def _pack(package, architectures, binaries, target, out, repository):
    """Lays the package out, packs it and returns its row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch) / "tree"
        tree.mkdir()
        package.install(binaries, tree)
        scripts = {} if package.daemon else {"postinst-pkg": PAGES_INSTALLED}
        return _write(package, architectures, tree, target, out, repository, scripts)


# LuCI and rpcd remember menus and rights; both have to look again.
PAGES_INSTALLED = ('rm -f "${IPKG_INSTROOT}"/tmp/luci-indexcache.*\nrm -rf "${IPKG_INSTROOT}"/tmp/luci-modulecache/\n'
                   '[ -n "${IPKG_INSTROOT}" ] || /etc/init.d/rpcd reload 2>/dev/null\nexit 0\n')


def _translations(package, out, repository):
    """One package per language of a page set, named as LuCI's own feed names them."""
    rows = []
    for source in sorted(package.directory.glob("po/*/*.po")):
        language, topic = source.parent.name, source.stem
        fields = dict(package.fields, title=f"{package.fields['title']}, {i18n.LANGUAGES[language]}", depends=package.name)
        translation = dataclasses.replace(package, name=f"luci-i18n-{topic}-{language}", fields=fields, description="",
                                          conffiles=[])
        with tempfile.TemporaryDirectory() as scratch:
            tree = pathlib.Path(scratch) / "tree"
            archive = tree / f"usr/lib/lua/luci/i18n/{topic}.{language}.lmo"
            script = tree / f"etc/uci-defaults/luci-i18n-{topic}-{language}"
            for path in (archive, script):
                path.parent.mkdir(parents=True)
            archive.write_bytes(i18n.archive(source.read_text()))
            script.write_text(i18n.language_script(language))
            script.chmod(0o755)
            rows.append(_write(translation, ["all"], tree, "all", out, repository, {"postinst-pkg": PAGES_INSTALLED}))
    return rows


def _write(package, architectures, tree, target, out, repository, scripts):
    sizes = ipk.write(out, package, architectures, tree, scripts), repository.add(package, architectures, tree, scripts)
    # What a binary of this machine takes on a router is of no interest.
    squashed = None if target == "given" else _squashed(tree)
    return target, package.name, ipk.installed(tree), squashed, *sizes


def _squashed(tree):
    """Bytes on a router's flash, about: squashfs there is xz, too."""
    archive = subprocess.run(["tar", "-C", str(tree), "-cf", "-", "."], capture_output=True, check=True).stdout
    return len(lzma.compress(archive, preset=9 | lzma.PRESET_EXTREME))


def _table(rows):
    print(f"\n{'target':8} {'package':24} {'installed':>11} {'xz':>10} {'.ipk':>10} {'.apk':>10}")
    for target, name, installed, squashed, ipk_size, apk_size in rows:
        xz = "-" if squashed is None else f"{squashed:,}"
        print(f"{target:8} {name:24} {installed:11,} {xz:>10} {ipk_size:10,} {apk_size:10,}")


if __name__ == "__main__":
    main()
