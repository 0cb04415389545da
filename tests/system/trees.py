# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root trees of Debian releases, made by mmdebstrap and kept between runs.

A tree is in CACHE/RELEASE-HASH, where the hash is that of everything that makes
it, so that a change of its recipe makes a new one. Packages come from where
the machine's own come from; only the suite differs.
"""
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RELEASES = ('bookworm', 'trixie', 'forky', 'sid')  # old to new

# Their index files are valid for days only: a mirror that stands still is as good
# for a test. Signatures are checked all the same.
UNRELEASED = ('forky', 'sid')

PACKAGES = (
    'systemd', 'systemd-sysv', 'udev', 'dbus', 'dbus-broker', 'polkitd', 'libpam-systemd',
    'libblkid1', 'libstdc++6', 'libsystemd0', 'libudev1',
    'e2fsprogs', 'fdisk', 'mount', 'util-linux',
    'python3', 'python3-jeepney',
)

# Without the machine's processes: a package's script that has no systemd to ask stops its daemon wherever it
# runs: polkitd's does.
ALONE = ('unshare', '--pid', '--fork', '--kill-child', '--mount-proc')

# Ordinary users for the tests; the shell runs in the tree. The rest makes the
# tree smaller, and is of no use to a test.
CUSTOMIZE = (
    'chroot "$1" useradd --create-home --shell /bin/sh alice',
    'chroot "$1" useradd --create-home --shell /bin/sh bob',
    'rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale',
)


# For a machine of its own: a kernel, and an initrd that can do no more than mount the root. 
KERNEL = 'linux-image-cloud-amd64'
SMALL_INITRD = (
    'mkdir -p "$1"/etc/initramfs-tools/conf.d "$1"/usr/share/initramfs-tools/modules.d',
    'echo MODULES=list >"$1"/etc/initramfs-tools/conf.d/testbed',
    'printf "virtio_pci\\nvirtio_blk\\next4\\n" >"$1"/usr/share/initramfs-tools/modules.d/testbed',
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a tree is made of, beside its release."""
    packages: tuple
    before: tuple = ()  # shell commands that run when the essential packages are there
    after: tuple = ()  # and when all are

    def text(self, release):
        return '\n'.join((release, *sorted(self.packages), *self.before, *self.after))


def system():
    """What a container boots."""
    return Recipe(PACKAGES + packages_of_machine(), after=CUSTOMIZE)


def machine():
    """What a virtual machine boots."""
    return Recipe(system().packages + (KERNEL,), before=SMALL_INITRD, after=CUSTOMIZE)


def emulator():
    """What runs the virtual machine."""
    return Recipe(('qemu-system-x86', 'seabios'), after=CUSTOMIZE[-1:])


def default_cache():
    return Path(os.environ.get('LOOPD_TREE_CACHE', '/var/cache/loopd-tests'))


def machine_release():
    """The codename of the machine's own Debian."""
    text = Path('/etc/os-release').read_text(encoding='utf-8')
    match = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    return match[1] if match else 'sid'


def packages_of_machine():
    """Libraries that a program built on this machine wants beside PACKAGES."""
    return () if machine_release() == 'bookworm' else ('libsdbus-c++2',)


def tree_of(release, recipe, cache=None):
    """Path of the tree that the recipe makes of the release, which is made if there is none."""
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / f'{release}-{hashlib.sha256(recipe.text(release).encode()).hexdigest()[:16]}'
    with open(cache / f'{release}.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            make_tree(release, recipe, tree)
    return tree


def make_tree(release, recipe, tree):
    print(f'# making a root tree of {release}, once', file=sys.stderr, flush=True)
    unfinished = tree.with_name(tree.name + '.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix='loopd-sources.') as sources:
        write_sources(Path(sources), machine_release(), release)
        command = [*ALONE, 'mmdebstrap', '--mode=root', '--variant=minbase',
                   '--aptopt=APT::Install-Recommends "false"', '--dpkgopt=force-unsafe-io',
                   '--include=' + ','.join(sorted(recipe.packages))]
        if release in UNRELEASED:
            command.append('--aptopt=Acquire::Check-Valid-Until "false"')
        command += [f'--essential-hook={hook}' for hook in recipe.before]
        command += [f'--customize-hook={hook}' for hook in recipe.after]
        command += [release, str(unfinished), *sorted(map(str, Path(sources).iterdir()))]
        made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        # Without the names of mirrors, which may be private ones.
        log = re.sub(r'(\w+://)[^/\s]+', r'\1<mirror>', made.stderr)
        sys.exit(f'mmdebstrap cannot make a tree of {release}:\n{log[-4000:]}')
    unfinished.rename(tree)


def write_sources(directory, codename, release):
    """The machine's entries for its own release, asking for another one."""
    etc = Path('/etc/apt')
    sources = [etc / 'sources.list', *sorted(etc.glob('sources.list.d/*'))]
    aliases = {codename, 'stable', 'oldstable', 'testing', 'unstable'}
    for number, source in enumerate(sources):
        if source.suffix not in ('.list', '.sources') or not source.is_file():
            continue
        translate = deb822_entries if source.suffix == '.sources' else one_line_entries
        entries = translate(source.read_text(encoding='utf-8'), aliases, release)
        if entries:
            (directory / f'{number}{source.suffix}').write_text('\n'.join(entries) + '\n', encoding='utf-8')


def one_line_entries(text, aliases, release):
    """deb [OPTIONS] URI SUITE COMPONENT..."""
    entries = []
    for line in text.splitlines():
        match = re.match(r'deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$', line)
        if match and match[3] in aliases and 'main' in match[4].split():
            entries.append(f'deb {match[1] or ""}{match[2]} {release} main')
    return entries


def deb822_entries(text, aliases, release):
    """Paragraphs of fields."""
    entries = []
    text = re.sub(r'^#.*\n', '', text, flags=re.MULTILINE)
    for paragraph in re.split(r'\n\s*\n', text):
        suites = re.search(r'^Suites:(.*)$', paragraph, re.MULTILINE | re.IGNORECASE)
        if not suites or not aliases.intersection(suites[1].split()):
            continue
        if re.search(r'^Enabled:\s*no', paragraph, re.MULTILINE | re.IGNORECASE):
            continue
        paragraph = paragraph.replace(suites[0], f'Suites: {release}')
        entries.append(re.sub(r'^Types:.*$', 'Types: deb', paragraph, flags=re.MULTILINE | re.IGNORECASE) + '\n')
    return entries
