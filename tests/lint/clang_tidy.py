#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Has clang-tidy look at sources, by the profile .clang-tidy: of those that the last commits changed, or all.

A file takes some seconds, so that a test looks at a limited number of files, the last changed first. What is
older was looked at when it was new. Exit code 77, as meson's tests skip, where clang-tidy is not installed.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

PROGRAM = 'clang-tidy-19'
FOLDERS = ('core', 'dbus', 'service', 'units')


def compiled(build, top):
    """Sources of ours that the build compiles: clang-tidy needs to know how."""
    entries = json.loads((build / 'compile_commands.json').read_text(encoding='utf-8'))
    paths = {pathlib.Path(os.path.normpath(build / entry['file'])) for entry in entries}
    names = {path.relative_to(top) for path in paths if path.is_relative_to(top)}
    return {str(name) for name in names if name.parts[0] in FOLDERS and name.suffix == '.cpp'}


def changed(top):
    """Sources, the last changed first; a header stands for the source of its name."""
    log = ['git', '-C', top, 'log', '--name-only', '--format=', '--', *FOLDERS]
    work = ['git', '-C', top, 'diff', '--name-only', 'HEAD', '--', *FOLDERS]
    names = []
    for command in work, log:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        names += result.stdout.splitlines()
    sources = (str(pathlib.Path(name).with_suffix('.cpp')) for name in names)
    return list(dict.fromkeys(sources))


def look(build, top, name):
    # What another compiler's command line has is nothing to it.
    command = [PROGRAM, '--quiet', '-p', build, '--extra-arg=-Wno-unknown-warning-option', top / name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', type=pathlib.Path, required=True)
    parser.add_argument('--top', type=pathlib.Path, required=True)
    parser.add_argument('--most', type=int, help='files; without, all')
    arguments = parser.parse_args()
    build, top = arguments.build.resolve(), arguments.top.resolve()
    if not shutil.which(PROGRAM):
        print(f'{PROGRAM} is not installed; tools/setup --checks does it')
        return 77
    known = compiled(build, top)
    names = sorted(known)
    if arguments.most:
        # A checkout without history has all of them changed at once.
        names = ([name for name in changed(top) if name in known] or names)[:arguments.most]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, result in zip(names, pool.map(lambda name: look(build, top, name), names)):
            bad += result.returncode != 0
            print(name, '' if result.returncode == 0 else 'has findings', flush=True)
            if result.returncode:
                print(result.stdout, result.stderr, flush=True)
    print(f'{len(names)} of {len(known)} files, {bad} with findings')
    return 1 if bad or not names else 0


sys.exit(main())
