#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads authorization.md; run as a program, compares it with the interface.

The build runs it: each method of the XML has a row, and each row is of a method that there is. A
property that can be written has one, too: 'Properties.Set Manager.Limit'.
"""
import argparse
import itertools
import sys
import xml.etree.ElementTree as ElementTree
from collections import namedtuple
from pathlib import Path

# What sd-bus serves beside the interface, and the door for root alone.
STANDARD = ('ObjectManager.GetManagedObjects', 'Properties.Get', 'Properties.GetAll', 'Properties.Set',
            'Introspectable.Introspect', 'Peer.Ping', 'Peer.GetMachineId', 'connecting to `/run/loopd/bus`')

# cells: column → word.
Row = namedtuple('Row', 'call actions cells')
# Names of errors, or 'allowed'; dialog: whether there is one, with the flag.
Meaning = namedtuple('Meaning', 'plain interactive dialog')


def tables_in(text):
    """Each table as a list of its lines, and each line as a list of cells."""
    tables = []
    inside = False
    for line in text.splitlines():
        if not line.startswith('|'):
            inside = False
            continue
        if not inside:
            tables.append([])
        inside = True
        tables[-1].append([cell.strip() for cell in line.strip('|').split('|')])
    return tables


class Table:
    """rows: the matrix; columns: its callers; words: word → Meaning."""

    def __init__(self, text):
        matrix, words = tables_in(text)
        self.columns = matrix[0][2:]
        self.rows = [Row(cells[0], [action for action in cells[1].split(', ') if action],
                         dict(itertools.zip_longest(self.columns, cells[2:])))
                     for cells in matrix[2:]]
        self.words = {word: Meaning(plain, interactive, dialog == 'with the flag')
                      for word, plain, interactive, dialog in words[2:]}


def calls_of(interface_xml):
    """What there has to be a row of."""
    calls = list(STANDARD)
    for interface in ElementTree.fromstring(interface_xml).findall('interface'):
        name = interface.get('name').rpartition('.')[2]
        calls += [f'{name}.{method.get("name")}' for method in interface.findall('method')]
        calls += [f'Properties.Set {name}.{written.get("name")}' for written in interface.findall('property')
                  if written.get('access') != 'read']
    return calls


def complaints(table, calls):
    # 'Manager.Attach, `reference`' is another row of Manager.Attach.
    rows = [row.call for row in table.rows]
    methods = [call.partition(',')[0] for call in rows]
    for call in calls:
        if call not in rows:
            yield f'{call}: has no row; say there who may call it'
    for method in sorted(set(methods) - set(calls)):
        yield f'{method}: has a row, and is not in the interface'
    for call in sorted({call for call in rows if rows.count(call) > 1}):
        yield f'{call}: has two rows'
    for row in table.rows:
        for column, word in row.cells.items():
            if word not in table.words:
                yield f'{row.call}: {column}: the word "{word}" has no meaning'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('interface', type=Path)
    parser.add_argument('table', type=Path)
    parser.add_argument('--stamp', type=Path, help='a file that is written if all is well')
    arguments = parser.parse_args()
    table = Table(arguments.table.read_text(encoding='utf-8'))
    found = list(complaints(table, calls_of(arguments.interface.read_text(encoding='utf-8'))))
    for complaint in found:
        print(f'{arguments.table.name}: {complaint}')
    if not found and arguments.stamp:
        arguments.stamp.write_text('', encoding='utf-8')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
