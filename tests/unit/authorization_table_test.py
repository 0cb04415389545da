#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the build checks of the table of who may call what fails where it should, and names the culprit."""
import importlib.util
import pathlib
import sys
import unittest

TOP = pathlib.Path(sys.argv.pop(1))
specification = importlib.util.spec_from_file_location("authorization_table", TOP / "policy/authorization_table.py")
authorization_table = importlib.util.module_from_spec(specification)
specification.loader.exec_module(authorization_table)

INTERFACE = (TOP / "dbus/org.example.Loop1.xml").read_text(encoding="utf-8")
TABLE = (TOP / "policy/authorization.md").read_text(encoding="utf-8")


class AnAuthorizationTable(unittest.TestCase):
    def complaints(self, interface=INTERFACE, table=TABLE):
        calls = authorization_table.calls_of(interface)
        return list(authorization_table.complaints(authorization_table.Table(table), calls))

    def changed(self, text, old, new):
        self.assertIn(old, text)
        return text.replace(old, new, 1)

    def row(self, call):
        return next(line + "\n" for line in TABLE.splitlines() if line.startswith(f"| {call} |"))

    def assert_names(self, complaints, culprit):
        self.assertEqual([complaint.partition(": ")[0] for complaint in complaints], [culprit])

    def test_is_complete(self):
        self.assertEqual(self.complaints(), [])

    def test_misses_a_new_method(self):
        interface = self.changed(INTERFACE, '<method name="Resize">', '<method name="Wipe"/><method name="Resize">')
        self.assert_names(self.complaints(interface), "Loop1.Wipe")

    def test_has_no_row_of_a_method_that_is_gone(self):
        table = self.changed(TABLE, self.row("Loop1.Open"), self.row("Loop1.Open").replace("Open", "Gone") + self.row("Loop1.Open"))
        self.assert_names(self.complaints(table=table), "Loop1.Gone")

    def test_misses_a_row_that_was_deleted(self):
        for call in "Manager.AttachPath", "Loop1.Remove", "Properties.Set":
            self.assert_names(self.complaints(table=self.changed(TABLE, self.row(call), "")), call)

    def test_misses_a_property_that_can_be_written(self):
        interface = self.changed(INTERFACE, 'name="Autoclear" type="b" access="read"',
                                 'name="Autoclear" type="b" access="readwrite"')
        self.assert_names(self.complaints(interface), "Properties.Set Loop1.Autoclear")

    def test_has_one_row_of_each_call(self):
        self.assert_names(self.complaints(table=self.changed(TABLE, self.row("Loop1.Open"), 2 * self.row("Loop1.Open"))),
                          "Loop1.Open")

    def test_has_only_words_with_a_meaning(self):
        row = self.row("Loop1.Open")
        self.assert_names(self.complaints(table=self.changed(TABLE, row, row.replace("dismissed", "perhaps"))),
                          "Loop1.Open")

    def test_has_a_word_in_each_cell(self):
        row = self.row("Loop1.Open")
        self.assert_names(self.complaints(table=self.changed(TABLE, row, row.replace("| dismissed ", ""))), "Loop1.Open")


if __name__ == "__main__":
    unittest.main()
