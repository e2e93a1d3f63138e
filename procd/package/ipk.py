# SPDX-License-Identifier: Apache-2.0
"""Writes .ipk files: a gzipped tar of debian-binary, data.tar.gz and control.tar.gz. Same input, same bytes."""

import gzip
import io
import os
import tarfile

# What OpenWrt's image build puts into every package: services, users and uci-defaults are lib/functions.sh's work.
SCRIPTS = {
    "postinst": ('#!/bin/sh\n[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0\n'
                 '. "${IPKG_INSTROOT}/lib/functions.sh"\ndefault_postinst "$0" "$@"\n'),
    "prerm": ('#!/bin/sh\n[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0\n'
              '. "${IPKG_INSTROOT}/lib/functions.sh"\ndefault_prerm "$0" "$@"\n'),
}


def write(out, package, architectures, tree, extra_scripts):
    """Packs the directory `tree` as `package` (feed.Package), a file below `out` for each of opkg's architectures;
    returns the size of one."""
    data = _tar(tree)
    for architecture in architectures:
        path = out / f"{package.name}_{package.version}_{architecture}.ipk"
        path.write_bytes(_package(package, architecture, tree, data, extra_scripts))
    return path.stat().st_size


def installed(tree):
    """Bytes of all files below `tree`."""
    return sum(entry.lstat().st_size for entry in tree.rglob("*") if entry.is_file())


def _package(package, architecture, tree, data, extra_scripts):
    control = {"control": _control(package, architecture, tree), **SCRIPTS, **extra_scripts}
    if package.conffiles:
        control["conffiles"] = "".join(line + "\n" for line in package.conffiles)
    members = [("./debian-binary", b"2.0\n", 0o644), ("./data.tar.gz", data, 0o644),
               ("./control.tar.gz", _archive([(f"./{name}", text.encode(), 0o755 if name in SCRIPTS else 0o644)
                                              for name, text in sorted(control.items())]), 0o644)]
    return _archive(members)


def _control(package, architecture, tree):
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Depends": ", ".join(package.depends()),
        "Provides": package.fields["provides"],
        "Conflicts": package.fields["conflicts"],
        "Section": package.fields["section"],
        "License": package.fields["license"],
        # lib/functions.sh makes the accounts named here.
        "Require-User": package.fields["user"],
        "Architecture": architecture,
        "Installed-Size": str(installed(tree)),
        "Description": package.description or package.fields["title"],
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _tar(tree):
    """A gzipped tar of everything below `tree`, owned by root, in the order of names."""
    entries = []
    for path in sorted(tree.rglob("*")):
        name = f"./{path.relative_to(tree)}"
        if path.is_symlink():
            entries.append((name, os.readlink(path), None))
        elif path.is_dir():
            entries.append((name, None, path.stat().st_mode & 0o7777))
        else:
            entries.append((name, path.read_bytes(), path.stat().st_mode & 0o7777))
    return _archive(entries)


def _archive(entries):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content, mode in entries:
            info = tarfile.TarInfo(name)
            info.uname = info.gname = "root"
            info.mode = mode if mode is not None else 0o777
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), 9, mtime=0)
