# SPDX-License-Identifier: LGPL-2.1-or-later
"""A scenario is one Python file that runs in the container or machine. Of its constants these are for the boot:

    BUSES  names of buses, each of which makes a boot of its own: 'dbus-daemon' (the default), 'dbus-broker', 'none'
    UDEV   False: no udevd
    FILES  path → text of a file in the root, such as /etc/fstab
    LINKS  path → target of a symbolic link in the root: an enabled unit, a masked one
    SOURCES files of this project that are put beside the scenario
    IMAGES a shell script that makes what is no text, run on the machine before the boot, in the root
    PROGRAMS programs in the build directory, which are put to /testbed
    MACHINE True: shows what no container can
"""
import ast
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULTS = {'BUSES': ('dbus-daemon',), 'UDEV': True, 'FILES': {}, 'LINKS': {}, 'SOURCES': (), 'IMAGES': '',
            'PROGRAMS': (), 'MACHINE': False}

# Of no use to a test, or slow.
MASKED = (
    'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer',
    'e2scrub_reap.service', 'fstrim.timer', 'systemd-tmpfiles-clean.timer', 'systemd-hwdb-update.service',
    'console-getty.service', 'container-getty@.service', 'getty.target', 'getty-static.service',
)
UNIT_OF_BUS = {'dbus-daemon': 'dbus.service', 'dbus-broker': 'dbus-broker.service'}
UNITS_OF_BUS = ('dbus.service', 'dbus.socket', 'dbus-broker.service')
UNITS_OF_UDEV = ('systemd-udevd.service', 'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket',
                 'systemd-udev-trigger.service')


class Scenario:
    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.stem
        self.constants = dict(DEFAULTS)
        for statement in ast.parse(self.path.read_text(encoding='utf-8')).body:
            if isinstance(statement, ast.Assign) and statement.targets[0].id in DEFAULTS:
                self.constants[statement.targets[0].id] = ast.literal_eval(statement.value)

    @property
    def needs_machine(self):
        return self.constants['MACHINE']

    def boots(self):
        return [Boot(self, bus) for bus in self.constants['BUSES']]


class Boot:
    """A scenario with one of its buses."""

    def __init__(self, scenario, bus):
        self.scenario = scenario
        self.bus = bus
        several = len(scenario.constants['BUSES']) > 1
        self.name = f'{scenario.name} ({bus})' if several else scenario.name

    def write_layer(self, directory):
        """What lies over the tree and the project's files."""
        testbed = directory / 'testbed'
        testbed.mkdir(parents=True)
        (testbed / 'results').mkdir()
        for module in (HERE / 'guest').glob('*.py'):
            shutil.copy(module, testbed)
        for source in self.scenario.constants['SOURCES']:
            shutil.copy(HERE.parents[1] / source, testbed)
        shutil.copy(self.scenario.path, testbed / 'scenario.py')
        units = directory / 'etc/systemd/system'
        (units / 'multi-user.target.wants').mkdir(parents=True)
        shutil.copy(HERE / 'guest/testbed.service', units)
        write(testbed, 'bus', self.bus)
        write(directory, '/etc/hostname', 'testbed\n')
        write(directory, '/etc/machine-id', '0123456789abcdef0123456789abcdef\n')
        write(directory, '/etc/systemd/journald.conf.d/testbed.conf',
              '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n')
        link(directory, '/etc/systemd/system/multi-user.target.wants/testbed.service', '../testbed.service')
        mask(directory, self.masked())
        if self.bus != 'none':
            # Debian's dbus-broker takes the place of the other where both are installed.
            link(directory, '/etc/systemd/system/dbus.service', f'/lib/systemd/system/{UNIT_OF_BUS[self.bus]}')
        for path, text in self.scenario.constants['FILES'].items():
            write(directory, path, text)
        for path, target in self.scenario.constants['LINKS'].items():
            link(directory, path, target)
        subprocess.run(['sh', '-eu', '-c', self.scenario.constants['IMAGES']], cwd=directory, check=True)

    def copy_programs(self, build, directory):
        for program in self.scenario.constants['PROGRAMS']:
            shutil.copy(build / program, directory / 'testbed')

    def masked(self):
        units = MASKED
        if self.bus == 'none':
            units += UNITS_OF_BUS
        if not self.scenario.constants['UDEV']:
            units += UNITS_OF_UDEV
        return units


def write(directory, path, text):
    file = directory / path.lstrip('/')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding='utf-8')


def mask(directory, units):
    for unit in units:
        link(directory, f'/etc/systemd/system/{unit}', '/dev/null')


def link(directory, path, target):
    place = directory / path.lstrip('/')
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
