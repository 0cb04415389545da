# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a desktop has for polkit's dialogs: is asked, and says what came of it."""
import os
import threading

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import open_dbus_connection
from testbed import DEADLINE

POLKIT = 'org.freedesktop.PolicyKit1'
AUTHORITY = DBusAddress('/org/freedesktop/PolicyKit1/Authority', POLKIT, POLKIT + '.Authority')
PATH = '/org/example/Agent'


def this_session():
    return 'unix-session', {'session-id': ('s', os.environ['XDG_SESSION_ID'])}


class Agent:
    """Of the session that the process is in. For each dialog, `ask` is called with the action, the cookie and the
    identities that may answer, in a thread of the agent's; true says that an answer was given, false that the person has closed the
    dialog."""

    def __init__(self, ask):
        self.ask = ask
        self.connection = open_dbus_connection('SYSTEM', auth_timeout=DEADLINE)
        reply = self.connection.send_and_get_reply(
            new_method_call(AUTHORITY, 'RegisterAuthenticationAgent', '(sa{sv})ss', (this_session(), 'C', PATH)))
        if reply.header.message_type == MessageType.error:
            raise RuntimeError(f'polkit does not take the agent: {reply.body}')
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            message = self.connection.receive()
            if message.header.message_type == MessageType.method_call:
                self.connection.send(self.answer_to(message))

    def answer_to(self, message):
        if message.header.fields[HeaderFields.member] != 'BeginAuthentication':
            return new_method_return(message)
        action, _, _, _, cookie, identities = message.body
        if self.ask(action, cookie, identities):
            return new_method_return(message)
        return new_error(message, POLKIT + '.Error.Cancelled', 's', ('the dialog was closed',))


def answer(client, uid, cookie, identity):
    """By root, for the agent of a user: this identity has given its password. `client` is testbed's."""
    kind, details = identity
    identity = kind, {name: tuple(value) for name, value in details.items()}
    client.reply_of(client.connection.send_and_get_reply(
        new_method_call(AUTHORITY, 'AuthenticationAgentResponse2', 'us(sa{sv})', (uid, cookie, identity))))


def forget_answers(client):
    """By the user: nobody in this session is authorized by an earlier answer any more."""
    client.reply_of(client.connection.send_and_get_reply(
        new_method_call(AUTHORITY, 'RevokeTemporaryAuthorizations', '(sa{sv})', (this_session(),))))
