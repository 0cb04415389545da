#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion knows every verb and every option that loopctl has, and no other.

Calls bash's completion as bash does, and zsh's in a zsh on a terminal; both are compared
with loopctl's own --help.
"""

import os
import pathlib
import re
import subprocess
import sys

BASH = r"""
. "$1"; shift
COMP_WORDS=(loopctl "$@")
COMP_CWORD=$#
_loopctl
printf '%s\n' "${COMPREPLY[@]}"
"""

# compadd is what zsh's completion ends in: here it says what it was given. What the
# terminal shows is read up to a mark.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PROMPT=; stty -echo'
zpty -w z "fpath=(${(q)1} \$fpath); path=(${(q)2} \$path)"
zpty -w z 'autoload -Uz compinit; compinit -D -u; autoload -Uz _loopctl; compdef _loopctl loopctl'
zpty -w z 'mark() { print -r -- MARK; BUFFER= }; zle -N mark'
zpty -w z 'compadd() { builtin compadd -O __hits "$@"; print -rl -- HIT:${^__hits}; builtin compadd "$@" }'
zpty -w z 'show() { compstate[insert]=; compstate[list]=; _main_complete }; zle -C show complete-word show'
zpty -w z "bindkey '^I' show; bindkey '^B' mark; print READY"
zpty -r z shown $'*READY\r\n'
for line in "${@:3}"; do
    zpty -w -n z "$line"$'\t\x02'
    zpty -r z shown $'*MARK\r\n'
    print -r -- "$shown"
    print -r -- "END"
done
zpty -d z
"""


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, **options).stdout


class Completion:
    def __init__(self, loopctl, directory):
        self.loopctl = loopctl
        self.directory = directory
        self.environment = {**os.environ, "PATH": f"{pathlib.Path(loopctl).parent}:{os.environ['PATH']}"}

    def bash(self, *words):
        script = self.directory / "loopctl"
        replies = run(["bash", "--norc", "-c", BASH, "bash", script, *words], env=self.environment)
        return {reply.rstrip("=") for reply in replies.split("\n") if reply}

    def zsh(self, lines):
        """All in one shell, as starting its completion takes a second; a set for each line."""
        where = [self.directory, pathlib.Path(self.loopctl).parent]
        shown = run(["zsh", "-f", "-c", ZSH, "zsh", *where, *lines], env=self.environment)
        return [set(re.findall(r"HIT:(\S+)", part)) for part in shown.split("\nEND\n")]

    def help(self, *words):
        return run([self.loopctl, *words, "--help"])


def options_in(text):
    lines = [line for line in text.splitlines() if re.match(r"^\s+(-\w, )?--", line)]
    return {"--" + re.search(r"--([a-z-]+)", line)[1] for line in lines}


def compare(what, completed, wanted):
    for name in sorted(wanted - completed):
        yield f"{what}: {name} is not completed"
    for name in sorted(completed - wanted):
        yield f"{what}: {name} is completed, but is nothing that loopctl knows"


def complaints(completion):
    verbs = set(re.findall(r"^  (\w+) .*\S", completion.help().split("Options:")[0], re.MULTILINE))
    if len(verbs) < 5:
        yield "--help: has hardly any verbs"
    yield from compare("bash, verbs", completion.bash(""), verbs)
    first, *others = completion.zsh(["loopctl "] + [f"loopctl {verb} --" for verb in sorted(verbs)])
    yield from compare("zsh, verbs", first, verbs)
    for verb, options in zip(sorted(verbs), others):
        wanted = options_in(completion.help(verb))
        yield from compare(f"bash, {verb} --", completion.bash(verb, "--"), wanted)
        yield from compare(f"zsh, {verb} --", options, wanted)
    columns = set(run([completion.loopctl, "list", "--output=help"]).split())
    yield from compare("bash, columns", completion.bash("list", "--output", "=", ""), columns)
    yield from compare("bash, columns", completion.bash("list", "-o", ""), columns)
    behind = {f"DEVICE,{column}" for column in columns}
    yield from compare("bash, second column", completion.bash("list", "-o", "DEVICE,"), behind)
    yield from compare("bash, modes", completion.bash("list", "--json", "="), {"short", "pretty", "off"})


def main():
    found = list(complaints(Completion(sys.argv[1], pathlib.Path(sys.argv[2]))))
    for complaint in found:
        print(complaint)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
