# SPDX-License-Identifier: LGPL-2.1-or-later
"""The socket unit: root's way to the service, with a bus beside it."""
import os
import stat

from testbed import Client, Scenario, image, main, run, sysfs, unit, wait_until

SOCKET = '/run/loopd/bus'
ADDRESS = f'unix:path={SOCKET}'
LINKS = {'/etc/systemd/system/sockets.target.wants/loopd.socket': '/usr/lib/systemd/system/loopd.socket'}
FILES = {'/etc/systemd/system/loopd.service.d/idle.conf':
         '[Service]\nExecStart=\nExecStart=/usr/libexec/loopd --idle-timeout=100ms\n'}


class PrivateSocket(Scenario):
    def test_the_socket_is_there_from_the_boot_on_and_for_root_alone(self):
        status = os.stat(SOCKET)
        self.assertTrue(stat.S_ISSOCK(status.st_mode))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(unit('loopd.socket', 'ActiveState'), 'active')
        self.assertEqual(unit('loopd.service', 'ActiveState'), 'inactive')
        refused = run('busctl', f'--address={ADDRESS}', 'tree', 'org.example.Loop1', user='alice', check=False)
        self.assertNotEqual(refused.returncode, 0)

    def test_busctl_starts_the_service_by_it(self):
        listed = run('busctl', f'--address={ADDRESS}', 'call', 'org.example.Loop1', '/org/example/Loop1',
                     'org.example.Loop1.Manager', 'ListDevices')
        self.assertEqual(listed, 'a(osss) 0')

    def test_what_a_peer_attaches_the_bus_shows(self):
        with Client(ADDRESS) as peer, Client() as client:
            device = peer.attach(image('/srv/peer.img'), reference='peer')
            self.assertEqual(client.get(device, 'Reference'), 'peer')
            self.assertEqual(client.get(device, 'OwnerUID'), 0)
            client.device(device, 'Remove')

    def test_the_service_leaves_with_its_last_peer_and_comes_back_many_times(self):
        for _ in range(8):  # systemd's own limits are five starts, and twenty activations in two seconds
            with Client(ADDRESS) as peer:
                peer.manager('ListDevices')
            wait_until('loopd does not leave', lambda: unit('loopd', 'ActiveState') == 'inactive')
        self.assertEqual(unit('loopd.socket', 'ActiveState'), 'active')
        self.assertTrue(os.path.exists(SOCKET))

    def test_a_lease_of_a_peer_ends_with_it(self):
        with Client(ADDRESS) as peer:
            device = peer.attach(image('/srv/lease.img'), lease=True)
            self.assertEqual(peer.get(device, 'Lease'), 'private')
            self.assertTrue(sysfs(device, 'loop/backing_file').endswith('/srv/lease.img'))
        name = os.path.basename(device)
        wait_until('the lease does not end', lambda: not os.path.exists(f'/sys/block/{name}/loop'))

    def test_the_bus_restarts_and_the_service_is_on_it_again(self):
        with Client(ADDRESS) as peer:
            peer.manager('ListDevices')
            run('systemctl', 'kill', '--signal=KILL', 'dbus.service')
            wait_until('the service is not on the new bus', lambda: run(
                'busctl', 'status', 'org.example.Loop1', check=False).returncode == 0)
            peer.manager('ListDevices')


main()
