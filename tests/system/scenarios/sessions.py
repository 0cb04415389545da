# SPDX-License-Identifier: LGPL-2.1-or-later
"""What polkit lets users do, in sessions as logind knows them. Nobody can answer a question here: who would be asked
gets an error that says so."""
import os
import shutil

import login
from testbed import NAME, Client, Scenario, image, main, run, unit, wait_until

ASKED = 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired'


def python(code):
    return 'python3', '-c', 'from testbed import *\nclient = Client()\n' + code


def in_active_session(user, code):
    """Runs Python code as the user; all that is known of it."""
    return run(*login.in_active_session(user, *python(code)), check=False)


def in_inactive_session(user, code):
    return run(*login.in_inactive_session(user, *python(code)), check=False)


def without_session(user, code):
    return run(*login.without_session(user, *python(code)), check=False)


class Users(Scenario):
    def setUp(self):
        self.client = Client()
        self.addCleanup(self.client.close)
        self.addCleanup(self.remove_all)
        image('/home/alice/a.img', owner='alice')
        image('/home/bob/b.img', owner='bob')

    def remove_all(self):
        for device, *_ in self.client.manager('ListDevices'):
            self.client.device(device, 'Remove')

    def attach_as_alice(self):
        done = in_active_session('alice', 'print(client.attach("/home/alice/a.img"))')
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def assertAsked(self, done):  # pylint: disable=invalid-name
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(ASKED, done.stderr)

    def test_an_active_session_attaches_without_a_question(self):
        device = self.attach_as_alice()
        self.assertEqual(self.client.get(device, 'OwnerUID'), os.stat('/home/alice').st_uid)

    def test_an_inactive_session_is_asked(self):
        self.assertAsked(in_inactive_session('alice', 'client.attach("/home/alice/a.img")'))

    def test_a_user_without_a_session_is_asked(self):
        self.assertAsked(without_session('alice', 'client.attach("/home/alice/a.img")'))

    def test_an_active_session_is_asked_for_a_path_and_for_a_reference(self):
        self.assertAsked(in_active_session('alice', 'client.attach_path("/home/alice/a.img")'))
        self.assertAsked(in_active_session('alice', 'client.attach("/home/alice/a.img", reference="root")'))

    def test_everyone_may_look(self):
        device = self.attach_as_alice()
        done = without_session('bob', f'print(client.manager("ListDevices"), client.get("{device}", "Size"))')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(device, done.stdout)

    def test_an_owner_changes_and_removes_a_device_from_anywhere(self):
        device = self.attach_as_alice()
        done = without_session('alice', f'client.device("{device}", "Resize"); client.device("{device}", "Remove")')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.client.manager('ListDevices'), [])

    def test_another_user_is_asked_even_in_an_active_session(self):
        device = self.attach_as_alice()
        for call in '"Remove"', '"Resize"', '"RescanPartitions"', '"SetAutoclear", "b", True', '"Open", "s", "r"':
            self.assertAsked(in_active_session('bob', f'client.device("{device}", {call})'))
        self.assertEqual(len(self.client.manager('ListDevices')), 1)

    def test_an_owner_stays_the_owner_when_the_service_is_killed(self):
        device = self.attach_as_alice()
        run('systemctl', 'kill', '--signal=KILL', 'loopd')
        wait_until('loopd does not end', lambda: unit('loopd', 'ActiveState') != 'active')
        self.assertAsked(in_active_session('bob', f'client.device("{device}", "Remove")'))
        self.assertEqual(in_active_session('alice', f'client.device("{device}", "Remove")').returncode, 0)

    def test_polkit_knows_each_action_of_the_policy(self):
        actions = {line for line in run('pkaction').splitlines() if line.startswith(NAME)}
        self.assertEqual(actions, {f'{NAME}.{name}' for name in
                                   ('attach', 'attach-path', 'modify-others', 'remove-others', 'open', 'set-reference')})

    def test_the_example_rule_lets_its_group_attach_what_is_in_its_directory(self):
        run('groupadd', 'loop')
        run('usermod', '--append', '--groups=loop', 'bob')
        image('/srv/images/b.img', owner='bob')
        self.assertAsked(without_session('bob', 'client.attach("/srv/images/b.img")'))
        shutil.copy('/usr/share/doc/loopd/examples/50-loopd-ssh.rules', '/etc/polkit-1/rules.d')
        wait_until('polkit does not take the rule',
                   lambda: without_session('bob', 'client.attach("/srv/images/b.img")').returncode == 0)
        self.assertAsked(without_session('bob', 'client.attach("/home/bob/b.img")'))
        self.assertAsked(without_session('alice', 'client.attach("/home/alice/a.img")'))


main()
