// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/udev_readiness.hpp"

#include <poll.h>

#include <algorithm>
#include <set>

#include "core/udev_monitor.hpp"

namespace loop {
namespace {

bool wait_for_event(const UdevMonitor& monitor, Deadline deadline) {
  using std::chrono::milliseconds;
  const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  pollfd poll_fd{monitor.fd(), POLLIN, 0};
  return ::poll(&poll_fd, 1, static_cast<int>(std::max(left, milliseconds(0)).count())) > 0;
}

}  // namespace

bool wait_for_udev(UdevMonitor& monitor, unsigned number, uint64_t disk_sequence,
                   const std::vector<TableEntry>& partitions, Deadline deadline) {
  bool disk_due = true;
  std::set<unsigned> due;
  for (const TableEntry& entry : partitions) due.insert(entry.extent.number);
  while (disk_due || !due.empty()) {
    const auto event = monitor.next();
    if (!event) {
      // An interrupted wait is one that found nothing; the deadline ends them.
      if (!wait_for_event(monitor, deadline) && std::chrono::steady_clock::now() >= deadline) return false;
      continue;
    }
    if (event->number != number || event->action == DeviceEvent::Action::remove) continue;
    if (event->partition) {
      due.erase(*event->partition);
    } else if (event->disk_sequence == disk_sequence) {
      disk_due = false;
    }
  }
  return true;
}

}  // namespace loop
