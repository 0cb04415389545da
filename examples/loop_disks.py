#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk utility in a page: lists, attaches, watches and removes loop devices with GLib's D-Bus.

    loop_disks.py list
    loop_disks.py attach IMAGE      read-only, with its partitions
    loop_disks.py remove DEVICE     /dev/loop3
    loop_disks.py watch             a line for all that comes, changes and goes
"""

import sys

from gi.repository import Gio, GLib

NAME = "org.example.Loop1"
ROOT = "/org/example/Loop1"


def manager():
    """GDBus does not show the object at the object manager's own path: that has a proxy of its own."""
    return Gio.DBusProxy.new_for_bus_sync(Gio.BusType.SYSTEM, Gio.DBusProxyFlags.NONE, None, NAME, ROOT,
                                          NAME + ".Manager")


def objects():
    return Gio.DBusObjectManagerClient.new_for_bus_sync(
        Gio.BusType.SYSTEM, Gio.DBusObjectManagerClientFlags.NONE, NAME, ROOT)


def describe(bus_object):
    """One line for a device or a partition, from what the object manager has sent already."""
    partition = bus_object.get_interface(NAME + ".Partition")
    proxy = partition or bus_object.get_interface(NAME)
    what = "Name" if partition else "BackingFile"
    dev_path, size, text = (proxy.get_cached_property(name).unpack() for name in ("DevPath", "Size", what))
    return f"{dev_path}  {size} bytes  {text}"


def list_devices():
    for bus_object in sorted(objects().get_objects(), key=lambda o: o.get_object_path()):
        print(describe(bus_object))


def attach(image):
    proxy = manager()
    files = Gio.UnixFDList.new()
    with open(image, "rb") as file:
        handle = files.append(file.fileno())
    options = {"read-only": GLib.Variant("b", True), "partition-scan": GLib.Variant("b", True)}
    reply, _ = proxy.call_with_unix_fd_list_sync("Attach", GLib.Variant("(ha{sv})", (handle, options)),
                                                 Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, -1, files)
    print(describe(objects().get_object(reply.unpack()[0])))


def remove(dev_path):
    path = manager().GetDevice("(s)", dev_path)
    objects().get_interface(path, NAME).call_sync(
        "Remove", None, Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, -1)


def watch():
    def say(text):
        print(text, flush=True)

    def changed(_manager, bus_object, _proxy, properties, _invalidated):
        for name, value in properties.unpack().items():
            say(f"~ {bus_object.get_object_path()}  {name}: {value}")

    client = objects()
    client.connect("object-added", lambda _, o: say(f"+ {describe(o)}"))
    client.connect("object-removed", lambda _, o: say(f"- {o.get_object_path()}"))
    client.connect("interface-proxy-properties-changed", changed)
    say("watching")
    GLib.MainLoop().run()


VERBS = {("list", 0): list_devices, ("attach", 1): attach, ("remove", 1): remove, ("watch", 0): watch}


def main():
    verb = VERBS.get((sys.argv[1], len(sys.argv) - 2)) if len(sys.argv) > 1 else None
    if not verb:
        sys.exit(__doc__)
    try:
        verb(*sys.argv[2:])
    except (GLib.Error, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
