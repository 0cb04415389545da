# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that run as a user, in sessions as logind knows them."""

# Where python3 finds what is beside the scenario, and leaves nothing.
PYTHON = {'PYTHONPATH': '/testbed', 'PYTHONDONTWRITEBYTECODE': '1'}
# A virtual terminal that is never the one in front.
OTHER_TERMINAL = '63'


def active_terminal():
    with open('/sys/class/tty/tty0/active', encoding='ascii') as file:
        return file.read().strip().removeprefix('tty')


def on_terminal(user, terminal, *command):
    """As who has logged in on a virtual terminal. Standard input and output are the caller's."""
    environment = {'XDG_SEAT': 'seat0', 'XDG_VTNR': terminal, 'XDG_SESSION_TYPE': 'tty', **PYTHON}
    return ('systemd-run', '--quiet', '--wait', '--pipe', '--collect', f'--property=User={user}',
            '--property=PAMName=login', *(f'--setenv={name}={value}' for name, value in environment.items()), *command)


def in_active_session(user, *command):
    return on_terminal(user, active_terminal(), *command)


def in_inactive_session(user, *command):
    return on_terminal(user, OTHER_TERMINAL, *command)


def without_session(user, *command):
    """As cron or ssh without pam_systemd."""
    return ('setpriv', f'--reuid={user}', f'--regid={user}', '--init-groups', 'env',
            *(f'{name}={value}' for name, value in PYTHON.items()), *command)
