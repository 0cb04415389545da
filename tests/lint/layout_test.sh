#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The sources have the layout of .clang-format, as that version writes it: another writes other blanks.
set -eu
cd "$1"
if ! type clang-format-14 >/dev/null 2>&1; then
    echo "clang-format-14 is not installed; on Debian 12 tools/setup --checks does it"
    exit 77
fi
find core dbus examples service tests units -name '*.[ch]pp' -print0 |
    xargs -0 -P "$(nproc)" -n 16 clang-format-14 --dry-run --Werror
