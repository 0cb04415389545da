# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a boot may leave: loop devices, and, of a container, cgroups of the machine, whose kernel it shares."""
import fcntl
import os
import re
import struct
import subprocess
import time
from pathlib import Path

LOOP_GET_STATUS64 = 0x4C05
LOOP_INFO64_SIZE = 232
CGROUPS = (Path('/sys/fs/cgroup'), Path('/sys/fs/cgroup/unified'))
PATIENCE = 5  # seconds, for what the kernel does after the container's last process


class LoopDevice:
    """An attached loop device, as the machine sees it."""

    def __init__(self, sysfs):
        self.name = sysfs.name
        self.disk_sequence = int((sysfs / 'diskseq').read_text())
        self.backing_file = (sysfs / 'loop/backing_file').read_text().rstrip('\n')
        with open(f'/dev/{self.name}', 'rb') as device:
            status = bytearray(LOOP_INFO64_SIZE)
            fcntl.ioctl(device, LOOP_GET_STATUS64, status)
        self.backing_dev = struct.unpack_from('=Q', status)[0]

    def __str__(self):
        return f'{self.name} of {self.backing_file}'

    def detach(self):
        for partition in Path(f'/sys/block/{self.name}').glob(f'{self.name}p*'):
            number = partition.name.rpartition('p')[2]
            subprocess.run(['delpart', f'/dev/{self.name}', number], capture_output=True, check=False)
        subprocess.run(['losetup', '--detach', f'/dev/{self.name}'], capture_output=True, check=False)


def loop_devices():
    found = []
    for attribute in Path('/sys/block').glob('loop*/loop'):
        try:
            found.append(LoopDevice(attribute.parent))
        except OSError:
            pass  # gone meanwhile
    return found


def last_disk_sequence():
    """Devices that are attached from now on have a higher one."""
    return max((int(file.read_text()) for file in Path('/sys/block').glob('*/diskseq')), default=0)


def file_systems():
    """Device numbers of all that the machine has mounted."""
    numbers = set()
    for line in Path('/proc/self/mountinfo').read_text(encoding='utf-8').splitlines():
        major, minor = map(int, line.split()[2].split(':'))
        numbers.add(os.makedev(major, minor))
    return numbers


def devices_since(disk_sequence):
    """Devices attached later, from file systems that only a container had; the newest first.

    A file system cannot go while a device has a file of it, so that no other gets its number.
    """
    here = file_systems()
    ours = []
    for device in sorted(loop_devices(), key=lambda device: device.disk_sequence):
        if device.disk_sequence <= disk_sequence:
            continue
        if device.backing_file.startswith('/dev/'):  # a block device's file is on no file system that is mounted
            is_ours = any(re.fullmatch(f'/dev/{other.name}(p[0-9]+)?', device.backing_file) for other in ours)
        else:
            is_ours = device.backing_dev not in here
        if is_ours:
            ours.append(device)
    return ours[::-1]


def settled_devices_since(disk_sequence):
    return settled(lambda: devices_since(disk_sequence))


def settled(look):
    """What there is to be seen when those have gone that go by themselves: mounts end some time after the container does."""
    deadline = time.monotonic() + PATIENCE
    while devices := look():
        if time.monotonic() > deadline or not all(autoclears(device) for device in devices):
            break
        time.sleep(0.01)
    return devices


def autoclears(device):
    try:
        return Path(f'/sys/block/{device.name}/loop/autoclear').read_text().strip() == '1'
    except OSError:
        return True


def detach_all(devices):
    for device in devices:
        device.detach()


def remove_cgroup(name):
    """With the cgroups below it; the container's processes are gone or about to be."""
    deadline = time.monotonic() + PATIENCE
    for mount in CGROUPS:
        top = mount / name
        while top.is_dir():
            for directory, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # still busy
            if time.monotonic() > deadline:
                return
            if top.is_dir():
                time.sleep(0.01)


def interrupted_cgroups(prefix):
    """Names of cgroups PREFIX.PID of processes that are no more."""
    for mount in CGROUPS:
        for cgroup in mount.glob(f'{prefix}.*'):
            if is_abandoned(cgroup.name):
                yield cgroup.name


def is_abandoned(name):
    """Whether the process in PREFIX.PID[.ANYTHING] is gone."""
    match = re.match(r'[^.]*\.(\d+)', name)
    return bool(match) and not os.path.exists(f'/proc/{match[1]}')
