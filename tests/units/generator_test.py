#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs loopd-generator and loopctl tab check on tables of cases/, and compares.

A case is a directory with looptab, fstab where it has one, and what is expected of each
program: tree and warnings of the generator, report of the check. What the generator
wrote is then shown to systemd-analyze verify. With --update the expectations are
written anew, to be read before they are believed.
"""

import argparse
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CASES = pathlib.Path(__file__).parent / "cases"

# Of the partitions' units, these stand for all.
ATTACH_PROGRAM = re.compile(r'"[^" ]*/loopd-attach"')
LEFT_OUT = re.compile(r"\\x2dpart(?!(1|128)\.)\d+\.")


def run(command, **environment):
    return subprocess.run(command, env={**os.environ, **environment}, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def listing(directory):
    """All that is in a directory, as one text."""
    parts = []
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_dir() or LEFT_OUT.search(name):
            continue
        if path.is_symlink():
            parts.append(f"==> {name} -> {os.readlink(path)}\n")
        else:
            parts.append(f"==> {name}\n{path.read_text(encoding='utf-8')}\n")
    return "".join(parts)


class Case:
    """One directory of cases/."""

    def __init__(self, directory, arguments):
        self.directory = directory
        self.arguments = arguments
        self.complaints = []
        self.environment = {
            "SYSTEMD_LOOPTAB": str(directory / "looptab"),
            "SYSTEMD_FSTAB": str(directory / "fstab"),
            "SYSTEMD_PROC_CMDLINE": self.text("cmdline"),
        }

    def text(self, name):
        path = self.directory / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def compare(self, name, found):
        # Nothing of this machine and this build.
        found = found.replace(str(self.directory), "/case")
        found = ATTACH_PROGRAM.sub('"/libexec/loopd-attach"', found)
        if self.arguments.update:
            (self.directory / name).write_text(found, encoding="utf-8")
        expected = self.text(name)
        self.complaints += difflib.unified_diff(expected.splitlines(), found.splitlines(),
                                                f"{self.directory.name}/{name}", "found", lineterm="")

    def run(self):
        with tempfile.TemporaryDirectory(prefix="loopd-generator.") as temporary:
            tree = pathlib.Path(temporary)
            result = run([self.arguments.generator, tree, tree / "early", tree / "late"], **self.environment)
            if result.returncode != 0:
                self.complaints.append(f"the generator ended with {result.returncode}")
            self.compare("tree", listing(tree))
            self.compare("warnings", result.stderr)
            self.verify(tree)
        report = run([self.arguments.loopctl, "tab", "check"], **self.environment)
        self.compare("report", f"{report.stdout}{report.stderr}exit code {report.returncode}\n")

    def verify(self, tree):
        services = sorted(str(path) for path in tree.glob("loop@*.service"))
        if services:
            self.complaints += complaints_of_systemd(self.arguments, tree, services)


def complaints_of_systemd(arguments, directory, units):
    """As systemd reads the units, with the program that was just built."""
    for path in directory.glob("*.service"):
        text = re.sub(r'(?<==)"?/[^" ]*/loopd-attach"?', arguments.attach, path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    result = run(["systemd-analyze", "verify", "--man=no", "--generators=no", *units],
                 SYSTEMD_UNIT_PATH=f"{directory}:{arguments.sources}:")
    if result.returncode == 0 and not result.stderr:
        return []
    return [f"systemd-analyze verify ended with {result.returncode}:\n{result.stderr}"]


def complaints_of_static_units(arguments):
    with tempfile.TemporaryDirectory(prefix="loopd-units.") as temporary:
        directory = pathlib.Path(temporary)
        shutil.copy(arguments.template, directory)
        return complaints_of_systemd(arguments, directory,
                                     ["loops.target", "remote-loops.target",
                                      r"loop-image@srv-my\x20disk.img.service"])


def complaints_of_manual(arguments):
    """The page's example is a case, so that it is known to be right."""
    page = (pathlib.Path(arguments.sources).parent / "docs/looptab.5.scd").read_text(encoding="utf-8")
    for name in ("looptab", "fstab"):
        example = (CASES / "example" / name).read_text(encoding="utf-8")
        if example.replace("\\", "\\\\") not in page:
            yield f"cases/example/{name} is not what looptab(5) shows"


def main():
    parser = argparse.ArgumentParser()
    for file in ("generator", "attach", "loopctl", "sources", "template"):
        parser.add_argument(f"--{file}", required=True, type=os.path.abspath)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()

    results = {}
    for directory in sorted(path for path in CASES.resolve().iterdir() if path.is_dir()):
        case = Case(directory, arguments)
        case.run()
        results[directory.name] = case.complaints
    results["static units"] = complaints_of_static_units(arguments)
    results["manual page"] = list(complaints_of_manual(arguments))

    print(f"1..{len(results)}")
    for number, (name, complaints) in enumerate(results.items(), 1):
        print("not ok" if complaints else "ok", number, name)
        for complaint in complaints:
            print("#", complaint.replace("\n", "\n# "))
    sys.exit(1 if any(results.values()) else 0)


if __name__ == "__main__":
    main()
