# SPDX-License-Identifier: LGPL-2.1-or-later
"""A scenario is one Python file that runs in the container. Of its constants these are for the boot:

    BUSES  names of buses, each of which makes a boot of its own: 'dbus-daemon' (the default), 'dbus-broker', 'none'
    UDEV   False: no udevd
    FILES  path → text of a file in the root, such as /etc/fstab
    LINKS  path → target of a symbolic link in the root: an enabled unit, a masked one
    SOURCES files of this project that are put beside the scenario
    IMAGES a shell script that makes what is no text, run on the machine before the boot, in the root
"""
import ast
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULTS = {'BUSES': ('dbus-daemon',), 'UDEV': True, 'FILES': {}, 'LINKS': {}, 'SOURCES': (), 'IMAGES': ''}

# Of the machine, of no use in a container, or slow.
MASKED = (
    'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer',
    'e2scrub_reap.service', 'fstrim.timer', 'systemd-tmpfiles-clean.timer',
    'console-getty.service', 'container-getty@.service', 'getty.target', 'getty-static.service',
    'dev-hugepages.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'proc-sys-fs-binfmt_misc.automount',
    'systemd-binfmt.service', 'systemd-modules-load.service', 'systemd-random-seed.service',
    'systemd-sysctl.service', 'systemd-hwdb-update.service', 'systemd-networkd-wait-online.service',
    'systemd-update-utmp.service', 'systemd-update-utmp-runlevel.service',
)
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
        shutil.copy(HERE / 'guest/init', testbed / 'init')
        for module in (HERE / 'guest').glob('*.py'):
            shutil.copy(module, testbed)
        for source in self.scenario.constants['SOURCES']:
            shutil.copy(HERE.parents[1] / source, testbed)
        shutil.copy(self.scenario.path, testbed / 'scenario.py')
        units = directory / 'etc/systemd/system'
        (units / 'multi-user.target.wants').mkdir(parents=True)
        shutil.copy(HERE / 'guest/testbed.service', units)
        write(directory, '/etc/hostname', 'testbed\n')
        write(directory, '/etc/machine-id', '0123456789abcdef0123456789abcdef\n')
        write(directory, '/etc/systemd/journald.conf.d/testbed.conf',
              '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n')
        # Events of other devices would reach the machine's own udevd, too.
        write(directory, '/etc/systemd/system/systemd-udev-trigger.service.d/testbed.conf',
              '[Service]\nExecStart=\nExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=block\n')
        link(directory, '/etc/systemd/system/multi-user.target.wants/testbed.service', '../testbed.service')
        for name in self.masked():
            link(directory, f'/etc/systemd/system/{name}', '/dev/null')
        if self.bus == 'dbus-broker':
            link(directory, '/etc/systemd/system/dbus.service', '/lib/systemd/system/dbus-broker.service')
        for path, text in self.scenario.constants['FILES'].items():
            write(directory, path, text)
        for path, target in self.scenario.constants['LINKS'].items():
            link(directory, path, target)
        subprocess.run(['sh', '-eu', '-c', self.scenario.constants['IMAGES']], cwd=directory, check=True)

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


def link(directory, path, target):
    place = directory / path.lstrip('/')
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
