# SPDX-License-Identifier: LGPL-2.1-or-later
"""Beside a kernel that parses partition tables itself: each partition is there once, whoever found it."""
import os

from testbed import Client, Scenario, main, partitioned_image, run, sysfs, wait_until

MACHINE = True
NUMBERS = [1, 2, 3]


def partitions_of(device):
    """Numbers of the partitions that the kernel has."""
    name = os.path.basename(device)
    return sorted(int(entry.removeprefix(f'{name}p')) for entry in os.listdir(f'/sys/block/{name}')
                  if entry.startswith(f'{name}p')) if os.path.exists(f'/sys/block/{name}') else []


class KernelPartitions(Scenario):
    def setUp(self):
        self.client = Client()
        self.addCleanup(self.client.close)
        self.addCleanup(self.remove_all)
        self.added = self.client.signals('PartitionAdded')
        self.removed = self.client.signals('PartitionRemoved')

    def remove_all(self):
        for device, *_ in self.client.manager('ListDevices'):
            self.client.device(device, 'RemoveWithOptions', 'a{sv}', {'timeout': ('t', 60_000_000)})

    def published(self, device):
        return [int(path.rpartition('/p')[2]) for path in self.client.get(device, 'Partitions')]

    def check_that_all_are_there_once(self, device, numbers):
        run('udevadm', 'settle')
        self.assertEqual(partitions_of(device), numbers)
        self.assertEqual(self.published(device), numbers)
        self.assertEqual(sorted(number for _, _, number in self.client.received(self.added)), numbers)
        self.assertEqual(self.client.received(self.removed), [])

    def check_that_Remove_leaves_none(self, device, numbers):  # pylint: disable=invalid-name
        node = self.client.get(device, 'DevPath')
        self.client.device(device, 'Remove')
        self.assertEqual(partitions_of(device), [])
        self.assertFalse(any(os.path.exists(f'{node}p{number}') for number in numbers))
        self.assertEqual(sorted(number for _, _, number in self.client.received(self.removed)), numbers)

    def attach_with_kernels_scan(self, path):
        """As losetup does: the partitions are the kernel's own finding."""
        node = run('losetup', '--find', '--show', '--partscan', path)
        device = wait_until('no object', lambda: self.client.manager('FindByPath', 's', path))[0]
        self.assertEqual(self.client.get(device, 'DevPath'), node)
        self.assertEqual(sysfs(device, 'loop/partscan'), '1')
        wait_until('partitions are not published', lambda: len(self.published(device)) == len(NUMBERS))
        return device

    def test_the_kernel_has_a_parser(self):
        node = run('losetup', '--find', '--show', '--partscan', partitioned_image('/srv/parser.img', 3))
        wait_until('the kernel finds none', lambda: partitions_of(node) == NUMBERS)

    def test_what_the_service_adds_is_there_once_and_goes_with_Remove(self):
        device = self.client.attach_path(partitioned_image('/srv/own.img', 3), partition_scan=True)
        self.check_that_all_are_there_once(device, NUMBERS)
        self.assertEqual(sysfs(device, 'loop/partscan'), '0')
        self.check_that_Remove_leaves_none(device, NUMBERS)

    def test_what_the_kernel_finds_is_announced_once_and_goes_with_Remove(self):
        device = self.attach_with_kernels_scan(partitioned_image('/srv/found.img', 3))
        self.check_that_all_are_there_once(device, NUMBERS)
        self.assertTrue(self.client.get(device, 'PartitionScan'))
        self.check_that_Remove_leaves_none(device, NUMBERS)

    def test_RescanPartitions_changes_nothing_of_what_the_kernel_found(self):
        device = self.attach_with_kernels_scan(partitioned_image('/srv/rescan.img', 3))
        self.check_that_all_are_there_once(device, NUMBERS)
        self.client.device(device, 'RescanPartitions')
        run('udevadm', 'settle')
        self.assertEqual(partitions_of(device), NUMBERS)
        self.assertEqual(self.client.received(self.added) + self.client.received(self.removed), [])
        self.check_that_Remove_leaves_none(device, NUMBERS)

    def test_what_losetup_detaches_leaves_none_behind(self):
        device = self.client.attach_path(partitioned_image('/srv/detached.img', 3), partition_scan=True)
        run('losetup', '--detach', self.client.get(device, 'DevPath'))
        wait_until('partitions stay', lambda: not partitions_of(device))
        wait_until('the object stays', lambda: not self.client.publishes(device))

    def test_the_next_image_on_the_number_has_its_own_partitions_alone(self):
        for count in 3, 1, 2:
            path = partitioned_image(f'/srv/next{count}.img', count)
            device = self.client.attach_path(path, partition_scan=True, number=70)
            self.assertEqual(partitions_of(device), NUMBERS[:count])
            self.assertEqual(self.published(device), NUMBERS[:count])
            run('losetup', '--detach', self.client.get(device, 'DevPath'))
            wait_until('the object stays', lambda device=device: not self.client.publishes(device))

    def test_a_new_table_is_followed_where_the_kernel_rereads_it(self):
        device = self.attach_with_kernels_scan(partitioned_image('/srv/table.img', 3))
        run('sfdisk', self.client.get(device, 'DevPath'), input='label: gpt\nsize=1MiB\n')
        # The kernel drops them all for a moment each time that it reads the table, which udev has it do, too.
        wait_until('the new table is not followed', lambda: partitions_of(device) == [1] and self.published(device) == [1])

    def test_a_new_table_is_followed_where_the_service_keeps_the_partitions(self):
        device = self.client.attach_path(partitioned_image('/srv/kept.img', 3), partition_scan=True)
        run('sfdisk', '--no-reread', '--no-tell-kernel', self.client.get(device, 'DevPath'), input='label: gpt\nsize=1MiB\n')
        wait_until('the new table is not published', lambda: self.published(device) == [1])
        wait_until('the kernel has others', lambda: partitions_of(device) == [1])


main()
