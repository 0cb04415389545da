#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs fuzzers: replays each one's corpus, and with libFuzzer looks for more for a while.

Speaks TAP. What ends a fuzzer is printed and kept in $LOOPD_FUZZ_FINDINGS, or the current directory.
"""
import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

BASE = ['-print_final_stats=1', '-verbosity=1', '-rss_limit_mb=2048', '-timeout=1200']

# Bytes of an input. What is text or a list repeats itself in longer ones.
MAX_LENGTH = {'fstab': 256, 'looptab': 256, 'names': 256, 'options': 256,
              'peer_socket': 512}
OTHER_MAX_LENGTH = 4096

# What has threads frees on one of them what another one made: to libFuzzer each input may be a leak, and is looked
# for at a cost of several inputs. At the end of the program all that leaked is found at once.
WITH_THREADS = {'attach_options', 'peer_socket'}

# An exception has all of AddressSanitizer's places for local variables looked at, and what is freed is kept from
# being used again: both are made for programs that do more between two inputs than these. Who allocated what is a
# fifth of the time; a finding says it when it is replayed.
ASAN_OPTIONS = 'max_uar_stack_size_log=16:quarantine_size_mb=16:malloc_context_size=0'


def has_engine(program):
    result = subprocess.run([program, '-help=1'], capture_output=True, check=False)
    return b'libFuzzer' in result.stdout + result.stderr


def command(program, corpora, grown, limits):
    name = program.name.removesuffix('_fuzzer')
    if not has_engine(program):
        return [program, corpora / name]
    findings = os.environ.get('LOOPD_FUZZ_FINDINGS', os.getcwd())
    length = MAX_LENGTH.get(name, OTHER_MAX_LENGTH)
    leaks = 0 if name in WITH_THREADS else 1
    # What is new goes to the first directory.
    grown = grown / name
    grown.mkdir(parents=True, exist_ok=True)
    return [program, *BASE, *limits, f'-max_len={length}', f'-detect_leaks={leaks}',
            f'-artifact_prefix={findings}/{program.name}-',
            grown, corpora / name]


def fuzz(program, corpora, grown, limits):
    options = ':'.join(filter(None, [os.environ.get('ASAN_OPTIONS'), ASAN_OPTIONS]))
    with tempfile.TemporaryDirectory() as scratch:
        grown = grown or pathlib.Path(scratch)
        run = subprocess.run(command(program, corpora, grown, limits), stdin=subprocess.DEVNULL,
                             env={**os.environ, 'ASAN_OPTIONS': options},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    lines = run.stdout.decode(errors='replace').splitlines()
    return run.returncode, lines


def executions(lines):
    for line in lines:
        if line.startswith('stat::number_of_executed_units:'):
            return f'{int(line.split()[-1]):,} executions'
    return lines[-1] if lines else ''


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--corpora', type=pathlib.Path, required=True)
    parser.add_argument('--grown', type=pathlib.Path, help='where inputs that reach more are kept, for the next run')
    parser.add_argument('--seconds', type=int, default=8, help='for each, at most')
    parser.add_argument('--executions', type=int, default=-1, help='for each; then there is no limit of time')
    parser.add_argument('program', type=pathlib.Path, nargs='+')
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root: the private socket is root\'s')
        return 0
    limits = [f'-runs={arguments.executions}']
    if arguments.executions < 0:
        limits.append(f'-max_total_time={arguments.seconds}')
    print(f'1..{len(arguments.program)}', flush=True)
    good = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(fuzz, program, arguments.corpora, arguments.grown, limits) for program in arguments.program]
        for number, (program, run) in enumerate(zip(arguments.program, runs), 1):
            code, lines = run.result()
            good = good and code == 0
            print('ok' if code == 0 else 'not ok', number, f'- {program.name}: {executions(lines)}', flush=True)
            for line in lines[-80:] if code else []:
                print('#', line)
    return 0 if good else 1


sys.exit(main())
