#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""UDisks2 on the same bus: each sees what the other has attached, and either may remove it."""

import os
import pathlib
import subprocess
import unittest

from gi.repository import Gio, GLib

from glib_client import NAME, ROOT, attach, wait_until
from images import MIB, make_image

UDISKS = "org.freedesktop.UDisks2"
UDISKS_ROOT = "/org/freedesktop/UDisks2"


class BesideUDisks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # The first call finds the name on the bus: the test program has waited for it.
        cls.udisks = cls.follow(UDISKS, UDISKS_ROOT)
        cls.loopd = cls.follow(NAME, ROOT)

    @staticmethod
    def follow(name, path):
        return Gio.DBusObjectManagerClient.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, name, path)

    def udisks_loop(self, number, interface="Loop"):
        return self.udisks.get_interface(f"{UDISKS_ROOT}/block_devices/loop{number}", f"{UDISKS}.{interface}")

    def backing_file_at_udisks(self, number):
        loop = self.udisks_loop(number)
        return bytes(loop.get_cached_property("BackingFile")).rstrip(b"\0").decode() if loop else ""

    def device(self, number):
        return self.loopd.get_interface(f"{ROOT}/loop{number}", NAME)

    def set_up_by_udisks(self, image):
        """LoopSetup; the number of the device."""
        bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
        files = Gio.UnixFDList.new()
        with open(image, "r+b") as file:
            handle = files.append(file.fileno())
        reply, _ = bus.call_with_unix_fd_list_sync(
            UDISKS, UDISKS_ROOT + "/Manager", UDISKS + ".Manager", "LoopSetup",
            GLib.Variant("(ha{sv})", (handle, {})), GLib.VariantType("(o)"), Gio.DBusCallFlags.NONE, -1, files)
        return int(reply.unpack()[0].rpartition("loop")[2])

    def attach_by_loopd(self, image):
        number = int(attach(image, partition_scan=True).rpartition("loop")[2])
        wait_until(lambda: self.device(number) and self.backing_file_at_udisks(number) == image)
        return number

    def assert_is_gone_everywhere(self, number):
        wait_until(lambda: self.device(number) is None)
        wait_until(lambda: self.backing_file_at_udisks(number) == "")
        self.assertFalse(pathlib.Path(f"/sys/block/loop{number}/loop").exists())
        # Where another detached it, loopd deletes its partitions after that.
        wait_until(lambda: self.udisks.get_object(f"{UDISKS_ROOT}/block_devices/loop{number}p1") is None)
        self.assertEqual(list(pathlib.Path("/sys/block").glob(f"loop{number}/loop{number}p*")), [])

    def test_what_loopd_attached_goes_with_loopds_remove(self):
        number = self.attach_by_loopd(make_image("ours.img", partitions=[(MIB, MIB)]))
        self.device(number).Remove()
        self.assert_is_gone_everywhere(number)

    def test_what_loopd_attached_goes_with_udiskss_delete(self):
        number = self.attach_by_loopd(make_image("deleted.img", partitions=[(MIB, MIB)]))
        self.udisks_loop(number).Delete("(a{sv})", {})
        self.assert_is_gone_everywhere(number)

    def test_what_udisks_set_up_is_seen_and_goes_with_loopds_remove(self):
        image = make_image("theirs.img")
        number = self.set_up_by_udisks(image)
        wait_until(lambda: self.device(number) is not None)
        self.assertEqual(self.device(number).get_cached_property("BackingFile").unpack(), image)
        self.device(number).Remove()
        self.assert_is_gone_everywhere(number)

    def test_what_udisks_set_up_goes_with_udiskss_delete(self):
        number = self.set_up_by_udisks(make_image("both-theirs.img"))
        wait_until(lambda: self.device(number) is not None and self.udisks_loop(number) is not None)
        self.udisks_loop(number).Delete("(a{sv})", {})
        self.assert_is_gone_everywhere(number)

    def test_what_udisks_has_mounted_is_busy_and_stays_whole(self):
        image = make_image("mounted.img", size=16 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        number = self.attach_by_loopd(image)
        wait_until(lambda: self.udisks_loop(number, "Filesystem") is not None)
        filesystem = self.udisks_loop(number, "Filesystem")
        point = filesystem.Mount("(a{sv})", {})
        try:
            with self.assertRaises(GLib.Error) as caught:
                self.device(number).Remove()
            self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), NAME + ".Error.DeviceBusy")
            # udisksd has the mount in a mount namespace of its own; its device is as it was.
            autoclear = pathlib.Path(f"/sys/block/loop{number}/loop/autoclear").read_text(encoding="ascii")
            self.assertEqual(autoclear, "0\n")
            self.assertEqual(self.backing_file_at_udisks(number), image)
        finally:
            filesystem.Unmount("(a{sv})", {})
        self.assertTrue(point)
        self.device(number).Remove()
        self.assert_is_gone_everywhere(number)


if __name__ == "__main__":
    os.chdir("/")
    unittest.main()
