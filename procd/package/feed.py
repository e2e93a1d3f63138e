# SPDX-License-Identifier: Apache-2.0
"""Asks the feed's Makefiles what their packages are, through GNU make and the stand-ins in feed/."""

import dataclasses
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclasses.dataclass
class Package:
    """One package of the feed: `directory` holds its Makefile, `cargo` the arguments that build its binary."""

    name: str
    directory: pathlib.Path
    variant: str
    fields: dict
    description: str
    conffiles: list

    @property
    def daemon(self):
        """The Cargo package behind it, or None for pages."""
        return self.directory.name if (ROOT / self.directory.name / "Cargo.toml").exists() else None

    @property
    def version(self):
        return f"{self.fields['version']}-r{self.fields['release']}"

    def depends(self):
        return [word.lstrip("+") for word in self.fields["depends"].split()]

    def install(self, binaries, destination):
        """Runs the Makefile's install recipe: binaries/bin/NAME and the files of the tree go below destination."""
        _make(self.directory, "install", PACKAGE=self.name, BUILD_VARIANT=self.variant, DESTDIR=destination,
              PKG_INSTALL_DIR=binaries)


def packages():
    """Every package of the tree, daemons first."""
    directories = sorted(path.parent for path in ROOT.glob("procd/*/Makefile"))
    directories += sorted(path.parent for path in ROOT.glob("luci-apps/*/Makefile"))
    return [_describe(directory, *line.split()) for directory in directories for line in _make(directory).splitlines()
            if line.strip()]


def _describe(directory, name, variant=""):
    text = _make(directory, "describe", PACKAGE=name, BUILD_VARIANT=variant)
    facts, _, rest = text.partition("[description]\n")
    description, _, conffiles = rest.partition("[conffiles]\n")
    fields = dict(line.split("=", 1) for line in facts.splitlines() if "=" in line)
    return Package(name, directory, variant, fields, " ".join(description.split()), conffiles.split())


def _make(directory, *goals, **variables):
    feed = HERE / "feed"
    arguments = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--no-print-directory", "-s", f"TOPDIR={feed}", f"INCLUDE_DIR={feed}", *arguments, *goals]
    done = subprocess.run(command, cwd=directory, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{directory / 'Makefile'}: {done.stderr.strip()}")
    return done.stdout
