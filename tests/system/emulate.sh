#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: emulate.sh DIRECTORY LOWER EMULATOR CONSOLE
#
# Boots a virtual machine on an ext4 made of LOWER, a list as overlayfs takes it, with the
# kernel and the initrd that are in it. QEMU is that of EMULATOR, a root tree. The disk is in
# memory; what the system leaves in its /testbed/results is in DIRECTORY/results afterwards.
#
# Runs as the first process of a PID namespace, in a mount namespace of its own, as contain.sh does.
set -eu

directory=$1 lower=$2 emulator=$3 console=$4
memory=$directory/memory
# shellcheck source-path=SCRIPTDIR source=root.sh
. "$(dirname "$0")/root.sh"

# What QEMU sees of this machine: its devices, and a directory with the disk.
prepare_emulator() {
    mkdir "$memory/machine"
    truncate --size=2G "$memory/machine/disk"
    mke2fs -q -t ext4 -d "$root" "$memory/machine/disk"
    cp "$root"/boot/vmlinuz-* "$memory/machine/kernel"
    cp "$root"/boot/initrd.img-* "$memory/machine/initrd"
    mount --rbind /dev "$emulator/dev"
    mount --bind "$memory/machine" "$emulator/mnt"
}

# With hardware's help where there is some. A processor that can little has few modules loaded for it. An oops or a panic is the end.
emulate() { # CONSOLE
    accelerator=${LOOPD_ACCELERATOR-}
    if [ -z "$accelerator" ] && [ -w /dev/kvm ]; then accelerator=kvm; fi
    : "${accelerator:=tcg,thread=multi}"
    nice -n 5 chroot "$emulator" qemu-system-x86_64 -machine q35 -accel "$accelerator" -cpu qemu64,-svm -smp 2 -m 1024 \
        -nodefaults -display none -no-reboot -serial "$1" \
        -kernel /mnt/kernel -initrd /mnt/initrd \
        -append "root=/dev/vda rw console=ttyS0 quiet mitigations=off oops=panic panic=-1" \
        -drive file=/mnt/disk,format=raw,if=virtio,cache=unsafe
}

# Nothing is mounted here for it, which would take a loop device of this machine's.
take_results() {
    e2fsck -fp "$memory/machine/disk" >"$directory/results/fsck" 2>&1 || true
    debugfs -R "rdump /testbed/results $memory/machine" "$memory/machine/disk" >/dev/null 2>&1
    cp "$memory/machine/results/"* "$directory/results"
    debugfs -R "rdump /var/log/journal $root/mnt" "$memory/machine/disk" >/dev/null 2>&1
    write_journal "$directory" /mnt/journal
}

mount_root "$directory" "$lower"
prepare_emulator
code=0
case $console in
interactive) emulate mon:stdio || code=$? ;;
*) emulate stdio || code=$? ;;
esac
take_results
exit "$code"
