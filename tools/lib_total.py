#!/usr/bin/env python3
"""Sums up the tests of a `meson test` run from its JSON logs, and names those that were skipped.

Of a program that speaks GoogleTest's or TAP's language its own tests are counted, of any other the program. The last line is the total.
Exit code: 0, or 1 where a test failed, none was run, or (with --no-skips) one was skipped.
"""
import json
import re
import sys

GOOD = {'OK', 'EXPECTEDFAIL', 'SKIP'}
TAP = re.compile(r'(ok|not ok) \d+ - .*$')
OUTCOME = re.compile(r'\[ +(OK|FAILED|SKIPPED) +\] (\S+?),? .*\(\d+ ms\)$')


class Total:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = []

    def add(self, result):
        lines = result.get('stdout', '').splitlines()
        if any(line.startswith('[==========] Running') for line in lines):
            self.add_googletest(lines, result['result'])
        elif any(TAP.match(line) for line in lines):
            self.add_tap(lines, result['result'])
        elif result['result'] == 'SKIP':
            self.skipped.append(': '.join([result['name'], *lines[-1:]]))
        elif result['result'] in GOOD:
            self.passed += 1
        else:
            self.failed += 1

    def add_googletest(self, lines, outcome):
        failed = 0
        reason = ''
        for before, line in zip([''] + lines, lines):
            if before.endswith(': Skipped'):
                reason = line
            match = OUTCOME.match(line)
            if not match:
                continue
            if match[1] == 'OK':
                self.passed += 1
            elif match[1] == 'FAILED':
                failed += 1
            else:
                self.skipped.append(f'{match[2]}: {reason}')
        self.add_failures(failed, outcome)

    def add_tap(self, lines, outcome):
        outcomes = [match[1] for match in map(TAP.match, lines) if match]
        self.passed += outcomes.count('ok')
        self.add_failures(outcomes.count('not ok'), outcome)

    def add_failures(self, failed, outcome):
        if outcome not in GOOD and failed == 0:
            failed = 1  # a crash, a timeout, something left behind at the end
        self.failed += failed


def main():
    arguments = sys.argv[1:]
    no_skips = '--no-skips' in arguments
    total = Total()
    for log in arguments:
        if log == '--no-skips':
            continue
        with open(log, encoding='utf-8', errors='replace') as file:
            for line in file:
                total.add(json.loads(line))
    for name in total.skipped:
        print('skipped', name)
    if total.skipped and no_skips:
        print('here a test that is skipped counts as failed')
    print(f'{total.passed} passed, {total.failed} failed, {len(total.skipped)} skipped')
    nothing_run = total.passed + len(total.skipped) == 0
    return 1 if total.failed or nothing_run or (total.skipped and no_skips) else 0


sys.exit(main())
