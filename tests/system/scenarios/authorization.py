# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each cell of authorization.md: every call, by every kind of caller, with and without the flag that lets polkit ask.

This file is the scenario, and with --caller what its callers run.
"""
import re
import socket
import sys
from pathlib import Path

import login
from authorization_table import Table
from caller import Caller, result_of, serve
from polkit_agent import answer
from testbed import MANAGER, NAME, ROOT, BusError, Client, Scenario, image, main, partitioned_image, run, wait_until

# Sessions are quicker without a systemd of each user.
LINKS = {'/etc/systemd/system/user@.service': '/dev/null'}
SOURCES = ('policy/authorization_table.py', 'policy/authorization.md')

TABLE = Table(Path('/testbed/authorization.md').read_text(encoding='utf-8'))
FREEDESKTOP = 'org.freedesktop.DBus.'
REFUSALS = (FREEDESKTOP + 'Error.InteractiveAuthorizationRequired', FREEDESKTOP + 'Error.AccessDenied')
FREE_IMAGE = '/srv/free.img'  # for the calls
# That alice has attached: for two calls that remove, each with the flag and without, and one that stays.
ALICES_IMAGES = tuple(f'/home/alice/{number}.img' for number in range(5))
# What a call that is refused might have changed.
CHANGEABLE = ('DiskSequence', 'BackingFile', 'Size', 'SizeLimit', 'ReadOnly', 'Autoclear', 'DirectIO', 'PartitionScan',
              'Reference', 'OwnerUID', 'Partitions')


# ---- the calls -------------------------------------------------------------------------


def manager(method, signature='', *arguments):
    return lambda client, device: client.manager(method, signature, *arguments)


def of_device(method, signature='', *arguments):
    return lambda client, device: client.device(device, method, signature, *arguments)


def with_file(method, signature, *arguments):
    def call(client, device):
        del device
        with open(FREE_IMAGE, 'r+b') as file:
            client.manager(method, signature, file, *arguments)
    return call


def everywhere(member, signature='', arguments=lambda interface: ()):
    """A call of a standard interface at each kind of object. The outcome has to be the same at all."""
    interface = FREEDESKTOP + member.partition('.')[0]
    method = member.partition('.')[2]

    def call(client, device):
        objects = (ROOT, MANAGER), (device, NAME), (device + '/p1', NAME + '.Partition')
        results = {result_of(lambda at=at: client.call(at[0], interface, method, signature, *arguments(at[1])))
                   for at in objects}
        if len({name for name, _ in results}) != 1:
            raise AssertionError(f'{member} differs: {results}')
        name, message = results.pop()
        if name != 'allowed':
            raise BusError(name, message)
    return call


def a_property(interface):
    return {MANAGER: 'DeviceCount', NAME: 'Autoclear'}.get(interface, 'Size')


def a_value(interface):
    return {MANAGER: ('u', 1), NAME: ('b', True)}.get(interface, ('t', 1))


def open_descriptor(client, device):
    client.device(device, 'Open', 's', 'rw').close()


def connect_privately(client, device):
    del client, device
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect('/run/loopd/bus')


REFERENCE = {'reference': ('s', 'matrix')}
CALLS = {
    'Manager.Attach': with_file('Attach', 'ha{sv}', {}),
    'Manager.Attach, `reference`': with_file('Attach', 'ha{sv}', REFERENCE),
    'Manager.AttachPath': manager('AttachPath', 'sa{sv}', FREE_IMAGE, {}),
    'Manager.AttachPath, `reference`': manager('AttachPath', 'sa{sv}', FREE_IMAGE, REFERENCE),
    'Manager.Probe': with_file('Probe', 'ha{sv}', {}),
    'Manager.GetDevice': lambda client, device: client.manager('GetDevice', 's', '/dev/' + device.rpartition('/')[2]),
    'Manager.FindByFile': with_file('FindByFile', 'h'),
    'Manager.FindByPath': manager('FindByPath', 's', FREE_IMAGE),
    'Manager.ListDevices': manager('ListDevices'),
    'Loop1.Resize': of_device('Resize'),
    'Loop1.ResizeWithOptions': of_device('ResizeWithOptions', 'a{sv}', {'force': ('b', True)}),
    'Loop1.Remove': of_device('Remove'),
    'Loop1.RemoveWithOptions': of_device('RemoveWithOptions', 'a{sv}', {'lazy': ('b', True)}),
    'Loop1.Open': open_descriptor,
    'Loop1.SetAutoclear': of_device('SetAutoclear', 'b', True),
    'Loop1.SetDirectIO': of_device('SetDirectIO', 'b', False),
    'Loop1.RescanPartitions': of_device('RescanPartitions'),
    'ObjectManager.GetManagedObjects':
        lambda client, device: client.call(ROOT, FREEDESKTOP + 'ObjectManager', 'GetManagedObjects'),
    'Properties.Get': everywhere('Properties.Get', 'ss', lambda interface: (interface, a_property(interface))),
    'Properties.GetAll': everywhere('Properties.GetAll', 's', lambda interface: (interface,)),
    'Properties.Set': everywhere('Properties.Set', 'ssv',
                                 lambda interface: (interface, a_property(interface), a_value(interface))),
    'Introspectable.Introspect': everywhere('Introspectable.Introspect'),
    'Peer.Ping': everywhere('Peer.Ping'),
    'Peer.GetMachineId': everywhere('Peer.GetMachineId'),
    'connecting to `/run/loopd/bus`': connect_privately,
}


# ---- the callers -----------------------------------------------------------------------


PROGRAM = ('python3', '/testbed/scenario.py', '--caller')
WITH_AGENT = (*PROGRAM, '--agent')
ATTACH = 'from testbed import *\nclient = Client()\nfor path in sys.argv[1:]:\n    client.attach(path, partition_scan=True)'


def remove(client, device):
    client.device(device, 'RemoveWithOptions', 'a{sv}', {'timeout': ('t', 10_000_000)})


def state(client):
    """Of each device of ours, what calls may change."""
    objects = client.call(ROOT, FREEDESKTOP + 'ObjectManager', 'GetManagedObjects')
    return {path: {name: interfaces[NAME][name][1] for name in CHANGEABLE} for path, interfaces in objects.items()
            if NAME in interfaces and interfaces[NAME]['BackingFile'][1] in (*ALICES_IMAGES, FREE_IMAGE)}


class Authorization(Scenario):
    cells = 0  # with the flag, and without

    @classmethod
    def setUpClass(cls):
        image(FREE_IMAGE, mode=0o666)
        for file in ALICES_IMAGES:
            partitioned_image(file, 1)
        run('chown', 'alice', *ALICES_IMAGES)

    def setUp(self):
        self.client = Client()
        self.alice = int(run('id', '--user', 'alice'))
        self.bob = int(run('id', '--user', 'bob'))
        self.addCleanup(self.client.close)
        self.attach_as_alice()
        self.known = state(self.client)

    @classmethod
    def tearDownClass(cls):
        with Client() as client:
            for device in state(client):
                remove(client, device)

    def attach_as_alice(self):
        """What is not attached any more."""
        attached = [properties['BackingFile'] for properties in state(self.client).values()]
        if missing := [file for file in ALICES_IMAGES if file not in attached]:
            run(*login.in_active_session('alice', 'python3', '-c', ATTACH, *missing))

    def check(self, column, command, active=None, answered=False):
        """active: what logind has to say of the caller's session; None: it knows of none."""
        with Caller(command) as caller:
            if active:
                wait_until(f'the session is not what it should be: {active}', lambda: run(
                    'loginctl', 'show-session', '--value', '--property=Active', caller.session) == active)
            else:
                self.assertIsNone(caller.session)
            complaints = []
            for row in TABLE.rows:
                for interactive in False, True:
                    found = self.complaints_of(caller, row, column, interactive, answered)
                    complaints += [f'{row.call}{" with the flag" if interactive else ""}: {what}' for what in found]
            self.assertEqual(complaints, [])

    def complaints_of(self, caller, row, column, interactive, answered):
        """One cell, with the flag or without."""
        Authorization.cells += 1
        meaning = TABLE.words[row.cells[column]]
        expected = meaning.interactive if interactive else meaning.plain
        actions = [f'{NAME}.{action}' for action in row.actions]
        dialogs = []

        def on_dialog(action, cookie, identities):
            dialogs.append(action)
            if answered:
                answer(self.client, self.bob, cookie, identities[0])
            return answered

        device = next(path for path, properties in self.known.items() if properties['OwnerUID'] == self.alice)
        result, message = caller.call(on_dialog, call=row.call, interactive=interactive, device=device)
        before, self.known = self.known, state(self.client)
        if result != expected:
            yield f'{result} instead of {expected} ({message})'
        if result != 'allowed' and self.known != before:
            yield f'{result}, and something has changed'
        if result in REFUSALS and not any(re.search(re.escape(action) + r'\b(?!-)', message) for action in actions):
            yield f'the message names none of {actions}: {message}'
        if bool(dialogs) != (meaning.dialog and interactive):
            yield f'{len(dialogs)} dialogs'
        if not set(dialogs) <= set(actions):
            yield f'polkit asked for {dialogs}'
        for new in self.known.keys() - before.keys():
            remove(self.client, new)
            del self.known[new]

    def test_each_call_of_the_table_is_made(self):
        self.assertEqual({row.call for row in TABLE.rows}, set(CALLS))

    def test_root_gets_what_the_table_says(self):
        self.check('root', PROGRAM)

    def test_the_owner_of_a_device_gets_what_the_table_says(self):
        self.check('owner', login.without_session('alice', *PROGRAM))

    def test_another_user_in_an_active_session_gets_what_the_table_says(self):
        self.check('active', login.in_active_session('bob', *PROGRAM), active='yes')

    def test_another_user_in_an_inactive_session_gets_what_the_table_says(self):
        self.check('inactive', login.in_inactive_session('bob', *PROGRAM), active='no')

    def test_another_user_without_a_session_gets_what_the_table_says(self):
        self.check('no session', login.without_session('bob', *PROGRAM))

    def test_without_polkit_another_user_gets_what_the_table_says(self):
        run('systemctl', 'mask', '--runtime', '--now', 'polkit')
        self.addCleanup(run, 'systemctl', 'unmask', '--runtime', 'polkit')
        self.check('no polkit', login.in_active_session('bob', *PROGRAM), active='yes')

    def test_who_dismisses_each_dialog_gets_what_the_table_says(self):
        self.check('dismisses', login.in_active_session('bob', *WITH_AGENT), active='yes')

    def test_who_answers_each_dialog_gets_what_the_table_says(self):
        self.check('answers', login.in_active_session('bob', *WITH_AGENT), active='yes', answered=True)

    def test_each_column_of_the_table_is_checked(self):
        self.assertEqual(TABLE.columns, ['root', 'owner', 'active', 'inactive', 'no session', 'no polkit', 'dismisses',
                                         'answers'])
        print(f'# {len(TABLE.rows)} calls, {len(TABLE.columns)} kinds of callers, {self.cells} cells')


if '--caller' in sys.argv:
    serve(CALLS, '--agent' in sys.argv)
else:
    main()
