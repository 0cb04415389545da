#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libloopdev.so offers is what its public headers declare, and nothing else.

A name that comes or goes is to be entered here; one that goes, or whose arguments change, needs a new
soversion, and a new name of the version in core/libloopdev.map.
"""

import re
import subprocess
import sys

SONAME = "libloopdev.so.0"
VERSION = "LOOPDEV_0"

FUNCTIONS = {
    "loop::Error::Error",
    "loop::Error::what",
    "loop::Error::~Error",
    "loop::LoopDevice::LoopDevice",
    "loop::LoopDevice::all",
    "loop::LoopDevice::attach",
    "loop::LoopDevice::dev",
    "loop::LoopDevice::dev_path",
    "loop::LoopDevice::disk_sequence",
    "loop::LoopDevice::find",
    "loop::LoopDevice::number",
    "loop::LoopDevice::open",
    "loop::LoopDevice::open_node",
    "loop::LoopDevice::operator=",
    "loop::LoopDevice::partitions",
    "loop::LoopDevice::refresh_size",
    "loop::LoopDevice::release",
    "loop::LoopDevice::remove",
    "loop::LoopDevice::rescan_partitions",
    "loop::LoopDevice::set_direct_io",
    "loop::LoopDevice::snapshot",
    "loop::LoopDevice::~LoopDevice",
    "loop::copy_of",
    "loop::errno_text",
    "loop::find_block_size",
    "loop::identify_file",
    "loop::image_format",
    "loop::inspect_backing_file",
    "loop::probe_image",
    "loop::validate",
    "loop::validate_reference",
}
DATA = {"typeinfo for loop::Error", "typeinfo name for loop::Error", "vtable for loop::Error"}


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def exported(library):
    """Names, without arguments and ABI tags, each with its version."""
    names = set()
    for line in output_of("nm", "--dynamic", "--defined-only", "--demangle", library).splitlines():
        name = line.split(maxsplit=2)[2]
        name, _, version = name.rpartition("@@")
        if not version.startswith("LOOPDEV_"):
            name, version = line.split(maxsplit=2)[2], ""
        if name:
            names.add((re.sub(r"\[abi:\w+\]|\(.*", "", name), version))
    return names


def main():
    library = sys.argv[1]
    expected = {(name, VERSION) for name in FUNCTIONS | DATA}
    found = exported(library) - {(VERSION, "")}  # the version itself
    complaints = [f"offered, and not meant to be: {name} {version}" for name, version in sorted(found - expected)]
    complaints += [f"missing: {name} {version}" for name, version in sorted(expected - found)]
    if f"[{SONAME}]" not in re.findall(r"SONAME.*", output_of("readelf", "--dynamic", library))[0]:
        complaints.append(f"the soname is not {SONAME}")
    sys.exit("\n".join(complaints) or 0)


if __name__ == "__main__":
    main()
