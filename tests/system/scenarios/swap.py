# SPDX-License-Identifier: LGPL-2.1-or-later
"""Swap of fstab on a declared device."""
import os

from testbed import NAME, BusError, Client, Scenario, main, run, sysfs, unit

MACHINE = True
LINK = '/dev/disk/by-loop-ref/swap'
FILES = {
    '/etc/looptab': 'swap /srv/swap.img\n',
    '/etc/fstab': '/dev/disk/by-loop-ref/swap none swap defaults 0 0\n',
}
IMAGES = 'mkdir srv && truncate --size=64M srv/swap.img && chmod 600 srv/swap.img && mkswap --quiet srv/swap.img'

# Takes more memory than it may have, and looks whether all of it is still there.
GLUTTON = '''
blocks = [bytes([number]) * (1 << 20) for number in range(40)]
assert all(block == bytes([number]) * (1 << 20) for number, block in enumerate(blocks))
path = open('/proc/self/cgroup').read().strip().rpartition(':')[2]
print(open(f'/sys/fs/cgroup{path}/memory.swap.current').read().strip())
'''


def swaps():
    with open('/proc/swaps', encoding='utf-8') as file:
        return [line.split()[0] for line in file.read().splitlines()[1:]]


class Swap(Scenario):
    def setUp(self):
        self.device = os.path.realpath(LINK)
        self.unit = run('systemd-escape', '--path', '--suffix=swap', LINK)

    def assertInUse(self):  # pylint: disable=invalid-name
        self.assertIn(self.device, swaps())
        self.assertEqual(sysfs(self.device, 'loop/backing_file'), '/srv/swap.img')
        self.assertEqual(sysfs(self.device, 'loop/autoclear'), '0')

    def test_it_is_on_after_the_boot(self):
        self.assertEqual(unit(self.unit, 'ActiveState'), 'active')
        self.assertEqual(unit('loop@swap.service', 'ActiveState'), 'active')
        self.assertInUse()

    def test_memory_goes_there_and_comes_back(self):
        swapped = run('systemd-run', '--quiet', '--wait', '--pipe', '--collect', '--property=MemoryMax=24M',
                      'python3', '-c', GLUTTON)
        self.assertGreater(int(swapped), 4 << 20)

    def test_Remove_is_refused_and_changes_nothing(self):
        with Client() as client:
            device = client.manager('GetDevice', 's', self.device)
            with self.assertRaises(BusError) as caught:
                client.device(device, 'Remove')
        self.assertEqual(caught.exception.name, NAME + '.Error.DeviceBusy')
        self.assertIn('swap', str(caught.exception))
        self.assertInUse()

    def test_the_detach_of_the_line_is_refused_and_changes_nothing(self):
        refused = run('/usr/libexec/loopd-attach', 'detach', 'swap', check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn('swap', refused.stderr)
        self.assertInUse()

    def test_stopping_the_line_ends_the_swap_first_and_starting_the_swap_attaches_again(self):
        run('systemctl', 'stop', 'loop@swap.service')
        self.assertEqual(swaps(), [])
        self.assertFalse(os.path.exists(LINK))
        self.assertEqual(unit('loop@swap.service', 'Result'), 'success')
        run('systemctl', 'start', self.unit)
        self.device = os.path.realpath(LINK)
        self.assertInUse()


main()
