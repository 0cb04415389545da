# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service within limits that the kernel enforces."""
import threading

from testbed import Client, Scenario, image, main, run, sysfs, unit, wait_until

MACHINE = True
FILES = {'/etc/systemd/system/loopd.service.d/limits.conf': '[Service]\nMemoryMax=48M\nMemorySwapMax=0\nTasksMax=8\n'}
CGROUP = '/sys/fs/cgroup/system.slice/loopd.service'
CLIENTS = 32


def cgroup(attribute):
    with open(f'{CGROUP}/{attribute}', encoding='ascii') as file:
        return file.read().strip()


def events(attribute):
    return {key: int(value) for key, value in map(str.split, cgroup(attribute).splitlines())}


class Limits(Scenario):
    def setUp(self):
        self.client = Client()
        self.addCleanup(self.client.close)
        self.client.manager('ListDevices')

    def test_the_kernel_has_them(self):
        self.assertEqual(cgroup('memory.max'), str(48 << 20))
        self.assertEqual(cgroup('pids.max'), '8')

    def test_who_may_start_no_more_threads_serves_all_the_same(self):
        """Removals are what the service has most threads for."""
        devices = [self.client.attach_path(image(f'/srv/tasks{number}.img')) for number in range(CLIENTS)]
        failures = []
        ready = threading.Barrier(CLIENTS)

        def remove(device):
            try:
                with Client() as client:
                    ready.wait()
                    client.device(device, 'Remove')
            except Exception as error:  # pylint: disable=broad-except
                failures.append(f'{type(error).__name__}: {error}')

        before = unit('loopd', 'MainPID')
        threads = [threading.Thread(target=remove, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(events('pids.events')['max'], 0)
        self.assertEqual(unit('loopd', 'MainPID'), before)
        self.assertEqual(self.client.manager('ListDevices'), [])

    def test_it_uses_less_memory_than_it_may(self):
        self.assertEqual(events('memory.events')['oom_kill'], 0)
        print('# memory.current:', cgroup('memory.current'))

    def test_who_is_killed_for_want_of_memory_comes_back_and_devices_stay(self):
        device = self.client.attach_path(image('/srv/memory.img'), reference='memory')
        run('systemctl', 'set-property', '--runtime', 'loopd.service', 'MemoryMax=64K')
        wait_until('the kernel does not kill it', lambda: int(unit('loopd', 'NRestarts')) > 0)
        run('systemctl', 'set-property', '--runtime', 'loopd.service', 'MemoryMax=48M')
        self.assertEqual(self.client.get(device, 'Reference'), 'memory')
        self.assertEqual(sysfs(device, 'loop/backing_file'), '/srv/memory.img')
        self.client.device(device, 'Remove')


main()
