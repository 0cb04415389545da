// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>

#include "dbus/keyed_locks.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

// How many partitions the devices of an ordinary user may have together. One image may have
// a table of 255, and what GetManagedObjects says of them all must stay below what the bus lets
// through, for everybody. Event loop's thread only.
class PartitionQuota {
 public:
  static constexpr size_t default_limit = 1024;

  PartitionQuota(Scheduler& scheduler, const ObjectRegistry& registry)
      : registry_(registry), turns_(scheduler) {}

  void set_limit(size_t partitions) { limit_ = partitions; }

  // The right to change the partitions of an owner's devices, until they are published: what
  // room there is stays true. Who holds the lock of a look must not wait for it.
  using Turn = KeyedLocks<uid_t>::Lock;
  Task<Turn> turn(uid_t owner);
  std::optional<Turn> turn_at_once(uid_t owner);

  // The most that this device may have.
  size_t room_for(unsigned number, uid_t owner) const;

 private:
  const ObjectRegistry& registry_;
  size_t limit_ = default_limit;
  KeyedLocks<uid_t> turns_;
};

}  // namespace loopd
