// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/partition.hpp"

namespace loop {

// One event of a loop device or of one of its partitions, as plain values.
struct DeviceEvent {
  enum class Action { add, change, remove };

  Action action = Action::change;
  unsigned number = 0;
  std::optional<unsigned> partition;  // nothing: the whole device
  bool resized = false;               // a change of the size alone
  uint64_t disk_sequence = 0;         // 0: not told
  // Of a partition, what udev has read of its entry in the table: type, UUID, name. Not
  // its place.
  std::optional<TableEntry> entry;
  std::vector<std::string> symlinks;  // udev's, of this node; none from the kernel
};

// Whether a systemd-udevd (or eudev) answers on its control socket.
bool udev_is_running(const std::string& control_socket = "/run/udev/control");

// Follows the block subsystem. Not thread-safe.
class UdevMonitor {
 public:
  enum class Source {
    udev,    // after udev: nodes, links and properties are ready
    kernel,  // where no udev runs
  };

  // Throws Error failed.
  explicit UdevMonitor(Source source);
  ~UdevMonitor();

  Source source() const { return source_; }
  int fd() const;  // readable when there are events

  // Takes the next event of a loop device; nothing when there is none.
  std::optional<DeviceEvent> next();

  // True once after the socket's buffer overflowed: events are lost, everything
  // is to be looked at again.
  bool take_overflow();

  // True once after an event of a block device that is no loop device: it may lie
  // on top of one.
  bool take_other_change();

  // udev's links to the whole device, from its data base. Any thread.
  static std::vector<std::string> symlinks(unsigned number);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
  Source source_;
  bool overflowed_ = false;
  bool other_changed_ = false;
};

}  // namespace loop
