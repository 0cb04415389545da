#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libloopdev as a stranger meets it: installed, found by pkg-config, used by the example.

Installs into a temporary directory, compiles each public header alone and examples/attach_image.cpp
against that, and runs the example on an image.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SECTOR = 512
MIB = 1024 * 1024
BUILD, SOURCE = map(pathlib.Path, sys.argv[1:3])
COMPILER = sys.argv[3:]
PUBLIC_TAGS = "devel,libloopdev"


def run(*command, **options):
    """The standard output of a command that has to succeed."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} gave {done.returncode}:\n{done.stdout}")
    return done.stdout


def write_image(path):
    """8 MiB with an MBR that has one partition, from 1 MiB to 3 MiB."""
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0])
    entry += (MIB // SECTOR).to_bytes(4, "little") + (2 * MIB // SECTOR).to_bytes(4, "little")
    path.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(8 * MIB - SECTOR))


class InstalledLibrary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Below the name by which devices that an interrupted run has left are known.
        parent = os.environ.get("LOOPD_TEST_DIR", "/var/tmp")
        cls.scratch = tempfile.TemporaryDirectory(prefix=f"loopd-test.{os.getpid()}.", dir=parent)
        cls.directory = pathlib.Path(cls.scratch.name)
        cls.tree = cls.directory / "tree"
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--tags", PUBLIC_TAGS, "--destdir", cls.tree)
        pc_files = list(cls.tree.rglob("libloopdev.pc"))
        assert len(pc_files) == 1, pc_files
        cls.environment = dict(os.environ, PKG_CONFIG_LIBDIR=str(pc_files[0].parent),
                               PKG_CONFIG_SYSROOT_DIR=str(cls.tree))
        # What the static library would need beside it is the system's.
        cls.library = next(cls.tree.rglob("libloopdev.so.0"))

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def pkg_config(self, *options):
        return run("pkg-config", *options, "libloopdev", env=self.environment).split()

    def compile(self, *arguments):
        run(*COMPILER, "-std=c++20", "-Wall", "-Wextra", "-Werror", *self.pkg_config("--cflags"), *arguments)

    def test_every_header_stands_alone(self):
        headers = sorted(self.tree.rglob("include/loopdev/*.hpp"))
        self.assertIn("loopdev.hpp", [header.name for header in headers])
        for header in headers:
            source = self.directory / "alone.cpp"
            source.write_text(f"#include <loopdev/{header.name}>\n#ifdef LOOP_SET_FD\n"
                              "#error <linux/loop.h> comes along\n#endif\n", encoding="utf-8")
            self.compile("-fsyntax-only", source)

    def test_the_example_attaches_an_image(self):
        program = self.directory / "attach_image"
        self.compile(SOURCE / "examples/attach_image.cpp", *self.pkg_config("--libs"), "-o", program)
        needed = run("readelf", "--dynamic", program)
        self.assertIn("[libloopdev.so.0]", needed)
        if os.geteuid() != 0:
            self.skipTest("running it needs root")
        image = self.directory / "disk.img"
        write_image(image)
        lines = run(program, image,
                    env=dict(os.environ, LD_LIBRARY_PATH=str(self.library.parent))).splitlines()
        self.assertRegex(lines[0], rf"^/dev/loop\d+: {8 * MIB} bytes of {image}$")
        self.assertRegex(lines[1], rf"^/dev/loop\d+p1: {2 * MIB} bytes at {MIB}, $")
        self.assertEqual(len(lines), 2)
        attached = pathlib.Path("/sys/block").glob("loop*/loop/backing_file")
        self.assertNotIn(str(image), [file.read_text(encoding="utf-8").strip() for file in attached])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
