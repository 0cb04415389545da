#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots systemd of a Debian release, with the project installed, and runs scenarios in it.

Says in TAP what came of each check. README.md has more.
"""
import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # run as root, this leaves no files of root in a checkout
import trees
from container import Container
from machine import Machine
from scenario import HERE, Scenario

PREFIX = 'loopd-system'
SCRATCH = Path('/var/tmp')


def main():
    arguments = parse_arguments()
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root, for mounts and loop devices')
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit('interrupted'))
    kind = Machine if arguments.machine else Container
    needed = kind.trees_of(arguments.release)
    with kind.turn(SCRATCH, PREFIX), \
            tempfile.TemporaryDirectory(prefix=f'{PREFIX}.{os.getpid()}.', dir=SCRATCH) as scratch:
        bed = kind(Path(scratch), arguments.build, *needed)
        if arguments.packages:
            shutil.copytree(arguments.packages, bed.installed / 'testbed/packages')
        else:
            bed.install()
        if arguments.shell:
            return bed.shell(arguments.scenarios[0])
        return run_scenarios(bed, arguments.scenarios)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--release', choices=trees.RELEASES, default=trees.machine_release(),
                        help='whose systemd to boot (default: the machine\'s own)')
    parser.add_argument('--machine', action='store_true',
                        help='boot a virtual machine with the release\'s own kernel, instead of a container')
    parser.add_argument('--build', type=Path, default=HERE.parents[1] / 'build', help='the build directory')
    parser.add_argument('--packages', type=Path, help='a directory that is put to /testbed/packages, instead of installing')
    parser.add_argument('--shell', action='store_true', help='boot for the one scenario, and open a shell instead')
    parser.add_argument('scenarios', nargs='*', help='names or files (default: all that need no more than there is)')
    arguments = parser.parse_args()
    named = [Scenario(find_scenario(name)) for name in arguments.scenarios]
    for scenario in named:
        if scenario.needs_machine and not arguments.machine:
            parser.error(f'{scenario.name} needs a machine of its own: say --machine')
    arguments.scenarios = named or [scenario for scenario in map(Scenario, sorted((HERE / 'scenarios').glob('*.py')))
                                    if arguments.machine or not scenario.needs_machine]
    if arguments.shell and len(arguments.scenarios) != 1:
        parser.error('--shell needs one scenario')
    return arguments


def find_scenario(name):
    return Path(name) if name.endswith('.py') else HERE / 'scenarios' / f'{name}.py'


def run_scenarios(bed, scenarios):
    tap = Tap()
    for scenario in scenarios:
        for boot in scenario.boots():
            tap.report(boot.name, bed.run(boot))
    print(f'1..{tap.number}')
    return 1 if tap.failed else 0


class Tap:
    def __init__(self):
        self.number = 0
        self.failed = False

    def report(self, name, outcome):
        """Takes lines 'ok - SENTENCE', 'not ok - SENTENCE' and '# REMARK'."""
        for line in outcome:
            result, dash, sentence = line.partition(' - ')
            if dash and result in ('ok', 'not ok'):
                self.number += 1
                self.failed |= result == 'not ok'
                print(f'{result} {self.number} - {name}: {sentence}')
            else:
                print(line if line.startswith('#') else f'# {line}')
        sys.stdout.flush()


sys.exit(main())
