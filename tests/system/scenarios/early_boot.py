# SPDX-License-Identifier: LGPL-2.1-or-later
"""As in an initrd: no bus, no udev, and the service by its socket alone."""
import os

from testbed import BusError, Client, Scenario, image, main, partitioned_image, run, unit

BUSES = ('none',)
UDEV = False
ADDRESS = 'unix:path=/run/loopd/bus'
LINKS = {'/etc/systemd/system/sockets.target.wants/loopd.socket': '/usr/lib/systemd/system/loopd.socket'}


class EarlyBoot(Scenario):
    def test_there_is_neither_bus_nor_udev(self):
        self.assertFalse(os.path.exists('/run/dbus/system_bus_socket'))
        self.assertEqual(unit('systemd-udevd', 'ActiveState'), 'inactive')

    def test_a_device_is_attached_and_removed(self):
        with Client(ADDRESS) as peer:
            device = peer.attach_path(image('/srv/early.img'))
            self.assertEqual(peer.get(device, 'BackingFile'), '/srv/early.img')
            peer.device(device, 'Remove')
            with self.assertRaises(BusError):
                peer.get(device, 'BackingFile')

    def test_partitions_are_there_with_the_reply(self):
        with Client(ADDRESS) as peer:
            device = peer.attach(partitioned_image('/srv/early-table.img', 3), partition_scan=True)
            self.assertEqual(len(peer.get(device, 'Partitions')), 3)
            peer.device(device, 'Remove')

    def test_loopctl_finds_its_way(self):
        image('/srv/early-ctl.img')
        node = run('loopctl', 'attach', '/srv/early-ctl.img')
        self.assertTrue(node.startswith('/dev/loop'), node)
        run('loopctl', 'remove', node)


main()
