# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every method of the contract, by the service as its unit confines it."""
import os
import stat

from testbed import (NAME, ROOT, BusError, Client, Scenario, image, main, partitioned_image, run, sysfs, wait_until)

MIB = 1 << 20
ERROR = NAME + '.Error.'


class Contract(Scenario):
    def setUp(self):
        self.client = Client()
        self.addCleanup(self.client.close)
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for device, *_ in self.client.manager('ListDevices'):
            self.client.device(device, 'RemoveWithOptions', 'a{sv}', {'timeout': ('t', 10_000_000)})

    def test_AttachPath_takes_an_image_from_wherever_it_is_kept(self):
        for path in '/srv/a.img', '/home/alice/a.img', '/root/a.img', '/var/lib/a.img', '/tmp/a.img', '/run/a.img':
            device = self.client.attach_path(image(path))
            self.assertEqual(self.client.get(device, 'BackingFile'), path)
            self.assertEqual(sysfs(device, 'loop/backing_file'), path)

    def test_AttachPath_takes_an_image_that_only_another_user_may_open(self):
        run('chmod', '700', '/home/alice')
        device = self.client.attach_path(image('/home/alice/private.img', owner='alice', mode=0o600))
        self.assertFalse(self.client.get(device, 'ReadOnly'))

    def test_AttachPath_tells_what_is_not_there(self):
        self.assertError('org.freedesktop.DBus.Error.FileNotFound', self.client.attach_path, '/srv/nothing.img')

    def test_Attach_takes_a_descriptor_and_every_option(self):
        device = self.client.attach(image('/srv/options.img', 8 * MIB), offset=MIB, size_limit=4 * MIB, block_size=4096,
                                    read_only=True, direct_io=False, reference='options', allow_overlap=True)
        self.assertEqual((self.client.get(device, 'Offset'), self.client.get(device, 'Size')), (MIB, 4 * MIB))
        self.assertEqual(sysfs(device, 'queue/logical_block_size'), '4096')
        self.assertEqual(sysfs(device, 'ro'), '1')
        self.assertEqual(self.client.get(device, 'Reference'), 'options')

    def test_what_is_written_to_the_device_is_in_the_file(self):
        device = self.client.attach_path(image('/srv/data.img'))
        with open(self.client.get(device, 'DevPath'), 'r+b', buffering=0) as node:
            node.write(b'x' * 4096)
            os.fsync(node.fileno())
        with open('/srv/data.img', 'rb') as file:
            self.assertEqual(file.read(4097), b'x' * 4096 + b'\0')

    def test_partitions_are_there_with_the_reply_and_go_with_the_device(self):
        device = self.client.attach_path(partitioned_image('/srv/table.img', 3), partition_scan=True)
        partitions = self.client.get(device, 'Partitions')
        self.assertEqual(partitions, [f'{device}/p{number}' for number in (1, 2, 3)])
        nodes = [self.client.get(partition, 'DevPath', NAME + '.Partition') for partition in partitions]
        for node in nodes:
            self.assertTrue(stat.S_ISBLK(os.stat(node).st_mode))
        self.client.device(device, 'Remove')
        self.assertFalse(any(map(os.path.exists, nodes)))

    def test_RescanPartitions_finds_a_new_table(self):
        device = self.client.attach_path(image('/srv/rescan.img', 8 * MIB))
        run('sfdisk', '--no-reread', '--no-tell-kernel', self.client.get(device, 'DevPath'), input='label: gpt\nsize=1MiB\n')
        self.client.device(device, 'RescanPartitions')
        self.assertEqual(len(self.client.get(device, 'Partitions')), 1)

    def test_Probe_foretells_what_Attach_would_do(self):
        with open(partitioned_image('/srv/probe.img', 2), 'r+b') as file:
            facts = self.client.manager('Probe', 'ha{sv}', file, {})
        self.assertEqual((facts['partitions'][1], facts['table'][1], facts['format'][1]), (2, 'gpt', 'raw'))

    def test_devices_are_found_by_file_path_and_node(self):
        device = self.client.attach_path(image('/srv/find.img'))
        self.assertEqual(self.client.manager('FindByPath', 's', '/srv/find.img'), [device])
        with open('/srv/find.img', 'rb') as file:
            self.assertEqual(self.client.manager('FindByFile', 'h', file), [device])
        self.assertEqual(self.client.manager('GetDevice', 's', self.client.get(device, 'DevPath')), device)
        self.assertError(ERROR + 'NotALoopDevice', self.client.manager, 'GetDevice', 's', '/dev/null')
        self.assertIn(device, self.client.call(ROOT, 'org.freedesktop.DBus.ObjectManager', 'GetManagedObjects'))

    def test_Resize_follows_the_file(self):
        device = self.client.attach_path(image('/srv/resize.img', MIB))
        os.truncate('/srv/resize.img', 3 * MIB)
        self.assertEqual(self.client.device(device, 'Resize'), (MIB, 3 * MIB))
        self.assertEqual(self.client.device(device, 'ResizeWithOptions', 'a{sv}', {'size-limit': ('t', 2 * MIB)}),
                         (3 * MIB, 2 * MIB))
        self.assertEqual(int(sysfs(device, 'size')) * 512, 2 * MIB)

    def test_Open_gives_a_descriptor_of_the_device(self):
        device = self.client.attach_path(image('/srv/open.img'))
        node = self.client.device(device, 'Open', 's', 'rw').to_raw_fd()
        try:
            self.assertEqual(os.fstat(node).st_rdev, self.client.get(device, 'Dev'))
            self.assertEqual(os.write(node, bytes(512)), 512)
        finally:
            os.close(node)

    def test_SetDirectIO_is_what_the_kernel_says(self):
        device = self.client.attach_path(image('/srv/direct.img'))
        for wanted in True, False:
            try:
                self.client.device(device, 'SetDirectIO', 'b', wanted)
            except BusError as error:  # a file system without it
                self.assertEqual((wanted, error.name), (True, 'org.freedesktop.DBus.Error.NotSupported'))
            self.assertEqual(self.client.get(device, 'DirectIO'), sysfs(device, 'loop/dio') == '1')

    def test_SetAutoclear_detaches_after_the_last_use(self):
        path = image('/srv/autoclear.img', 8 * MIB)
        run('mkfs.ext4', '-q', path)
        device = self.client.attach_path(path)
        self.client.device(device, 'SetAutoclear', 'b', True)
        run('mount', self.client.get(device, 'DevPath'), '/mnt')
        wait_until('autoclear is not armed', lambda: sysfs(device, 'loop/autoclear') == '1')
        run('umount', '/mnt')
        wait_until('the device stays', lambda: not self.client.publishes(device))

    def test_Remove_is_refused_while_the_device_is_mounted(self):
        path = image('/srv/busy.img', 8 * MIB)
        run('mkfs.ext4', '-q', path)
        device = self.client.attach_path(path)
        run('mount', self.client.get(device, 'DevPath'), '/mnt')
        self.addCleanup(lambda: run('umount', '/mnt', check=False))
        with self.assertRaises(BusError) as caught:
            self.client.device(device, 'Remove')
        self.assertEqual(caught.exception.name, ERROR + 'DeviceBusy')
        self.assertIn('/mnt', str(caught.exception))
        self.assertEqual(sysfs(device, 'loop/autoclear'), '0')
        run('umount', '/mnt')
        self.client.device(device, 'Remove')
        self.assertFalse(os.path.exists(f'/sys/block/{os.path.basename(device)}/loop'))

    def test_a_lease_ends_with_its_client(self):
        with Client() as other:
            device = other.attach_path(image('/srv/lease.img'), lease=True)
            self.assertEqual(self.client.get(device, 'BackingFile'), '/srv/lease.img')
        wait_until('the device stays', lambda: not self.client.publishes(device))

    def test_a_device_that_losetup_attaches_has_an_object(self):
        node = run('losetup', '--find', '--show', image('/srv/foreign.img'))
        device = wait_until('no object', lambda: self.client.manager('FindByPath', 's', '/srv/foreign.img'))[0]
        self.assertEqual((self.client.get(device, 'DevPath'), self.client.get(device, 'OwnerUID')), (node, 0))


main()
