#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""service → dbus → core, and never back; nothing of the inside in the public headers.

Reads the includes of every source file and fails where one goes the wrong way. The public headers of the
library are named on the command line.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')

# Directory → patterns of headers that it must not know.
FORBIDDEN = {
    "core": [r"sdbus-c\+\+", r"systemd/", r"dbus/", r"service/", r"tests/"],
    "dbus": [r"linux/loop\.h", r"linux/blkpg\.h", r"libudev\.h", r"blkid/", r"service/", r"tests/"],
    "service": [r"linux/loop\.h", r"linux/blkpg\.h", r"tests/"],
}
# Of core, the seam to the kernel alone makes loop ioctls.
IOCTL = re.compile(r"ioctl\s*\([^;]*\b(LOOP_[A-Z]|BLKPG\b)", re.DOTALL)
IOCTL_FILE = "core/linux_loop_kernel.cpp"


def sources(top, directory):
    for path in sorted((top / directory).rglob("*")):
        if path.suffix in (".hpp", ".cpp", ".h", ".c"):
            yield path


def complaints(top):
    for directory, patterns in FORBIDDEN.items():
        for path in sources(top, directory):
            name = path.relative_to(top)
            text = path.read_text(encoding="utf-8")
            for number, line in enumerate(text.splitlines(), 1):
                include = INCLUDE.match(line)
                if include and any(re.match(pattern, include.group(1)) for pattern in patterns):
                    yield f"{name}:{number}: {directory}/ must not include {include.group(1)}"
            if IOCTL.search(text) and str(name) != IOCTL_FILE:
                yield f"{name}: loop ioctls belong into {IOCTL_FILE}"


def public_complaints(top, headers):
    """A public header includes the standard, and public headers of its own directory by name alone."""
    public = {path.name for path in headers}
    for path in headers:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            include = INCLUDE.match(line)
            if not include:
                continue
            name = include.group(1)
            if '"' in line and name not in public or name.startswith(("linux/", "core/")):
                yield f"{path.relative_to(top)}:{number}: a public header must not include {name}"


def main():
    top = pathlib.Path(sys.argv[1])
    headers = [pathlib.Path(name).resolve() for name in sys.argv[2:]]
    if not list(sources(top, "core")):
        sys.exit(f"{top}/core has no sources: this test would look at nothing")
    if not headers:
        sys.exit("no public headers are named")
    found = list(complaints(top)) + list(public_complaints(top.resolve(), headers))
    for complaint in found:
        print(complaint)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
