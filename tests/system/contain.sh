#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: contain.sh DIRECTORY LOWER CGROUP CONSOLE
#
# Boots systemd in a container on an overlay of LOWER, a list as overlayfs takes it.
# What it writes is in memory, except for what is in DIRECTORY/results, which the
# container sees as /testbed/results. CONSOLE is one of systemd-nspawn's modes.
#
# Runs as the first process of a PID namespace, in a mount namespace of its own: the
# kernel takes down all of it when this script ends, however it ends.
set -eu

directory=$1 lower=$2 cgroup=$3 console=$4
# shellcheck source-path=SCRIPTDIR source=root.sh
. "$(dirname "$0")/root.sh"

mount -t tmpfs tmpfs /run # where nspawn leaves things
mount_root "$directory" "$lower"

# With the hybrid layout of cgroups, systemd does not enforce DevicePolicy=.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$cgroup"
echo 0 >"/sys/fs/cgroup/$cgroup/cgroup.procs"

code=0
SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet \
    --directory="$root" --register=no --keep-unit --private-network --link-journal=no \
    --resolv-conf=off --timezone=off --console="$console" \
    --kill-signal=SIGRTMIN+3 --capability=all --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO \
    --system-call-filter=bpf --bind="$directory/results:/testbed/results" \
    /testbed/init || code=$?

write_journal "$directory" /var/log/journal
exit "$code"
