# SPDX-License-Identifier: Apache-2.0
"""Turns the .po files of the LuCI pages into what LuCI reads on a router: .lmo archives.

An archive holds the translations, each padded to four bytes, then per translation the hash of the original, the number
of plural forms, offset and length, ordered by hash, then the offset of that list; all big-endian."""

import re
import struct

LANGUAGES = {"de": "Deutsch (German)"}
PLURAL_FORMS = "Plural-Forms: "


def archive(text):
    """The .lmo archive of a .po file's text."""
    values, entries = bytearray(), []

    def add(key, forms, value):
        entries.append((key, forms, len(values), len(value)))
        values.extend(value + bytes(-len(value) % 4))

    for context, original, translation in _messages(text):
        if not original:
            for line in translation.split("\\n"):
                if line.startswith(PLURAL_FORMS):
                    add(0, 0, line[len(PLURAL_FORMS):].encode())
            continue
        key = f"{context}\1{original}".encode() if context else original.encode()
        value = translation.encode()
        # LuCI shows the original where there is no entry.
        if value and _hash(key) != _hash(value):
            add(_hash(key), 1, value)
    index = b"".join(struct.pack(">IIII", *entry) for entry in sorted(entries))
    return bytes(values) + index + struct.pack(">I", len(values))


def language_script(language):
    """The uci-defaults script that makes the language known to LuCI."""
    return (f"#!/bin/sh\nuci set luci.languages.{language}='{LANGUAGES[language]}'; uci commit luci\n"
            "rm -f /tmp/luci-indexcache.*\nexit 0\n")


def _messages(text):
    """(context, original, translation) of each message, with escapes but those of quote and backslash as they are."""
    for block in re.split(r"\n\s*\n", text):
        fields, current = {}, None
        for line in block.splitlines():
            found = re.match(r'(?:(msgctxt|msgid|msgstr|msgid_plural|msgstr\[\d+\]) )?"(.*)"\s*$', line)
            if not found:
                continue
            current = found.group(1) or current
            if current and (current == "msgid_plural" or "[" in current):
                raise ValueError(f"plural forms are not packed: {line}")
            fields[current] = fields.get(current, "") + re.sub(r'\\(["\\])', r"\1", found.group(2))
        if "msgstr" in fields:
            yield fields.get("msgctxt", ""), fields.get("msgid", ""), fields["msgstr"]


def _hash(data):
    """Hsieh's SuperFastHash, seeded with the length, on signed bytes."""
    mask = 0xFFFFFFFF
    state = len(data)
    whole = len(data) & ~3
    for low, high in struct.iter_unpack("<HH", data[:whole]):
        state = (state + low) & mask
        state = ((state << 16) ^ (high << 11) ^ state) & mask
        state = (state + (state >> 11)) & mask
    rest = data[whole:]
    if len(rest) == 1:
        state = _mixed(state + struct.unpack("b", rest)[0], 10, 1)
    elif len(rest) == 2:
        state = _mixed(state + struct.unpack("<H", rest)[0], 11, 17)
    elif len(rest) == 3:
        state = (state + struct.unpack("<H", rest[:2])[0]) & mask
        state = (state ^ (state << 16)) & mask
        state = (state ^ (struct.unpack("b", rest[2:])[0] << 18)) & mask
        state = (state + (state >> 11)) & mask
    for left, right in ((3, 5), (4, 17), (25, 6)):
        state = _mixed(state, left, right)
    return state


def _mixed(state, left, right):
    state &= 0xFFFFFFFF
    state = (state ^ (state << left)) & 0xFFFFFFFF
    return (state + (state >> right)) & 0xFFFFFFFF
