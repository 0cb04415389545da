# SPDX-License-Identifier: LGPL-2.1-or-later
"""Image files for the clients, in the directory that the test program has made."""

import os

MIB = 1024 * 1024
SECTOR = 512


def make_image(name, size=8 * MIB, partitions=()):
    """A file with an MBR; partitions are (first byte, bytes)."""
    path = os.path.join(os.environ["LOOPD_TEST_SCRATCH"], name)
    table = b""
    for start, length in partitions:
        table += bytes([0, 0, 0, 0, 0x83, 0, 0, 0])
        table += (start // SECTOR).to_bytes(4, "little") + (length // SECTOR).to_bytes(4, "little")
    with open(path, "wb") as file:
        file.write(bytes(446) + table.ljust(64, b"\0") + (b"\x55\xaa" if partitions else b"\0\0"))
        file.truncate(size)
    return path
