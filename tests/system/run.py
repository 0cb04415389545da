#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots systemd of a Debian release in a container, with the project installed, and runs scenarios in it.

Says in TAP what came of each check. README.md has more.
"""
import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # run as root, this leaves no files of root in a checkout
import leftovers
import trees
from scenario import HERE, Scenario

PREFIX = 'loopd-system'
SCRATCH = Path('/var/tmp')
TIMEOUT = 150  # seconds, for a boot with its checks and its end; testbed.service has less
LINES_OF_JOURNAL = 150
# Said when something could not be stopped or unmounted.
DISORDERLY = ('Failed unmounting', 'Failed to unmount', 'target is busy', 'State \'stop-sigterm\' timed out',
              'Stopping timed out')


def main():
    arguments = parse_arguments()
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root, for containers and loop devices')
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit('interrupted'))
    cache = trees.default_cache()
    tree = trees.tree_of(arguments.release, cache)
    with open(cache / 'container.lock', 'w', encoding='utf-8') as lock:
        # Loop devices are the kernel's: two containers would see each other's.
        fcntl.flock(lock, fcntl.LOCK_EX)
        release_interrupted_runs()
        with tempfile.TemporaryDirectory(prefix=f'{PREFIX}.{os.getpid()}.', dir=SCRATCH) as scratch:
            bed = TestBed(Path(scratch), tree)
            if arguments.packages:
                shutil.copytree(arguments.packages, bed.installed / 'testbed/packages')
            else:
                bed.install(arguments.build)
            if arguments.shell:
                return bed.shell(arguments.scenarios[0])
            return run_scenarios(bed, arguments.scenarios)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--release', choices=trees.RELEASES, default=trees.machine_release(),
                        help='whose systemd to boot (default: the machine\'s own)')
    parser.add_argument('--build', type=Path, default=HERE.parents[1] / 'build', help='the build directory')
    parser.add_argument('--packages', type=Path, help='a directory that is put to /testbed/packages, instead of installing')
    parser.add_argument('--shell', action='store_true', help='boot for the one scenario, and open a shell instead')
    parser.add_argument('scenarios', nargs='*', help='names or files (default: all)')
    arguments = parser.parse_args()
    paths = [find_scenario(name) for name in arguments.scenarios] or sorted((HERE / 'scenarios').glob('*.py'))
    arguments.scenarios = [Scenario(path) for path in paths]
    if arguments.shell and len(arguments.scenarios) != 1:
        parser.error('--shell needs one scenario')
    return arguments


def find_scenario(name):
    return Path(name) if name.endswith('.py') else HERE / 'scenarios' / f'{name}.py'


def release_interrupted_runs():
    for directory in SCRATCH.glob(f'{PREFIX}.*'):
        if leftovers.is_abandoned(directory.name):
            print(f'# releasing what an interrupted run has left in {directory}', flush=True)
            mark = directory / 'disk-sequence'
            if mark.exists():
                leftovers.detach_all(leftovers.settled_devices_since(int(mark.read_text())))
            shutil.rmtree(directory, ignore_errors=True)
    for cgroup in leftovers.interrupted_cgroups(PREFIX):
        leftovers.remove_cgroup(cgroup)


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


class TestBed:
    def __init__(self, scratch, tree):
        self.scratch = scratch
        self.tree = tree
        self.cgroup = f'{PREFIX}.{os.getpid()}'
        self.disk_sequence = leftovers.last_disk_sequence()
        (scratch / 'disk-sequence').write_text(str(self.disk_sequence), encoding='utf-8')
        self.installed = scratch / 'installed'

    def install(self, build):
        subprocess.run(['meson', 'install', '-C', build, '--destdir', self.installed, '--no-rebuild', '--quiet'],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    def run(self, boot):
        """Boots, and returns lines for Tap."""
        results = self.prepare(boot)
        process = subprocess.Popen(self.command('pipe'), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors='replace')
        try:
            console, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            console, _ = process.communicate()
            console += f'\nstill running after {TIMEOUT} seconds'
        finally:
            # The kernel ends the rest with it.
            process.kill()
            process.wait()
            devices = leftovers.settled_devices_since(self.disk_sequence)
            leftovers.detach_all(devices)
            leftovers.remove_cgroup(self.cgroup)
        return outcome_of(results, console, devices)

    def shell(self, scenario):
        """Boots, with a shell on the terminal. The scenario is /testbed/scenario.py."""
        self.prepare(scenario.boots()[0])
        dropin = self.scratch / 'layer/etc/systemd/system/testbed.service.d/shell.conf'
        dropin.parent.mkdir()
        dropin.write_text('[Service]\nExecStart=\nExecStart=-/bin/bash\nStandardInput=tty-force\n'
                          'StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n', encoding='utf-8')
        subprocess.run(self.command('interactive'), check=False)
        leftovers.detach_all(leftovers.settled_devices_since(self.disk_sequence))
        leftovers.remove_cgroup(self.cgroup)
        return 0

    def prepare(self, boot):
        for name in ('layer', 'results'):
            shutil.rmtree(self.scratch / name, ignore_errors=True)
            (self.scratch / name).mkdir()
        boot.write_layer(self.scratch / 'layer')
        return self.scratch / 'results'

    def command(self, console):
        layers = ':'.join(str(layer) for layer in (self.scratch / 'layer', self.installed, self.tree))
        return ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc',
                HERE / 'contain.sh', self.scratch, layers, self.cgroup, console]


def outcome_of(results, console, devices):
    lines = read(results / 'output')
    complete = lines[-1:] == ['done']
    outcome = lines[:-1] if complete else lines
    outcome.append('ok - runs to its end' if complete else 'not ok - runs to its end')
    journal = read(results / 'journal')
    disorder = [line for line in journal + console.splitlines() if any(word in line for word in DISORDERLY)]
    outcome.append(('not ok' if disorder else 'ok') + ' - stops in order')
    outcome += [f'# {line}' for line in disorder]
    outcome.append(('not ok' if devices else 'ok') + ' - leaves no loop device')
    outcome += [f'# left: {device}' for device in devices]
    if any(line.startswith('not ok') for line in outcome):
        outcome += [f'# console: {line}' for line in console.splitlines()[-20:]]
        outcome += [f'# journal: {line}' for line in journal[-LINES_OF_JOURNAL:]]
    return outcome


def read(path):
    try:
        return path.read_text(encoding='utf-8', errors='replace').splitlines()
    except FileNotFoundError:
        return []


sys.exit(main())
