#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up code by crate from `nm -S` on stdin; what a generic function is compiled for counts for its own crate."""
import collections
import re
import sys

sizes = collections.Counter()
for line in sys.stdin:
    words = line.split()
    if len(words) != 4 or words[2] not in "tTwW":
        continue
    # The first crate in a mangled name: v0 has it as `C` hash `_` length name, the legacy form as length name.
    found = re.match(r"_R.*?C(?:s[0-9A-Za-z]*_)?(\d+)_?(.*)", words[3]) or re.match(r"_ZN(\d+)(.*)", words[3])
    if not found:
        crate = "other"
    else:
        crate = found.group(2)[: int(found.group(1))]
        inner = re.match(r"_?\$LT\$(?:\$RF\$|mut |dyn )*([a-z_0-9]+)\.\.", crate)
        if inner:
            crate = inner.group(1)
    sizes[crate] += int(words[1], 16)
for crate, size in sizes.most_common(16):
    print(f"    {size:9d} {crate}")
print(f"    {sum(sizes.values()):9d} code in all")
