# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names the loop devices that a machine has at its end, but for those that go by themselves."""
import leftovers

for device in leftovers.settled(leftovers.loop_devices):
    print(device)
