# SPDX-License-Identifier: LGPL-2.1-or-later
"""An attached image keeps its file system busy, whatever has become of the service that attached it."""
from testbed import Client, Scenario, image, main, run, sysfs, unit

FILES = {'/etc/fstab': 'tmpfs /srv tmpfs defaults 0 0\n'}


class AttachedImage(Scenario):
    def attach(self):
        with Client() as client:
            device = client.attach_path(image('/srv/busy.img'))
        self.addCleanup(self.remove, device)
        return device

    @staticmethod
    def remove(device):
        with Client() as client:
            client.device(device, 'Remove')

    def check_that_umount_is_refused(self, device):
        refused = run('umount', '/srv', check=False)
        self.assertIn('busy', refused.stderr)
        self.assertEqual(sysfs(device, 'loop/backing_file'), '/srv/busy.img')

    def test_its_file_system_is_busy_while_the_service_runs(self):
        self.check_that_umount_is_refused(self.attach())

    def test_its_file_system_is_busy_when_the_service_has_stopped(self):
        device = self.attach()
        run('systemctl', 'stop', 'loopd')
        self.assertEqual(unit('loopd', 'ActiveState'), 'inactive')
        self.check_that_umount_is_refused(device)

    def test_so_is_one_that_was_mounted_while_the_service_ran(self):
        with Client() as client:
            client.manager('ListDevices')
            run('mount', '-t', 'tmpfs', 'tmpfs', '/mnt')
            device = client.attach_path(image('/mnt/later.img'))
            self.addCleanup(run, 'umount', '/mnt')
            self.addCleanup(self.remove, device)
        run('systemctl', 'stop', 'loopd')
        self.assertIn('busy', run('umount', '/mnt', check=False).stderr)
        self.assertEqual(sysfs(device, 'loop/backing_file'), '/mnt/later.img')


main()
