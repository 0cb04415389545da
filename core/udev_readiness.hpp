// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <vector>

#include "core/node_deletion.hpp"
#include "core/partition.hpp"

namespace loop {

class UdevMonitor;

// Waits until udev is done with a device that was just attached, and with its
// partitions: then nodes and links are there. The monitor is older than the
// attachment. Not to be called while the device's lock is held, for which udev
// waits. False: the deadline has passed.
bool wait_for_udev(UdevMonitor& monitor, unsigned number, uint64_t disk_sequence,
                   const std::vector<TableEntry>& partitions, Deadline deadline);

}  // namespace loop
