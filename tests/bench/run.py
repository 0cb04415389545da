#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures, and reports: loopd-bench once for each number of attached devices, then the
report of all of them. Run it as root, on a machine that does nothing else."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import report

LONG_FORM = [0, 500, 2000]
SHORT_FORM = [0, 20]

# What is not repeated in another population: it takes long, and says the same.
ONCE = "idle/|cycles/"

# UDisks2 and the commands look at every device.
FAR_TOO_SLOW = 1000


def measure(bench, population, output, short, *more):
    command = [bench, f"--population={population}", f"--benchmark_out={output}",
               "--benchmark_enable_random_interleaving=true"]
    if short:
        command.append("--short")
    if population >= FAR_TOO_SLOW:
        command.append("--without-udisks")
    if population > 0:
        command.append(f"--benchmark_filter=-^({ONCE})")
    command += more
    # What could not be measured is in the report, beside what could.
    failed = subprocess.run(command, check=False).returncode != 0
    if failed and not output.exists():
        raise SystemExit(f"bench: nothing was measured for {output.name}")
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", metavar="LOOPD-BENCH", type=pathlib.Path)
    parser.add_argument("--short", action="store_true", help="a few of each, which says only that all of it works")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="directory for figures and plots")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        directory = pathlib.Path(scratch)
        runs = [measure(arguments.bench, population, directory / f"{population}.json", arguments.short)
                for population in (SHORT_FORM if arguments.short else LONG_FORM)]
        runs.append(measure(arguments.bench, 0, directory / "cycles.json", arguments.short, "--without-udev",
                            "--benchmark_filter=^cycles"))
        alone = measure(arguments.bench, 0, directory / "alone.json", arguments.short, "--without-udisks",
                        f"--benchmark_filter=-^({ONCE})")
        return report.report(runs, alone, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
