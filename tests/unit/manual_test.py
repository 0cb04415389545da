#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages say what is there, all of it, and nothing else.

Compares the options of each program's --help with those of its page, and the methods,
signals, properties, options and errors of the interface with those of
org.example.Loop1(5); formats every page and fails where groff warns.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

INTERFACE = "org.example.Loop1"
# What a definition in a page begins with.
DEFINED_OPTION = re.compile(r"^\*--?[\w-]+\*.*$", re.MULTILINE)
LONG_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
# "  size-limit     t   most bytes": a key in the documentation of the interface.
KEY = re.compile(r"^\s*(?:@options:\s*)?([a-z][a-z-]*)\s+(b|s|t|u|ao)\s+\S")
ERROR = re.compile(r'"(org\.[\w.]+\.Error\.\w+)"')


def complain(what, missing, place):
    for name in sorted(missing):
        yield f"{what}: {name} is not in {place}"


def compare(first, first_place, second, second_place):
    yield from complain(first_place, first - second, second_place)
    yield from complain(second_place, second - first, first_place)


# ---- programs --------------------------------------------------------------------------


def options_of_help(program):
    text = subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout
    options = set()
    for line in text.splitlines():
        if re.match(r"^\s+(-\w, )?--", line):
            options.add(LONG_OPTION.search(line)[1])
    return options


def options_of_page(page):
    return {LONG_OPTION.search(line)[1] for line in DEFINED_OPTION.findall(page)}


def check_program(program, page):
    name = pathlib.Path(program).name
    found = options_of_help(program)
    if not found:
        yield f"{name} --help: names no option"
    yield from compare(found, f"{name} --help", options_of_page(page), f"the page of {name}")


# ---- the interface ---------------------------------------------------------------------


def arguments(element, direction):
    return ", ".join(
        f"{a.get('type')} _{a.get('name')}_" for a in element.findall("arg") if a.get("direction") in (None, direction)
    )


def method_line(method):
    results = arguments(method, "out")
    return f"*{method.get('name')}*({arguments(method, 'in')})" + (f" → {results}" if results else "")


def interface_definitions(root):
    """Heading of the page → lines that it has to have."""
    short = {INTERFACE + ".Manager": "THE MANAGER", INTERFACE: "A DEVICE", INTERFACE + ".Partition": "A PARTITION"}
    definitions = {}
    for interface in root.findall("interface"):
        of = short[interface.get("name")]
        for kind, heading, line in (
            ("method", "METHODS OF", method_line),
            ("signal", "SIGNALS OF", lambda s: f"*{s.get('name')}*({arguments(s, 'out')})"),
            ("property", "PROPERTIES OF", lambda p: f"*{p.get('name')}* {p.get('type')}"),
        ):
            lines = {line(element) for element in interface.findall(kind)}
            if lines:
                definitions[f"{heading} {of}"] = lines
    return definitions


def keys_in(comment):
    return {f"*{match[1]}* ({match[2]})" for match in map(KEY.match, comment.splitlines()) if match}


def option_definitions(text):
    """The same for dictionaries, which the interface documents in comments."""
    comments = re.findall(r"<!--(.*?)-->", text, re.DOTALL)

    def comment_of(name):
        return next(c for c in comments if c.strip().startswith(name + ":"))

    return {
        "OPTIONS OF ATTACH": keys_in(comment_of(INTERFACE + ".Manager")),
        "FACTS OF PROBE": keys_in(comment_of("Probe")),
        "OPTIONS OF RESIZEWITHOPTIONS": keys_in(comment_of("ResizeWithOptions")),
        "OPTIONS OF REMOVEWITHOPTIONS": keys_in(comment_of("RemoveWithOptions")),
    }


def sections_of(page):
    """Heading → definition lines below it."""
    sections = {}
    for part in re.split(r"^# ", page, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        sections[heading] = {line for line in body.splitlines() if line.startswith("*")}
    return sections


def check_interface(top, page):
    text = (top / "dbus/org.example.Loop1.xml").read_text(encoding="utf-8")
    names = (top / "dbus/names.hpp").read_text(encoding="utf-8")
    wanted = {
        **interface_definitions(ElementTree.fromstring(text)),
        **option_definitions(text),
        "ERRORS": {f"*{name}*" for name in ERROR.findall(names)},
    }
    sections = sections_of(page)
    for heading, lines in wanted.items():
        if not lines:
            yield f"{heading}: nothing of it was found in the source"
        yield from compare(lines, "the interface", sections.get(heading, set()), f"the page, below {heading}")


# ---- all pages -------------------------------------------------------------------------


def check_format(path):
    command = ["groff", "-k", "-t", "-man", "-Tutf8", "-ww", "-z", path]
    warnings = subprocess.run(command, capture_output=True, text=True, check=False)
    if warnings.returncode != 0 or warnings.stderr:
        yield f"{path}: groff: {warnings.stderr}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--program", action="append", default=[])
    parser.add_argument("pages", nargs="+")
    arguments_given = parser.parse_args()
    top = arguments_given.source

    found = []
    for program in arguments_given.program:
        page = next((top / "docs").glob(pathlib.Path(program).name + ".[18].scd"))
        found += check_program(program, page.read_text(encoding="utf-8"))
    found += check_interface(top, (top / "docs/org.example.Loop1.5.scd").read_text(encoding="utf-8"))
    for page in arguments_given.pages:
        found += check_format(page)
    sources = {path.stem for path in (top / "docs").glob("*.scd")}
    found += compare(sources, "docs/", {pathlib.Path(page).name for page in arguments_given.pages}, "what is built")
    for complaint in found:
        print(complaint)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
