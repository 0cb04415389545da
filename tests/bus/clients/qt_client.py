#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""QtDBus, by PyQt: calls with a descriptor, properties, signals."""

import os
import sys
import unittest

from PyQt5.QtCore import QCoreApplication, QEventLoop, QObject, QTimer, pyqtSlot
from PyQt5.QtDBus import QDBusConnection, QDBusInterface, QDBusMessage, QDBusUnixFileDescriptor

from images import MIB, make_image

NAME = "org.example.Loop1"
ROOT = "/org/example/Loop1"
PATIENCE_MS = 20_000


class Listener(QObject):
    """Collects signals as (member, arguments)."""

    def __init__(self):
        super().__init__()
        self.heard = []
        self.loop = QEventLoop()

    @pyqtSlot(QDBusMessage)
    def hear(self, message):
        self.heard.append((message.member(), message.arguments()))
        self.loop.quit()

    def wait_for(self, member, first):
        timer = QTimer()
        timer.setSingleShot(True)
        timer.timeout.connect(self.loop.quit)
        timer.start(PATIENCE_MS)
        while not any(m == member and a[0] == first for m, a in self.heard):
            if not timer.isActive():
                raise AssertionError(f"no {member} of {first} in {self.heard}")
            self.loop.exec_()


class QtDBus(unittest.TestCase):
    def setUp(self):
        self.bus = QDBusConnection.systemBus()
        self.assertTrue(self.bus.isConnected(), self.bus.lastError().message())
        self.manager = QDBusInterface(NAME, ROOT, NAME + ".Manager", self.bus)
        self.assertTrue(self.manager.isValid())

    def call(self, interface, member, *arguments):
        reply = interface.call(member, *arguments)
        self.assertEqual(reply.type(), QDBusMessage.ReplyMessage, reply.errorMessage())
        return reply.arguments()

    def test_attaches_follows_and_removes(self):
        image = make_image("qt.img", partitions=[(MIB, MIB)])
        listener = Listener()
        self.assertTrue(self.bus.connect(NAME, "", NAME, "PartitionRemoved", listener.hear))
        with open(image, "r+b") as file:
            path, = self.call(self.manager, "Attach", QDBusUnixFileDescriptor(file.fileno()),
                              {"partition-scan": True})
        device = QDBusInterface(NAME, path, NAME, self.bus)
        self.assertTrue(device.isValid(), device.lastError().message())
        properties = QDBusInterface(NAME, path, "org.freedesktop.DBus.Properties", self.bus)
        shown, = self.call(properties, "GetAll", NAME)
        self.assertEqual(shown["BackingFile"], image)
        self.assertEqual(shown["Size"], 8 * MIB)
        self.assertEqual(shown["Partitions"], [path + "/p1"])
        os.truncate(image, 10 * MIB)
        self.assertEqual(self.call(device, "Resize"), [8 * MIB, 10 * MIB])
        self.assertEqual(self.call(properties, "Get", NAME, "Size"), [10 * MIB])
        self.call(device, "Remove")
        listener.wait_for("PartitionRemoved", path + "/p1")

    def test_gets_errors_by_name(self):
        reply = self.manager.call("GetDevice", "/dev/null")
        self.assertEqual(reply.type(), QDBusMessage.ErrorMessage)
        self.assertEqual(reply.errorName(), NAME + ".Error.NotALoopDevice")


if __name__ == "__main__":
    application = QCoreApplication(sys.argv)
    unittest.main()
