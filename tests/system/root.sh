# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The root that is booted, for contain.sh and emulate.sh. Sourced.

# An overlay of LOWER, a list as overlayfs takes it. What is written to it is in memory, in DIRECTORY/memory.
mount_root() { # DIRECTORY LOWER
    mkdir -p "$1/memory"
    mount -t tmpfs -o size=75%,mode=755 tmpfs "$1/memory"
    mkdir "$1/memory/upper" "$1/memory/work" "$1/memory/root"
    root=$1/memory/root
    mount -t overlay -o "lowerdir=$2,upperdir=$1/memory/upper,workdir=$1/memory/work" overlay "$root"

    # What a package's scripts would do; systemd itself would at its first boot, together with much that takes time.
    systemd-sysusers --root="$root" >"$1/results/sysusers" 2>&1
    touch "$root/etc/.updated" "$root/var/.updated"
}

# The journal of a system whose journals are in JOURNALS, as text, in DIRECTORY/results/journal.
write_journal() { # DIRECTORY JOURNALS
    chroot "$root" journalctl --directory="$2" --output=short-monotonic --no-hostname >"$1/results/journal" 2>&1 || true
}
