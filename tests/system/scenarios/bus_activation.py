# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service as the bus starts it, and as it comes back."""
import re

from testbed import Client, Scenario, image, main, run, sysfs, unit, wait_until

BUSES = ('dbus-daemon', 'dbus-broker')


class Activation(Scenario):
    def test_the_bus_is_the_one_that_is_meant(self):
        with open('/testbed/bus', encoding='ascii') as file:
            self.assertIn(f'/usr/bin/{file.read()}', unit('dbus.service', 'ExecStart'))

    def test_the_first_call_on_a_stopped_service_is_answered(self):
        self.assertEqual(unit('loopd', 'ActiveState'), 'inactive')
        answer = run('busctl', 'call', 'org.example.Loop1', '/org/example/Loop1', 'org.example.Loop1.Manager', 'ListDevices')
        self.assertRegex(answer, r'^a\(osss\) \d+')
        self.assertEqual(unit('loopd', 'ActiveState'), 'active')

    def test_the_unit_says_how_many_devices_there_are(self):
        self.assertEqual(unit('loopd', 'SubState'), 'running')
        wait_until('no status', lambda: re.match(r'\d+ device', unit('loopd', 'StatusText')))

    def test_no_unit_has_failed(self):
        self.assertEqual(run('systemctl', 'list-units', '--failed', '--plain', '--no-legend'), '')


class Interruption(Scenario):
    def setUp(self):
        self.client = Client()
        self.addCleanup(self.client.close)
        self.device = self.client.attach_path(image('/srv/interruption.img'))
        self.addCleanup(lambda: self.client.device(self.device, 'Remove'))

    def test_a_restart_keeps_devices(self):
        run('systemctl', 'restart', 'loopd')
        self.assertEqual(self.client.get(self.device, 'BackingFile'), '/srv/interruption.img')

    def test_a_kill_keeps_devices_and_the_next_call_is_answered(self):
        run('systemctl', 'kill', '--signal=KILL', 'loopd')
        wait_until('loopd does not end', lambda: unit('loopd', 'ActiveState') != 'active')
        self.assertEqual(self.client.get(self.device, 'BackingFile'), '/srv/interruption.img')
        self.assertEqual(sysfs(self.device, 'loop/backing_file'), '/srv/interruption.img')


main()
