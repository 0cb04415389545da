# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process of a user that makes calls when it is told to, for a scenario that runs as root.

They talk in lines of JSON. The scenario asks for a call; before its result, there may be questions of polkit to the user, each of
which the scenario answers.
"""
import json
import os
import select
import subprocess
import sys

from polkit_agent import Agent, forget_answers
from testbed import DEADLINE, BusError, Client


class Caller:
    """The scenario's end."""

    def __init__(self, command):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.session = self.receive()['session']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(2 * DEADLINE)  # it may still wait for an answer
        self.process.stdout.close()

    def call(self, on_dialog, **what):
        """The name of the error, or 'allowed', and its message. on_dialog(action, cookie, identities) is true for an
        answer that was given."""
        self.send(what)
        while 'dialog' in (said := self.receive()):
            self.send(on_dialog(*said['dialog']))
        return said['result'], said['message']

    def send(self, what):
        self.process.stdin.write(json.dumps(what) + '\n')
        self.process.stdin.flush()

    def receive(self):
        if not select.select([self.process.stdout], [], [], DEADLINE)[0]:
            raise AssertionError('the caller does not answer')
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError('the caller has ended')
        return json.loads(line)


def serve(calls, with_agent):
    """The user's end. calls: name → function of a client and of the other things that the scenario says."""
    def say(**what):
        print(json.dumps(what), flush=True)

    def ask(*dialog):
        say(dialog=dialog)
        return json.loads(sys.stdin.readline())

    if with_agent:
        Agent(ask)
    client = Client()
    say(session=os.environ.get('XDG_SESSION_ID'))
    for line in iter(sys.stdin.readline, ''):
        what = json.loads(line)
        client.interactive = what.pop('interactive')
        result, message = result_of(lambda: calls[what.pop('call')](client, **what))
        if with_agent:
            forget_answers(client)  # each call is asked about anew
        say(result=result, message=message)


def result_of(function):
    try:
        function()
    except BusError as error:
        return error.name, str(error)
    except PermissionError as error:
        return error.strerror, str(error)
    return 'allowed', ''
