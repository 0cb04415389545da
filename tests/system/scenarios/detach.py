# SPDX-License-Identifier: LGPL-2.1-or-later
"""What detaching means to this kernel, and that the service says the same on each: until 6.11 LOOP_CLR_FD of the only opener
detaches within the call, from then on with its close."""
import fcntl
import os

from testbed import NAME, Client, Scenario, image, main, run, sysfs, wait_until

MACHINE = True
LOOP_CLR_FD = 0x4C01
VERSION = tuple(map(int, os.uname().release.split('.')[:2]))


def is_attached(device):
    return os.path.exists(f'/sys/block/{os.path.basename(device)}/loop')


def file_system(path):
    image(path, 8 << 20)
    run('mkfs.ext4', '-q', path)
    return path


class Detach(Scenario):
    def setUp(self):
        print('#', os.uname().release)
        self.client = Client()
        self.addCleanup(self.client.close)

    def attach_and_mount(self, path):
        device = self.client.attach_path(file_system(path))
        run('mount', self.client.get(device, 'DevPath'), '/mnt')
        self.addCleanup(run, 'umount', '/mnt', check=False)
        return device

    def test_the_kernel_detaches_when_the_version_says_so(self):
        node = run('losetup', '--find', '--show', image('/srv/raw.img'))
        run('udevadm', 'settle')
        opened = os.open(node, os.O_RDONLY)
        fcntl.ioctl(opened, LOOP_CLR_FD)
        self.assertEqual(is_attached(node), VERSION >= (6, 11))
        os.close(opened)
        self.assertFalse(is_attached(node))

    def test_when_Remove_is_answered_the_device_is_gone(self):
        for number in range(20):
            device = self.client.attach_path(image(f'/srv/gone{number}.img'))
            node = self.client.get(device, 'DevPath')
            self.client.device(device, 'Remove')
            self.assertFalse(is_attached(device))
            self.assertFalse(os.path.exists(node))

    def test_Remove_is_refused_while_a_process_has_the_device_open_and_changes_nothing(self):
        device = self.client.attach_path(image('/srv/open.img'))
        with open(self.client.get(device, 'DevPath'), 'rb'):
            for _ in range(5):
                self.assertError(NAME + '.Error.DeviceBusy', self.client.device, device, 'Remove')
                self.assertEqual(sysfs(device, 'loop/autoclear'), '0')
        self.assertTrue(is_attached(device))
        self.client.device(device, 'Remove')
        self.assertFalse(is_attached(device))

    def test_a_lazy_Remove_ends_with_the_mount(self):
        device = self.attach_and_mount('/srv/lazy.img')
        self.client.device(device, 'RemoveWithOptions', 'a{sv}', {'lazy': ('b', True)})
        self.assertTrue(is_attached(device))
        with open('/mnt/file', 'w', encoding='utf-8') as file:
            file.write('still there')
        run('umount', '/mnt')
        wait_until('the device stays', lambda: not is_attached(device))
        wait_until('the object stays', lambda: not self.client.publishes(device))

    def test_what_losetup_defers_is_published_and_can_be_taken_back(self):
        device = self.attach_and_mount('/srv/deferred.img')
        run('losetup', '--detach', self.client.get(device, 'DevPath'))
        self.assertTrue(is_attached(device))
        wait_until('the deferral is not published', lambda: self.client.get(device, 'Autoclear'))
        self.client.device(device, 'SetAutoclear', 'b', False)
        run('umount', '/mnt')
        self.assertTrue(is_attached(device))
        self.client.device(device, 'Remove')
        self.assertFalse(is_attached(device))

    def test_a_foreign_detach_of_an_idle_device_is_followed(self):
        removed = self.client.signals('InterfacesRemoved', 'org.freedesktop.DBus.ObjectManager')
        device = self.client.attach_path(image('/srv/foreign.img'))
        run('losetup', '--detach', self.client.get(device, 'DevPath'))
        wait_until('the object stays', lambda: not self.client.publishes(device))
        paths = [path for path, _ in self.client.received(removed)]
        self.assertEqual(paths.count(device), 1, paths)


main()
