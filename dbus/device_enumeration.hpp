// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/device_reader.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

class DeviceFollower;

// Looks at all devices there are, many in one piece of work: to wake a worker for each costs as much as
// to look at some. What is not as simple as most is left to the follower's look(). Event loop's thread only.
class DeviceEnumeration {
 public:
  explicit DeviceEnumeration(DeviceFollower& follower) : follower_(follower) {}  // borrowed

  // Of a service that starts, by whose records nobody else is at work yet: what the one before was killed in
  // the midst of is undone, and the records of what is gone are erased.
  Task<void> start();

  // udev's links to those that were there at the start. libudev needs longer for them than the look at the
  // device takes, and most calls can do without.
  Task<void> add_symlinks();

  // As after lost events.
  Task<void> look_at_all();

 private:
  using Sights = std::vector<std::optional<loop::DeviceSight>>;
  using Symlinks = std::vector<std::string>;

  // `look_at_many` returns those that are to be looked at by themselves.
  template <typename Key>
  Task<void> look_in_batches(std::vector<Key> keys,
                             Task<std::vector<Key>> (DeviceEnumeration::*look_at_many)(std::vector<Key>),
                             Task<void> (DeviceEnumeration::*look_at_one)(Key));
  template <typename Seen, typename Work>
  Task<std::vector<std::optional<Seen>>> see_many(WorkLane lane, Work work, size_t count);
  Task<std::vector<uint64_t>> look_at_recorded(std::vector<uint64_t> sequences);
  Task<void> look_at_record(uint64_t disk_sequence);
  Task<void> look_at_attached_but(std::set<unsigned> seen);
  Task<std::vector<unsigned>> look_at_numbers(std::vector<unsigned> numbers);
  bool may_have_partitions(unsigned number) const;
  Task<void> look_at_number(unsigned number);
  Task<std::vector<Target>> add_symlinks_to(std::vector<Target> devices);
  Task<void> look_at_device(Target device);

  DeviceFollower& follower_;
  // The devices that had partitions when the start began; null when it is over. Pieces of work share it.
  std::shared_ptr<const std::set<unsigned>> partitioned_;
};

}  // namespace loopd
