# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests of tests/kernel on a kernel of Debian's own: core/ on its loop driver, with images on a tmpfs and on ext4, with
udevd and without."""
import os

from testbed import Scenario, main, output_of_tests, run, unit

MACHINE = True
BUSES = ('none',)
PROGRAMS = ('tests/kernel/kernel_tests', 'tests/kernel/library_tests')
FILES = {'/etc/fstab': 'tmpfs /tmp tmpfs mode=1777 0 0\n'}


class Kernel(Scenario):
    def setUp(self):
        print('#', os.uname().release)

    def check_both(self, directory):
        self.assertEqual(unit('loopd', 'ActiveState'), 'inactive')
        for program in 'kernel_tests', 'library_tests':
            output_of_tests(f'/testbed/{program}', directory)

    def test_the_suite_passes_on_a_tmpfs(self):
        self.assertEqual(run('findmnt', '--noheadings', '--output=FSTYPE', '/tmp'), 'tmpfs')
        self.check_both('/tmp')

    def test_the_suite_passes_on_ext4(self):
        self.assertEqual(run('findmnt', '--noheadings', '--output=FSTYPE', '--target=/var/tmp'), 'ext4')
        self.check_both('/var/tmp')

    def test_the_suite_passes_without_udevd(self):
        run('systemctl', 'stop', 'systemd-udevd.service', 'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket')
        self.addCleanup(run, 'systemctl', 'start', 'systemd-udevd.service')
        self.check_both('/tmp')


main()
