# SPDX-License-Identifier: Apache-2.0
"""Writes .apk files of version 3, which OpenWrt takes since 25.12: a database of what is in the package, then the
contents of its files, deflated together. Unsigned. Same input, same bytes.

The database is a tree: each value is a word whose upper four bits say what it is, and whose lower 28 are the value or the
offset of it. An object or array is a count of slots, itself included, followed by that many values less one."""

import hashlib
import os
import stat
import struct
import zlib

# What a value is.
INTEGER, INTEGER_32, INTEGER_64, BLOB_8, BLOB_16, BLOB_32, ARRAY, OBJECT = 1, 2, 3, 8, 9, 10, 13, 14
# What a block of the file is.
DATABASE, DATA = 0, 2
# How many bytes of a package's digest are its name among others.
IDENTITY = 20

FUNCTIONS = '[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0\n. "${IPKG_INSTROOT}/lib/functions.sh"\n'
# What lib/functions.sh looks up below lib/apk/packages.
NAMED = 'export root="${IPKG_INSTROOT}"\nexport pkgname=%s\n'


class Repository:
    """Packages below the directory `out`, a directory for each architecture, and what they are in an index."""

    def __init__(self, out):
        self.out = out
        self.listed = {}

    def add(self, package, architectures, tree, extra_scripts):
        """Packs the directory `tree` as `package` (feed.Package) for each of the architectures; returns the size of one."""
        directories = _directories(tree, _records(package, tree))
        for architecture in architectures:
            packed, identity = _package(package, architecture, directories, _scripts(package, extra_scripts))
            directory = self.out / architecture
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{package.name}-{package.version}.apk").write_bytes(packed)
            entry = package, architecture, _installed(directories), identity, len(packed)
            self.listed.setdefault(directory, []).append(entry)
        return len(packed)

    def finish(self):
        """Writes the index of each directory, which `apk --repository` asks for."""
        for directory, entries in self.listed.items():
            database = _Database()
            packages = [_info(database, *entry) for entry in sorted(entries, key=lambda entry: entry[0].name.encode())]
            database.root(database.object([0, database.array(packages)]))
            (directory / "packages.adb").write_bytes(_deflated(b"indx", _block(DATABASE, bytes(database.bytes))))


def _scripts(package, extra):
    """As OpenWrt's build writes them: services, accounts and uci-defaults are lib/functions.sh's work."""
    installed = ('[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n' + FUNCTIONS + NAMED % package.name
                 + "add_group_and_user\ndefault_postinst\n" + extra.get("postinst-pkg", ""))
    return {
        "post-install": "#!/bin/sh\n" + installed,
        "pre-deinstall": "#!/bin/sh\n" + FUNCTIONS + NAMED % package.name + "default_prerm\n",
        "post-upgrade": "#!/bin/sh\nexport PKG_UPGRADE=1\n" + installed,
    }


SCRIPTS = ["trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade"]


def _records(package, tree):
    """Files that tell OpenWrt's scripts and sysupgrade what the package has; {path: content}."""
    records = {}
    if package.fields["user"]:
        records["rusers"] = package.fields["user"]
    if package.conffiles:
        records["conffiles"] = "\n".join(package.conffiles)
        present = [(name, tree / name.lstrip("/")) for name in package.conffiles]
        records["conffiles_static"] = "\n".join(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
                                                for name, path in present if path.is_file())
    names = sorted(f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_symlink() or path.is_file())
    records["list"] = "\n".join(names)
    return {f"lib/apk/packages/{package.name}.{kind}": text + "\n" for kind, text in records.items()}


def _directories(tree, records):
    """{directory: (mode, {name: (mode, content or target of a link)})}, the root being the empty name."""
    directories = {"": (0o755, {})}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        parent, _, own = name.rpartition("/")
        mode = path.lstat().st_mode & 0o7777
        if path.is_symlink():
            directories[parent][1][own] = (0o777, os.readlink(path))
        elif path.is_dir():
            directories[name] = (mode, {})
        else:
            directories[parent][1][own] = (mode, path.read_bytes())
    for name, text in records.items():
        parent, _, own = name.rpartition("/")
        upper = ""
        for part in parent.split("/"):
            upper = f"{upper}/{part}".lstrip("/")
            directories.setdefault(upper, (0o755, {}))
        directories[parent][1][own] = (0o644, text.encode())
    return directories


def _package(package, architecture, directories, scripts):
    database = _Database()
    paths, contents = [], []
    for path_index, (directory, (mode, files)) in enumerate(sorted(_encoded(directories)), 1):
        listed = []
        for file_index, (name, (file_mode, content)) in enumerate(sorted(_encoded(files)), 1):
            listed.append(_file(database, name, file_mode, content))
            if isinstance(content, bytes) and content:
                contents.append(struct.pack("<II", path_index, file_index) + content)
        paths.append(database.object([database.blob(directory), _rights(database, mode), database.array(listed)]))
    # The identity is a digest of all the rest; where it goes are zeros until then.
    info = _info(database, package, architecture, _installed(directories), bytes(IDENTITY))
    database.root(database.object([
        info, database.array(paths),
        database.object([database.blob(scripts.get(name, "").encode()) for name in SCRIPTS])]))
    at = (database.blob(bytes(IDENTITY)) & 0x0fff_ffff) + 1
    identity = hashlib.sha256(database.bytes).digest()[:IDENTITY]
    database.bytes[at:at + IDENTITY] = identity
    blocks = [_block(DATABASE, bytes(database.bytes)), *(_block(DATA, data) for data in contents)]
    return _deflated(b"pckg", b"".join(blocks)), identity


def _deflated(schema, blocks):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"ADBd" + deflate.compress(b"ADB." + schema + blocks) + deflate.flush()


def _encoded(entries):
    return [(name.encode(), value) for name, value in entries.items()]


def _rights(database, mode):
    return database.object([database.integer(mode), database.blob(b"root"), database.blob(b"root")])


def _file(database, name, mode, content):
    size, digest, target = len(content), 0, 0
    if isinstance(content, bytes):
        digest = database.blob(hashlib.sha256(content).digest())
    else:
        target = database.blob(struct.pack("<H", stat.S_IFLNK) + content.encode())
    return database.object([database.blob(name), _rights(database, mode), database.integer(size), database.integer(0),
                            digest, target])


def _installed(directories):
    return sum(len(content) for _, files in directories.values() for _, content in files.values() if isinstance(content, bytes))


def _info(database, package, architecture, installed, identity, file_size=None):
    """The description of the package; an index has its file's size, too."""
    fields = package.fields
    # A name can be provided in one version only: that keeps the variants of a daemon apart.
    provides = [f"{name}={package.version}" for name in fields["provides"].split()]
    slots = {
        1: database.blob(package.name.encode()),
        2: database.blob(package.version.encode()),
        3: database.blob(identity),
        4: database.blob((package.description or fields["title"]).encode()),
        5: database.blob(("noarch" if architecture == "all" else architecture).encode()),
        6: database.blob(fields["license"].encode()),
        7: database.blob(package.directory.name.encode()),
        12: database.integer(max(installed, 1)),
        13: database.integer(file_size) if file_size else 0,
        15: _dependencies(database, package.depends()),
        16: _dependencies(database, provides),
    }
    return database.object([slots.get(index, 0) for index in range(1, 17)])


def _dependencies(database, names):
    items = []
    for name in sorted(set(names)):
        name, _, version = name.partition("=")
        items.append(database.object([database.blob(name.encode()), database.blob(version.encode())]))
    return database.array(items)


def _block(kind, content):
    size = 4 + len(content)
    return struct.pack("<I", kind << 30 | size) + content + bytes(-size % 8)


class _Database:
    """What is equal is stored once."""

    def __init__(self):
        self.bytes = bytearray(8)
        self.known = {}

    def root(self, value):
        struct.pack_into("<I", self.bytes, 4, value)

    def integer(self, value):
        if value < 1 << 28:
            return INTEGER << 28 | value
        if value < 1 << 32:
            return self._store(INTEGER_32, struct.pack("<I", value), 4)
        return self._store(INTEGER_64, struct.pack("<Q", value), 4)

    def blob(self, value):
        """Nothing is stored of an empty one."""
        if not value:
            return 0
        if len(value) < 1 << 8:
            return self._store(BLOB_8, struct.pack("<B", len(value)) + value, 1)
        if len(value) < 1 << 16:
            return self._store(BLOB_16, struct.pack("<H", len(value)) + value, 2)
        return self._store(BLOB_32, struct.pack("<I", len(value)) + value, 4)

    def array(self, values):
        return self._slots(ARRAY, values)

    def object(self, values):
        return self._slots(OBJECT, values)

    def _slots(self, kind, values):
        values = list(values)
        while values and values[-1] == 0:
            values.pop()
        if not values:
            return 0
        return self._store(kind, struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), 4)

    def _store(self, kind, encoded, alignment):
        offset = self.known.get((alignment, encoded))
        if offset is None:
            self.bytes += bytes(-len(self.bytes) % alignment)
            offset = self.known[alignment, encoded] = len(self.bytes)
            self.bytes += encoded
        return kind << 28 | offset
