#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""GLib's own object manager and proxies, as desktops use them."""

import os
import unittest

from gi.repository import Gio, GLib

from images import MIB, make_image

NAME = "org.example.Loop1"
ROOT = "/org/example/Loop1"
PATIENCE_SECONDS = 20


def wait_until(condition):
    """Runs the main loop, which emits the signals, until the condition holds."""
    late = []
    timer = GLib.timeout_add_seconds(PATIENCE_SECONDS, lambda: late.append(True))
    while not condition() and not late:
        GLib.MainContext.default().iteration(True)
    if late:
        raise AssertionError("waited in vain")
    GLib.source_remove(timer)


def attach(path, **options):
    """The new device's object path."""
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
    files = Gio.UnixFDList.new()
    with open(path, "r+b") as file:
        handle = files.append(file.fileno())
    arguments = GLib.Variant("(ha{sv})", (handle, {
        key.replace("_", "-"): GLib.Variant("b", value) for key, value in options.items()}))
    reply, _ = bus.call_with_unix_fd_list_sync(NAME, ROOT, NAME + ".Manager", "Attach", arguments,
                                               GLib.VariantType("(o)"), Gio.DBusCallFlags.NONE, -1, files)
    return reply.unpack()[0]


class ObjectManagerClient(unittest.TestCase):
    def setUp(self):
        self.manager = Gio.DBusObjectManagerClient.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, NAME, ROOT)
        self.heard = []
        self.manager.connect("object-added", lambda _, o: self.heard.append(("added", o.get_object_path())))
        self.manager.connect("object-removed",
                             lambda _, o: self.heard.append(("removed", o.get_object_path())))
        self.manager.connect("interface-proxy-properties-changed", self.note_change)

    def note_change(self, _manager, proxied, _proxy, changed, _invalidated):
        for name, value in changed.unpack().items():
            self.heard.append((name, proxied.get_object_path(), value))

    def device(self, path, interface=NAME):
        return self.manager.get_interface(path, interface)

    def test_follows_a_device_from_its_first_to_its_last_moment(self):
        image = make_image("glib.img", partitions=[(MIB, MIB), (3 * MIB, MIB)])
        path = attach(image, partition_scan=True)
        wait_until(lambda: ("added", path + "/p2") in self.heard)
        device = self.device(path)
        # It was complete when it was announced: the proxy has the properties without asking.
        cached = {name: device.get_cached_property(name).unpack() for name in device.get_cached_property_names()}
        self.assertEqual(cached["BackingFile"], image)
        self.assertEqual(cached["Size"], 8 * MIB)
        self.assertTrue(cached["PartitionScan"])
        self.assertEqual(cached["Partitions"], [path + "/p1", path + "/p2"])
        partition = self.device(path + "/p2", NAME + ".Partition")
        self.assertEqual(partition.get_cached_property("Offset").unpack(), 3 * MIB)
        self.assertEqual(partition.get_cached_property("Device").unpack(), path)

        os.truncate(image, 12 * MIB)
        self.assertEqual(device.Resize(), (8 * MIB, 12 * MIB))
        wait_until(lambda: ("Size", path, 12 * MIB) in self.heard)
        self.assertEqual(device.get_cached_property("Size").unpack(), 12 * MIB)

        device.Remove()
        wait_until(lambda: ("removed", path) in self.heard)
        self.assertIsNone(self.manager.get_object(path))
        for object_path in (path, path + "/p1", path + "/p2"):
            self.assertEqual(self.heard.count(("added", object_path)), 1, object_path)
            self.assertEqual(self.heard.count(("removed", object_path)), 1, object_path)

    def test_has_what_was_there_before_it_came(self):
        path = attach(make_image("before.img"))
        later = Gio.DBusObjectManagerClient.new_for_bus_sync(
            Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, NAME, ROOT)
        self.assertEqual(later.get_interface(path, NAME).get_cached_property("DevPath").unpack(),
                         "/dev/" + os.path.basename(path))
        later.get_interface(path, NAME).Remove()

    def test_does_not_show_the_object_at_its_own_path(self):
        # A limit of GDBus, which our documentation tells of: if this fails one day, tell no more.
        self.assertIsNone(self.manager.get_object(ROOT))
        proxy = Gio.DBusProxy.new_for_bus_sync(Gio.BusType.SYSTEM, Gio.DBusProxyFlags.NONE, None, NAME, ROOT,
                                               NAME + ".Manager")
        self.assertIn("partition-scan", proxy.get_cached_property("SupportedOptions").unpack())

    def test_gets_errors_by_name(self):
        with self.assertRaises(GLib.Error) as caught:
            attach(make_image("wrong.img"), no_such_option=True)
        self.assertEqual(Gio.DBusError.get_remote_error(caught.exception),
                         "org.freedesktop.DBus.Error.InvalidArgs")


if __name__ == "__main__":
    unittest.main()
