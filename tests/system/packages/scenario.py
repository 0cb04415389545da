# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages on a real system: installed, used, upgraded, removed, purged.

/testbed/packages/old and new are what package_test.py has made. The checks are one story, in this order.
"""
import glob
import os

from testbed import Client, Scenario, image, main, run, sysfs, unit, wait_until

IMAGE = '/srv/package.img'
PACKAGES = ('loopd', 'libloopdev0', 'libloopdev-dev')


def install(age):
    run('dpkg', '--install', *glob.glob(f'/testbed/packages/{age}/*.deb'))


def files_of(package):
    """What the package has put there; directories are shared with others."""
    paths = run('dpkg-query', '--listfiles', package).splitlines()
    return [path for path in paths if not os.path.isdir(path)]


def version():
    return run('dpkg-query', '--show', '--showformat', '${Version}', 'loopd')


class Packages(Scenario):
    device = None
    files = []

    def test_are_installed(self):
        install('old')
        self.assertTrue(version().endswith('~older'))
        self.assertEqual(run('dpkg', '--audit'), '')

    def test_the_service_answers_and_attaches(self):
        with Client() as client:
            Packages.device = client.attach_path(image(IMAGE))
        self.assertEqual(sysfs(self.device, 'loop/backing_file'), IMAGE)
        self.assertEqual(unit('loopd', 'ActiveState'), 'active')

    def test_polkit_and_the_shells_know_them(self):
        self.assertIn('org.example.Loop1.attach', run('pkaction'))
        self.assertIn('loop', run('loopctl', '--no-pager', 'list'))

    def test_the_library_is_found_by_its_soname(self):
        self.assertIn('libloopdev.so.0 ', run('ldconfig', '--print-cache'))

    def test_an_upgrade_keeps_devices_and_answers(self):
        install('new')
        self.assertFalse(version().endswith('~older'))
        with Client() as client:
            self.assertEqual(client.get(self.device, 'BackingFile'), IMAGE)
            client.device(self.device, 'Remove')
        self.assertFalse(os.path.exists('/dev/' + os.path.basename(self.device)))

    def test_removing_stops_the_service(self):
        Packages.files = [path for package in PACKAGES for path in files_of(package)]
        self.assertIn('/usr/bin/loopctl', self.files)
        run('dpkg', '--remove', *PACKAGES)
        wait_until('loopd runs on', lambda: unit('loopd', 'ActiveState') == 'inactive')

    def test_nothing_is_left_after_a_purge(self):
        run('dpkg', '--purge', *PACKAGES)
        self.assertEqual([path for path in self.files if os.path.lexists(path)], [])
        self.assertFalse(os.path.exists('/run/loopd'))
        self.assertEqual(unit('loopd', 'LoadState'), 'not-found')
        self.assertEqual(run('systemctl', 'list-units', '--failed', '--plain', '--no-legend'), '')


main()
