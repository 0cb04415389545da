#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages: made of what is built, looked through by lintian, installed, upgraded and purged.

Usage: package_test.py SOURCE BUILD RELEASE...

Installing is scenario.py, in the containers of tests/system, one for each RELEASE. As root.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ('libloopdev-dev', 'libloopdev0', 'loopd')
OLDER = '~older'  # what the version of the packages that are upgraded from ends with


def run(*command, **options):
    print('#', *command, flush=True)
    subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, check=True, **options)


def build_packages(source, build, directory):
    """dpkg-buildpackage, but for compiling."""
    tree = directory / 'loopd'
    shutil.copytree(source / 'debian', tree / 'debian')
    for document in source.glob('*.md'):
        shutil.copy(document, tree)
    run('dpkg-buildpackage', '--build=binary', '--unsigned-changes', '--unsigned-buildinfo', '--no-check-builddeps',
        cwd=tree, env=dict(os.environ, LOOPD_BUILD=str(build.resolve()), DEB_BUILD_OPTIONS='noautodbgsym'))
    return {deb.name.split('_')[0]: deb for deb in directory.glob('*.deb')}


def older(package, directory):
    """The same package with a lower version."""
    tree = directory / package.stem
    run('dpkg-deb', '--raw-extract', package, tree)
    control = tree / 'DEBIAN/control'
    version = next(line for line in control.read_text().splitlines() if line.startswith('Version: '))
    control.write_text(control.read_text().replace(version, version + OLDER)
                       .replace(f'(= {version.split()[1]})', f'(= {version.split()[1]}{OLDER})'))
    run('dpkg-deb', '--root-owner-group', '--build', tree, directory)
    shutil.rmtree(tree)


def main():
    source, build = map(Path, sys.argv[1:3])
    if os.geteuid() != 0:
        print('needs root, for containers')
        return 77
    with tempfile.TemporaryDirectory(prefix='loopd-packages.', dir='/var/tmp') as scratch:
        directory = Path(scratch)
        packages = build_packages(source, build, directory)
        if sorted(packages) != sorted(PACKAGES):
            sys.exit(f'the packages are {sorted(packages)}, not {sorted(PACKAGES)}')
        run('lintian', '--fail-on', 'error', '--allow-root', next(directory.glob('*.changes')))
        for age in ('old', 'new'):
            (directory / 'packages' / age).mkdir(parents=True)
        for package in packages.values():
            shutil.copy(package, directory / 'packages/new')
            older(package, directory / 'packages/old')
        for release in sys.argv[3:]:
            run(source / 'tests/system/run.py', '--release', release, '--packages', directory / 'packages',
                source / 'tests/system/packages/scenario.py')
    return 0


if __name__ == '__main__':
    sys.exit(main())
