# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scenarios have at hand inside the container or machine."""
import os
import subprocess
import sys
import time
import traceback
import unittest

from jeepney import DBusAddress, MatchRule, MessageFlag, MessageType, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection

NAME = 'org.example.Loop1'
ROOT = '/org/example/Loop1'
MANAGER = NAME + '.Manager'


def slowness():
    """How much longer than on the machine itself all takes here."""
    try:
        with open('/testbed/slowness', encoding='ascii') as file:
            return int(file.read())
    except FileNotFoundError:
        return 1


DEADLINE = 20 * slowness()  # seconds, for whatever is waited for


def run(*command, check=True, user=None, input=''):
    """Runs a command. Its standard output without the last newline; with check=False, all that is known of it."""
    if user:
        command = ('runuser', '-u', user, '--', *command)
    done = subprocess.run(command, capture_output=True, text=True, input=input, timeout=DEADLINE, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f'{" ".join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout.rstrip('\n') if check else done


def output_of_tests(program, directory):
    """Runs tests of GoogleTest's with their files in a directory. A skip is a failure: here is all that they need."""
    done = subprocess.run([program, '--gtest_color=no'], env={**os.environ, 'LOOPD_TEST_DIR': directory}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * DEADLINE, check=False)
    print('#', program, 'on', directory, *done.stdout.splitlines()[-1:])
    if done.returncode != 0 or '[  SKIPPED ]' in done.stdout:
        raise AssertionError(f'{program}: exit code {done.returncode}\n{done.stdout}')


def unit(name, what):
    """A property of a unit, as systemd has it now."""
    return run('systemctl', 'show', '--value', '--property', what, name)


def wait_until(what, condition):
    """Polls: for conditions that no event announces to a script."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f'waited in vain: {what}')
        time.sleep(0.01)
    return value


def image(path, size=1 << 20, owner=None, mode=0o600):
    """A sparse file; the directories above it are made."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        file.truncate(size)
    os.chmod(path, mode)
    if owner:
        run('chown', owner, path)
    return path


def partitioned_image(path, partitions):
    """An image with a GPT of so many partitions of 1 MiB."""
    image(path, (partitions + 2) << 20)
    run('sfdisk', path, input='label: gpt\n' + 'size=1MiB\n' * partitions)
    return path


def sysfs(device, attribute):
    """An attribute of a device that is named by its object path or node."""
    with open(f'/sys/class/block/{os.path.basename(device)}/{attribute}', encoding='utf-8') as file:
        return file.read().rstrip('\n')


class BusError(Exception):
    def __init__(self, name, message):
        super().__init__(f'{name}: {message}')
        self.name = name


class Client:
    """A connection to a bus, or to the service's own socket, and calls of the service on it."""

    def __init__(self, bus='SYSTEM'):
        self.connection = open_dbus_connection(bus, enable_fds=True, auth_timeout=DEADLINE)
        self.interactive = False  # ALLOW_INTERACTIVE_AUTHORIZATION of calls

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, path, interface, method, signature='', *arguments):
        """The reply's one value, or a tuple of several; BusError for an error."""
        message = new_method_call(DBusAddress(path, NAME, interface), method, signature, arguments)
        if self.interactive:
            message.header.flags |= MessageFlag.allow_interactive_authorization
        return self.reply_of(self.connection.send_and_get_reply(message, timeout=DEADLINE))

    def signals(self, member, interface=NAME):
        """A queue of the service's signals of that name, from now on; see received()."""
        rule = MatchRule(type='signal', interface=interface, member=member)
        self.reply_of(self.connection.send_and_get_reply(message_bus.AddMatch(rule)))
        return self.connection.filter(rule, bufsize=1000).__enter__()

    def received(self, queue):
        """What the queue has by now: the bus delivers in order, and so before the answer to this call."""
        self.manager('ListDevices')
        bodies = [message.body for message in queue]
        queue.clear()
        return bodies

    @staticmethod
    def reply_of(reply):
        if reply.header.message_type == MessageType.error:
            raise BusError(reply.header.fields[4], reply.body[0] if reply.body else '')
        return reply.body[0] if len(reply.body) == 1 else reply.body

    def manager(self, method, signature='', *arguments):
        return self.call(ROOT, MANAGER, method, signature, *arguments)

    def device(self, path, method, signature='', *arguments):
        return self.call(path, NAME, method, signature, *arguments)

    def publishes(self, path):
        return path in [device for device, *_ in self.manager('ListDevices')]

    def get(self, path, name, interface=NAME):
        return self.call(path, 'org.freedesktop.DBus.Properties', 'Get', 'ss', interface, name)[1]

    def attach_path(self, path, **options):
        return self.manager('AttachPath', 'sa{sv}', path, variants(options))

    def attach(self, path, mode='r+b', **options):
        with open(path, mode) as file:
            return self.manager('Attach', 'ha{sv}', file, variants(options))


def variants(options):
    """Keyword arguments as options: partition_scan=True is 'partition-scan'. Numbers are t, but for those of type u."""
    def variant(key, value):
        if isinstance(value, bool):
            return 'b', value
        if isinstance(value, int):
            return ('u' if key in ('block-size', 'number') else 't'), value
        return 's', value
    named = {key.replace('_', '-'): value for key, value in options.items()}
    return {key: variant(key, value) for key, value in named.items()}


class Scenario(unittest.TestCase):
    """Base of the checks: each method test_a_sentence is one, in the order of the source."""

    def assertError(self, name, function, *arguments, **options):
        """The call fails with this D-Bus error."""
        with self.assertRaises(BusError) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.name, name, str(caught.exception))


class Loader(unittest.TestLoader):
    def getTestCaseNames(self, testCaseClass):
        names = super().getTestCaseNames(testCaseClass)
        return sorted(names, key=lambda name: getattr(testCaseClass, name).__code__.co_firstlineno)


class Tap(unittest.TestResult):
    """Says 'ok - SENTENCE' or 'not ok - SENTENCE' for each check, and why not. run.py gives the numbers."""

    def sentence(self, test):
        return getattr(test, '_testMethodName', str(test)).removeprefix('test_').replace('_', ' ')

    def addSuccess(self, test):
        super().addSuccess(test)
        print('ok -', self.sentence(test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.explain(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.explain(test, err)

    def explain(self, test, err):
        print('not ok -', self.sentence(test))
        for line in ''.join(traceback.format_exception(*err)).splitlines():
            print('#', line)


def main():
    result = Tap()
    Loader().loadTestsFromModule(sys.modules['__main__']).run(result)
    print('done')
    sys.exit(0 if result.wasSuccessful() else 1)
