# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots in a container on the machine's own kernel. One at a time: loop devices are the kernel's."""
import contextlib
import fcntl
import os
import shutil
from pathlib import Path

import leftovers
import trees
from bed import ISOLATED, TestBed
from scenario import HERE, mask, write

# Of the machine around the container, or of no use in one.
MASKED_IN_CONTAINER = (
    'dev-hugepages.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'proc-sys-fs-binfmt_misc.automount',
    'systemd-binfmt.service', 'systemd-modules-load.service', 'systemd-random-seed.service',
    'systemd-sysctl.service', 'systemd-networkd-wait-online.service',
    'systemd-update-utmp.service', 'systemd-update-utmp-runlevel.service',
)


class Container(TestBed):
    timeout = 150

    def __init__(self, scratch, build, tree):
        super().__init__(scratch, build, tree)
        self.cgroup = scratch.name
        self.disk_sequence = leftovers.last_disk_sequence()
        (scratch / 'disk-sequence').write_text(str(self.disk_sequence), encoding='utf-8')

    @staticmethod
    def trees_of(release):
        return [trees.tree_of(release, trees.system())]

    @staticmethod
    @contextlib.contextmanager
    def turn(scratch, prefix):
        """Waits until no other container runs, and releases what interrupted runs have left."""
        with open(trees.default_cache() / 'container.lock', 'w', encoding='utf-8') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            release_interrupted_runs(scratch, prefix)
            yield

    def prepare(self, boot):
        results = super().prepare(boot)
        layer = self.scratch / 'layer'
        shutil.copy(HERE / 'guest/init', layer / 'testbed/init')
        # Events of other devices would reach the machine's own udevd, too.
        write(layer, '/etc/systemd/system/systemd-udev-trigger.service.d/testbed.conf',
              '[Service]\nExecStart=\nExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=block\n')
        mask(layer, MASKED_IN_CONTAINER)
        return results

    def command(self, console):
        return [*ISOLATED, HERE / 'contain.sh', self.scratch, self.layers(), self.cgroup, console]

    def release(self):
        devices = leftovers.settled_devices_since(self.disk_sequence)
        leftovers.detach_all(devices)
        leftovers.remove_cgroup(self.cgroup)
        return devices


def release_interrupted_runs(scratch, prefix):
    for directory in scratch.glob(f'{prefix}.*'):
        if leftovers.is_abandoned(directory.name):
            print(f'# releasing what an interrupted run has left in {directory}', flush=True)
            mark = directory / 'disk-sequence'
            if mark.exists():
                leftovers.detach_all(leftovers.settled_devices_since(int(mark.read_text())))
            shutil.rmtree(directory, ignore_errors=True)
    for cgroup in leftovers.interrupted_cgroups(prefix):
        leftovers.remove_cgroup(cgroup)
