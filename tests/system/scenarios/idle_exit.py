# SPDX-License-Identifier: LGPL-2.1-or-later
"""No call is lost while the service leaves because it is idle: here 20 ms after its last client."""
import random
import threading
import time

from testbed import Client, Scenario, image, main, run, unit, wait_until

BUSES = ('dbus-daemon', 'dbus-broker')
FILES = {'/etc/systemd/system/loopd.service.d/idle.conf':
         '[Service]\nExecStart=\nExecStart=/usr/libexec/loopd --idle-timeout=20ms\n'}

CALLERS = 3
CALLS = 500
RESTARTS = 25
LONGEST_PAUSE = 0.06  # seconds, beside an idle time of 0.02


def invocations():
    """How often the service was started, by its own word."""
    journal = run('journalctl', '--unit=loopd', '--output=cat', '--grep=^ready, ', '--quiet', check=False).stdout
    return len(journal.splitlines())


class IdleExit(Scenario):
    def test_the_service_leaves_when_its_client_has_left(self):
        with Client() as client:
            client.manager('ListDevices')
        wait_until('loopd does not leave', lambda: unit('loopd', 'ActiveState') == 'inactive')
        self.assertEqual(unit('loopd', 'Result'), 'success')

    def test_an_attached_device_neither_keeps_it_nor_goes_with_it(self):
        with Client() as client:
            device = client.attach_path(image('/srv/idle.img'), reference='idle')
        wait_until('loopd does not leave', lambda: unit('loopd', 'ActiveState') == 'inactive')
        with Client() as client:
            self.assertEqual(client.get(device, 'Reference'), 'idle')
            client.device(device, 'Remove')

    def test_a_call_at_the_very_moment_of_the_exit_is_answered(self):
        before = invocations()
        failures = []
        calls_left = iter(range(CALLS))  # next() of it is atomic

        def make_calls():
            while next(calls_left, None) is not None:
                time.sleep(random.uniform(0, LONGEST_PAUSE))
                try:
                    with Client() as client:
                        client.manager('ListDevices')
                except Exception as error:  # whatever it is, it is no answer
                    failures.append(error)

        callers = [threading.Thread(target=make_calls) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        self.assertEqual(failures, [])
        restarts = invocations() - before
        print(f'# {CALLS} calls, {restarts} starts')
        self.assertGreaterEqual(restarts, RESTARTS)


main()
