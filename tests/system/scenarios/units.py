# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed units, as this systemd reads them."""
import ctypes
import fcntl
import glob
import os
import platform

from testbed import Client, Scenario, image, main, run

LOOP_CTL_ADD = 0x4C80
IN_CLOSE_WRITE = 0x8
INOTIFY_EVENT = 16  # bytes, of a file that is watched itself



def own_units():
    """Names of what is installed; of a template, an instance."""
    paths = glob.glob('/usr/lib/systemd/system/loop*.*') + glob.glob('/usr/lib/systemd/system/remote-loops.*')
    return sorted(os.path.basename(path).replace('@.', '@instance.') for path in paths if os.path.isfile(path))


class Units(Scenario):
    def test_systemd_has_nothing_to_say_against_them(self):
        self.assertIn('loopd.service', own_units())
        verified = run('systemd-analyze', 'verify', '--man=no', *own_units(), check=False)
        self.assertEqual((verified.returncode, verified.stdout + verified.stderr), (0, ''))

    def test_the_service_is_exposed_as_little_as_promised(self):
        # In tenths: 1.8 is what a service with its own user can have, as it needs CAP_SYS_ADMIN and devices.
        judged = run('systemd-analyze', 'security', '--offline=true', '--no-pager', '--threshold=18',
                     '/usr/lib/systemd/system/loopd.service', check=False)
        verdict = judged.stdout.rstrip().splitlines()[-1:]
        print('#', *verdict)
        self.assertEqual(judged.returncode, 0, verdict)

    # loopd-prepare makes nodes for the first 256.
    def test_udev_does_not_take_the_configuring_of_a_device_for_a_write(self):
        kernel = tuple(map(int, platform.release().split('.')[:2]))
        # Before 6.15 it is the close that tells udev of the device.
        self.assertEqual(self.closes_after_writing(range(200, 256)), 0 if kernel >= (6, 15) else 1)

    def test_a_device_without_a_node_of_its_own_is_configured_as_well(self):
        self.assertEqual(self.closes_after_writing(range(300, 400)), 1)

    def closes_after_writing(self, numbers):
        """Closes that whoever watches a device's node, as udevd does, is told of while it is attached."""
        number = self.make_device(numbers)
        libc = ctypes.CDLL(None, use_errno=True)
        watch = libc.inotify_init1(os.O_NONBLOCK)
        self.addCleanup(os.close, watch)
        self.assertGreaterEqual(libc.inotify_add_watch(watch, f'/dev/loop{number}'.encode(), IN_CLOSE_WRITE), 0)
        with Client() as client:
            device = client.attach(image(f'/srv/{number}.img'), number=number)
            try:
                return len(os.read(watch, 4096)) // INOTIFY_EVENT
            except BlockingIOError:
                return 0
            finally:
                client.device(device, 'Remove')

    def make_device(self, numbers):
        control = os.open('/dev/loop-control', os.O_RDWR)
        self.addCleanup(os.close, control)
        for number in numbers:
            try:
                return fcntl.ioctl(control, LOOP_CTL_ADD, number)
            except FileExistsError:
                pass
        self.fail('all of these numbers are in use')


main()
