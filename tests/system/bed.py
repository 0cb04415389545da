# SPDX-License-Identifier: LGPL-2.1-or-later
"""What containers and machines have in common: files for a boot, and what to think of its end."""
import shutil
import subprocess
import time

LINES_OF_JOURNAL = 150
# Said when something could not be stopped, unmounted or detached.
DISORDERLY = ('Failed unmounting', 'Failed to unmount', 'target is busy', 'State \'stop-sigterm\' timed out',
              'Stopping timed out', 'Could not detach')


class TestBed:
    """Boots scenarios, one after the other, in what a class derived from this one makes for them."""
    timeout = None  # seconds, for a boot with its checks and its end; testbed.service has less

    def __init__(self, scratch, build, tree):
        self.scratch = scratch
        self.build = build
        self.tree = tree
        self.installed = scratch / 'installed'

    def install(self):
        subprocess.run(['meson', 'install', '-C', self.build, '--destdir', self.installed, '--no-rebuild', '--quiet'],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    def run(self, boot):
        """Boots, and returns lines for Tap."""
        results = self.prepare(boot)
        began = time.monotonic()
        process = subprocess.Popen(self.command('pipe'), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors='replace')
        try:
            console, _ = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            console, _ = process.communicate()
            console += f'\nstill running after {self.timeout} seconds'
        finally:
            # The kernel ends the rest with it.
            process.kill()
            process.wait()
            devices = self.release()
        return outcome_of(results, console, devices) + [f'# {boot.name}: {time.monotonic() - began:.0f} s']

    def shell(self, scenario):
        """Boots, with a shell on the terminal. The scenario is /testbed/scenario.py."""
        self.prepare(scenario.boots()[0])
        dropin = self.scratch / 'layer/etc/systemd/system/testbed.service.d/shell.conf'
        dropin.parent.mkdir(exist_ok=True)
        dropin.write_text('[Service]\nExecStart=\nExecStart=-/bin/bash\nStandardInput=tty-force\n'
                          'StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\nTimeoutStartSec=infinity\n',
                          encoding='utf-8')
        subprocess.run(self.command('interactive'), check=False)
        self.release()
        return 0

    def prepare(self, boot):
        for name in ('layer', 'results'):
            shutil.rmtree(self.scratch / name, ignore_errors=True)
            (self.scratch / name).mkdir()
        boot.write_layer(self.scratch / 'layer')
        boot.copy_programs(self.build, self.scratch / 'layer')
        return self.scratch / 'results'

    def layers(self):
        """What the root is an overlay of, as overlayfs takes it."""
        return ':'.join(str(layer) for layer in (self.scratch / 'layer', self.installed, self.tree))

    def command(self, console):
        """The program that boots; console is 'pipe' or 'interactive'."""
        raise NotImplementedError

    def release(self):
        """Takes down what the kernel does not with the program. Returns the loop devices that were left."""
        raise NotImplementedError


# Their processes and mounts end with the program, however that ends.
ISOLATED = ('setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', '--pid', '--fork',
            '--kill-child', '--mount-proc')


def outcome_of(results, console, devices):
    lines = read(results / 'output')
    complete = lines[-1:] == ['done']
    outcome = lines[:-1] if complete else lines
    outcome.append('ok - runs to its end' if complete else 'not ok - runs to its end')
    journal = read(results / 'journal')
    disorder = [line for line in journal + console.splitlines() if any(word in line for word in DISORDERLY)]
    outcome.append(('not ok' if disorder else 'ok') + ' - stops in order')
    outcome += [f'# {line}' for line in disorder]
    outcome.append(('not ok' if devices else 'ok') + ' - leaves no loop device')
    outcome += [f'# left: {device}' for device in devices]
    if any(line.startswith('not ok') for line in outcome):
        outcome += [f'# console: {line}' for line in console.splitlines()[-20:]]
        outcome += [f'# journal: {line}' for line in journal[-LINES_OF_JOURNAL:]]
    return outcome


def read(path):
    try:
        return path.read_text(encoding='utf-8', errors='replace').splitlines()
    except FileNotFoundError:
        return []
