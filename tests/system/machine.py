# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots in a virtual machine, with a kernel of its own. Any number at a time; what they leave goes with them."""
import contextlib
import shutil

import trees
from bed import ISOLATED, TestBed, read
from scenario import HERE, link, write

# Without hardware's help everything takes this much longer. All that waits in the machine waits so.
SLOWNESS = 6
# Whose QEMU: that of Debian 12 crashes with the kernel of 13.
EMULATOR = 'trixie'


class Machine(TestBed):
    timeout = 150 * SLOWNESS

    def __init__(self, scratch, build, tree, emulator):
        super().__init__(scratch, build, tree)
        self.emulator = emulator

    @staticmethod
    def trees_of(release):
        return [trees.tree_of(release, trees.machine()), trees.tree_of(EMULATOR, trees.emulator())]

    @staticmethod
    def turn(_scratch, _prefix):
        return contextlib.nullcontext()

    def prepare(self, boot):
        results = super().prepare(boot)
        layer = self.scratch / 'layer'
        write(layer, '/etc/systemd/system/testbed.service.d/machine.conf',
              f'[Service]\nTimeoutStartSec={90 * SLOWNESS}\n')
        write(layer, '/testbed/slowness', str(SLOWNESS))
        shutil.copy(HERE / 'leftovers.py', layer / 'testbed')
        shutil.copy(HERE / 'guest/left.service', layer / 'etc/systemd/system')
        link(layer, '/etc/systemd/system/final.target.wants/left.service', '../left.service')
        return results

    def command(self, console):
        return [*ISOLATED, HERE / 'emulate.sh', self.scratch, self.layers(), self.emulator, console]

    def release(self):
        return read(self.scratch / 'results/left')
